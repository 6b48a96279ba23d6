# SPDX-License-Identifier: Apache-2.0
"""How long a step may still take."""

from __future__ import annotations

import threading

import pytest

from dni_driver.core.deadline import deadline, holding, within
from dni_driver.core.errors import DeadlineExceeded
from tests.fakes import FakeClock


def test_without_a_deadline_a_step_has_its_own_bound() -> None:
    assert within(5.0) == 5.0


def test_a_step_gets_what_is_left_and_no_more_than_its_own_bound() -> None:
    clock = FakeClock()
    with deadline(20.0, clock):
        assert within(5.0) == 5.0
        clock.pass_by(18.0)
        assert within(5.0) == 2.0


def test_past_the_deadline_a_step_is_not_begun() -> None:
    clock = FakeClock()
    with deadline(20.0, clock):
        clock.pass_by(20.0)
        with pytest.raises(DeadlineExceeded, match="try again"):
            within(5.0)


def test_a_nearer_deadline_around_stays_in_force() -> None:
    clock = FakeClock()
    with deadline(2.0, clock), deadline(20.0, clock):
        assert within(5.0) == 2.0


def test_a_nearer_deadline_inside_ends_with_its_block() -> None:
    clock = FakeClock()
    with deadline(20.0, clock):
        with deadline(1.0, clock):
            assert within(5.0) == 1.0
        assert within(5.0) == 5.0
    assert within(5.0) == 5.0


def test_a_deadline_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(ValueError, match="inside"), deadline(0.0):
        raise ValueError("inside")
    assert within(5.0) == 5.0


def test_a_deadline_binds_its_own_thread_only() -> None:
    found: list[float] = []
    with deadline(1.0):
        thread = threading.Thread(target=lambda: found.append(within(5.0)))
        thread.start()
        thread.join()
    assert found == [5.0]


def test_a_lock_that_is_not_had_in_time_is_an_error_that_says_who_is_busy() -> None:
    lock = threading.Lock()
    with (
        lock,
        pytest.raises(DeadlineExceeded, match="the kitchen is busy"),
        holding(lock, 0.01, "the kitchen is busy"),
    ):
        pytest.fail("the lock is held elsewhere")
    assert not lock.locked()


def test_a_lock_is_waited_for_no_longer_than_the_caller_waits() -> None:
    lock = threading.Lock()
    with lock, deadline(0.01), pytest.raises(DeadlineExceeded), holding(lock, 3600, "busy"):
        pytest.fail("the lock is held elsewhere")


def test_a_lock_is_given_back_after_an_error() -> None:
    lock = threading.Lock()
    with pytest.raises(ValueError, match="inside"), holding(lock, 1, "busy"):
        raise ValueError("inside")
    assert not lock.locked()
