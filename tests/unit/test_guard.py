# SPDX-License-Identifier: Apache-2.0
"""What each link may send as, and the table that sees to it, word for word."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import msgspec

from dni_driver.core.guard import permits
from dni_driver.core.wanted import Link
from dni_driver.kernel.firewall.guard_table import ruleset

LOCAL = ip_address("fe80::42:9ff:fe00:82")
"""What 02:42:09:00:00:82 makes."""


def link(name: str, *addresses: str, mac: str = "02:42:09:00:00:82", sandbox: str | None = None) -> Link:
    return Link(
        endpoint=name * 64,
        host=f"dni{name * 11}",
        container=f"dnc{name * 11}",
        bridge="d-dcos",
        mtu=1450,
        mac=mac,
        addresses=tuple(map(ip_interface, addresses)),
        gateways=(),
        sandbox=sandbox,
    )


WEB = link("1", "9.0.0.130/25", "fd01:b::2/81")


def test_a_link_may_send_as_its_mac_its_addresses_and_its_link_local_address() -> None:
    allowed = permits([WEB])
    assert allowed.macs == {(WEB.host, WEB.mac)}
    assert allowed.addresses == {
        (WEB.host, WEB.mac, ip_address(text)) for text in ("9.0.0.130", "fd01:b::2", str(LOCAL))
    }
    assert allowed.free == set()


def test_links_of_one_sandbox_may_send_as_each_others_addresses_but_link_local_ones() -> None:
    one = link("1", "9.0.0.130/25", sandbox="/run/netns/a")
    two = link("2", "10.64.0.130/25", mac="02:42:0a:40:00:82", sandbox="/run/netns/a")
    other = link("3", "9.0.0.131/25", mac="02:42:09:00:00:83", sandbox="/run/netns/b")
    addresses = permits([one, two, other]).addresses
    assert {str(address) for host, _, address in addresses if host == one.host} == {
        "9.0.0.130",
        "10.64.0.130",
        str(LOCAL),
    }
    assert {str(address) for host, _, address in addresses if host == other.host} == {
        "9.0.0.131",
        "fe80::42:9ff:fe00:83",
    }


def test_links_whose_sandbox_is_not_known_have_nothing_in_common() -> None:
    addresses = permits([link("1", "9.0.0.130/25"), link("2", "9.0.0.131/25")]).addresses
    assert {host for host, _, address in addresses if str(address) == "9.0.0.131"} == {link("2").host}


def test_a_link_that_may_spoof_is_free_and_its_neighbour_is_not() -> None:
    allowed = permits([msgspec.structs.replace(WEB, spoof=True), link("2", "9.0.0.131/25")])
    assert allowed.free == {WEB.host}
    assert {host for host, _ in allowed.macs} == {host for host, _, _ in allowed.addresses} == {link("2").host}


def test_the_table_in_full() -> None:
    assert ruleset(permits([WEB, msgspec.structs.replace(link("2", "9.0.0.131/25"), spoof=True)])) == (
        """\
add table bridge dni
delete table bridge dni
table bridge dni {
	set free { type ifname; elements = { "dni22222222222" }; }
	set macs { type ifname . ether_addr; elements = { "dni11111111111" . 02:42:09:00:00:82 }; }
	set ipv4 { type ifname . ether_addr . ipv4_addr; \
elements = { "dni11111111111" . 02:42:09:00:00:82 . 9.0.0.130 }; }
	set ipv6 { type ifname . ether_addr . ipv6_addr; \
elements = { "dni11111111111" . 02:42:09:00:00:82 . fd01:b::2, \
"dni11111111111" . 02:42:09:00:00:82 . fe80::42:9ff:fe00:82 }; }
	set targets { typeof iifname . @th,64,128; elements = { "dni11111111111" . 0xfd01000b000000000000000000000002, \
"dni11111111111" . 0xfe80000000000000004209fffe000082 }; }

	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname "dni*" ether type ip iifname . ether saddr . ip saddr @ipv4 accept
		iifname "dni*" iifname != @free jump sender
	}

	chain input {
		type filter hook input priority -300; policy accept;
		ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 iifname "dni*" iifname != @free drop
	}

	chain sender {
		ether type ip6 goto from-ipv6
		ether type arp goto from-arp
		drop
	}

	chain from-arp {
		iifname . arp saddr ether != @macs drop
		iifname . ether saddr . arp saddr ip @ipv4 accept
		iifname . ether saddr @macs arp saddr ip 0.0.0.0 arp operation request accept
		drop
	}

	chain from-ipv6 {
		icmpv6 type nd-router-advert drop
		icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets drop
		iifname . ether saddr . ip6 saddr @ipv6 accept
		ip6 saddr != :: drop
		iifname . ether saddr != @macs drop
		icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets accept
		icmpv6 type { 131, 132, 133, 143 } accept
		drop
	}
}
"""
    )
