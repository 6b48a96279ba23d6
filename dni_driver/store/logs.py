# SPDX-License-Identifier: Apache-2.0
"""The log that SQLite keeps beside a store: what was written and is not in its file yet."""

from __future__ import annotations

from pathlib import Path


def log_of(path: Path) -> Path:
    """Answer where the log of a store is."""
    return path.with_name(f"{path.name}-wal")


def orphaned(path: Path) -> Path | None:
    """Answer the log of a store that is gone itself: with commits in it that would end up in a new store."""
    log = log_of(path)
    return log if not path.exists() and log.exists() and log.stat().st_size else None
