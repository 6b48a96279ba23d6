# SPDX-License-Identifier: Apache-2.0
"""Other agents, and the VTEPs by which they are reached (the words of dcos-net's data plane)."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, IPv6Network

import msgspec

from dni_driver.core.overlays import Address, AgentSubnet

VTEP_SUBNET6 = IPv6Network("fd01:a::/64")
"""Where the VTEPs of IPv6 overlays have their addresses: the host part is the IPv4 one's place in its subnet."""

VNI = 1024
VXLAN_PORT = 64000
_OUI = "70:b3:d5"


class Vtep(msgspec.Struct, frozen=True):
    """An agent's VXLAN end point: its address with the mask of all VTEPs, `44.128.0.2/20`."""

    ip: IPv4Interface

    @property
    def ip6(self) -> IPv6Interface:
        """Answer its IPv6 address: `fd01:a::2/64` of `44.128.0.2/20`."""
        place = int(self.ip.ip) - int(self.ip.network.network_address)
        return IPv6Interface((int(VTEP_SUBNET6.network_address) + place, VTEP_SUBNET6.prefixlen))

    @property
    def mac(self) -> str:
        """Answer its MAC: DC/OS's OUI and the low 24 bits of the address, `70:b3:d5:80:00:02`."""
        return ":".join([_OUI, *(f"{octet:02x}" for octet in self.ip.ip.packed[1:])])


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another agent: where it is, its VTEP, and the agent subnets it holds of all overlays."""

    agent_ip: Address
    vtep: Vtep
    subnets: tuple[AgentSubnet, ...] = ()
