# SPDX-License-Identifier: Apache-2.0
"""What an earlier dockerd left on a network without IPAM, when the next one begins."""

from __future__ import annotations

import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.wanted import Link, wanted
from dni_driver.plugin import wire
from dni_driver.store import endpoints
from dni_driver.store.records import read_all
from tests.unit.plugin_and_agent import GATEWAY, NETWORK, WEB, Host, alone, endpoints_of, host, join, run

__all__ = ["alone", "host"]


def test_when_dockerd_begins_dead_containers_are_forgotten_and_their_addresses_can_be_had_again(alone: Host) -> None:
    alone.kernel.reboot()
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == []
    alone.kernel.reconcile(lambda: wanted(read_all(alone.store)))
    run(alone, "c" * 64)
    assert endpoints_of(alone) == ["c" * 64]


def test_when_dockerd_begins_containers_that_outlived_it_are_left_alone(alone: Host) -> None:
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == [WEB]


def test_a_container_on_its_way_into_its_sandbox_is_not_taken_for_dead(alone: Host) -> None:
    """Its sandbox is recorded before its link is made."""
    looked: list[list[str]] = []

    def look() -> None:
        alone.network.forget_the_dead()
        looked.append(endpoints_of(alone))

    alone.kernel.crash_point = lambda point: look() if point == "before a change" else None
    run(alone, "c" * 64, "9.0.0.141")
    assert looked == [[WEB, "c" * 64]]


def test_networks_with_ipam_are_dockerds_to_clean_up(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    join(host, WEB)
    host.kernel.reboot()
    host.network.forget_the_dead()
    assert endpoints_of(host) == [WEB]


def test_a_dockerd_that_begins_is_answered_whatever_the_kernel_says(
    alone: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> list[Link]:
        raise KernelError("the kernel cannot be asked")

    monkeypatch.setattr(alone.kernel, "gone", refuse)
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == [WEB]


def test_a_container_that_starts_anew_while_the_dead_are_looked_for_is_not_forgotten(
    alone: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_meanwhile(links: list[Link]) -> list[Link]:
        with alone.store.write() as tx:
            endpoints.joined(tx, WEB, "/run/docker/netns/anew")
        return links

    monkeypatch.setattr(alone.kernel, "gone", start_meanwhile)
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == [WEB]
