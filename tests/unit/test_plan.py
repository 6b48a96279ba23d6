# SPDX-License-Identifier: Apache-2.0
"""What is known of peers follows them, one by one, and comes to the same as all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.data_plane.entries import Difference, Key, difference, in_words
from dni_driver.core.data_plane.paths import Situation, entries, rules
from dni_driver.core.data_plane.plan import Plan
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import AgentSubnet, Overlay
from dni_driver.core.peers import Peer, Vtep

DCOS = Overlay(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=24)
HERE = Situation(
    vtep=Vtep(IPv4Interface("44.128.0.1/20")),
    overlays=(DCOS,),
    underlay=Underlay(link="eth0", mtu=1500, networks=(IPv4Network("10.0.0.0/24"),)),
)


def peer(number: int, *subnets: int) -> Peer:
    held = tuple(AgentSubnet(overlay="dcos", subnet=IPv4Network(f"9.0.{subnet}.0/24")) for subnet in subnets)
    vtep = Vtep(IPv4Interface(f"44.128.0.{number}/20"))
    return Peer(agent_ip=IPv4Address(f"10.0.0.{number}"), vtep=vtep, subnets=held)


def test_one_more_peer_is_no_matter_of_the_others() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 2), peer(3, 3)])
    change = plan.follow(HERE, [peer(2, 2), peer(3, 3), peer(4, 4)])
    assert not change.gone
    assert {of for _, of in change.put} == {"44.128.0.4", "70:b3:d5:80:00:04", "10.0.0.4", "9.0.4.0/24", "9.0.4.0"}


def test_a_peer_that_leaves_takes_only_its_own_along() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 2), peer(3, 3)])
    change = plan.follow(HERE, [peer(2, 2)])
    assert not change.put
    assert {of for _, of in change.gone} == {"44.128.0.3", "70:b3:d5:80:00:03", "10.0.0.3", "9.0.3.0/24", "9.0.3.0"}


def test_a_subnet_that_changes_hands_is_replaced_and_never_away() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 7), peer(3)])
    change = plan.follow(HERE, [peer(2), peer(3, 7)])
    assert change == Difference(put={("route", "9.0.7.0/24"): "via 44.128.0.3 dev vtep1024"}, gone={})


def test_a_subnet_that_another_has_already_stays() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 7), peer(3)])
    plan.follow(HERE, [peer(2, 7), peer(3, 7)])
    plan.follow(HERE, [peer(2), peer(3, 7)])
    assert plan.entries["route", "9.0.7.0/24"] == "via 44.128.0.3 dev vtep1024"
    assert ("guest subnet", "9.0.7.0") in plan.entries, "of both it was the same"


def test_a_subnet_is_led_to_whoever_has_it_still_when_the_last_to_get_it_gives_it_up() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 7), peer(3)])
    plan.follow(HERE, [peer(2, 7), peer(3, 7)])
    change = plan.follow(HERE, [peer(2, 7), peer(3)])
    assert change == Difference(put={("route", "9.0.7.0/24"): "via 44.128.0.2 dev vtep1024"}, gone={})
    assert ("guest subnet", "9.0.7.0") in plan.entries


def test_another_backend_replaces_ways_and_deletes_only_what_nobody_needs() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 2)])
    direct = msgspec.structs.replace(HERE, overlays=(msgspec.structs.replace(DCOS, backend="direct"),))
    assert plan.follow(direct, [peer(2, 2)]) == Difference(
        put={("route", "9.0.2.0/24"): "via 10.0.0.2 dev eth0"},
        gone={
            ("agent route", "10.0.0.2"): "via 44.128.0.2 dev vtep1024",
            ("rule", "9.0.0.0/8"): "lookup 42",
        },
    )


def test_who_is_alone_needs_nothing() -> None:
    plan = Plan()
    plan.follow(HERE, [peer(2, 2)])
    plan.follow(None, [])
    assert plan.entries == {}
    assert not plan.follow(None, [])


STEPS = st.lists(st.dictionaries(st.integers(2, 9), st.frozensets(st.integers(1, 3), max_size=2)), max_size=6)


def followed(plan: Plan, kernel: dict[Key, str], peers: Sequence[Peer]) -> dict[Key, str]:
    """Have plan and kernel follow the peers; answer what is wanted of them at once."""
    change = plan.follow(HERE, peers)
    assert not change.put.keys() & change.gone.keys()
    kernel |= change.put
    for key in change.gone:
        del kernel[key]
    at_once = Plan()
    at_once.follow(HERE, peers)
    return at_once.entries


@given(STEPS)
def test_step_by_step_comes_to_the_same_as_at_once(steps: list[dict[int, frozenset[int]]]) -> None:
    """Each peer has subnets of its own: the registry sees to that."""
    plan, kernel = Plan(), dict[Key, str]()
    for step in steps:
        peers = [peer(number, *(10 * number + one for one in subnets)) for number, subnets in step.items()]
        assert followed(plan, kernel, peers) == plan.entries == kernel


@given(STEPS)
def test_what_several_have_for_a_while_is_there_as_one_of_them_has_it(steps: list[dict[int, frozenset[int]]]) -> None:
    """A host hears of the one that gets a subnet before it hears of the one that gives it up."""
    plan, kernel = Plan(), dict[Key, str]()
    for step in steps:
        peers = [peer(number, *subnets) for number, subnets in step.items()]
        assert followed(plan, kernel, peers).keys() == plan.entries.keys()
        assert plan.entries == kernel
        theirs = {item for one in peers for item in entries(one, HERE).items()}
        assert plan.entries.items() - rules(HERE.overlays).items() <= theirs


def test_only_what_differs_is_put_or_deleted() -> None:
    wanted = {("route", "9.0.2.0/24"): "via a", ("route", "9.0.3.0/24"): "via b"}
    there = {("route", "9.0.2.0/24"): "via b", ("route", "9.0.3.0/24"): "via b", ("rule", "9.0.0.0/8"): "lookup 42"}
    assert difference(wanted, there) == Difference(  # type: ignore[arg-type]
        put={("route", "9.0.2.0/24"): "via a"}, gone={("rule", "9.0.0.0/8"): "lookup 42"}
    )
    assert not difference(wanted, wanted)  # type: ignore[arg-type]


def test_a_few_entries_are_named_and_many_are_counted() -> None:
    assert in_words({("route", "9.0.2.0/24"): "unreachable", ("guest agent", "10.0.0.2"): ""}) == (
        "route 9.0.2.0/24 unreachable, guest agent 10.0.0.2"
    )
    many = {("route", f"9.0.{number}.0/24"): "unreachable" for number in range(4)}
    assert in_words({**many, ("rule", "9.0.0.0/8"): "lookup 42"}) == "4 routes, 1 rule"  # type: ignore[dict-item]
