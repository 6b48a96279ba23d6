# SPDX-License-Identifier: Apache-2.0
"""Which addresses there are: ranges, gateways, auxiliary addresses, full halves, slow reuse, plain pools."""

from __future__ import annotations

import time
from ipaddress import ip_network

import pytest

from dni_driver.core.overlays import define
from dni_driver.store import overlays, pools
from tests.contract.dockerd import PluginError
from tests.contract.engine import Engine
from tests.contract.plugin import Plugin
from tests.fakes import AGENT, lease

SMALL = define("small", [ip_network("10.67.0.0/16")], (28, None))
"""Its first half, 10.67.0.8/29, has room for five containers: 10.67.0.10 to 10.67.0.14."""

LAST = 14


@pytest.fixture(params=[20, 28, 29])
def engine(light: Plugin, request: pytest.FixtureRequest) -> Engine:
    """Give an engine of each generation."""
    return light.engine(request.param)


@pytest.fixture
def small(light: Plugin, engine: Engine) -> Engine:
    """Give an engine with a network on the small overlay."""
    lease(light.store, SMALL, "10.67.0.0/28")
    engine.create("small", subnets=["10.67.0.0/16"])
    return engine


def fill(engine: Engine, network: str, count: int) -> list[str]:
    """Start containers and answer their addresses."""
    names = [f"c{number}" for number in range(count)]
    for name in names:
        engine.run(name, network)
    return [engine.ip(name) for name in names]


# -- an overlay's half


def test_addresses_are_handed_out_lowest_first_from_behind_the_gateway(small: Engine) -> None:
    assert fill(small, "small", 5) == [f"10.67.0.{last}" for last in range(10, LAST + 1)]


@pytest.mark.parametrize("subnet", ["", "9.0.0.0/8", "9.0.0.128/25"])
@pytest.mark.parametrize("name", ["", "dcos"])
def test_an_overlay_is_meant_by_name_by_subnet_or_by_default(engine: Engine, subnet: str, name: str) -> None:
    network = engine.create("n", subnets=[subnet] if subnet else [], ipam_options={"overlay": name} if name else {})
    assert [(pool.id, str(pool.subnet)) for pool in network.pools] == [("dcos/v4", "9.0.0.128/25")]


def test_name_and_subnet_together_define_an_overlay(light: Plugin, engine: Engine) -> None:
    options = {"overlay": "dev", "prefix": "26", "backend": "direct"}
    engine.create("dev", subnets=["10.64.0.0/16"], ipam_options=options)
    with light.store.read() as tx:
        assert overlays.find(tx, "dev") == define("dev", [ip_network("10.64.0.0/16")], (26, None), "direct")
    assert fill(engine, "dev", 1) == ["10.64.0.34"]
    engine.delete("c0")
    engine.remove("dev")
    engine.create("again", subnets=["10.64.0.0/16"], ipam_options=options)


def test_range_gateway_and_auxiliary_addresses_are_kept(light: Plugin, engine: Engine) -> None:
    network = engine.create(
        "dcos",
        subnets=["9.0.0.0/8"],
        ip_range="9.0.0.192/29",
        gateway="9.0.0.194",
        aux={"printer": "9.0.0.193", "far": "9.0.0.250"},
    )
    assert light.addresses_of("d-dcos") == ["9.0.0.194/25"]
    assert network.pools[0].aux == {"printer": "9.0.0.193/25", "far": "9.0.0.250/25"}
    assert fill(engine, "dcos", 6) == [f"9.0.0.{last}" for last in (192, 195, 196, 197, 198, 199)]
    assert engine.containers["c0"].endpoints["dcos"].gateways == {4: "9.0.0.194"}
    with pytest.raises(PluginError, match=r"within --ip-range 9\.0\.0\.192/29: 6 of 8 used, 2 reserved"):
        engine.run("more", "dcos")
    engine.run("outside", "dcos", ip="9.0.0.130")


def test_a_network_gives_its_reservations_back(light: Plugin, engine: Engine) -> None:
    before = light.held()
    engine.create("dcos", subnets=["9.0.0.0/8"], gateway="9.0.0.194", aux={"a": "9.0.0.193"})
    assert light.held()["dcos/v4 9.0.0.194"] == light.held()["dcos/v4 9.0.0.193"] == "reserved"
    engine.remove("dcos")
    assert light.held() == before
    engine.create("dcos", subnets=["9.0.0.0/8"])
    engine.run("a", "dcos", ip="9.0.0.194")
    engine.run("b", "dcos", ip="9.0.0.193")


def test_reservations_stay_as_long_as_the_network(light: Plugin, engine: Engine) -> None:
    """A release that comes late, or twice, takes no gateway out of a network that lives."""
    engine.create("dcos", subnets=["9.0.0.0/8"], gateway="9.0.0.194", aux={"a": "9.0.0.193"})
    before = light.rows()
    for address in ("9.0.0.194", "9.0.0.193", "9.0.0.129"):
        light.dockerd().call("IpamDriver.ReleaseAddress", {"PoolID": "dcos/v4", "Address": address})
    assert light.rows() == before


def test_a_later_half_gives_addresses_with_its_own_mask_and_gateway(light: Plugin, small: Engine) -> None:
    """A second agent subnet joins the pool; Docker was told of the first only."""
    lease(light.store, SMALL, "10.67.3.0/28")
    assert fill(small, "small", 5)[-1] == "10.67.0.14", "the first half is not full yet"
    small.run("next", "small")
    endpoint = small.containers["next"].endpoints["small"]
    assert str(endpoint.addresses[4]) == "10.67.3.10/29"
    assert endpoint.gateways == {4: "10.67.3.9"}


# -- full


def test_a_full_half_says_who_holds_it_and_one_release_makes_room(light: Plugin, small: Engine) -> None:
    addresses = fill(small, "small", 5)
    before = light.rows()
    light.tell("no-waiting")
    for _ in range(2):
        with pytest.raises(PluginError) as refusal:
            small.run("more", "small")
        for words in ("overlay 'small'", f"agent {AGENT}", "5 of 5 used", "`dni address ls --overlay small`"):
            assert words in str(refusal.value)
    assert light.rows() == before
    small.delete("c2")
    small.start("more")
    assert small.ip("more") == addresses[2]


def test_the_address_freed_longest_ago_comes_back_first_and_only_after_all_fresh_ones(small: Engine) -> None:
    fill(small, "small", 3)
    for name in ("c1", "c0", "c2"):
        small.delete(name)
    assert fill(small, "small", 5) == [f"10.67.0.{last}" for last in (13, 14, 11, 10, 12)]


def test_slow_reuse_outlives_the_network_and_a_restart_of_the_engine(light: Plugin, small: Engine) -> None:
    first = fill(small, "small", 1)
    small.delete("c0")
    small.remove("small")
    engine = light.engine(small.version)
    engine.create("small", ipam_options={"overlay": "small"})
    assert first[0] not in fill(engine, "small", 4)


def test_asking_for_a_freed_address_gives_it_at_once(small: Engine) -> None:
    fill(small, "small", 1)
    small.delete("c0")
    small.run("again", "small", ip="10.67.0.10")
    assert small.ip("again") == "10.67.0.10"


# -- plain pools


def test_a_plain_pool_serves_another_driver(light: Plugin, engine: Engine) -> None:
    """An auxiliary address counts as used: only CreateNetwork, which goes to the other driver, would tell."""
    before = light.held()
    network = engine.create("plain", driver="bridge", subnets=["172.20.0.0/29"], aux={"router": "172.20.0.3"})
    assert network.pools[0].gateway == "172.20.0.1/29"
    addresses = [_claim(light) for _ in range(4)]
    assert addresses == [f"172.20.0.{last}/29" for last in (2, 4, 5, 6)]
    with pytest.raises(
        PluginError, match=r"no free address in plain pool 172\.20\.0\.0/29 .* 5 of 6 used, 1 reserved"
    ):
        _claim(light)
    light.dockerd().call("IpamDriver.ReleaseAddress", {"PoolID": network.pools[0].id, "Address": "172.20.0.5"})
    assert _claim(light) == "172.20.0.5/29"
    engine.remove("plain")
    assert light.held() == before
    assert engine.logged == []


def test_a_plain_pool_of_ipv6_serves_another_driver(light: Plugin, engine: Engine) -> None:
    subnets = ["172.20.0.0/29", "fd77::/64"]
    network = engine.create("plain", driver="bridge", subnets=subnets, ipv6=True)
    assert [pool.gateway for pool in network.pools] == ["172.20.0.1/29", "fd77::1/64"]
    answer = light.dockerd().call("IpamDriver.RequestAddress", {"PoolID": network.pools[1].id})
    assert answer["Address"] == "fd77::2/64"


@pytest.mark.parametrize("other", ["172.20.0.0/25", "172.16.0.0/12"])
def test_plain_pools_that_share_addresses_are_refused(light: Plugin, engine: Engine, other: str) -> None:
    engine.create("plain", driver="bridge", subnets=["172.20.0.0/24"])
    before = light.rows()
    with pytest.raises(PluginError, match=r"overlaps plain pool 172\.20\.0\.0/24"):
        engine.create("other", driver="bridge", subnets=[other])
    assert light.rows() == before
    engine.remove("plain")
    engine.create("other", driver="bridge", subnets=[other])


def test_one_plain_pool_under_two_networks_never_gives_an_address_twice(light: Plugin, engine: Engine) -> None:
    """As with macvlan, where two networks may be on one subnet."""
    first = engine.create("one", driver="macvlan", subnets=["172.20.0.0/24"])
    second = engine.create("two", driver="macvlan", subnets=["172.20.0.0/24"])
    assert first.pools[0] == second.pools[0]
    addresses = {_claim(light, 24) for _ in range(4)}
    assert len(addresses) == 4
    engine.remove("one")
    assert light.held()["plain/172.20.0.0/24 172.20.0.1"] == "reserved", "the other network's gateway was given back"
    engine.remove("two")
    assert not [key for key in light.held() if "172.20" in key]


def _claim(plugin: Plugin, prefix: int = 29) -> str:
    arguments = {"PoolID": f"plain/172.20.0.0/{prefix}"}
    return str(plugin.dockerd().call("IpamDriver.RequestAddress", arguments)["Address"])


def test_an_overlay_defined_for_a_network_stays_once_the_network_is_there(light: Plugin, engine: Engine) -> None:
    """Until then it is on trial, and the agent takes it back after a while."""
    engine.create("dev", subnets=["10.64.0.0/16"], ipam_options={"overlay": "dev"})
    with light.store.read() as tx:
        assert pools.tried_out(tx, now=time.time() + 3600) == []
        assert [pool.overlay for pool in pools.every(tx)] == ["dev"]
