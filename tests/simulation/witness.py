# SPDX-License-Identifier: Apache-2.0
"""What must be true whatever happens, held against what dockerd believes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

from dni_driver.agent.ports import Time
from dni_driver.core.addresses.allocation import Span, spans, whole_spans
from dni_driver.core.cni_records import CniEndpointRecord
from dni_driver.core.invariants.check import findings
from dni_driver.core.invariants.finding import SETTLED
from dni_driver.core.names import docker_bridge, host_link, mesos_bridge
from dni_driver.core.overlays import Address, Family, gateway_of
from dni_driver.core.records import (
    HELD,
    AddressRecord,
    AddressState,
    EndpointRecord,
    NetworkRecord,
    PoolRecord,
    Records,
    ReservationRecord,
    mesos_pool_id,
    pool_id,
)
from dni_driver.core.wanted import wanted
from dni_driver.store import Store, addresses
from dni_driver.store.records import read_all
from tests.fakes import FakeKernel
from tests.simulation.api import view
from tests.simulation.dockerd import PORT_MAP, Dockerd
from tests.simulation.model import Call, Network, Place, Placed
from tests.simulation.pools import GATEWAY_REQUEST

ENDPOINT_NAME = "com.docker.network.endpoint.name"


class Witness:
    """Looks at the store from outside after everything that happens."""

    def __init__(
        self, store: Store, dockerd: Dockerd, placed: Sequence[Placed], kernel: FakeKernel, time: Time
    ) -> None:
        """Take a look; `placed` are the containers that a runtime of CNI has at each moment."""
        self._store = store
        self._dockerd = dockerd
        self._placed = placed
        self._kernel = kernel
        self._clock, self._monotonic = time.clock, time.monotonic
        self._tick = 0
        self._freed: dict[Place, int] = {}
        self._known: dict[str, float] = {}
        self._version = store.version()
        self.records = read_all(store)

    def observe(self) -> None:
        """Read the records, and note which addresses have become free since the last look."""
        self._tick += 1
        version = self._store.version()
        if version == self._version:
            return
        before = {place(record): record.state for record in self.records.addresses}
        self._version, self.records = version, read_all(self._store)
        free = {place(record) for record in self.records.addresses if record.state is AddressState.FREE}
        freed = {one for one in free if before.get(one) is not AddressState.FREE}
        self._freed = {one: self._tick if one in freed else self._freed[one] for one in free}

    def check_answer(self, call: Call, answer: dict[str, Any]) -> None:
        """Check what was answered, an address against the look before, the rest against the look after."""
        if call.method == "IpamDriver.RequestAddress" and call.body["Options"] != GATEWAY_REQUEST:
            container = (call.body["Options"] or {}).get(ENDPOINT_NAME)
            self._check_address(call.body["PoolID"], call.body["Address"], container, answer["Address"])
        if call.method == "NetworkDriver.CreateEndpoint":
            self._check_chosen(call, answer)
        self.observe()
        if call.method == "NetworkDriver.ProgramExternalConnectivity":
            self._check_published(call)
        if call.method in ("NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork"):
            needed = {docker_bridge(network.overlay) for network in self.records.networks}
            needed |= {mesos_bridge(network.overlay) for network in self.records.cni_networks}
            assert self._kernel.bridges.keys() == needed, "a bridge too many or too few"
        if call.method == "IpamDriver.ReleasePool":
            self._check_released(call.body["PoolID"])

    def _check_published(self, call: Call) -> None:
        """An endpoint has the ports that its container publishes, in each of its families and IPv6, and no others."""
        endpoint = next(one for one in self.records.endpoints if one.id == call.body["EndpointID"])
        wanted = [port["HostPort"] for port in call.body["Options"][PORT_MAP]]
        for family in {interface.version for interface in endpoint.interfaces()} | {6}:
            mine = [one for one in self.records.ports if one.endpoint == endpoint.id and one.at.family == family]
            assert len(mine) == len(wanted)
            assert {port for port in wanted if port} <= {one.at.port for one in mine}
        assert {one.at for one in self.records.ports} <= self._kernel.held

    def _check_released(self, pool_id: str) -> None:
        """A pool that nobody uses holds nothing; a plain one may stay for a container that has an address."""
        pool = next((pool for pool in self.records.pools if pool.id == pool_id), None)
        if pool is None or pool.uses or pool.overlay in {network.overlay for network in self.records.networks}:
            return
        held = [one for one in self.records.addresses if one.pool == pool_id and place(one) in self.held()]
        assert held == [] if pool.overlay else any(one.container for one in held), "an unused pool is kept"

    def _check_chosen(self, call: Call, answer: dict[str, Any]) -> None:
        """Check the addresses that the network driver chose; one may be asked for by driver-opt."""
        pools = {pool.typed.family: pool.id for pool in self._dockerd.networks[call.body["NetworkID"]].pools}
        asked = call.body["Options"].get("dni.address", "")
        for field in ("Address", "AddressIPv6"):
            text = answer.get("Interface", {}).get(field)
            if text:
                family = ip_interface(text).version
                self._check_address(pools[family], asked if family == 4 else "", None, text)

    def _check_address(self, pool: str, asked: str, container: str | None, answered: str) -> None:
        """Check an address that was given to a container, whose name engines from 29 on tell."""
        address = ip_interface(answered).ip
        assert address not in self.in_use(), "given twice"
        assert address in self.free_places(pool, narrowed=False), "was held"
        kept = [one for one in self.kept(pool) if address in one]
        mine = [one.first for one in self.kept(pool) if container and one.container == container]
        if asked:
            assert address == ip_address(asked), "another one than asked for"
            assert not container or all(one.container in (None, container) for one in kept), "another's"
        elif mine:
            assert [address] == mine, "another one than reserved"
        else:
            assert address in self.next_in_turn(pool), "out of turn, or reserved"

    def in_use(self) -> set[Address]:
        """Answer the addresses of all containers that run, of either kind."""
        dockers = {one for endpoint in self._dockerd.live() for one in endpoint.bare()}
        return dockers | {address for container in self._placed for _, address in container.places()}

    def check_refusal(self, call: Call, text: str) -> None:
        """Check that a refusal leaves nothing behind, and that a pool is only said to be full when it is."""
        before = self.records
        self.observe()
        if not call.method.startswith(("NetworkDriver.Delete", "IpamDriver.Release")):
            assert ids(self.records.networks) == ids(before.networks)
            assert ids(self.records.endpoints) == ids(before.endpoints)
        if call.method == "NetworkDriver.ProgramExternalConnectivity":
            self._check_not_published(call, before, text)
        if call.method in ("IpamDriver.RequestAddress", "IpamDriver.RequestPool"):
            assert self.records.addresses == before.addresses
            assert _settled(self.records.pools, text) == _settled(before.pools, text)
        if "no free address" in text:
            full = [pool for pool in self._pools_of(call) if not self.open_places(pool)]
            assert full, "refused with room left"
            assert not all(self.grows(pool) for pool in full), "refused with room left in the overlay"
            assert "used" in text
            assert "`dni address ls" in text

    def _check_not_published(self, call: Call, before: Records, text: str) -> None:
        """Nothing is half-made; and a port is only said to be in use when another container has it."""
        mine = {one.at for one in before.ports if one.endpoint == call.body["EndpointID"]}
        assert {one.at for one in self.records.ports if one.endpoint == call.body["EndpointID"]} == mine
        assert set(self.records.ports) <= set(before.ports)
        if "in use by" in text:
            wanted = {port["HostPort"] for port in call.body["Options"][PORT_MAP]}
            others = {one.at.port for one in self.records.ports if one.endpoint != call.body["EndpointID"]}
            assert wanted & others or set(self._kernel.dynamic) <= others, "refused a port that nobody has"

    def check_step(self) -> None:
        """Check what is true at any moment."""
        assert findings(self.records, None, None, wanted(self.records), self._clock()) == []
        self._check_live_endpoints()
        self._check_starting_endpoints()
        self._check_owners()
        self._check_usage()

    def check_quiet(self) -> None:
        """Check what is true when nothing is under way and the collector has seen all there is to see."""
        shown = view(self._dockerd)
        assert shown is not None
        target = wanted(self.records)
        found = findings(self.records, self._kernel.observe(target), shown, target, self._clock())
        assert [finding for finding in found if "but its driver is" not in finding.problem] == []
        assert self.held() - self._unknowable() == set(self._believed()) - self._unknowable()
        assert ids(self.records.cni_endpoints) == {container.endpoint for container in self._placed}
        assert ids(self.records.networks) == {n.id for n in self._dockerd.networks.values() if n.ours}
        assert ids(self.records.endpoints) == {e.id for e in self._dockerd.live() if e.network.ours}
        dockers = {host_link(e.id) for e in self._dockerd.live() if e.network.ours}
        assert self._kernel.links.keys() == dockers | {container.link for container in self._placed}
        own = {one for n in self._dockerd.networks.values() if n.ours for one in own_places(n)}
        assert {
            place(one) for one in self.records.addresses if one.state is AddressState.RESERVED and one.network
        } == own
        assert {pool.id for pool in self.records.pools if pool.uses} == self._pools_in_use()
        assert self._kernel.held == {one.at for one in self.records.ports}

    def _check_live_endpoints(self) -> None:
        """A live container's address is its own and nobody else's, and its link is there."""
        seen: set[Address] = set()
        recorded = {place(record): record for record in self.records.addresses}
        for endpoint in self._dockerd.live():
            for pool, text in endpoint.addresses.items():
                address = ip_interface(text).ip
                assert address not in seen, "two containers have one address"
                seen.add(address)
                record = recorded[(pool, address)]
                assert record.state in HELD, "a live container's address is free"
                assert record.endpoint == (endpoint.id if endpoint.network.ours else None)
            assert not endpoint.network.ours or host_link(endpoint.id) in self._kernel.links

        self._check_placed_containers(seen)

    def _check_placed_containers(self, seen: set[Address]) -> None:
        """Likewise of a runtime's containers, which are in the Mesos halves, and nobody else's beside Docker's."""
        recorded = {place(record): record for record in self.records.addresses}
        for container in self._placed:
            for pool, address in container.places():
                assert address not in seen, "two containers have one address"
                seen.add(address)
                record = recorded[(pool, address)]
                assert (record.state, record.cni_endpoint) == (AddressState.BOUND, container.endpoint)
                assert any(address in half for half in self.records.mesos_halves(container.overlay))
            assert not container.addresses or container.link in self._kernel.links

    def _check_starting_endpoints(self) -> None:
        """What was requested for a container stays its own until its endpoint is made.

        Unless that takes longer than any call does: then a repair, or later the collector, takes it for lost.
        """
        held = self.held()
        known = {endpoint.id: self._known.get(endpoint.id, self._monotonic()) for endpoint in self._dockerd.starting}
        self._known = known
        for endpoint in self._dockerd.starting:
            for pool, text in endpoint.addresses.items():
                is_old = self._monotonic() - known[endpoint.id] >= SETTLED
                assert is_old or (pool, ip_interface(text).ip) in held, "a claim was taken away"

    def _check_owners(self) -> None:
        """Every address that is not free has an owner or a date."""
        networks = {network.id for network in self.records.networks}
        endpoints, places = ids(self.records.endpoints), ids(self.records.cni_endpoints)
        for network in self._dockerd.networks.values():
            assert network.deleting or set(own_places(network)) <= self.held(), "a network's own address is free"
        for record in self.records.addresses:
            assert record.since > 0
            assert record.endpoint is None or record.endpoint in endpoints
            assert record.network is None or record.network in networks
            assert record.cni_endpoint is None or record.cni_endpoint in places
            if record.state is AddressState.FREE:
                owners = (record.endpoint, record.network, record.container, record.cni_endpoint)
                assert owners == (None, None, None, None)

    def _check_usage(self) -> None:
        """Free + used + reserved = size, with the free ones counted one by one."""
        with self._store.read() as tx:
            for pool in self.records.pools:
                usage = addresses.usage(tx, pool.id, self._spans(pool, narrowed=True), self.kept(pool.id))
                assert usage.free == len(self.open_places(pool.id))
                assert usage.free + usage.used + usage.reserved == usage.size
                assert min(usage.free, usage.used, usage.reserved) >= 0

    def next_in_turn(self, pool: str) -> set[Address]:
        """Answer which address is next: the lowest never used one, else one of those freed longest ago."""
        candidates = self.open_places(pool)
        never = [one for one in candidates if (pool, one) not in self._freed]
        if never:
            return {never[0]}
        first = min(self._freed[(pool, one)] for one in candidates)
        return {one for one in candidates if self._freed[(pool, one)] == first}

    def _pools_of(self, call: Call) -> list[str]:
        """Answer the pools that a call may take addresses from."""
        if call.method == "NetworkDriver.CreateEndpoint":
            return [pool.id for pool in self._dockerd.networks[call.body["NetworkID"]].pools]
        return [call.body["PoolID"]]

    def grows(self, name: str) -> bool:
        """Tell whether the agent could have leased more: no overlay here is ever used up."""
        pool = self._pool(name)
        overlays = {overlay.name: overlay for overlay in self.records.overlays}
        return (
            pool.overlay is not None and not pool.ip_range and overlays[pool.overlay].space(pool.family) is not None
        )

    def kept(self, pool: str) -> list[ReservationRecord]:
        """Answer what is reserved of a pool's overlay."""
        names = (pool_id, mesos_pool_id)
        return [one for one in self.records.reservations if pool in {name(one.overlay, one.family) for name in names}]

    def open_places(self, pool: str) -> list[Address]:
        """Answer what is free for whoever does not ask for it by itself."""
        free, kept = self.free_places(pool, narrowed=True), self.kept(pool)
        return [address for address in free if not any(address in one for one in kept)]

    def free_places(self, pool_id: str, *, narrowed: bool) -> list[Address]:
        """Answer what nobody has, in a pool's own range or in all of its halves."""
        pool = self._pool(pool_id)
        held = {address for pool, address in self.held() if pool == pool_id}
        return [one for span in self._spans(pool, narrowed=narrowed) for one in members(span) if one not in held]

    def _pool(self, name: str) -> PoolRecord:
        """Answer a pool; that of a Mesos half that nobody was in yet is recorded with the first."""
        family: Family = 6 if name.endswith("6") else 4
        unused = PoolRecord(id=name, family=family, overlay=name.partition("/")[0])
        return next((pool for pool in self.records.pools if pool.id == name), unused)

    def _spans(self, pool: PoolRecord, *, narrowed: bool) -> list[Span]:
        halves = self.records.halves_of(pool)
        return spans(pool, halves) if narrowed else whole_spans(pool, halves)

    def held(self) -> set[Place]:
        """Answer every address that is not free."""
        return {place(record) for record in self.records.addresses if record.state is not AddressState.FREE}

    def _believed(self) -> Iterator[Place]:
        """Answer every address that dockerd or the runtime takes for somebody's; a half's gateway needs no record."""
        for endpoint in self._dockerd.endpoints.values():
            yield from ((pool, ip_interface(text).ip) for pool, text in endpoint.addresses.items())
        for network in self._dockerd.networks.values():
            yield from own_places(network)
        for container in self._placed:
            yield from container.places()

    def _unknowable(self) -> set[Place]:
        """Answer the first hosts of plain pools: older engines do not say whether one is a gateway."""
        return {(pool.id, gateway_of(pool.subnet)) for pool in self.records.pools if pool.subnet is not None}

    def _pools_in_use(self) -> set[str]:
        return {pool.id for network in self._dockerd.networks.values() for pool in network.pools}


def ids(records: Iterable[NetworkRecord | EndpointRecord | CniEndpointRecord]) -> set[str]:
    """Answer the ids of networks or endpoints."""
    return {record.id for record in records}


def own_places(network: Network) -> Iterator[Place]:
    """Answer what a network keeps for itself; the gateway of a half needs no record."""
    for pool in network.pools:
        yield from ((pool.id, ip_interface(text).ip) for text in pool.auxiliary)
        if not network.has_ipam:
            continue
        gateway = ip_interface(pool.gateway)
        if pool.id.startswith("plain/") or gateway.ip != gateway_of(gateway.network):
            yield pool.id, gateway.ip


def place(record: AddressRecord) -> Place:
    """Answer where a record belongs."""
    return record.pool, record.address


def _settled(pools: Iterable[PoolRecord], text: str) -> list[PoolRecord]:
    """Answer pools; where an agent died before its answer, without those on trial, which go by themselves."""
    return [pool for pool in pools if not (text == "the agent does not answer" and pool.trial and not pool.uses)]


def members(span: Span) -> list[Address]:
    """Answer every address of a span, in order."""
    kind = type(span.first)
    return [kind(number) for number in range(int(span.first), int(span.last) + 1)]
