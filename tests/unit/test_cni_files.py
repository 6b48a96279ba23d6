# SPDX-License-Identifier: Apache-2.0
"""The files that CNI runtimes read: dni's are kept as they should be, and nobody else's is touched."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dni_driver.mesos import conf_files
from dni_driver.store import Store, cni
from tests.scratch import fast_directory

STRANGE = ["{path} is not as dni wrote it, and left as it is: remove it, and dni writes its own"]


@pytest.fixture
def store() -> Iterator[Store]:
    with fast_directory() as directory:
        made = Store(Path(directory) / "dni.db")
        yield made
        made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.d" / "dcos.conf"


def strange(path: Path) -> list[str]:
    return [text.format(path=path) for text in STRANGE]


def test_a_file_is_written_whole_for_all_to_read_and_nothing_beside_it(store: Store, path: Path) -> None:
    assert conf_files.settle(store, {path: b"one"}) == []
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["dcos.conf"]  # noqa: PTH208 - hidden files too


def test_it_is_replaced_when_it_should_say_something_else_and_left_when_not(store: Store, path: Path) -> None:
    conf_files.settle(store, {path: b"one"})
    first = path.stat().st_ino
    conf_files.settle(store, {path: b"one"})
    assert path.stat().st_ino == first
    conf_files.settle(store, {path: b"two"})
    assert path.read_bytes() == b"two"


def test_it_goes_with_its_overlay_and_so_does_what_was_in_another_directory(store: Store, path: Path) -> None:
    moved = path.parent.parent / "other" / path.name
    conf_files.settle(store, {path: b"one"})
    conf_files.settle(store, {moved: b"one"})
    assert not path.exists()
    assert conf_files.settle(store, {}) == []
    assert not moved.exists()
    with store.read() as tx:
        assert cni.written(tx) == {}


def test_somebody_elses_file_of_that_name_is_a_problem_and_stays(store: Store, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"theirs")
    assert conf_files.settle(store, {path: b"one"}) == strange(path)
    assert conf_files.settle(store, {}) == []
    assert path.read_bytes() == b"theirs"


def test_what_somebody_has_changed_is_theirs_from_then_on(store: Store, path: Path) -> None:
    conf_files.settle(store, {path: b"one"})
    path.write_bytes(b"one, changed")
    assert conf_files.settle(store, {path: b"two"}) == strange(path)
    assert conf_files.settle(store, {}) == []
    assert path.read_bytes() == b"one, changed"
    path.unlink()
    assert conf_files.settle(store, {path: b"two"}) == []
    assert path.read_bytes() == b"two"


def test_what_says_the_right_thing_already_is_no_problem_and_not_dnis(store: Store, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"one")
    assert conf_files.settle(store, {path: b"one"}) == []
    conf_files.settle(store, {})
    assert path.exists()


def test_a_write_that_was_cut_short_is_taken_up(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf_files.settle(store, {path: b"one"})

    def cut_short(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cni, "settle_written", cut_short)
        with pytest.raises(KeyboardInterrupt):
            conf_files.settle(store, {path: b"two"})
    assert path.read_bytes() == b"two"
    assert conf_files.settle(store, {path: b"three"}) == []
    assert path.read_bytes() == b"three"


def test_a_directory_that_cannot_be_is_told_and_the_others_are_written(store: Store, path: Path) -> None:
    blocked = path.parent / "file" / "dev.conf"
    path.parent.mkdir()
    (path.parent / "file").write_text("in the way")
    told = conf_files.settle(store, {blocked: b"one", path: b"one"})
    assert told == [f"{blocked} cannot be written: Not a directory"]
    assert path.read_bytes() == b"one"


def test_a_service_that_may_not_write_there_is_told_how_it_may(store: Store) -> None:
    (told,) = conf_files.settle(store, {Path("/proc/dcos.conf"): b"one"})
    assert told.startswith("/proc/dcos.conf cannot be written: ")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "mkdir", read_only)
        (told,) = conf_files.settle(store, {Path("/nonexistent/dcos.conf"): b"one"})
    assert told.endswith("Read-only file system; `systemctl edit dni-agent` allows it: [Service] ReadWritePaths=")
