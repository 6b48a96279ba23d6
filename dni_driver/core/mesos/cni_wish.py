# SPDX-License-Identifier: Apache-2.0
"""What dni-cni asks of the agent, and what it is answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from dni_driver.core.cni_records import cni_endpoint_id
from dni_driver.core.errors import Refused
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.groups import check_groups
from dni_driver.core.options.labels import options_of
from dni_driver.core.overlays import Address, Family, family_of
from dni_driver.core.wanted import Link


class CniKey(msgspec.Struct, frozen=True, kw_only=True):
    """Which endpoint is meant: by the overlay, and what the runtime calls it by."""

    overlay: str
    container: str
    ifname: str

    @property
    def endpoint(self) -> str:
        """Answer the endpoint's id."""
        return cni_endpoint_id(self.overlay, self.container, self.ifname)


class CniWish(CniKey, frozen=True, kw_only=True):
    """An endpoint that is asked for: where it is to be, and which addresses it is to have, one of a family.

    `options` are the limits it is held to and the groups it is in.
    """

    sandbox: str
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    options: EndpointOptions = EndpointOptions()

    def asked(self, family: Family) -> Address | None:
        """Answer the address asked for."""
        return next((address for address in self.addresses if family_of(address) == family), None)


class CniAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address with its mask, and the gateway of its half; None where nothing leads outside."""

    address: str
    gateway: str | None


class CniRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route of the container."""

    dst: str
    gw: str


class CniReport(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it was made: both ends of its link, its addresses and routes."""

    bridge: str
    host: str
    ifname: str
    sandbox: str
    mac: str
    mtu: int
    addresses: list[CniAddress]
    routes: list[CniRoute]


def read_addresses(texts: Iterable[str]) -> tuple[Address, ...]:
    """Read the addresses asked for; raise Refused for what is none, and for two of a family."""
    found: dict[Family, Address] = {}
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError:
            raise Refused(f"{text[:60]!r} is not an IP address: ask for one such as 9.0.0.2, or for none") from None
        if family_of(address) in found:
            raise Refused(f"{found[family_of(address)]} and {address} are asked for: a container has one of a family")
        found[family_of(address)] = address
    return tuple(found.values())


def read_options(labels: Mapping[str, str], groups: Sequence[str]) -> EndpointOptions:
    """Read labels `dni.…`, and groups that are named beside them; raise Refused for what is neither."""
    options = options_of(labels)
    named = check_groups([*(options.groups or ()), *groups])
    return msgspec.structs.replace(options, groups=named or None)


def report(link: Link) -> CniReport:
    """Report an endpoint by its link."""
    return CniReport(
        bridge=link.bridge,
        host=link.host,
        ifname=str(link.ifname),
        sandbox=str(link.sandbox),
        mac=link.mac,
        mtu=link.mtu,
        addresses=[
            CniAddress(address=str(address), gateway=_gateway(address.version, link.gateways))
            for address in link.addresses
        ],
        routes=[
            *(CniRoute(dst=_DEFAULT[ip_address(gateway).version], gw=gateway) for gateway in link.gateways),
            *(CniRoute(dst=str(route.subnet), gw=route.gateway) for route in link.routes),
        ],
    )


_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


def _gateway(version: int, gateways: Sequence[str]) -> str | None:
    return next((gateway for gateway in gateways if ip_address(gateway).version == version), None)
