# SPDX-License-Identifier: Apache-2.0
"""What tells how much of the traffic between hosts was lost, and what cuts hosts off."""

from __future__ import annotations

import time

import pytest

from tests.lab import Lab
from tests.lab.cuts import Way, cut_off
from tests.lab.traffic import Traffic, in_words, lost

pytestmark = pytest.mark.lab

CUTS: tuple[tuple[Way, tuple[int, ...]], ...] = (("both", (0, 1)), ("sending", (0,)), ("receiving", (1,)))
"""Whose packets can be lost when the first of two hosts is cut off: a kernel keeps some until it is healed."""


def test_what_is_lost_while_a_host_is_cut_off_is_counted_each_way() -> None:
    with Lab(hosts=2, servers=1, dockerd=False) as lab:
        one, two = lab.hosts
        traffic = Traffic(lab.switch.directory / "traffic")
        for host in lab.hosts:
            traffic.join_itself(host)
        for way, senders in CUTS:
            # Its packets have the same numbers as those that arrived before.
            traffic.leave(one.address)
            traffic.join_itself(one)
            wait(traffic)
            began = time.monotonic()
            with cut_off(lab.switch, one, way):
                time.sleep(1)
            packets = traffic.packets(began)
            losers = {packet.sender for packet in lost(packets)}
            assert losers
            assert losers <= {lab.hosts[number].address for number in senders}
            assert f"{len(lost(packets))} lost" in in_words(packets, began)
        wait(traffic)
        assert lab.servers[0].run("ping", "-c", "1", "-W", "5", one.address)
        traffic.leave(two.address)
        assert traffic.addresses == [one.address]


def wait(traffic: Traffic) -> None:
    ends = time.monotonic() + 20
    while not traffic.flows():
        assert time.monotonic() < ends, "packets do not arrive"
