# SPDX-License-Identifier: Apache-2.0
"""Who holds which address, and which one comes next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.addresses.allocation import Span, Usage
from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Address
from dni_driver.core.records import HELD, AddressState, EndpointRecord, NetworkRecord
from dni_driver.store import Store, Transaction, addresses, endpoints, networks, pools
from tests import strategies
from tests.scratch import fast_directory

POOL = "dcos/v4"
NETWORK = "f" * 64
NOW = 1_700_000_000.0
FIRST, SECOND, THIRD = (ip_address(f"9.0.0.{last}") for last in (130, 131, 132))
ROW = [Span(FIRST, THIRD)]


@pytest.fixture
def tx(store: Store) -> Iterator[Transaction]:
    """Answer a transaction on a store with a network on `dcos`, and its pool."""
    with store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, NOW)
        networks.add(tx, NetworkRecord(id=NETWORK, overlay="dcos", options=NetworkOptions(), mtu=1450))
        yield tx


def claim(tx: Transaction, spans: list[Span] = ROW, now: float = NOW) -> Address | None:
    address = addresses.next_free(tx, POOL, spans)
    if address is not None:
        addresses.hold(tx, POOL, address, AddressState.CLAIMED, now)
    return address


def bound(tx: Transaction, address: Address = FIRST, endpoint: str = "e1") -> EndpointRecord:
    record = EndpointRecord(
        id=endpoint, network=NETWORK, mac="02:42:09:00:00:82", address=IPv4Interface(str(address))
    )
    endpoints.add(tx, record)
    addresses.hold(tx, POOL, address, AddressState.CLAIMED, NOW)
    addresses.bind(tx, POOL, address, record, NOW)
    return record


def state(tx: Transaction, address: Address = FIRST) -> AddressState | None:
    record = addresses.find(tx, POOL, address)
    return record.state if record else None


def test_addresses_that_were_never_used_are_given_lowest_first(tx: Transaction) -> None:
    assert [claim(tx) for _ in range(4)] == [FIRST, SECOND, THIRD, None]


def test_a_freed_address_is_the_last_to_come_back(tx: Transaction) -> None:
    for _ in range(3):
        claim(tx)
    for address in (SECOND, THIRD, FIRST):
        addresses.free(tx, POOL, address, NOW)
    assert [claim(tx) for _ in range(4)] == [SECOND, THIRD, FIRST, None]


def test_a_never_used_address_goes_before_a_freed_one(tx: Transaction) -> None:
    claim(tx)
    addresses.free(tx, POOL, FIRST, NOW)
    assert [claim(tx) for _ in range(3)] == [SECOND, THIRD, FIRST]


def test_where_there_is_no_end_of_new_addresses_old_ones_are_used_again_and_records_do_not_pile_up(
    tx: Transaction,
) -> None:
    """Each look at the store reads them all."""
    pools.use_overlay(tx, "dcos", 6, None, NOW)
    endless = [Span(ip_address("fd01:b::8000:0:2"), ip_address("fd01:b::ffff:ffff:ffff"))]
    given = []
    for _ in range(addresses.LONGEST_QUEUE + 100):
        address = addresses.claim_next(tx, "dcos/v6", endless, NOW)
        assert address is not None
        addresses.free(tx, "dcos/v6", address, NOW)
        given.append(address)
    assert given[addresses.LONGEST_QUEUE :] == given[:100]
    assert len(addresses.of_pool(tx, "dcos/v6")) == addresses.LONGEST_QUEUE
    held = [addresses.claim_next(tx, "dcos/v6", endless, NOW) for _ in range(2)]
    assert held == [given[100], endless[0].first + addresses.LONGEST_QUEUE]


def test_an_address_taken_by_name_is_passed_over(tx: Transaction) -> None:
    addresses.hold(tx, POOL, SECOND, AddressState.CLAIMED, NOW)
    assert [claim(tx) for _ in range(3)] == [FIRST, THIRD, None]


def test_a_second_span_is_used_when_the_first_is_full(tx: Transaction) -> None:
    far = ip_address("9.0.7.130")
    spans = [Span(FIRST, SECOND), Span(far, far)]
    assert [claim(tx, spans) for _ in range(4)] == [FIRST, SECOND, far, None]


def test_a_freed_address_outside_the_spans_is_not_given(tx: Transaction) -> None:
    claim(tx)
    addresses.free(tx, POOL, FIRST, NOW)
    narrow = [Span(SECOND, SECOND)]
    assert [claim(tx, narrow) for _ in range(2)] == [SECOND, None]


def test_pools_do_not_share_what_comes_next(tx: Transaction) -> None:
    span = [Span(ip_address("172.30.0.1"), ip_address("172.30.0.9"))]
    for subnet in ("172.30.0.0/24", "172.31.0.0/24"):
        pools.use_plain(tx, ip_network(subnet), None, NOW)
    addresses.hold(tx, "plain/172.30.0.0/24", span[0].first, AddressState.CLAIMED, NOW)
    addresses.next_free(tx, "plain/172.30.0.0/24", span)
    assert addresses.next_free(tx, "plain/172.31.0.0/24", span) == span[0].first


def test_ipv6_addresses_are_given_in_their_order(tx: Transaction) -> None:
    pools.use_overlay(tx, "dual", 6, None, NOW)
    span = Span(ip_address("fd01:b::8000:0:fe"), ip_address("fd01:b::8000:0:101"))
    given = []
    for _ in range(4):
        address = addresses.next_free(tx, "dual/v6", [span])
        assert address is not None
        addresses.hold(tx, "dual/v6", address, AddressState.CLAIMED, NOW)
        given.append(str(address))
    assert given == ["fd01:b::8000:0:fe", "fd01:b::8000:0:ff", "fd01:b::8000:0:100", "fd01:b::8000:0:101"]


@pytest.mark.parametrize("held", [AddressState.CLAIMED, AddressState.RESERVED])
def test_a_held_address_is_not_held_again(tx: Transaction, held: AddressState) -> None:
    addresses.hold(tx, POOL, FIRST, held, NOW)
    with pytest.raises(InUse, match=r"address 9\.0\.0\.130 is in use by"):
        addresses.hold(tx, POOL, FIRST, AddressState.CLAIMED, NOW)
    assert state(tx) is held


def test_the_holder_is_named(tx: Transaction) -> None:
    bound(tx, endpoint="0123456789abcdef")
    with pytest.raises(InUse, match="in use by endpoint 0123456789ab:"):
        addresses.hold(tx, POOL, FIRST, AddressState.CLAIMED, NOW)
    addresses.set_container(tx, POOL, FIRST, "web")
    with pytest.raises(InUse, match="in use by container web:"):
        addresses.hold(tx, POOL, FIRST, AddressState.CLAIMED, NOW)


def test_a_claim_becomes_an_endpoints_and_a_repeat_changes_nothing(tx: Transaction) -> None:
    endpoint = bound(tx)
    addresses.bind(tx, POOL, FIRST, endpoint, NOW + 60)
    (record,) = addresses.of_endpoint(tx, "e1")
    assert (record.state, record.network, record.since) == (AddressState.BOUND, NETWORK, NOW)


def test_an_address_that_was_never_requested_is_not_bound(tx: Transaction) -> None:
    endpoint = bound(tx)
    with pytest.raises(NotFound, match="was not requested from dni"):
        addresses.bind(tx, POOL, SECOND, endpoint, NOW)


def test_an_address_that_was_given_up_is_not_bound(tx: Transaction) -> None:
    endpoint = bound(tx)
    addresses.hold(tx, POOL, SECOND, AddressState.CLAIMED, NOW)
    addresses.free(tx, POOL, SECOND, NOW)
    with pytest.raises(NotFound, match="given up since: start the container again"):
        addresses.bind(tx, POOL, SECOND, endpoint, NOW)


def test_an_address_of_another_endpoint_or_of_the_network_is_not_bound(tx: Transaction) -> None:
    bound(tx)
    other = bound(tx, SECOND, "e2")
    addresses.hold(tx, POOL, THIRD, AddressState.RESERVED, NOW)
    with pytest.raises(InUse, match="in use by endpoint e1"):
        addresses.bind(tx, POOL, FIRST, other, NOW)
    with pytest.raises(InUse, match="in use by the network itself"):
        addresses.bind(tx, POOL, THIRD, other, NOW)


def test_an_address_awaits_its_release_when_its_endpoint_is_gone(tx: Transaction) -> None:
    bound(tx)
    addresses.unbind(tx, "e1", NOW + 5)
    record = addresses.find(tx, POOL, FIRST)
    assert record is not None
    assert (record.state, record.endpoint, record.since) == (AddressState.CLAIMED, None, NOW + 5)
    addresses.release(tx, POOL, FIRST, NOW + 6)
    assert state(tx) is AddressState.FREE


def test_a_release_never_frees_what_an_endpoint_has(tx: Transaction) -> None:
    bound(tx)
    for _ in range(2):
        addresses.release(tx, POOL, FIRST, NOW)
        assert state(tx) is AddressState.LEAVING
    assert claim(tx) == SECOND


def test_an_address_released_early_is_free_as_soon_as_its_endpoint_is_gone(tx: Transaction) -> None:
    bound(tx)
    addresses.release(tx, POOL, FIRST, NOW)
    addresses.unbind(tx, "e1", NOW)
    assert state(tx) is AddressState.FREE


def test_releasing_what_is_unknown_or_free_changes_nothing(tx: Transaction) -> None:
    addresses.release(tx, POOL, FIRST, NOW)
    assert state(tx) is None
    addresses.hold(tx, POOL, FIRST, AddressState.CLAIMED, NOW)
    addresses.free(tx, POOL, FIRST, NOW)
    before = addresses.find(tx, POOL, FIRST)
    addresses.release(tx, POOL, FIRST, NOW + 60)
    addresses.free(tx, POOL, FIRST, NOW + 60)
    assert addresses.find(tx, POOL, FIRST) == before


def test_a_reservation_ends_by_release_until_a_network_has_it(tx: Transaction) -> None:
    addresses.hold(tx, POOL, FIRST, AddressState.RESERVED, NOW)
    addresses.release(tx, POOL, FIRST, NOW)
    assert state(tx) is AddressState.FREE
    addresses.hold(tx, POOL, FIRST, AddressState.CLAIMED, NOW)
    addresses.reserve(tx, POOL, FIRST, NETWORK, NOW)
    addresses.release(tx, POOL, FIRST, NOW)
    assert state(tx) is AddressState.RESERVED


def test_nothing_but_a_claim_becomes_a_reservation(tx: Transaction) -> None:
    bound(tx)
    addresses.reserve(tx, POOL, FIRST, NETWORK, NOW)
    addresses.reserve(tx, POOL, SECOND, NETWORK, NOW)
    assert (state(tx), state(tx, SECOND)) == (AddressState.BOUND, None)


def test_a_pool_that_nobody_uses_is_freed_but_for_endpoints(tx: Transaction) -> None:
    bound(tx)
    addresses.hold(tx, POOL, SECOND, AddressState.CLAIMED, NOW)
    addresses.hold(tx, POOL, THIRD, AddressState.RESERVED, NOW)
    addresses.free_pool(tx, POOL, NOW)
    assert [record.state for record in addresses.of_pool(tx, POOL)] == ["bound", "free", "free"]


def test_a_container_is_recorded_with_its_address_until_that_is_free(tx: Transaction) -> None:
    bound(tx)
    addresses.set_container(tx, POOL, FIRST, "web")
    assert [record.container for record in addresses.every(tx)] == ["web"]
    addresses.free(tx, POOL, FIRST, NOW)
    addresses.set_container(tx, POOL, FIRST, "ghost")
    assert [record.container for record in addresses.every(tx)] == [None]


def test_usage_counts_each_address_once(tx: Transaction) -> None:
    assert addresses.usage(tx, POOL, ROW) == Usage(size=3, used=0, reserved=0, free=3)
    bound(tx)
    addresses.release(tx, POOL, FIRST, NOW)
    addresses.hold(tx, POOL, SECOND, AddressState.RESERVED, NOW)
    assert addresses.usage(tx, POOL, ROW) == Usage(size=3, used=1, reserved=1, free=1)
    addresses.unbind(tx, "e1", NOW)
    assert addresses.usage(tx, POOL, ROW) == Usage(size=3, used=0, reserved=1, free=2)


def test_usage_counts_only_what_lies_in_the_spans(tx: Transaction) -> None:
    bound(tx)
    assert addresses.usage(tx, POOL, [Span(SECOND, THIRD)]) == Usage(size=2, used=0, reserved=0, free=2)


@contextmanager
def pool_over(span: Span) -> Iterator[Transaction]:
    """Give a transaction on a fresh store with a plain pool called `p`."""
    with fast_directory() as directory:
        store = Store(Path(directory) / "dni.db")
        with store.write() as tx:
            version = span.first.version
            tx.execute("INSERT INTO pool VALUES ('p', ?, NULL, '0.0.0.0/0', NULL, 1, 0, 0)", (version,))
            yield tx
        store.close()


@given(strategies.spans(), strategies.spans())
def test_every_address_is_given_once_in_order_then_none(one: Span, other: Span) -> None:
    """Whatever the family; two spans of one pool that do not touch."""
    spans = [one, other] if one.first.version == other.first.version and not overlap(one, other) else [one]
    with pool_over(one) as tx:
        given = []
        while (address := addresses.next_free(tx, "p", spans)) is not None:
            addresses.hold(tx, "p", address, AddressState.CLAIMED, NOW)
            given.append(address)
    assert [int(address) for address in given] == [
        number for span in spans for number in range(int(span.first), int(span.last) + 1)
    ]


def overlap(one: Span, other: Span) -> bool:
    return int(one.first) <= int(other.last) and int(other.first) <= int(one.last)


class Queue:
    """What the pool ought to do, in few words: never used ones in order, then those freed longest ago."""

    def __init__(self, numbers: range) -> None:
        """Begin with all of them never used."""
        self.waiting = list(numbers)
        self.held: list[int] = []

    def take(self, number: int | None) -> int | None:
        """Take one by name, or the next; None where there is none to take."""
        chosen = number if number is not None else next(iter(self.waiting), None)
        if chosen not in self.waiting:
            return None
        self.waiting.remove(chosen)
        self.held.append(chosen)
        return chosen

    def free(self, number: int) -> None:
        """Give one back."""
        if number in self.held:
            self.held.remove(number)
            self.waiting.append(number)


@given(st.data(), strategies.spans(largest=20))
def test_in_any_order_of_requests_and_releases_the_pool_is_that_queue(data: st.DataObject, span: Span) -> None:
    numbers = range(int(span.first), int(span.last) + 1)
    one = st.sampled_from(numbers)
    operations = st.tuples(st.sampled_from(["next", "next", "next", "take", "release"]), one)
    queue = Queue(numbers)
    with pool_over(span) as tx:
        for operation, number in data.draw(st.lists(operations, max_size=40)):
            address = type(span.first)(number)
            if operation == "next":
                assert take_next(tx, span) == queue.take(None)
            elif operation == "take":
                assert take_named(tx, address) == queue.take(number)
            else:
                addresses.release(tx, "p", address, NOW)
                queue.free(number)
            check_against(tx, span, queue)


def take_next(tx: Transaction, span: Span) -> int | None:
    expected = addresses.next_free(tx, "p", [span])
    assert addresses.claim_next(tx, "p", [span], NOW) == expected
    return None if expected is None else int(expected)


def take_named(tx: Transaction, address: Address) -> int | None:
    try:
        addresses.hold(tx, "p", address, AddressState.CLAIMED, NOW)
    except InUse:
        return None
    return int(address)


def check_against(tx: Transaction, span: Span, queue: Queue) -> None:
    usage = addresses.usage(tx, "p", [span])
    assert usage == Usage(size=span.size, used=len(queue.held), reserved=0, free=len(queue.waiting))
    held = {int(record.address) for record in addresses.of_pool(tx, "p") if record.state in HELD}
    assert held == set(queue.held)
