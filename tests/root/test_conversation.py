# SPDX-License-Identifier: Apache-2.0
"""Talking with the kernel: from any thread, about that thread's namespace, and nothing stays open."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dni_driver.kernel import snapshot
from dni_driver.kernel.netlink import nfnetlink, wire
from dni_driver.kernel.netlink.conversation import conversation
from dni_driver.kernel.netlink.nfnetlink import Table
from tests.open_files import nothing_left_open
from tests.root.ground import Namespace
from tests.root.town import DCOS, Host, link

pytestmark = pytest.mark.root


def mtu_of(name: str) -> int | None:
    with conversation() as kernel:
        found = snapshot.find(kernel, ifname=name)
    return found.mtu if found else None


def test_each_thread_talks_about_its_own_namespace(host: Host) -> None:
    with Namespace() as other:
        for place, mtu in ((host, 1400), (other, 1300)):
            place.sh("ip link add eth7 type bridge", f"ip link set eth7 mtu {mtu}")
        assert (host.run(mtu_of, "eth7"), other.run(mtu_of, "eth7")) == (1400, 1300)
        assert mtu_of("eth7") is None


def test_the_kernel_says_what_it_does_not_like(host: Host) -> None:
    def grow() -> None:
        with conversation() as kernel:
            kernel.link("set", ifname="eth7", mtu=70000)

    host.sh("ip link add eth7 type bridge")
    with pytest.raises(OSError, match="mtu greater than device maximum"):
        host.run(grow)


def test_thirty_two_threads_do_everything_at_once_and_leave_nothing_open(host: Host) -> None:
    host.want(DCOS)
    host.reconcile()
    gateway = DCOS.bridge.addresses[0]

    def work(number: int) -> None:
        wanted = link(DCOS, number)
        host.kernel.attach(wanted)
        assert host.kernel.ifname_in_sandbox(wanted) is None
        assert host.kernel.overlapping_routes(gateway.network)
        if number % 8 == 0:
            host.kernel.observe(host.wanted)
        host.kernel.detach([wanted.endpoint])

    def at_once() -> None:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(work, range(120)))

    host.run(host.kernel.detach, ["0" * 64])
    host.kernel.drain()
    with nothing_left_open():
        host.run(at_once)
        host.kernel.drain()
    assert "dni" not in host.sh("ip -o link show type veth")


def test_a_set_that_goes_while_it_is_listed_is_not_taken_for_a_shorter_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.sh("nft add table inet other", "nft add set inet other many '{ type ipv4_addr; }'")
    table = Table(family=1, name="other")
    host.run(nfnetlink.add, table, {"many": frozenset(number.to_bytes(4, "big") for number in range(1, 6000))})
    really = wire.messages

    def robbed(data: bytes) -> Iterator[tuple[int, int, bytes]]:
        monkeypatch.setattr(wire, "messages", really)
        subprocess.run(["nft", "delete", "table", "inet", "other"], check=True)
        return really(data)

    monkeypatch.setattr(wire, "messages", robbed)
    with pytest.raises(FileNotFoundError):
        host.run(nfnetlink.elements, table, ["many"])
