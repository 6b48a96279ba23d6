# SPDX-License-Identifier: Apache-2.0
"""The commands. What one command alone needs is imported by it: `dni status` should not wait for Flask."""

# ruff: noqa: PLC0415 - as the line above says

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import click

from dni_driver import __version__
from dni_driver.cli import agents, usage, views
from dni_driver.cli.addresses import address
from dni_driver.cli.asking import Named, as_json, path_of_agent, path_of_overlay, show
from dni_driver.cli.groups import InOrder
from dni_driver.cli.loading import DEFAULT_FILE
from dni_driver.core.addresses.fullness import OverlayUsage
from dni_driver.core.cluster import AgentReport
from dni_driver.core.reports import OverlayReport, PortReport, Repair, Status

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

Where dni is installed, `sudo systemctl enable --now dni-plugin` takes the place of `dni up`. `sudo dni
status` shows how full the overlay is, `sudo dni address ls` who has which address, `sudo dni doctor`
what the host lacks. A second overlay, and a container on it:

\b
  sudo dni overlay create dev --subnet 10.64.0.0/16          makes the Docker network too
  sudo docker run --rm -it --net dev busybox
"""


@click.group(
    cls=InOrder,
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
    context.obj = Named(file)


@dni.command()
@click.pass_obj
def up(named: Named) -> None:
    """Run dni, until Ctrl-C.

    Holds the socket that dockerd calls, and runs `dni serve plugin` and `dni serve agent`; what dies is started
    again. SIGHUP restarts the plugin alone, after an upgrade, and loses no call. No settings file is needed.
    """
    settings = named.settings_of_root()
    from dni_driver.cli import up as program

    program.run(settings, named.file)


@dni.command()
@as_json
@click.pass_obj
def status(named: Named, *, as_json: bool) -> None:
    """Show this host, its overlays, and how full they are."""
    show(named.console().get("/v1/status"), Status, views.status, as_json=as_json)


@dni.group()
def overlay() -> None:
    """List, create, change and remove overlays."""


@overlay.command("ls")
@as_json
@click.pass_obj
def overlay_ls(named: Named, *, as_json: bool) -> None:
    """List the overlays, and how full they are here."""
    show(named.console().get("/v1/overlays"), list[OverlayReport], views.overlays, as_json=as_json)


@overlay.command("usage")
@click.argument("name")
@as_json
@click.pass_obj
def overlay_usage(named: Named, name: str, *, as_json: bool) -> None:
    """Show how full an overlay is, agent by agent and half by half."""
    answer = named.console().get(f"{path_of_overlay(name)}/usage")
    show(answer, OverlayUsage, usage.usage, as_json=as_json)


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
def overlay_create(named: Named, /, *, no_network: bool, as_json: bool, **overlay: str | int | bool | None) -> None:
    """Create an overlay and its Docker network, on every host of the cluster.

    NAME has 1 to 13 characters of a-z, 0-9, '-' and '_'. At least one subnet is needed. The same once more changes
    nothing, but makes a Docker network that was removed. `dni overlay set --help` says what the backends are.
    """
    wanted = {key: value for key, value in overlay.items() if value is not None}
    wanted |= {"network": False} if no_network else {}
    show(named.console().post("/v1/overlays", wanted), OverlayReport, views.created, as_json=as_json)


@overlay.command("rm")
@click.argument("name")
@as_json
@click.pass_obj
def overlay_rm(named: Named, name: str, *, as_json: bool) -> None:
    """Remove an overlay, and the Docker networks that dni made of it, if no container is on it on any host.

    Every host that holds some of it is asked. Where one does not answer within seconds this says which, and the
    overlay goes as soon as it does.
    """
    named.console().delete(path_of_overlay(name))
    show({"removed": name}, views.Removed, views.removed, as_json=as_json)


@overlay.command("keep")
@click.argument("name")
@as_json
@click.pass_obj
def overlay_keep(named: Named, name: str, *, as_json: bool) -> None:
    """Call off the removal of an overlay, on every host.

    Where no removal is under way this changes nothing.
    """
    named.console().post(f"{path_of_overlay(name)}/keep", {})
    show({"kept": name}, views.Kept, views.kept, as_json=as_json)


@overlay.command("set")
@click.argument("name")
@click.option("--backend", type=click.Choice(_BACKENDS), required=True, help="How packets travel between hosts.")
@as_json
@click.pass_obj
def overlay_set(named: Named, name: str, *, backend: str, as_json: bool) -> None:
    """Change how an overlay's packets travel, on every host and while containers run.

    vxlan works wherever hosts reach each other; direct adds no header, for hosts on one link; auto is direct where
    that is possible.
    """
    answer = named.console().patch(path_of_overlay(name), {"backend": backend})
    show(answer, OverlayReport, views.changed, as_json=as_json)


@dni.group()
def agent() -> None:
    """List the agents of the cluster, and forget those that are gone."""


@agent.command("ls")
@as_json
@click.pass_obj
def agent_ls(named: Named, *, as_json: bool) -> None:
    """List the agents, what they hold, and who is alive."""
    show(named.console().get("/v1/agents"), list[AgentReport], agents.agents, as_json=as_json)


@agent.command("forget")
@click.argument("agent", metavar="IP")
@as_json
@click.pass_obj
def agent_forget(named: Named, agent: str, *, as_json: bool) -> None:
    """Forget an agent that is gone for good: others may get what it held.

    One that is alive is not forgotten: stop dni on it first.
    """
    named.console().delete(path_of_agent(agent))
    show({"forgotten": agent}, agents.Forgotten, agents.forgotten, as_json=as_json)


dni.add_command(address)


@dni.group()
def cni() -> None:
    """Show, or take away, what Mesos and other runtimes of CNI find the overlays by."""


@cni.command("show")
@click.argument("overlay")
@click.option("--plain", "shape", flag_value="plain", help="Without Mesos' port mapper, for other runtimes.")
@click.option(
    "--list", "shape", flag_value="list", help="As a list, a .conflist, with CNI's own port mapper: Podman reads it."
)
@click.option(
    "--ipam",
    type=click.Choice(["host-local", "dni"]),
    help="Who hands out the addresses: host-local, or dni (by dni-cni); what the settings say when left out.",
)
@click.pass_obj
def cni_show(named: Named, overlay: str, shape: str | None, ipam: str | None) -> None:
    """Write the CNI network configuration of an overlay.

    With cni.directory in the settings it is kept there as NAME.conf.
    """
    query = {"shape": shape or "mesos", **({"ipam": ipam} if ipam else {})}
    path = f"{path_of_overlay(overlay, '/v1/cni/configurations')}?{urlencode(query)}"
    click.echo(json.dumps(named.console().get(path), indent=2))


@cni.command("clear")
@click.pass_obj
def cni_clear(named: Named) -> None:
    """Remove the configurations that dni keeps in cni.directory, and the bridges, before dni goes from this host.

    Where no bridge of dni is left, what the kernel knows of other hosts goes too. The agent must have been stopped:
    it would make all of it again. What somebody else has changed stays.
    """
    from dni_driver.cli.cni_clear import clear

    left = clear(named.settings_of_program("cni clear"))
    if left is not None:
        click.echo(f"left: {left}", err=True)


@dni.command()
@as_json
@click.pass_obj
def ports(named: Named, *, as_json: bool) -> None:
    """List the ports of this host that lead to containers on dni.

    They are what `docker run -p` and `-P` asked for. `docker ps` cannot show them: Docker does so for its own drivers
    alone.
    """
    show(named.console().get("/v1/ports"), list[PortReport], views.ports, as_json=as_json)


@dni.command()
@as_json
@click.pass_obj
def check(named: Named, *, as_json: bool) -> int:
    """Check that records, kernel and Docker agree.

    Changes nothing. Each thing found comes with what mends it; the exit status is then 1.
    """
    report = show(named.console().post("/v1/check", {}), views.Check, views.check, as_json=as_json)
    return FOUND if report.findings else 0


@dni.command()
@as_json
@click.pass_obj
def repair(named: Named, *, as_json: bool) -> int:
    """Mend what `dni check` finds.

    Makes the kernel as the records want it, and frees what Docker no longer knows, without the wait that dni itself
    keeps. What is left is shown; the exit status is then 1.
    """
    report = show(named.console().post("/v1/repair", {}), Repair, views.repair, as_json=as_json)
    return FOUND if report.findings else 0


@dni.command()
@as_json
@click.pass_obj
def doctor(named: Named, *, as_json: bool) -> int:
    """Look for what keeps dni from working on this host, also where it does not run.

    Changes nothing. Each finding says what is wrong, what that breaks, and what mends it. Exit status:
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
def serve_plugin(named: Named) -> None:
    """Answer dockerd.

    Takes the listening socket that systemd passes (LISTEN_FDS), else makes its own.
    """
    settings = named.settings_of_program("plugin")
    from dni_driver.cli import serve_plugin as program

    program.run(settings)


@serve.command("agent")
@click.pass_obj
def serve_agent(named: Named) -> None:
    """Do the work in the background, and answer `dni status` and its like."""
    settings = named.settings_of_program("agent")
    from dni_driver.cli import serve_agent as program

    program.run(settings)
