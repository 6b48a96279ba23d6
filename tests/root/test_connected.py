# SPDX-License-Identifier: Apache-2.0
"""The routes that the kernel makes with an address, and does not make again."""

from __future__ import annotations

import pytest

from tests.root.cluster import Cluster, Member
from tests.root.town import Host, overlay

pytestmark = pytest.mark.root

LISTINGS = ("ip route show table main", "ip -6 route show table main")


@pytest.fixture
def member(cluster: Cluster) -> Member:
    cluster.meet(dcos="vxlan")
    return cluster.near[0]


def routes(member: Member) -> list[str]:
    lines = (line.rstrip() for listing in LISTINGS for line in member.sh(listing).splitlines())
    return sorted(line for line in lines if "fe80::" not in line)


def test_all_routes_that_are_flushed_are_put_back_those_to_what_is_on_our_links_too(member: Member) -> None:
    before = routes(member)
    for link in ("d-dcos", "vtep1024"):
        member.sh(f"ip route flush dev {link}", f"ip -6 route flush dev {link}")
    done = member.reconcile()
    assert routes(member) == before
    for what in (
        "bridge d-dcos: route to 9.0.1.128/25 put back",
        "bridge d-dcos: route to fd01:b::1:8000:0:0/81 put back",
        "vtep1024: route to 44.128.0.0/20 put back",
        "vtep1024: route to fd01:a::/64 put back",
    ):
        assert what in done
    assert member.reconcile() == []


def test_a_route_that_was_replaced_is_put_before_the_one_that_took_its_place(member: Member) -> None:
    taken = ("9.0.1.128/25 via 10.0.0.254 dev eth0", "fd01:b::1:8000:0:0/81 dev eth0 metric 256")
    member.sh(*(f"ip route replace {one}" for one in taken))
    assert len(member.reconcile()) == 2
    assert "dev d-dcos" in member.sh("ip route get 9.0.1.130")
    assert all(any(line.startswith(one) for line in routes(member)) for one in taken)
    assert member.reconcile() == []


def test_a_flushed_route_is_missed_whatever_stands_around_it(host: Host) -> None:
    """A route of the same name in another table, one that drops the rest, and a gateway with nothing behind it."""
    last = overlay("dcos", "9.0.0.254/25", subnets=("9.0.0.0/8",))
    host.want(last)
    host.reconcile()
    host.sh("ip route add 9.0.0.128/25 dev d-dcos table 77")
    for around in ("blackhole", "prohibit"):
        host.sh("ip route flush dev d-dcos table main", f"ip route replace {around} 9.0.0.0/8")
        assert host.reconcile() == ["bridge d-dcos: route to 9.0.0.128/25 put back"]
        assert host.reconcile() == []


def test_a_route_that_leads_elsewhere_by_a_rule_of_the_administrators_is_left_alone(member: Member) -> None:
    member.sh("ip rule add to 9.0.1.128/25 lookup 77", "ip route add 9.0.1.128/25 via 10.0.0.254 table 77")
    before = routes(member)
    assert member.reconcile() == []
    assert routes(member) == before
