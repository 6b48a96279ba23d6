# SPDX-License-Identifier: Apache-2.0
"""IPv6 and dual stack, as engines of four generations ask for it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from tests.contract.dockerd import HOST_SINCE_23_0_7, PluginError
from tests.contract.engine import Engine
from tests.contract.plugin import Plugin, nothing_left
from tests.fakes import DUAL, SIX, lease

BOTH = ["10.96.0.0/16", "fd64::/64"]
DEV = {"overlay": "dev"}
LOCAL = "198.18.0.0/20"


@pytest.fixture(params=[20, 26, 28, 29])
def engine(plugin: Plugin, request: pytest.FixtureRequest) -> Engine:
    """Give an engine of each generation, on a host with overlays of both families and of IPv6 alone."""
    host = "" if request.param == 20 else HOST_SINCE_23_0_7
    lease_both(plugin)
    return Engine(plugin.dockerd(host), request.param)


def lease_both(plugin: Plugin) -> None:
    """Lease an overlay of both families, and one of IPv6 alone."""
    lease(plugin.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    lease(plugin.store, SIX, "fd06::/80")


def pools(engine: Engine, name: str) -> list[str]:
    """Answer the pools of a network."""
    return [str(pool.subnet) for pool in engine.networks[name].pools]


def test_one_command_defines_an_overlay_of_both_families(plugin: Plugin, engine: Engine) -> None:
    engine.create("dev", subnets=BOTH, ipam_options={**DEV, "prefix6": "96"}, ipv6=True)
    assert pools(engine, "dev") == ["10.96.0.128/25", "fd64::8000:0/97"]
    assert plugin.addresses_of("d-dev") == ["10.96.0.129/25", "fd64::8000:1/97"]
    with nothing_left(plugin, engine):
        endpoint = engine.run("a", "dev", ip6="fd64::8000:77").endpoints["dev"]
        assert str(endpoint.addresses[6]) == "fd64::8000:77/97"
        assert endpoint.gateways == {4: "10.96.0.129", 6: "fd64::8000:1"}
        engine.delete("a")
    engine.remove("dev")
    assert plugin.held()["overlay dev"], "it is there to stay"
    engine.create("again", ipam_options=DEV, ipv6=True)
    assert pools(engine, "again") == ["10.96.0.128/25", "fd64::8000:0/97"]
    engine.remove("again")


@pytest.mark.parametrize(
    ("six", "words"),
    [
        ("fd01:b::/64", "fd01:b::/64 of overlay 'dev' overlaps fd01:b::/64 of overlay 'dual'"),
        ("ff02::/64", "multicast"),
    ],
)
def test_where_its_second_half_cannot_be_the_first_goes_too(
    plugin: Plugin, engine: Engine, six: str, words: str
) -> None:
    with nothing_left(plugin, engine), pytest.raises(PluginError, match=words):
        engine.create("dev", subnets=[BOTH[0], six], ipam_options=DEV, ipv6=True)
    engine.create("dev", subnets=BOTH, ipam_options=DEV, ipv6=True)
    engine.remove("dev")


@pytest.mark.parametrize("version", [20, 28])
def test_where_its_network_cannot_be_it_goes_altogether(light: Plugin, version: int) -> None:
    lease_both(light)
    engine = light.engine(version)
    with nothing_left(light, engine):
        light.tell("broken-once", "no bridge today")
        with pytest.raises(PluginError, match="no bridge today"):
            engine.create("dev", subnets=BOTH, ipam_options=DEV, ipv6=True)
        with pytest.raises(PluginError, match="mtu=1279 does not fit"):
            engine.create("dev", subnets=BOTH, ipam_options=DEV, ipv6=True, options={"mtu": "1279"})


@pytest.mark.parametrize(
    "create",
    [
        {"ipam_options": {"overlay": "dcos"}},
        {"subnets": ["9.0.0.0/8"]},
        {},
        {"subnets": ["9.0.0.0/8", "fd99::/64"], "ipam_options": {"overlay": "dcos"}},
    ],
    ids=["by name", "by subnet", "default", "with a subnet for it"],
)
def test_an_overlay_without_ipv6_gets_none_and_the_command_that_works_is_told(
    plugin: Plugin, engine: Engine, create: dict[str, Any]
) -> None:
    words = r"'dcos' has no IPv6 subnet.*`dni overlay create NAME --subnet CIDR --subnet6 CIDR`"
    with nothing_left(plugin, engine), pytest.raises(PluginError, match=words):
        engine.create("x", **create, ipv6=True)


@pytest.mark.parametrize("create", [{"subnets": ["10.64.0.0/16"]}, {"subnets": ["10.64.0.128/25"]}])
def test_without_an_ipv6_subnet_the_other_half_of_the_same_overlay_is_meant(
    plugin: Plugin, engine: Engine, create: dict[str, Any]
) -> None:
    with nothing_left(plugin, engine):
        engine.create("dual", **create, ipv6=True)
        assert pools(engine, "dual") == ["10.64.0.128/25", "fd01:b::8000:0:0/81"]
        engine.remove("dual")


def test_without_an_ipv4_subnet_the_overlay_must_be_named(plugin: Plugin, engine: Engine) -> None:
    """IPv4 is asked for first, and nothing then tells of the IPv6 subnet that comes next."""
    for subnet in ("fd01:b::/64", "fd06::/64"):
        with (
            nothing_left(plugin, engine),
            pytest.raises(PluginError, match="say which, with --ipam-opt overlay=NAME"),
        ):
            engine.create("x", subnets=[subnet], ipv6=True)


@pytest.mark.parametrize("version", [28, 29])
def test_what_was_taken_for_the_other_half_of_somebody_elses_network_is_refused(light: Plugin, version: int) -> None:
    """Two networks are created at once: one on `dual` has asked for IPv4, the other asks for IPv6 without a word."""
    lease_both(light)
    engine, other = light.engine(version), light.dockerd()
    other.call("IpamDriver.RequestPool", {"Pool": "10.64.0.0/16"})
    before = light.held()
    with pytest.raises(PluginError, match="another Docker network is being created on overlay 'dual'"):
        engine.create("x", ipv4=False, ipv6=True)
    assert light.held() == before
    engine.create("x", ipv4=False, ipv6=True, ipam_options={"overlay": "six"})
    assert pools(engine, "x") == ["fd06::8000:0:0/81"]


def test_engines_that_insist_on_ipv4_get_it_beside_an_ipv6_only_overlay(plugin: Plugin, engine: Engine) -> None:
    """From 28 on `--ipv4=false` does without."""
    with nothing_left(plugin, engine):
        engine.create("six", ipam_options={"overlay": "six"}, ipv6=True)
        assert pools(engine, "six") == [LOCAL, "fd06::8000:0:0/81"]
        assert plugin.addresses_of("d-six") == ["198.18.0.1/20", "fd06::8000:0:1/81"]
        endpoint = engine.run("a", "six", ip="198.18.0.9", ip6="fd06::8000:0:9", ports=[80]).endpoints["six"]
        assert {family: str(address) for family, address in endpoint.addresses.items()} == {
            4: "198.18.0.9/20",
            6: "fd06::8000:0:9/81",
        }
        assert endpoint.gateways == {4: "198.18.0.1", 6: "fd06::8000:0:1"}
        engine.restart("a")
        engine.run("b", "six")
        engine.delete("a")
        engine.delete("b")
        engine.remove("six")


def test_the_subnet_that_docker_shows_of_it_means_it_again(plugin: Plugin, engine: Engine) -> None:
    with nothing_left(plugin, engine):
        for subnets in ([], [LOCAL, "fd06::/64"]):
            engine.create("six", subnets=subnets, ipam_options={"overlay": "six"}, ipv6=True)
            assert pools(engine, "six") == [LOCAL, "fd06::8000:0:0/81"]
            engine.remove("six")
        engine.create("six", subnets=[LOCAL, "fd06::8000:0:0/81"], ipv6=True)
        engine.remove("six")


def test_a_second_network_on_it_is_refused_naming_the_first(plugin: Plugin, engine: Engine) -> None:
    first = engine.create("six", ipam_options={"overlay": "six"}, ipv6=True)
    words = f"'six' already has the Docker network '{first.id[:12]}'"
    with nothing_left(plugin, engine), pytest.raises(PluginError, match=words):
        engine.create("again", ipam_options={"overlay": "six"}, ipv6=True)


def test_it_is_not_where_this_host_is_already(plugin: Plugin, engine: Engine) -> None:
    """Dockerd would ask for another pool for ever."""
    plugin.occupy("198.18.0.77/24")
    engine.on_link.append(ip_network("198.18.0.0/24"))
    with nothing_left(plugin, engine):
        engine.create("six", ipam_options={"overlay": "six"}, ipv6=True)
        assert pools(engine, "six")[0] == "198.18.16.0/20"
        engine.remove("six")


@pytest.mark.parametrize("version", [20, 28])
def test_an_ipv6_only_overlay_without_ipv6_is_refused(light: Plugin, version: int) -> None:
    lease_both(light)
    engine = light.engine(version)
    with nothing_left(light, engine), pytest.raises(PluginError, match="'six' is IPv6 only: add --ipv6"):
        engine.create("six", ipam_options={"overlay": "six"})


def test_a_network_without_ipv4_works_where_the_engine_knows_such(plugin: Plugin) -> None:
    lease_both(plugin)
    for version in (28, 29):
        engine = plugin.engine(version)
        with nothing_left(plugin, engine):
            engine.create("six", ipam_options={"overlay": "six"}, ipv4=False, ipv6=True)
            assert plugin.addresses_of("d-six") == ["fd06::8000:0:1/81"]
            endpoint = engine.run("a", "six").endpoints["six"]
            assert endpoint.gateways == {6: "fd06::8000:0:1"}
            assert list(endpoint.addresses) == [6]
            engine.delete("a")
            engine.remove("six")


def test_one_command_defines_an_overlay_of_ipv6_alone_where_the_engine_knows_such(plugin: Plugin) -> None:
    engine = plugin.engine(28)
    engine.create("dev", subnets=["fd64::/64"], ipam_options=DEV, ipv4=False, ipv6=True)
    assert pools(engine, "dev") == ["fd64::8000:0:0/81"]
    engine.remove("dev")
    older = plugin.engine(20)
    with nothing_left(plugin, older), pytest.raises(PluginError, match="`dni overlay create six`"):
        older.create("six", subnets=["fd06::/64"], ipam_options={"overlay": "six"}, ipv6=True)


@pytest.mark.parametrize("version", [20, 28])
def test_a_host_with_ipv6_switched_off_has_ipv4_networks_only(light: Plugin, version: int) -> None:
    lease_both(light)
    engine = light.engine(version)
    light.tell("no-ipv6", "it is off: `switch it on`")
    for create in (
        {"ipam_options": {"overlay": "dual"}},
        {"ipam_options": {"overlay": "six"}},
        {"subnets": BOTH, "ipam_options": DEV},
    ):
        with (
            nothing_left(light, engine),
            pytest.raises(PluginError, match="no IPv6, as it is off: `switch it on`; or leave --ipv6 out"),
        ):
            engine.create("x", **create, ipv6=True)
    engine.create("dual", ipam_options={"overlay": "dual"})
    assert list(engine.run("a", "dual").endpoints["dual"].addresses) == [4]


@pytest.mark.parametrize("version", [20, 28])
def test_ipv6_is_refused_where_too_little_goes_through(light: Plugin, version: int) -> None:
    lease_both(light)
    engine = light.engine(version)
    with nothing_left(light, engine), pytest.raises(PluginError, match="mtu=1279 does not fit: IPv6 needs 1280"):
        engine.create("dual", ipam_options={"overlay": "dual"}, ipv6=True, options={"mtu": "1279"})
    engine.create("dual", ipam_options={"overlay": "dual"}, ipv6=True, options={"mtu": "1280"})


@pytest.mark.parametrize(("asked", "words"), [("fd01:b::1", "lies outside"), ("fd01:b::8000:0:1", "is the gateway")])
def test_an_ipv6_address_that_a_container_cannot_have_is_refused(light: Plugin, asked: str, words: str) -> None:
    lease_both(light)
    dockerd = light.dockerd()
    dockerd.call("IpamDriver.RequestPool", {"Pool": "fd01:b::/64", "V6": True})
    with pytest.raises(PluginError, match=words):
        dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dual/v6", "Address": asked})
