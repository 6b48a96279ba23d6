# SPDX-License-Identifier: Apache-2.0
"""What `--network name=…,driver-opt=KEY=VALUE` may say about one endpoint on a dni network."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import msgspec

from dni_driver.core.errors import Refused
from dni_driver.core.options.bandwidth import parse_rate
from dni_driver.core.options.groups import parse_groups
from dni_driver.core.overlays import Address

PREFIX = "dni."
"""May stand before each key, for those who give one set of options to several drivers."""

T = TypeVar("T", IPv4Address, IPv6Address)

_DOCKERS_OWN = "com.docker.network."
_IFNAME = "com.docker.network.endpoint.ifname"
_ALLOWED = ("spoof", "egress", "ingress", "address", "address6", "groups")
_SPOOF = {"allow": True, "deny": False}


class EndpointOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of one endpoint; None where its network's hold.

    `spoof`: let it send under addresses that are not its own. `address`, `address6`: have these and no others.
    `egress`, `ingress`: the bits a second that it may send and be sent, 0 for as many as it likes. `groups`: those it
    is in.
    """

    spoof: bool | None = None
    address: IPv4Address | None = None
    address6: IPv6Address | None = None
    egress: int | None = None
    ingress: int | None = None
    groups: tuple[str, ...] | None = None

    def asked(self) -> list[Address]:
        """Answer the addresses that are asked for, IPv4 first."""
        return [address for address in (self.address, self.address6) if address is not None]


def parse_endpoint_options(given: Mapping[str, object]) -> EndpointOptions:
    """Read the options of an endpoint, among those that dockerd adds itself; raise Refused naming what is allowed."""
    asked: dict[str, str] = {}
    if _IFNAME in given:
        raise Refused(
            f"driver-opt {_IFNAME} is only for Docker's own drivers: dockerd numbers the links of all others itself; "
            f"`docker network create -o com.docker.network.container_iface_prefix=NAME` calls them NAME0, NAME1, ..."
        )
    for key, value in given.items():
        if key.startswith(_DOCKERS_OWN):
            continue
        name = key.removeprefix(PREFIX)
        if name not in _ALLOWED or not isinstance(value, str):
            raise Refused(
                f"driver-opt {key[:40]!r} is not known to dni: use {', '.join(PREFIX + one for one in _ALLOWED)}"
            )
        asked[name] = value
    return msgspec.structs.replace(
        read_lasting(asked),
        spoof=parse_spoof(asked["spoof"]) if "spoof" in asked else None,
        address=_address(asked, "address", IPv4Address),
        address6=_address(asked, "address6", IPv6Address),
    )


def read_lasting(asked: Mapping[str, str]) -> EndpointOptions:
    """Read what may still be said of a container that runs: its limits and groups; raise Refused."""
    return EndpointOptions(
        egress=parse_rate("egress", asked["egress"]) if "egress" in asked else None,
        ingress=parse_rate("ingress", asked["ingress"]) if "ingress" in asked else None,
        groups=parse_groups(asked["groups"]) if "groups" in asked else None,
    )


def taken_back(options: EndpointOptions, given: Mapping[str, object], before: EndpointOptions) -> EndpointOptions:
    """Answer options in which what was given is as before; what somebody else has said since stays."""
    still = {key: getattr(before, key) for key, value in given.items() if getattr(options, key) == value}
    return msgspec.structs.replace(options, **still)


def parse_spoof(text: str) -> bool:
    """Read `spoof=`."""
    if text.lower() not in _SPOOF:
        raise Refused(f"option spoof={text[:40]!r} is neither {' nor '.join(_SPOOF)}")
    return _SPOOF[text.lower()]


def _address(asked: Mapping[str, str], key: str, kind: type[T]) -> T | None:
    if key not in asked:
        return None
    example = "9.0.0.140" if kind is IPv4Address else "fd01:b::8000:0:8c"
    try:
        if "%" not in asked[key]:
            return kind(asked[key])
    except ValueError:
        pass
    raise Refused(f"driver-opt {PREFIX}{key}={asked[key][:60]!r} is not an address such as {example}")
