# SPDX-License-Identifier: Apache-2.0
"""Telling the machine's own slowness from that of what is measured."""

from __future__ import annotations

import threading
import time

from tests.bench.stalls import Stalls, slow_moments


def _burn(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def test_a_span_of_time_is_touched_by_a_stall_within_it_and_close_to_it() -> None:
    stalls = Stalls([10.0])
    assert stalls.touch(9.5, 1.0)
    assert stalls.touch(10.005, 1.0)
    assert not stalls.touch(10.5, 1.0)
    assert not stalls.touch(9.0, 0.5)


def test_without_stalls_nothing_is_touched() -> None:
    assert not Stalls().touch(1.0, 100.0)


def test_work_that_takes_much_longer_than_usual_is_noticed_when_it_does() -> None:
    ended, calls = threading.Event(), 0

    def work() -> None:
        nonlocal calls
        calls += 1
        _burn(0.02 if calls == 300 else 0.0002)
        if calls >= 305:
            ended.set()

    began = time.monotonic()
    moments = slow_moments(work, ended)
    assert any(began < moment <= time.monotonic() for moment in moments)
    assert len(moments) < 60
