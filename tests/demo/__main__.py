# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.demo`: a network, three containers, who has which address, and what is recorded."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, ip_address

import click

from tests.demo import address_map, telling
from tests.demo.telling import dni, docker, lines, step
from tests.lab import Host, Lab

CONTAINERS = ("web", "app", "db")
_SERVER = "echo hello from web > index.html; httpd -f"

_WHAT_NEXT = """\
On a host of your own, with Docker on it, as root:

  make install                                           in this folder
  systemctl enable --now dni-plugin                      or `dni up`, in a terminal of its own, until Ctrl-C
  docker network create -d dni --ipam-driver dni dcos
  docker run --rm -it --net dcos busybox

`make lab` brings up hosts like this one to look around in; README.md tells the rest."""


def show(lab: Lab) -> None:
    """Run the demo on the first host of a lab."""
    host, echo = lab.hosts[0], lab.outside.echo_url
    host.start_dni()
    docker(host, "version", "--format", "Docker Engine {{.Server.Version}}")

    step("A network: once on each host.")
    docker(host, "network", "create", "-d", "dni", "--ipam-driver", "dni", "dcos")

    step("Three containers on it; one of them serves a page.")
    docker(host, "run", "-d", "--name", "web", "--net", "dcos", "busybox", "sh", "-c", _SERVER)
    for name in CONTAINERS[1:]:
        docker(host, "run", "-d", "--name", name, "--net", "dcos", "busybox", "sleep", "1000")

    step("Each has an IP address of its own. They reach each other by address and by name:")
    web = _address_of(host, "web")
    docker(host, "exec", "app", "ping", "-q", "-c", "1", web)
    docker(host, "exec", "db", "wget", "-q", "-O", "-", "http://web/")

    step(f"The outside sees this host ({host.address}), not the container:")
    docker(host, "exec", "app", "wget", "-q", "-O", "-", echo)

    step("What dni has recorded:")
    dni(host, "status")
    dni(host, "address", "ls")
    dni(host, "check")

    step("This host's part of the overlay, 9.0.0.0/8 in all:")
    lines(*map_of(host))


def map_of(host: Host) -> list[str]:
    """Draw a host's part of its only overlay."""
    (overlay,) = json.loads(host.dni("overlay", "ls", "--json"))
    used = [ip_address(record["address"]) for record in json.loads(host.dni("address", "ls", "--json"))]
    half = IPv4Network(overlay["docker_halves"][0])
    return address_map.draw(half, [address for address in used if isinstance(address, IPv4Address)])


def _address_of(host: Host, container: str) -> str:
    return host.docker("inspect", "--format", "{{.NetworkSettings.Networks.dcos.IPAddress}}", container)


def _demo() -> None:
    step("A lab host: network namespaces, a Docker Engine of its own, and dni beside it (`dni up`).")
    with Lab(hosts=1) as lab:
        show(lab)


def main() -> None:
    """Show it all and leave nothing behind, on Ctrl-C too."""
    telling.run(_demo)
    click.echo(f"\n{_WHAT_NEXT}")


if __name__ == "__main__":
    main()
