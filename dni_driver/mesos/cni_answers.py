# SPDX-License-Identifier: Apache-2.0
"""What `dni-cni` answers, in the words of each version of CNI."""

from __future__ import annotations

from dni_driver.mesos.cni_call import VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dni_driver.mesos.cni_errors import CniError

_FIRST_WITH_INTERFACES = VERSIONS.index("0.3.0")
_LAST_WITH_FAMILY = VERSIONS.index("0.4.0")


def result(version: str, endpoint: dict[str, Any]) -> dict[str, Any]:
    """Answer the result of ADD for an endpoint as the agent reports it."""
    if VERSIONS.index(version) < _FIRST_WITH_INTERFACES:
        return {"cniVersion": version, **_by_family(endpoint), "dns": {}}
    container = {"name": endpoint["ifname"], "mac": endpoint["mac"], "sandbox": endpoint["sandbox"]}
    return {
        "cniVersion": version,
        "interfaces": [{"name": endpoint["bridge"]}, {"name": endpoint["host"]}, container],
        "ips": [_ip(version, address) for address in endpoint["addresses"]],
        "routes": endpoint["routes"],
        "dns": {},
    }


def versions() -> dict[str, Any]:
    """Answer VERSION."""
    return {"cniVersion": VERSIONS[-1], "supportedVersions": list(VERSIONS)}


def error(version: str, what: CniError) -> dict[str, Any]:
    """Answer an error."""
    details = {"details": what.details} if what.details else {}
    return {"cniVersion": version, "code": what.code, "msg": what.message, **details}


def _ip(version: str, address: dict[str, Any]) -> dict[str, Any]:
    family = {"version": _family(address["address"])} if VERSIONS.index(version) <= _LAST_WITH_FAMILY else {}
    return {**family, "interface": 2, "address": address["address"], **_gateway(address)}


def _gateway(address: dict[str, Any]) -> dict[str, Any]:
    return {"gateway": address["gateway"]} if address["gateway"] else {}


def _family(address: str) -> str:
    return "6" if ":" in address else "4"


def _by_family(endpoint: dict[str, Any]) -> dict[str, Any]:
    """Answer addresses and routes as the first two versions have them, and as Mesos reads them."""
    found = {}
    for address in endpoint["addresses"]:
        family = _family(address["address"])
        routes = [route for route in endpoint["routes"] if _family(route["dst"]) == family]
        found[f"ip{family}"] = {"ip": address["address"], **_gateway(address), "routes": routes}
    return found
