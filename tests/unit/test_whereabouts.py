# SPDX-License-Identifier: Apache-2.0
"""An agent whose host is given another address while it runs."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.whereabouts import PATIENCE, Whereabouts
from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Address
from dni_driver.store import Store
from tests.fakes import AGENT, FakeClock

NEW = IPv4Address("192.0.2.99")
LOOPBACK = IPv4Address("127.0.0.1")


class Scene:
    """A host that is known by AGENT, which carries some addresses."""

    def __init__(self, store: Store, configured: IPv4Address | None = None) -> None:
        """Be where it was found."""
        self.carried = [AGENT]
        self.clock = FakeClock()
        self.moves = 0
        self.identity = Identity(store, lambda: self.carried[0], configured)
        self.identity.record()
        self.whereabouts = Whereabouts(self.identity, self._underlay, self._moved, self.clock)

    def look(self, seconds: float = 0.0) -> Address:
        """Look, some time later, and answer the agent IP."""
        self.clock.pass_by(seconds)
        self.whereabouts.look()
        return self.identity.agent_ip()

    def _underlay(self, address: Address) -> None:
        if address not in self.carried:
            raise KernelError(f"no link of this host carries the agent IP {address}")

    def _moved(self) -> None:
        self.moves += 1
        self.identity.renew()


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store)


def test_a_new_address_is_taken_up_when_the_old_one_has_been_gone_for_a_while(scene: Scene) -> None:
    scene.carried = [NEW]
    assert [scene.look(), scene.look(PATIENCE - 1)] == [AGENT, AGENT]
    assert scene.look(1) == NEW
    assert scene.look(PATIENCE) == NEW
    assert scene.moves == 1


def test_an_address_that_is_gone_for_a_moment_only_is_kept(scene: Scene) -> None:
    scene.carried = [NEW]
    scene.look()
    scene.carried = [NEW, AGENT]
    scene.look(PATIENCE - 1)
    scene.carried = [NEW]
    assert [scene.look(), scene.look(PATIENCE - 1)] == [AGENT, AGENT]
    assert scene.moves == 0


def test_a_second_address_changes_nothing(scene: Scene) -> None:
    scene.carried = [NEW, AGENT]
    assert [scene.look(), scene.look(PATIENCE)] == [AGENT, AGENT]


def test_a_host_without_any_address_is_who_it_was_until_it_has_one(scene: Scene) -> None:
    scene.carried = [LOOPBACK]
    assert [scene.look(), scene.look(PATIENCE)] == [AGENT, AGENT]
    scene.carried = [NEW]
    assert scene.look(1) == NEW


def test_a_configured_address_stands(store: Store) -> None:
    scene = Scene(store, configured=AGENT)
    scene.carried = [NEW]
    assert [scene.look(), scene.look(PATIENCE)] == [AGENT, AGENT]
    assert scene.moves == 0
