# SPDX-License-Identifier: Apache-2.0
"""Addresses that were kept back, as the engines of three generations come for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from dni_driver.core.records import ReservationRecord
from dni_driver.store import reservations
from tests.contract.dockerd import PluginError
from tests.contract.engine import Engine
from tests.contract.plugin import Plugin
from tests.fakes import DUAL, lease


def keep(plugin: Plugin, first: str, last: str = "", container: str | None = None, overlay: str = "dcos") -> None:
    """Reserve as the agent does."""
    ends = ip_address(first), ip_address(last or first)
    record = ReservationRecord(overlay=overlay, first=ends[0], last=ends[1], container=container, since=1.0)
    with plugin.store.write() as tx:
        reservations.add(tx, record)


@pytest.fixture(params=[20, 28, 29])
def engine(light: Plugin, request: pytest.FixtureRequest) -> Engine:
    """Give an engine of each generation."""
    return light.engine(request.param)


@pytest.fixture
def newest(light: Plugin) -> Engine:
    """Give an engine that tells IPAM the names of containers."""
    engine = light.engine(29)
    engine.create("dcos", subnets=["9.0.0.0/8"])
    return engine


# -- whoever does not ask


def test_what_is_kept_back_is_given_to_nobody_who_does_not_ask(light: Plugin, engine: Engine) -> None:
    keep(light, "9.0.0.131", "9.0.0.133")
    keep(light, "9.0.0.135", container="web")
    engine.create("dcos")
    given = []
    for number in range(3):
        engine.run(f"c{number}", "dcos")
        given.append(engine.ip(f"c{number}"))
    assert given == ["9.0.0.130", "9.0.0.134", "9.0.0.136"]


def test_a_half_with_nothing_but_reserved_addresses_left_is_full_and_counts_them_apart(
    light: Plugin, engine: Engine
) -> None:
    keep(light, "9.0.0.132", "9.0.0.254")
    keep(light, "9.0.0.131", container="web")
    engine.create("dcos", subnets=["9.0.0.0/8"])
    engine.run("one", "dcos")
    light.tell("no-waiting")
    with pytest.raises(PluginError, match=r"1 of 125 used, 124 reserved"):
        engine.run("two", "dcos")
    engine.run("three", "dcos", ip="9.0.0.200")
    with pytest.raises(PluginError, match=r"2 of 125 used, 123 reserved"):
        engine.run("four", "dcos")


def test_a_container_that_stops_leaves_a_reserved_address_to_nobody_else(light: Plugin, engine: Engine) -> None:
    keep(light, "9.0.0.130", "9.0.0.253")
    engine.create("dcos", subnets=["9.0.0.0/8"])
    engine.run("mine", "dcos", ip="9.0.0.140")
    engine.stop("mine")
    engine.run("other", "dcos")
    assert engine.ip("other") == "9.0.0.254"
    engine.start("mine")
    assert engine.ip("mine") == "9.0.0.140"


def test_a_network_keeps_nothing_for_itself_that_a_container_has_reserved(light: Plugin, engine: Engine) -> None:
    keep(light, "9.0.0.140", container="web")
    before = light.held()
    for own in ({"gateway": "9.0.0.140"}, {"aux": {"printer": "9.0.0.140"}}):
        with pytest.raises(PluginError, match=r"9\.0\.0\.140 is reserved for container web: choose another"):
            engine.create("dcos", subnets=["9.0.0.0/8"], **own)
        assert light.held() == before


def test_a_network_may_take_for_itself_what_is_held_back(light: Plugin, engine: Engine) -> None:
    keep(light, "9.0.0.140", "9.0.0.150")
    engine.create("dcos", subnets=["9.0.0.0/8"], aux={"printer": "9.0.0.140"})
    assert light.held()["dcos/v4 9.0.0.140"] == "reserved"


# -- by --ip


def test_what_is_reserved_is_had_by_asking_for_the_address(light: Plugin, engine: Engine) -> None:
    keep(light, "9.0.0.140", container="web")
    keep(light, "9.0.0.150", "9.0.0.159")
    engine.create("dcos", subnets=["9.0.0.0/8"])
    engine.run("web", "dcos", ip="9.0.0.140")
    engine.run("any", "dcos", ip="9.0.0.155")
    for name in ("web", "any"):
        before = engine.ip(name)
        engine.restart(name)
        assert engine.ip(name) == before


# -- by name


def test_from_29_on_a_container_gets_what_is_reserved_for_its_name(light: Plugin, newest: Engine) -> None:
    keep(light, "9.0.0.140", container="web")
    newest.run("web", "dcos")
    assert newest.ip("web") == "9.0.0.140"
    newest.run("other", "dcos")
    newest.restart("web")
    assert newest.ip("web") == "9.0.0.140"
    newest.delete("web")
    newest.run("web", "dcos")
    assert newest.ip("web") == "9.0.0.140"
    assert newest.ip("other") == "9.0.0.130"


def test_from_29_on_both_families_are_had_by_name(light: Plugin) -> None:
    lease(light.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    keep(light, "10.64.0.140", container="web", overlay="dual")
    keep(light, "fd01:b::8000:0:8c", container="web", overlay="dual")
    engine = light.engine(29)
    engine.create("dual", ipam_options={"overlay": "dual"}, ipv6=True)
    engine.run("web", "dual")
    assert (engine.ip("web"), engine.ip("web", 6)) == ("10.64.0.140", "fd01:b::8000:0:8c")


def test_from_29_on_nobody_else_gets_it_by_asking(light: Plugin, newest: Engine) -> None:
    keep(light, "9.0.0.140", container="web")
    before = light.held()
    with pytest.raises(
        PluginError, match=r"reserved for container web: choose another, or `dni address release dcos"
    ):
        newest.run("other", "dcos", ip="9.0.0.140")
    assert light.held() == before
    newest.run("web", "dcos", ip="9.0.0.140")
    assert newest.ip("web") == "9.0.0.140"


def test_a_container_whose_address_somebody_has_gets_no_other(light: Plugin, newest: Engine) -> None:
    newest.run("other", "dcos", ip="9.0.0.140")
    keep(light, "9.0.0.140", container="web")
    with pytest.raises(PluginError, match=r"9\.0\.0\.140 is reserved for this container and in use by endpoint"):
        newest.run("web", "dcos")
    newest.stop("other")
    newest.start("web")
    assert newest.ip("web") == "9.0.0.140"


def test_a_container_gets_no_other_either_where_this_agent_no_longer_has_that_address(
    light: Plugin, newest: Engine
) -> None:
    keep(light, "9.0.7.140", container="web")
    before = light.held()
    with pytest.raises(PluginError, match=r"none of this agent's any more: `dni address release dcos 9\.0\.7\.140`"):
        newest.run("web", "dcos")
    assert light.held() == before


def test_before_29_no_name_comes_and_the_next_address_is_given(light: Plugin) -> None:
    keep(light, "9.0.0.140", container="web")
    engine = light.engine(28)
    engine.create("dcos")
    engine.run("web", "dcos")
    assert engine.ip("web") == "9.0.0.130"


# -- by driver-opt


def test_where_ipam_has_given_an_address_another_by_driver_opt_is_refused_with_what_works(
    light: Plugin, engine: Engine
) -> None:
    engine.create("dcos", subnets=["9.0.0.0/8"])
    before = light.held()
    with pytest.raises(PluginError) as refusal:
        engine.run("web", "dcos", driver_opts={"dni.address": "9.0.0.140"})
    for words in ("--ip 9.0.0.140", "--ipam-driver null -o overlay=dcos", "had 9.0.0.130"):
        assert words in str(refusal.value)
    assert light.held() == before
    engine.run("also", "dcos", ip="9.0.0.140", driver_opts={"dni.address": "9.0.0.140"})
    assert engine.ip("also") == "9.0.0.140"


def alone(engine: Engine) -> None:
    """Create a network whose addresses dockerd asks nobody for."""
    engine.create("dcos", ipam="null", options={"overlay": "dcos"})


def test_without_ipam_a_container_has_the_address_of_its_driver_opt_again_and_again(
    light: Plugin, engine: Engine
) -> None:
    keep(light, "9.0.0.140", container="web")
    before = light.held()
    alone(engine)
    engine.run("web", "dcos", driver_opts={"dni.address": "9.0.0.140"})
    engine.run("other", "dcos")
    assert (engine.ip("web"), engine.ip("other")) == ("9.0.0.140", "9.0.0.130")
    assert engine.containers["web"].endpoints["dcos"].gateways == {4: "9.0.0.129"}
    assert engine.containers["web"].endpoints["dcos"].mac == "02:42:09:00:00:8c"
    engine.restart("web")
    assert engine.ip("web") == "9.0.0.140"
    engine.delete("web")
    engine.run("web", "dcos", driver_opts={"dni.address": "9.0.0.140"})
    assert engine.ip("web") == "9.0.0.140"
    for name in ("web", "other"):
        engine.delete(name)
    engine.remove("dcos")
    assert light.held() == before
    assert engine.logged == []


def test_without_ipam_an_address_that_somebody_has_is_refused_naming_who(light: Plugin, engine: Engine) -> None:
    alone(engine)
    engine.run("web", "dcos", driver_opts={"dni.address": "9.0.0.140"})
    before = light.held()
    with pytest.raises(PluginError, match=r"address 9\.0\.0\.140 is in use by endpoint"):
        engine.run("other", "dcos", driver_opts={"dni.address": "9.0.0.140"})
    with pytest.raises(PluginError, match=r"lies outside the Docker half.*9\.0\.0\.130 to 9\.0\.0\.254"):
        engine.run("third", "dcos", driver_opts={"dni.address": "9.0.7.1"})
    with pytest.raises(PluginError, match=r"has no IPv6"):
        engine.run("fourth", "dcos", driver_opts={"dni.address6": "fd01:b::8000:0:8c"})
    assert light.held() == before


def test_without_ipam_a_mac_of_the_users_is_kept(engine: Engine) -> None:
    alone(engine)
    engine.run("web", "dcos", mac="02:00:00:00:00:01", driver_opts={"address": "9.0.0.140"})
    assert engine.containers["web"].endpoints["dcos"].mac == "02:00:00:00:00:01"
    assert engine.ip("web") == "9.0.0.140"


def test_without_ipam_a_call_that_is_repeated_answers_the_same(light: Plugin) -> None:
    engine = light.engine()
    alone(engine)
    network = engine.networks["dcos"].id
    call = {
        "NetworkID": network,
        "EndpointID": secrets.token_hex(32),
        "Interface": {"Address": "", "AddressIPv6": "", "MacAddress": ""},
        "Options": {},
    }
    dockerd = light.dockerd()
    first = dockerd.call("NetworkDriver.CreateEndpoint", call)
    assert first["Interface"] == {"Address": "9.0.0.130/25", "MacAddress": "02:42:09:00:00:82"}
    before = light.rows()
    assert dockerd.call("NetworkDriver.CreateEndpoint", call) == first
    assert light.rows() == before


def test_without_ipam_both_families_can_be_had_by_driver_opt(light: Plugin) -> None:
    lease(light.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    engine = light.engine(28)
    engine.create("dual", ipam="null", options={"overlay": "dual"}, ipv6=True)
    engine.run("web", "dual", driver_opts={"dni.address": "10.64.0.140", "dni.address6": "fd01:b::8000:0:8c"})
    assert (engine.ip("web"), engine.ip("web", 6)) == ("10.64.0.140", "fd01:b::8000:0:8c")
    engine.run("any", "dual")
    assert (engine.ip("any"), engine.ip("any", 6)) == ("10.64.0.130", "fd01:b::8000:0:2")


def test_without_ipam_a_full_half_says_so(light: Plugin, engine: Engine) -> None:
    keep(light, "9.0.0.131", "9.0.0.254")
    alone(engine)
    engine.run("one", "dcos")
    light.tell("no-waiting")
    with pytest.raises(PluginError, match=r"1 of 125 used, 124 reserved"):
        engine.run("two", "dcos")


def on_a_route(plugin: Plugin) -> str:
    plugin.occupy("9.0.0.192/26")
    return r"9\.0\.0\.128/25 overlaps what this host already reaches directly"


def on_a_taken_overlay(plugin: Plugin) -> str:
    plugin.engine().create("dcos")
    return "overlay 'dcos' already has the Docker network"


def on_a_bridge_that_fails(plugin: Plugin) -> str:
    plugin.tell("broken-once", "the kernel says no")
    return "the kernel says no"


@pytest.mark.parametrize("hindrance", [on_a_route, on_a_taken_overlay, on_a_bridge_that_fails])
def test_without_ipam_a_network_that_cannot_be_is_refused_and_leaves_nothing(
    light: Plugin, hindrance: Callable[[Plugin], str]
) -> None:
    words = hindrance(light)
    before = light.held(), light.bridges()
    with pytest.raises(PluginError, match=words):
        alone(light.engine())
    assert (light.held(), light.bridges()) == before


# -- a mistake that shows at the first start


@pytest.mark.parametrize(
    ("overlay", "command"),
    [
        ("dcos", "`docker network create -d dni --ipam-driver dni dcos`"),
        ("dual", "`docker network create -d dni --ipam-driver dni --ipam-opt overlay=dual dual`"),
    ],
)
def test_an_overlays_pool_under_another_driver_names_the_command_that_works(
    light: Plugin, overlay: str, command: str
) -> None:
    lease(light.store, DUAL, "10.64.0.0/24")
    engine = light.engine()
    engine.create("mistake", driver="macvlan", ipam_options={"overlay": overlay})
    with pytest.raises(PluginError) as refusal:
        engine.run("c1", "mistake")
    assert command in str(refusal.value)
