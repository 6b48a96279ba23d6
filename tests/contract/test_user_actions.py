# SPDX-License-Identifier: Apache-2.0
"""Whole actions of a user, as the engines of three generations turn them into calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import pytest

from tests.contract.dockerd import HOST_SINCE_23_0_7, PluginError
from tests.contract.engine import Engine
from tests.contract.objects import Container
from tests.contract.plugin import Plugin, nothing_left
from tests.fakes import DUAL, lease

HALF, HALF6 = ip_network("10.64.0.128/25"), ip_network("fd01:b::8000:0:0/81")


@pytest.fixture(params=[20, 28, 29])
def engine(plugin: Plugin, request: pytest.FixtureRequest) -> Engine:
    """Give an engine of each generation; 20.10 sends an empty Host, the others a name."""
    host = "" if request.param == 20 else HOST_SINCE_23_0_7
    return Engine(plugin.dockerd(host), request.param)


@pytest.fixture
def dual(plugin: Plugin) -> None:
    """Lease an overlay of both families."""
    lease_dual(plugin)


def lease_dual(plugin: Plugin) -> None:
    """Lease an overlay of both families."""
    lease(plugin.store, DUAL, "10.64.0.0/24", "fd01:b::/80")


def create_dual(engine: Engine) -> None:
    """Create the Docker network of the dual-stack overlay."""
    engine.create("dual", ipam_options={"overlay": "dual"}, ipv6=True)


def test_a_network_and_its_containers_come_and_go(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        network = engine.create("dcos")
        assert [str(pool.subnet) for pool in network.pools] == ["9.0.0.128/25"]
        assert plugin.addresses_of("d-dcos") == ["9.0.0.129/25"]
        engine.run("a", "dcos", ports=[80, 443])
        engine.run("b", "dcos")
        assert (engine.ip("a"), engine.ip("b")) == ("9.0.0.130", "9.0.0.131")
        assert len(plugin.links()) == 4
        engine.delete("a")
        engine.delete("b")
        engine.remove("dcos")


@pytest.mark.usefixtures("dual")
def test_a_container_on_a_dual_stack_overlay_has_an_address_of_each_family(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        create_dual(engine)
        assert plugin.addresses_of("d-dual") == ["10.64.0.129/25", "fd01:b::8000:0:1/81"]
        container = engine.run("a", "dual", ports=[80])
        endpoint = container.endpoints["dual"]
        assert endpoint.addresses[4].ip in HALF
        assert endpoint.addresses[6].ip in HALF6
        assert endpoint.gateways == {4: "10.64.0.129", 6: "fd01:b::8000:0:1"}
        engine.restart("a")
        engine.delete("a")
        engine.remove("dual")


def test_a_restarted_container_gets_another_address_and_leaves_none_behind(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        engine.create("dcos")
        engine.run("a", "dcos")
        engine.restart("a")
        assert engine.ip("a") == "9.0.0.131"
        engine.delete("a")
        engine.remove("dcos")


def test_a_fixed_address_and_mac_survive_a_restart(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        engine.create("dcos", subnets=["9.0.0.0/8"])
        engine.run("a", "dcos", ip="9.0.0.200", mac="02:42:ac:13:00:02")
        engine.restart("a")
        assert engine.ip("a") == "9.0.0.200"
        assert engine.containers["a"].endpoints["dcos"].mac == "02:42:ac:13:00:02"
        engine.delete("a")
        engine.remove("dcos")


@pytest.mark.usefixtures("dual")
def test_a_running_container_is_connected_to_a_second_overlay_and_taken_off(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        engine.create("dcos")
        create_dual(engine)
        engine.run("a", "dual", ports=[80])
        engine.connect("a", "dcos", ip="9.0.0.140")
        assert _addresses(engine.containers["a"]) == {"10.64.0.130", "fd01:b::8000:0:2", "9.0.0.140"}
        engine.disconnect("a", "dcos")
        engine.connect("a", "dcos")
        engine.disconnect("a", "dual")
        engine.delete("a")
        engine.remove("dual")
        engine.remove("dcos")


@pytest.mark.usefixtures("dual")
def test_a_container_starts_on_two_overlays_at_once(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        engine.create("dcos")
        create_dual(engine)
        container = engine.run("a", "dual", "dcos", ports=[80])
        assert _addresses(container) == {"9.0.0.130", "10.64.0.130", "fd01:b::8000:0:2"}
        assert container.way_out is container.endpoints["dcos"]
        engine.restart("a")
        engine.delete("a")
        engine.remove("dual")
        engine.remove("dcos")


def test_an_ipv6_address_can_be_given_back_while_the_container_runs(light: Plugin) -> None:
    """As 29.0 does where IPv6 turns out to be switched off in the container."""
    lease_dual(light)
    engine = light.engine(29)
    with nothing_left(light, engine):
        create_dual(engine)
        address = engine.run("a", "dual").endpoints["dual"].addresses.pop(6).ip
        light.dockerd().call("IpamDriver.ReleaseAddress", {"PoolID": "dual/v6", "Address": str(address)})
        assert light.held()[f"dual/v6 {address}"] == "leaving"
        engine.delete("a")
        engine.remove("dual")


def test_a_stopped_container_is_connected_when_it_starts(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        engine.create("dcos")
        engine.run("a", "dcos")
        engine.stop("a")
        before = plugin.rows()
        engine.disconnect("a", "dcos")
        engine.connect("a", "dcos", ip="9.0.0.150")
        assert plugin.rows() == before
        engine.start("a")
        assert engine.ip("a") == "9.0.0.150"
        engine.delete("a")
        engine.remove("dcos")


def test_an_internal_network_has_no_way_out_and_wants_no_other(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        engine.create("dcos", internal=True)
        assert engine.run("a", "dcos").endpoints["dcos"].gateways == {}
        engine.delete("a")
        engine.remove("dcos")


def test_a_network_can_be_made_again_at_once(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        for _ in range(3):
            engine.create("dcos", gateway="9.0.0.254", aux={"router": "9.0.0.140"})
            engine.run("a", "dcos")
            engine.delete("a")
            engine.remove("dcos")


def test_a_failed_start_leaves_the_address_free(plugin: Plugin, engine: Engine) -> None:
    engine.create("dcos", subnets=["9.0.0.0/8"])
    engine.run("a", "dcos", ip="9.0.0.140")
    with nothing_left_but(plugin, "9.0.0.140"):
        for ip, mac in (("9.0.0.140", ""), ("9.0.0.141", "01:00:5e:00:00:01"), ("9.0.0.255", "")):
            with pytest.raises(PluginError):
                engine.run("b", "dcos", ip=ip, mac=mac)
    assert engine.logged == []


@contextmanager
def nothing_left_but(plugin: Plugin, address: str) -> Iterator[None]:
    """Hold what is in use, that one address among it, against how it was before."""
    before = plugin.held()
    assert f"dcos/v4 {address}" in before
    yield
    assert plugin.held() == before


@pytest.mark.parametrize("version", [20, 28, 29])
def test_a_join_that_fails_is_taken_back_by_what_the_engine_sends_next(light: Plugin, version: int) -> None:
    engine = light.engine(version)
    engine.create("dcos")
    before = light.held()
    light.tell("broken", "the kernel is out of order")
    with pytest.raises(PluginError, match="the kernel is out of order"):
        engine.run("a", "dcos")
    (light.folder / "broken").unlink()
    assert (light.held(), light.links(), engine.logged) == (before, [], [])
    engine.start("a")
    assert engine.ip("a") == "9.0.0.131"


def test_a_join_mends_a_host_that_lost_its_bridge(light: Plugin) -> None:
    """The first attempt fails, the host is mended, the second works."""
    engine = light.engine()
    engine.create("dcos")
    light.tell("broken-once", "bridge d-dcos is missing on this host")
    assert engine.run("a", "dcos").endpoints["dcos"].link in light.links()


@pytest.mark.parametrize("version", [20, 28, 29])
def test_a_creation_that_the_kernel_refuses_leaves_nothing(light: Plugin, version: int) -> None:
    engine = light.engine(version)
    before = light.held()
    light.tell("broken-once", "no bridges today")
    with pytest.raises(PluginError, match="no bridges today"):
        engine.create("dcos", gateway="9.0.0.254", aux={"router": "9.0.0.140"})
    assert (light.held(), light.bridges(), engine.logged) == (before, [], [])
    engine.create("dcos")


def test_waves_of_containers_end_as_they_began(light: Plugin) -> None:
    """The half has 125 addresses: each wave takes what the one before gave back."""
    engine = light.engine()
    with nothing_left(light, engine):
        engine.create("dcos")
        _waves(engine, 3, 45, lambda ip: ip_address(ip) in ip_network("9.0.0.128/25"))
        engine.remove("dcos")


def _waves(engine: Engine, waves: int, size: int, fits: Callable[[str], bool]) -> None:
    for wave in range(waves):
        names = [f"{wave}-{number}" for number in range(size)]
        for name in names:
            engine.run(name, "dcos")
        addresses = {engine.ip(name) for name in names}
        assert len(addresses) == size
        assert all(map(fits, addresses))
        for name in names:
            engine.delete(name)


def _addresses(container: Container) -> set[str]:
    return {str(ip.ip) for endpoint in container.endpoints.values() for ip in endpoint.addresses.values()}
