# SPDX-License-Identifier: Apache-2.0
"""The nftables table of published ports, word for word, and its elements as the kernel keeps them."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address

import pytest

from dni_driver.core.ports import HostPort, Protocol, Published
from dni_driver.core.wanted import Bridge
from dni_driver.kernel.ports.table import (
    Entry,
    changes,
    entries,
    map_of,
    meetings,
    neighbours,
    parsed,
    ruleset,
    structure,
)

BRIDGE = Bridge(
    name="d-dcos", addresses=(IPv4Interface("9.0.0.129/25"), IPv6Interface("fd01:b::8000:0:1/81")), mtu=1450
)


def entry(ip: str, port: int, target: str, inside: int, protocol: Protocol = Protocol.TCP) -> Entry:
    return HostPort(protocol, ip_address(ip), port), ip_address(target), inside


WEB = entry("0.0.0.0", 8080, "9.0.0.130", 80)
WEB6 = entry("::", 8080, "fd01:b::8000:0:2", 80)
DNS = entry("192.0.2.10", 53, "9.0.0.131", 5353, Protocol.UDP)


def test_the_table_is_replaced_as_a_whole() -> None:
    text = ruleset([BRIDGE], [Published(at=WEB[0], target=WEB[1], port=WEB[2], bridge="d-dcos")])
    assert text.startswith("add table inet dni-ports\ndelete table inet dni-ports\ntable inet dni-ports {\n")
    assert text.endswith("}\nadd element inet dni-ports any4 { tcp . 8080 : 9.0.0.130 . 80 }\n")


def test_there_is_a_map_for_each_family_at_one_address_and_at_all() -> None:
    text = structure([])
    for line in (
        "map one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }",
        "map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }",
        "map one6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }",
        "map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }",
    ):
        assert line in text


def test_a_port_at_one_address_goes_before_one_at_all() -> None:
    text = structure([])
    assert text.index("map @one4") < text.index("map @any4")
    assert text.index("map @one6") < text.index("map @any6")
    assert text.index("ip6 daddr { ::1, fe80::/10 } return") < text.index("map @one4")


def test_who_would_be_answered_past_the_host_comes_under_its_name() -> None:
    text = structure([BRIDGE])
    for line in (
        'oifname "d-*" ct status dnat ip saddr 127.0.0.0/8 masquerade',
        'oifname "d-dcos" ct status dnat ip saddr 9.0.0.128/25 masquerade',
        'oifname "d-dcos" ct status dnat ip6 saddr fd01:b::8000:0:0/81 masquerade',
    ):
        assert f"\t\t{line}\n" in text


def test_neighbours_by_another_network_of_the_container_come_under_its_name_too() -> None:
    one = Published(at=WEB[0], target=ip_address("10.64.0.130"), port=80, bridge="d-dev", beside=("d-dcos", "d-gone"))
    assert "\tset d-dcos-4 { type ipv4_addr; }\n\tset d-dcos-6 { type ipv6_addr; }\n" in structure([BRIDGE])
    rule = 'oifname "d-*" ct status dnat ip saddr 9.0.0.128/25 ip daddr @d-dcos-4 masquerade'
    assert f"\t\t{rule}\n" in structure([BRIDGE])
    assert neighbours([one], [BRIDGE]) == {("d-dcos", one.target)}
    assert ruleset([BRIDGE], [one]).endswith("\nadd element inet dni-ports d-dcos-4 { 10.64.0.130 }\n")
    assert meetings([("d-dcos", one.target)], [("d-dcos", ip_address("fd01:d::2"))]) == (
        "delete element inet dni-ports d-dcos-4 { 10.64.0.130 }\nadd element inet dni-ports d-dcos-6 { fd01:d::2 }\n"
    )


def test_containers_are_kept_off_this_hosts_loopback_under_either_name() -> None:
    for line in ('iifname "d-*" ip daddr 127.0.0.0/8 drop', 'iifname "d-*" ip saddr 127.0.0.0/8 drop'):
        assert f"\t\t{line}\n" in structure([])


def test_elements_go_before_others_come() -> None:
    assert changes([WEB, DNS], [WEB6]) == (
        "delete element inet dni-ports any4 { tcp . 8080 }\n"
        "delete element inet dni-ports one4 { 192.0.2.10 . udp . 53 }\n"
        "add element inet dni-ports any6 { tcp . 8080 : fd01:b::8000:0:2 . 80 }\n"
    )
    assert changes([], []) == ""


def test_what_is_published_makes_elements() -> None:
    one = Published(at=WEB[0], target=WEB[1], port=80, bridge="d-dcos")
    assert entries([one, one]) == {WEB}


@pytest.mark.parametrize(
    ("name", "key", "data", "meant"),
    [
        ("any4", "060000001f900000", "0900008200500000", WEB),
        ("one4", "c000020a1100000000350000", "0900008314e90000", DNS),
        ("any6", "060000001f900000", "fd01000b00000000000080000000000200500000", WEB6),
    ],
)
def test_elements_are_read_as_the_kernel_keeps_them(name: str, key: str, data: str, meant: Entry) -> None:
    assert map_of(meant[0]) == name
    assert parsed(name, bytes.fromhex(key), bytes.fromhex(data)) == meant
