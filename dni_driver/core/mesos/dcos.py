# SPDX-License-Identifier: Apache-2.0
"""The values of DC/OS Overlay's JSON, field by field as its endpoints write them.

What is None, and a list that is empty, is left out in writing. Fields that are not known are passed over in reading.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Status = Literal["STATUS_INVALID", "STATUS_OK", "STATUS_FAILED", "STATUS_CONFIGURING"]


class Bridge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bridge and the halves it carries: `ip` is the half itself, `9.0.2.128/25`, not the gateway."""

    name: str
    ip: str | None = None
    ip6: str | None = None


class Vxlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent's VTEP; `vtep_mtu` in bytes, where one is configured."""

    vni: int
    vtep_ip: str
    vtep_mac: str
    vtep_name: str
    vtep_ip6: str | None = None
    vtep_mtu: int | None = None


class Backend(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How packets travel between agents."""

    vxlan: Vxlan | None = None


class OverlayInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An overlay; `enabled` is written by recent versions always, by older ones never."""

    name: str
    subnet: str | None = None
    prefix: int | None = None
    subnet6: str | None = None
    prefix6: int | None = None
    enabled: bool | UnsetType = UNSET


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an overlay is on an agent; `error` in words, where it failed."""

    status: Status
    error: str | None = None


class AgentOverlay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent's part of an overlay."""

    info: OverlayInfo
    backend: Backend
    subnet: str | None = None
    subnet6: str | None = None
    mesos_bridge: Bridge | None = None
    docker_bridge: Bridge | None = None
    state: State | None = None


class Agent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent; what `/overlay-agent/overlay` answers. `configuration_attempts` is not in the master's list."""

    ip: str
    overlays: list[AgentOverlay] = []
    configuration_attempts: int | None = None


class Network(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster's overlays, and where VTEPs have their addresses from."""

    vtep_subnet: str
    vtep_mac_oui: str
    overlays: list[OverlayInfo] = []
    vtep_subnet6: str | None = None
    vtep_mtu: int | None = None


class Cluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `/overlay-master/state` answers."""

    network: Network | None = None
    agents: list[Agent] = []


class Purge(msgspec.Struct, frozen=True):
    """The body of `POST /overlay-master/agents/delete`."""

    agents: list[str]


def write(value: Agent | Cluster) -> bytes:
    """Answer the JSON, its keys in order."""
    return msgspec.json.encode(value, order="sorted")
