# SPDX-License-Identifier: Apache-2.0
"""Podman, which has its containers' networks from CNI, beside Docker on one overlay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import cni, host_state
from tests.e2e.containers import create, fetch, serve, start
from tests.lab import Host, Lab, engines, image

_LIST = f"{cni.DIRECTORY}/dcos.conflist"
_SETTINGS = f"""\
[network]
network_backend = "cni"
cni_plugin_dirs = ["{cni.OWN}", "{cni.DEBIANS}"]
network_config_dir = "{cni.DIRECTORY}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""Podman's own defaults may be more than a machine allows."""
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


class Podman:
    """Podman on a lab host, with its images and containers in the host's directory."""

    def __init__(self, host: Host) -> None:
        """Have the lab's image there."""
        self._host = host
        places = ("--root", f"{host.directory}/podman", "--runroot", "/run/podman")
        self._argv = ("podman", *places, "--storage-driver", "vfs")
        host.run("mkdir", "-p", "/etc/containers")
        for name, content in {"containers.conf": _SETTINGS, "policy.json": _POLICY}.items():
            host.run("sh", "-c", f"cat > /etc/containers/{name}", stdin=content)
        self("import", "-", image.NAME, stdin=image.archive(engines.cache()).read_bytes())

    def __call__(self, *words: str, stdin: bytes | None = None) -> str:
        """Run a podman command; answer its output."""
        return self._host.run(*self._argv, *words, stdin=stdin)

    def start(self, name: str, *words: str) -> str:
        """Start a container that serves its own name on port 9000; answer its address."""
        script = f"mkdir /www; echo {name} > /www/index.html; exec httpd -f -p 9000 -h /www"
        self("run", "-d", "--name", name, *_LIMITS, "--network", "dcos", *words, image.NAME, "sh", "-c", script)
        networks: dict[str, Any] = json.loads(self("inspect", "--format", "{{json .NetworkSettings.Networks}}", name))
        return str(networks["dcos"]["IPAddress"])

    def fetch(self, name: str, address: str) -> str | None:
        """Answer what a container gets from port 9000 of an address, None where nothing comes."""
        done = self._host.try_run(
            *self._argv, "exec", name, "timeout", "4", "wget", "-q", "-O", "-", f"http://{address}:9000/"
        )
        return done.stdout.strip() if done.returncode == 0 else None


@pytest.fixture(params=["host-local", "dni"])
def ipam(request: pytest.FixtureRequest) -> str:
    """Who hands out the Mesos half."""
    return str(request.param)


@pytest.fixture
def podman(fresh_host: Host, ipam: str) -> Iterator[Podman]:
    """A host with overlays dcos and dev in Docker, and dcos in Podman by what `dni cni show --list` writes."""
    host = fresh_host
    with cni.runtime(host, ipam):
        create(host, "dcos")
        create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
        host.run("sh", "-c", f"cat > {_LIST}", stdin=host.dni("cni", "show", "dcos", "--list"))
        made = Podman(host)
        yield made
        made("rm", "-f", "-t", "0", "-a")
        argv = ("rm", "-rf", _LIST, "/etc/containers", "/run/podman", f"{host.directory}/podman")
        host_state.eventually(
            lambda: host.try_run(*argv).returncode == 0, 30, "Podman still writes into its directory"
        )


def test_podmans_containers_and_dockers_are_on_one_overlay(
    lab: Lab, fresh_host: Host, podman: Podman, ipam: str
) -> None:
    """By address, by published port, and apart from another overlay."""
    host = fresh_host
    docker, strange = start(host, "web"), start(host, "strange", net="dev")
    for name in ("web", "strange"):
        serve(host, name)
    first = podman.start("first", "-p", "8071:9000")
    asked = podman.start("asked", "--ip", "9.0.0.77")
    assert (first, asked, docker) == ("9.0.0.2", "9.0.0.77", "9.0.0.130")
    for name, address in (("first", first), ("asked", asked)):
        assert fetch(host, "web", f"http://{address}:9000/") == name
        assert fetch(host, "strange", f"http://{address}:9000/") is None
        assert podman.fetch("first", address) == name
        assert podman.fetch(name, docker) == "web"
        assert podman.fetch(name, strange) is None
    assert lab.outside.run("curl", "-sS", "-m", "30", f"http://{host.address}:8071/") == "first"
    assert host_state.findings(host) == []
    held = {row["address"] for row in host_state.held(host)}
    assert held == {docker, strange, *((first, asked) if ipam == "dni" else ())}
    podman("rm", "-f", "-t", "0", "first")
    later = podman.start("next")
    assert later == "9.0.0.3" if ipam == "dni" else later not in (first, asked)
