# SPDX-License-Identifier: Apache-2.0
"""The network driver lets one container of a network begin after the other, as far as it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dni_driver.core.errors import Refused
from dni_driver.core.names import host_link
from dni_driver.plugin import wire
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.store import Store
from tests.fakes import FakeClock
from tests.unit.plugin_and_agent import Host, create_alone, join, run

FIRST, SECOND = "b" * 64, "c" * 64


@pytest.fixture
def one_by_one(store: Store, tmp_path: Path) -> Host:
    """Let one begin at a time; libnetwork moves all links whenever somebody has waited for that."""
    host = Host(store, tmp_path)

    def move(seconds: float) -> None:
        host.waits.append(seconds)
        host.kernel.unmoved.clear()

    host.network = NetworkDriver(store, host.kernel, FakeClock(), move, at_once=1)
    create_alone(host)
    host.kernel.unmoved = {host_link(FIRST)}
    return host


def test_the_next_container_waits_until_the_link_of_the_first_is_moved(one_by_one: Host) -> None:
    run(one_by_one, FIRST)
    assert not one_by_one.waits

    run(one_by_one, SECOND, "9.0.0.141")
    assert len(one_by_one.waits) == 1


def test_the_next_container_waits_for_one_that_has_no_link_yet(one_by_one: Host) -> None:
    create(one_by_one, FIRST)
    create(one_by_one, SECOND, "9.0.0.141")
    assert one_by_one.waits


def test_nobody_waits_for_a_link_that_was_moved(one_by_one: Host) -> None:
    one_by_one.kernel.unmoved.clear()
    run(one_by_one, FIRST)
    run(one_by_one, SECOND, "9.0.0.141")
    assert not one_by_one.waits


def test_nobody_waits_for_an_endpoint_that_was_deleted(one_by_one: Host) -> None:
    run(one_by_one, FIRST)
    one_by_one.network.delete_endpoint(wire.EndpointRequest(network_id="a" * 64, endpoint_id=FIRST))
    run(one_by_one, SECOND, "9.0.0.141")
    assert not one_by_one.waits


def test_nobody_waits_for_an_endpoint_that_was_refused(one_by_one: Host) -> None:
    with pytest.raises(Refused):
        create(one_by_one, FIRST, "10.9.9.9")
    run(one_by_one, SECOND)
    assert not one_by_one.waits


def test_a_repeated_join_is_not_waited_for_again(one_by_one: Host) -> None:
    one_by_one.kernel.unmoved.clear()
    run(one_by_one, FIRST)
    run(one_by_one, SECOND, "9.0.0.141")
    one_by_one.kernel.unmoved = {host_link(FIRST)}
    join(one_by_one, FIRST)
    create(one_by_one, "d" * 64, "9.0.0.142")
    assert not one_by_one.waits


def create(host: Host, endpoint: str, address: str = "9.0.0.140") -> None:
    """Create an endpoint, as dockerd does before it has a sandbox."""
    options = {"dni.address": address}
    host.network.create_endpoint(
        wire.CreateEndpointRequest(network_id="a" * 64, endpoint_id=endpoint, options=options)
    )
