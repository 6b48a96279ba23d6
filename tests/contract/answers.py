# SPDX-License-Identifier: Apache-2.0
"""What libnetwork checks in a plugin's answers, and what it does not check but cannot live without."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
Answer = Mapping[str, Any]

_LONGEST_DEVICE = 15


def pool(answer: Answer) -> tuple[str, Network, str]:
    """Read RequestPool's answer: id, subnet, and the gateway in its data. 27.0 keeps host bits: there may be none."""
    assert set(answer) <= {"PoolID", "Pool", "Data"}, answer
    assert answer["PoolID"]
    assert "%" not in answer["Pool"]
    data = answer.get("Data") or {}
    return answer["PoolID"], ip_network(answer["Pool"], strict=True), data.get("com.docker.network.gateway", "")


def address(answer: Answer) -> Interface:
    """Read RequestAddress's answer; its mask becomes the container's."""
    assert set(answer) <= {"Address", "Data"}, answer
    assert "/" in answer["Address"]
    assert "%" not in answer["Address"]
    return ip_interface(answer["Address"])


def mac(answer: Answer, given: Mapping[str, str]) -> str:
    """Read CreateEndpoint's answer: the MAC that counts. A field that was given must not come back, even equal."""
    assert set(answer) <= {"Interface"}, answer
    interface = answer.get("Interface") or {}
    assert set(interface) <= {"Address", "AddressIPv6", "MacAddress"}, interface
    for field, value in interface.items():
        assert not (value and given[field]), f"driver modified interface: {field} was given"
    chosen: str = given["MacAddress"] or interface.get("MacAddress", "")
    if not given["MacAddress"] and chosen:
        first = int(chosen.split(":", maxsplit=1)[0], 16)
        assert len(chosen.split(":")) == 6
        assert first & 1 == 0, "a MAC must be unicast"
        assert first & 2, "a MAC of one's own making must be locally administered"
    return chosen


def added(answer: Answer, given: Mapping[str, str]) -> dict[int, Interface]:
    """Read CreateEndpoint's answer: the addresses that the request did not have, by family."""
    interface = answer.get("Interface") or {}
    texts = [interface[field] for field in ("Address", "AddressIPv6") if interface.get(field)]
    assert all("/" in text for text in texts), "SetIPAddress takes a CIDR"
    found = {parsed.version: parsed for parsed in map(ip_interface, texts)}
    assert not (given["Address"] and 4 in found), "driver modified interface address"
    return {4 if version == 4 else 6: parsed for version, parsed in found.items()}


def gateways(answer: Answer, addresses: Mapping[int, Interface]) -> dict[int, str]:
    """Read Join's answer: the gateways by family. Each must be on-link for the endpoint's own address."""
    known = {"InterfaceName", "Gateway", "GatewayIPv6", "StaticRoutes", "DisableGatewayService"}
    assert set(answer) <= known, answer
    name = answer["InterfaceName"]
    assert set(name) == {"SrcName", "DstPrefix"}, name
    assert 0 < len(name["SrcName"]) <= _LONGEST_DEVICE
    assert name["DstPrefix"], "an empty prefix makes a link called 0"
    assert isinstance(answer.get("DisableGatewayService", False), bool)
    found = {4: answer.get("Gateway", ""), 6: answer.get("GatewayIPv6", "")}
    for family, gateway in found.items():
        if gateway:
            assert ip_address(gateway) in addresses[family].network, "route for the gateway could not be found"
    return {family: gateway for family, gateway in found.items() if gateway}


def routes(answer: Answer) -> dict[str, str]:
    """Read Join's answer: the next hops of its routes, by destination."""
    found = answer.get("StaticRoutes") or []
    for route in found:
        _check_route(route)
    return {route["Destination"]: route["NextHop"] for route in found}


def _check_route(route: Answer) -> None:
    ip_network(route["Destination"], strict=True)
    assert route["RouteType"] in (0, 1)
    assert bool(route.get("NextHop")) == (route["RouteType"] == 0)
