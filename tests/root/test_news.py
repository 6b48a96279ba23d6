# SPDX-License-Identifier: Apache-2.0
"""What wakes whoever keeps the kernel: bridges, MTUs and routes that are gone, and no container."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest

from dni_driver.kernel.news import News
from tests.root.town import DCOS, Host, link

pytestmark = pytest.mark.root

_PATIENCE = 60.0
_QUIET = 0.1


class Listener:
    """Listens on a host in a thread."""

    def __init__(self, host: Host) -> None:
        """Begin, and wait until it does."""
        self._host = host
        self._heard: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._listen)
        host.run(self._thread.start)
        self._settle()

    def hears(self, *commands: str) -> bool:
        """Tell that what some commands do is news, however long that takes to come."""
        self._host.sh(*commands)
        return self._hears_within(_PATIENCE) and self._comes_to_rest()

    def hears_nothing(self, *commands: str) -> bool:
        """Tell that what some commands do is no news."""
        self._host.sh(*commands)
        return not self._hears_within(_QUIET)

    def close(self) -> None:
        """End."""
        self._host.kernel.hush()
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive()

    def _listen(self) -> None:
        for _ in self._host.kernel.link_news():
            self._heard.put(None)

    def _settle(self) -> None:
        """Make a bridge until it is heard of."""
        for number in range(100):
            self._host.sh(f"ip link add settle{number} type bridge")
            if self._hears_within(_QUIET):
                break
        assert self._comes_to_rest()

    def _comes_to_rest(self) -> bool:
        while self._hears_within(_QUIET):
            pass
        return True

    def _hears_within(self, seconds: float) -> bool:
        try:
            self._heard.get(timeout=seconds)
        except Empty:
            return False
        while not self._heard.empty():
            self._heard.get()
        return True


@pytest.fixture
def host(host: Host) -> Host:
    host.sh("ip link add uplink type veth peer name beyond", "ip link set uplink up", "ip link set beyond up")
    return host


@pytest.fixture
def listener(host: Host) -> Iterator[Listener]:
    listener = Listener(host)
    yield listener
    listener.close()


def test_bridges_that_come_and_go_are_news(listener: Listener) -> None:
    assert listener.hears("ip link add br-0123456789ab type bridge")
    assert listener.hears_nothing("ip link set br-0123456789ab up")
    assert listener.hears("ip link del br-0123456789ab")


def test_another_mtu_is_news_and_the_same_is_not(listener: Listener) -> None:
    assert listener.hears("ip link set uplink mtu 1400")
    assert listener.hears_nothing("ip link set uplink mtu 1400", "ip link set uplink alias same")
    assert listener.hears("ip link set uplink mtu 9000")


def test_a_vtep_that_goes_down_or_away_is_news(listener: Listener) -> None:
    assert listener.hears("ip link add vtep1024 type vxlan id 1024 dstport 64000")
    assert listener.hears("ip link set vtep1024 up")
    assert listener.hears("ip link set vtep1024 down")
    assert listener.hears("ip link del vtep1024")


def test_routes_of_ours_and_to_what_is_on_a_link_are_missed_and_no_others(listener: Listener) -> None:
    assert listener.hears("ip addr add 10.9.0.1/24 dev uplink", "ip link add settled type bridge")
    assert listener.hears_nothing("ip route add 192.0.2.0/24 via 10.9.0.2", "ip route del 192.0.2.0/24")
    assert listener.hears_nothing("ip route add 9.0.7.0/24 via 10.9.0.2 proto 64")
    assert listener.hears("ip route flush table all proto 64")
    assert listener.hears("ip route del 10.9.0.0/24")


def test_containers_are_no_news(host: Host, listener: Listener) -> None:
    host.want(DCOS)
    host.reconcile()
    assert listener.hears(), "of their bridge"
    wanted = link(DCOS)
    host.run(host.kernel.attach, wanted)
    host.run(host.kernel.detach, [wanted.endpoint])
    host.kernel.drain()
    assert listener.hears_nothing("ip link add veth0815 type veth peer name veth4711", "ip link del veth0815")


def test_more_news_than_the_kernel_keeps_are_news(host: Host) -> None:
    host.want(DCOS)
    host.reconcile()
    news, busy, rested = News(), threading.Event(), threading.Event()
    heard: list[str] = []

    def listen() -> None:
        for _ in news:
            heard.append("news")
            busy.set()
            rested.wait(_PATIENCE)

    thread = threading.Thread(target=listen)
    host.run(thread.start)
    while not busy.wait(_QUIET):
        host.sh("ip link set uplink mtu 1400", "ip link set uplink mtu 1500")
    for number in range(120):
        host.run(host.kernel.attach, link(DCOS, number))
    before = len(heard)
    rested.set()
    host.sh("ip link set uplink alias done")
    for _ in range(50):
        if len(heard) == before:
            time.sleep(_QUIET)
    news.end()
    thread.join(_PATIENCE)
    assert len(heard) > before
