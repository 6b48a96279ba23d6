# SPDX-License-Identifier: Apache-2.0
"""Tells the cluster how full this host is, and what is wrong with it, when that changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from dni_driver.agent.fullness import Fullness
from dni_driver.agent.joining import Joining
from dni_driver.agent.ports import Time
from dni_driver.agent.problems import Problems
from dni_driver.core.addresses.telling import Pacing
from dni_driver.core.errors import NotFound, Unavailable
from dni_driver.core.problems import InShort, in_short
from dni_driver.registry import Registry
from dni_driver.store import Store, overlays, peers


class Telling:
    """Looks again and again; most looks ask the store whether anything was written, and no more.

    Where there is no other agent, nothing is counted, and nobody is told.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        joining: Joining,
        fullness: Fullness,
        problems: Problems,
        time: Time,
    ) -> None:
        """Have told nothing yet."""
        self._store = store
        self._registry = registry
        self._joining = joining
        self._fullness = fullness
        self._problems = problems
        self._time = time
        self._pacing = Pacing()
        self._silence: set[str] = set()

    def look(self) -> Sequence[str]:
        """Tell what is due; raise Unavailable or StoreError where nobody can be told, and it is due again."""
        problems, now = self._sayable(), self._time.monotonic()
        version = self._store.version(), problems
        if not self._joining.is_registered or not self._pacing.is_due(version, now):
            return ()
        with self._store.read() as tx:
            agent_ip, number = overlays.agent_ip(tx), peers.number(tx)
        if agent_ip is None or number == 0:
            self._pacing.passed_over(version, now)
            return ()
        counts = self._fullness.counts(problems)
        # One that was forgotten is registered anew first: that is Joining's.
        with suppress(NotFound), self._noting_silence():
            self._registry.tell(agent_ip, counts)
            self._pacing.told(version, counts, now, number)
        return ()

    def _sayable(self) -> InShort:
        """Answer what is wrong, but for what keeps it from being told: once that can be told, it is over.

        Other parts notice a little later, each for itself; of a registry that is back all agents would tell in vain.
        """
        problems = self._problems.every()
        self._silence = {why for why in self._silence if any(why in problem for problem in problems)}
        return in_short(problem for problem in problems if not any(why in problem for why in self._silence))

    @contextmanager
    def _noting_silence(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            self._silence.add(str(error))
            raise
