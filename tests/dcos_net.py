# SPDX-License-Identifier: Apache-2.0
"""What dcos-net's overlay application makes of the JSON of agents, by its documented rules.

The agents' JSON is polled on each node; what is usable of it is set up there and told to all nodes; each node then
sets up an entry of each kind for every other one. Entries are written as the commands that make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from typing import Any, NamedTuple


class Told(NamedTuple):
    """What one node tells all others of one overlay subnet: it is kept under the VTEP address."""

    overlay: str
    vtep: str
    agent: str
    mac: str
    subnet: str


class Poller:
    """One node's poller: it handles every overlay whose JSON it has not seen before, by value."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self._seen: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.local: list[str] = []
        self.told: dict[tuple[str, str], Told] = {}

    def poll(self, answer: dict[str, Any]) -> None:
        """Take one answer of `/overlay-agent/overlay`."""
        agent = answer["ip"].split(":")[0]
        for overlay in answer.get("overlays", []):
            if overlay not in self._seen:
                self._seen.append(overlay)
                self._handle(agent, overlay)

    def _handle(self, agent: str, overlay: dict[str, Any]) -> None:
        vxlan = overlay.get("backend", {}).get("vxlan")
        if vxlan is None or overlay.get("state", {}).get("status") != "STATUS_OK":
            self.skipped.append(overlay["info"]["name"])
            return
        self.local += [command for command in _set_up(vxlan, overlay["info"]) if command not in self.local]
        for one in _told(agent, vxlan, overlay):
            self.told[one.overlay, one.vtep] = one


def _set_up(vxlan: dict[str, Any], info: dict[str, Any]) -> Iterator[str]:
    name = vxlan["vtep_name"]
    yield f"ip link add {name} type vxlan id {vxlan['vni']} dstport 64000"
    yield f"ip link set {name} address {vxlan['vtep_mac']} up"
    yield f"ip addr replace {vxlan['vtep_ip']} dev {name}"
    if "vtep_ip6" in vxlan:
        yield f"ip -6 addr replace {vxlan['vtep_ip6']} dev {name}"
    if "subnet" in info:
        yield f"ip rule add from {info['subnet']} lookup 42"


def _told(agent: str, vxlan: dict[str, Any], overlay: dict[str, Any]) -> Iterator[Told]:
    for subnet, vtep in (("subnet", "vtep_ip"), ("subnet6", "vtep_ip6")):
        if subnet in overlay["info"] and subnet in overlay and vtep in vxlan:
            yield Told(overlay["info"][subnet], vxlan[vtep], agent, vxlan["vtep_mac"], overlay[subnet])


def remote(told: Iterable[Told], device: str = "vtep1024") -> list[str]:
    """Answer the entries that a node makes for what another has told it."""
    entries = []
    for one in told:
        via = ip_interface(one.vtep).ip
        entries.append(f"ip neigh replace {via} lladdr {one.mac} dev {device} nud permanent")
        entries.append(f"ip route replace {one.subnet} via {via}")
        if via.version == 4:
            entries.append(f"bridge fdb replace {one.mac} dev {device} dst {one.agent} self")
            entries.append(f"ip route replace {one.agent}/32 via {via} table 42")
    return list(dict.fromkeys(entries))
