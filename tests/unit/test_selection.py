# SPDX-License-Identifier: Apache-2.0
"""Which pool a RequestPool means, and what a user is told where it means none."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.addresses.selection import (
    Choice,
    Known,
    OverlayChosen,
    OverlayDefined,
    PlainChosen,
    PoolRequest,
    check_range,
    choose_pool,
    under_way,
)
from dni_driver.core.errors import BadName, InUse, NotFound, Refused
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.overlays import AgentSubnet, Network, Overlay, define
from dni_driver.core.records import CREATION_SECONDS, Held, PoolRecord
from tests import strategies
from tests.fakes import DCOS, DUAL, SIX
from tests.unit.refusals import refusal

HELD: list[Held] = [
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")),
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("10.64.3.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("fd01:b:0:0:3::/80")),
]
KNOWN = Known(overlays=[DCOS, DUAL], held=HELD, default="dcos")


def choose(pool: str = "", ip_range: str = "", family: int = 4, default: str = "dcos", **options: str) -> Choice:
    request = PoolRequest(
        pool=ip_network(pool) if pool else None,
        ip_range=ip_network(ip_range) if ip_range else None,
        options=options,
        family=6 if family == 6 else 4,
    )
    return choose_pool(request, Known(overlays=[DCOS, DUAL], held=HELD, default=default))


def test_without_a_word_the_default_overlay_is_meant() -> None:
    assert choose() == OverlayChosen(DCOS)
    assert choose(default="dual") == OverlayChosen(DUAL)


def test_a_missing_default_overlay_is_said_with_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"no overlay 'prod' \(known: dcos, dual\).*--ipam-opt overlay=prod"):
        choose(default="prod")


def test_a_name_is_enough() -> None:
    assert choose(overlay="dual") == OverlayChosen(DUAL)


def test_a_name_counts_more_than_the_default() -> None:
    assert choose(overlay="dcos", default="dual") == OverlayChosen(DCOS)


@pytest.mark.parametrize("pool", ["9.0.0.0/8", "9.0.0.128/25", "9.0.7.128/25"])
def test_an_overlays_subnet_or_docker_half_means_that_overlay(pool: str) -> None:
    assert choose(pool) == choose(pool, overlay="dcos") == OverlayChosen(DCOS)


@pytest.mark.parametrize("pool", ["fd01:b::/64", "fd01:b::3:8000:0:0/81"])
def test_so_do_those_of_ipv6(pool: str) -> None:
    assert choose(pool, family=6) == OverlayChosen(DUAL)


def test_a_name_with_another_subnet_is_refused_with_its_own() -> None:
    with pytest.raises(Refused, match=r"use --subnet 9\.0\.0\.0/8 or 9\.0\.0\.128/25 or 9\.0\.7\.128/25"):
        choose("10.64.0.0/16", overlay="dcos")


def test_a_new_name_with_a_subnet_defines_an_overlay() -> None:
    assert choose("10.80.0.0/16", overlay="dev") == OverlayDefined(
        Overlay(name="dev", subnet=ip_network("10.80.0.0/16"), prefix=24)  # type: ignore[arg-type]  # IPv4
    )


def test_a_new_overlay_may_say_prefix_and_backend() -> None:
    choice = choose("10.80.0.0/16", overlay="dev", prefix="26", backend="direct")
    assert isinstance(choice, OverlayDefined)
    assert (choice.overlay.prefix, choice.overlay.backend) == (26, "direct")


def test_a_new_ipv6_overlay_has_a_prefix6() -> None:
    choice = choose("fd02::/64", family=6, overlay="dev", prefix6="96")
    assert isinstance(choice, OverlayDefined)
    assert choice.overlay.space(6) == (ip_network("fd02::/64"), 96)
    assert choice.overlay.space(4) is None


def test_a_new_name_without_a_subnet_is_refused_with_the_overlays_there_are() -> None:
    with pytest.raises(NotFound, match=r"known: dcos, dual.*add --subnet, such as --subnet 10\.64\.0\.0/16"):
        choose(overlay="dev")


def test_a_new_overlay_has_a_name_of_the_rule() -> None:
    with pytest.raises(BadName, match="has 14 characters"):
        choose("10.80.0.0/16", overlay="x" * 14)


def test_a_new_overlay_overlaps_no_other() -> None:
    with pytest.raises(InUse, match=r"overlaps 9.0.0.0/8 of overlay 'dcos'"):
        choose("9.1.0.0/16", overlay="dev")


@pytest.mark.parametrize("prefix", ["", "abc", "-1", "24.0", "1000", "\uff19"])
def test_a_prefix_is_a_number_of_bits(prefix: str) -> None:
    with pytest.raises(Refused, match="is not a number of bits"):
        choose("10.80.0.0/16", overlay="dev", prefix=prefix)


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused, match="backend=ipsec is not one of vxlan, direct, auto"):
        choose("10.80.0.0/16", overlay="dev", backend="ipsec")


def test_an_unknown_ipam_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused, match="--ipam-opt colour is not known to dni: use overlay, prefix"):
        choose(overlay="dcos", colour="red")


def test_options_of_a_new_overlay_need_its_name() -> None:
    with pytest.raises(Refused, match="add --ipam-opt overlay=NAME"):
        choose("10.80.0.0/16", prefix="26")


def test_a_subnet_of_no_overlay_is_a_plain_pool() -> None:
    assert choose("172.30.0.0/24") == PlainChosen(ip_network("172.30.0.0/24"))
    assert choose("fd77::/64", family=6) == PlainChosen(ip_network("fd77::/64"))


@pytest.mark.parametrize("pool", ["9.0.0.0/24", "9.0.0.0/25", "8.0.0.0/7", "9.3.128.0/25"])
def test_a_subnet_across_an_overlay_is_neither_and_the_right_ones_are_named(pool: str) -> None:
    with pytest.raises(Refused, match=r"across overlay 'dcos' \(9\.0\.0\.0/8\): use --subnet 9\.0\.0\.0/8 or 9\.0"):
        choose(pool)


@pytest.mark.parametrize(("pool", "family"), [("172.30.0.0/31", 4), ("172.30.0.1/32", 4), ("fd77::/127", 6)])
def test_a_plain_pool_has_room_for_a_gateway_and_a_container(pool: str, family: int) -> None:
    with pytest.raises(Refused, match="no room for a gateway and a container"):
        choose(pool, family=family)


def test_the_smallest_plain_pools_are_taken() -> None:
    assert choose("172.30.0.0/30") == PlainChosen(ip_network("172.30.0.0/30"))
    assert choose("fd77::/126", family=6) == PlainChosen(ip_network("fd77::/126"))


def test_a_range_needs_its_subnet() -> None:
    with pytest.raises(Refused, match="--ip-range needs --subnet"):
        choose(ip_range="9.0.0.192/26")


@pytest.mark.parametrize("ip_range", ["172.31.0.0/24", "172.0.0.0/8", "fd77::/64"])
def test_a_plain_pools_range_lies_in_its_subnet(ip_range: str) -> None:
    with pytest.raises(Refused, match=r"lies outside --subnet 172.30.0.0/24"):
        choose("172.30.0.0/24", ip_range)
    assert choose("172.30.0.0/24", "172.30.0.128/25") == PlainChosen(ip_network("172.30.0.0/24"))


def test_an_overlays_range_lies_in_a_half_of_this_agent() -> None:
    halves = [ip_network("9.0.0.128/25"), ip_network("9.0.7.128/25")]
    check_range(None, "dcos", halves)
    check_range(ip_network("9.0.0.192/26"), "dcos", halves)
    check_range(ip_network("9.0.7.128/25"), "dcos", halves)
    for outside in ("9.0.0.0/25", "9.0.0.0/24", "fd00::/64"):
        with pytest.raises(Refused, match=r"choose a range inside 9\.0\.0\.128/25 or 9\.0\.7\.128/25"):
            check_range(ip_network(outside), "dcos", halves)


@given(strategies.subnets() | st.none(), st.dictionaries(st.sampled_from(["overlay", "prefix", "colour"]), st.text()))
def test_every_request_is_answered_or_refused(pool: Network | None, options: dict[str, str]) -> None:
    request = PoolRequest(pool=pool, options=options, family=6 if pool and pool.version == 6 else 4)
    assert refusal(lambda: choose_pool(request, KNOWN)) != ""


@given(strategies.subnets())
def test_a_plain_pool_never_shares_an_address_with_an_overlay(pool: Network) -> None:
    with contextlib.suppress(Refused):
        choice = choose(str(pool), family=pool.version)
        assert isinstance(choice, OverlayChosen) or not any(
            subnet.version == pool.version and subnet.overlaps(pool) for subnet in (*DCOS.subnets(), *DUAL.subnets())
        )


def test_describing_a_known_overlay_as_it_is_does_no_harm() -> None:
    assert choose(overlay="dual", prefix="24", prefix6="80", backend="vxlan") == OverlayChosen(DUAL)


@pytest.mark.parametrize(
    ("overlay", "options", "difference"),
    [
        ("dual", {"prefix": "26"}, "exists with prefix=24, not 26"),
        ("dual", {"prefix6": "96"}, "exists with prefix6=80, not 96"),
        ("dcos", {"prefix6": "96"}, "exists with prefix6=none, not 96"),
        ("dcos", {"backend": "direct"}, "exists with backend=vxlan, not direct"),
    ],
)
def test_a_known_overlay_described_otherwise_is_refused(
    overlay: str, options: dict[str, str], difference: str
) -> None:
    request = PoolRequest(options={"overlay": overlay, **options})
    with pytest.raises(Refused, match=f"{difference}: leave --ipam-opt .* out"):
        choose_pool(request, KNOWN)


def test_a_range_outside_a_new_overlay_is_refused_before_that_is_defined() -> None:
    with pytest.raises(Refused, match=r"--ip-range 10\.81\.0\.0/24 lies outside --subnet 10\.80\.0\.0/16"):
        choose("10.80.0.0/16", "10.81.0.0/24", overlay="dev")


LOCAL = "198.18.16.0/20"
DEV = define("dev", [ip_network("10.96.0.0/16")])
NOW = 1_700_000_000.0


def choose_six(pool: str = "", family: int = 4, **options: str) -> Choice:
    """Choose where there is an IPv6-only overlay, with a local subnet."""
    held = [*HELD, LocalSubnet(overlay="six", subnet=IPv4Network(LOCAL))]
    request = PoolRequest(pool=ip_network(pool) if pool else None, options=options, family=6 if family == 6 else 4)
    return choose_pool(request, Known(overlays=[DCOS, SIX], held=held, default="dcos"))


def on_trial(pool: str, *others: Overlay, prefix6: str = "80") -> Choice:
    """Choose while `dev`, which speaks IPv4, is on trial."""
    subnet = ip_network(pool)
    options = {"overlay": "dev", "prefix6": prefix6} if subnet.version == 6 else {"overlay": "dev"}
    request = PoolRequest(pool=subnet, options=options, family=6 if subnet.version == 6 else 4)
    known = Known(overlays=[DCOS, DEV, *others], held=HELD, default="dcos", on_trial=frozenset({"dev"}))
    return choose_pool(request, known)


def test_ipv4_can_be_had_beside_an_ipv6_only_overlay_where_no_subnet_is_named() -> None:
    assert choose_six(overlay="six") == OverlayChosen(SIX)
    assert choose_six(LOCAL, overlay="six") == choose_six(LOCAL) == OverlayChosen(SIX)
    with pytest.raises(
        Refused, match=r"'six' has no IPv4 subnet, and cannot .*: leave --subnet 172\.30\.0\.0/24 out"
    ):
        choose_six("172.30.0.0/24", overlay="six")


@pytest.mark.parametrize(("pool", "wrong"), [("", "--ipv6"), ("fd64::/64", "--subnet fd64::/64")])
def test_an_overlay_that_is_there_gets_no_ipv6_and_that_is_said_with_the_command_that_works(
    pool: str, wrong: str
) -> None:
    with pytest.raises(
        Refused, match=f"leave {wrong} out, or define .*`dni overlay create NAME --subnet CIDR --subnet6"
    ):
        choose(pool, family=6, overlay="dcos")


def test_an_overlay_on_trial_gets_the_family_that_the_second_subnet_brings() -> None:
    wide = define("dev", [*DEV.subnets(), ip_network("fd64::/64")], (24, 96))
    assert on_trial("fd64::/64", prefix6="96") == OverlayDefined(wide)
    assert on_trial("10.96.0.0/16") == OverlayChosen(DEV)


@pytest.mark.parametrize(
    ("pool", "prefix6", "words"),
    [
        ("fd01:b::/64", "80", "overlaps fd01:b::/64 of overlay 'dual'"),
        ("fd64::/64", "60", "its prefix must be 64 to 125"),
        ("fe80::/64", "80", "link-local"),
    ],
)
def test_what_a_new_overlay_could_not_have_one_on_trial_does_not_get(pool: str, prefix6: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        on_trial(pool, DUAL, prefix6=prefix6)


def asked(overlay: str | None, family: int = 4, since: float = NOW, uses: int = 1) -> PoolRecord:
    return PoolRecord(
        id=f"{overlay}/v{family}", family=6 if family == 6 else 4, overlay=overlay, uses=uses, since=since
    )


def test_the_overlay_asked_for_last_is_the_one_under_way() -> None:
    assert under_way([asked("dcos", since=NOW - 2), asked("dual", since=NOW - 1)], [], NOW) == "dual"


@pytest.mark.parametrize(
    "pools",
    [
        [],
        [asked("dual", uses=0)],
        [asked("dual", since=NOW - CREATION_SECONDS)],
        [asked("dual"), asked("dual", 6)],
        [asked("dcos")],
        [asked(None)],
    ],
    ids=["nothing", "given back", "long ago", "both families", "has its network", "plain"],
)
def test_nothing_else_is_under_way(pools: list[PoolRecord]) -> None:
    assert under_way(pools, {"dcos"}, NOW) is None
