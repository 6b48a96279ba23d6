# SPDX-License-Identifier: Apache-2.0
"""What every registry promises. Another implementation joins by one more entry in KINDS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_network
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts
from dni_driver.core.errors import Exhausted, InUse, NotFound, Refused
from dni_driver.core.overlays import Address, AgentSubnet, Overlay, define
from dni_driver.core.peers import Peer, Vtep
from dni_driver.registry import Host, Lease, News, Registry, open_registry
from tests.removing import remove

OpenRegistry = Callable[[], Registry]
"""Opens one and the same registry each time, as another agent or a later start would."""

KINDS = ["local", pytest.param("zookeeper", marks=pytest.mark.zookeeper)]

ME = IPv4Address("192.0.2.1")
OTHER = IPv4Address("192.0.2.2")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    return "local" if request.param == "local" else str(request.getfixturevalue("zookeeper_url"))


@pytest.fixture
def again(url: str, tmp_path: Path) -> Iterator[OpenRegistry]:
    opened: list[Registry] = []

    def open_once_more() -> Registry:
        opened.append(open_registry(url, tmp_path))
        return opened[-1]

    yield open_once_more
    for registry in opened:
        registry.close()


@pytest.fixture
def registry(again: OpenRegistry) -> Registry:
    return again()


def overlay(name: str = "dcos", subnet: str = "9.0.0.0/8", prefix: int | None = None) -> Overlay:
    return define(name, [ip_network(subnet)], (prefix, prefix))


def held(subnet: str, name: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=name, subnet=ip_network(subnet))


def test_a_new_registry_holds_nothing(registry: Registry) -> None:
    assert registry.overlays() == []
    assert registry.leases() == []


def test_a_defined_overlay_is_there_for_every_agent_and_after_a_restart(again: OpenRegistry) -> None:
    dual = define("dual", [ip_network("10.1.0.0/16"), ip_network("fd01:b::/64")], (None, None), "auto")
    again().define(dual)
    again().define(overlay())
    assert again().overlays() == [overlay(), dual]


def test_defining_the_same_overlay_again_is_no_error(registry: Registry) -> None:
    registry.define(overlay())
    registry.define(overlay())
    assert registry.overlays() == [overlay()]


def test_a_missing_prefix_means_the_default_one(registry: Registry) -> None:
    registry.define(overlay(prefix=24))
    registry.define(Overlay(name="dcos", subnet=overlay().subnet))
    assert registry.overlays() == [overlay()]


@pytest.mark.parametrize(
    "other",
    [
        overlay(subnet="10.0.0.0/8"),
        overlay(prefix=25),
        define("dcos", [ip_network("9.0.0.0/8")], (None, None), "direct"),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")]),
    ],
)
def test_a_name_cannot_stand_for_two_overlays(registry: Registry, other: Overlay) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"'dcos' exists already, with 9\.0\.0\.0/8 in agent subnets of /24"):
        registry.define(other)
    assert registry.overlays() == [overlay()]


def test_overlays_that_share_addresses_are_refused_naming_the_other(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"'dev' overlaps 9\.0\.0\.0/8 of overlay 'dcos'"):
        registry.define(overlay("dev", "9.7.0.0/16"))


def test_agent_subnets_are_given_lowest_first_with_none_left_out(registry: Registry) -> None:
    registry.define(overlay())
    assert registry.lease("dcos", 4, ME) == held("9.0.0.0/24")
    assert registry.lease("dcos", 4, OTHER) == held("9.0.1.0/24")
    assert registry.lease("dcos", 4, ME) == held("9.0.2.0/24")


def test_what_was_given_back_is_given_out_next(registry: Registry) -> None:
    registry.define(overlay())
    first = registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, OTHER)
    registry.give_back(first, ME)
    assert registry.lease("dcos", 4, OTHER) == first


def test_an_agent_gives_back_only_what_it_holds(registry: Registry) -> None:
    registry.define(overlay())
    mine = registry.lease("dcos", 4, ME)
    registry.give_back(mine, OTHER)
    registry.give_back(held("9.0.9.0/24"), ME)
    assert registry.leases() == [Lease(agent_ip=ME, held=mine)]


def test_leases_are_told_by_agent_and_survive_a_restart(again: OpenRegistry) -> None:
    registry = again()
    registry.define(overlay())
    registry.define(define("six", [ip_network("fd01:b::/64")]))
    mine = [registry.lease("dcos", 4, ME), registry.lease("six", 6, ME)]
    registry.lease("dcos", 4, OTHER)
    assert [lease.held for lease in again().leases(ME)] == mine
    assert [lease.agent_ip for lease in again().leases()] == [ME, ME, OTHER]
    assert mine[1] == held("fd01:b::/80", "six")


def test_the_families_of_one_overlay_do_not_get_in_each_others_way(registry: Registry) -> None:
    """The first IPv4 and the first IPv6 agent subnet begin with the same bits here."""
    registry.define(define("dual", [ip_network("10.0.0.0/16"), ip_network("::a00:0/104")], (24, 120)))
    registry.lease("dual", 4, ME)
    assert registry.lease("dual", 6, ME) == held("::a00:0/120", "dual")


def test_a_lease_is_refused_for_an_overlay_or_family_that_is_not_there(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.lease("dev", 4, ME)
    with pytest.raises(Refused, match="'dcos' has no IPv6 subnet"):
        registry.lease("dcos", 6, ME)
    assert registry.leases() == []


def test_a_full_overlay_says_so(registry: Registry) -> None:
    registry.define(overlay(subnet="9.0.0.0/23"))
    registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, ME)
    with pytest.raises(Exhausted, match=r"all 2 agent subnets of /24 in 9\.0\.0\.0/23 are held"):
        registry.lease("dcos", 4, OTHER)


def test_a_removed_overlay_takes_its_leases_along(registry: Registry) -> None:
    registry.define(overlay())
    registry.register(host())
    registry.lease("dcos", 4, ME)
    remove(registry, "dcos")
    assert registry.overlays() == []
    assert registry.leases() == []
    with pytest.raises(NotFound):
        remove(registry, "dcos")


def test_a_lease_the_registry_lost_is_confirmed_from_the_store(registry: Registry) -> None:
    registry.define(overlay())
    registry.confirm(held("9.0.5.0/24"), ME)
    registry.confirm(held("9.0.5.0/24"), ME)
    assert registry.leases() == [Lease(agent_ip=ME, held=held("9.0.5.0/24"))]


def test_another_agents_lease_cannot_be_confirmed(registry: Registry) -> None:
    registry.define(overlay())
    theirs = registry.lease("dcos", 4, OTHER)
    with pytest.raises(InUse, match=r"9\.0\.0\.0/24 of overlay 'dcos' is held by agent 192\.0\.2\.2"):
        registry.confirm(theirs, ME)


def test_an_agent_whose_address_changed_takes_its_leases_along(registry: Registry) -> None:
    registry.define(overlay())
    mine = registry.lease("dcos", 4, ME)
    registry.confirm(mine, OTHER, formerly=ME)
    assert registry.leases() == [Lease(agent_ip=OTHER, held=mine)]


@pytest.mark.parametrize("subnet", ["9.0.0.0/25", "10.0.0.0/24", "fd01::/80"])
def test_only_agent_subnets_of_the_overlay_can_be_confirmed(registry: Registry, subnet: str) -> None:
    registry.define(overlay())
    with pytest.raises(Refused, match="is no agent subnet of overlay 'dcos'"):
        registry.confirm(held(subnet), ME)
    with pytest.raises(NotFound):
        registry.confirm(held("9.0.0.0/24", "dev"), ME)


def test_agents_that_lease_at_the_same_time_never_get_the_same(again: OpenRegistry) -> None:
    again().define(overlay())
    got: list[AgentSubnet] = []

    def lease(number: int) -> None:
        registry = again()
        got.extend(registry.lease("dcos", 4, IPv4Address("192.0.2.0") + number) for _ in range(5))

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=lambda one: int(one.subnet.network_address)) == [
        held(f"9.0.{number}.0/24") for number in range(40)
    ]


DUAL = define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])


def test_an_overlay_is_given_the_family_it_lacks_and_keeps_its_leases(registry: Registry) -> None:
    registry.define(overlay())
    mine = registry.lease("dcos", 4, ME)
    for _ in range(2):
        registry.widen(DUAL)
        assert registry.overlays() == [DUAL]
    assert registry.leases() == [Lease(agent_ip=ME, held=mine)]
    assert registry.lease("dcos", 6, ME) == held("fd01:b::/80")


@pytest.mark.parametrize(
    "other",
    [
        define("dcos", [ip_network("10.0.0.0/8"), ip_network("fd01:b::/64")]),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")], (25, None)),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")], (None, None), "direct"),
        define("dcos", [ip_network("fd01:b::/64")]),
    ],
)
def test_nothing_else_about_it_can_change(registry: Registry, other: Overlay) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match="'dcos' exists already"):
        registry.widen(other)
    assert registry.overlays() == [overlay()]


def test_what_it_is_given_must_be_nobody_elses(registry: Registry) -> None:
    registry.define(overlay())
    registry.define(define("six", [ip_network("fd01::/16")]))
    with pytest.raises(InUse, match="overlaps fd01::/16 of overlay 'six'"):
        registry.widen(DUAL)
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.widen(define("dev", [ip_network("10.0.0.0/8")]))


def host(agent_ip: Address = ME, identity: str = "one", **more: Any) -> Host:
    return Host(agent_ip=agent_ip, identity=identity, **{"boot": f"boot of {identity}", **more})


def vtep(text: str) -> Vtep:
    return Vtep(IPv4Interface(f"{text}/20"))


def alive(registry: Registry) -> dict[str, bool]:
    """Answer who lives, by all that is told of them; by names alone it is the same."""
    found = {str(member.agent_ip): member.alive for member in registry.members()}
    assert set(map(str, registry.alive())) == {agent for agent, lives in found.items() if lives}
    return found


def test_agents_have_vteps_lowest_first_and_keep_them(again: OpenRegistry) -> None:
    one, two = again(), again()
    assert one.register(host()) == vtep("44.128.0.1")
    assert two.register(host(OTHER, "two")) == vtep("44.128.0.2")
    assert one.register(host()) == vtep("44.128.0.1")
    one.close()
    assert again().register(host()) == vtep("44.128.0.1")


def test_a_vtep_that_the_registry_lost_is_given_again_unless_it_is_anothers(again: OpenRegistry) -> None:
    assert again().register(host(vtep=vtep("44.128.0.9"))) == vtep("44.128.0.9")
    assert again().register(host(OTHER, "two", vtep=vtep("44.128.0.9"))) == vtep("44.128.0.1")


def test_the_first_agent_settles_where_all_vteps_come_from(again: OpenRegistry) -> None:
    wanted, other = IPv4Network("10.96.0.0/12"), IPv4Network("10.0.0.0/16")
    assert again().register(host(vtep_subnet=wanted)) == Vtep(IPv4Interface("10.96.0.1/12"))
    assert again().register(host(OTHER, "two", vtep_subnet=other)) == Vtep(IPv4Interface("10.96.0.2/12"))
    with pytest.raises(Refused, match=r"come from 10\.96\.0\.0/12, and the settings of this host say 10\.0\.0\.0/16"):
        again().widen_vteps(other)
    again().widen_vteps(wanted)


def test_vteps_come_from_a_wider_subnet_later_and_all_keep_theirs(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    two.widen_vteps(IPv4Network("44.128.0.0/16"))
    assert one.register(host()) == Vtep(IPv4Interface("44.128.0.1/16"))
    assert two.register(host(OTHER, "two")) == Vtep(IPv4Interface("44.128.0.2/16"))
    with pytest.raises(Refused, match="leave that out"):
        one.widen_vteps(IPv4Network("44.128.0.0/20"))


def test_no_overlay_has_addresses_of_the_vteps(again: OpenRegistry) -> None:
    registry = again()
    with pytest.raises(InUse, match=r"cannot have 44\.128\.0\.0/24 while the agents' VTEPs come from"):
        registry.define(overlay("dev", "44.128.0.0/24"))
    registry.define(overlay("dev", "44.128.64.0/20"))
    registry.register(host())
    with pytest.raises(InUse, match=r"overlay 'dev' cannot have 44\.128\.64\.0/20 while"):
        registry.widen_vteps(IPv4Network("44.128.0.0/16"))
    assert again().register(host(OTHER, "two")) == vtep("44.128.0.2")


def test_an_overlay_in_the_way_keeps_the_first_agent_out_in_words(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"overlay 'dcos' cannot have 9\.0\.0\.0/8 while the agents' VTEPs come from 9\."):
        registry.register(host(vtep_subnet=IPv4Network("9.7.0.0/16")))
    assert registry.register(host()) == vtep("44.128.0.1")


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


def counts(used: int, as_of: float = 1.5, subnet: str = "fd01:b::/80") -> Counts:
    mesos, docker = HalfCounts(2**47 - 2, used, 0, 2**47 - 2 - used), "it cannot be read"
    return Counts(
        as_of=as_of, subnets=(SubnetCounts(overlay="dcos", subnet=subnet, since=1.0, mesos=mesos, docker=docker),)
    )


def test_what_an_agent_tells_of_itself_others_hear_until_it_tells_otherwise(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    two.register(host(OTHER, "two"))
    assert two.told([ME, OTHER]) == {}
    one.tell(ME, counts(1))
    two.tell(OTHER, counts(7, subnet="9.0.1.0/24"))
    assert two.told([ME]) == {ME: counts(1)}
    assert one.told([OTHER, ME, IPv4Address("192.0.2.9")]) == {ME: counts(1), OTHER: counts(7, subnet="9.0.1.0/24")}
    one.tell(ME, counts(2, as_of=2.5))
    assert two.told([ME]) == {ME: counts(2, as_of=2.5)}
    assert two.told([]) == {}


def test_what_is_told_already_is_as_of_when_it_was_told_first_after_a_restart_too(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    for as_of in (1.0, 2.0):
        one.tell(ME, counts(1, as_of=as_of))
    one.close()
    one = again()
    one.register(host())
    one.tell(ME, counts(1, as_of=3.0))
    assert two.told([ME]) == {ME: counts(1, as_of=1.0)}
    one.tell(ME, counts(2, as_of=4.0))
    assert two.told([ME]) == {ME: counts(2, as_of=4.0)}


def test_who_is_no_agent_tells_nothing(registry: Registry) -> None:
    with pytest.raises(NotFound, match=r"no agent 192\.0\.2\.1 in the registry"):
        registry.tell(ME, counts(1))
    registry.register(host())
    assert registry.told([ME]) == {}


def test_what_a_forgotten_agent_told_goes_with_it_and_it_tells_anew_when_it_is_back(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    one.tell(ME, counts(1))
    one.close()
    assert two.told([ME]) == {ME: counts(1)}
    two.forget(ME)
    assert two.told([ME]) == {}
    one = again()
    one.register(host())
    one.tell(ME, counts(1, as_of=9.0))
    assert two.told([ME]) == {ME: counts(1, as_of=9.0)}


def test_what_a_reclaimed_agent_told_goes_with_it(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host(reclaim_after=0.2))
    two.register(host(OTHER, "two"))
    one.tell(ME, counts(1))
    one.close()
    time.sleep(0.3)
    assert two.reclaim() == [ME]
    assert two.told([ME]) == {}


def test_what_an_agent_told_under_its_former_address_goes_with_that(again: OpenRegistry) -> None:
    one = again()
    one.register(host())
    one.tell(ME, counts(1))
    one.register(host(OTHER, formerly=ME))
    assert again().told([ME, OTHER]) == {}
    one.tell(OTHER, counts(1))
    assert again().told([ME, OTHER]) == {OTHER: counts(1)}


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


def test_an_overlay_stays_as_long_as_any_agent_uses_it(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    one.define(overlay("dev", "10.0.0.0/16"))
    one.use(ME, ["dcos", "dev", "unknown"])
    two.use(OTHER, ["dcos"])
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.1, 192\.0\.2\.2: .*`dni agent forget IP`"):
        remove(two, "dcos")
    one.use(ME, [])
    remove(two, "dev")
    with pytest.raises(InUse, match=r"is in use on 192\.0\.2\.2:"):
        remove(one, "dcos")
    two.use(OTHER, [])
    remove(two, "dcos")
    assert one.overlays() == []


def test_an_overlay_stays_as_long_as_a_host_that_is_not_heard_of_may_use_it(again: OpenRegistry) -> None:
    one, two, three = again(), again(), again()
    one.define(overlay())
    one.define(overlay("dev", "10.0.0.0/16"))
    one.register(host())
    two.register(host(OTHER, "two"))
    three.register(host(IPv4Address("192.0.2.3"), "three"))
    for agent in (ME, OTHER):
        one.lease("dcos", 4, agent)
    two.close()
    three.close()
    while len(one.alive()) > 1:
        time.sleep(0.05)
    with pytest.raises(InUse, match=r"'dcos' may be in use on 192\.0\.2\.2, from where .*`dni agent forget IP`"):
        remove(one, "dcos")
    assert len(one.leases()) == 2
    remove(one, "dev")
    one.forget(OTHER)
    remove(one, "dcos")
    assert one.overlays() == []


def test_what_was_held_of_a_removed_overlay_is_not_held_of_a_new_one_of_its_name(registry: Registry) -> None:
    registry.define(overlay())
    registry.register(host())
    registry.register(host(OTHER, "two"))
    registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, OTHER)
    remove(registry, "dcos")
    registry.define(overlay())
    assert registry.leases() == []
    assert registry.lease("dcos", 4, OTHER) == held("9.0.0.0/24")


def leaving(again: OpenRegistry) -> tuple[Registry, Registry, AgentSubnet]:
    """Answer two agents, and what the second holds of an overlay that the first was told to remove."""
    one, two = again(), again()
    one.define(overlay())
    one.register(host())
    two.register(host(OTHER, "two"))
    theirs = two.lease("dcos", 4, OTHER)
    one.begin_removal("dcos", ME)
    return one, two, theirs


def test_of_an_overlay_that_is_leaving_nobody_gets_any_and_nothing_about_it_changes(again: OpenRegistry) -> None:
    one, two, theirs = leaving(again)
    two.begin_removal("dcos", OTHER)
    assert two.leaving() == one.leaving() == {"dcos": ME}
    attempts: list[Callable[[], object]] = [
        lambda: two.lease("dcos", 4, OTHER),
        lambda: two.confirm(held("9.0.9.0/24"), OTHER),
        lambda: two.define(overlay()),
        lambda: two.widen(define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])),
        lambda: two.set_backend("dcos", "direct"),
    ]
    for attempt in attempts:
        with pytest.raises(
            InUse, match=r"'dcos' is being removed, as agent 192\.0\.2\.1 was told to: .*overlay keep"
        ):
            attempt()
    with pytest.raises(InUse, match=r"overlaps 9\.0\.0\.0/8 of overlay 'dcos'"):
        two.define(overlay("dev", "9.7.0.0/16"))
    two.confirm(theirs, OTHER)
    assert (one.leases(), one.overlays()) == ([Lease(agent_ip=OTHER, held=theirs)], [overlay()])


def test_it_is_gone_once_nobody_holds_any_of_it(again: OpenRegistry) -> None:
    one, two, theirs = leaving(again)
    assert not one.end_removal("dcos")
    two.give_back(theirs, OTHER)
    assert one.end_removal("dcos")
    assert two.end_removal("dcos")
    assert (one.overlays(), one.leaving()) == ([], {})
    two.define(overlay("dev", "9.7.0.0/16"))


def test_it_waits_for_a_holder_that_is_cut_off_until_that_is_forgotten(again: OpenRegistry) -> None:
    one, two, _ = leaving(again)
    two.close()
    while len(one.alive()) > 1:
        time.sleep(0.05)
    one.begin_removal("dcos", ME)
    assert not one.end_removal("dcos")
    one.forget(OTHER)
    assert one.end_removal("dcos")


def test_an_agent_that_uses_it_keeps_it_and_is_named(again: OpenRegistry) -> None:
    one, two, _ = leaving(again)
    for _ in range(2):
        two.keep("dcos", OTHER)
    assert one.leaving() == {}
    attempts: list[Callable[[], object]] = [
        lambda: one.end_removal("dcos"),
        lambda: one.begin_removal("dcos", ME),
    ]
    for attempt in attempts:
        with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.2: "):
            attempt()
    two.lease("dcos", 4, OTHER)
    two.use(OTHER, [])
    one.begin_removal("dcos", ME)


def test_its_removal_can_be_called_off(again: OpenRegistry) -> None:
    one, two, _ = leaving(again)
    two.keep("dcos")
    with pytest.raises(InUse, match="'dcos' stays: its removal was called off meanwhile"):
        one.end_removal("dcos")
    assert two.lease("dcos", 4, OTHER) == held("9.0.1.0/24")
    attempts: list[Callable[[], object]] = [lambda: one.keep("dev"), lambda: one.begin_removal("dev", ME)]
    for attempt in attempts:
        with pytest.raises(NotFound, match="no overlay 'dev'"):
            attempt()


def test_that_it_is_leaving_or_stays_is_news(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    two.news(5)
    one.begin_removal("dcos", ME)
    assert two.news(5) == News(overlays=True)
    one.keep("dcos")
    assert two.news(5) == News(overlays=True)


def test_the_backend_of_an_overlay_can_change(again: OpenRegistry) -> None:
    registry = again()
    registry.define(overlay())
    registry.lease("dcos", 4, ME)
    for _ in range(2):
        registry.set_backend("dcos", "direct")
        assert again().overlays() == [define("dcos", [ip_network("9.0.0.0/8")], (None, None), "direct")]
    assert len(registry.leases()) == 1
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.set_backend("dev", "direct")


def peer(agent_ip: Address, vtep_ip: str, *subnets: AgentSubnet) -> Peer:
    return Peer(agent_ip=agent_ip, vtep=vtep(vtep_ip), subnets=subnets)


def test_the_first_news_are_everything(again: OpenRegistry) -> None:
    one, two = again(), again()
    assert one.news(5) == News(whole=True, overlays=True)
    one.define(overlay())
    one.register(host())
    mine = one.lease("dcos", 4, ME)
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1", mine),), whole=True, overlays=True)


def test_what_changes_is_news_once(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    two.news(5)
    one.register(host())
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1"),))
    mine = one.lease("dcos", 4, ME)
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1", mine),))
    assert not two.news(0)
    one.define(overlay("dev", "10.0.0.0/16"))
    assert two.news(5) == News(overlays=True)
    one.set_backend("dev", "auto")
    assert two.news(5) == News(overlays=True)
    one.close()
    two.forget(ME)
    assert two.news(5) == News(gone=frozenset({ME}))
    assert not two.news(0)


def test_agents_that_lose_a_removed_overlays_subnets_are_news(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    one.register(host())
    one.lease("dcos", 4, ME)
    two.news(5)
    remove(one, "dcos")
    assert two.news(5) == News(peers=(peer(ME, "44.128.0.1"),), overlays=True)


def test_who_waits_for_news_hears_them_at_once_and_is_let_go_when_the_registry_is_closed(again: OpenRegistry) -> None:
    one, two = again(), again()
    two.news(5)
    heard: SimpleQueue[News] = SimpleQueue()

    def listen() -> None:
        for _ in range(2):
            heard.put(two.news(60))

    thread = threading.Thread(target=listen)
    thread.start()
    one.register(host())
    assert heard.get(timeout=60) == News(peers=(peer(ME, "44.128.0.1"),))
    two.close()
    assert heard.get(timeout=60) == News()
    thread.join()


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
