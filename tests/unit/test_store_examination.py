# SPDX-License-Identifier: Apache-2.0
"""A store is looked at without being changed, whatever state it is in."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dni_driver.core.doctor.facts import StoreFacts
from dni_driver.store import Store
from dni_driver.store.examination import look, look_at_disk
from tests.fakes import DCOS, lease
from tests.unit.damages import DAMAGES


@pytest.fixture
def full(path: Path) -> Path:
    """A store with an overlay in it, that nobody has open."""
    store = Store(path)
    lease(store, DCOS, "9.0.0.0/24")
    store.close()
    return path


def test_a_sound_store_is_read(full: Path) -> None:
    seen = look(full)
    assert seen.records is not None
    assert [overlay.name for overlay in seen.records.overlays] == ["dcos"]
    assert (seen.exists, seen.trouble, seen.mode, seen.size) == (True, None, 0o600, full.stat().st_size)


def test_a_store_in_use_is_read_with_what_is_only_in_its_log(path: Path) -> None:
    store = Store(path)
    lease(store, DCOS, "9.0.0.0/24")
    seen = look(path)
    assert seen.records is not None
    assert [held.overlay for held in seen.records.agent_subnets] == ["dcos"]
    assert seen.log_size > 0
    store.close()


def test_a_store_that_is_not_there_is_not_made(path: Path) -> None:
    assert look(path) == StoreFacts(path=str(path), exists=False)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_named_so_and_left_as_it_is(full: Path, damage: Callable[[Path], None]) -> None:
    damage(full)
    before = {file.name: file.read_bytes() for file in full.parent.iterdir()}
    seen = look(full)
    assert seen.exists
    assert seen.records is None
    assert seen.trouble is not None
    assert seen.trouble.startswith(("is damaged", "is gone, and its log"))
    assert {file.name: file.read_bytes() for file in full.parent.iterdir()} == before


def test_contents_that_cannot_be_read_are_damage(full: Path) -> None:
    with closing(sqlite3.connect(full)) as connection:
        connection.execute("UPDATE overlay SET subnet = '9.0.0/8'")
        connection.commit()
    assert "Expected 4 octets" in str(look(full).trouble)


@pytest.mark.parametrize(("version", "trouble"), [(900, "was written by a newer dni (version 900)"), (1, "None")])
def test_a_newer_store_is_trouble_and_an_older_one_is_none(full: Path, version: int, trouble: str) -> None:
    """An older one is brought up to date when dni starts; until then it is not understood."""
    with closing(sqlite3.connect(full)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    seen = look(full)
    assert str(seen.trouble).startswith(trouble)
    assert seen.records is None


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be another user than root, who may look at everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_store_of_root_is_not_for_others(full: Path) -> None:
    full.chmod(0)
    with somebody_else(), pytest.raises(PermissionError):
        look(full)


def test_the_disk_is_that_of_the_next_directory_there_is(tmp_path: Path) -> None:
    seen = look_at_disk(tmp_path / "var" / "lib" / "dni")
    assert seen.path == str(tmp_path / "var" / "lib" / "dni")
    assert Path(seen.mount).is_mount()
    assert tmp_path.is_relative_to(seen.mount)
    assert (seen.is_read_only, seen.is_out_of_inodes) == (False, False)
    assert seen.free > 0
