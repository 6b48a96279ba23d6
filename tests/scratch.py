# SPDX-License-Identifier: Apache-2.0
"""Where tests keep stores that need not outlive them."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

_MEMORY = Path("/dev/shm")


def fast_directory() -> TemporaryDirectory[str]:
    """Make a folder, in memory where the machine has such a place: a durable commit then waits for no disk."""
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    return TemporaryDirectory(prefix="dni-test-", dir=_MEMORY if usable else None)
