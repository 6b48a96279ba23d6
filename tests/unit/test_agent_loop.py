# SPDX-License-Identifier: Apache-2.0
"""A loop does its step again and again, whatever the step raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import pytest
from structlog.testing import capture_logs

from dni_driver.agent.loop import Loop, Pace, Step
from dni_driver.agent.problems import Problems
from dni_driver.core.errors import Unavailable

LONG = 600.0
PATIENCE = 60.0


class Counted:
    """A step that counts itself, and does what each round is told to; the last one is done for ever."""

    def __init__(self, *rounds: Callable[[], Sequence[str]]) -> None:
        """Take what to do, round by round."""
        self._rounds = rounds
        self._changed = threading.Condition()
        self.count = 0

    def __call__(self) -> Sequence[str]:
        """Do the next round."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        return self._rounds[min(self.count, len(self._rounds)) - 1]()

    def reached(self, count: int) -> bool:
        """Wait until so many rounds have begun."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, PATIENCE)


def well() -> Sequence[str]:
    return ()


def away() -> Sequence[str]:
    raise Unavailable("no registry")


def broken() -> Sequence[str]:
    raise ZeroDivisionError("oops")


class Run:
    """A loop that runs for a test."""

    def __init__(self, step: Step, pace: Pace) -> None:
        """Do nothing yet."""
        self.problems = Problems()
        self.loop = Loop("part", pace, self.problems)
        self._step = step

    def __enter__(self) -> Self:
        """Start it."""
        self.loop.start(self._step)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.loop.stop()
        self.loop.join(PATIENCE)

    def eventually(self, problems: list[str]) -> bool:
        """Wait until the problems are these."""
        ends = time.monotonic() + PATIENCE
        while self.problems.every() != problems and time.monotonic() < ends:
            time.sleep(0.005)
        return self.problems.every() == problems


def test_the_first_step_is_done_at_once_and_the_next_ones_every_so_often() -> None:
    step = Counted(well)
    with Run(step, Pace(every=0.01)):
        assert step.reached(4)


def test_a_woken_loop_does_its_step_before_its_time() -> None:
    step = Counted(well)
    with Run(step, Pace(every=LONG)) as run:
        assert step.reached(1)
        run.loop.wake()
        assert step.reached(2)


def test_news_that_come_in_together_are_one_step() -> None:
    """On a machine too busy to tell them all in time, they are given more."""
    for settle in (0.5, 2.0, 8.0):
        step = Counted(well)
        with Run(step, Pace(every=LONG, settle=settle)) as run:
            assert step.reached(1)
            began = time.monotonic()
            for _ in range(5):
                run.loop.wake()
                time.sleep(0.01)
            are_told_in_time = time.monotonic() - began < settle
            assert step.reached(2)
            time.sleep(0.1)
            if are_told_in_time:
                assert step.count == 2
                return
    pytest.fail("this machine is too busy")


def test_who_cannot_wait_has_the_news_taken_in_at_once() -> None:
    step = Counted(well)
    with Run(step, Pace(every=LONG, settle=LONG, rest=1e9)) as run:
        assert step.reached(1)
        run.loop.wake()
        run.loop.catch_up(PATIENCE)
        assert step.count == 2


def test_where_there_are_no_news_nobody_waits_for_any() -> None:
    step = Counted(well)
    with Run(step, Pace(every=LONG)) as run:
        assert step.reached(1)
        run.loop.catch_up(PATIENCE)
        run.loop.catch_up(PATIENCE)
        assert step.count == 1


def test_news_during_a_step_are_not_lost() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> Sequence[str]:
        inside.set()
        go_on.wait(PATIENCE)
        return ()

    step = Counted(slow, well)
    with Run(step, Pace(every=LONG)) as run:
        assert inside.wait(PATIENCE)
        run.loop.wake()
        go_on.set()
        assert step.reached(2)


def test_a_loop_that_is_hurried_neither_rests_nor_waits_for_more_news() -> None:
    step = Counted(well)
    with Run(step, Pace(every=LONG, settle=LONG, rest=LONG)) as run:
        assert step.reached(1)
        run.loop.hurry()
        assert step.reached(2)


def test_the_first_step_can_be_waited_for_and_not_for_ever() -> None:
    go_on = threading.Event()

    def slow() -> Sequence[str]:
        go_on.wait(PATIENCE)
        return ()

    step = Counted(slow, well)
    with Run(step, Pace(every=LONG)) as run:
        run.loop.await_first(0.05)
        go_on.set()
        run.loop.await_first(PATIENCE)
        assert step.count == 1


def test_a_step_that_takes_long_leaves_room_behind_it_even_when_woken() -> None:
    begun: list[float] = []

    def slow() -> Sequence[str]:
        begun.append(time.monotonic())
        time.sleep(0.05)
        return ()

    step = Counted(slow)
    with Run(step, Pace(every=LONG, rest=4)) as run:
        assert step.reached(1)
        run.loop.wake()
        assert step.reached(2)
    assert begun[1] - begun[0] >= 0.05 * 5


@pytest.mark.parametrize(
    ("failing", "problem"),
    [
        (away, "no registry"),
        (broken, "part failed unexpectedly (ZeroDivisionError: oops): the log says more"),
    ],
)
def test_a_step_that_fails_is_reported_and_done_again_soon(failing: Step, problem: str) -> None:
    step = Counted(failing, well)
    with Run(step, Pace(every=LONG)) as run:
        assert run.eventually([problem])
        assert step.reached(2)
        assert run.eventually([])


def test_what_a_step_says_is_wrong_is_reported_until_it_no_longer_says_so() -> None:
    step = Counted(lambda: ["overlay 'dev' is full"], well)
    with Run(step, Pace(every=LONG)) as run:
        assert run.eventually(["overlay 'dev' is full"])
        run.loop.wake()
        assert run.eventually([])


def test_the_first_step_is_enough_for_what_a_loop_was_woken_for_before_it_started() -> None:
    step = Counted(well)
    run = Run(step, Pace(every=LONG))
    run.loop.wake()
    with run:
        run.loop.catch_up(PATIENCE)
    assert step.count == 1


def test_failures_in_a_row_are_spaced_out_but_never_beyond_the_usual_pace() -> None:
    loop = Loop("part", Pace(every=30), Problems())
    pauses = []
    for _ in range(8):
        loop._do(away)  # noqa: SLF001 - the pauses themselves would take a minute and a half
        pauses.append(loop._pause(0.01))  # noqa: SLF001
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_stopped_loop_ends_at_once_and_one_that_never_started_can_be_joined() -> None:
    with Run(Counted(well), Pace(every=LONG)):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "dni-part"]
    Loop("part", Pace(every=LONG), Problems()).join(0)


def test_problems_are_told_once_each_and_logged_when_they_begin_and_end() -> None:
    problems = Problems()
    with capture_logs() as said:
        for _ in range(3):
            problems.report("docker", ["dockerd is away"])
            problems.report("docker events", ["dockerd is away"])
        assert problems.every() == ["dockerd is away"]
        problems.report("docker", [])
        problems.report("docker", [])
    assert problems.every() == ["dockerd is away"]
    assert [(line["event"], line["part"]) for line in said] == [
        ("problem", "docker"),
        ("problem", "docker events"),
        ("all is well again", "docker"),
    ]
