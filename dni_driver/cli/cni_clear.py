# SPDX-License-Identifier: Apache-2.0
"""`dni cni clear`: takes away what the agent keeps in cni.directory, where it is not there to do so itself."""

from __future__ import annotations

import os

from dni_driver.cli import locks
from dni_driver.cli.settings import Settings
from dni_driver.core.errors import Refused
from dni_driver.mesos import conf_files
from dni_driver.store import Store


def clear(settings: Settings) -> None:
    """Remove the files that are as dni wrote them.

    Raises Unavailable where the agent runs, which would write them again, Refused naming what cannot be removed.
    """
    lock = locks.take(settings.run.directory / "agent.lock", "the dni agent", 0.0)
    try:
        path = settings.store.directory / "dni.db"
        if path.exists():
            _clear(Store(path))
    finally:
        os.close(lock)


def _clear(store: Store) -> None:
    try:
        problems = conf_files.settle(store, {})
    finally:
        store.close()
    if problems:
        raise Refused("; ".join(problems))
