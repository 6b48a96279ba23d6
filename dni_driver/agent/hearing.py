# SPDX-License-Identifier: Apache-2.0
"""What other agents told of how full they are and what is wrong, asked for when somebody asks here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from dni_driver.core.addresses.counts import Heard, Told
from dni_driver.core.addresses.telling import A_SECOND
from dni_driver.core.deadline import deadline, holding
from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Address
from dni_driver.registry import Registry

LATELY = 3.0
"""Seconds for which what was heard is answered again, and a registry that did not answer is not asked again.

Of thousands of agents it is answered again for as long as each of them waits between two tellings.
"""
_FORGOTTEN_AFTER = 3600.0
"""Seconds for which it is remembered what nobody asks for any more: agents come and go."""
_PATIENCE = 2.0
_AGENTS_A_SECOND = 1000.0
_TURN_SECONDS = 15.0
_BUSY = "others ask how full all agents are, and it takes long: ask again"


class Hearing:
    """Asks the registry, and remembers for times when that is away. May be asked from any thread."""

    def __init__(self, registry: Registry, monotonic: Callable[[], float]) -> None:
        """Have heard nothing."""
        self._registry = registry
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._heard: dict[Address, tuple[float, Told | None]] = {}
        self._silence: tuple[float, str] | None = None

    def at_once(self, agent: Address) -> Heard:
        """Answer what one agent has told by now; who asks for many meanwhile is not waited for."""
        found = self._answer([agent], self._ask([agent]))
        if not found.told:
            # Anybody may ask for any address: those that are nobody's are not remembered.
            self._heard.pop(agent, None)
        return found

    def lately(self, agents: Collection[Address]) -> Heard:
        """Answer what many agents told; who asks again soon is answered the same."""
        with holding(self._turn, _TURN_SECONDS, _BUSY):
            new = self._monotonic() - max(LATELY, len(agents) / A_SECOND)
            due = [agent for agent in agents if agent not in self._heard or self._heard[agent][0] <= new]
            self._forget_others(agents)
            return self._answer(agents, self._ask(due) if due or not agents else None)

    def _forget_others(self, agents: Collection[Address]) -> None:
        old = self._monotonic() - _FORGOTTEN_AFTER
        for agent in [agent for agent, (when, _) in list(self._heard.items()) if when < old and agent not in agents]:
            self._heard.pop(agent, None)

    def _ask(self, agents: Sequence[Address]) -> str | None:
        """Ask the registry; answer in words why it cannot be asked."""
        now, silence = self._monotonic(), self._silence
        if silence is not None and now - silence[0] < LATELY:
            return silence[1]
        try:
            with deadline(_PATIENCE + len(agents) / _AGENTS_A_SECOND):
                told = self._registry.told(agents)
        except DniError as error:
            why = f"of other agents nothing new is known: {error}"
            self._silence = (self._monotonic(), why)
            return why
        self._silence = None
        self._heard |= {agent: (now, told.get(agent)) for agent in agents}
        return None

    def _answer(self, agents: Collection[Address], problem: str | None) -> Heard:
        known = ((agent, self._heard.get(agent, (0.0, None))[1]) for agent in agents)
        return Heard(told={agent: told for agent, told in known if told is not None}, problem=problem)
