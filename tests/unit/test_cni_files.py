# SPDX-License-Identifier: Apache-2.0
"""The files that CNI runtimes read: dni's are kept as they should be, and nobody else's is touched."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dni_driver.cli import locks
from dni_driver.cli.cni_clear import clear
from dni_driver.cli.settings import RunSettings, Settings, StoreSettings
from dni_driver.core.errors import Refused, Unavailable
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


CUT_SHORT = """
import os, sys
from pathlib import Path
from dni_driver.mesos import conf_files
from dni_driver.store import Store

def end(*_):
    os._exit(9)

setattr(*((os, "fsync", end) if sys.argv[3] == "fsync" else (Path, sys.argv[3], end)))
conf_files.settle(Store(Path(sys.argv[1])), {Path(sys.argv[2]): b"two"})
"""


@pytest.mark.parametrize(
    ("there", "point"), [(b"one", "fsync"), (b"one", "rename"), (None, "fsync"), (None, "hardlink_to")]
)
def test_a_process_that_ends_before_a_write_does_leaves_what_was_there_and_its_draft_is_swept(
    store: Store, path: Path, there: bytes | None, point: str
) -> None:
    if there is not None:
        conf_files.settle(store, {path: there})
    theirs = path.parent / ".dcos-kept"
    theirs.mkdir(parents=True)
    ended = subprocess.run([sys.executable, "-c", CUT_SHORT, str(store.path), str(path), point], check=False)
    assert ended.returncode == 9
    assert (path.read_bytes() if path.exists() else None) == there
    assert len(list(path.parent.glob(".dni-dcos-*"))) == 1
    assert conf_files.settle(store, {path: b"two"}) == []
    assert path.read_bytes() == b"two"
    assert sorted(os.listdir(path.parent)) == [".dcos-kept", "dcos.conf"]  # noqa: PTH208 - hidden files too


def test_a_draft_is_swept_also_where_nothing_is_wanted_any_more(store: Store, path: Path) -> None:
    subprocess.run([sys.executable, "-c", CUT_SHORT, str(store.path), str(path), "hardlink_to"], check=False)
    assert os.listdir(path.parent) != []  # noqa: PTH208 - hidden files too
    assert conf_files.settle(store, {}) == []
    assert os.listdir(path.parent) == []  # noqa: PTH208


def test_what_dni_wrote_is_cleared_when_dni_goes_but_not_under_a_running_agent(store: Store, tmp_path: Path) -> None:
    ours, changed = tmp_path / "net.d" / "dcos.conf", tmp_path / "net.d" / "dev.conf"
    conf_files.settle(store, {ours: b"one", changed: b"one"})
    changed.write_bytes(b"theirs")
    settings = Settings(store=StoreSettings(directory=store.path.parent), run=RunSettings(directory=tmp_path))
    agent = locks.take(tmp_path / "agent.lock", "the dni agent", 0.0)
    with pytest.raises(Unavailable, match=r"^the dni agent runs here already \(pid \d+\): stop that first$"):
        clear(settings)
    assert ours.exists()
    os.close(agent)
    clear(settings)
    assert not ours.exists()
    assert changed.read_bytes() == b"theirs"
    clear(settings)


def test_a_host_without_a_store_has_nothing_to_clear_and_gets_none(tmp_path: Path) -> None:
    clear(Settings(store=StoreSettings(directory=tmp_path / "no"), run=RunSettings(directory=tmp_path / "run")))
    assert not (tmp_path / "no").exists()


def test_what_cannot_be_cleared_is_told(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf_files.settle(store, {path: b"one"})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(Refused, match=f"^{path} cannot be removed: Read-only file system$"):
        clear(Settings(store=StoreSettings(directory=store.path.parent), run=RunSettings(directory=path.parent)))


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
