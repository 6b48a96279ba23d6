# SPDX-License-Identifier: Apache-2.0
"""The groups that a container is in, by name: recorded and shown; nothing keeps groups apart yet."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dni_driver.core.errors import Refused

_SHAPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def parse_groups(text: str) -> tuple[str, ...]:
    """Read `groups=public,web`; raise Refused for what names no group."""
    return check_groups(part.strip() for part in text.split(","))


def check_groups(names: Iterable[str]) -> tuple[str, ...]:
    """Answer each group once, in the order they are named; raise Refused with the rule for a name that breaks it."""
    found = tuple(dict.fromkeys(names))
    for name in found:
        if not _SHAPE.fullmatch(name):
            raise Refused(
                f"{name[:70]!r} is no name of a group: use 1 to 63 letters, digits, '_', '.' and '-', beginning with "
                f"a letter or digit, and commas between groups, as in dni.groups=public,web"
            )
    return found
