# SPDX-License-Identifier: Apache-2.0
"""What one reconcile changed, and what it could not."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import structlog

from dni_driver.core.errors import DeadlineExceeded, DniError, NotMended

_log = structlog.get_logger()


class Ledger:
    """Collects changes and failures, so that one broken object does not keep the others broken."""

    def __init__(self, known: Collection[tuple[str | None, str]] = ()) -> None:
        """Begin with nothing changed; a failure that is known from last time is nothing new to the log."""
        self.changes: list[str] = []
        self.failures: list[tuple[str | None, str]] = []
        self._known = known

    @property
    def entries(self) -> int:
        """Count changes and failures so far."""
        return len(self.changes) + len(self.failures)

    def did(self, change: str) -> None:
        """Note a change, in words."""
        _log.info("kernel changed", change=change)
        self.changes.append(change)

    def tidied(self, change: str) -> None:
        """Note a change that happens every day: a link without a record is there at the end of each container."""
        _log.debug("kernel changed", change=change)
        self.changes.append(change)

    @contextmanager
    def about(self, subject: str, bridge: str | None = None) -> Iterator[None]:
        """Note a failure inside the block and go on behind it; a deadline that has passed ends it all.

        `bridge` is the one that a failure concerns, None where it concerns them all.
        """
        try:
            yield
        except DeadlineExceeded:
            raise
        except (DniError, OSError) as error:
            failure = bridge, f"{subject}: {in_words(error)}"
            log = _log.debug if failure in self._known else _log.warning
            log("kernel refused", subject=subject, error=str(error))
            self.failures.append(failure)

    def settle(self) -> None:
        """Raise one error that lists the failures, if there were any."""
        if self.failures:
            raise NotMended(self.failures)


def in_words(error: Exception) -> str:
    """Answer an error as people read it, without Python's number in front."""
    if isinstance(error, PermissionError):
        return f"{error.strerror}: dni must run as root, or with CAP_NET_ADMIN"
    if isinstance(error, OSError) and error.errno == errno.EXFULL:
        return "the bridge has as many links as the kernel allows (1023): use another overlay, or another host"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
