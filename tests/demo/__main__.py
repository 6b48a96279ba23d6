# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.demo`: a network, three containers, who has which address, and what is recorded."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from ipaddress import IPv4Address, IPv4Network, ip_address

import click

from tests.demo import address_map
from tests.lab import CommandError, Host, Lab, LabError

CONTAINERS = ("web", "app", "db")
_SERVER = "echo hello from web > index.html; httpd -f"
_INTERRUPTED = 130

_WHAT_NEXT = """\
On a host of your own, with Docker on it, as root:

  pip install .                                          in this folder, best in a virtual environment
  dni up                                                 in a terminal of its own, until Ctrl-C
  docker network create -d dni --ipam-driver dni dcos
  docker run --rm -it --net dcos busybox

`make lab` brings up hosts like this one to look around in; README.md tells the rest."""


def show(lab: Lab) -> None:
    """Run the demo on the first host of a lab."""
    host, echo = lab.hosts[0], lab.outside.echo_url
    host.start_dni()
    _docker(host, "version", "--format", "Docker Engine {{.Server.Version}}")

    _step("A network: once on each host.")
    _docker(host, "network", "create", "-d", "dni", "--ipam-driver", "dni", "dcos")

    _step("Three containers on it; one of them serves a page.")
    _docker(host, "run", "-d", "--name", "web", "--net", "dcos", "busybox", "sh", "-c", _SERVER)
    for name in CONTAINERS[1:]:
        _docker(host, "run", "-d", "--name", name, "--net", "dcos", "busybox", "sleep", "1000")

    _step("Each has an IP address of its own. They reach each other by address and by name:")
    web = _address_of(host, "web")
    _docker(host, "exec", "app", "ping", "-q", "-c", "1", web)
    _docker(host, "exec", "db", "wget", "-q", "-O", "-", "http://web/")

    _step(f"The outside sees this host ({host.address}), not the container:")
    _docker(host, "exec", "app", "wget", "-q", "-O", "-", echo)

    _step("What dni has recorded:")
    _dni(host, "status")
    _dni(host, "address", "ls")
    _dni(host, "check")

    _step("This host's part of the overlay, 9.0.0.0/8 in all:")
    click.echo("\n".join(f"  {line}" for line in _map(host)))


def _address_of(host: Host, container: str) -> str:
    return host.docker("inspect", "--format", "{{.NetworkSettings.Networks.dcos.IPAddress}}", container)


def _map(host: Host) -> list[str]:
    (overlay,) = json.loads(host.dni("overlay", "ls", "--json"))
    used = [ip_address(record["address"]) for record in json.loads(host.dni("address", "ls", "--json"))]
    half = IPv4Network(overlay["docker_halves"][0])
    return address_map.draw(half, [address for address in used if isinstance(address, IPv4Address)])


def _step(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")


def _docker(host: Host, *words: str) -> None:
    _told(host, ("docker", *words), host.docker(*words))


def _dni(host: Host, *words: str) -> None:
    _told(host, ("dni", *words), host.dni(*words))


def _told(host: Host, command: tuple[str, ...], output: str) -> None:
    click.echo(f"  {click.style(f'{host.name}#', fg='cyan')} {shlex.join(command)}")
    for line in output.splitlines():
        click.echo(f"  {line}")


def main() -> None:
    """Show it all and leave nothing behind, on Ctrl-C too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    try:
        _step("A lab host: network namespaces, a Docker Engine of its own, and dni beside it (`dni up`).")
        with Lab(hosts=1) as lab:
            show(lab)
    except KeyboardInterrupt:
        click.echo("\nInterrupted: the lab host is gone, nothing is left behind.")
        sys.exit(_INTERRUPTED)
    except (CommandError, LabError) as error:
        sys.exit(f"demo: {error}")
    _step(f"That took {time.monotonic() - began:.0f} s. The lab host is gone, nothing is left behind.")
    click.echo(f"\n{_WHAT_NEXT}")


if __name__ == "__main__":
    main()
