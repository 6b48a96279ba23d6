# SPDX-License-Identifier: Apache-2.0
"""What a simulated dockerd shows over its API, as the agent gets to see it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

from dni_driver.core.overlays import Address
from dni_driver.core.views import DockerEndpoint, DockerNetwork, DockerView
from tests.simulation.dockerd import Dockerd
from tests.simulation.model import Network


def view(dockerd: Dockerd) -> DockerView | None:
    """Answer its networks and their endpoints; None while it is down."""
    if not dockerd.up:
        return None
    listed = (network for network in dockerd.networks.values() if not network.deleting)
    return DockerView(networks=tuple(_shown(dockerd, network) for network in listed))


def _shown(dockerd: Dockerd, network: Network) -> DockerNetwork:
    endpoints = (
        DockerEndpoint(id=one.id, container=one.container, addresses=tuple(one.bare()))
        for one in dockerd.endpoints.values()
        if one.network is network
    )
    return DockerNetwork(
        id=network.id,
        name=f"net-{network.id[:6]}",
        driver=network.plan.driver,
        ipam_driver=network.plan.ipam,
        endpoints=tuple(endpoints),
        addresses=tuple(_own_addresses(dockerd, network)),
        subnets=tuple(pool.typed.subnet or pool.subnet for pool in network.pools),
    )


def _own_addresses(dockerd: Dockerd, network: Network) -> Iterator[Address]:
    """Before 28 a gateway that dni chose for a typed `--subnet` is not shown."""
    for pool in network.pools if network.has_ipam else ():
        if pool.typed.gateway or not pool.typed.subnet or dockerd.version >= 28:
            yield ip_interface(pool.gateway).ip
        yield from (ip_address(address) for address in pool.typed.auxiliary)
