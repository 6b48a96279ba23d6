# SPDX-License-Identifier: Apache-2.0
"""What users type after `-d` and `--ipam-driver`: `dni`, or the whole name of a managed plugin, such as `dni:latest`.

dni's own texts say `dni`. Where users must type something else, it is put into every text that leaves the host's
programs, so that each command in it can be typed as it stands.
"""

from __future__ import annotations

import re

PLAIN = "dni"
"""The name of a driver on a socket of its own, /run/docker/plugins/dni.sock."""

_TYPED = re.compile(rf"(-d|--ipam-driver|driver:) {PLAIN}(?![\w.:/-])")


def as_typed(text: str, driver: str) -> str:
    """Answer a text with the driver's name in its commands as users type it."""
    return text if driver == PLAIN else _TYPED.sub(lambda found: f"{found[1]} {driver}", text)
