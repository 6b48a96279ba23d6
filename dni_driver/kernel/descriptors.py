# SPDX-License-Identifier: Apache-2.0
"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource


def allow_all() -> None:
    """Go as far as this process may go; it begins with fewer, for programs that cannot count higher."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
