# SPDX-License-Identifier: Apache-2.0
"""The nftables table, word for word."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv4Network, ip_address, ip_network

import pytest

from dni_driver.core.data_plane.entries import Entries, Key
from dni_driver.core.names import LONGEST
from dni_driver.core.overlays import define
from dni_driver.core.peers import Vtep
from dni_driver.core.wanted import Policy, Wanted
from dni_driver.kernel.firewall import nft


def policy(
    overlay: str, *subnets: str, masquerade: bool = True, isolated: bool = True, internal: bool = False,
    local: tuple[str, ...] = (),
) -> Policy:  # fmt: skip
    return Policy(
        overlay=overlay,
        bridges=(f"d-{overlay}", f"m-{overlay}"),
        subnets=tuple(map(ip_network, subnets)),
        masquerade=masquerade,
        isolated=isolated,
        internal=internal,
        local=tuple(map(IPv4Network, local)),
    )


def rendered(*policies: Policy, elsewhere: tuple[str, ...] = ()) -> str:
    return nft.ruleset(Wanted(policies=policies, overlay_subnets=tuple(map(ip_network, elsewhere))))


def test_without_networks_the_table_is_removed() -> None:
    assert rendered() == "add table inet dni\ndelete table inet dni\n"


def test_one_overlay_in_full() -> None:
    assert rendered(policy("dcos", "9.0.0.0/8", "fd01:b::/64"), elsewhere=("9.0.0.0/8", "10.64.0.0/16")) == (
        """\
add table inet dni
delete table inet dni
table inet dni {
	set bridges { type ifname; elements = { "d-dcos", "m-dcos" }; }

	set overlays4 { type ipv4_addr; flags interval; auto-merge; elements = { 9.0.0.0/8, 10.64.0.0/16 }; }

	set hidden4 { type ipv4_addr; flags interval; auto-merge; elements = { 9.0.0.0/8 }; }

	set overlays6 { type ipv6_addr; flags interval; auto-merge; elements = { fd01:b::/64 }; }

	set hidden6 { type ipv6_addr; flags interval; auto-merge; elements = { fd01:b::/64 }; }

	chain forward {
		type filter hook forward priority filter - 1; policy accept;
		ct state established,related accept
		oifname vmap { "d-dcos" : jump to-dcos, "m-dcos" : jump to-dcos }
	}

	chain to-dcos {
		iifname { "d-dcos", "m-dcos" } accept
		iifname "vtep1024" ip saddr { 9.0.0.0/8 } accept
		iifname "vtep1024" ip6 saddr { fd01:b::/64 } accept
		ct status dnat accept
		drop
	}

	chain disguised {
		ct state established,related return
		iifname @bridges ip daddr != @overlays4 drop
		iifname @bridges ip6 daddr != @overlays6 drop
		iifname @bridges fib daddr type local drop
		ip saddr @overlays4 fib daddr type local drop
		ip6 saddr @overlays6 fib daddr type local drop
	}

	chain suspects {
		iifname @bridges goto disguised
		ip saddr @overlays4 goto disguised
		ip6 saddr @overlays6 goto disguised
	}

	chain tunnel {
		type filter hook prerouting priority filter - 1; policy accept;
		udp dport 64000 jump suspects
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @hidden4 ip daddr != @overlays4 oifname != @bridges masquerade
		ip6 saddr @hidden6 ip6 daddr != @overlays6 oifname != @bridges masquerade
	}
}
"""
    )


def test_an_internal_overlay_has_an_entrance_and_an_exit_and_no_replies() -> None:
    text = rendered(policy("shut", "10.66.0.0/16", internal=True))
    assert 'iifname vmap { "d-shut" : jump from-shut, "m-shut" : jump from-shut }' in text
    assert (
        """\
	chain to-shut {
		iifname { "d-shut", "m-shut" } accept
		iifname "vtep1024" ip saddr { 10.66.0.0/16 } accept
		drop
	}

	chain from-shut {
		oifname { "d-shut", "m-shut" } return
		oifname "vtep1024" ip daddr { 10.66.0.0/16 } return
		drop
	}
"""
        in text
    )
    assert "masquerade" not in text


def test_an_open_overlay_has_neither() -> None:
    text = rendered(policy("open", "10.65.0.0/16", isolated=False))
    assert "vmap" not in text
    assert "\t\tdrop" not in text


def test_where_no_overlay_speaks_ipv4_no_container_reaches_that_port_by_it_at_all() -> None:
    lines = chain(rendered(policy("six", "fd06::/64", local=("198.18.0.0/20",))), "disguised")
    assert lines[1:3] == ["iifname @bridges meta nfproto ipv4 drop", "iifname @bridges ip6 daddr != @overlays6 drop"]


def test_where_no_overlay_speaks_ipv4_a_local_subnet_is_masqueraded_wherever_it_leaves_for() -> None:
    lines = chain(rendered(policy("six", "fd06::/64", local=("198.18.0.0/20",))), "postrouting")
    assert lines[1:] == [
        "ip saddr @hidden4 oifname != @bridges masquerade",
        "ip6 saddr @hidden6 ip6 daddr != @overlays6 oifname != @bridges masquerade",
    ]


def test_where_somebody_else_keeps_the_vtep_other_agents_still_come_in_by_it() -> None:
    policies = (policy("dcos", "9.0.0.0/8"),)
    alone, hosted = (nft.ruleset(Wanted(policies=policies, hosted=hosted)) for hosted in (False, True))
    entrance = 'iifname "vtep1024" ip saddr 44.128.0.0/20 accept'
    assert entrance not in alone
    assert entrance in hosted
    assert 'iifname "vtep1024" ip6 saddr fd01:a::/64 accept' in hosted


def test_what_belongs_to_a_connection_is_judged_before_all_but_internal_networks() -> None:
    """An internal overlay gets no replies, and what it sends must not get through as a reply into another one."""
    text = rendered(policy("dcos", "9.0.0.0/8"), policy("shut", "10.66.0.0/16", internal=True))
    assert (
        """\
		iifname vmap { "d-shut" : jump from-shut, "m-shut" : jump from-shut }
		oifname vmap { "d-shut" : jump to-shut, "m-shut" : jump to-shut }
		ct state established,related accept
		oifname vmap { "d-dcos" : jump to-dcos, "m-dcos" : jump to-dcos }
"""
        in text
    )


@pytest.mark.parametrize("name", ["0-x_y", "7", "a" * LONGEST, "a_-"])
def test_any_overlay_name_makes_a_chain_name(name: str) -> None:
    text = rendered(policy(name, "10.0.0.0/8"))
    assert f"chain to-{name} {{" in text


LOCAL = ("198.18.0.0/20",)


@pytest.mark.parametrize("masquerade", [True, False])
def test_a_local_subnet_is_masqueraded_always_and_comes_from_no_other_agent(masquerade: bool) -> None:  # noqa: FBT001
    text = rendered(policy("six", "fd06::/64", masquerade=masquerade, local=LOCAL), policy("dcos", "9.0.0.0/8"))
    assert (
        "set hidden4 { type ipv4_addr; flags interval; auto-merge; elements = { 198.18.0.0/20, 9.0.0.0/8 }; }" in text
    )
    assert ("set hidden6" in text) == masquerade
    assert 'iifname "vtep1024" ip6 saddr { fd06::/64 } accept' in text
    assert "198.18.0.0/20 } accept" not in text


def test_a_local_subnet_of_an_internal_network_goes_nowhere() -> None:
    assert "masquerade" not in rendered(policy("six", "fd06::/64", internal=True, local=LOCAL))


GUESTS: dict[Key, str] = {("guest subnet", "9.0.2.0"): "", ("guest agent", "10.0.0.2"): ""}
GUESTS6: dict[Key, str] = {
    ("guest subnet", "9.0.2.0"): "",
    ("guest subnet", "fd01:b:0:0:2::"): "",
    ("guest agent", "fd00::2"): "",
    ("guest agent", "44.128.0.2"): "",
}


def in_a_cluster(*policies: Policy, agent: str = "10.0.0.1", guests: Entries = GUESTS) -> str:
    overlays = (define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")]),)
    wanted = Wanted(
        policies=policies,
        overlay_subnets=tuple(overlays[0].subnets()),
        overlays=overlays,
        vtep=Vtep(IPv4Interface("44.128.0.1/20")),
        agent=ip_address(agent),
    )
    return nft.ruleset(wanted, "eth0", guests)


def chain(ruleset: str, name: str) -> list[str]:
    found = re.search(rf"\tchain {name} {{\n(.*?)\n\t}}", ruleset, re.DOTALL)
    assert found
    return [line.strip() for line in found[1].splitlines()]


def test_in_a_cluster_the_overlay_and_the_agents_come_in_by_either_path() -> None:
    ruleset = in_a_cluster(policy("dcos", "9.0.0.0/8", "fd01:b::/64"))
    assert chain(ruleset, "to-dcos") == [
        'iifname { "d-dcos", "m-dcos" } accept',
        'iifname "vtep1024" ip saddr { 9.0.0.0/8 } accept',
        'iifname "vtep1024" ip6 saddr { fd01:b::/64 } accept',
        'iifname "eth0" ip saddr { 9.0.0.0/8 } ip saddr & 255.255.255.0 @peer-subnets accept',
        "ct status dnat accept",
        'iifname "vtep1024" ip saddr 44.128.0.0/20 accept',
        'iifname "vtep1024" ip6 saddr fd01:a::/64 accept',
        'iifname "eth0" ip saddr @peer-agents accept',
        "drop",
    ]
    assert "set peer-subnets { type ipv4_addr; elements = { 9.0.2.0 }; }" in ruleset
    assert "set peer-agents { type ipv4_addr; elements = { 10.0.0.2 }; }" in ruleset


def test_among_agents_of_ipv6_addresses_both_families_come_in_directly() -> None:
    ruleset = in_a_cluster(policy("dcos", "9.0.0.0/8", "fd01:b::/64"), agent="fd00::1", guests=GUESTS6)
    assert [line for line in chain(ruleset, "to-dcos") if line.startswith('iifname "eth0"')] == [
        'iifname "eth0" ip saddr { 9.0.0.0/8 } ip saddr & 255.255.255.0 @peer-subnets accept',
        'iifname "eth0" ip6 saddr { fd01:b::/64 } ip6 saddr & ffff:ffff:ffff:ffff:ffff:: @peer-subnets6 accept',
        'iifname "eth0" ip saddr @peer-agents accept',
        'iifname "eth0" ip6 saddr @peer-agents6 accept',
    ]
    for name, kind, member in (
        ("peer-subnets", "ipv4_addr", "9.0.2.0"),
        ("peer-agents", "ipv4_addr", "44.128.0.2"),
        ("peer-subnets6", "ipv6_addr", "fd01:b:0:0:2::"),
        ("peer-agents6", "ipv6_addr", "fd00::2"),
    ):
        assert f"set {name} {{ type {kind}; elements = {{ {member} }}; }}" in ruleset


def departures(*, bridges: str) -> list[str]:
    """Answer what is sent on to nobody, where no `bridges` are those of an overlay."""
    found = []
    for ip, number, members in (("ip", 4, "{ 9.0.0.0/8 }"), ("ip6", 6, "{ fd01:b::/64 }")):
        known, to = f"@overlays{number}", f"{ip} daddr {members}"
        forged = f"{bridges}{ip} saddr {known} {to} ct state invalid,new drop"
        found += [
            f'oifname "vtep1024" {forged}',
            f'oifname "eth0" iifname != "eth0" {forged}',
            f'oifname {{ "vtep1024", "eth0" }} {ip} saddr != {known} {to} ct state new drop',
        ]
    return found


def test_who_has_an_overlays_address_is_sent_on_from_its_bridges_alone_and_who_has_none_never() -> None:
    ruleset = in_a_cluster(policy("dcos", "9.0.0.0/8", "fd01:b::/64"))
    assert chain(ruleset, "forward")[2:8] == departures(bridges="iifname != @bridges ")


def test_without_a_network_nobody_is_sent_on_to_another_agents_containers() -> None:
    assert chain(in_a_cluster(), "forward")[2:] == departures(bridges="")


def test_into_an_open_overlay_anybody_is_sent_on() -> None:
    ruleset = in_a_cluster(policy("dcos", "9.0.0.0/8", "fd01:b::/64", isolated=False))
    assert "new drop" not in ruleset
    assert chain(ruleset, "forward") == ["type filter hook forward priority filter - 1; policy accept;"]


def test_an_internal_overlay_is_for_its_own_on_other_hosts_too() -> None:
    ruleset = in_a_cluster(policy("dcos", "9.0.0.0/8", internal=True))
    assert chain(ruleset, "to-dcos")[1:] == [
        'iifname "vtep1024" ip saddr { 9.0.0.0/8 } accept',
        'iifname "eth0" ip saddr { 9.0.0.0/8 } ip saddr & 255.255.255.0 @peer-subnets accept',
        "drop",
    ]
    assert chain(ruleset, "from-dcos")[1:] == [
        'oifname "vtep1024" ip daddr { 9.0.0.0/8 } return',
        'oifname "eth0" ip daddr { 9.0.0.0/8 } ip daddr & 255.255.255.0 @peer-subnets return',
        "drop",
    ]
