# SPDX-License-Identifier: Apache-2.0
"""A plugin and the agent it asks, in one process, with a kernel in which something else happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Network, Overlay, define
from dni_driver.core.wanted import Wanted
from dni_driver.plugin import wire
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.registry import open_registry
from dni_driver.store import Store, overlays
from dni_driver.store.records import read_all
from tests.fakes import AGENT, DCOS, FakeClock, FakeKernel
from tests.removing import remove_here

DEV = define("dev", [ip_network("10.70.0.0/16")])
PLAIN = "plain/172.30.0.0/29"
GATEWAY = {wire.ADDRESS_TYPE: wire.GATEWAY_TYPE}
NETWORK, WEB = "a" * 64, "b" * 64
OTHER = IPv4Address("192.0.2.20")


class MeddledKernel(FakeKernel):
    """A kernel that does what it is asked, and has something happen: `meanwhile`, while routes are looked at."""

    def __init__(self) -> None:
        """Have nothing happen."""
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None
        self.elsewhere: KernelError | None = None

    def overlapping_routes(self, network: Network) -> list[str]:
        """Look at the routes."""
        self.meanwhile()
        return super().overlapping_routes(network)

    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Mend all there is; raise in the end where something `elsewhere` could not be mended."""
        changes = super().reconcile(read_wanted)
        if self.elsewhere is not None:
            raise self.elsewhere
        return changes


class Host:
    """A plugin and the agent it asks, in one process."""

    def __init__(self, store: Store, directory: Path) -> None:
        """Be an agent with the default overlay."""
        self.store = store
        self.kernel = MeddledKernel()
        identity = Identity(store, lambda: AGENT, None)
        self.joining = Joining(store, open_registry("local", directory), identity, DCOS, FakeClock())
        self.joining.join()
        self.ipam = IpamDriver(store, self.kernel, self, "dcos", FakeClock())
        self.network = NetworkDriver(store, self.kernel, FakeClock())
        self.waits: list[float] = []

    def define(self, overlay: Overlay) -> None:
        """Define an overlay, as a person asks the agent to."""
        self.joining.define(overlay)

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a network that is being created."""
        self.joining.try_out(overlay)

    def remove(self, overlay: str) -> None:
        """Remove one."""
        remove_here(self.joining, overlay)

    def pool(self, overlay: str = "dcos", subnet: str = "") -> wire.RequestPoolResponse:
        """Request a pool, as for `--subnet SUBNET --ipam-opt overlay=NAME`."""
        return self.ipam.request_pool(wire.RequestPoolRequest(pool=subnet, options={"overlay": overlay}))

    def address(self, pool: str, options: dict[str, str] | None = None) -> str:
        """Request an address."""
        return self.ipam.request_address(wire.RequestAddressRequest(pool_id=pool, options=options)).address

    def create(self, pool: wire.RequestPoolResponse, gateway: str, network: str = NETWORK, **options: str) -> None:
        """Create a network of a pool."""
        data = wire.IPAMData(pool=pool.pool, gateway=gateway)
        self.network.create_network(
            wire.CreateNetworkRequest(network_id=network, ipv4_data=[data], options={wire.GENERIC: options})
        )

    def release(self, pool: str, *texts: str) -> None:
        """Release some addresses and their pool, as dockerd does in the end."""
        for text in texts:
            bare = text.partition("/")[0]
            self.ipam.release_address(wire.ReleaseAddressRequest(pool_id=pool, address=bare))
        self.ipam.release_pool(wire.ReleasePoolRequest(pool_id=pool))

    def overlays(self) -> list[str]:
        """Name the overlays."""
        with self.store.read() as tx:
            return [overlay.name for overlay in overlays.every(tx)]


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Host:
    return Host(store, tmp_path)


def plain(host: Host) -> str:
    """Have a plain pool used by one network; answer its gateway."""
    host.ipam.request_pool(wire.RequestPoolRequest(pool="172.30.0.0/29"))
    return host.address(PLAIN, GATEWAY)


@pytest.fixture
def alone(host: Host) -> Host:
    """Have a container on a network whose addresses dockerd asks nobody for."""
    create_alone(host)
    run(host)
    return host


def create_alone(host: Host) -> None:
    """Create a network whose addresses dockerd asks nobody for."""
    data = wire.IPAMData(address_space="null", pool="0.0.0.0/0")
    options = {wire.GENERIC: {"overlay": "dcos"}}
    host.network.create_network(wire.CreateNetworkRequest(network_id=NETWORK, options=options, ipv4_data=[data]))


def run(host: Host, endpoint: str = WEB, address: str = "9.0.0.140") -> None:
    """Start a container that asks for an address."""
    options = {"dni.address": address}
    host.network.create_endpoint(
        wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=endpoint, options=options)
    )
    join(host, endpoint)


def join(host: Host, endpoint: str) -> None:
    """Put a container into its sandbox."""
    sandbox = "/run/docker/netns/x"
    host.network.join(wire.JoinRequest(network_id=NETWORK, endpoint_id=endpoint, sandbox_key=sandbox))


def endpoints_of(host: Host) -> list[str]:
    return [endpoint.id for endpoint in read_all(host.store).endpoints]
