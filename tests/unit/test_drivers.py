# SPDX-License-Identifier: Apache-2.0
"""Both drivers as two halves of one plugin, with something else happening in the middle of their calls."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.core.errors import Exhausted, InUse, KernelError, NotFound, NotMended, Refused
from dni_driver.core.names import host_link
from dni_driver.core.overlays import AgentSubnet, Network, Overlay, define
from dni_driver.core.records import AddressState
from dni_driver.core.wanted import Link, Wanted, wanted
from dni_driver.plugin import wire
from dni_driver.plugin.app import LONGEST_TEXT, create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.registry import open_registry
from dni_driver.store import Store, addresses, endpoints, leaving, networked, overlays
from dni_driver.store.claiming import has_room
from dni_driver.store.records import read_all
from tests.fakes import AGENT, DCOS, FakeClock, FakeKernel, lease
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


# -- a network that comes and goes


def test_a_network_that_a_user_removes_at_once_is_not_made_again_by_the_agent(host: Host) -> None:
    """The agent looks once a second: it may never have seen the network that its user made."""
    pool = host.pool("dev", "10.70.0.0/16")
    gateway = host.address(pool.pool_id, GATEWAY)
    host.create(pool, gateway)
    host.release(pool.pool_id, gateway)
    host.network.delete_network(wire.NetworkRequest(network_id=NETWORK))
    with host.store.read() as tx:
        assert "dev" not in [overlay.name for overlay in networked.due(tx, 10**10)]


# -- a network that the kernel refuses


def test_a_network_that_the_kernel_refuses_takes_along_the_overlay_defined_for_it(host: Host) -> None:
    pool = host.pool("dev", "10.70.0.0/16")
    gateway = host.address(pool.pool_id, GATEWAY)
    host.kernel.refusals = [KernelError("d-dev exists and dni did not make it")]
    with pytest.raises(KernelError):
        host.create(pool, gateway)
    host.release(pool.pool_id, gateway)
    assert "dev" not in host.overlays()


def test_a_network_that_could_not_be_made_for_another_reason_is_taken_back_too(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody deletes what dockerd could not create: the overlay would have its one network already."""

    def refuse(_: object) -> list[str]:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as poor:
        poor.setattr(host.kernel, "reconcile", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            create_alone(host)
    assert read_all(host.store).networks == []


def test_an_overlay_stays_when_its_first_network_goes(host: Host) -> None:
    pool = host.pool("dev", "10.70.0.0/16")
    gateway = host.address(pool.pool_id, GATEWAY)
    host.create(pool, gateway)
    host.release(pool.pool_id, gateway)
    host.network.delete_network(wire.NetworkRequest(network_id=NETWORK))
    assert "dev" in host.overlays()


# -- a host of which not everything can be mended


def test_a_network_is_made_although_another_cannot_be_mended(host: Host) -> None:
    pool = host.pool()
    host.kernel.elsewhere = NotMended([("d-dev", "d-dev exists and dni did not make it")])
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    assert "d-dcos" in host.kernel.bridges
    assert [network.id for network in read_all(host.store).networks] == [NETWORK]


@pytest.mark.parametrize("where", ["d-dcos", None])
def test_a_network_is_refused_where_it_cannot_be_made_itself(host: Host, where: str | None) -> None:
    """Its own bridge, or what all networks need."""
    pool = host.pool()
    host.kernel.elsewhere = NotMended([("d-dev", "not ours"), (where, "nft said no")])
    with pytest.raises(KernelError, match=r"^nft said no$"):
        host.create(pool, host.address(pool.pool_id, GATEWAY))
    assert read_all(host.store).networks == []


def test_a_join_makes_its_link_although_another_network_cannot_be_mended(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    host.kernel.reboot()
    host.kernel.elsewhere = KernelError("d-dev exists and dni did not make it")
    answer = host.network.join(
        wire.JoinRequest(network_id=NETWORK, endpoint_id=WEB, sandbox_key="/run/docker/netns/x")
    )
    assert answer.interface_name.src_name in {link.container for link in host.kernel.links.values()}


# -- an underlay that nobody knows


def test_an_mtu_is_believed_where_no_link_carries_the_agent_ip(host: Host) -> None:
    """An agent IP that is translated on the way; without an MTU of its user's choice a network cannot be made."""
    host.kernel.lost_underlay = KernelError("no link of this host carries the agent IP")
    pool = host.pool()
    gateway = host.address(pool.pool_id, GATEWAY)
    with pytest.raises(KernelError, match="no link"):
        host.create(pool, gateway)
    host.create(pool, gateway, mtu="9000")
    assert [network.mtu for network in read_all(host.store).networks] == [9000]


# -- a container on several networks


def test_a_join_tells_the_kernel_of_the_other_links_of_its_sandbox(host: Host) -> None:
    """So that an answer may leave by another of them than the question came in by."""
    host.define(DEV)
    for network, overlay in ((NETWORK, "dcos"), ("c" * 64, "dev")):
        pool = host.pool(overlay)
        host.create(pool, host.address(pool.pool_id, GATEWAY), network)
    for network, overlay, endpoint in ((NETWORK, "dcos", WEB), ("c" * 64, "dev", "d" * 64)):
        interface = wire.EndpointInterface(address=host.address(f"{overlay}/v4"))
        host.network.create_endpoint(
            wire.CreateEndpointRequest(network_id=network, endpoint_id=endpoint, interface=interface)
        )
        host.network.join(
            wire.JoinRequest(network_id=network, endpoint_id=endpoint, sandbox_key="/run/docker/netns/x")
        )
    first, second = host_link(WEB), host_link("d" * 64)
    assert host.kernel.beside == {first: [], second: [first]}


# -- an overlay removed while a network of it is asked for


def test_a_pool_of_an_overlay_that_goes_meanwhile_is_not_found(host: Host) -> None:
    host.define(DEV)
    host.kernel.meanwhile = lambda: host.remove("dev")
    with pytest.raises(NotFound, match="there is no overlay 'dev'"):
        host.pool("dev")


# -- an overlay that is being removed in the whole cluster


def leave(host: Host, overlay: str) -> None:
    """Have the agent hear of that."""
    with host.store.write() as tx:
        leaving.mark(tx, overlay, OTHER)


BEING_REMOVED = r"'dcos' is being removed, as agent 192\.0\.2\.20 was told to: .*dni overlay keep dcos"


def test_no_network_is_begun_on_an_overlay_that_is_leaving(host: Host) -> None:
    leave(host, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.pool()
    with pytest.raises(InUse, match=BEING_REMOVED):
        create_alone(host)
    assert read_all(host.store).pools == []


def test_a_network_that_was_half_made_when_its_overlay_began_to_leave_goes_no_further(host: Host) -> None:
    pool = host.pool()
    gateway = host.address(pool.pool_id, GATEWAY)
    leave(host, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.address(pool.pool_id, GATEWAY)
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.create(pool, gateway)
    assert read_all(host.store).networks == []


def test_no_container_is_started_on_an_overlay_that_is_leaving(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    leave(host, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.address(pool.pool_id)
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.network.create_endpoint(
            wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface)
        )
    with host.store.write() as tx:
        leaving.clear(tx, "dcos")
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    assert endpoints_of(host) == [WEB]


def test_no_container_is_started_either_where_dockerd_asks_nobody_for_addresses(alone: Host) -> None:
    leave(alone, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        run(alone, "c" * 64, "9.0.0.141")
    assert endpoints_of(alone) == [WEB]


# -- ends of networks that dockerd repeats after its own end cut them short


def test_a_repeated_release_of_a_plain_pool_takes_no_address_from_a_container(host: Host) -> None:
    plain(host)
    mine = host.address(PLAIN)
    record = next(one for one in read_all(host.store).addresses if str(one.address) in mine.split("/"))
    with host.store.write() as tx:
        addresses.set_container(tx, PLAIN, record.address, "web")
    host.release(PLAIN)
    assert host.address(PLAIN) != mine


def test_a_repeated_release_of_a_plain_gateway_gives_it_to_no_container(host: Host) -> None:
    gateway = plain(host)
    host.ipam.release_address(wire.ReleaseAddressRequest(pool_id=PLAIN, address=gateway.partition("/")[0]))
    given = [host.address(PLAIN) for _ in range(5)]
    with pytest.raises(Exhausted, match="5 of 6 used, 1 reserved"):
        host.address(PLAIN)
    assert gateway not in given


def test_the_last_release_of_a_plain_pool_takes_all_of_it_away(host: Host) -> None:
    """An address that was claimed and never used, an auxiliary one for instance, does not keep it."""
    gateway = plain(host)
    host.address(PLAIN)
    host.release(PLAIN, gateway)
    assert [pool.id for pool in read_all(host.store).pools] == []


# -- what an earlier dockerd left on a network without IPAM


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


def test_when_dockerd_begins_dead_containers_are_forgotten_and_their_addresses_can_be_had_again(alone: Host) -> None:
    alone.kernel.reboot()
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == []
    alone.kernel.reconcile(lambda: wanted(read_all(alone.store)))
    run(alone, "c" * 64)
    assert endpoints_of(alone) == ["c" * 64]


def test_when_dockerd_begins_containers_that_outlived_it_are_left_alone(alone: Host) -> None:
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == [WEB]


def test_a_container_on_its_way_into_its_sandbox_is_not_taken_for_dead(alone: Host) -> None:
    """Its sandbox is recorded before its link is made."""
    looked: list[list[str]] = []

    def look() -> None:
        alone.network.forget_the_dead()
        looked.append(endpoints_of(alone))

    alone.kernel.crash_point = lambda point: look() if point == "before a change" else None
    run(alone, "c" * 64, "9.0.0.141")
    assert looked == [[WEB, "c" * 64]]


def test_networks_with_ipam_are_dockerds_to_clean_up(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    join(host, WEB)
    host.kernel.reboot()
    host.network.forget_the_dead()
    assert endpoints_of(host) == [WEB]


def test_a_dockerd_that_begins_is_answered_whatever_the_kernel_says(
    alone: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> list[Link]:
        raise KernelError("the kernel cannot be asked")

    monkeypatch.setattr(alone.kernel, "gone", refuse)
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == [WEB]


def test_a_network_of_an_overlay_that_this_host_has_no_part_of_yet_waits_for_the_agent(host: Host) -> None:
    with host.store.write() as tx:
        overlays.put(tx, DEV)
    pauses: list[float] = []

    def lease(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            with host.store.write() as tx:
                overlays.add_agent_subnet(tx, AgentSubnet(overlay="dev", subnet=ip_network("10.70.3.0/24")))

    host.ipam = IpamDriver(host.store, host.kernel, host, "dcos", FakeClock(), sleep=lease)
    assert host.pool("dev").pool == "10.70.3.128/25"
    assert len(pauses) == 2


# -- calls that come once more, or that something else comes between


def test_a_network_that_cannot_be_made_once_more_is_still_the_one_it_was(host: Host) -> None:
    pool = host.pool()
    gateway = host.address(pool.pool_id, GATEWAY)
    host.create(pool, gateway)
    host.kernel.elsewhere = NotMended([("d-dcos", "nft said no")])
    with pytest.raises(KernelError):
        host.create(pool, gateway)
    assert [network.id for network in read_all(host.store).networks] == [NETWORK]


def test_a_network_without_ipam_that_is_created_once_more_uses_its_pool_once(alone: Host) -> None:
    create_alone(alone)
    assert [pool.uses for pool in read_all(alone.store).pools] == [1]


def test_a_plain_gateway_that_is_asked_for_once_more_is_the_same(host: Host) -> None:
    gateway = plain(host)
    assert host.address(PLAIN, GATEWAY) == gateway


def test_a_plain_gateway_is_nobody_elses_also_where_somebody_had_it_before(host: Host) -> None:
    plain(host)
    asked = wire.RequestAddressRequest(pool_id=PLAIN, address="172.30.0.2", options=GATEWAY)
    assert host.address(PLAIN) == "172.30.0.2/29"
    with pytest.raises(InUse, match=r"172\.30\.0\.2 is in use"):
        host.ipam.request_address(asked)
    host.ipam.release_address(wire.ReleaseAddressRequest(pool_id=PLAIN, address="172.30.0.2"))
    host.ipam.request_address(asked)
    assert "172.30.0.2/29" not in [host.address(PLAIN) for _ in range(4)]


def test_an_overlay_gives_nothing_to_a_network_of_another_driver(host: Host) -> None:
    pool = host.pool()
    with pytest.raises(
        Refused, match="overlay 'dcos' has no dni network on this host, and its addresses are for that"
    ):
        host.address(pool.pool_id)
    assert list(read_all(host.store).addresses) == []


def test_a_pool_that_is_released_before_its_network_goes_takes_no_address_from_a_start(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    mine = host.address(pool.pool_id)
    host.release(pool.pool_id)
    held = [str(one.address) for one in read_all(host.store).addresses if one.state is AddressState.CLAIMED]
    assert held == [mine.partition("/")[0]]


def test_a_join_in_room_that_came_later_finds_its_gateway_on_the_bridge(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    lease(host.store, DCOS, "9.0.7.0/24")
    for _ in range(125):
        host.address(pool.pool_id)
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    assert interface.address == "9.0.7.130/25"
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    join(host, WEB)
    assert "9.0.7.129/25" in [str(one) for one in host.kernel.bridges["d-dcos"].addresses]


def test_a_container_that_starts_anew_while_the_dead_are_looked_for_is_not_forgotten(
    alone: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_meanwhile(links: list[Link]) -> list[Link]:
        with alone.store.write() as tx:
            endpoints.joined(tx, WEB, "/run/docker/netns/anew")
        return links

    monkeypatch.setattr(alone.kernel, "gone", start_meanwhile)
    alone.network.forget_the_dead()
    assert endpoints_of(alone) == [WEB]


def test_the_last_free_address_is_room(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    for _ in range(124):
        host.address(pool.pool_id)
    with host.store.read() as tx:
        assert has_room(tx, pool.pool_id)
    host.address(pool.pool_id)
    with host.store.read() as tx:
        assert not has_room(tx, pool.pool_id)


def test_an_error_is_short_however_long_what_was_sent(host: Host) -> None:
    body = wire.encode(wire.AllocateNetworkResponse(options={"overlay": "x" * 1_000_000}))
    answer = create_app(host.network, host.ipam).test_client().post("/IpamDriver.RequestPool", data=body)
    assert 100 < len(answer.get_json()["Err"]) <= LONGEST_TEXT
