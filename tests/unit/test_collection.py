# SPDX-License-Identifier: Apache-2.0
"""What counts as leaked, and when it may be freed."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.invariants.collection import Graces, Sightings, grace
from dni_driver.core.invariants.leaks import (
    Leak,
    LostAddress,
    LostEndpoint,
    LostNetwork,
    LostPool,
    WrongUses,
    containers_addresses,
    leaks,
)
from dni_driver.core.records import AddressRecord, AddressState, Records
from dni_driver.core.views import DockerNetwork, DockerView
from tests.unit.scene import (
    BR0,
    DB,
    DB_IN_DOCKER,
    DCOS,
    PLAIN,
    PLAIN_IN_DOCKER,
    POOL,
    WEB,
    WEB_IN_DOCKER,
    address,
    br0,
    dcos,
    docker,
    docker_endpoint,
    endpoint,
    network,
    records,
)

GRACES = Graces(claim=120, endpoint=900, network=30)


def with_addresses(*more: AddressRecord) -> Records:
    return records(addresses=[*records().addresses, *more])


def only(found: Iterable[Leak]) -> Leak:
    (leak,) = found
    return leak


def waits(leak: Leak) -> float:
    return grace(leak, GRACES)


def test_nothing_leaks_where_docker_knows_everything() -> None:
    assert leaks(records(), docker()) == set()


def test_an_address_that_never_got_an_endpoint_waits_for_the_short_grace() -> None:
    leak = only(leaks(with_addresses(address("9.0.0.140")), docker()))
    assert isinstance(leak, LostAddress)
    assert waits(leak) == 120


def test_a_gateway_of_a_network_that_was_never_made_leaks_but_not_one_of_a_network_that_was() -> None:
    cut_off = address("9.0.0.140", AddressState.RESERVED)
    kept = address("9.0.0.141", AddressState.RESERVED, network=DCOS)
    leak = only(leaks(with_addresses(cut_off, kept), docker()))
    assert isinstance(leak, LostAddress)
    assert str(leak.holding.address) == "9.0.0.140"
    assert containers_addresses(leak) == []


def test_a_claim_that_docker_shows_on_any_network_does_not_leak() -> None:
    """As with `--ipam-driver dni` and another driver on an overlay's subnet: a mistake, but a container has it."""
    mixed = DockerNetwork(
        id="f" * 64,
        name="mix",
        driver="bridge",
        ipam_driver="dni",
        endpoints=(docker_endpoint("9", "x", "9.0.0.140"),),
    )
    seen = docker(dcos(WEB_IN_DOCKER, DB_IN_DOCKER), br0(PLAIN_IN_DOCKER), mixed)
    assert leaks(with_addresses(address("9.0.0.140")), seen) == set()


def test_an_endpoint_that_docker_does_not_list_waits_for_the_long_grace() -> None:
    leak = only(leaks(records(), docker(dcos(WEB_IN_DOCKER), br0(PLAIN_IN_DOCKER))))
    assert isinstance(leak, LostEndpoint)
    assert leak.id == DB
    assert waits(leak) == 900


def test_an_endpoint_whose_address_docker_shows_on_another_one_does_not_leak() -> None:
    stranger = docker_endpoint("9" * 64, "db", "9.0.0.131")
    assert leaks(records(), docker(dcos(WEB_IN_DOCKER, stranger), br0(PLAIN_IN_DOCKER))) == set()


def test_a_network_does_not_leak_while_docker_shows_an_address_of_it() -> None:
    stranger = docker_endpoint("9" * 64, "db", "9.0.0.131")
    found = leaks(records(), docker(br0(PLAIN_IN_DOCKER, stranger)))
    assert [leak.id for leak in found if isinstance(leak, LostEndpoint)] == [WEB]
    assert not [leak for leak in found if isinstance(leak, LostNetwork)]


def test_an_endpoint_whose_address_docker_gave_back_waits_for_the_short_grace() -> None:
    leaving = records(
        addresses=[
            address("9.0.0.130", AddressState.BOUND, endpoint=WEB, network=DCOS),
            address("9.0.0.131", AddressState.LEAVING, endpoint=DB, network=DCOS),
            address("10.5.0.2", pool=PLAIN),
        ]
    )
    assert waits(only(leaks(leaving, docker(dcos(WEB_IN_DOCKER), br0(PLAIN_IN_DOCKER))))) == 120


def test_a_network_that_docker_does_not_list_waits_shortly_without_and_long_with_endpoints() -> None:
    bare = records(endpoints=[], addresses=[address("10.5.0.2", pool=PLAIN)], networks=[network()])
    found = leaks(bare, docker(br0(PLAIN_IN_DOCKER)))
    lone = only(leak for leak in found if isinstance(leak, LostNetwork))
    assert waits(lone) == 30
    found = leaks(records(), docker(br0(PLAIN_IN_DOCKER)))
    peopled = only(leak for leak in found if isinstance(leak, LostNetwork))
    assert waits(peopled) == 900
    assert sorted(map(str, containers_addresses(peopled))) == ["9.0.0.130", "9.0.0.131"]


def test_an_address_of_a_plain_pool_waits_for_the_long_grace() -> None:
    leak = only(leaks(records(), docker(dcos(WEB_IN_DOCKER, DB_IN_DOCKER), br0())))
    assert isinstance(leak, LostAddress)
    assert waits(leak) == 900


def test_a_plain_pools_gateway_does_not_leak_although_old_engines_do_not_show_it() -> None:
    assert not [leak for leak in leaks(records(), docker()) if isinstance(leak, LostAddress)]


@pytest.mark.parametrize(("held", "seconds"), [([], 120), ([address("10.5.0.2", pool=PLAIN)], 900)])
def test_a_plain_pool_in_no_docker_network_is_forgotten(held: list[AddressRecord], seconds: float) -> None:
    bound = [one for one in records().addresses if one.endpoint]
    found = leaks(records(addresses=[*bound, *held]), docker(dcos(WEB_IN_DOCKER, DB_IN_DOCKER)))
    leak = only(leak for leak in found if isinstance(leak, LostPool))
    assert waits(leak) == seconds


def uses(pool: str, count: int) -> Records:
    pools = [msgspec.structs.replace(one, uses=count) if one.id == pool else one for one in records().pools]
    return records(pools=pools)


def test_a_plain_pool_counts_as_many_uses_as_it_has_networks() -> None:
    twin = msgspec.structs.replace(br0(), id="c" * 64, name="br1")
    seen = docker(dcos(WEB_IN_DOCKER, DB_IN_DOCKER), br0(PLAIN_IN_DOCKER), twin)
    leak = only(leaks(uses(PLAIN, 1), seen))
    assert isinstance(leak, WrongUses)
    assert leak.right == 2
    assert leaks(uses(PLAIN, 2), seen) == set()


def test_an_overlays_pool_counts_no_use_where_no_network_is_left() -> None:
    nothing = records(networks=[], endpoints=[], addresses=[], pools=[records().pools[0]])
    leak = only(leaks(nothing, DockerView()))
    assert isinstance(leak, WrongUses)
    assert leak.right == 0
    assert leaks(uses(POOL, 3), docker()) == set()


def test_a_network_that_took_an_overlays_subnet_for_another_driver_is_a_use() -> None:
    nothing = records(networks=[], endpoints=[], addresses=[], pools=[records().pools[0]])
    mixed = DockerNetwork(id=BR0, name="mix", driver="bridge", ipam_driver="dni", subnets=("9.0.0.0/8",))
    assert leaks(nothing, docker(mixed)) == set()


LEAK = only(leaks(with_addresses(address("9.0.0.140")), docker()))
CHANGED = only(leaks(with_addresses(address("9.0.0.140", since=7.0)), docker()))


def test_a_leak_is_due_when_seen_again_after_its_grace_and_not_before() -> None:
    sightings = Sightings(GRACES)
    assert sightings.due([LEAK], 1000) == []
    assert sightings.due([LEAK], 1119) == []
    assert sightings.due([LEAK], 1120) == [LEAK]


def test_one_look_is_never_enough_however_short_the_grace() -> None:
    sightings = Sightings(Graces(claim=0, endpoint=0, network=0))
    assert sightings.due([LEAK], 5) == []
    assert sightings.due([LEAK], 5) == [LEAK]


def test_a_leak_that_changed_or_was_gone_in_between_begins_anew() -> None:
    sightings = Sightings(GRACES)
    sightings.due([LEAK], 0)
    assert sightings.due([CHANGED], 120) == []
    assert sightings.due([LEAK], 240) == []
    assert sightings.due([], 241) == []
    assert sightings.due([LEAK], 361) == []
    assert sightings.due([LEAK], 481) == [LEAK]


def test_a_leak_that_was_told_to_start_over_waits_as_long_again() -> None:
    sightings = Sightings(GRACES)
    sightings.due([LEAK], 0)
    sightings.start_over(LEAK)
    assert sightings.due([LEAK], 120) == []
    assert sightings.due([LEAK], 240) == [LEAK]


def test_the_first_look_after_docker_was_away_frees_nothing() -> None:
    sightings = Sightings(GRACES)
    sightings.due([LEAK], 0)
    sightings.blind()
    assert sightings.due([LEAK], 500) == []
    assert sightings.due([LEAK], 501) == [LEAK]


STATES = st.sampled_from([AddressState.CLAIMED, AddressState.BOUND, AddressState.LEAVING, AddressState.FREE])


@given(
    states=st.lists(STATES, min_size=1, max_size=8),
    shown=st.sets(st.integers(min_value=0, max_value=7)),
    pool=st.sampled_from([POOL, PLAIN]),
)
def test_nothing_that_docker_shows_is_ever_a_leak(states: list[AddressState], shown: set[int], pool: str) -> None:
    """Whatever mixture of records and containers: a leak names no listed endpoint and no address that is shown."""
    prefix = "9.0.0" if pool == POOL else "10.5.0"
    names = {number: f"{number}" * 64 for number in range(8)}
    bound = {number for number, state in enumerate(states) if state in (AddressState.BOUND, AddressState.LEAVING)}
    held = [
        address(f"{prefix}.{200 + number}", state, pool=pool, endpoint=names[number] if number in bound else None)
        for number, state in enumerate(states)
    ]
    known = records(addresses=held, endpoints=[endpoint(names[number], f"9.0.0.{200 + number}") for number in bound])
    listed = [docker_endpoint(names[number], f"c{number}", f"{prefix}.{200 + number}") for number in sorted(shown)]
    seen = docker(dcos(*listed), br0())
    visible = seen.addresses()
    for leak in leaks(known, seen):
        assert not visible.intersection(containers_addresses(leak))
        assert not (isinstance(leak, LostEndpoint) and leak.id in {names[number] for number in shown})
