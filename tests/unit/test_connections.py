# SPDX-License-Identifier: Apache-2.0
"""Connections are lent, given back, and not lent again once one has failed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dni_driver.store.connections import Connections


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Connections]:
    made = Connections(tmp_path / "some.db")
    with made.lend() as connection:
        connection.execute("CREATE TABLE some (thing TEXT PRIMARY KEY)")
    yield made
    made.close()


def test_the_one_given_back_last_is_lent_first(connections: Connections) -> None:
    with connections.lend() as first, connections.lend() as second:
        assert first is not second
    for _ in range(3):
        with connections.lend() as again:
            assert again is first


def fail(connections: Connections) -> None:
    with connections.lend() as connection:
        connection.execute("SELECT * FROM missing")


def test_after_a_failure_none_of_those_that_wait_is_lent_again(connections: Connections) -> None:
    with connections.lend() as one, connections.lend() as other:
        pass
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        fail(connections)
    for closed in (one, other):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            closed.execute("SELECT 1")
    with connections.lend() as connection:
        assert connection not in (one, other)


def test_one_that_was_told_of_a_conflict_is_as_good_as_before(connections: Connections) -> None:
    with pytest.raises(sqlite3.IntegrityError), connections.lend() as first:
        first.execute("INSERT INTO some VALUES ('a'), ('a')")
    with connections.lend() as again:
        assert again is first


def test_what_is_lent_while_all_are_closed_is_closed_and_not_kept(connections: Connections) -> None:
    with connections.lend() as lent:
        connections.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            lent.execute("SELECT 1")
    with connections.lend() as new:
        assert new is not lent


def test_waiting_for_others_is_asked_for_once(connections: Connections) -> None:
    asked: list[str] = []
    with connections.lend() as connection:
        connection.set_trace_callback(asked.append)
        for seconds in (1.0, 1.0, 2.5):
            connection.be_patient(seconds)
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 2500
    assert asked[:2] == ["PRAGMA busy_timeout = 1000", "PRAGMA busy_timeout = 2500"]
