# SPDX-License-Identifier: Apache-2.0
"""Has something happen in the middle of what a test does, as another thread of the agent may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from dni_driver.registry import Registry


class _Interrupted:
    """Passes everything on."""

    def __init__(self, registry: Registry, call: str, happens: Callable[[], object], *, first: bool) -> None:
        """Wait for that call."""
        self._registry = registry
        self._call = call
        self._first = first
        self._to_come = [happens]

    def __getattr__(self, name: str) -> Any:
        """Answer what the registry can do."""
        real = getattr(self._registry, name)
        if name != self._call:
            return real

        def interrupted(*arguments: Any, **named: Any) -> Any:
            happening, self._to_come = self._to_come, []
            if self._first:
                _happen(happening)
                return real(*arguments, **named)
            answer = real(*arguments, **named)
            _happen(happening)
            return answer

        return interrupted


def _happen(happening: list[Callable[[], object]]) -> None:
    for happens in happening:
        happens()


def before(registry: Registry, call: str, happens: Callable[[], object]) -> Registry:
    """Answer a registry with which something happens once, just before it does its part of a call."""
    return cast("Registry", _Interrupted(registry, call, happens, first=True))


def after(registry: Registry, call: str, happens: Callable[[], object]) -> Registry:
    """Answer one with which it happens once the registry has done its part, and the caller does not know yet."""
    return cast("Registry", _Interrupted(registry, call, happens, first=False))
