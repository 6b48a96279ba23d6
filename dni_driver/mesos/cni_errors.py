# SPDX-License-Identifier: Apache-2.0
"""The errors that `dni-cni` answers, by CNI's codes and its own (from 100 on)."""

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
BAD_ENVIRONMENT = 4
UNREADABLE = 6
INVALID_CONFIGURATION = 7
TRY_AGAIN = 11
REFUSED = 100
"""Understood, and against a rule; also where CHECK finds something else than ADD made."""
TAKEN = 101
"""The address is somebody's, or there is none left."""
FAILED = 102
"""The host could not do it."""


class CniError(Exception):
    """What a runtime is told instead of a result."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        """Take the code, one line for people, and what else helps."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
