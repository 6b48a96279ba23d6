# SPDX-License-Identifier: Apache-2.0
"""What is the local registry's own: its file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dni_driver.core.addresses.counts import Counts
from dni_driver.core.errors import SettingsError, StoreError
from dni_driver.registry import Host, open_registry
from tests.fakes import AGENT, DCOS
from tests.members import joined
from tests.removing import remove


def test_an_unknown_registry_is_refused_naming_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r'registry\.url = "etcd://a/dni": must be "local"'):
        open_registry("etcd://a/dni", tmp_path)


def test_the_file_is_for_root_alone(tmp_path: Path) -> None:
    open_registry("local", tmp_path / "new").close()
    assert (tmp_path / "new" / "registry.db").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database at all" * 300)
    with pytest.raises(StoreError, match=r"the registry .*registry\.db is damaged .*move it away"):
        open_registry("local", tmp_path)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_registry("local", tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"written by a newer dni \(version 99\)"):
        open_registry("local", tmp_path)


def test_a_file_from_before_agents_told_how_full_they_are_goes_on(tmp_path: Path) -> None:
    registry = open_registry("local", tmp_path)
    registry.register(Host(agent_ip=AGENT, identity="me", boot="b"))
    registry.close()
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        connection.execute("DROP TABLE leaving")
        connection.execute("DROP TABLE counts")
        connection.execute("PRAGMA user_version = 3")
    registry = open_registry("local", tmp_path)
    registry.tell(AGENT, Counts(as_of=1.0))
    assert registry.told([AGENT]) == {AGENT: Counts(as_of=1.0)}
    registry.close()


def test_to_tell_the_same_once_more_writes_nothing(tmp_path: Path) -> None:
    registry = open_registry("local", tmp_path)
    registry.register(Host(agent_ip=AGENT, identity="me", boot="b"))
    registry.tell(AGENT, Counts(as_of=1.0))
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        registry.tell(AGENT, Counts(as_of=2.0))
        assert connection.execute("PRAGMA data_version").fetchone() == before
    registry.close()


def test_to_say_the_same_of_what_is_used_writes_nothing(tmp_path: Path) -> None:
    """It is said every few seconds, and each write waits for the disk."""
    registry = open_registry("local", tmp_path)
    registry.define(DCOS)
    joined(registry, AGENT).use(AGENT, {"dcos"})
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        registry.use(AGENT, {"dcos"})
        assert connection.execute("PRAGMA data_version").fetchone() == before
        registry.use(AGENT, ())
        assert connection.execute("PRAGMA data_version").fetchone() != before
    remove(registry, "dcos")
    registry.close()
