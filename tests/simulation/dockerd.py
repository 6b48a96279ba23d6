# SPDX-License-Identifier: Apache-2.0
"""A dockerd that calls its drivers as libnetwork does, in its order and with its forgetfulness.

Each thing a user does is a task: a generator of calls and locks. Tasks advance one call at a time, so that
anything can happen between two calls. What dockerd keeps on disk survives its crash; tasks do not.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from dni_driver.core.names import host_link
from tests.fakes import FakeKernel
from tests.simulation.model import (
    Asking,
    Call,
    CallFailed,
    Container,
    Endpoint,
    Lock,
    Network,
    Plan,
    Pool,
    Steps,
    Task,
    Transport,
    Unlock,
)
from tests.simulation.pools import allocate, quietly, release_address, release_pools

PORT_MAP = "com.docker.network.portmap"


class Dockerd:
    """One engine of one version, and the disk it keeps things on."""

    def __init__(self, transport: Transport, kernel: FakeKernel, version: int) -> None:
        """Take how calls are made and the kernel the host has."""
        self._transport = transport
        self._kernel = kernel
        self.version = version
        self.up = True
        self.networks: dict[str, Network] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.starting: list[Endpoint] = []
        self.containers: dict[str, Container] = {}
        self.tasks: list[Task] = []
        self._locks: set[str] = set()
        self._numbers = 0
        self._active = False

    # Carrying out what is under way.

    def begin(self, name: str, steps: Steps, container: Container | None = None) -> None:
        """Put something under way."""
        if container is not None:
            container.busy = True
        self.tasks.append(Task(name, steps, container))

    def advance(self, task: Task) -> bool:
        """Make the next call of a task, or end it; False where it waits for a lock."""
        while isinstance(task.step, Lock | Unlock):
            if not self._turn(task, task.step):
                return False
        if task.step is None:
            self._end(task)
        else:
            task.resume(self._outcome(task.step))
        return True

    def lose_answer(self, task: Task) -> None:
        """Make the next call of a task, and crash before the answer is there."""
        if isinstance(task.step, Call):
            self._outcome(task.step)
        self.crash()

    def finish(self) -> None:
        """Carry out everything under way."""
        while self.tasks:
            moved = [self.advance(task) for task in list(self.tasks)]
            assert any(moved), "every task waits for another"

    def _turn(self, task: Task, step: Lock | Unlock) -> bool:
        if isinstance(step, Unlock):
            self._locks.discard(step.network)
        elif step.network in self._locks:
            return False
        else:
            self._locks.add(step.network)
        task.resume(None)
        return True

    def _outcome(self, call: Call) -> object:
        try:
            self._activate()
            return self._transport(call)
        except CallFailed as error:
            return error

    def _activate(self) -> None:
        """Ask a plugin, once in this life, what it is."""
        if not self._active:
            self._transport(Call("Plugin.Activate", {}))
            self._active = True

    def _end(self, task: Task) -> None:
        self.tasks.remove(task)
        if task.container is not None:
            task.container.busy = False

    # docker network create, docker network rm.

    def create_network(self, plan: Plan) -> Steps:
        """Ask the IPAM driver for each pool, its gateway and auxiliary addresses; then make the network."""
        network = Network(self._new_id(), plan, [])
        options: dict[str, Any] = {"com.docker.network.generic": dict(plan.options)}
        if plan.internal:
            options["com.docker.network.internal"] = True
        try:
            if self.version >= 28 and network.ours:
                yield Call("NetworkDriver.GwAllocCheck", {"Options": options})
            yield from allocate(network, self.version, self._kernel)
        except CallFailed:
            return
        try:
            yield from self._make(network, options)
        except CallFailed:
            yield from release_pools(network)
            return
        self.networks[network.id] = network

    def _make(self, network: Network, options: dict[str, Any]) -> Steps:
        if network.ours:
            by_family: dict[int, list[dict[str, Any]]] = {4: [], 6: []}
            for pool in network.pools:
                by_family[pool.typed.family].append(pool.data())
            body = {"NetworkID": network.id, "Options": options, "IPv4Data": by_family[4], "IPv6Data": by_family[6]}
            yield Call("NetworkDriver.CreateNetwork", body)
        elif network.plan.driver == "bridge":
            self._make_bridge(network)

    def _make_bridge(self, network: Network) -> None:
        for pool in network.pools:
            subnet = ip_network(pool.subnet)
            if self._kernel.overlapping_routes(subnet):
                raise CallFailed("networks have overlapping IPv4")
            self._kernel.foreign[f"br-{network.id[:12]}"] = subnet

    def _put_bridge_back(self, network: Network) -> None:
        if network.plan.driver == "bridge":
            self._kernel.foreign |= {f"br-{network.id[:12]}": ip_network(pool.subnet) for pool in network.pools}

    def delete_network(self, network: Network) -> Steps:
        """Release everything first, then tell the network driver; errors change nothing."""
        yield Lock(network.id)
        if network.id in self.networks and not any(one.network is network for one in self.endpoints.values()):
            yield from self._delete(network)
        yield Unlock(network.id)

    def _delete(self, network: Network) -> Steps:
        network.deleting = True
        yield from release_pools(network)
        if network.ours:
            yield from quietly("NetworkDriver.DeleteNetwork", {"NetworkID": network.id})
        self._kernel.foreign.pop(f"br-{network.id[:12]}", None)
        del self.networks[network.id]

    # docker run, stop, restart; docker network connect, disconnect.

    def start(self, container: Container) -> Steps:
        """Connect a container to each of its networks; one that fails undoes the others."""
        for network in list(container.networks):
            connected = yield from self._connect(container, network)
            if not connected:
                yield from self._disconnect_all(container)
                return
        container.running = True

    def stop(self, container: Container) -> Steps:
        """Disconnect a container from all its networks; it keeps them for its next start."""
        container.running = False
        yield from self._disconnect_all(container)

    def restart(self, container: Container) -> Steps:
        """Stop, then start."""
        yield from self.stop(container)
        yield from self.start(container)

    def connect(self, container: Container, network: Network, address: str) -> Steps:
        """Connect a running container to one more network."""
        container.networks[network.id] = address
        connected = yield from self._connect(container, network.id)
        if not connected:
            del container.networks[network.id]

    def disconnect(self, container: Container, network: str) -> Steps:
        """Disconnect a running container from one network."""
        del container.networks[network]
        for endpoint in self._endpoints_of(container):
            if endpoint.network.id == network:
                yield from self._disconnect(endpoint)

    def _connect(self, container: Container, name: str) -> Asking:
        yield Lock(name)
        endpoint = yield from self._create_endpoint(container, name)
        yield Unlock(name)
        if endpoint is None:
            return False
        try:
            yield from self._join(endpoint)
        except CallFailed:
            if self.version >= 29:
                yield from self._tell("NetworkDriver.Leave", endpoint)
            yield from self._delete_endpoint(endpoint)
            return False
        return True

    def _create_endpoint(self, container: Container, name: str) -> Asking:
        network = self.networks.get(name)
        if network is None or network.deleting:
            return None
        endpoint = Endpoint(self._new_id(), network, container.name, {})
        self.starting.append(endpoint)
        try:
            for pool in network.pools if network.has_ipam else ():
                yield from self._request_address(endpoint, pool, container.networks[name])
            if network.ours:
                yield from self._create_in_driver(endpoint, container.networks[name])
        except CallFailed:
            self.starting.remove(endpoint)
            yield from self._release_addresses(endpoint)
            return None
        self.starting.remove(endpoint)
        self.endpoints[endpoint.id] = endpoint
        return endpoint

    def _request_address(self, endpoint: Endpoint, pool: Pool, wanted: str) -> Steps:
        asked = wanted if wanted and ip_address(wanted).version == pool.typed.family else ""
        options = {"com.docker.network.endpoint.name": endpoint.container} if self.version >= 29 else None
        body = {"PoolID": pool.id, "Address": asked, "Options": options}
        answered = (yield Call("IpamDriver.RequestAddress", body))["Address"]
        if pool.typed.ip_range and not asked:
            assert ip_interface(answered).ip in ip_network(pool.typed.ip_range), "outside --ip-range"
        endpoint.addresses[pool.id] = answered

    def _create_in_driver(self, endpoint: Endpoint, wanted: str) -> Steps:
        """Create it in the network driver, which chooses its addresses where no IPAM driver did."""
        interfaces = [ip_interface(address) for address in endpoint.addresses.values()]
        four = next((str(one) for one in interfaces if isinstance(one, IPv4Interface)), "")
        six = next((str(one) for one in interfaces if isinstance(one, IPv6Interface)), "")
        answer = yield Call(
            "NetworkDriver.CreateEndpoint",
            {
                "NetworkID": endpoint.network.id,
                "EndpointID": endpoint.id,
                "Interface": {"Address": four, "AddressIPv6": six, "MacAddress": ""},
                "Options": {"com.docker.network.endpoint.exposedports": None, **self._driver_opts(endpoint, wanted)},
            },
        )
        added = dict(answer.get("Interface", {}))
        added.pop("MacAddress", None)
        assert endpoint.network.has_ipam <= (not added), "a given field must not be answered"
        pools = {pool.typed.family: pool.id for pool in endpoint.network.pools}
        endpoint.addresses |= {pools[ip_interface(text).version]: text for text in added.values()}

    def _driver_opts(self, endpoint: Endpoint, wanted: str) -> dict[str, str]:
        return {"dni.address": wanted} if wanted and not endpoint.network.has_ipam else {}

    def _join(self, endpoint: Endpoint) -> Steps:
        if endpoint.network.ours:
            sandbox = f"/var/run/docker/netns/{endpoint.container}"
            body = {**self._ids(endpoint), "SandboxKey": sandbox, "Options": {}}
            self._plumb(endpoint, (yield Call("NetworkDriver.Join", body)))
            endpoint.joined = True
            if not endpoint.network.plan.internal:
                body = {**self._ids(endpoint), "Options": {PORT_MAP: self._port_map(endpoint)}}
                for _ in "12" if self.version >= 29 else "1":
                    yield Call("NetworkDriver.ProgramExternalConnectivity", body)
            yield Call("NetworkDriver.EndpointOperInfo", self._ids(endpoint))
        endpoint.joined = True

    def _port_map(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """Answer what a container publishes; an engine may say so to several of its networks."""
        ports = self.containers[endpoint.container].ports if endpoint.container in self.containers else ()
        return [{"Proto": 6, "Port": 80, "HostIP": "", "HostPort": port, "HostPortEnd": port} for port in ports]

    def _plumb(self, endpoint: Endpoint, answer: dict[str, Any]) -> None:
        """Do as libnetwork does with Join's answer: find the link, reach the gateway."""
        assert len(answer["InterfaceName"]["SrcName"]) <= 15
        link = self._kernel.links.get(host_link(endpoint.id))
        assert link is not None, "no link to move into the sandbox"
        bridge = self._kernel.bridges[link.bridge]
        for gateway in filter(None, (answer.get("Gateway"), answer.get("GatewayIPv6"))):
            on_link = [ip_interface(one).network for one in endpoint.addresses.values()]
            assert any(ip_address(gateway) in subnet for subnet in on_link), "the gateway is not on-link"
            assert any(ip_address(gateway) == one.ip for one in bridge.addresses), "nobody has the gateway's address"

    def _disconnect_all(self, container: Container) -> Steps:
        for endpoint in self._endpoints_of(container):
            yield from self._disconnect(endpoint)

    def _disconnect(self, endpoint: Endpoint) -> Steps:
        if endpoint.joined and not endpoint.network.plan.internal:
            yield from self._tell("NetworkDriver.RevokeExternalConnectivity", endpoint)
        # From here on its container is cut off, even where a crash hides that from dockerd.
        endpoint.joined = False
        yield from self._tell("NetworkDriver.Leave", endpoint)
        yield from self._delete_endpoint(endpoint)

    def _delete_endpoint(self, endpoint: Endpoint) -> Steps:
        """Forget an endpoint on disk, then tell the drivers, once."""
        endpoint.joined = False
        del self.endpoints[endpoint.id]
        yield from self._tell("NetworkDriver.DeleteEndpoint", endpoint)
        yield from self._release_addresses(endpoint)

    def _release_addresses(self, endpoint: Endpoint) -> Steps:
        if not endpoint.network.has_ipam:
            return
        for pool, address in endpoint.addresses.items():
            yield from release_address(pool, address)

    def _tell(self, method: str, endpoint: Endpoint) -> Steps:
        if endpoint.network.ours:
            yield from quietly(method, self._ids(endpoint))

    def _ids(self, endpoint: Endpoint) -> dict[str, Any]:
        return {"NetworkID": endpoint.network.id, "EndpointID": endpoint.id}

    def _endpoints_of(self, container: Container) -> list[Endpoint]:
        return [one for one in self.endpoints.values() if one.container == container.name]

    # The daemon's own end and beginning.

    def crash(self) -> None:
        """End at once: what is on disk stays, what is under way is forgotten."""
        self.up = False
        self._active = False
        self.tasks.clear()
        self.starting.clear()
        self._locks.clear()
        for container in self.containers.values():
            container.busy = False

    def stop_gracefully(self) -> None:
        """Stop every container, then end."""
        self.finish()
        stopped = [container for container in self.containers.values() if container.running]
        for container in stopped:
            self.begin("stop", self.stop(container), container)
        self.finish()
        self.crash()
        for container in stopped:
            container.running = container.restarts

    def boot(self, *, containers_live: bool) -> None:
        """Clean up what is stale before anything else is served; then start what has a restart policy."""
        self.up = True
        for network in self.networks.values():
            self._put_bridge_back(network)
        running = [container for container in self.containers.values() if container.running]
        alive = {container.name for container in running} if containers_live else set()
        self.begin("clean up", self._clean_up(alive))
        self.finish()
        if not containers_live:
            for container in running:
                container.running = False
                if container.restarts:
                    self.begin("restart policy", self.start(container), container)

    def _clean_up(self, alive: set[str]) -> Steps:
        """Delete stale endpoints: with their driver where it was loaded for its IPAM, else behind its back."""
        is_loaded = any(network.has_ipam for network in self.networks.values())
        for endpoint in list(self.endpoints.values()):
            if endpoint.container not in alive or not endpoint.joined:
                if endpoint.joined:
                    # A link goes with the sandbox that it is in.
                    self._kernel.links.pop(host_link(endpoint.id), None)
                if is_loaded:
                    yield from self._tell("NetworkDriver.Leave", endpoint)
                    yield from self._delete_endpoint(endpoint)
                else:
                    del self.endpoints[endpoint.id]
        for network in list(self.networks.values()):
            if network.deleting:
                yield from self._delete(network)

    # What there is.

    def live(self) -> list[Endpoint]:
        """Answer the endpoints that containers use at this moment."""
        return [endpoint for endpoint in self.endpoints.values() if endpoint.joined]

    def _new_id(self) -> str:
        self._numbers += 1
        return hashlib.sha256(str(self._numbers).encode()).hexdigest()
