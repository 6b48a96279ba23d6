# SPDX-License-Identifier: Apache-2.0
"""The Mesos half as the store has it: overlays that containers of CNI may be on, and their endpoints."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv4Interface, IPv6Interface

import msgspec

from dni_driver.core.options.endpoint import EndpointOptions


class CniNetworkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An overlay whose Mesos half containers on this host may have addresses of, with the MTU of bridge `m-NAME`."""

    overlay: str
    mtu: int
    since: float = 0.0


class CniEndpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place in the Mesos half, asked for by dni-cni.

    `container` and `ifname` are what the runtime calls it by (CNI_CONTAINERID, CNI_IFNAME), `sandbox` the path of its
    network namespace. Of `options` limits and groups are asked for so.
    """

    id: str
    overlay: str
    container: str
    ifname: str
    sandbox: str
    mac: str
    address: IPv4Interface | None = None
    address6: IPv6Interface | None = None
    since: float = 0.0
    options: EndpointOptions = EndpointOptions()

    def interfaces(self) -> list[IPv4Interface | IPv6Interface]:
        """Answer its addresses with their masks, IPv4 first."""
        return [address for address in (self.address, self.address6) if address is not None]


def cni_endpoint_id(overlay: str, container: str, ifname: str) -> str:
    """Answer the id of an endpoint: 64 digits, as Docker's have, that follow from what the runtime calls it by."""
    return sha256(f"{overlay}\n{container}\n{ifname}".encode()).hexdigest()
