# SPDX-License-Identifier: Apache-2.0
"""Asking whether something is refused, where a property holds either way."""

from __future__ import annotations

from collections.abc import Callable

from dni_driver.core.errors import DniError


def refusal(act: Callable[[], object]) -> str | None:
    """Answer the text of the refusal, None where there is none; any other error is a failure."""
    try:
        act()
    except DniError as error:
        return str(error)
    return None
