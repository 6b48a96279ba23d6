# SPDX-License-Identifier: Apache-2.0
"""No program outlives the one that started it, however that one ended (prctl(2), PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def end_with(parent: int) -> None:
    """Have this process sent SIGTERM when its parent dies: it answers the calls it has, and ends.

    To be called between fork and exec, or after the fork; `parent` is the pid of who forked.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
