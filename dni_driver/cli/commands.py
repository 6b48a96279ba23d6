# SPDX-License-Identifier: Apache-2.0
"""The commands. What one command alone needs is imported by it: `dni status` should not wait for Flask."""

# ruff: noqa: PLC0415 - as the line above says

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import click
import msgspec

from dni_driver import __version__
from dni_driver.cli import agents, usage, views
from dni_driver.cli.settings import DEFAULT_FILE, Settings, load
from dni_driver.core.cluster import AgentReport
from dni_driver.core.errors import Unavailable
from dni_driver.core.fullness import OverlayUsage
from dni_driver.core.reports import AddressReport, OverlayReport, PortReport, Repair, ReservationReport, Status

if TYPE_CHECKING:
    from dni_driver.console.client import Console

R = TypeVar("R")

_HELP_WIDTH = 100

_BACKENDS = ("vxlan", "direct", "auto")

FOUND = 1
"""The exit status of a check that found something wrong."""


_HELP = """\
Give every container an IP address of its own, on networks that span hosts.

dni is a network driver and an address manager (IPAM driver) for Docker. It runs beside dockerd; its
networks are called overlays, and one, "dcos", is there from the start. You go on using docker:

\b
  sudo dni up                                                run dni, until Ctrl-C
  sudo docker network create -d dni --ipam-driver dni dcos   once on each host
  sudo docker run --rm -it --net dcos busybox                a container with its own address

Then `sudo dni status` shows how full the overlay is, and `sudo dni address ls` who has which address.
A second overlay, and a container on it:

\b
  sudo dni overlay create dev --subnet 10.64.0.0/16          makes the Docker network too
  sudo docker run --rm -it --net dev busybox
"""


class _Named(msgspec.Struct, frozen=True):
    """What stands before the command: the settings file that was named."""

    file: Path | None

    def console(self) -> Console:
        """Answer what asks the agent."""
        path = load(self.file).api.socket
        from dni_driver.console.client import Console

        return Console(path)

    def settings_of_program(self, name: str) -> Settings:
        """Answer the settings of a program that is about to start, and begin its log; it must be root's."""
        settings = load(self.file)
        if os.geteuid() != 0:
            raise Unavailable("dni changes the network of this host and must run as root: put sudo before it")
        from dni_driver.cli import logs

        logs.configure(settings.log, name)
        return settings


as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")


def _show(answer: Any, kind: type[R], view: Callable[[R], str], *, as_json: bool) -> R:
    """Write what the agent answered, and answer it as what it is; raise Unavailable where it is something else."""
    try:
        report = msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise Unavailable(
            f"the agent's answer is not understood ({error}): is it of another version than this dni?"
        ) from None
    click.echo(json.dumps(answer, indent=2) if as_json else view(report))
    return report


class _InOrder(click.Group):
    """Lists its commands as they are written here: those to begin with first."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _HELP_WIDTH},
)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Read settings from FILE instead of {DEFAULT_FILE}.",
)
@click.version_option(__version__, message="dni %(version)s")
@click.pass_context
def dni(context: click.Context, file: Path | None) -> None:
    """Note what stands before the command."""
    context.obj = _Named(file)


@dni.command()
@click.pass_obj
def up(named: _Named) -> None:
    """Run dni, until Ctrl-C.

    Holds the socket that dockerd calls, and runs `dni serve plugin` and `dni serve agent`; what dies is started
    again. SIGHUP restarts the plugin alone, after an upgrade, and loses no call. No settings file is needed.
    """
    settings = named.settings_of_program("up")
    from dni_driver.cli import up as program

    program.run(settings, named.file)


@dni.command()
@as_json
@click.pass_obj
def status(named: _Named, *, as_json: bool) -> None:
    """Show this host, its overlays, and how full they are."""
    _show(named.console().get("/v1/status"), Status, views.status, as_json=as_json)


@dni.group()
def overlay() -> None:
    """List, create and remove overlays."""


@overlay.command("ls")
@as_json
@click.pass_obj
def overlay_ls(named: _Named, *, as_json: bool) -> None:
    """List the overlays, and how full they are here."""
    _show(named.console().get("/v1/overlays"), list[OverlayReport], views.overlays, as_json=as_json)


@overlay.command("usage")
@click.argument("name")
@as_json
@click.pass_obj
def overlay_usage(named: _Named, name: str, *, as_json: bool) -> None:
    """Show how full an overlay is, agent by agent and half by half."""
    answer = named.console().get(f"/v1/overlays/{quote(name, safe='')}/usage")
    _show(answer, OverlayUsage, usage.usage, as_json=as_json)


@overlay.command("create")
@click.argument("name")
@click.option("--subnet", metavar="CIDR", help="IPv4 subnet of the whole overlay, such as 10.64.0.0/16.")
@click.option("--prefix", type=int, metavar="BITS", help="Size of each agent's part; 24 when left out.")
@click.option("--subnet6", metavar="CIDR", help="IPv6 subnet, such as fd01:d::/64.")
@click.option("--prefix6", type=int, metavar="BITS", help="Size of each agent's IPv6 part; 80 when left out.")
@click.option(
    "--backend",
    type=click.Choice(_BACKENDS),
    help="How packets travel between hosts; vxlan when left out.",
)
@click.option("--no-network", is_flag=True, help="Make no Docker network of it on this host.")
@as_json
@click.pass_obj
def overlay_create(named: _Named, /, *, no_network: bool, as_json: bool, **overlay: str | int | bool | None) -> None:
    """Create an overlay and its Docker network, on every host of the cluster.

    NAME has 1 to 13 characters of a-z, 0-9, '-' and '_'. At least one subnet is needed. The same once more changes
    nothing, but makes a Docker network that was removed.
    """
    wanted = {key: value for key, value in overlay.items() if value is not None}
    wanted |= {"network": False} if no_network else {}
    _show(named.console().post("/v1/overlays", wanted), OverlayReport, views.created, as_json=as_json)


@overlay.command("rm")
@click.argument("name")
@as_json
@click.pass_obj
def overlay_rm(named: _Named, name: str, *, as_json: bool) -> None:
    """Remove an overlay, and the Docker networks that dni made of it, if no container is on it on any host."""
    named.console().delete(f"/v1/overlays/{quote(name, safe='')}")
    _show({"removed": name}, views.Removed, views.removed, as_json=as_json)


@overlay.command("set")
@click.argument("name")
@click.option("--backend", type=click.Choice(_BACKENDS), required=True, help="How packets travel between hosts.")
@as_json
@click.pass_obj
def overlay_set(named: _Named, name: str, *, backend: str, as_json: bool) -> None:
    """Change how an overlay's packets travel, on every host and while containers run.

    vxlan works wherever hosts reach each other; direct adds no header, for hosts on one link; auto is direct where
    that is possible.
    """
    answer = named.console().patch(f"/v1/overlays/{quote(name, safe='')}", {"backend": backend})
    _show(answer, OverlayReport, views.changed, as_json=as_json)


@dni.group()
def agent() -> None:
    """List the agents of the cluster, and forget those that are gone."""


@agent.command("ls")
@as_json
@click.pass_obj
def agent_ls(named: _Named, *, as_json: bool) -> None:
    """List the agents, what they hold, and who is alive."""
    _show(named.console().get("/v1/agents"), list[AgentReport], agents.agents, as_json=as_json)


@agent.command("forget")
@click.argument("agent", metavar="IP")
@as_json
@click.pass_obj
def agent_forget(named: _Named, agent: str, *, as_json: bool) -> None:
    """Forget an agent that is gone for good: others may get what it held.

    One that is alive is not forgotten: stop dni on it first.
    """
    named.console().delete(f"/v1/agents/{quote(agent, safe='')}")
    _show({"forgotten": agent}, agents.Forgotten, agents.forgotten, as_json=as_json)


@dni.group()
def address() -> None:
    """Show addresses and who holds them, keep some back, and limit their holders."""


@address.command("ls")
@click.option("--overlay", metavar="NAME", help="Only those of one overlay.")
@click.option("--all", "free_too", is_flag=True, help="Also those that are free again.")
@as_json
@click.pass_obj
def address_ls(named: _Named, *, overlay: str | None, free_too: bool, as_json: bool) -> None:
    """List this host's addresses, and who has them since when."""
    query = {"overlay": overlay} if overlay else {}
    if free_too:
        query["all"] = "1"
    path = f"/v1/addresses?{urlencode(query)}" if query else "/v1/addresses"
    _show(named.console().get(path), list[AddressReport], views.addresses, as_json=as_json)


named_addresses = click.argument("addresses", metavar="[ADDRESS|RANGE]", required=False)


@address.command("reserve")
@click.argument("overlay")
@named_addresses
@click.option(
    "--for", "container", metavar="NAME", help="For this container alone; without ADDRESS the next free one."
)
@click.option("--ipv6", "family", flag_value=6, type=int, help="The next free IPv6 address, instead of an IPv4 one.")
@click.option("--quiet", "-q", is_flag=True, help="Write the address alone, for use in another command.")
@as_json
@click.pass_obj
def address_reserve(named: _Named, /, *, quiet: bool, as_json: bool, **wish: str | int | None) -> None:
    """Keep an address, or a range, back on this host.

    Nobody gets it who does not ask for it: by its container's name (Docker Engine 29), by `docker run --ip`, or by
    driver-opt dni.address. RANGE is 9.0.0.200-9.0.0.220 or 9.0.0.192/28. It lasts until it is released; the same
    once more changes nothing.
    """
    wanted = {key: value for key, value in wish.items() if value is not None}
    view = views.bare if quiet else views.reserved
    _show(named.console().post("/v1/reservations", wanted), ReservationReport, view, as_json=as_json)


@address.command("release")
@click.argument("overlay")
@named_addresses
@click.option("--for", "container", metavar="NAME", help="What is reserved for this container.")
@as_json
@click.pass_obj
def address_release(
    named: _Named, overlay: str, addresses: str | None, container: str | None, *, as_json: bool
) -> None:
    """Give up what was reserved, written as it was then.

    A container that has the address keeps it until it stops.
    """
    wish = {"overlay": overlay, "addresses": addresses, "container": container}
    query = urlencode({key: value for key, value in wish.items() if value is not None})
    given_up = named.console().delete(f"/v1/reservations?{query}")
    _show(given_up, list[ReservationReport], views.given_up, as_json=as_json)


@address.command("limit")
@click.argument("address")
@click.option("--egress", metavar="RATE", help="What the container may send in a second, such as 10mbit, or none.")
@click.option("--ingress", metavar="RATE", help="What it may be sent.")
@as_json
@click.pass_obj
def address_limit(named: _Named, /, address: str, *, as_json: bool, **limits: str | None) -> None:
    """Limit the container that has ADDRESS, until it leaves its network.

    It goes on running. When it is started again, it has the limits of its own options once more.
    """
    wanted = {"address": address, **{key: rate for key, rate in limits.items() if rate is not None}}
    _show(named.console().post("/v1/limits", wanted), AddressReport, views.limited, as_json=as_json)


@dni.group()
def cni() -> None:
    """Show how Mesos, and others that use CNI, reach the overlays."""


@cni.command("show")
@click.argument("overlay")
@click.option("--plain", is_flag=True, help="Without Mesos' port mapper, for other runtimes.")
@click.option(
    "--ipam",
    type=click.Choice(["host-local", "dni"]),
    help="Who hands out the addresses, instead of who does by the settings: host-local, or dni by dni-cni.",
)
@click.pass_obj
def cni_show(named: _Named, overlay: str, *, plain: bool, ipam: str | None) -> None:
    """Write the CNI network configuration of an overlay.

    With cni.directory in the settings it is kept there as NAME.conf.
    """
    query = {"plain": "1" if plain else "0", **({"ipam": ipam} if ipam else {})}
    path = f"/v1/cni/configurations/{quote(overlay, safe='')}?{urlencode(query)}"
    click.echo(json.dumps(named.console().get(path), indent=2))


@dni.command()
@as_json
@click.pass_obj
def ports(named: _Named, *, as_json: bool) -> None:
    """List the ports of this host that lead to containers on dni.

    They are what `docker run -p` and `-P` asked for. `docker ps` cannot show them: Docker does so for its own drivers
    alone.
    """
    _show(named.console().get("/v1/ports"), list[PortReport], views.ports, as_json=as_json)


@dni.command()
@as_json
@click.pass_obj
def check(named: _Named, *, as_json: bool) -> int:
    """Check that records, kernel and Docker agree.

    Changes nothing. Each thing found comes with what mends it; the exit status is then 1.
    """
    report = _show(named.console().post("/v1/check", {}), views.Check, views.check, as_json=as_json)
    return FOUND if report.findings else 0


@dni.command()
@as_json
@click.pass_obj
def repair(named: _Named, *, as_json: bool) -> int:
    """Mend what `dni check` finds.

    Makes the kernel as the records want it, and frees what leaked for long enough. What is left is shown; the
    exit status is then 1.
    """
    report = _show(named.console().post("/v1/repair", {}), Repair, views.repair, as_json=as_json)
    return FOUND if report.findings else 0


@dni.command()
@as_json
@click.pass_obj
def doctor(named: _Named, *, as_json: bool) -> int:
    """Look for what keeps dni from working on this host, also where it does not run.

    Changes nothing. Each finding says what is wrong, what that breaks, and the command that mends it. Exit status:
    0 nothing is wrong, 1 warnings, 2 errors (containers on dni do not work, or will not). Ask as root: what another
    user may not look at is listed as such.
    """
    from dni_driver.cli import doctor as program

    return program.run(named.file, as_json=as_json)


@dni.group()
def serve() -> None:
    """Run one program of dni alone, for systemd."""


@serve.command("plugin")
@click.pass_obj
def serve_plugin(named: _Named) -> None:
    """Answer dockerd.

    Takes the listening socket that systemd passes (LISTEN_FDS), else makes its own.
    """
    settings = named.settings_of_program("plugin")
    from dni_driver.cli import serve_plugin as program

    program.run(settings)


@serve.command("agent")
@click.pass_obj
def serve_agent(named: _Named) -> None:
    """Do the work in the background, and answer `dni status` and its like."""
    settings = named.settings_of_program("agent")
    from dni_driver.cli import serve_agent as program

    program.run(settings)
