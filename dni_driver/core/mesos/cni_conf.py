# SPDX-License-Identifier: Apache-2.0
"""CNI network configurations of an overlay: what a runtime is to do with a container's network.

The form is that of DC/OS: a port mapper around the plugin that makes the link, without a `cniVersion`, as Mesos reads
results of the first versions of CNI alone.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any, Literal

import msgspec

from dni_driver.core.errors import Refused
from dni_driver.core.names import mesos_bridge
from dni_driver.core.records import Records

Ipam = Literal["host-local", "dni"]
"""Who hands out the addresses of the Mesos half: CNI's own plugin, by files, or dni."""

IPAMS: tuple[Ipam, ...] = ("host-local", "dni")

Shape = Literal["mesos", "plain", "list"]
"""Around Mesos' port mapper, by itself, or in a list with CNI's own port mapper after it."""

SHAPES: tuple[Shape, ...] = ("mesos", "plain", "list")

DATA_DIRECTORY = "/var/run/dcos/cni/networks"
"""Where host-local keeps its files, as in DC/OS: in memory, so that no address stays held after a reboot."""

PLUGIN = "dni-cni"
_PORT_MAPPER = "mesos-cni-port-mapper"
_PLAIN_VERSION = "1.0.0"
_PORTS = {"type": "portmap", "capabilities": {"portMappings": True}}
"""CNI's own port mapper: what the runtime is asked to publish, it hands on to it."""


class CniForm(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration is meant.

    `socket` is that of the operator API, None where dni-cni finds it by itself.
    """

    ipam: Ipam = "host-local"
    shape: Shape = "mesos"
    socket: str | None = None


def configuration(records: Records, overlay: str, form: CniForm) -> dict[str, Any]:
    """Answer the configuration of an overlay whose Mesos half is there.

    Raises Refused where host-local, which speaks IPv4 here, has nothing to hand out.
    """
    plugin = _dni_cni(form) if form.ipam == "dni" else _bridge(records, overlay)
    if form.shape == "plain":
        return {"cniVersion": _PLAIN_VERSION, "name": overlay, **plugin}
    if form.shape == "list":
        return {"cniVersion": _PLAIN_VERSION, "name": overlay, "plugins": [_with_ranges(plugin), _PORTS]}
    bridge = mesos_bridge(overlay)
    return {
        "name": overlay,
        "type": _PORT_MAPPER,
        "excludeDevices": [bridge],
        "chain": bridge.upper(),
        "delegate": plugin,
    }


def write(document: dict[str, Any]) -> bytes:
    """Write a configuration as a file has it."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _dni_cni(form: CniForm) -> dict[str, Any]:
    return {"type": PLUGIN, **({"socket": form.socket} if form.socket else {})}


def _with_ranges(plugin: dict[str, Any]) -> dict[str, Any]:
    """Answer the same with host-local's subnet in its later form, in which Podman finds it."""
    if "ipam" not in plugin:
        return plugin
    ipam = {key: value for key, value in plugin["ipam"].items() if key != "subnet"}
    return {**plugin, "ipam": {**ipam, "ranges": [[{"subnet": plugin["ipam"]["subnet"]}]]}}


def _bridge(records: Records, overlay: str) -> dict[str, Any]:
    halves = [half for half in records.mesos_halves(overlay, 4) if isinstance(half, IPv4Network)]
    if not halves:
        raise Refused(
            f"overlay {overlay!r} has no IPv4 on this host, and host-local hands out nothing else here: with "
            f'cni.ipam = "dni" its containers have IPv6'
        )
    return {
        "type": "bridge",
        "bridge": mesos_bridge(overlay),
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "mtu": next(network.mtu for network in records.cni_networks if network.overlay == overlay),
        "ipam": {
            "type": "host-local",
            "dataDir": DATA_DIRECTORY,
            "subnet": str(halves[0]),
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
