# SPDX-License-Identifier: Apache-2.0
"""What people are shown of addresses, their limits and groups."""

from __future__ import annotations

import msgspec

from dni_driver.cli import views
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.reports import AddressReport, address_reports
from tests.unit.scene import DB, WEB, endpoint, network, records


def shown(general: NetworkOptions, own: EndpointOptions) -> list[AddressReport]:
    """Report the addresses of a network and its two containers, the second with options of its own."""
    limited = msgspec.structs.replace(network(), options=general)
    db = msgspec.structs.replace(endpoint(DB, "9.0.0.131"), options=own)
    there = records(networks=[limited], endpoints=[endpoint(WEB, "9.0.0.130"), db])
    return list(address_reports(there, "dcos", with_free=False))


def test_an_address_is_shown_with_the_limits_that_hold() -> None:
    web, db = shown(NetworkOptions(egress=5_000_000), EndpointOptions(ingress=10_000_000))
    assert (web.egress, web.ingress) == (5_000_000, None)
    assert (db.egress, db.ingress) == (5_000_000, 10_000_000)


def test_limits_have_columns_where_somebody_has_one() -> None:
    title, web, db = views.addresses(shown(NetworkOptions(), EndpointOptions(egress=1_500_000_000))).splitlines()
    assert title.split()[-2:] == ["EGRESS", "INGRESS"]
    assert web.split()[-2:] == ["-", "-"]
    assert db.split()[-2:] == ["1.5gbit", "-"]


def test_limits_have_no_columns_where_nobody_has_one() -> None:
    title, *_ = views.addresses(shown(NetworkOptions(), EndpointOptions())).splitlines()
    assert title.split()[-1] == "SINCE"


def test_groups_have_a_column_where_some_container_has_any() -> None:
    web, db = shown(NetworkOptions(), EndpointOptions(groups=("public", "web")))
    title, first, second = views.addresses([web, db]).splitlines()
    assert (title.split()[-1], first.split()[-1], second.split()[-1]) == ("GROUPS", "-", "public,web")
    assert "GROUPS" not in views.addresses([web])
