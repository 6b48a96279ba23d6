# SPDX-License-Identifier: Apache-2.0
"""Ends one of dni's programs, as kill -9 does, right after some write to the store or the kernel.

Each has a folder of its own below LAB_FUSES, `plugin` and `agent`; tests.contract.fuse says what is in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

program = sys.orig_argv[-1]

if program in {"plugin", "agent"} and "serve" in sys.orig_argv:
    from dni_driver.store import Store
    from tests.contract.fuse import Fuse

    fuse = Fuse(Path(os.environ["LAB_FUSES"]) / program)
    fuse.lay()
    vars(Store)["__init__"].__defaults__ = (fuse.after_commit,)
