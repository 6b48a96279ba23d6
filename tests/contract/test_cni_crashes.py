# SPDX-License-Identifier: Apache-2.0
"""kill -9 between any two writes for a container of CNI: what its runtime does next puts everything right."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dni_driver.agent.cni import Cni
from dni_driver.agent.ports import Time
from dni_driver.core.invariants.check import findings
from dni_driver.core.records import AddressState
from dni_driver.core.wanted import wanted
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.contract.cni_process import KEY, OPTIONS, settings, wish
from tests.fakes import AGENT, DCOS, lease
from tests.root.ground import Namespace
from tests.root.town import Host
from tests.scratch import fast_directory

pytestmark = pytest.mark.root

MOST_WRITES = 60


class World:
    """A host whose agent dies, the one that is started after it, and a container's namespace."""

    def __init__(self, folder: Path, host: Host, sandbox: Namespace) -> None:
        """Lease dcos."""
        self.host = host
        self.folder = folder
        self.sandbox = sandbox.path
        host.sh("ip link add eth0 type veth peer name wire", f"ip addr add {AGENT}/24 dev eth0")
        host.sh("ip link set eth0 up", "ip link set wire up")
        self.store = Store(folder / "dni.db")
        lease(self.store, DCOS, "9.0.0.0/24")
        self.next = Cni(self.store, host.kernel, settings(folder), Time(), lambda: None)
        self.settle()
        self._dying = host.run(
            subprocess.Popen,
            [sys.executable, "-m", "tests.contract.cni_process", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process that is forked."""
        self._dying.communicate(timeout=60)
        self.store.close()

    def dies_within(self, writes: int, *words: str) -> bool:
        """Have an agent do something, and die right after so many writes; tell whether it made as many."""
        (self.folder / "fuse").write_text(str(writes))
        assert self._dying.stdin is not None
        assert self._dying.stdout is not None
        self._dying.stdin.write(" ".join(words) + "\n")
        self._dying.stdin.flush()
        status = int(self._dying.stdout.readline())
        (self.folder / "fuse").unlink(missing_ok=True)
        assert status in (0, -signal.SIGKILL)
        return status != 0

    def settle(self) -> None:
        """Do as an agent does that starts."""
        assert self.host.run(self.next.round) == []
        self.host.run(self.host.kernel.reconcile, lambda: wanted(read_all(self.store)))

    def attach(self) -> None:
        """Call ADD again; then the container must have all that was asked for, and one address."""
        report = self.host.run(self.next.attach, wish(self.sandbox))
        assert self.host.run(self.next.verify, KEY) == report
        (endpoint,) = read_all(self.store).cni_endpoints
        assert endpoint.options == OPTIONS
        assert self._held() == [str(endpoint.address.ip)] if endpoint.address else False
        assert self._problems() == []

    def detach(self) -> None:
        """Call DEL; then nothing may be left."""
        self.host.run(self.next.detach, KEY)
        self.settle()
        assert (read_all(self.store).cni_endpoints, self._held(), self._problems()) == ([], [], [])
        assert [line for line in self.host.sh("ip -o link").splitlines() if ": dn" in line] == []

    def _held(self) -> list[str]:
        return [str(one.address) for one in read_all(self.store).addresses if one.state is not AddressState.FREE]

    def _problems(self) -> list[str]:
        records = read_all(self.store)
        target = wanted(records)
        view = self.host.run(self.host.kernel.observe, target)
        found = findings(records, view, None, target, time.time() + 3600)
        return [f"{one.about} {one.problem}" for one in found]


@pytest.fixture
def world() -> Iterator[World]:
    with fast_directory() as directory, Host(Path(directory) / "run") as host, Namespace() as sandbox:
        made = World(Path(directory), host, sandbox)
        try:
            yield made
        finally:
            made.close()


def _add_again(world: World) -> None:
    world.attach()
    world.detach()


def test_an_agent_killed_after_any_write_of_an_add_leaves_what_the_runtimes_next_call_puts_right(
    world: World,
) -> None:
    """It adds again after every other death, and gives up after the rest."""
    for writes in range(1, MOST_WRITES):
        died = world.dies_within(writes, "attach", world.sandbox)
        world.settle()
        (_add_again if writes % 2 else World.detach)(world)
        if not died:
            assert writes > 10
            return
    pytest.fail(f"more than {MOST_WRITES} writes")


def test_an_agent_killed_after_any_write_of_a_del_leaves_what_the_next_del_puts_right(world: World) -> None:
    for writes in range(1, MOST_WRITES):
        world.attach()
        died = world.dies_within(writes, "detach")
        world.settle()
        world.detach()
        if not died:
            assert writes > 2
            return
    pytest.fail(f"more than {MOST_WRITES} writes")
