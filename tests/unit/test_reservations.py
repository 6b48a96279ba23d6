# SPDX-License-Identifier: Apache-2.0
"""Which addresses a person means to keep back, and who may have them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.addresses.allocation import Span, usage, without
from dni_driver.core.addresses.reservations import (
    Wish,
    check_not_a_containers,
    check_not_anothers,
    check_usable,
    family_meant,
    read_span,
    read_wish,
    released,
    reserved_for,
    standing,
    start_words,
    strays,
)
from dni_driver.core.errors import InUse, NotFound, Refused
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import define
from dni_driver.core.records import HELD, AddressRecord, AddressState, PoolRecord, ReservationRecord
from tests import strategies
from tests.unit.refusals import refusal
from tests.unit.scene import DCOS, WEB, network, records
from tests.unit.scene import address as recorded

POOL = PoolRecord(id="dcos/v4", family=4, overlay="dcos")
HALF, SECOND_HALF = ip_network("9.0.0.128/25"), ip_network("9.0.7.128/25")


def kept(first: str, last: str = "", container: str | None = None) -> ReservationRecord:
    return ReservationRecord(
        overlay="dcos", first=ip_address(first), last=ip_address(last or first), container=container, since=1.0
    )


RANGE = kept("9.0.0.200", "9.0.0.220")
WEBS = kept("9.0.0.140", container="web")
BOTH = [WEBS, RANGE]


def wish(addresses: str | None = None, container: str | None = None) -> Wish:
    return read_wish("dcos", addresses, container)


# -- what is typed


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("9.0.0.140", "9.0.0.140", "9.0.0.140"),
        ("9.0.0.200-9.0.0.220", "9.0.0.200", "9.0.0.220"),
        ("9.0.0.200 - 9.0.0.220", "9.0.0.200", "9.0.0.220"),
        ("9.0.0.192/28", "9.0.0.192", "9.0.0.207"),
        ("fd01:b::8000:0:8c", "fd01:b::8000:0:8c", "fd01:b::8000:0:8c"),
        ("fd01:b::8000:0:10-fd01:b::8000:0:1f", "fd01:b::8000:0:10", "fd01:b::8000:0:1f"),
    ],
)
def test_an_address_a_range_and_a_subnet_are_understood(text: str, first: str, last: str) -> None:
    assert read_span(text) == Span(ip_address(first), ip_address(last))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("web", "is not understood .* write 9.0.0.140, 9.0.0.200-9.0.0.220 or 9.0.0.192/28"),
        ("", "is not understood"),
        ("9.0.0.200-220", "is not understood"),
        ("9.0.0.200-", "is not understood"),
        ("-9.0.0.200", "is not understood"),
        ("fd01:b::1%eth0", "has no zone"),
        ("9.0.0.193/28", "has host bits set"),
        ("9.0.0.220-9.0.0.200", "does not go from an address to a later one"),
        ("9.0.0.200-fd01::1", "does not go from an address to a later one"),
    ],
)
def test_what_is_malformed_is_refused_with_how_to_write_it(text: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        read_span(text)


@given(st.text(max_size=60))
def test_any_text_is_a_span_or_refused_in_one_line(text: str) -> None:
    said = refusal(lambda: read_span(text))
    assert said is None or "\n" not in said


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({}, "nothing is named: give an address, a range such as 9.0.0.200-9.0.0.220, or --for NAME"),
        ({"container": "-web"}, "'-web' is no container name"),
        ({"container": "w"}, "two characters at the least"),
        ({"container": ""}, "'' is no container name"),
        ({"addresses": "9.0.0.140", "family": 6}, "leave --ipv6 out"),
    ],
)
def test_a_wish_that_names_nothing_or_too_much_is_refused(typed: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        read_wish("dcos", **typed)  # type: ignore[arg-type]


def test_a_family_is_typed_or_follows_from_the_address_or_from_the_overlay() -> None:
    dual = define("dual", [ip_network("10.64.0.0/16"), ip_network("fd01:b::/64")])
    six = define("six", [ip_network("fd01:c::/64")])
    assert family_meant(wish(container="web"), dual) == 4
    assert family_meant(wish(container="web"), six) == 6
    assert family_meant(read_wish("dual", container="web", family=6), dual) == 6
    assert family_meant(wish("fd01:b::8000:0:8c"), dual) == 6
    with pytest.raises(Refused, match="overlay 'six' has no IPv4 subnet"):
        family_meant(wish("9.0.0.140"), six)


# -- what stands already


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        (wish("9.0.0.140", "web"), WEBS),
        (wish(container="web"), WEBS),
        (wish("9.0.0.200-9.0.0.220"), RANGE),
        (wish("9.0.0.150"), None),
        (wish("9.0.0.221-9.0.0.230"), None),
        (wish(container="db"), None),
    ],
)
def test_the_same_wish_once_more_is_granted_already(typed: Wish, there: ReservationRecord | None) -> None:
    assert standing(typed, 4, BOTH) == there


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (wish("9.0.0.140", "db"), "9.0.0.140 is reserved for container web; `dni address release dcos 9.0.0.140`"),
        (wish("9.0.0.140"), "9.0.0.140 is reserved for container web"),
        (wish("9.0.0.130-9.0.0.150"), "9.0.0.130-9.0.0.150 is not free to reserve: 9.0.0.140 is reserved"),
        (wish("9.0.0.141", "web"), "9.0.0.140 is reserved for container web already: `dni address release dcos"),
        (wish("9.0.0.210", "db"), "9.0.0.200-9.0.0.220 is held back; `dni address release dcos 9.0.0.200-9.0.0.220`"),
        (wish("9.0.0.210"), "9.0.0.200-9.0.0.220 is held back"),
        (wish("9.0.0.192/28"), "9.0.0.192-9.0.0.207 is not free to reserve: 9.0.0.200-9.0.0.220 is held back"),
    ],
)
def test_what_is_reserved_otherwise_stands_in_the_way(typed: Wish, reason: str) -> None:
    with pytest.raises(InUse, match=reason):
        standing(typed, 4, BOTH)


def test_a_container_can_have_an_address_of_each_family() -> None:
    assert standing(read_wish("dcos", container="web", family=6), 6, BOTH) is None


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (wish("9.0.0.5"), "lies outside the Docker half .*: choose one of 9.0.0.130 to 9.0.0.254 or 9.0.7.130 to"),
        (wish("9.0.0.129"), "is the gateway of 9.0.0.128/25"),
        (wish("9.0.0.250-9.0.1.5"), "address 9.0.1.5 lies outside the Docker half"),
        (wish("9.0.0.250-9.0.7.135"), "goes from one half into another: reserve each part by itself"),
        (wish("9.0.0.140-9.0.0.141", "web"), "a container has one address of an overlay: reserve one for 'web'"),
    ],
)
def test_what_no_container_can_have_is_refused(typed: Wish, reason: str) -> None:
    assert typed.span is not None
    with pytest.raises(Refused, match=reason):
        check_usable(typed, typed.span, POOL, [HALF, SECOND_HALF])


# -- giving up


@pytest.mark.parametrize(
    ("typed", "gone"),
    [
        (wish("9.0.0.140"), [WEBS]),
        (wish(container="web"), [WEBS]),
        (wish("9.0.0.140", "web"), [WEBS]),
        (wish("9.0.0.200-9.0.0.220"), [RANGE]),
    ],
)
def test_what_is_reserved_is_given_up_by_address_range_or_name(typed: Wish, gone: list[ReservationRecord]) -> None:
    assert released(typed, BOTH) == gone


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (wish("9.0.0.150"), "9.0.0.150 is not reserved in overlay 'dcos': `dni address ls --overlay dcos`"),
        (wish("9.0.0.210"), "9.0.0.210 is not reserved .*: 9.0.0.200-9.0.0.220 is held back; `dni address ls"),
        (wish(container="db"), "--for db is not reserved"),
        (wish("9.0.0.140", "db"), "9.0.0.140 is not reserved .*: 9.0.0.140 is reserved for container web"),
    ],
)
def test_what_is_not_reserved_is_not_given_up(typed: Wish, reason: str) -> None:
    with pytest.raises(NotFound, match=reason):
        released(typed, BOTH)


# -- who may have it


def test_a_container_is_known_by_its_name_and_family() -> None:
    assert reserved_for("web", 4, BOTH) == ip_address("9.0.0.140")
    assert reserved_for("web", 6, BOTH) is None
    assert reserved_for("db", 4, BOTH) is None
    assert reserved_for(None, 4, BOTH) is None


@pytest.mark.parametrize("who", ["web", None])
def test_whoever_is_meant_or_not_known_may_ask_for_the_address(who: str | None) -> None:
    check_not_anothers(ip_address("9.0.0.140"), who, BOTH)
    check_not_anothers(ip_address("9.0.0.205"), "anybody", BOTH)


def test_a_container_that_is_known_to_be_another_may_not() -> None:
    with pytest.raises(InUse, match=r"address 9\.0\.0\.140 is reserved for container web"):
        check_not_anothers(ip_address("9.0.0.140"), "db", BOTH)


def test_a_network_may_have_what_is_held_back_but_nothing_of_a_container() -> None:
    check_not_a_containers(ip_address("9.0.0.205"), BOTH)
    with pytest.raises(InUse, match="reserved for container web: choose another for the network"):
        check_not_a_containers(ip_address("9.0.0.140"), BOTH)


# -- what is counted and given


@given(strategies.spans(4, largest=40), st.lists(st.tuples(st.integers(-5, 45), st.integers(0, 9)), max_size=6))
def test_what_is_left_of_a_span_is_what_is_not_kept(span: Span, cuts: list[tuple[int, int]]) -> None:
    gaps: list[ReservationRecord] = []
    for start, more in sorted(cuts):
        first = max(0, int(span.first) + start)
        if not gaps or first > int(gaps[-1].last):
            gaps.append(kept(str(ip_address(first)), str(ip_address(first + more))))
    left = [number for piece in without([span], gaps) for number in range(int(piece.first), int(piece.last) + 1)]
    whole = range(int(span.first), int(span.last) + 1)
    assert left == [number for number in whole if not any(ip_address(number) in gap for gap in gaps)]


def test_what_is_kept_of_one_family_cuts_nothing_from_the_other() -> None:
    six = Span(ip_address("fd01:b::1"), ip_address("fd01:b::9"))
    assert without([six], BOTH) == [six]


def places(state: AddressState, *numbers: int) -> list[AddressRecord]:
    return [AddressRecord(pool="dcos/v4", address=ip_address(f"9.0.0.{n}"), state=state) for n in numbers]


def test_every_address_is_counted_once_whoever_has_or_keeps_it() -> None:
    addresses = [
        *places(AddressState.BOUND, 130, 140, 205),
        *places(AddressState.RESERVED, 131, 206),
        *places(AddressState.FREE, 132, 207),
        *places(AddressState.CLAIMED, 10),
    ]
    counted = usage([Span(ip_address("9.0.0.130"), ip_address("9.0.0.254"))], addresses, BOTH)
    assert (counted.size, counted.used) == (125, 3)
    assert counted.reserved == 22 - 2 + 1
    assert counted.free + counted.used + counted.reserved == counted.size


@given(st.data())
def test_free_used_and_reserved_make_the_size(data: st.DataObject) -> None:
    numbers = range(130, 160)
    state = st.sampled_from([*AddressState])
    states = data.draw(st.dictionaries(st.sampled_from(numbers), state))
    gap = sorted(data.draw(st.tuples(st.sampled_from(numbers), st.sampled_from(numbers))))
    gaps = [kept(f"9.0.0.{gap[0]}", f"9.0.0.{gap[1]}")]
    addresses = [record for number, state in states.items() for record in places(state, number)]
    counted = usage([Span(ip_address("9.0.0.130"), ip_address("9.0.0.159"))], addresses, gaps)
    held = {number for number, state in states.items() if state in HELD}
    reserved = {number for number, state in states.items() if state is AddressState.RESERVED}
    reserved |= set(range(gap[0], gap[1] + 1)) - held
    assert (counted.used, counted.reserved, counted.free) == (len(held), len(reserved), 30 - len(held | reserved))


# -- who runs at the wrong address


def with_web_at(text: str, container: str = "web") -> list[AddressRecord]:
    bound = recorded(text, AddressState.BOUND, endpoint=WEB, network=DCOS)
    return [msgspec.structs.replace(bound, container=container)]


def test_a_container_without_the_address_that_is_reserved_for_it_is_told_how_to_have_it() -> None:
    (said,) = strays(records(reservations=[WEBS], addresses=with_web_at("9.0.0.130")))
    assert said.startswith("container web has 9.0.0.130, not 9.0.0.140, which is reserved for it")
    assert "Docker Engine 29 gives it at the next start" in said
    assert "`--net dcos --ip 9.0.0.140`" in said


def test_a_container_is_told_that_docker_gives_nothing_by_ip_from_a_later_half() -> None:
    later = kept("9.0.7.140", container="web")
    (said,) = strays(records(reservations=[later], addresses=with_web_at("9.0.0.130")))
    assert said.endswith(
        "Docker Engine 29 gives it at the next start; earlier ones take --ip only from the network's first half"
    )
    assert start_words(later.first, network()) is None


def test_on_a_network_without_ipam_it_is_told_the_driver_opt() -> None:
    alone = msgspec.structs.replace(network(), options=NetworkOptions(overlay="dcos"))
    (said,) = strays(records(reservations=[WEBS], addresses=with_web_at("9.0.0.130"), networks=[alone]))
    assert "`--network name=dcos,driver-opt=dni.address=9.0.0.140`" in said
    assert "Engine 29" not in said


def test_a_container_with_the_address_of_another_is_named() -> None:
    (said,) = strays(records(reservations=[WEBS], addresses=with_web_at("9.0.0.140", "thief")))
    assert said == "container thief has 9.0.0.140, which is reserved for container web"


def test_who_has_what_is_reserved_for_it_is_not_worth_a_word() -> None:
    assert list(strays(records(reservations=BOTH, addresses=with_web_at("9.0.0.140")))) == []
    assert list(strays(records(reservations=BOTH, networks=[], endpoints=[], addresses=[]))) == []


def test_ipv6_has_options_of_its_own() -> None:
    six = ip_address("fd01:b::8000:0:8c")
    alone = msgspec.structs.replace(network(), options=NetworkOptions(overlay="dcos"))
    assert start_words(six, network()) == "--net dcos --ip6 fd01:b::8000:0:8c"
    assert start_words(six, alone) == "--network name=dcos,driver-opt=dni.address6=fd01:b::8000:0:8c"
