# SPDX-License-Identifier: Apache-2.0
"""Where ZooKeeper's registry takes VTEPs from: a subnet that is chosen once, widened when full, and no overlay's."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

import pytest
from kazoo.client import KazooClient

from dni_driver.core.errors import Exhausted, InUse, Refused
from dni_driver.core.overlays import define
from dni_driver.registry.zookeeper.layout import VTEPS
from dni_driver.registry.zookeeper.link import Changes, Link
from tests.unit.registries import Open, audit, host

pytestmark = pytest.mark.zookeeper


def test_a_full_subnet_of_vteps_is_widened_and_more_agents_join(connect: Open) -> None:
    small = IPv4Network("44.128.0.0/29")
    registries = [connect() for _ in range(8)]
    for number in range(6):
        registries[number].register(host(number, vtep_subnet=small))
    with pytest.raises(Exhausted, match=r'overlay\.vtep_subnet = "44\.128\.0\.0/25" makes room'):
        registries[6].register(host(6))
    registries[0].widen_vteps(IPv4Network("44.128.0.0/16"))
    assert [str(registries[number].register(host(number)).ip) for number in (6, 7)] == [
        "44.128.0.7/16",
        "44.128.0.8/16",
    ]
    assert str(registries[0].register(host(0)).ip) == "44.128.0.1/16"
    audit(registries[0])


@pytest.mark.parametrize("is_first", [False, True])
def test_an_overlay_that_is_defined_in_the_moment_in_which_vteps_get_its_addresses_keeps_them(
    connect: Open, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    registry, other = connect(), connect()
    if not is_first:
        registry.register(host())
    assert registry.overlays() == other.overlays() == []
    commit, comes = Link.commit, [define("dev", [ip_network("44.129.0.0/16")])]

    def late(one: Link, changes: Changes) -> list[object]:
        while one is registry.link and comes:
            other.define(comes.pop())
        return commit(one, changes)

    monkeypatch.setattr(Link, "commit", late)
    wide = IPv4Network("44.128.0.0/12")
    with pytest.raises(InUse, match="'dev'"):
        _ = registry.register(host(vtep_subnet=wide)) if is_first else registry.widen_vteps(wide)  # type: ignore[func-returns-value]


def test_of_agents_that_are_the_first_all_at_once_none_takes_a_vtep_from_elsewhere(connect: Open) -> None:
    """One that was about to be the first has made the folder of its VTEP."""
    registry = connect()
    registry.overlays()
    registry.link.make_folders([f"{VTEPS}/0"])
    subnet = IPv4Network("10.96.0.0/12")
    assert [str(registry.register(host(n, vtep_subnet=subnet)).ip) for n in (0, 1)] == [
        "10.96.0.1/12",
        "10.96.0.2/12",
    ]


def test_vteps_of_another_subnet_are_for_those_who_know_of_it(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    place = f"/{zookeeper_url.rpartition('/')[2]}"
    first = connect()
    first.register(host())
    assert (raw.get(f"{place}/vteps")[0], raw.get(f"{place}/format")[0]) == (b"44.128.0.0/20", b"1")
    first.widen_vteps(IPv4Network("44.128.0.0/12"))
    assert (raw.get(f"{place}/vteps")[0], raw.get(f"{place}/format")[0]) == (b"44.128.0.0/12", b"3")


def test_a_registry_from_before_there_was_a_choice_goes_on(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    place = f"/{zookeeper_url.rpartition('/')[2]}"
    connect().register(host())
    raw.set(f"{place}/vteps", b"")
    raw.delete(f"{place}/line")
    later = connect()
    assert str(later.register(host(1, vtep_subnet=IPv4Network("10.96.0.0/12"))).ip) == "44.128.0.2/20"
    with pytest.raises(Refused, match="come from"):
        later.widen_vteps(IPv4Network("10.96.0.0/12"))
    later.widen_vteps(IPv4Network("44.128.0.0/16"))
    assert str(connect().register(host(2)).ip) == "44.128.0.3/16"
