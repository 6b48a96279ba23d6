# SPDX-License-Identifier: Apache-2.0
"""What must be true of the kernel, by the records."""

from __future__ import annotations

from collections.abc import Iterator

from dni_driver.core.cni_records import CniEndpointRecord
from dni_driver.core.data_plane.paths import left_out, problems
from dni_driver.core.invariants.finding import REPAIR, Finding, is_settled
from dni_driver.core.mtu import Underlay, misfits
from dni_driver.core.names import docker_bridge, egress_link, host_link, mesos_bridge
from dni_driver.core.options.bandwidth import write_limit
from dni_driver.core.records import EndpointRecord, Records
from dni_driver.core.views import BridgeView, KernelView, LinkView
from dni_driver.core.wanted import Bridge, Link, Wanted


def in_the_kernel(records: Records, kernel: KernelView, wanted: Wanted, now: float) -> Iterator[Finding]:
    """Find what is otherwise in the kernel; what is young may still be on its way there."""
    young = {docker_bridge(network.overlay) for network in records.networks if not is_settled(network.since, now)}
    young |= {mesos_bridge(one.overlay) for one in records.cni_networks if not is_settled(one.since, now)}
    for endpoint in _endpoints(records):
        if not is_settled(endpoint.since, now):
            young |= {host_link(endpoint.id), egress_link(endpoint.id)}
    for about, problem in (*_bridges(kernel, wanted), *_links(records, kernel, wanted)):
        if about not in young:
            yield Finding(about=about, problem=problem, mend=REPAIR)
    for problem in kernel.firewall:
        yield Finding(about="firewall", problem=problem, mend=REPAIR)
    for about, problem in kernel.peers:
        yield Finding(about=about, problem=problem, mend=REPAIR)
    if kernel.underlay is not None:
        yield from _too_large(records, kernel.underlay)
        yield from _out_of_reach(records, kernel.underlay)


def _endpoints(records: Records) -> list[EndpointRecord | CniEndpointRecord]:
    return [*records.endpoints, *records.cni_endpoints]


def _too_large(records: Records, underlay: Underlay) -> Iterator[Finding]:
    """Find networks whose MTU the underlay no longer carries."""
    for network, arithmetic in misfits(records, underlay):
        yield Finding(
            about=f"network {network.label}",
            problem=arithmetic,
            mend=f"raise the MTU of {underlay.link}, or create the network again with a smaller -o mtu",
        )


def _out_of_reach(records: Records, underlay: Underlay) -> Iterator[Finding]:
    """Find overlays whose backend does not reach all peers."""
    for about, problem in problems(records.overlays, records.peers, underlay):
        yield Finding(about=about, problem=problem, mend="have the overlay's backend be auto or vxlan")
    for about, problem in left_out(records.overlays, records.peers, underlay):
        yield Finding(about=about, problem=problem, mend="use an overlay with another subnet")


def _bridges(kernel: KernelView, wanted: Wanted) -> Iterator[tuple[str, str]]:
    there = {bridge.name: bridge for bridge in kernel.bridges}
    for bridge in wanted.bridges:
        view = there.pop(bridge.name, None)
        for problem in _bridge_faults(bridge, view) if view else ["is missing"]:
            yield bridge.name, problem
    for name in there:
        yield name, "is a bridge of dni that no network needs"


def _bridge_faults(bridge: Bridge, view: BridgeView) -> Iterator[str]:
    if not view.up:
        yield "is down"
    if view.mtu != bridge.mtu:
        yield f"has MTU {view.mtu} instead of {bridge.mtu}"
    carried = {address for address in view.addresses if not address.is_link_local}
    for address in sorted(set(bridge.addresses) - carried, key=str):
        yield f"lacks address {address}"
    for address in sorted(carried - set(bridge.addresses), key=str):
        yield f"carries address {address}, which is not its own"


def _links(records: Records, kernel: KernelView, wanted: Wanted) -> Iterator[tuple[str, str]]:
    there = {link.name: link for link in kernel.links}
    for link in wanted.links:
        view = there.get(link.host)
        for problem in _link_faults(link, view) if view else ["is missing"]:
            yield link.host, f"{problem} (link of endpoint {link.endpoint[:12]})"
    known = {name(endpoint.id) for endpoint in _endpoints(records) for name in (host_link, egress_link)}
    for name in sorted({*there, *kernel.ifbs} - known):
        yield name, "is a link of dni that no endpoint has"


def _link_faults(link: Link, view: LinkView) -> Iterator[str]:
    if view.bridge != link.bridge:
        yield f"hangs on {view.bridge or 'no bridge'} instead of {link.bridge}"
    if not view.up:
        yield "is down"
    if view.mtu != link.mtu:
        yield f"has MTU {view.mtu} instead of {link.mtu}"
    if view.limits.egress != link.limits.egress:
        yield _off_limit("egress", view.limits.egress, link.limits.egress)
    if view.limits.ingress != link.limits.ingress:
        yield _off_limit("ingress", view.limits.ingress, link.limits.ingress)


def _off_limit(direction: str, there: int | None, wanted: int | None) -> str:
    return f"is held to {direction}={write_limit(there)} instead of {direction}={write_limit(wanted)}"
