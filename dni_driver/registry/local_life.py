# SPDX-License-Identifier: Apache-2.0
"""Which agents of a local registry are alive: whoever holds the lock on a file of theirs, however it ends."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from dni_driver.core.overlays import Address

_MODE = 0o600


class Lives:
    """The lives that this process gives, and those that it finds. Used within transactions, one at a time."""

    def __init__(self, path: Path) -> None:
        """Take the file of the registry: the locks are beside it."""
        self._path = path
        self._given: dict[Address, int] = {}
        weakref.finalize(self, _close, self._given)

    def is_ours(self, agent_ip: Address) -> bool:
        """Tell whether an agent lives by this registry being open here."""
        return agent_ip in self._given

    def is_alive(self, agent_ip: Address) -> bool:
        """Tell whether an agent lives."""
        if self.is_ours(agent_ip):
            return True
        if not self._file(agent_ip).exists():
            return False
        lock = self._locked(agent_ip)
        if lock is not None:
            os.close(lock)
        return lock is None

    def begin(self, agent_ip: Address) -> None:
        """Have an agent live until `end`; as long as an earlier process of it has not ended, it lives by that."""
        lock = None if self.is_ours(agent_ip) else self._locked(agent_ip)
        if lock is not None:
            self._given[agent_ip] = lock

    def drop(self, agent_ip: Address) -> None:
        """Leave no trace of an agent, which is forgotten or has another IP now."""
        lock = self._given.pop(agent_ip, None)
        if lock is not None:
            os.close(lock)
        self._file(agent_ip).unlink(missing_ok=True)

    def end(self) -> None:
        """End the lives given here."""
        _close(self._given)

    def _file(self, agent_ip: Address) -> Path:
        return self._path.with_name(f"{self._path.name}-{agent_ip}")

    def _locked(self, agent_ip: Address) -> int | None:
        """Answer the lock on a file, which goes with its descriptor; None where somebody has it."""
        lock = os.open(self._file(agent_ip), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock


def _close(given: dict[Address, int]) -> None:
    while given:
        os.close(given.popitem()[1])
