# SPDX-License-Identifier: Apache-2.0
"""Short words for what the tests do with containers."""

from __future__ import annotations

import json
from typing import Any

from tests.lab import Administered
from tests.lab.image import NAME

FORGER = ("--cap-add", "NET_ADMIN")
"""What a container is started with that is to change its own addresses."""

CREATE = ("network", "create", "-d", "dni", "--ipam-driver", "dni")


def create(host: Administered, *words: str) -> str:
    """Create a dni network; answer its id."""
    return host.docker(*CREATE, *words)


def refused(host: Administered, *words: str) -> str:
    """Run a docker command that must fail; answer what the user reads."""
    done = host.try_docker(*words)
    assert done.returncode != 0, f"docker {' '.join(words)} was not refused"
    return done.stderr.strip()


def start(host: Administered, name: str, *words: str, net: str = "dcos") -> str:
    """Start a container that sleeps; answer its address on `net`."""
    host.docker("run", "-d", "--name", name, "--net", net, *words, NAME, "sleep", "100000")
    return address(host, name, net)


def address(host: Administered, name: str, net: str = "dcos") -> str:
    """Answer what Mesos reads: NetworkSettings.Networks.NAME.IPAddress."""
    return str(place(host, name, net)["IPAddress"])


def place(host: Administered, name: str, net: str = "dcos") -> dict[str, Any]:
    """Answer a container's NetworkSettings.Networks.NAME."""
    networks: dict[str, Any] = json.loads(
        host.docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", name)
    )
    return dict(networks[net])


def inside(host: Administered, name: str, *argv: str) -> str:
    """Run a command in a container; answer its output."""
    return host.docker("exec", name, *argv)


def reaches(host: Administered, name: str, target: str) -> bool:
    """Tell whether a container gets an answer to ping."""
    return host.try_docker("exec", name, "ping", "-c", "1", "-W", "2", target).returncode == 0


def serve(host: Administered, name: str) -> None:
    """Make a container answer HTTP on port 9000 with its own name: once httpd is in the background, it listens."""
    host.docker("exec", name, "sh", "-c", f"mkdir -p /www && echo {name} > /www/index.html")
    host.docker("exec", name, "httpd", "-p", "9000", "-h", "/www")


def fetch(host: Administered, name: str, url: str) -> str | None:
    """Answer what a container gets from a URL, or None."""
    done = host.try_docker("exec", name, "timeout", "4", "wget", "-q", "-O", "-", url)
    return done.stdout.strip() if done.returncode == 0 else None


def forges(host: Administered, name: str, victim: str, target: str) -> bool:
    """Tell whether a container that takes the address of another gets an answer under it."""
    inside(host, name, "ip", "address", "add", f"{victim}/32", "dev", "eth0")
    answered = host.try_docker("exec", name, "ping", "-c", "1", "-W", "1", "-I", victim, target).returncode == 0
    inside(host, name, "ip", "address", "del", f"{victim}/32", "dev", "eth0")
    return answered
