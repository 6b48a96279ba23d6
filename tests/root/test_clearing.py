# SPDX-License-Identifier: Apache-2.0
"""What is left in the kernel of a host of a cluster from which dni goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dni_driver.cli import cni_clear
from dni_driver.cli.settings import RunSettings, Settings, StoreSettings
from dni_driver.core.hosting import Hosting
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.wanted import wanted
from dni_driver.kernel import Kernel
from dni_driver.store import Store, hosting, overlays, peers
from dni_driver.store.records import read_all
from tests.contract.plugin import eventually
from tests.root.cluster import peer, vtep
from tests.root.ground import Namespace, wire
from tests.unit.agents import create_network

pytestmark = pytest.mark.root

AGENT = "10.0.0.1"
FOREIGN = (
    "ip route add 198.51.100.0/24 via 10.0.0.9 proto static",
    "ip route add 192.0.2.5/32 via 10.0.0.9 table 42",
    "ip rule add from 192.0.2.0/24 lookup 42",
    "ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
)
LISTINGS = (
    "ip -o link", "ip route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule",
    "ip neigh show nud permanent", "bridge fdb show", "nft list ruleset", "iptables -S",
)  # fmt: skip
BY_ITSELF = ("fe80::", "ff00::", "multicast")
"""What the kernel gives links in its own time."""
ENTRIES = ("vtep1024", "proto 64", "70:b3:d5", "9.0.2.0", "10.0.0.2 ")


class Leaving:
    """A host of a cluster of two, on which no dni runs any more."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        """Have it know the other one, in its store."""
        self.settings = Settings(store=StoreSettings(directory=folder), run=RunSettings(directory=folder / "run"))
        self._namespace = namespace
        self._folder = folder
        with closing(self.store()) as store, store.write() as tx:
            overlays.put(tx, define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")]))
            overlays.add_agent_subnet(tx, AgentSubnet(overlay="dcos", subnet=ip_network("9.0.1.0/24")))
            overlays.set_agent_ip(tx, ip_address(AGENT))
            peers.set_vtep(tx, vtep(1))
            peers.put(tx, [peer(2, "10.0.0.2", ["dcos"])])

    def store(self) -> Store:
        """Open its store."""
        return Store(self._folder / "dni.db")

    def reconcile(self) -> None:
        """Have the kernel as the agent has it."""
        with closing(self.store()) as store:
            self._namespace.run(_reconcile, self._folder / "run", store)

    def clear(self) -> str | None:
        """Take away what others use."""
        return self._namespace.run(cni_clear.clear, self.settings)

    def listed(self) -> list[str]:
        """Answer all that the kernel has, but for what it makes by itself."""
        lines = (line for listing in LISTINGS for line in self._namespace.sh(listing).splitlines())
        return [line for line in lines if not any(text in line for text in BY_ITSELF)]

    def entries(self) -> list[str]:
        """Answer what it knows of the other host."""
        return [line for line in self.listed() if any(text in line for text in ENTRIES)]


def _reconcile(run: Path, store: Store) -> None:
    with closing(Kernel(run)) as kernel:
        kernel.reconcile(lambda: wanted(read_all(store)))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Leaving]:
    with ExitStack() as stack:
        namespace, switch = (stack.enter_context(Namespace()) for _ in range(2))
        wire(namespace, "eth0", switch, "port")
        namespace.sh(f"ip addr add {AGENT}/24 dev eth0", "ip route add default via 10.0.0.254", *FOREIGN)
        eventually(lambda: "state UP" in namespace.sh("ip -o link show eth0"), "eth0 is not up")
        yield Leaving(namespace, tmp_path)


def test_the_ways_to_other_hosts_go_with_dni_and_nothing_of_anybody_else(host: Leaving) -> None:
    before = host.listed()
    host.reconcile()
    assert {text for text in ENTRIES if any(text in line for line in host.entries())} == set(ENTRIES)
    assert host.clear() is None
    assert host.listed() == before
    assert host.clear() is None


def test_they_stay_where_a_network_is_left_whose_containers_may_use_them(host: Leaving) -> None:
    with closing(host.store()) as store:
        create_network(store, 1.0)
    host.reconcile()
    known = host.entries()
    said = host.clear()
    assert said is not None
    assert said.startswith("the ways to other hosts, for Docker network ")
    assert host.entries() == known != []


def test_they_stay_where_host_local_has_given_addresses_to_containers(
    host: Leaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cni_clear, "DATA_DIRECTORIES", (tmp_path / "cni",))
    host.reconcile()
    held = tmp_path / "cni" / "dcos" / "9.0.1.2"
    held.parent.mkdir(parents=True)
    held.touch()
    assert host.clear() == "the ways to other hosts, for containers of CNI's host-local on dcos"
    assert host.entries() != []
    held.unlink()
    assert host.clear() is None
    assert host.entries() == []


def test_what_dcos_net_has_made_is_left_as_it_is(host: Leaving) -> None:
    host._namespace.sh(  # noqa: SLF001 - somebody else's work
        "ip link add vtep1024 type vxlan id 1024 dstport 64000",
        "ip link set vtep1024 up",
        "ip addr add 44.128.0.1/20 dev vtep1024",
        "ip route add 9.0.2.0/24 via 44.128.0.2 dev vtep1024",
        "ip route add 10.0.0.2/32 via 44.128.0.2 dev vtep1024 table 42",
        "ip rule add from 9.0.0.0/8 lookup 42",
        "bridge fdb add 70:b3:d5:80:00:02 dev vtep1024 dst 10.0.0.2 self permanent",
    )
    with closing(host.store()) as store, store.write() as tx:
        hosting.put(tx, Hosting(carries=True))
    before = host.listed()
    host.reconcile()
    assert host.clear() is None
    assert host.listed() == before
