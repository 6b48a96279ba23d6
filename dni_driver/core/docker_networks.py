# SPDX-License-Identifier: Apache-2.0
"""The Docker networks that the agent makes: which, how, and when one of them is its own to remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from dni_driver.core.engines import parsed
from dni_driver.core.errors import InUse
from dni_driver.core.options.network import MADE_BY
from dni_driver.core.overlays import Overlay
from dni_driver.core.views import is_dni

Choice = bool | Literal["auto"]
"""Whether the agent makes them; `auto`: see `is_wanted`."""

_IPV4_OPTIONAL = (28,)


class ListedNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A network as Docker lists it."""

    id: str
    name: str
    driver: str
    labels: Mapping[str, str] = {}

    @property
    def is_made_by_dni(self) -> bool:
        """Tell whether the agent made it."""
        key, value = MADE_BY
        return self.labels.get(key) == value


def is_wanted(overlay: str, choice: Choice, default: str | None, registry: str) -> bool:
    """Tell whether the agent makes an overlay's network.

    By itself it makes them all, but for the default overlay on a host that is alone: there nobody asked for it yet.
    """
    if choice == "auto":
        return overlay != default or registry != "local"
    return choice


def creation(overlay: Overlay, driver: str, version: str) -> dict[str, Any]:
    """Answer the body of POST /networks/create on an engine of some version.

    With its subnets, so that `docker run --ip` is possible. Engines before 28 make no network without IPv4.
    """
    key, value = MADE_BY
    body: dict[str, Any] = {
        "Name": overlay.name,
        "CheckDuplicate": True,
        "Driver": driver,
        "EnableIPv6": overlay.subnet6 is not None,
        "IPAM": {
            "Driver": driver,
            "Options": {"overlay": overlay.name},
            "Config": [{"Subnet": str(subnet)} for subnet in overlay.subnets()],
        },
        "Options": {key: value},
        "Labels": {key: value},
    }
    if overlay.subnet is None and (parsed(version) or ()) >= _IPV4_OPTIONAL:
        body["EnableIPv4"] = False
    return body


def check_name_free(overlay: str, listed: list[ListedNetwork]) -> None:
    """Raise InUse where a Docker network has the name that an overlay's own would have; it is never taken over."""
    for network in listed:
        if network.name == overlay:
            whose = "is not on it" if is_dni(network.driver) else f"has driver {network.driver!r}"
            raise InUse(
                f"the Docker network {overlay!r} {whose}, so that overlay {overlay!r} can have none of that name: "
                f"remove it (docker network rm {overlay}), or create one of another name with `docker network "
                f"create -d dni --ipam-driver dni --ipam-opt overlay={overlay} NAME`"
            )
