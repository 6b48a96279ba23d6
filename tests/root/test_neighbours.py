# SPDX-License-Identifier: Apache-2.0
"""Whether anybody answers at an address."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from tests.root.town import DCOS, Host

pytestmark = pytest.mark.root

_TRIES = 5


@pytest.fixture
def dcos(host: Host) -> Host:
    host.want(DCOS)
    host.reconcile()
    return host


def answers(host: Host, address: object) -> bool:
    return host.run(host.kernel.answers, ip_address(str(address)))


def is_silent(host: Host, address: str, seconds: float) -> bool:
    """Tell whether nobody answers, and that is known so soon at one of a few tries: the machine may be busy."""
    for _ in range(_TRIES):
        began = time.monotonic()
        assert not answers(host, address)
        if time.monotonic() - began < seconds:
            return True
    return False


def test_a_running_container_answers(dcos: Host) -> None:
    container = dcos.container(DCOS)
    assert answers(dcos, container.address.ip)
    assert answers(dcos, container.address6.ip)


@pytest.mark.parametrize("address", ["9.0.0.200", "fd01:b::8000:0:77"])
def test_a_free_address_does_not_answer_and_that_is_known_soon(dcos: Host, address: str) -> None:
    dcos.container(DCOS)
    assert is_silent(dcos, address, 2)


def test_a_memory_of_who_has_gone_is_no_answer(dcos: Host) -> None:
    container = dcos.container(DCOS)
    assert answers(dcos, container.address.ip)
    container.sandbox.sh("ip link set eth0 down")
    assert "9.0.0.130" in dcos.sh("ip neigh show dev d-dcos")
    assert not answers(dcos, container.address.ip)


def test_who_has_come_after_a_failure_is_heard(dcos: Host) -> None:
    assert not answers(dcos, "9.0.0.130")
    assert answers(dcos, dcos.container(DCOS).address.ip)


@pytest.mark.parametrize("address", ["192.0.2.1", "9.0.0.129", "127.0.0.1", "2001:db8::1"])
def test_what_is_not_on_link_does_not_answer(dcos: Host, address: str) -> None:
    assert is_silent(dcos, address, 0.5)


@pytest.mark.parametrize("kind", ["prohibit", "blackhole"])
def test_what_a_route_keeps_away_does_not_answer(host: Host, kind: str) -> None:
    """As routing daemons have it of a whole overlay, to keep what leads nowhere from going round in circles."""
    host.sh(f"ip route add {kind} 9.0.0.0/8", f"ip route add {kind} fd01:b::/64")
    assert not answers(host, "9.0.0.130")
    assert not answers(host, "fd01:b::8000:0:2")
