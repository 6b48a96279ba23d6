# SPDX-License-Identifier: Apache-2.0
"""Keeps pyroute2's front door shut: its `__init__` imports every part it has, 4 MiB that dni never uses.

To be imported before any part of pyroute2, which is then had from its place: `from pyroute2.iproute import IPRoute`.
"""

from __future__ import annotations

import importlib.util
import sys

_PACKAGE = "pyroute2"

_spec = importlib.util.find_spec(_PACKAGE)
if _spec is not None:
    sys.modules.setdefault(_PACKAGE, importlib.util.module_from_spec(_spec))
