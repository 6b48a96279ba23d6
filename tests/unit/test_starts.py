# SPDX-License-Identifier: Apache-2.0
"""Containers begin a few at a time, and none waits for long."""

from __future__ import annotations

import os
import threading

import pytest

from dni_driver.core.errors import InUse
from dni_driver.plugin.starts import LONGEST_SECONDS, Starts, most_at_once

TWO = 2


class Sandboxes:
    """A clock that only sleeping moves on, and links that are moved at a moment each."""

    def __init__(self) -> None:
        """Begin at some time, with nothing under way."""
        self.now = 100.0
        self.moves_at: dict[str, float] = {}
        self.starts = Starts(TWO, self._awaits_move, sleep=self._sleep, clock=lambda: self.now)

    def begin(self, endpoint: str, network: str = "one") -> float:
        """Begin, and answer how long that waited."""
        before = self.now
        with self.starts.one_more(network, endpoint):
            return self.now - before

    def link(self, endpoint: str, moved_in: float) -> None:
        """Make a link that is moved in some seconds."""
        self.moves_at[endpoint] = self.now + moved_in
        self.starts.linked(endpoint)

    def _awaits_move(self, endpoint: str) -> bool:
        return self.now < self.moves_at[endpoint]

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def sandboxes() -> Sandboxes:
    return Sandboxes()


def test_as_many_begin_at_once_as_may(sandboxes: Sandboxes) -> None:
    assert [sandboxes.begin(name) for name in ("first", "second")] == [0, 0]


def test_one_more_waits_until_the_link_of_another_is_moved(sandboxes: Sandboxes) -> None:
    for name in ("first", "second"):
        sandboxes.begin(name)
        sandboxes.link(name, moved_in=0.3)

    assert sandboxes.begin("third") == pytest.approx(0.3, abs=0.03)


def test_what_has_no_link_yet_is_still_under_way(sandboxes: Sandboxes) -> None:
    for name in ("first", "second"):
        sandboxes.begin(name)
    sandboxes.link("first", moved_in=0.0)

    assert [sandboxes.begin("third"), sandboxes.begin("fourth") > 0] == [0, True]


def test_nobody_waits_longer_than_a_second_for_starts_that_have_failed_without_a_word(sandboxes: Sandboxes) -> None:
    for name in ("first", "second"):
        sandboxes.begin(name)
        sandboxes.link(name, moved_in=3600.0)

    assert sandboxes.begin("third") == pytest.approx(LONGEST_SECONDS, abs=0.03)
    assert sandboxes.begin("fourth") == 0


def test_an_endpoint_that_was_deleted_makes_room(sandboxes: Sandboxes) -> None:
    for name in ("first", "second"):
        sandboxes.begin(name)
    sandboxes.starts.end("first")

    assert sandboxes.begin("third") == 0


def test_an_endpoint_that_was_refused_makes_room(sandboxes: Sandboxes) -> None:
    sandboxes.begin("first")
    with pytest.raises(InUse), sandboxes.starts.one_more("one", "second"):
        raise InUse("this address is in use")

    assert sandboxes.begin("third") == 0


def test_networks_do_not_wait_for_each_other(sandboxes: Sandboxes) -> None:
    for name in ("first", "second"):
        sandboxes.begin(name)

    assert sandboxes.begin("third", network="another") == 0


def test_a_repeated_creation_counts_once(sandboxes: Sandboxes) -> None:
    assert [sandboxes.begin("first"), sandboxes.begin("first"), sandboxes.begin("second")] == [0, 0, 0]


def test_news_of_an_endpoint_that_nobody_counts_are_no_error(sandboxes: Sandboxes) -> None:
    sandboxes.starts.linked("unknown")
    sandboxes.starts.end("unknown")

    assert [sandboxes.begin(name) for name in ("first", "second")] == [0, 0]


def test_whoever_comes_by_many_threads_begins_sooner_or_later() -> None:
    starts, done = Starts(TWO, lambda _: False), []

    def come(number: int) -> None:
        with starts.one_more("one", str(number)):
            starts.linked(str(number))
        done.append(number)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * LONGEST_SECONDS)

    assert sorted(done) == list(range(20))


def test_more_processors_carry_more_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    with_sixteen = most_at_once()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})

    assert (most_at_once(), with_sixteen) == (2, 32)
