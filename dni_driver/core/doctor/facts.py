# SPDX-License-Identifier: Apache-2.0
"""What `dni doctor` has seen of a host, as values. None stands for what could not be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from dni_driver.core.overlays import Address, Family
from dni_driver.core.records import Records


class Lack(msgspec.Struct, frozen=True):
    """A feature that this kernel was asked for and did not have, with what it answered."""

    feature: str
    answer: str


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """The filter table of one iptables variant.

    `policy` is FORWARD's and `forward` are its rules, in their order, those of DOCKER-USER before the jump to it;
    `is_dockers` tells that Docker keeps its rules here.
    """

    command: str
    family: Family
    is_dockers: bool
    policy: str
    forward: tuple[str, ...] = ()


class ForwardChain(msgspec.Struct, frozen=True, kw_only=True):
    """An nftables chain of somebody else's that drops what is forwarded and that it does not accept.

    `table` is as nft names it (`inet filter`); `mentions` are the links whose names begin with `d-` in that table.
    """

    table: str
    name: str
    mentions: frozenset[str]


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """The link that carries the agent IP; `link` is None where none does. `mtu` in bytes."""

    agent: Address
    link: str | None
    mtu: int


class ContainerEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a container link inside its sandbox (a path): its name there, and its MTU in bytes."""

    endpoint: str
    sandbox: str
    name: str
    mtu: int


class KernelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the network namespace is like.

    `forwarding` is by family, None without that family; `ipv6_is_off` tells that it is there and switched off;
    `bridged_are_filtered` that frames between two ports of a bridge meet iptables; `rp_filter` is by link, and for
    `all`; `strange_bridges` are links called like a bridge of ours that dni did not make; `offloading` are VTEPs
    whose checksums the network card makes; `inside` is, by overlay, what of its addresses this host uses otherwise.
    """

    release: str
    forwarding: Mapping[int, bool | None]
    ipv6_is_off: bool
    bridged_are_filtered: bool
    rp_filter: Mapping[str, int]
    has_vtep: bool
    underlay: Underlay | None
    ends: tuple[ContainerEnd, ...]
    strange_bridges: tuple[str, ...]
    inside: Mapping[str, tuple[str, ...]]
    offloading: tuple[str, ...]


class FirewallFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rules a forwarded packet meets."""

    rule_sets: tuple[RuleSet, ...]
    forward_chains: tuple[ForwardChain, ...]
    missing_commands: tuple[str, ...]


class PluginSocket(msgspec.Struct, frozen=True, kw_only=True):
    """A path at which dockerd looks for a plugin: `answers` (somebody listens), `dead`, or `no-socket`.

    `listener` is the pid of who listens, and `program` its command line, where they are known.
    """

    path: str
    state: Literal["answers", "dead", "no-socket"]
    mode: int
    listener: int | None = None
    program: str = ""


class Spec(msgspec.Struct, frozen=True):
    """A file that tells dockerd where a plugin listens."""

    path: str
    address: str


class Program(msgspec.Struct, frozen=True):
    """A running `dni serve plugin`, by the pid of who keeps it running; `ours` tells that it has this host's lock."""

    pid: int
    ours: bool


class PluginFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What dockerd meets where it looks for plugins, and what of dni runs.

    `socket` and `api` are the paths that the settings name. `plugin_runs` and `agent_runs` are by their locks.
    """

    socket: str
    api: str
    sockets: tuple[PluginSocket, ...]
    specs: tuple[Spec, ...]
    programs: tuple[Program, ...]
    plugin_runs: bool
    agent_runs: bool
    api_mode: int | None


class ManagedPlugin(msgspec.Struct, frozen=True):
    """A plugin that Docker itself installed (`docker plugin ls`)."""

    name: str
    is_enabled: bool


class DockerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What dockerd says: `trouble` why it does not answer, else the rest.

    `networks` are those on dni, names by id; `bridges` the networks of Docker's bridge driver by their link.
    """

    trouble: str | None = None
    version: str = ""
    plugins: tuple[ManagedPlugin, ...] = ()
    networks: Mapping[str, str] = {}
    bridges: Mapping[str, str] = {}


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The store: `trouble` why it cannot be used; `records` what it holds, None where that is not to be had.

    `size` and `log_size` (of the file beside it that holds the newest commits) in bytes; `mode` of the file.
    `disputes` are why no new addresses are handed out of an overlay, or of any (under an empty name).
    """

    path: str
    exists: bool
    size: int = 0
    log_size: int = 0
    mode: int = 0o600
    trouble: str | None = None
    records: Records | None = None
    disputes: Mapping[str, str] = {}


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The file system under the store; `free` in bytes, as root has it."""

    path: str
    mount: str
    free: int
    is_out_of_inodes: bool
    is_read_only: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `now` in seconds since 1970; `settings` is what is wrong with them; `lacks` of the kernel.

    `complaints` are what the agent says is wrong, or why it does not answer; none where it does not run.
    """

    now: float
    settings: str | None = None
    lacks: tuple[Lack, ...] | None = None
    kernel: KernelFacts | None = None
    firewall: FirewallFacts | None = None
    plugin: PluginFacts | None = None
    docker: DockerFacts | None = None
    store: StoreFacts | None = None
    disk: DiskFacts | None = None
    complaints: tuple[str, ...] = ()

    @property
    def records(self) -> Records | None:
        """Answer what the store holds, where that could be read."""
        return self.store.records if self.store else None
