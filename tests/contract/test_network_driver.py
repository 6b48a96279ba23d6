# SPDX-License-Identifier: Apache-2.0
"""Each method of the network driver by itself, and what is no method: the cases P01 to P23.

They are those of libnetwork's and its peers' tests, adapted where dni has a rule of its own: a network needs a
pool from dni's IPAM driver.
"""

from __future__ import annotations

import json
import secrets
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from tests.contract import answers
from tests.contract.calls import GENERIC, create_endpoint, create_network, join, unknown
from tests.contract.dockerd import BODILESS, Dockerd, PluginError, exchange, request_bytes
from tests.contract.objects import EXPOSED, PUBLISHED
from tests.contract.plugin import Plugin, eventually
from tests.fakes import DUAL, lease


@pytest.fixture
def endpoint(dockerd: Dockerd) -> dict[str, str]:
    """Give an endpoint on a new network."""
    return create_endpoint(dockerd, create_network(dockerd)["NetworkID"])


# -- activation


def test_the_plugin_says_that_it_is_both_drivers(dockerd: Dockerd) -> None:
    """P01."""
    assert dockerd.call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}


def test_the_network_driver_says_what_it_can(dockerd: Dockerd) -> None:
    """P02."""
    answer = dockerd.call("NetworkDriver.GetCapabilities")
    assert answer == {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": True}


def test_the_ipam_driver_says_what_it_wants(dockerd: Dockerd) -> None:
    """P03."""
    answer = dockerd.call("IpamDriver.GetCapabilities")
    assert answer == {"RequiresMACAddress": False, "RequiresRequestReplay": False}


def test_the_default_address_spaces_are_two_and_stay_through_a_restart(light: Plugin) -> None:
    """P04: dockerd keeps them in the records of its networks."""
    first = light.dockerd().call("IpamDriver.GetDefaultAddressSpaces")
    light.stop()
    light.start()
    assert light.dockerd().call("IpamDriver.GetDefaultAddressSpaces") == first
    assert set(first) == {"LocalDefaultAddressSpace", "GlobalDefaultAddressSpace"}
    assert all(first.values())
    assert len(set(first.values())) == 2


# -- networks


def test_a_network_is_created_with_its_bridge(plugin: Plugin, dockerd: Dockerd) -> None:
    """P05."""
    create_network(dockerd)
    assert plugin.bridges() == ["d-dcos"]
    assert plugin.addresses_of("d-dcos") == ["9.0.0.129/25"]


def test_a_bad_option_is_an_error_and_leaves_nothing(plugin: Plugin, dockerd: Dockerd) -> None:
    """P06."""
    before = plugin.rows()
    creation = {"NetworkID": secrets.token_hex(32), "Options": {GENERIC: {"mtu": "many"}}, "IPv4Data": []}
    reply = dockerd.send("NetworkDriver.CreateNetwork", json.dumps(creation).encode())
    assert reply.status != 200
    assert "mtu='many'" in json.loads(reply.body)["Err"]
    assert (plugin.rows(), plugin.bridges()) == (before, [])


def test_a_network_created_twice_is_one_network(plugin: Plugin, dockerd: Dockerd) -> None:
    """P07."""
    creation = create_network(dockerd)
    before = plugin.rows()
    assert dockerd.call("NetworkDriver.CreateNetwork", creation) == {}
    assert (plugin.rows(), plugin.bridges()) == (before, ["d-dcos"])


@pytest.mark.parametrize("method", ["DeleteNetwork", "DeleteEndpoint", "Leave", "RevokeExternalConnectivity"])
def test_deleting_what_is_unknown_succeeds(plugin: Plugin, method: str) -> None:
    """P08."""
    before = plugin.rows()
    arguments = unknown()
    if method == "DeleteNetwork":
        del arguments["EndpointID"]
    assert plugin.dockerd().call(f"NetworkDriver.{method}", arguments) == {}
    assert plugin.rows() == before


def test_a_deleted_network_takes_bridge_endpoints_and_links_along(plugin: Plugin, dockerd: Dockerd) -> None:
    """More than P08: dockerd may delete a network whose endpoints it never deleted."""
    before = plugin.held()
    creation = create_network(dockerd)
    join(dockerd, create_endpoint(dockerd, creation["NetworkID"]))
    for _ in range(2):
        assert dockerd.call("NetworkDriver.DeleteNetwork", {"NetworkID": creation["NetworkID"]}) == {}
    eventually(lambda: not plugin.links() and not plugin.bridges(), "devices are left")
    assert plugin.held() == before


# -- endpoints


def test_a_new_endpoint_gets_a_mac_that_follows_from_its_address(dockerd: Dockerd) -> None:
    """P09: the address is IPAM's, so the MAC is the only field that the driver may set."""
    network = create_network(dockerd)["NetworkID"]
    address = dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    given = {"Address": address, "AddressIPv6": "", "MacAddress": ""}
    arguments = {"NetworkID": network, "EndpointID": secrets.token_hex(32), "Interface": given, "Options": None}
    for _ in range(2):
        answer = dockerd.call("NetworkDriver.CreateEndpoint", arguments)
        assert answers.mac(answer, given) == "02:42:09:00:00:82"


@pytest.mark.parametrize("interface", [None, {}, {"Address": "", "AddressIPv6": "", "MacAddress": ""}])
def test_an_endpoint_without_an_address_is_refused(light: Plugin, interface: dict[str, str] | None) -> None:
    """P09, adapted: addresses come from dni's IPAM driver, never from CreateEndpoint."""
    network = create_network(light.dockerd())["NetworkID"]
    before = light.rows()
    arguments = {"NetworkID": network, "EndpointID": secrets.token_hex(32), "Interface": interface, "Options": {}}
    with pytest.raises(PluginError, match="needs an address from its IPAM driver"):
        light.dockerd().call("NetworkDriver.CreateEndpoint", arguments)
    assert light.rows() == before


@pytest.mark.parametrize("mac", ["", "02:42:ac:13:00:02", "02-42-AC-13-00-02"])
@pytest.mark.parametrize("families", [(4,), (4, 6)])
def test_no_given_field_comes_back(light: Plugin, mac: str, families: tuple[int, ...]) -> None:
    """P10, P11: an echo, even an equal one, makes libnetwork delete the endpoint again."""
    lease(light.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    engine = light.engine()
    subnets = ["10.64.0.0/16", *(["fd01:b::/64"] if 6 in families else [])]
    network = engine.create("dual", ipam_options={"overlay": "dual"}, subnets=subnets, ipv6=6 in families)
    dockerd = light.dockerd()
    four, six = (
        dockerd.call("IpamDriver.RequestAddress", {"PoolID": f"dual/v{family}"})["Address"]
        if family in families
        else ""
        for family in (4, 6)
    )
    given = {"Address": four, "AddressIPv6": six, "MacAddress": mac}
    arguments = {"NetworkID": network.id, "EndpointID": secrets.token_hex(32), "Interface": given}
    answer = dockerd.call("NetworkDriver.CreateEndpoint", arguments)
    answers.mac(answer, given)
    assert (answer == {}) == bool(mac)


def test_join_answers_a_link_that_is_there(plugin: Plugin, dockerd: Dockerd, endpoint: dict[str, str]) -> None:
    """P12: the sandbox need not be there yet. Joining once more changes nothing."""
    first, second = (join(dockerd, endpoint) for _ in range(2))
    assert first == second
    assert answers.gateways(first, {4: ip_interface("9.0.0.130/25")}) == {4: "9.0.0.129"}
    assert plugin.links() == sorted((f"dni{endpoint['EndpointID'][:11]}", first["InterfaceName"]["SrcName"]))


def test_join_answers_a_route_to_the_whole_overlay(dockerd: Dockerd, endpoint: dict[str, str]) -> None:
    """P13, adapted: where the container has other networks, its default route may be one of theirs."""
    routes = join(dockerd, endpoint)["StaticRoutes"]
    assert routes == [{"Destination": "9.0.0.0/8", "RouteType": 0, "NextHop": "9.0.0.129"}]


def test_join_on_an_internal_network_answers_that_route_and_no_gateway(light: Plugin) -> None:
    engine = light.engine()
    network = engine.create("dcos", internal=True)
    dockerd = light.dockerd()
    answer = join(dockerd, create_endpoint(dockerd, network.id))
    assert [route["Destination"] for route in answer["StaticRoutes"]] == ["9.0.0.0/8"]
    assert "Gateway" not in answer
    assert answer["DisableGatewayService"]


def test_join_answers_the_name_that_the_network_gives_to_links(light: Plugin) -> None:
    engine = light.engine()
    network = engine.create("dcos", options={"com.docker.network.container_iface_prefix": "net"})
    dockerd = light.dockerd()
    assert join(dockerd, create_endpoint(dockerd, network.id))["InterfaceName"]["DstPrefix"] == "net"


def test_leave_and_delete_in_any_order_take_the_link_away(plugin: Plugin, dockerd: Dockerd) -> None:
    """P14: in order; without Leave; Leave without Join; each of them twice."""
    network = create_network(dockerd)["NetworkID"]
    for joined, calls in (
        (True, ("Leave", "DeleteEndpoint")),
        (True, ("DeleteEndpoint",)),
        (True, ("DeleteEndpoint", "Leave")),
        (False, ("Leave", "DeleteEndpoint")),
        (True, ("Leave", "Leave", "DeleteEndpoint", "DeleteEndpoint")),
    ):
        endpoint = create_endpoint(dockerd, network)
        if joined:
            join(dockerd, endpoint)
        for call in calls:
            assert dockerd.call(f"NetworkDriver.{call}", endpoint) == {}
    eventually(lambda: not plugin.links(), "links are left")
    assert not [key for key in plugin.held() if key.startswith("endpoint")]


def test_a_join_of_an_unknown_endpoint_is_an_error(light: Plugin) -> None:
    """P14: and a Leave after it none."""
    nobody = unknown()
    with pytest.raises(PluginError, match=f"endpoint {nobody['EndpointID'][:12]} is not recorded"):
        join(light.dockerd(), nobody)
    assert light.dockerd().call("NetworkDriver.Leave", nobody) == {}


@pytest.mark.parametrize("sandbox", ["", "netns/7541c34f2dc7", "/a\0b", "/" + "x" * 5000])
def test_a_sandbox_key_that_is_no_path_is_malformed(light: Plugin, sandbox: str) -> None:
    dockerd = light.dockerd()
    endpoint = create_endpoint(dockerd, create_network(dockerd)["NetworkID"])
    before = light.rows()
    with pytest.raises(PluginError, match="is not an absolute path"):
        join(dockerd, endpoint, sandbox)
    assert light.rows() == before


def test_oper_info_is_an_object_for_any_endpoint(dockerd: Dockerd, endpoint: dict[str, str]) -> None:
    """P15: an error here would fail the start of a container, up to 28.0.1."""
    assert dockerd.call("NetworkDriver.EndpointOperInfo", endpoint) == {"Value": {}}
    assert dockerd.call("NetworkDriver.EndpointOperInfo", unknown()) == {"Value": {}}


def test_ports_can_be_programmed_again_and_revoked_again(plugin: Plugin, endpoint: dict[str, str]) -> None:
    """P16, P17: by an element of the kernel's, there once however often it is said, and gone."""
    dockerd = plugin.dockerd()
    join(dockerd, endpoint)
    port = {"Proto": 6, "IP": "", "Port": 70, "HostIP": "", "HostPort": 7000, "HostPortEnd": 7000}
    options = {EXPOSED: [{"Proto": 6, "Port": 70}], PUBLISHED: [port]}
    before = plugin.rows()
    for _ in range(2):
        program = {**endpoint, "Options": options}
        assert dockerd.call("NetworkDriver.ProgramExternalConnectivity", program) == {}
        assert plugin.ports() == {"0.0.0.0:7000/tcp": "9.0.0.130 70"}
        assert len(plugin.rows()["port"]) == 2, "at 0.0.0.0, and at :: for whom the plugin carries"
    for _ in range(2):
        assert dockerd.call("NetworkDriver.RevokeExternalConnectivity", endpoint) == {}
        assert plugin.ports() == {}
    assert plugin.rows() == before


@pytest.mark.parametrize("method", ["DiscoverNew", "DiscoverDelete"])
def test_nodes_that_come_and_go_are_no_news(light: Plugin, method: str) -> None:
    """P18."""
    before = light.rows()
    node = {"Address": "10.0.0.5", "BindAddress": "", "Self": True}
    arguments = {"DiscoveryType": 1, "DiscoveryData": node}
    assert light.dockerd().call(f"NetworkDriver.{method}", arguments) == {}
    assert light.rows() == before


@pytest.mark.parametrize("options", [None, {}, {GENERIC: None}, {GENERIC: {"isolated": "false"}}])
def test_gateways_are_always_wanted(calls: Dockerd, options: dict[str, Any] | None) -> None:
    """P19."""
    answer = calls.call("NetworkDriver.GwAllocCheck", {"Options": options})
    assert answer == {"SkipIPv4": False, "SkipIPv6": False}


def test_bad_options_are_refused_before_ipam_is_asked(calls: Dockerd) -> None:
    """P19: from 28.0 on nothing has to be given back then."""
    with pytest.raises(PluginError, match="masquarade"):
        calls.call("NetworkDriver.GwAllocCheck", {"Options": {GENERIC: {"masquarade": "false"}}})


def test_one_endpoint_id_is_one_endpoint(light: Plugin) -> None:
    """The same again is no change; another address under the same id is refused."""
    dockerd = light.dockerd()
    network = create_network(dockerd)["NetworkID"]
    endpoint = create_endpoint(dockerd, network)
    other = dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    assert ip_address(other.partition("/")[0]) != ip_address("9.0.0.130")
    before = light.rows()
    with pytest.raises(PluginError, match="with another network or address"):
        dockerd.call("NetworkDriver.CreateEndpoint", {**endpoint, "Interface": {"Address": other}})
    dockerd.call("NetworkDriver.CreateEndpoint", {**endpoint, "Interface": {"Address": "9.0.0.130/25"}})
    assert light.rows() == before


def test_a_container_with_every_port_published_is_not_too_long(light: Plugin) -> None:
    """`-p 1-65535:1-65535`: one object for each port, twice."""
    engine = light.engine()
    engine.create("dcos")
    engine.run("a", "dcos", ports=range(1, 65536))
    assert engine.ip("a") == "9.0.0.130"


# -- what is no call


@pytest.mark.parametrize("path", ["NetworkDriver.Nope", "", "NetworkDriver.Join/", "NetworkDriver", "%ff"])
def test_an_unknown_method_is_a_404_in_json(light: Plugin, path: str) -> None:
    """P20."""
    reply = light.dockerd().send(path, b"{}")
    assert reply.status == 404
    assert "is not a method of dni" in json.loads(reply.body)["Err"]


@pytest.mark.parametrize("method", sorted(BODILESS))
def test_a_call_without_a_body_is_answered_where_dockerd_sends_none(calls: Dockerd, method: str) -> None:
    """P21."""
    assert calls.send(method, b"").status == 200


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"])
def test_a_verb_that_is_not_post_is_an_error_in_json(light: Plugin, verb: str) -> None:
    """P22."""
    reply = exchange(light.socket, request_bytes("NetworkDriver.Join", b"", verb=verb), verb)
    assert reply.status == 405
    assert reply.content_type.endswith("+json")
    if verb != "HEAD":
        assert "use POST" in json.loads(reply.body)["Err"]


def test_swarm_managers_get_their_options_back(light: Plugin) -> None:
    """P23."""
    before = light.rows()
    arguments: dict[str, Any] = {"NetworkID": "a1b2c3", "Options": {"mtu": "1400"}, "IPv4Data": [], "IPv6Data": None}
    for _ in range(2):
        answer = light.dockerd().call("NetworkDriver.AllocateNetwork", arguments)
        assert answer == {"Options": {"mtu": "1400"}}
        assert light.dockerd().call("NetworkDriver.FreeNetwork", {"NetworkID": "a1b2c3"}) == {}
    assert light.rows() == before


def test_connections_are_closed_after_each_call(calls: Dockerd) -> None:
    """A kept-alive one that closes just when dockerd writes would cost the body of that call."""
    assert calls.send("Plugin.Activate", b"").connection == "close"
