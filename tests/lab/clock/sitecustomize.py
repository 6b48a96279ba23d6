# SPDX-License-Identifier: Apache-2.0
"""Sets the clock of a Python program by the seconds that the file LAB_CLOCK holds, from moment to moment.

How fast time passes (`time.monotonic`) stays as it is, as on a host whose clock somebody sets.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_FILE = Path(os.environ["LAB_CLOCK"])
_real = time.time


def _shifted() -> float:
    return _real() + float(_FILE.read_text())


time.time = _shifted
