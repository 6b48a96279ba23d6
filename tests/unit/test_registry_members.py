# SPDX-License-Identifier: Apache-2.0
"""What every registry promises of agents: who is alive, who takes whose place, who is forgotten."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address

import pytest

from dni_driver.core.errors import InUse, NotFound, Refused
from dni_driver.core.overlays import Address
from dni_driver.registry import Lease
from tests.removing import remove
from tests.unit.every_registry import ME, OTHER, OpenRegistry, again, alive, host, overlay, url, vtep

__all__ = ["again", "url"]


def test_an_agent_lives_as_long_as_its_registry_is_open(again: OpenRegistry) -> None:
    one, two = again(), again()
    began = time.time()
    one.register(host())
    two.register(host(OTHER, "two"))
    assert alive(two) == {str(ME): True, str(OTHER): True}
    assert all(abs(member.since - began) < 60 for member in two.members())
    one.close()
    assert alive(two) == {str(ME): False, str(OTHER): True}
    assert all(abs(member.since - began) < 60 for member in two.members())


def test_members_are_told_with_what_they_hold(again: OpenRegistry) -> None:
    one = again()
    one.define(overlay())
    one.register(host())
    mine = one.lease("dcos", 4, ME), one.lease("dcos", 4, ME)
    (member,) = again().members()
    assert (member.agent_ip, member.vtep, member.subnets) == (ME, vtep("44.128.0.1"), mine)


def test_a_second_living_host_with_the_same_address_is_refused(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    with pytest.raises(InUse, match=r"another living host is agent 192\.0\.2\.1: .*give each its own \(agent\.ip"):
        two.register(host(identity="two"))
    one.close()
    assert two.register(host(identity="two")) == vtep("44.128.0.1")


def test_a_copy_of_a_disk_is_refused_while_the_original_lives(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    with pytest.raises(InUse, match=r"was alive a moment ago"):
        two.register(host(boot="of the copy"))
    with pytest.raises(InUse, match=r"agent 192\.0\.2\.1 is alive and has the identity of this host.*is a copy"):
        two.register(host(OTHER, boot="of the copy", formerly=ME))
    assert alive(two) == {str(ME): True}


def test_a_host_with_a_new_address_takes_everything_along(again: OpenRegistry) -> None:
    one = again()
    one.define(overlay())
    one.register(host())
    mine = one.lease("dcos", 4, ME)
    one.use(ME, ["dcos"])
    one.close()
    two = again()
    assert two.register(host(OTHER, formerly=ME)) == vtep("44.128.0.1")
    (member,) = two.members()
    assert (member.agent_ip, member.subnets, member.alive) == (OTHER, (mine,), True)
    two.confirm(mine, OTHER, formerly=ME)
    assert two.leases() == [Lease(agent_ip=OTHER, held=mine)]
    remove(two, "dcos")


def test_it_takes_nothing_from_a_host_that_lives_at_its_former_address(again: OpenRegistry) -> None:
    """That one was set up anew while this one was away, and got what was recorded for the address."""
    one = again()
    one.register(host(ME))
    one.define(overlay())
    mine = one.lease("dcos", 4, ME)
    one.close()
    two, three = again(), again()
    two.register(host(ME, "two"))
    three.register(host(OTHER, formerly=ME))
    with pytest.raises(InUse, match=r"9\.0\.0\.0/24 of overlay 'dcos' is held by agent 192\.0\.2\.1"):
        three.confirm(mine, OTHER, formerly=ME)
    two.close()
    three.confirm(mine, OTHER, formerly=ME)
    assert three.leases() == [Lease(agent_ip=OTHER, held=mine)]


def test_it_does_not_take_the_place_of_another_host(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    two.register(host(OTHER, "two"))
    one.close()
    two.close()
    with pytest.raises(
        InUse, match=r"agent IP 192\.0\.2\.2 is recorded for another host, .*dni agent forget 192\.0\.2\.2"
    ):
        again().register(host(OTHER, formerly=ME))


def test_a_forgotten_agent_gives_up_all_it_held(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    one.register(host())
    two.register(host(OTHER, "two"))
    first = one.lease("dcos", 4, ME)
    one.use(ME, ["dcos"])
    with pytest.raises(InUse, match=r"agent 192\.0\.2\.1 is alive: stop dni on that host first"):
        two.forget(ME)
    one.close()
    two.forget(ME)
    with pytest.raises(NotFound, match=r"no agent 192\.0\.2\.1 in the registry"):
        two.forget(ME)
    assert (alive(two), two.leases(ME)) == ({str(OTHER): True}, [])
    assert two.lease("dcos", 4, OTHER) == first
    assert again().register(host(IPv4Address("192.0.2.3"), "three")) == vtep("44.128.0.1")
    remove(two, "dcos")


def test_only_agents_that_agreed_are_reclaimed_and_only_in_time(again: OpenRegistry) -> None:
    brief, patient, lasting, living = again(), again(), again(), again()
    brief.register(host(reclaim_after=0.2))
    patient.register(host(IPv4Address("192.0.2.3"), "three", reclaim_after=600.0))
    lasting.register(host(IPv4Address("192.0.2.4"), "four"))
    living.register(host(OTHER, "two", reclaim_after=0.2))
    for registry in (brief, patient, lasting):
        registry.close()
    time.sleep(0.3)
    assert living.reclaim() == [ME]
    assert alive(living) == {str(OTHER): True, "192.0.2.3": False, "192.0.2.4": False}
    assert living.reclaim() == []


def test_an_agent_that_is_not_known_any_more_cannot_be_seen(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    one.seen(ME)
    with pytest.raises(NotFound):
        two.seen(OTHER)


SIX, OTHER_SIX = IPv6Address("fd00::11"), IPv6Address("fd00::12")


def test_agents_may_be_named_by_ipv6_addresses(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    assert one.register(host(SIX)) == vtep("44.128.0.1")
    assert two.register(host(OTHER_SIX, "two")) == vtep("44.128.0.2")
    mine = one.lease("dcos", 4, SIX)
    one.use(SIX, ["dcos"])
    two.seen(OTHER_SIX)
    assert two.leases(SIX) == [Lease(agent_ip=SIX, held=mine)]
    assert alive(two) == {"fd00::11": True, "fd00::12": True}
    news = two.news(0)
    assert [peer.agent_ip for peer in news.peers] == [SIX, OTHER_SIX]
    with pytest.raises(InUse, match=r"fd00::11"):
        remove(two, "dcos")
    one.close()
    two.forget(SIX)
    assert two.news(5).gone == {SIX}
    assert two.leases() == []


@pytest.mark.parametrize(
    ("first", "second", "theirs", "ours"),
    [(ME, SIX, "IPv4", r"fd00::11"), (SIX, ME, "IPv6", r"192\.0\.2\.1")],
    ids=["among IPv4", "among IPv6"],
)
def test_an_agent_of_the_other_family_is_refused_with_what_to_do(
    again: OpenRegistry, first: Address, second: Address, theirs: str, ours: str
) -> None:
    one, two = again(), again()
    one.register(host(first))
    with pytest.raises(
        Refused,
        match=rf"^agents of this registry are named by {theirs} addresses; this host's agent IP is {ours}: "
        rf"set agent\.ip to an {theirs} address of it$",
    ):
        two.register(host(second, "two"))
    assert alive(two) == {str(first): True}
    one.close()
    two.forget(first)
    assert two.register(host(second, "two")) == vtep("44.128.0.1")


def test_a_host_alone_in_its_registry_may_go_from_one_family_to_the_other(again: OpenRegistry) -> None:
    one = again()
    one.define(overlay())
    one.register(host())
    mine = one.lease("dcos", 4, ME)
    assert one.register(host(SIX, formerly=ME)) == vtep("44.128.0.1")
    assert one.leases() == [Lease(agent_ip=SIX, held=mine)]
    assert one.register(host(ME, formerly=SIX)) == vtep("44.128.0.1")
    assert again().register(host(OTHER, "two")) == vtep("44.128.0.2")
    with pytest.raises(Refused, match=r"named by IPv4 addresses"):
        one.register(host(SIX, formerly=ME))
    assert one.leases() == [Lease(agent_ip=ME, held=mine)]
