# SPDX-License-Identifier: Apache-2.0
"""Both drivers as two halves of one plugin: networks and containers that come and go where not all is well."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dni_driver.core.errors import KernelError, NotFound, NotMended, Refused
from dni_driver.core.names import host_link
from dni_driver.core.overlays import AgentSubnet
from dni_driver.plugin import wire
from dni_driver.plugin.app import LONGEST_TEXT, create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.store import networked, overlays
from dni_driver.store.claiming import has_room
from dni_driver.store.records import read_all
from tests.fakes import FakeClock
from tests.unit.plugin_and_agent import DEV, GATEWAY, NETWORK, WEB, Host, create_alone, host

__all__ = ["host"]


def test_a_network_that_a_user_removes_at_once_is_not_made_again_by_the_agent(host: Host) -> None:
    """The agent looks once a second: it may never have seen the network that its user made."""
    pool = host.pool("dev", "10.70.0.0/16")
    gateway = host.address(pool.pool_id, GATEWAY)
    host.create(pool, gateway)
    host.release(pool.pool_id, gateway)
    host.network.delete_network(wire.NetworkRequest(network_id=NETWORK))
    with host.store.read() as tx:
        assert "dev" not in [overlay.name for overlay in networked.due(tx, 10**10)]


@pytest.mark.parametrize("given", [{}, {"dni.made-by": "dni"}])
def test_the_plugin_knows_in_its_first_moment_whether_the_agent_makes_a_network(
    host: Host, given: dict[str, str]
) -> None:
    pool = host.pool("dev", "10.70.0.0/16")
    host.create(pool, host.address(pool.pool_id, GATEWAY), **given)
    with host.store.read() as tx:
        assert networked.is_made(tx, "dev") == bool(given)


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


def test_an_internal_network_is_kept_from_published_ports_from_its_first_moment_to_its_last(host: Host) -> None:
    pool = host.pool("dev", "10.70.0.0/16")
    data = wire.IPAMData(pool=pool.pool, gateway=host.address(pool.pool_id, GATEWAY))
    request = wire.CreateNetworkRequest(network_id=NETWORK, ipv4_data=[data], options={wire.INTERNAL: True})
    host.network.create_network(request)
    assert "d-dev" in host.kernel.confined.bridges
    host.network.delete_network(wire.NetworkRequest(network_id=NETWORK))
    assert host.kernel.confined.bridges == set()


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


def test_an_mtu_is_believed_where_no_link_carries_the_agent_ip(host: Host) -> None:
    """An agent IP that is translated on the way; without an MTU of its user's choice a network cannot be made."""
    host.kernel.lost_underlay = KernelError("no link of this host carries the agent IP")
    pool = host.pool()
    gateway = host.address(pool.pool_id, GATEWAY)
    with pytest.raises(KernelError, match="no link"):
        host.create(pool, gateway)
    host.create(pool, gateway, mtu="9000")
    assert [network.mtu for network in read_all(host.store).networks] == [9000]


SECOND, SECOND_NETWORK = "d" * 64, "c" * 64


def run_on_two_networks(host: Host) -> None:
    host.define(DEV)
    for network, overlay in ((NETWORK, "dcos"), (SECOND_NETWORK, "dev")):
        pool = host.pool(overlay)
        host.create(pool, host.address(pool.pool_id, GATEWAY), network)
    for network, overlay, endpoint in ((NETWORK, "dcos", WEB), (SECOND_NETWORK, "dev", SECOND)):
        interface = wire.EndpointInterface(address=host.address(f"{overlay}/v4"))
        host.network.create_endpoint(
            wire.CreateEndpointRequest(network_id=network, endpoint_id=endpoint, interface=interface)
        )
        host.network.join(
            wire.JoinRequest(network_id=network, endpoint_id=endpoint, sandbox_key="/run/docker/netns/x")
        )


def test_a_join_tells_the_kernel_of_the_other_links_of_its_sandbox(host: Host) -> None:
    """So that an answer may leave by another of them than the question came in by."""
    run_on_two_networks(host)
    first, second = host_link(WEB), host_link(SECOND)
    assert host.kernel.beside == {first: [], second: [first]}


def test_a_container_that_comes_to_one_more_network_or_leaves_it_has_its_ports_led_as_that_asks_for(
    host: Host,
) -> None:
    run_on_two_networks(host)
    port = {"Proto": 6, "Port": 80, "HostPort": 8080}
    host.network.program_external_connectivity(
        wire.ProgramExternalConnectivityRequest(
            network_id=NETWORK, endpoint_id=WEB, options={"com.docker.network.portmap": [port]}
        )
    )
    assert {one.beside for one in host.kernel.ports} == {("d-dev",)}
    host.network.leave(wire.EndpointRequest(network_id=SECOND_NETWORK, endpoint_id=SECOND))
    assert {one.beside for one in host.kernel.ports} == {()}
    host.network.join(
        wire.JoinRequest(network_id=SECOND_NETWORK, endpoint_id=SECOND, sandbox_key="/run/docker/netns/x")
    )
    assert {one.beside for one in host.kernel.ports} == {("d-dev",)}


def test_a_pool_of_an_overlay_that_goes_meanwhile_is_not_found(host: Host) -> None:
    host.define(DEV)
    host.kernel.meanwhile = lambda: host.remove("dev")
    with pytest.raises(NotFound, match="there is no overlay 'dev'"):
        host.pool("dev")


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


def test_an_overlay_gives_nothing_to_a_network_of_another_driver(host: Host) -> None:
    pool = host.pool()
    with pytest.raises(
        Refused, match="overlay 'dcos' has no dni network on this host, and its addresses are for that"
    ):
        host.address(pool.pool_id)
    assert list(read_all(host.store).addresses) == []


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
