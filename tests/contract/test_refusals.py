# SPDX-License-Identifier: Apache-2.0
"""What is refused: with a sentence that helps, and with nothing left behind."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from dni_driver.store import networks
from tests.contract.dockerd import PluginError
from tests.contract.plugin import Plugin
from tests.fakes import DCOS, DUAL, lease

COMMAND = "docker network create -d dni --ipam-driver dni"
NEW = {"overlay": "dev"}


@dataclass(frozen=True)
class Case:
    """A `docker network create`, and words of the answer."""

    words: tuple[str, ...]
    create: dict[str, Any] = field(default_factory=dict)


def new_overlay(name: str, *words: str, subnet: str = "10.70.0.0/16", **ipam_options: str) -> Case:
    """Describe the definition of an overlay."""
    return Case(words, {"subnets": [subnet], "ipam_options": {"overlay": name, **ipam_options}})


CREATIONS = {
    "two names for one overlay": new_overlay(
        "dev", "9.0.0.0/8 of overlay 'dev'", "of overlay 'dcos'", "dni overlay ls", subnet="9.0.0.0/8"
    ),
    "part of another overlay": new_overlay("dev", "overlaps 9.0.0.0/8 of overlay 'dcos'", subnet="9.4.0.0/16"),
    "around another overlay": new_overlay("dev", "overlaps 9.0.0.0/8 of overlay 'dcos'", subnet="8.0.0.0/5"),
    "reserved name": new_overlay("bridge", "'bridge' is reserved", "Docker's own"),
    "reserved name of another kind": new_overlay("default", "'default' is reserved"),
    "14 characters": new_overlay("abcdefghijklmn", "has 14 characters", "at most 13", "m-NAME and d-NAME"),
    "dot": new_overlay("a.b", "'a.b' has a dot", "Mesos"),
    "capital": new_overlay("Dev", "lower-case letters"),
    "line break in a name": new_overlay("dev\n", "lower-case letters"),
    "empty name": new_overlay("", "needs a name"),
    "agent subnet too large": new_overlay("dev", "/8 does not fit 10.70.0.0/16", "16 to 29", prefix="8"),
    "agent subnet too small": new_overlay("dev", "/30 does not fit", "16 to 29", prefix="30"),
    "prefix that is no number": new_overlay("dev", "prefix=many is not a number", prefix="many"),
    "unknown backend": new_overlay("dev", "backend=gre", "vxlan, direct, auto", backend="gre"),
    "range outside a new overlay": Case(
        ("--ip-range 10.99.0.0/24 lies outside --subnet 10.70.0.0/16",),
        {"subnets": ["10.70.0.0/16"], "ip_range": "10.99.0.0/24", "ipam_options": NEW},
    ),
    "range outside the half of a new overlay": Case(
        ("--ip-range 10.70.0.0/26 lies outside", "inside 10.70.0.128/25"),
        {"subnets": ["10.70.0.0/16"], "ip_range": "10.70.0.0/26", "ipam_options": NEW},
    ),
    "a new overlay with a bad option": Case(
        ("option isolated='perhaps' is neither true nor false",),
        {"subnets": ["10.70.0.0/16"], "options": {"isolated": "perhaps"}, "ipam_options": NEW},
    ),
    "a new overlay of special addresses": new_overlay("dev", "multicast", subnet="224.0.0.0/8"),
    "an overlay otherwise than it is": Case(
        ("'dcos' exists with prefix=24, not 26",), {"ipam_options": {"overlay": "dcos", "prefix": "26"}}
    ),
    "an overlay with another subnet": new_overlay(
        "dcos", "exists with other subnets than 10.70.0.0/16", "--subnet 9.0.0.0/8 or 9.0.0.128/25"
    ),
    "unknown overlay": Case(
        ("no overlay 'nix' (known: dcos)", "--subnet 10.64.0.0/16 --ipam-opt overlay=nix"),
        {"ipam_options": {"overlay": "nix"}},
    ),
    "unknown ipam option": Case(
        ("--ipam-opt overlai is not known", "use overlay"), {"ipam_options": {"overlai": "dcos"}}
    ),
    "a description without a name": Case(("add --ipam-opt overlay=NAME",), {"ipam_options": {"prefix": "26"}}),
    "another agent's part of an overlay": Case(
        ("9.0.1.0/24 lies across overlay 'dcos'", "--subnet 9.0.0.0/8 or 9.0.0.128/25"), {"subnets": ["9.0.1.0/24"]}
    ),
    "the Mesos half": Case(("lies across overlay 'dcos'", "9.0.0.128/25"), {"subnets": ["9.0.0.0/25"]}),
    "range outside the half": Case(
        ("--ip-range 9.0.0.0/26 lies outside", "inside 9.0.0.128/25"),
        {"subnets": ["9.0.0.0/8"], "ip_range": "9.0.0.0/26"},
    ),
    "range across the half": Case(("inside 9.0.0.128/25",), {"subnets": ["9.0.0.0/8"], "ip_range": "9.0.0.0/24"}),
    "gateway outside the half": Case(
        ("address 9.0.0.5 lies outside the Docker half of overlay 'dcos'", "9.0.0.130 to 9.0.0.254"),
        {"subnets": ["9.0.0.0/8"], "gateway": "9.0.0.5"},
    ),
    "gateway at the end of the half": Case(
        ("9.0.0.255 is the network or broadcast address of 9.0.0.128/25",),
        {"subnets": ["9.0.0.0/8"], "gateway": "9.0.0.255"},
    ),
    "auxiliary address that is the gateway": Case(
        ("9.0.0.129 is the gateway of 9.0.0.128/25",), {"subnets": ["9.0.0.0/8"], "aux": {"a": "9.0.0.129"}}
    ),
    "auxiliary address that is the user's gateway": Case(
        ("9.0.0.200 is in use by the network itself",),
        {"subnets": ["9.0.0.0/8"], "gateway": "9.0.0.200", "aux": {"a": "9.0.0.200"}},
    ),
    "two auxiliary addresses that are one": Case(
        ("9.0.0.200 is in use",), {"subnets": ["9.0.0.0/8"], "aux": {"a": "9.0.0.200", "b": "9.0.0.200"}}
    ),
    "unknown option": Case(("'masquarade' is not known to dni", "masquerade"), {"options": {"masquarade": "false"}}),
    "option that is neither": Case(
        ("isolated='perhaps' is neither true nor false",), {"options": {"isolated": "perhaps"}}
    ),
    "mtu too large for the underlay": Case(
        ("mtu=1500 does not fit: eth0 has 1500, VXLAN takes 50: at most 1450",), {"options": {"mtu": "1500"}}
    ),
    "option of Docker's bridges": Case(
        ("'com.docker.network.bridge.enable_icc' is not one of dni", "two overlays"),
        {"options": {"com.docker.network.bridge.enable_icc": "false"}},
    ),
    "option of the overlay": Case(("use --ipam-opt prefix=VALUE",), {"options": {"prefix": "26"}}),
    "spoof that is neither": Case(("spoof='yes' is neither allow nor deny",), {"options": {"spoof": "yes"}}),
    "name for links that is none": Case(
        ("container_iface_prefix='0' cannot begin the name of a link",),
        {"options": {"com.docker.network.container_iface_prefix": "0"}},
    ),
    "mtu too small": Case(("mtu='551'", "552 to 65535"), {"options": {"mtu": "551"}}),
    "mtu too long": Case(("552 to 65535",), {"options": {"mtu": "9" * 5000}}),
    "two mtus": Case(
        ("say different things",), {"options": {"mtu": "1400", "com.docker.network.driver.mtu": "1300"}}
    ),
    "plain pool": Case(
        ("172.20.0.0/16 belongs to no overlay", f"{COMMAND} --subnet 172.20.0.0/16 --ipam-opt overlay=NAME NAME"),
        {"subnets": ["172.20.0.0/16"]},
    ),
    "plain pool too small": Case(("no room for a gateway and a container",), {"subnets": ["172.20.0.0/31"]}),
    "overlays by the pair": Case(
        ("one network is on one overlay, not on dcos and dual",), {"subnets": ["9.0.0.0/8", "10.64.0.0/16"]}
    ),
    "subnets by the pair": Case(("give one --subnet of a family",), {"subnets": ["9.0.0.0/8", "9.0.0.128/25"]}),
    "dni without its IPAM driver": Case(
        ("-d dni needs --ipam-driver dni too", f"{COMMAND} NAME"), {"ipam": "default"}
    ),
    "dni with a subnet but without its IPAM driver": Case(
        (f"{COMMAND} NAME",), {"ipam": "default", "subnets": ["9.0.0.128/25"]}
    ),
    "dni with no IPAM driver": Case(
        (f"{COMMAND} NAME", "docker network create -d dni --ipam-driver null -o overlay=NAME NAME"), {"ipam": "null"}
    ),
    "no IPAM driver and an unknown overlay": Case(
        ("there is no overlay 'nobody'",), {"ipam": "null", "options": {"overlay": "nobody"}}
    ),
    "no IPAM driver and a name that no overlay can have": Case(
        ("overlay name 'host' is reserved",), {"ipam": "null", "options": {"overlay": "host"}}
    ),
    "no IPAM driver and a family that the overlay lacks": Case(
        ("overlay 'dcos' has no IPv6 subnet: leave --ipv6 out",),
        {"ipam": "null", "options": {"overlay": "dcos"}, "ipv6": True, "ipv4": False},
    ),
    "an overlay by the wrong option": Case(("use --ipam-opt overlay=dual",), {"options": {"overlay": "dual"}}),
}


@pytest.fixture
def overlays(light: Plugin) -> None:
    """Lease a second overlay, of both families."""
    lease(light.store, DUAL, "10.64.0.0/24", "fd01:b::/80")


@pytest.mark.parametrize("version", [20, 28])
@pytest.mark.parametrize("case", CREATIONS)
@pytest.mark.usefixtures("overlays")
def test_a_creation_against_a_rule_is_refused_and_leaves_nothing(light: Plugin, case: str, version: int) -> None:
    if case.startswith("unknown overlay"):
        light.forget()
        lease(light.store, DCOS, "9.0.0.0/24")
    engine = light.engine(version)
    before = light.held(), light.bridges()
    with pytest.raises(PluginError) as refusal:
        engine.create("x", **CREATIONS[case].create)
    for words in CREATIONS[case].words:
        assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (light.held(), light.bridges(), engine.logged) == (before[0], before[1], [])


@pytest.mark.usefixtures("overlays")
def test_a_refused_creation_does_not_stand_in_the_way_of_a_better_one(light: Plugin) -> None:
    engine = light.engine(20)
    for case in CREATIONS.values():
        with pytest.raises(PluginError):
            engine.create("x", **case.create)
    engine.create("dcos", subnets=["9.0.0.0/8"], ip_range="9.0.0.192/26", gateway="9.0.0.200", aux={"a": "9.0.0.201"})
    engine.run("c", "dcos")
    assert engine.ip("c") == "9.0.0.192"


# -- a second network


@pytest.mark.parametrize("named", [True, False])
def test_a_second_network_on_one_overlay_is_refused_naming_the_first(light: Plugin, named: bool) -> None:  # noqa: FBT001
    """The first is named once the agent has asked Docker; before that by its short id."""
    engine = light.engine()
    first = engine.create("dcos")
    if named:
        with light.store.write() as tx:
            networks.set_name(tx, first.id, "prod")
    before = light.rows()
    for more in (
        {},
        {"subnets": ["9.0.0.0/8"]},
        {"ipam_options": {"overlay": "dcos"}},
        {"subnets": ["9.0.0.128/25"]},
    ):
        with pytest.raises(
            PluginError, match=f"already has the Docker network '{'prod' if named else first.id[:12]}'"
        ):
            engine.create("other", **more)
    assert light.rows() == before
    engine.run("a", "dcos")


@pytest.mark.parametrize("rounds", [1, 3])
def test_of_two_creations_at_once_one_is_refused_and_harms_nothing(light: Plugin, rounds: int) -> None:
    """Both have their pool before either has its network (20.10 to 24 create without a lock)."""
    engine, dockerd = light.engine(), light.dockerd()
    for _ in range(rounds):
        late = dockerd.call("IpamDriver.RequestPool", {"Pool": "9.0.0.0/8"})
        dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4", "Address": "9.0.0.200"})
        engine.create("dcos", subnets=["9.0.0.0/8"], aux={"router": "9.0.0.201"})
        before = light.rows()["network"]
        creation = {
            "NetworkID": secrets.token_hex(32),
            "IPv4Data": [{"Pool": late["Pool"], "Gateway": "9.0.0.129/25"}],
        }
        with pytest.raises(PluginError, match="already has the Docker network"):
            dockerd.call("NetworkDriver.CreateNetwork", creation)
        assert light.rows()["network"] == before
        for address in ("9.0.0.129", "9.0.0.200"):
            dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": "dcos/v4", "Address": address})
        dockerd.call("IpamDriver.ReleasePool", {"PoolID": "dcos/v4"})
        assert light.held()["dcos/v4 9.0.0.201"] == "reserved"
        assert "dcos/v4 9.0.0.200" not in light.held()
        engine.run("a", "dcos")
        engine.delete("a")
        engine.remove("dcos")
        assert [key for key in light.held() if not key.startswith("overlay")] == []


# -- containers


@pytest.mark.parametrize(
    ("ip", "words"),
    [
        ("9.0.0.128", "9.0.0.128 is the network or broadcast address of 9.0.0.128/25: choose one of 9.0.0.130 to"),
        ("9.0.0.129", "9.0.0.129 is the gateway of 9.0.0.128/25"),
        ("9.0.0.255", "9.0.0.255 is the network or broadcast address"),
        ("9.0.0.5", "9.0.0.5 lies outside the Docker half of overlay 'dcos' on this agent: choose one of 9.0.0.130"),
        ("9.1.0.130", "9.1.0.130 lies outside"),
        ("fd01::1", "fd01::1 lies outside"),
    ],
)
def test_an_address_that_no_container_can_have_is_refused(light: Plugin, ip: str, words: str) -> None:
    """Engines stop some of these by themselves; the plugin does not count on it."""
    light.engine().create("dcos")
    before = light.rows()
    with pytest.raises(PluginError) as refusal:
        light.dockerd().call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4", "Address": ip})
    assert words in str(refusal.value)
    assert light.rows() == before


def test_an_address_in_use_is_refused_naming_the_holder(light: Plugin) -> None:
    engine = light.engine()
    engine.create("dcos", subnets=["9.0.0.0/8"], aux={"router": "9.0.0.140"})
    endpoint = engine.run("a", "dcos", ip="9.0.0.150").endpoints["dcos"]
    before = light.rows()
    for ip, holder in (("9.0.0.150", f"endpoint {endpoint.id[:12]}"), ("9.0.0.140", "the network itself")):
        with pytest.raises(PluginError, match=f"{ip} is in use by {holder}"):
            engine.run("b", "dcos", ip=ip)
    with light.store.write() as tx:
        tx.execute("UPDATE address SET container = 'web' WHERE endpoint IS NOT NULL")
    with pytest.raises(PluginError, match="in use by container web"):
        engine.run("c", "dcos", ip="9.0.0.150")
    assert light.rows()["endpoint"] == before["endpoint"]


def test_an_address_that_was_never_requested_cannot_be_brought_along(light: Plugin) -> None:
    """CreateEndpoint with an address that another IPAM driver gave, or that was given up since."""
    network = light.engine().create("dcos")
    before = light.rows()
    for address in ("9.0.0.130/25", "10.1.2.3/24"):
        arguments = {"NetworkID": network.id, "EndpointID": secrets.token_hex(32), "Interface": {"Address": address}}
        with pytest.raises(PluginError, match="was not requested from dni"):
            light.dockerd().call("NetworkDriver.CreateEndpoint", arguments)
    assert light.rows() == before


def test_an_endpoint_on_an_unknown_network_is_refused(light: Plugin) -> None:
    light.engine().create("dcos")
    address = light.dockerd().call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    before = light.rows()
    arguments = {"NetworkID": "f" * 64, "EndpointID": secrets.token_hex(32), "Interface": {"Address": address}}
    with pytest.raises(PluginError, match="network ffffffffffff is not recorded by dni: remove it"):
        light.dockerd().call("NetworkDriver.CreateEndpoint", arguments)
    assert light.rows() == before


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "02:42:ac", "nonsense"])
def test_a_mac_that_no_container_can_have_is_refused(light: Plugin, mac: str) -> None:
    network = light.engine().create("dcos")
    address = light.dockerd().call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    before = light.rows()
    interface = {"Address": address, "MacAddress": mac}
    arguments = {"NetworkID": network.id, "EndpointID": secrets.token_hex(32), "Interface": interface}
    with pytest.raises(PluginError, match="MAC address"):
        light.dockerd().call("NetworkDriver.CreateEndpoint", arguments)
    assert light.rows() == before


def test_an_overlays_pool_under_another_driver_gives_no_address(light: Plugin) -> None:
    """`docker network create --ipam-driver dni` without -d dni: bridge gets the pool; containers hear what to do."""
    engine = light.engine()
    engine.create("mistake", driver="bridge")
    before = light.held()
    with pytest.raises(PluginError, match=f"create it with `{COMMAND} dcos`"):
        engine.run("a", "mistake")
    assert light.held() == before
    engine.remove("mistake")
    engine.create("dcos")
    engine.run("b", "dcos")


# -- what the host has already


@pytest.mark.parametrize("version", [20, 28, 29])
def test_a_pool_that_the_host_reaches_already_is_refused_not_asked_for_again(plugin: Plugin, version: int) -> None:
    """Dockerd would ask for another one without end."""
    plugin.occupy("9.0.0.1/16")
    engine = plugin.engine(version)
    engine.on_link.append(ip_network("9.0.0.0/16"))
    before = plugin.rows()
    for subnets in ([], ["9.0.0.0/8"]):
        with pytest.raises(PluginError, match=r"9\.0\.0\.128/25 overlaps .* \(9\.0\.0\.\d/16 on other0\)"):
            engine.create("dcos", subnets=subnets)
    assert plugin.rows() == before


def test_a_new_overlay_that_the_host_reaches_already_is_not_defined(plugin: Plugin) -> None:
    plugin.occupy("10.70.200.1/24")
    before = plugin.rows()
    with pytest.raises(PluginError, match="overlaps what this host already reaches directly"):
        plugin.engine().create("dev", subnets=["10.70.0.0/16"], ipam_options=NEW)
    assert plugin.rows() == before


def test_the_networks_own_bridge_does_not_stand_in_the_way_of_the_next(plugin: Plugin) -> None:
    """The gateway is on the bridge only from CreateNetwork to DeleteNetwork: no pool overlaps it."""
    engine = plugin.engine()
    for _ in range(2):
        engine.create("dcos")
        engine.remove("dcos")
        assert plugin.bridges() == []
