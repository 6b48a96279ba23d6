# SPDX-License-Identifier: Apache-2.0
"""A runtime of CNI beside dockerd, such as Mesos' containerizer: what it asks of dni-cni, and what it believes then.

Namespaces are on no disk: a reboot takes all of them, and so the runtime's containers.
"""

from __future__ import annotations

from ipaddress import ip_interface

from dni_driver.core.errors import DniError, Unavailable
from dni_driver.core.mesos.cni_wish import CniWish
from dni_driver.core.overlays import Address, family_of
from dni_driver.core.records import Interface, mesos_pool_id
from tests.fakes import FakeKernel
from tests.simulation.model import IFNAME, Placed
from tests.simulation.process import NO_ANSWER, AgentProcess
from tests.simulation.witness import Witness, ids, place


class Runtime:
    """Makes namespaces at a few paths, again and again, and has dni-cni put `containers` there."""

    def __init__(self, agent: AgentProcess, kernel: FakeKernel, witness: Witness, containers: list[Placed]) -> None:
        """Have done nothing yet."""
        self._agent = agent
        self._kernel = kernel
        self._witness = witness
        self._numbers = 0
        self.containers = containers

    def prepare(self, overlay: str, path: str) -> Placed:
        """Answer the container at a path, where there is one, else a new one."""
        known = next((one for one in self.containers if one.sandbox == path), None)
        if known is not None:
            return known
        self._numbers += 1
        made = Placed(f"m{self._numbers}", overlay, path)
        self.containers.append(made)
        self._kernel.lost_sandboxes.discard(path)
        return made

    def add(self, container: Placed, asked: Address | None) -> None:
        """Call ADD: what is answered is the container's; an error leaves it without, whatever was recorded."""
        wish = CniWish(
            overlay=container.overlay,
            container=container.name,
            ifname=IFNAME,
            sandbox=container.sandbox,
            addresses=(asked,) if asked else (),
        )
        placing = Placing(self._witness, wish)
        try:
            report = self._agent.attach(wish)
        except DniError as error:
            placing.check_refused(str(error))
            return
        answered = [ip_interface(address.address) for address in report.addresses]
        placing.check_answered(answered)
        container.addresses = {mesos_pool_id(container.overlay, family_of(one.ip)): str(one) for one in answered}

    def delete(self, container: Placed) -> bool:
        """Call DEL for a container that has ended, and take the namespace away where that is answered."""
        container.addresses = {}
        try:
            self._agent.detach(container.key)
        except Unavailable:
            self._witness.observe()
            return False
        self._witness.observe()
        assert container.endpoint not in ids(self._witness.records.cni_endpoints), (
            "what DEL has answered for is there"
        )
        assert container.link not in self._kernel.links, "what DEL has answered for has a link"
        self._forget(container)
        return True

    def lose(self, container: Placed) -> None:
        """Have a container end without a word: its namespace goes, and its link with it."""
        self._kernel.links.pop(container.link, None)
        self._forget(container)

    def lose_all(self) -> None:
        """Lose all of them."""
        for container in list(self.containers):
            self.lose(container)

    def settle(self) -> None:
        """Call DEL for whatever does not run, as a runtime does in the end."""
        for container in [one for one in self.containers if not one.addresses]:
            assert self.delete(container), "DEL fails although nothing is wrong"

    def _forget(self, container: Placed) -> None:
        self._kernel.lost_sandboxes.add(container.sandbox)
        self.containers.remove(container)


class Placing:
    """One ADD, held against what there was before it."""

    def __init__(self, witness: Witness, wish: CniWish) -> None:
        """Take a look: who is known at this path is displaced, if another container comes there."""
        self._witness = witness
        self._wish = wish
        records = witness.records
        self._known = next((one for one in records.cni_endpoints if one.id == wish.endpoint), None)
        displaced = {one.id for one in records.cni_endpoints if one.sandbox == wish.sandbox} - {wish.endpoint}
        self._displaced = {place(record) for record in records.addresses if record.cni_endpoint in displaced}
        self._held = witness.held()

    def check_answered(self, answered: list[Interface]) -> None:
        """The same once more has what it had; else each address was free, and in turn where none was asked for."""
        if self._known is not None:
            assert answered == self._known.interfaces(), "another address than before"
        for one in answered if self._known is None else ():
            self._check_new(one.ip)
        self._witness.observe()

    def _check_new(self, address: Address) -> None:
        family = family_of(address)
        pool, asked = mesos_pool_id(self._wish.overlay, family), self._wish.asked(family)
        assert address not in self._witness.in_use(), "given twice"
        if self._displaced:
            free = [*self._witness.free_places(pool, narrowed=False), *(one for _, one in self._displaced)]
            assert address in free, "was held"
        elif asked is not None:
            assert address == asked, "another one than asked for"
            assert address in self._witness.free_places(pool, narrowed=False), "was held"
        else:
            assert address in self._witness.next_in_turn(pool), "out of turn, or reserved"

    def check_refused(self, text: str) -> None:
        """A refusal leaves nothing behind, and a half is only said to be full when it is and cannot grow."""
        assert "\n" not in text
        before = self._held
        self._witness.observe()
        if text == NO_ANSWER:
            return
        assert before - self._displaced <= self._witness.held() <= before, "a refusal changes who has what"
        if "no free address" in text:
            pools = [pool.id for pool in self._witness.records.pools if pool.is_mesos]
            full = [pool for pool in pools if self._is_meant(pool) and not self._witness.open_places(pool)]
            assert full, "refused with room left"
            assert not all(self._witness.grows(pool) for pool in full), "refused with room left in the overlay"

    def _is_meant(self, pool: str) -> bool:
        return pool.startswith(f"{self._wish.overlay}/")
