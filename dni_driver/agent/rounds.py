# SPDX-License-Identifier: Apache-2.0
"""What goes on in the background: what each loop does, and whom it wakes when that concerns others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from dni_driver.agent.loops import EVENTS_PART, Loops
from dni_driver.agent.parts import Ground, Parts
from dni_driver.agent.problems import Problems
from dni_driver.core.errors import DniError, Unavailable

_STOP_SECONDS = 5.0
_FIRST_SECONDS = 1.0
"""For how long everything else leaves the processor to joining: longer than that takes where the registry answers."""

_NETWORK_CAME, _NETWORK_GONE = ("network", "create"), ("network", "destroy")
"""Events of Docker after which our rules are others: they let Docker's own bridges be guarded by Docker's."""


class Rounds:
    """Has the parts of the agent do their work again and again."""

    def __init__(self, ground: Ground, parts: Parts, loops: Loops, problems: Problems) -> None:
        """Do nothing yet."""
        self._ground = ground
        self._parts = parts
        self._loops = loops
        self._problems = problems
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the loops: joining and following first, as the plugin and other hosts wait for that."""
        loops, parts = self._loops, self._parts
        loops.joining.start(self._join)
        loops.following.start(parts.following.follow)
        loops.joining.await_first(_FIRST_SECONDS)
        loops.presence.start(parts.presence.tell)
        loops.address.start(parts.whereabouts.look)
        loops.room.start(parts.leasing.look)
        loops.kernel.start(parts.reconciler.round)
        loops.cni.start(parts.cni.round)
        loops.news.start(self._listen)
        loops.docker.start(parts.docker_look.look)
        loops.networks.start(parts.networking.look)
        loops.events.start(self._heed)
        loops.filling.start(parts.fullness.look)
        loops.telling.start(parts.telling.look)
        loops.store.start(self._checkpoint)
        loops.hosted.start(parts.hosted.look)

    def stop(self) -> None:
        """End the loops; return when their steps have ended, or after some seconds."""
        self._stopping.set()
        self._loops.stop()
        self._ground.docker.close()
        self._ground.kernel.hush()
        self._parts.following.stop()
        self._ground.registry.close()
        self._loops.join(_STOP_SECONDS)

    def _join(self) -> Sequence[str]:
        """Take part in what there is, and give up what is to go; the kernel may have to be another then."""
        for overlay in self._parts.joining.vanished():
            with suppress(DniError):
                self._parts.networking.withdraw(overlay)
        try:
            return [*self._parts.joining.join(), *self._parts.removal.look()]
        finally:
            for loop in (self._loops.kernel, self._loops.networks):
                loop.hurry()
            for loop in (self._loops.presence, self._loops.cni):
                loop.wake()

    def _heed(self) -> Sequence[str]:
        """Look again whenever something happens in Docker; mend the kernel when dockerd has come back."""
        events = self._ground.docker.events()
        self._problems.report(EVENTS_PART, ())
        self._loops.docker.wake()
        self._loops.kernel.wake()
        self._go_on_removing()
        for event in events:
            self._loops.docker.wake()
            self._loops.presence.wake()
            self._parts.networking.heed(event)
            if (event.kind, event.action) == _NETWORK_CAME or event.kind == "daemon":
                self._loops.kernel.wake()
                self._go_on_removing()
            if (event.kind, event.action) == _NETWORK_GONE:
                self._parts.something_freed()
        self._loops.docker.wake()
        if not self._stopping.is_set():
            raise Unavailable("dockerd has ended its events: it is being stopped or restarted")
        return ()

    def _go_on_removing(self) -> None:
        """Take part in what only Docker has hindered, now that it may do so no more."""
        if self._parts.removal.is_hindered:
            self._loops.joining.wake()

    def _listen(self) -> Sequence[str]:
        """Mend the kernel when links tell news of what it rests on."""
        for _ in self._ground.kernel.link_news():
            self._loops.kernel.wake()
        return ()

    def _checkpoint(self) -> Sequence[str]:
        """Have on disk what the plugin has noted, and the log emptied before a call has to wait for that."""
        self._ground.store.checkpoint()
        return ()
