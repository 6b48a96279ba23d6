# SPDX-License-Identifier: Apache-2.0
"""Links deleted behind everybody's back."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

import pytest

from dni_driver.kernel.containers import reaper
from dni_driver.kernel.containers.reaper import Reaper

LONG = 60.0
"""Longer than any test waits."""


class Deletions:
    """Who was deleted with whom."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.batches: list[set[str]] = []
        self.happened = threading.Event()

    def __call__(self, names: Collection[str]) -> None:
        """Note a batch."""
        self.batches.append(set(names))
        self.happened.set()


@pytest.fixture
def deletions(monkeypatch: pytest.MonkeyPatch) -> Deletions:
    monkeypatch.setattr(reaper, "_REST", LONG)
    return Deletions()


@pytest.fixture
def rested(deletions: Deletions) -> Iterator[Reaper]:
    """Give a reaper that has deleted one link and rests."""
    resting = Reaper(deletions)
    resting.doom(["first"])
    assert deletions.happened.wait(60)
    yield resting
    resting.close()


def test_links_that_end_soon_after_others_are_deleted_together(deletions: Deletions, rested: Reaper) -> None:
    rested.doom(["second"])
    rested.doom(["third", "fourth"])
    assert deletions.batches == [{"first"}]
    rested.drain()
    assert deletions.batches == [{"first"}, {"second", "third", "fourth"}]


def test_who_needs_a_name_again_does_not_wait_for_others(deletions: Deletions, rested: Reaper) -> None:
    rested.await_death("first")
    rested.doom(["second"])
    rested.await_death("third")
    assert deletions.batches == [{"first"}]
    rested.await_death("second")
    assert deletions.batches == [{"first"}, {"second"}]


def test_the_end_leaves_nothing_undeleted(deletions: Deletions, rested: Reaper) -> None:
    rested.doom(["second"])
    rested.close()
    assert deletions.batches == [{"first"}, {"second"}]


def test_links_that_no_thread_could_delete_are_deleted_with_the_next(
    deletions: Deletions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    late = Reaper(deletions)
    with monkeypatch.context() as poor:
        poor.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            late.doom(["first"])
    late.doom(["second"])
    assert deletions.happened.wait(LONG / 10)
    late.close()
    assert deletions.batches == [{"first", "second"}]
