# SPDX-License-Identifier: Apache-2.0
"""A copy of the store that is put back: whole without the log of what was there, never mixed with it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dni_driver.core.errors import StoreError
from dni_driver.core.invariants.store import in_the_store
from dni_driver.store import Store
from dni_driver.store.examination import look
from dni_driver.store.forget import forget_endpoint
from dni_driver.store.records import read_all
from tests.fakes import DCOS, lease
from tests.unit.agents import create_endpoint, create_network

NOW = 1_700_000_000.0


def identity(number: int) -> str:
    """Name an endpoint by the last part of its address."""
    return f"{number:064x}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give the store of a host with twenty containers."""
    store = Store(tmp_path / "dni.db")
    lease(store, DCOS, "9.0.0.0/24")
    create_network(store, NOW)
    for number in range(130, 150):
        create_endpoint(store, identity(number), f"9.0.0.{number}", NOW)
    store.checkpoint()
    return store


def copied(store: Store) -> Path:
    """Copy a store as docs/operations.md says."""
    copy = store.path.with_name("copy.db")
    with closing(sqlite3.connect(store.path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def go_on(store: Store, starts: int) -> None:
    """Have containers start and end after the copy was made, the file being written in between."""
    for number in range(150, 150 + starts):
        create_endpoint(store, identity(number), f"9.0.0.{number}", NOW)
        store.checkpoint()
    with store.write() as tx:
        for number in range(130, 145):
            forget_endpoint(tx, identity(number), NOW)
    store.checkpoint()
    create_endpoint(store, "f" * 64, "9.0.0.254", NOW)


def crashed(store: Store) -> Path:
    """Answer the store as a failure of power leaves it."""
    left = store.path.with_name("left")
    left.mkdir()
    for name in ("dni.db", "dni.db-wal"):
        shutil.copy(store.path.with_name(name), left)
    return left / "dni.db"


@pytest.mark.parametrize("starts", [1, 2, 3, 5, 8, 60])
def test_a_copy_beside_the_log_of_a_crash_is_never_taken_for_a_store(store: Store, starts: int) -> None:
    copy = copied(store)
    go_on(store, starts)
    path = crashed(store)
    shutil.copy(copy, path)
    for _ in range(3):
        with pytest.raises(StoreError, match=r"is damaged .*: stop dni and move it away, its log too \(mv .*\*"):
            Store(path)
    assert path.read_bytes() == copy.read_bytes(), "what was put back is still what it was"
    assert "is damaged" in str(look(path).trouble)


def test_a_copy_put_back_without_that_log_is_the_copy(store: Store) -> None:
    copy = copied(store)
    go_on(store, 5)
    path = crashed(store)
    for file in path.parent.iterdir():
        file.unlink()
    shutil.copy(copy, path)
    records = read_all(Store(path))
    assert {endpoint.id for endpoint in records.endpoints} == set(map(identity, range(130, 150)))
    assert not list(in_the_store(records))


def test_after_a_crash_the_store_and_its_own_log_are_whole(store: Store) -> None:
    go_on(store, 5)
    records = read_all(Store(crashed(store)))
    assert len(records.endpoints) == 20 + 5 - 15 + 1
    assert not list(in_the_store(records))


def test_a_store_may_lie_in_a_directory_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "odd #1?mode=rw%20" / "dni.db"
    Store(path).close()
    assert look(path).trouble is None
    assert [file.name for file in tmp_path.iterdir()] == ["odd #1?mode=rw%20"]
