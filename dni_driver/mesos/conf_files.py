# SPDX-License-Identifier: Apache-2.0
"""The files `NAME.conf` in the directory where a CNI runtime looks for networks.

Only what dni wrote is ever replaced or removed, and only as long as it is as dni wrote it: what was written is in the
store by its digest, before it is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from dni_driver.store import Store, cni

log = structlog.get_logger(__name__)

_MODE = 0o644
_DRAFTS = ".dni-"
"""What the directories of drafts begin with: beside the file, as a rename leads to no other disk."""
_DRAFT = "draft"


def settle(store: Store, wanted: Mapping[Path, bytes]) -> list[str]:
    """Have these files there, and none that was wanted before; answer in words what stands in the way."""
    with store.read() as tx:
        written = cni.written(tx)
    _sweep({path.parent for path in (*wanted, *map(Path, written))})
    problems = [problem for path, content in wanted.items() for problem in _put(store, path, content, written)]
    for path in sorted(set(written) - {str(path) for path in wanted}):
        problems += _remove(store, Path(path), written[path])
    return problems


def _put(store: Store, path: Path, content: bytes, written: Mapping[str, Collection[str]]) -> Iterator[str]:
    try:
        there, digest = _digest(path), _sum(content)
        if there == digest:
            return
        if there is not None and there not in written.get(str(path), ()):
            yield f"{path} is not as dni wrote it, and left as it is: remove it, and dni writes its own"
            return
        with store.write() as tx:
            cni.note_written(tx, str(path), digest)
        with _drafted(path, content) as draft:
            if there is None:
                path.hardlink_to(draft)  # replaces none that somebody else has put there meanwhile
            else:
                draft.rename(path)
        with store.write() as tx:
            cni.settle_written(tx, str(path), digest)
    except OSError as error:
        yield f"{path} cannot be written: {error.strerror or error}{_hint(error)}"
    else:
        log.info("CNI configuration written", path=str(path))


def _hint(error: OSError) -> str:
    """Say what keeps a service from writing."""
    return "; `systemctl edit dni-agent` allows it: [Service] ReadWritePaths=" if error.errno == errno.EROFS else ""


def _remove(store: Store, path: Path, digests: Collection[str]) -> Iterator[str]:
    """Remove a file that is as dni wrote it; forget one that is gone, or somebody else's by now."""
    try:
        if _digest(path) in digests:
            path.unlink()
            log.info("CNI configuration removed", path=str(path))
    except OSError as error:
        yield f"{path} cannot be removed: {error.strerror or error}"
        return
    with store.write() as tx:
        cni.settle_written(tx, str(path), None)


@contextmanager
def _drafted(path: Path, content: bytes) -> Iterator[Path]:
    """Write a draft beside a file: once it is moved there, whoever looks sees all of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f"{_DRAFTS}{path.stem}-") as directory:
        draft = Path(directory, _DRAFT)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), _MODE)
            os.fsync(file.fileno())
        yield draft


def _sweep(directories: Iterable[Path]) -> None:
    """Remove drafts of a write that was cut short; who is in the way of that is in the way of nothing else."""
    for directory in directories:
        for left in directory.glob(f"{_DRAFTS}*"):
            with suppress(OSError):
                Path(left, _DRAFT).unlink(missing_ok=True)
                left.rmdir()


def _digest(path: Path) -> str | None:
    with suppress(FileNotFoundError):
        return _sum(path.read_bytes())
    return None


def _sum(content: bytes) -> str:
    return sha256(content).hexdigest()
