# SPDX-License-Identifier: Apache-2.0
"""Opening the store, transactions, and what is said when the file cannot be used."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DeadlineExceeded, StoreError
from dni_driver.core.overlays import Overlay
from dni_driver.store import Store, overlays
from dni_driver.store.records import open_sound, read_all
from tests.fakes import AGENT, DCOS, DUAL, FakeClock
from tests.unit.damages import DAMAGES


class Crash(BaseException):
    """The end of a process, at a point of its own choosing."""


def crash_at(wanted: str) -> Callable[[str], None]:
    def reached(point: str) -> None:
        if point == wanted:
            raise Crash

    return reached


def put(store: Store, overlay: Overlay = DCOS) -> None:
    with store.write() as tx:
        overlays.put(tx, overlay)


def names(store: Store) -> list[str]:
    with store.read() as tx:
        return [overlay.name for overlay in overlays.every(tx)]


def ask(path: Path, question: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        (answer,) = connection.execute(question).fetchone()
        connection.commit()
    return answer


def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    first = Store(path)
    put(first)
    first.close()
    assert names(Store(path)) == ["dcos"]


class SyncedLog:
    """What of the log was on disk when it was last synced."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listen."""
        self._log = path.with_name(f"{path.name}-wal")
        self.content = b""
        monkeypatch.setattr("dni_driver.store.disk.os.fdatasync", self._sync)

    def _sync(self, file: int) -> None:
        assert os.fstat(file).st_ino == self._log.stat().st_ino
        os.fsync(file)
        self.content = self._log.read_bytes()


def test_a_commit_is_on_disk_before_it_is_answered_and_a_note_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, synced = Store(path), SyncedLog(path, monkeypatch)
    with store.note() as tx:
        tx.execute("INSERT INTO meta VALUES ('a note', '')")
    assert b"a note" not in synced.content
    with store.write() as tx:
        tx.execute("INSERT INTO meta VALUES ('a record', '')")
        assert b"a record" not in synced.content
    assert b"a note" in synced.content
    assert b"a record" in synced.content


def test_the_connection_leaves_the_disk_to_the_store(path: Path) -> None:
    with Store(path).write() as tx:
        (synchronous,) = tx.execute("PRAGMA synchronous").fetchone()
        (journal,) = tx.execute("PRAGMA journal_mode").fetchone()
    assert (synchronous, journal) == (1, "wal")


def test_a_disk_that_fails_is_told_to_whoever_waits_for_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(path)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("dni_driver.store.disk.os.fdatasync", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            put(store)
    put(store, DUAL)
    assert "dual" in names(store)


@pytest.mark.parametrize(("point", "kept"), [("before commit", []), ("after commit", ["dcos"])])
def test_what_was_noted_outlasts_its_process(path: Path, point: str, kept: list[str]) -> None:
    store = Store(path, crash_point=crash_at(point))
    with pytest.raises(Crash), store.note() as tx:
        overlays.put(tx, DCOS)
    assert names(Store(path)) == kept


def test_a_checkpoint_leaves_nothing_in_the_log_alone(path: Path) -> None:
    store, file = Store(path), path.with_name("without-its-log.db")
    with store.note() as tx:
        overlays.put(tx, DCOS)
    store.checkpoint()
    file.write_bytes(path.read_bytes())
    assert names(Store(file)) == ["dcos"]


def test_no_commit_empties_the_log_of_a_busy_hour(path: Path) -> None:
    """A commit that had to would keep its caller waiting; the agent's checkpoints come long before."""
    store = Store(path)
    store.checkpoint()
    before = path.read_bytes()
    for number in range(1500):
        with store.note() as tx:
            tx.execute("INSERT INTO meta VALUES (?, '')", (str(number),))
    assert path.read_bytes() == before


def test_the_folder_is_made_where_it_is_missing(path: Path) -> None:
    inside = path.parent / "var" / "lib" / "dni.db"
    put(Store(inside))
    assert inside.exists()


def test_only_its_owner_may_read_it(path: Path) -> None:
    store = Store(path)
    put(store)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"dni.db": 0o600, "dni.db-wal": 0o600, "dni.db-shm": 0o600}
    store.close()


def test_a_new_store_is_brought_up_to_date_once(path: Path) -> None:
    Store(path).close()
    version = ask(path, "PRAGMA user_version")
    Store(path).close()
    assert version == ask(path, "PRAGMA user_version") != 0


def test_each_migration_is_applied_from_where_the_store_stands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = path.parent / "migrations"
    migrations.mkdir()
    (migrations / "0001.sql").write_text("CREATE TABLE first (n INTEGER);\nINSERT INTO first VALUES (1);\n")
    monkeypatch.setattr("dni_driver.store.schema.resources.files", lambda _: path.parent)
    Store(path).close()
    (migrations / "0002.sql").write_text("-- one; more\nALTER TABLE first ADD COLUMN m INTEGER DEFAULT 7;\n")
    Store(path).close()
    assert (ask(path, "SELECT n + m FROM first"), ask(path, "PRAGMA user_version")) == (8, 2)


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Store(path))
    version = ask(path, "PRAGMA user_version")
    migrations = path.parent / "migrations"
    migrations.mkdir()
    for number in range(1, int(str(version)) + 1):
        (migrations / f"{number:04}.sql").write_text("")
    (migrations / "9999.sql").write_text("CREATE TABLE half (n INTEGER);\nCREATE TABLE half (n INTEGER);\n")
    with monkeypatch.context() as patched:
        patched.setattr("dni_driver.store.schema.resources.files", lambda _: path.parent)
        with pytest.raises(StoreError, match="cannot be used: table half already exists"):
            Store(path)
    assert ask(path, "PRAGMA user_version") == version
    assert names(Store(path)) == ["dcos"]


def test_a_store_of_a_newer_dni_is_refused_and_left_alone(path: Path) -> None:
    put(Store(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 900")
    with pytest.raises(StoreError, match=r"dni\.db was written by a newer dni \(version 900\): install that one"):
        Store(path)
    assert ask(path, "SELECT name FROM overlay") == "dcos"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_refused_with_what_to_do(path: Path, damage: Callable[[Path], None]) -> None:
    store = Store(path)
    put(store)
    store.close()
    damage(path)
    with pytest.raises(StoreError, match=r"dni\.db is damaged .*its log too .* put back a copy of it") as caught:
        Store(path)
    assert "\n" not in str(caught.value)


def test_what_no_check_of_the_file_finds_is_found_by_reading_all_of_it(path: Path) -> None:
    store = Store(path)
    put(store)
    with store.write() as tx:
        tx.execute("UPDATE overlay SET subnet = '9.0.0/8'")
    store.close()
    with pytest.raises(StoreError, match=r"dni\.db is damaged \(Expected 4 octets in '9\.0\.0'\)"):
        open_sound(path, read_all)


def test_a_new_store_appears_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("os.link", lambda *_: crash_at("link")("link"))
        with pytest.raises(Crash):
            Store(path)
    assert not path.exists()
    Store(path).close()
    assert [file.name for file in path.parent.iterdir()] == ["dni.db"]


def test_two_programs_that_start_at_once_on_a_new_host_share_one_store(path: Path) -> None:
    with ThreadPoolExecutor(2) as programs:
        first, second = programs.map(lambda _: Store(path), range(2))
    put(first)
    assert names(second) == ["dcos"]


def test_a_folder_in_the_place_of_the_file_is_said(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match=r"dni\.db cannot be used"):
        Store(path)


def test_a_file_in_the_place_of_the_folder_is_said(path: Path) -> None:
    path.write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(path / "dni.db")


def test_an_exception_rolls_everything_back(path: Path) -> None:
    store = Store(path)

    def fail_half_way() -> None:
        with store.write() as tx:
            overlays.put(tx, DCOS)
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail_half_way()
    assert names(store) == []
    put(store, DUAL)
    assert names(store) == ["dual"]


def test_a_broken_rule_of_the_schema_is_a_store_error_and_rolls_back(path: Path) -> None:
    store = Store(path)

    def lease_of_nobody() -> None:
        with store.write() as tx:
            overlays.put(tx, DCOS)
            tx.execute("INSERT INTO agent_subnet (overlay, subnet) VALUES ('nobody', '9.0.0.0/24')")

    with pytest.raises(StoreError, match="FOREIGN KEY"):
        lease_of_nobody()
    assert names(store) == []


@pytest.mark.parametrize(("point", "kept"), [("before commit", []), ("after commit", ["dcos"])])
def test_a_crash_leaves_all_of_a_transaction_or_nothing(path: Path, point: str, kept: list[str]) -> None:
    store = Store(path, crash_point=crash_at(point))
    with pytest.raises(Crash):
        put(store)
    assert names(store) == kept
    assert names(Store(path)) == kept


def test_a_crash_lets_go_of_the_lock(path: Path) -> None:
    dying = Store(path, crash_point=crash_at("before commit"))
    with pytest.raises(Crash):
        put(dying)
    put(Store(path), DUAL)
    assert names(dying) == ["dual"]


def test_reading_reaches_no_crash_point(path: Path) -> None:
    put(Store(path))
    assert names(Store(path, crash_point=crash_at("before commit"))) == ["dcos"]


def test_a_reader_sees_one_moment(path: Path) -> None:
    store, other = Store(path), Store(path)
    with store.read() as tx:
        assert overlays.every(tx) == []
        put(other)
        assert overlays.every(tx) == []
    assert names(store) == ["dcos"]


def test_another_process_that_writes_is_waited_for_only_so_long(path: Path) -> None:
    mine, theirs = Store(path), Store(path)
    with theirs.write(), deadline(0.05), pytest.raises(StoreError, match=r"is busy.*try again"), mine.write():
        pytest.fail("two writers at once")
    put(mine)


def test_another_thread_that_writes_is_waited_for_only_so_long(path: Path) -> None:
    store = Store(path)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.write():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(60)
    with deadline(0.05), pytest.raises(DeadlineExceeded, match="is busy; try again"), store.write():
        pytest.fail("two writers at once")
    leave.set()
    thread.join()
    put(store)


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    store, other = Store(path), Store(path)
    with other.write() as tx:
        overlays.put(tx, DCOS)
        assert names(store) == []


def test_nothing_is_begun_past_the_deadline(path: Path) -> None:
    store = Store(path)
    clock = FakeClock()
    with deadline(1.0, clock):
        clock.pass_by(1.0)
        with pytest.raises(DeadlineExceeded), store.read():
            pytest.fail("begun too late")
        with pytest.raises(DeadlineExceeded), store.write():
            pytest.fail("begun too late")
    put(store)


def test_writers_in_many_threads_all_get_their_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dni_driver.store.database.LOCK_SECONDS", 60.0)
    store = Store(path)
    put(store)
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                with store.write() as tx:
                    tx.execute("INSERT INTO meta VALUES (?, '')", (f"{number}/{turn}",))
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with store.read() as tx:
        (count,) = tx.execute("SELECT COUNT(*) FROM meta").fetchone()
    assert count == 160


def test_a_closed_store_can_be_used_again(path: Path) -> None:
    store = Store(path)
    put(store)
    store.close()
    assert names(store) == ["dcos"]
    with store.write() as tx:
        overlays.set_agent_ip(tx, AGENT)
    with store.read() as tx:
        assert overlays.agent_ip(tx) == AGENT


def test_a_read_only_disk_is_not_opened_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would, for reading, and stay with that when the disk can be written again."""
    Store(path).close()
    with monkeypatch.context() as patched:
        patched.setattr("dni_driver.store.database.is_read_only", lambda _: True)
        patched.setattr("dni_driver.store.complaints.is_read_only", lambda _: True)
        with pytest.raises(StoreError, match=r"dni\.db cannot be written: its disk is read-only"):
            Store(path)
    put(Store(path))
