# SPDX-License-Identifier: Apache-2.0
"""A Docker Engine of some version, as its plugin sees it: the calls that each action of a user causes, in order.

Written after libnetwork's network.go, endpoint.go, sandbox.go and default_gateway.go at 20.10, 28 and 29. Like
the engine it takes the errors of Revoke, Leave, Delete and Release as something for its log.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tests.contract import answers
from tests.contract.dockerd import Dockerd, PluginError
from tests.contract.objects import (
    Container,
    Endpoint,
    Network,
    Pool,
    creation,
    endpoint_options,
    family_of,
    ids,
    overlap,
    pool_of_dockers_own,
    ports,
)

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}

_ENDLESS = 5
"""Rounds of asking for another pool after which a test calls it endless."""


class EngineError(Exception):
    """The engine's own refusal: the plugin was not asked."""


class Engine:
    """One dockerd. `on_link` are the host's directly reached subnets, `logged` the errors it only logs.

    `new_sandbox` answers the key of a container's sandbox; there need be none of that name.
    """

    def __init__(self, plugin: Dockerd, version: int) -> None:
        """Begin with no network, as after a fresh installation."""
        self._plugin = plugin
        self.version = version
        self.on_link: list[answers.Network] = []
        self.logged: list[str] = []
        self.networks: dict[str, Network] = {}
        self.containers: dict[str, Container] = {}
        self.new_sandbox: Callable[[], str] = lambda: f"/var/run/docker/netns/{secrets.token_hex(6)}"
        self._active = False

    # -- networks

    def create(  # noqa: PLR0913 - docker network create has as many
        self,
        name: str,
        *,
        driver: str = "dni",
        ipam: str = "dni",
        subnets: Sequence[str] = (),
        ip_range: str = "",
        gateway: str = "",
        aux: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        ipam_options: Mapping[str, str] | None = None,
        ipv4: bool = True,
        ipv6: bool = False,
        internal: bool = False,
    ) -> Network:
        """Do what `docker network create` does."""
        self._activate()
        told = self._options(options, ipv4=ipv4, ipv6=ipv6, internal=internal)
        if self.version >= 28 and driver == "dni":
            check = self._plugin.call("NetworkDriver.GwAllocCheck", {"Options": told})
            assert check == {"SkipIPv4": False, "SkipIPv6": False}
        network = Network(secrets.token_hex(32), name, driver, ipam, internal, [])
        try:
            for family, subnet in self._wanted(subnets, ipv4=ipv4, ipv6=ipv6):
                asked = {
                    "AddressSpace": "dni-local",
                    "Pool": subnet,
                    "SubPool": ip_range if family == family_of(ip_range) else "",
                    "Options": dict(ipam_options or {}),
                    "V6": family == 6,
                }
                wanted_gateway = gateway if family == family_of(gateway) else ""
                network.pools.append(self._pool(ipam, asked, wanted_gateway, aux if family == 4 else None))
            if driver == "dni":
                self._plugin.call("NetworkDriver.CreateNetwork", creation(network, told))
        except (PluginError, EngineError):
            self._release_pools(network)
            raise
        self.networks[name] = network
        return network

    def remove(self, name: str) -> None:
        """Do what `docker network rm` does: whatever the plugin answers, the network is gone."""
        network = self.networks.pop(name)
        self._release_pools(network)
        if network.driver == "dni":
            self._only_log("NetworkDriver.DeleteNetwork", {"NetworkID": network.id})

    def _activate(self) -> None:
        if not self._active:
            assert self._plugin.call("Plugin.Activate")["Implements"] == ["NetworkDriver", "IpamDriver"]
            assert self._plugin.call("NetworkDriver.GetCapabilities")["Scope"] == "local"
            self._plugin.call("IpamDriver.GetCapabilities")
            if self.version < 24:
                self._plugin.call("IpamDriver.GetDefaultAddressSpaces")
        self._active = True

    def _options(
        self, options: Mapping[str, str] | None, *, ipv4: bool, ipv6: bool, internal: bool
    ) -> dict[str, object]:
        told: dict[str, object] = {
            "com.docker.network.enable_ipv6": ipv6,
            "com.docker.network.generic": dict(options or {}),
        }
        if self.version >= 28:
            told["com.docker.network.enable_ipv4"] = ipv4
        if internal:
            told["com.docker.network.internal"] = True
        return told

    def _wanted(self, subnets: Sequence[str], *, ipv4: bool, ipv6: bool) -> Iterable[tuple[int, str]]:
        """Answer the pools to ask for: without a subnet, any of that family."""
        fours = [(4, subnet) for subnet in subnets if family_of(subnet) == 4]
        sixes = [(6, subnet) for subnet in subnets if family_of(subnet) == 6]
        if ipv4:
            yield from fours or [(4, "")]
        if ipv6:
            yield from sixes or [(6, "")]

    def _pool(self, ipam: str, asked: dict[str, Any], gateway: str, aux: Mapping[str, str] | None) -> Pool:
        if ipam != "dni":
            return pool_of_dockers_own(ipam, asked["Pool"], 6 if asked["V6"] else 4)
        pool = self._another_pool(asked)
        try:
            if gateway or not pool.gateway:
                pool.gateway = str(self._address(pool, gateway, GATEWAY))
            for name, wanted in (aux or {}).items():
                _check_inside(name, wanted, pool)
                pool.aux[name] = str(self._address(pool, wanted, None))
        except (PluginError, EngineError):
            # What was given out of this pool is not released one by one.
            self._only_log("IpamDriver.ReleasePool", {"PoolID": pool.id})
            raise
        return pool

    def _another_pool(self, asked: dict[str, Any]) -> Pool:
        """Ask until a pool overlaps nothing on the host, unless the user named it; keep the others meanwhile."""
        kept: list[Pool] = []
        try:
            while True:
                if self.version >= 27:
                    self._plugin.call("IpamDriver.GetDefaultAddressSpaces")
                pool = Pool(*answers.pool(self._plugin.call("IpamDriver.RequestPool", asked)))
                if asked["Pool"] or not any(overlap(pool.subnet, there) for there in self.on_link):
                    return pool
                kept.append(pool)
                assert len(kept) < _ENDLESS, "dockerd would ask for another pool for ever"
        finally:
            for pool in kept:
                self._only_log("IpamDriver.ReleasePool", {"PoolID": pool.id})

    def _address(self, pool: Pool, wanted: str, options: Mapping[str, str] | None) -> answers.Interface:
        arguments = {"PoolID": pool.id, "Address": wanted, "Options": options}
        return answers.address(self._plugin.call("IpamDriver.RequestAddress", arguments))

    def _release_pools(self, network: Network) -> None:
        for pool in network.pools:
            if network.ipam == "dni":
                for text in (pool.gateway, *pool.aux.values()):
                    self._release(pool.id, text.partition("/")[0])
                self._only_log("IpamDriver.ReleasePool", {"PoolID": pool.id})

    def _release(self, pool_id: str, address: str) -> None:
        self._only_log("IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": address})

    # -- containers

    def run(
        self,
        name: str,
        *networks: str,
        ip: str = "",
        ip6: str = "",
        mac: str = "",
        driver_opts: Mapping[str, str] | None = None,
        ports: Sequence[int] = (),
    ) -> Container:
        """Do what `docker run -d` does: on failure the container is there, and stopped."""
        wishes = {network: {"ip": ip, "ip6": ip6, "mac": mac, **(driver_opts or {})} for network in networks}
        self.containers[name] = Container(name, wishes, list(ports))
        self.start(name)
        return self.containers[name]

    def start(self, name: str) -> None:
        """Do what `docker start` does."""
        container = self.containers[name]
        container.sandbox = self.new_sandbox()
        try:
            for network in container.wishes:
                self._plug(container, network)
        except (PluginError, EngineError):
            self.stop(name)
            raise

    def stop(self, name: str) -> None:
        """Do what `docker stop` does."""
        container = self.containers[name]
        for network in list(container.endpoints):
            self._unplug(container, network, settle=False)
        container.sandbox = ""

    def restart(self, name: str) -> None:
        """Do what `docker restart` does."""
        self.stop(name)
        self.start(name)

    def delete(self, name: str) -> None:
        """Do what `docker rm -f` does."""
        self.stop(name)
        del self.containers[name]

    def connect(self, name: str, network: str, *, ip: str = "", ip6: str = "", mac: str = "") -> None:
        """Do what `docker network connect` does: for a stopped container nothing is sent."""
        container = self.containers[name]
        container.wishes[network] = {"ip": ip, "ip6": ip6, "mac": mac}
        if container.sandbox:
            self._ask_about(container)
            try:
                self._plug(container, network)
            except (PluginError, EngineError):
                del container.wishes[network]
                raise

    def disconnect(self, name: str, network: str) -> None:
        """Do what `docker network disconnect` does."""
        container = self.containers[name]
        del container.wishes[network]
        if container.sandbox:
            self._unplug(container, network, settle=True)

    def ip(self, name: str, family: int = 4) -> str:
        """Answer a container's address on its first network."""
        endpoint = next(iter(self.containers[name].endpoints.values()))
        return str(endpoint.addresses[family].ip)

    def _plug(self, container: Container, network_name: str) -> None:
        network, wish = self.networks[network_name], container.wishes[network_name]
        endpoint = Endpoint(secrets.token_hex(32), network, {})
        self._assign(endpoint, container, {4: wish["ip"], 6: wish["ip6"]})
        try:
            self._create_endpoint(endpoint, container, wish)
        except PluginError:
            self._release_addresses(endpoint)
            raise
        try:
            self._join(endpoint, container)
        except PluginError:
            if self.version >= 29:
                self._only_log("NetworkDriver.Leave", ids(endpoint))
            self._delete_endpoint(endpoint)
            raise
        container.endpoints[network_name] = endpoint
        self._choose_way_out(container)
        self._ask_about(container)

    def _assign(self, endpoint: Endpoint, container: Container, wanted: Mapping[int, str]) -> None:
        if endpoint.network.ipam == "null":
            return
        options = {"com.docker.network.endpoint.name": container.name} if self.version >= 29 else None
        for family, asked in wanted.items():
            of_family = [pool for pool in endpoint.network.pools if pool.subnet.version == family]
            usable = [pool for pool in of_family if not asked or ip_address(asked) in pool.subnet]
            if of_family and not usable:
                raise EngineError(f"Invalid address {asked}: It does not belong to any of this network's subnets")
            if usable:
                endpoint.addresses[family] = self._address(usable[0], asked, options)

    def _create_endpoint(self, endpoint: Endpoint, container: Container, wish: Mapping[str, str]) -> None:
        four, six = (str(endpoint.addresses.get(family, "")) for family in (4, 6))
        interface = {"Address": four, "AddressIPv6": six, "MacAddress": wish["mac"]}
        arguments = {**ids(endpoint), "Interface": interface, "Options": endpoint_options(container, wish)}
        answer = self._plugin.call("NetworkDriver.CreateEndpoint", arguments)
        try:
            endpoint.mac = answers.mac(answer, interface)
            endpoint.addresses |= answers.added(answer, interface)
        except AssertionError:
            self._only_log("NetworkDriver.DeleteEndpoint", ids(endpoint))
            raise

    def _join(self, endpoint: Endpoint, container: Container) -> None:
        arguments = {**ids(endpoint), "SandboxKey": container.sandbox, "Options": ports(container)}
        answer = self._plugin.call("NetworkDriver.Join", arguments)
        endpoint.gateways = answers.gateways(answer, endpoint.addresses)
        endpoint.routes = answers.routes(answer)
        if self.version < 28 and 4 not in endpoint.gateways:
            endpoint.gateways.clear()
        endpoint.link = answer["InterfaceName"]["SrcName"]
        if not endpoint.gateways:
            assert answer["DisableGatewayService"], "docker_gwbridge would be plugged in"

    def _choose_way_out(self, container: Container) -> None:
        """Give the ports to the endpoint whose gateway the container uses; 29 does so once for each family."""
        ways = sorted((name for name, endpoint in container.endpoints.items() if endpoint.gateways))
        chosen = container.endpoints[ways[0]] if ways else None
        if chosen is container.way_out:
            return
        if container.way_out is not None:
            self._only_log("NetworkDriver.RevokeExternalConnectivity", ids(container.way_out))
        if chosen is not None:
            for _ in chosen.gateways if self.version >= 29 else "1":
                self._plugin.call(
                    "NetworkDriver.ProgramExternalConnectivity", {**ids(chosen), "Options": ports(container)}
                )
        container.way_out = chosen

    def _unplug(self, container: Container, network: str, *, settle: bool) -> None:
        endpoint = container.endpoints.pop(network)
        if endpoint is container.way_out:
            self._only_log("NetworkDriver.RevokeExternalConnectivity", ids(endpoint))
            container.way_out = None
        self._only_log("NetworkDriver.Leave", ids(endpoint))
        if settle:
            self._choose_way_out(container)
            self._ask_about(container)
        self._delete_endpoint(endpoint)

    def _delete_endpoint(self, endpoint: Endpoint) -> None:
        self._only_log("NetworkDriver.DeleteEndpoint", ids(endpoint))
        self._release_addresses(endpoint)

    def _release_addresses(self, endpoint: Endpoint) -> None:
        if endpoint.network.ipam == "null":
            return
        for family, address in endpoint.addresses.items():
            pool = next(pool for pool in endpoint.network.pools if pool.subnet.version == family)
            self._release(pool.id, str(address.ip))

    def _ask_about(self, container: Container) -> None:
        for endpoint in container.endpoints.values():
            answer = self._plugin.call("NetworkDriver.EndpointOperInfo", ids(endpoint))
            assert isinstance(answer["Value"], dict)

    def _only_log(self, method: str, arguments: Mapping[str, Any]) -> None:
        try:
            self._plugin.call(method, arguments)
        except PluginError as error:
            self.logged.append(str(error))


def _check_inside(name: str, wanted: str, pool: Pool) -> None:
    if ip_address(wanted) not in pool.subnet:
        raise EngineError(f"auxiliary address: ({name}:{wanted}) must belong to the master pool: {pool.subnet}")
