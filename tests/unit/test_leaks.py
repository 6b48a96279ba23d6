# SPDX-License-Identifier: Apache-2.0
"""Reservations in plain pools, which macvlan networks with gateways of their own may share."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dni_driver.core.invariants.leaks import LostAddress, leaks
from dni_driver.core.records import AddressRecord, AddressState, PoolRecord, Records
from dni_driver.core.views import DockerNetwork, DockerView

SUBNET = ip_network("172.30.0.0/29")
POOL = PoolRecord(id="plain/172.30.0.0/29", family=4, subnet=SUBNET, uses=1)


def lost(reserved: str, *shown: str) -> bool:
    """Tell whether a reserved address is lost, beside a network that shows some addresses as its own."""
    record = AddressRecord(pool=POOL.id, address=ip_address(reserved), state=AddressState.RESERVED, since=1.0)
    records = Records(overlays=[], agent_subnets=[], pools=[POOL], addresses=[record], networks=[], endpoints=[])
    network = DockerNetwork(
        id="a" * 64,
        name="lan",
        driver="macvlan",
        ipam_driver="dni",
        addresses=tuple(map(ip_address, shown)),
        subnets=(str(SUBNET),),
    )
    return any(isinstance(leak, LostAddress) for leak in leaks(records, DockerView(networks=(network,))))


def test_the_gateway_of_a_network_whose_creation_failed_is_lost() -> None:
    assert lost("172.30.0.4")


@pytest.mark.parametrize(("reserved", "shown"), [("172.30.0.4", ["172.30.0.4"]), ("172.30.0.1", [])])
def test_a_gateway_that_docker_shows_or_that_old_engines_hide_is_not(reserved: str, shown: list[str]) -> None:
    assert not lost(reserved, *shown)
