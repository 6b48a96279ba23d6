# SPDX-License-Identifier: Apache-2.0
"""What is said of an overlay that is being removed (docs/decisions/0045)."""

from __future__ import annotations

from collections.abc import Collection

from dni_driver.core.agent_ip import in_order
from dni_driver.core.errors import InUse, Unavailable
from dni_driver.core.overlays import Address

_NAMED = 10
"""How many agents a message names."""


def being_removed(name: str, remover: Address) -> InUse:
    """Build the error of an overlay that nothing may be begun with any more."""
    return InUse(
        f"overlay {name!r} is being removed, as agent {remover} was told to: use another overlay, or call that off "
        f"(dni overlay keep {name})"
    )


def not_given_up(name: str, agents: Collection[Address]) -> Unavailable:
    """Build the error of a removal that some agents have not answered yet."""
    return Unavailable(
        f"overlay {name!r} is being removed, and no answer has come from {named(agents) or 'some host'}: it goes by "
        f"itself when they have given it up; a host that is gone for good is given up by `dni agent forget IP`; to "
        f"call the removal off: dni overlay keep {name}"
    )


def hindered(name: str, why: object) -> Unavailable:
    """Build the error of a removal that this host cannot take its part in at this moment."""
    return Unavailable(
        f"overlay {name!r} is being removed, and stays on this host for now: {why}; it goes by itself after that; to "
        f"call the removal off: dni overlay keep {name}"
    )


def called_off(name: str) -> InUse:
    """Build the error of a removal that somebody has ended."""
    return InUse(f"overlay {name!r} stays: its removal was called off meanwhile (dni overlay keep {name})")


def named(agents: Collection[Address]) -> str:
    """Answer some agents in words, the first of them where they are many."""
    return ", ".join(map(str, in_order(agents)[:_NAMED])) + (" and others" if len(agents) > _NAMED else "")
