# SPDX-License-Identifier: Apache-2.0
"""What one reconcile changed, and what it could not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from dni_driver.core.errors import DeadlineExceeded, DniError, KernelError

_log = structlog.get_logger()


class Ledger:
    """Collects changes and failures, so that one broken object does not keep the others broken."""

    def __init__(self) -> None:
        """Begin with nothing changed."""
        self.changes: list[str] = []
        self._failures: list[str] = []

    @property
    def entries(self) -> int:
        """Count changes and failures so far."""
        return len(self.changes) + len(self._failures)

    def did(self, change: str) -> None:
        """Note a change, in words."""
        _log.info("kernel changed", change=change)
        self.changes.append(change)

    @contextmanager
    def about(self, subject: str) -> Iterator[None]:
        """Note a failure inside the block and go on behind it; a deadline that has passed ends it all."""
        try:
            yield
        except DeadlineExceeded:
            raise
        except (DniError, OSError) as error:
            _log.warning("kernel refused", subject=subject, error=str(error))
            self._failures.append(f"{subject}: {in_words(error)}")

    def settle(self) -> None:
        """Raise one KernelError that lists the failures, if there were any."""
        if self._failures:
            raise KernelError("; ".join(self._failures))


def in_words(error: Exception) -> str:
    """Answer an error as people read it, without Python's number in front."""
    if isinstance(error, PermissionError):
        return f"{error.strerror}: dni must run as root, or with CAP_NET_ADMIN"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
