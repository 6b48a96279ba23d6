# SPDX-License-Identifier: Apache-2.0
"""Reads what Mesos passes on of a container's NetworkInfo, in `args["org.apache.mesos"]["network_info"]`.

Its words are those of mesos.proto. Labels of others than dni are nobody's business here.
"""

from __future__ import annotations

from dni_driver.mesos.cni_fields import family, invalid, kind, object_of, objects, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATH = ("args", "org.apache.mesos", "network_info")
_INFO = "Mesos' network_info"
_PROTOCOLS = {"IPv4": 4, "IPv6": 6}
_OURS = "dni."


class NetworkInfo:
    """What a container is to have: addresses, groups, and what its labels `dni.…` say."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        """Read it; nothing is asked for where there is none. Raise CniError."""
        info = _found(configuration)
        self.addresses = [one for entry in objects(info, "ip_addresses", _INFO) for one in _address(entry)]
        self.groups = _groups(info)
        self.labels = _labels(info)


def _found(configuration: dict[str, Any]) -> dict[str, Any]:
    found = configuration
    for key in _PATH:
        if found.get(key) is None:
            return {}
        found = object_of(found, key)
    return found


def _address(entry: dict[str, Any]) -> list[str]:
    """Read an entry, which may name an address, or only a family."""
    protocol = entry.get("protocol")
    if protocol is not None and (not isinstance(protocol, str) or protocol not in _PROTOCOLS):
        invalid(f"'protocol' in {_INFO} is {kind(protocol)}, neither IPv4 nor IPv6")
    if entry.get("ip_address") is None:
        return []
    address = text(entry, "ip_address", _INFO)
    spoken = family(address)
    if spoken is None:
        invalid(f"{address[:60]!r} is not an IP address: ask for one such as 9.0.0.2, or for none")
    if protocol is not None and _PROTOCOLS[protocol] != spoken:
        invalid(f"address {address} is asked for as {protocol}, and is none")
    return [address]


def _groups(info: dict[str, Any]) -> list[str]:
    groups = info.get("groups")
    if groups is None:
        return []
    if not isinstance(groups, list):
        invalid(f"'groups' in {_INFO} must be a list of texts, not {kind(groups)}")
    return [text({"groups": group}, "groups", _INFO) for group in groups]


def _labels(info: dict[str, Any]) -> dict[str, str]:
    if info.get("labels") is None:
        return {}
    found: dict[str, str] = {}
    for label in objects(object_of(info, "labels", _INFO), "labels", _INFO):
        key = text(label, "key", _INFO)
        if key.startswith(_OURS):
            if key in found:
                invalid(f"label {key[:40]!r} is in {_INFO} twice")
            found[key] = text(label, "value", _INFO)
    return found
