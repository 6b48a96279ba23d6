# SPDX-License-Identifier: Apache-2.0
"""A host whose Mesos half containers of CNI are on, with a kernel in memory."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dni_driver.agent.cni import Cni, CniOptions
from dni_driver.core.invariants.check import findings
from dni_driver.core.mesos.cni_conf import Ipam
from dni_driver.core.mesos.cni_wish import CniKey, CniReport, CniWish
from dni_driver.core.records import AddressState, Records
from dni_driver.core.views import DockerView
from dni_driver.core.wanted import wanted
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.fakes import DCOS, FakeClock, lease
from tests.unit.agents import AgentsKernel, frozen

GRACE = 900.0


class Host:
    """A host with a Mesos half, and what is around it."""

    def __init__(self, directory: Path, ipam: Ipam = "dni", *, writes: bool = False) -> None:
        """Lease dcos; `writes` has the agent write configurations."""
        self.clock = FakeClock()
        self.kernel = AgentsKernel()
        self.store = Store(directory / "dni.db")
        lease(self.store, DCOS, "9.0.0.0/24")
        self.files = directory / "net.d"
        self.host_local = directory / "networks"
        self.mended = 0
        self.writes = writes
        self.cni = self.restarted(ipam)

    def restarted(self, ipam: Ipam) -> Cni:
        """Answer what a dni with other settings does."""
        options = CniOptions(
            directory=self.files if self.writes else None, ipam=ipam, grace=GRACE, held=(self.host_local,)
        )
        self.cni = Cni(self.store, self.kernel, options, frozen(self.clock), self._mend)
        return self.cni

    def _mend(self) -> None:
        self.mended += 1
        self.kernel.reconcile(lambda: wanted(self.records()))

    def attach(self, container: str, *asked: str, overlay: str = "dcos", sandbox: str | None = None) -> CniReport:
        """Give a container its place."""
        return self.cni.attach(
            CniWish(
                overlay=overlay,
                container=container,
                ifname="eth0",
                sandbox=sandbox or f"/run/netns/{container}",
                addresses=tuple(map(ip_address, asked)),
            )
        )

    def address(self, container: str, *asked: str, overlay: str = "dcos") -> str:
        """Give a container its place; answer its address."""
        return self.attach(container, *asked, overlay=overlay).addresses[0].address

    def records(self) -> Records:
        """Answer all there is."""
        return read_all(self.store)

    def held(self) -> dict[str, str | None]:
        """Answer the addresses that are not free, with who has them."""
        found = self.records().addresses
        return {str(one.address): one.container for one in found if one.state is not AddressState.FREE}

    def problems(self) -> list[str]:
        """Answer what a check finds in store and kernel."""
        self.clock.pass_by(3600)
        records = self.records()
        target = wanted(records)
        found = findings(records, self.kernel.observe(target), DockerView(), target, self.clock.now)
        return [f"{one.about} {one.problem}" for one in (*found, *self.cni.findings())]

    def look_for(self, seconds: float) -> None:
        """Look every 30 s, until so much time has gone by."""
        ends = self.clock.now + seconds
        while self.clock.now < ends:
            self.cni.round()
            self.clock.pass_by(30)


def key(container: str, overlay: str = "dcos") -> CniKey:
    """Name the endpoint of a container."""
    return CniKey(overlay=overlay, container=container, ifname="eth0")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Host]:
    """Give a host where the agent writes configurations, of host-local to begin with."""
    made = Host(tmp_path / "writing", "host-local", writes=True)
    yield made
    made.store.close()
