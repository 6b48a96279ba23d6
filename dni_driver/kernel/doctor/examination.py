# SPDX-License-Identifier: Apache-2.0
"""The network namespace as `dni doctor` sees it: read only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from dni_driver.core.doctor.facts import ContainerEnd, KernelFacts, Underlay
from dni_driver.core.errors import KernelError
from dni_driver.core.names import VTEP_LINK, docker_bridge, mesos_bridge
from dni_driver.core.overlays import Address
from dni_driver.core.records import Records
from dni_driver.core.wanted import wanted
from dni_driver.kernel import bridges, routes, snapshot, sysctl, whereabouts
from dni_driver.kernel.containers import sandboxes
from dni_driver.kernel.doctor import offload
from dni_driver.kernel.ledger import in_words

_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_IPV6_OFF = "ipv6/conf/all/disable_ipv6"
_BRIDGED = "bridge/bridge-nf-call-iptables"


def look(records: Records | None, overlays: Iterable[str], configured: Address | None) -> KernelFacts:
    """Look at links and settings; `overlays` are those this host knows, `configured` the agent IP of the settings.

    Raises KernelError where the kernel cannot be asked.
    """
    try:
        return _look(records, overlays, configured)
    except OSError as error:
        raise KernelError(f"the kernel cannot be asked: {in_words(error)}") from error


def _look(records: Records | None, overlays: Iterable[str], configured: Address | None) -> KernelFacts:
    seen = snapshot.read()
    needed = [docker_bridge(overlay) for overlay in overlays]
    return KernelFacts(
        release=release(),
        forwarding={family: _switch(setting) for family, setting in _FORWARDING.items()},
        ipv6_is_off=_switch(_IPV6_OFF) is True,
        bridged_are_filtered=_switch(_BRIDGED) is True,
        rp_filter={link: int(sysctl.read(f"ipv4/conf/{link}/rp_filter") or 0) for link in ("all", *seen.bridges)},
        has_vtep=VTEP_LINK in seen.names,
        underlay=_underlay(configured or whereabouts.agent_address()),
        ends=tuple(_ends(records)) if records else (),
        strange_bridges=tuple(name for name in needed if name in seen.names and not _is_ours(name, seen)),
        inside=dict(_inside(records)) if records else {},
        offloading=tuple(link for link in (VTEP_LINK,) if link in seen.names and offload.leaves_checksums(link)),
    )


def release() -> str:
    """Answer the release of the running kernel, such as `6.1.0-18-amd64`."""
    return os.uname().release


def _switch(setting: str) -> bool | None:
    value = sysctl.read(setting)
    return None if value is None else value != "0"


def _is_ours(name: str, seen: snapshot.Snapshot) -> bool:
    return name in seen.bridges and bridges.is_ours(seen.bridges[name])


def _underlay(agent: Address) -> Underlay:
    link = whereabouts.carrier(agent)
    return Underlay(agent=agent, link=link.name if link else None, mtu=link.mtu if link else 0)


def _inside(records: Records) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Answer by overlay what this host reaches directly of addresses that are the overlay's."""
    names = [overlay.name for overlay in records.overlays]
    own = {VTEP_LINK, *map(docker_bridge, names), *map(mesos_bridge, names)}
    for overlay in records.overlays:
        found = [text for subnet in overlay.subnets() for text in routes.overlapping(subnet, own=own)]
        if found:
            yield overlay.name, tuple(found)


def _ends(records: Records) -> Iterator[ContainerEnd]:
    for link in wanted(records).links:
        end = sandboxes.container_end(link) if link.sandbox else None
        if end is not None and link.sandbox is not None:
            yield ContainerEnd(endpoint=link.endpoint, sandbox=link.sandbox, name=end.name, mtu=end.mtu)
