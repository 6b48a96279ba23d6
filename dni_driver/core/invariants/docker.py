# SPDX-License-Identifier: Apache-2.0
"""What must be true of Docker beside the records."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from ipaddress import ip_network

from dni_driver.core.invariants.finding import REPAIR, Finding, is_settled
from dni_driver.core.invariants.leaks import describe, leaks, newest
from dni_driver.core.overlays import Address, share_addresses
from dni_driver.core.records import HELD, AddressState, EndpointRecord, Records
from dni_driver.core.views import DockerEndpoint, DockerNetwork, DockerView, is_dni


def beside_docker(records: Records, docker: DockerView, now: float) -> Iterator[Finding]:
    """Find what Docker knows and dni does not, or the other way round, and what it uses amiss."""
    for about, problem in sorted(describe(leak) for leak in leaks(records, docker) if is_settled(newest(leak), now)):
        yield Finding(about=about, problem=problem, mend=REPAIR)
    known = {network.id for network in records.networks}
    endpoints = {endpoint.id: _shown(endpoint, records) for endpoint in records.endpoints}
    held = {record.address for record in records.addresses if record.state in HELD}
    yield from unknown_networks(records, docker)
    for network in docker.networks:
        if network.id in known or is_dni(network.driver):
            yield from _strange_endpoints(network, endpoints)
        else:
            yield from _misused_overlay(network, records)
            yield from _strange_addresses(network, held)


def unknown_networks(records: Records, docker: DockerView) -> Iterator[Finding]:
    """Find networks of Docker's on dni that no record tells of: the store is another one, or was lost."""
    known = {network.id for network in records.networks}
    for network in docker.networks:
        if is_dni(network.driver) and network.id not in known:
            yield Finding(
                about=f"network {network.name}",
                problem="is in Docker, but dni has no record of it",
                mend=f"docker network rm {network.name}, then create it again; where the store was lost, stop dni, "
                f"move away what is there, and put back a copy of it",
            )


def _shown(endpoint: EndpointRecord, records: Records) -> list[Address]:
    """Answer the addresses that Docker shows of an endpoint: all but those that it gave back already.

    From 29 on it gives an IPv6 address back where the container has IPv6 switched off.
    """
    leaving = {
        record.address
        for record in records.addresses
        if record.endpoint == endpoint.id and record.state is AddressState.LEAVING
    }
    return [interface.ip for interface in endpoint.interfaces() if interface.ip not in leaving]


def _strange_endpoints(network: DockerNetwork, known: Mapping[str, list[Address]]) -> Iterator[Finding]:
    for endpoint in network.endpoints:
        addresses = known.get(endpoint.id)
        if addresses is None:
            yield _strange(endpoint, f"is on network {network.name} in Docker, but dni has no record of its endpoint")
        elif endpoint.addresses and set(endpoint.addresses) != set(addresses):
            ours = ", ".join(map(str, addresses))
            yield _strange(endpoint, f"has {_listed(endpoint)} on network {network.name}, but dni recorded {ours}")


def _strange_addresses(network: DockerNetwork, held: Container[Address]) -> Iterator[Finding]:
    for endpoint in network.endpoints:
        if any(address not in held for address in endpoint.addresses):
            problem = f"has {_listed(endpoint)} on network {network.name}, which dni would hand out again"
            yield _strange(endpoint, problem)


def _strange(endpoint: DockerEndpoint, problem: str) -> Finding:
    return Finding(
        about=f"container {endpoint.container}", problem=problem, mend=f"docker restart {endpoint.container}"
    )


def _listed(endpoint: DockerEndpoint) -> str:
    return ", ".join(map(str, endpoint.addresses))


def _misused_overlay(network: DockerNetwork, records: Records) -> Iterator[Finding]:
    """Find `--ipam-driver dni` on an overlay's subnet with the driver of somebody else."""
    for overlay in records.overlays:
        for subnet in overlay.subnets():
            if any(share_addresses(ip_network(text), subnet) for text in network.subnets):
                yield Finding(
                    about=f"network {network.name}",
                    problem=f"takes addresses of overlay {overlay.name!r}, but its driver is {network.driver!r}",
                    mend=f"docker network rm {network.name}, then create it with -d dni, or on a --subnet that no "
                    f"overlay has",
                )
