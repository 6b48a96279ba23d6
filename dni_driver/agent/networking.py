# SPDX-License-Identifier: Apache-2.0
"""Makes the Docker networks of overlays, each of them once on each host, and removes what it made.

What a user removes is not made again (docs/decisions/0027).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import structlog

from dni_driver.agent.occupancy import check_unused
from dni_driver.agent.ports import Docker, DockerEvent, Time
from dni_driver.core.deadline import holding
from dni_driver.core.docker_networks import check_name_free, creation
from dni_driver.core.errors import DniError, InUse, Refused, Unavailable
from dni_driver.core.overlays import Overlay
from dni_driver.store import Store, networked, networks

log = structlog.get_logger(__name__)

RETRY_SECONDS = 10.0
"""After Docker has refused a network, until it is asked again."""
PRUNE_SECONDS = 2.0
"""Networks that are removed with no longer a pause, up to the end of a `docker network prune`, were removed by it."""
TURN_SECONDS = 15.0


class Networking:
    """Holds the overlays against Docker's networks. Safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        docker: Docker,
        is_wanted: Callable[[str], bool],
        driver: str,
        time: Time,
    ) -> None:
        """`is_wanted` tells of which overlays there shall be networks, `driver` what users type after `-d`."""
        self._store = store
        self._docker = docker
        self._is_wanted = is_wanted
        self._driver = driver
        self._time = time
        self._turn = threading.Lock()
        self._seen: object = None
        self._refused: dict[str, tuple[float, str]] = {}
        self._destroyed: list[str] = []
        self._destroyed_last = 0.0

    def look(self) -> Sequence[str]:
        """Make what is missing; answer in words what cannot be made, raise Unavailable while Docker is away."""
        version = self._store.version()
        if version != self._seen or self._refused:
            with self._in_turn():
                for overlay in self._due():
                    self._make(overlay)
            self._seen = version
        return [problem for _, problem in self._refused.values()]

    def make(self, overlay: str) -> str | None:
        """Make an overlay's network now, also one that was removed; answer in words why there is none."""
        with self._in_turn():
            self._refused.pop(overlay, None)
            with self._store.write() as tx:
                if not networks.is_of(tx, overlay):
                    networked.forget(tx, overlay)
            try:
                for one in self._due():
                    if one.name == overlay:
                        self._make(one)
            except DniError as error:
                return str(error)
        return self._refused.get(overlay, (0.0, None))[1]

    @contextmanager
    def sparing(self, overlay: str) -> Iterator[None]:
        """Make no network of an overlay that is defined in here."""
        with self._in_turn():
            yield
            with self._store.write() as tx:
                networked.note(tx, overlay, made=False)

    def heed(self, event: DockerEvent) -> None:
        """Make again what a `docker network prune` took along: it was not meant."""
        if (event.kind, event.action) not in (("network", "destroy"), ("network", "prune")):
            return
        now = self._time.monotonic()
        if now - self._destroyed_last > PRUNE_SECONDS:
            self._destroyed.clear()
        if event.action == "destroy":
            self._destroyed.append(event.name)
            self._destroyed_last = now
        else:
            self._forget(self._destroyed)
            self._destroyed.clear()

    def withdraw(self, overlay: str) -> bool:
        """Remove the network that was made for an overlay, and tell whether there was one.

        Raises InUse, Unavailable where Docker does not answer, or is still making it.
        """
        with self._in_turn():
            with self._store.read() as tx:
                network = networks.of_overlay(tx, overlay)
                if network is None or not networked.is_made(tx, overlay):
                    return False
                check_unused(tx, overlay)
            listed = [one for one in self._docker.listed() if one.id == network.id]
            if not listed:
                raise Unavailable(
                    f"Docker does not list the network {network.label!r} of overlay {overlay!r}: it may still be "
                    f"making it; if not, `dni repair` forgets it"
                )
            if not all(one.is_made_by_dni for one in listed):
                return False
            for one in listed:
                try:
                    self._docker.remove_network(one.id)
                except Refused as error:
                    raise InUse(f"overlay {overlay!r} keeps its Docker network {one.name!r}: {error}") from error
                log.info("Docker network removed", overlay=overlay, network=one.name)
        return True

    def _make(self, overlay: Overlay) -> None:
        retry_at, _ = self._refused.get(overlay.name, (0.0, ""))
        now = self._time.monotonic()
        if now < retry_at:
            return
        try:
            check_name_free(overlay.name, self._docker.listed())
            self._docker.create_network(creation(overlay, self._driver, self._docker.version()))
        except Refused as error:
            self._refused[overlay.name] = (
                now + RETRY_SECONDS,
                f"overlay {overlay.name!r} has no Docker network: {error}",
            )
            return
        self._refused.pop(overlay.name, None)
        with self._store.write() as tx:
            networked.note(tx, overlay.name, made=True)
            network = networks.of_overlay(tx, overlay.name)
            if network is not None:
                networks.set_name(tx, network.id, overlay.name)
        log.info("Docker network made", overlay=overlay.name)

    def _due(self) -> list[Overlay]:
        """Answer the overlays that are to get a network; what was refused to others is no problem any more."""
        with self._store.read() as tx:
            due = [one for one in networked.due(tx, self._time.clock()) if self._is_wanted(one.name)]
        names = {overlay.name for overlay in due}
        self._refused = {name: why for name, why in self._refused.items() if name in names}
        return due

    def _forget(self, names: Sequence[str]) -> None:
        """Have the networks of overlays made anew, if the agent made them before."""
        with self._store.write() as tx:
            for name in names:
                if networked.is_made(tx, name) and not networks.is_of(tx, name):
                    networked.forget(tx, name)
        self._seen = None

    def _in_turn(self) -> AbstractContextManager[None]:
        return holding(self._turn, TURN_SECONDS, "Docker networks are being made already: try again in a moment")
