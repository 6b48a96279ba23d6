# SPDX-License-Identifier: Apache-2.0
"""`dni address`: who has which address, what is kept back, and limits."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from dni_driver.cli import views
from dni_driver.cli.asking import Named, as_json, show
from dni_driver.cli.groups import InOrder
from dni_driver.core.reports import AddressReport, ReservationReport


@click.group(cls=InOrder)
def address() -> None:
    """Show addresses and who holds them, keep some back, and limit their holders."""


@address.command("ls")
@click.option("--overlay", metavar="NAME", help="Only those of one overlay.")
@click.option("--all", "free_too", is_flag=True, help="Also those that are free again.")
@as_json
@click.pass_obj
def address_ls(named: Named, *, overlay: str | None, free_too: bool, as_json: bool) -> None:
    """List this host's addresses, and who has them since when, with the limits and groups of their containers.

    Groups are recorded and not enforced yet: what is on one overlay reaches each other.
    """
    query = {"overlay": overlay} if overlay is not None else {}
    if free_too:
        query["all"] = "1"
    path = f"/v1/addresses?{urlencode(query)}" if query else "/v1/addresses"
    show(named.console().get(path), list[AddressReport], views.addresses, as_json=as_json)


_addresses = click.argument("addresses", metavar="[ADDRESS|RANGE]", required=False)


@address.command("reserve")
@click.argument("overlay")
@_addresses
@click.option(
    "--for", "container", metavar="NAME", help="For this container alone; without ADDRESS the next free one."
)
@click.option("--ipv6", "family", flag_value=6, type=int, help="The next free IPv6 address, instead of an IPv4 one.")
@click.option("--quiet", "-q", is_flag=True, help="Write the address alone, for use in another command.")
@as_json
@click.pass_obj
def address_reserve(named: Named, /, *, quiet: bool, as_json: bool, **wish: str | int | None) -> None:
    """Keep an address, or a range, back on this host.

    Nobody gets it who does not ask for it: by its container's name (Docker Engine 29), by `docker run --ip`, or by
    driver-opt dni.address. RANGE is 9.0.0.200-9.0.0.220 or 9.0.0.192/28. It lasts until it is released; the same
    once more changes nothing.
    """
    wanted = {key: value for key, value in wish.items() if value is not None}
    view = views.bare if quiet else views.reserved
    show(named.console().post("/v1/reservations", wanted), ReservationReport, view, as_json=as_json)


@address.command("release")
@click.argument("overlay")
@_addresses
@click.option("--for", "container", metavar="NAME", help="What is reserved for this container.")
@as_json
@click.pass_obj
def address_release(
    named: Named, overlay: str, addresses: str | None, container: str | None, *, as_json: bool
) -> None:
    """Give up what was reserved, written as it was then.

    A container that has the address keeps it until it stops.
    """
    wish = {"overlay": overlay, "addresses": addresses, "container": container}
    query = urlencode({key: value for key, value in wish.items() if value is not None})
    given_up = named.console().delete(f"/v1/reservations?{query}")
    show(given_up, list[ReservationReport], views.given_up, as_json=as_json)


@address.command("limit")
@click.argument("address")
@click.option("--egress", metavar="RATE", help="What the container may send in a second, such as 10mbit, or none.")
@click.option("--ingress", metavar="RATE", help="What it may be sent.")
@as_json
@click.pass_obj
def address_limit(named: Named, /, address: str, *, as_json: bool, **limits: str | None) -> None:
    """Limit the container that has ADDRESS, until it leaves its network.

    It goes on running. When it is started again, it has the limits of its own options once more.
    """
    wanted = {"address": address, **{key: rate for key, rate in limits.items() if rate is not None}}
    show(named.console().post("/v1/limits", wanted), AddressReport, views.limited, as_json=as_json)
