# SPDX-License-Identifier: Apache-2.0
"""Setting the clock makes nothing older than it is."""

from __future__ import annotations

import pytest

from dni_driver.agent.ports import Time
from dni_driver.agent.steady import Steady
from dni_driver.core.invariants.finding import SETTLED
from tests.fakes import FakeClock

DAY = 86_400.0


class Clocks:
    """The time of day, which somebody may set, and the time since boot."""

    def __init__(self) -> None:
        """Begin to read them."""
        self.day, self.boot = FakeClock(), FakeClock(5.0)
        self.steady = Steady(Time(clock=self.day, monotonic=self.boot, sleep=self.pass_by))

    def pass_by(self, seconds: float) -> None:
        """Let time go by."""
        self.day.pass_by(seconds)
        self.boot.pass_by(seconds)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_as_long_as_nobody_sets_the_clock_it_is_that(clocks: Clocks) -> None:
    clocks.pass_by(DAY)
    assert clocks.steady() == clocks.day.now
    clocks.day.pass_by(0.5)
    assert clocks.steady() == clocks.day.now


def test_a_clock_that_is_set_ahead_makes_nothing_older_until_it_is_settled_anyway(clocks: Clocks) -> None:
    born = clocks.day.now
    clocks.pass_by(3)
    clocks.day.pass_by(DAY)
    assert clocks.steady() - born == 3
    clocks.pass_by(SETTLED - 1)
    assert clocks.steady() - born == SETTLED + 2
    clocks.pass_by(1)
    assert clocks.steady() == clocks.day.now


def test_what_is_dated_after_the_clock_was_set_ahead_is_not_old_either(clocks: Clocks) -> None:
    clocks.day.pass_by(DAY)
    born = clocks.day.now
    clocks.pass_by(30)
    assert clocks.steady() - born < SETTLED
    clocks.pass_by(SETTLED)
    assert clocks.steady() - born == 30 + SETTLED


def test_a_clock_that_is_set_back_is_believed_at_once(clocks: Clocks) -> None:
    clocks.day.pass_by(-DAY)
    assert clocks.steady() == clocks.day.now


def test_who_sets_it_ahead_twice_makes_nothing_older_either(clocks: Clocks) -> None:
    born = clocks.day.now
    for _ in range(2):
        clocks.pass_by(10)
        clocks.day.pass_by(DAY)
        assert clocks.steady() - born < SETTLED
    assert clocks.steady() - born == 20
