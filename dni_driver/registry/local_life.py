# SPDX-License-Identifier: Apache-2.0
"""Which agents of a local registry are alive: whoever holds the lock on a file of theirs, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from ipaddress import IPv4Address
from pathlib import Path


class Lives:
    """The lives that this process gives, and those that it finds. Used within transactions, one at a time."""

    def __init__(self, path: Path) -> None:
        """Take the file of the registry: the locks are beside it."""
        self._path = path
        self._given: dict[IPv4Address, TextIOWrapper] = {}

    def is_ours(self, agent_ip: IPv4Address) -> bool:
        """Tell whether an agent lives by this registry being open here."""
        return agent_ip in self._given

    def is_alive(self, agent_ip: IPv4Address) -> bool:
        """Tell whether an agent lives."""
        if self.is_ours(agent_ip):
            return True
        path = self._file(agent_ip)
        if not path.exists():
            return False
        with _locked(path) as (_, is_had):
            return not is_had

    def begin(self, agent_ip: IPv4Address) -> None:
        """Have an agent live until `end`; nobody else has it live now."""
        if not self.is_ours(agent_ip):
            lock = self._file(agent_ip).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._given[agent_ip] = lock

    def drop(self, agent_ip: IPv4Address) -> None:
        """Leave no trace of an agent, which is forgotten or has another IP now."""
        lock = self._given.pop(agent_ip, None)
        if lock is not None:
            lock.close()
        self._file(agent_ip).unlink(missing_ok=True)

    def end(self) -> None:
        """End the lives given here."""
        while self._given:
            _, lock = self._given.popitem()
            lock.close()

    def _file(self, agent_ip: IPv4Address) -> Path:
        return self._path.with_name(f"{self._path.name}-{agent_ip}")


@contextmanager
def _locked(path: Path) -> Iterator[tuple[TextIOWrapper, bool]]:
    """Give a lock on a file for a moment, if that is to be had."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield lock, False
        else:
            yield lock, True
