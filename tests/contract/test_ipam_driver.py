# SPDX-License-Identifier: Apache-2.0
"""Each method of the IPAM driver by itself: the cases P24 to P33 of libnetwork's and its peers' tests."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from tests.contract import answers
from tests.contract.calls import GATEWAY, create_endpoint, create_network
from tests.contract.dockerd import Dockerd, PluginError
from tests.contract.plugin import Plugin
from tests.fakes import DUAL, lease

PLAIN = "172.20.0.0/16"


def test_any_pool_is_the_docker_half_of_the_default_overlay(calls: Dockerd) -> None:
    """P24."""
    answer = calls.call("IpamDriver.RequestPool", {"AddressSpace": "dni-local"})
    assert answer == {"PoolID": "dcos/v4", "Pool": "9.0.0.128/25", "Data": {}}


def test_a_given_pool_is_used_twice_under_one_id(light: Plugin) -> None:
    """P25."""
    asked = {"AddressSpace": "dni-local", "Pool": PLAIN}
    first, second = (answers.pool(light.dockerd().call("IpamDriver.RequestPool", asked)) for _ in range(2))
    assert first == second
    assert first[1] == ip_network(PLAIN)
    for uses in ("2", "1"):
        assert light.held()[f"pool {first[0]}"] == uses
        light.dockerd().call("IpamDriver.ReleasePool", {"PoolID": first[0]})
    assert f"pool {first[0]}" not in light.held()


@pytest.mark.parametrize("pool", ["172.20.0.0/16", "172.20.4.7/16"])
def test_addresses_of_a_pool_with_a_range_come_from_the_range(calls: Dockerd, pool: str) -> None:
    """P26. 20.10 lets host bits through: the answer has none."""
    answer = calls.call("IpamDriver.RequestPool", {"Pool": pool, "SubPool": "172.20.3.0/24"})
    assert answer["Pool"] == PLAIN
    address = calls.call("IpamDriver.RequestAddress", {"PoolID": answer["PoolID"]})["Address"]
    assert address == "172.20.3.0/16"


def test_a_range_without_a_pool_is_an_error(calls: Dockerd) -> None:
    """P27."""
    with pytest.raises(PluginError, match="--ip-range needs --subnet"):
        calls.call("IpamDriver.RequestPool", {"SubPool": "9.0.0.192/26"})


def test_an_ipv6_pool_is_ipv6_or_a_clear_error(light: Plugin) -> None:
    """P28."""
    dockerd = light.dockerd()
    with pytest.raises(PluginError, match="overlay 'dcos' has no IPv6 subnet"):
        dockerd.call("IpamDriver.RequestPool", {"V6": True})
    lease(light.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    for asked in ({"Options": {"overlay": "dual"}}, {"Pool": "fd01:b::/64"}, {"Pool": "fd01:b::8000:0:0/81"}):
        answer = dockerd.call("IpamDriver.RequestPool", {**asked, "V6": True})
        assert answer == {"PoolID": "dual/v6", "Pool": "fd01:b::8000:0:0/81", "Data": {}}
    assert dockerd.call("IpamDriver.RequestPool", {"Pool": "fd77::/64", "V6": True})["Pool"] == "fd77::/64"


@pytest.mark.parametrize(
    ("pool", "v6"), [("9.0.0.0/8", True), ("172.20.0.0/16", True), ("fd77::/64", False), ("fd77::%1/64", True)]
)
def test_a_pool_of_the_other_family_is_malformed(light: Plugin, pool: str, v6: bool) -> None:  # noqa: FBT001
    before = light.rows()
    reply = light.dockerd().send("IpamDriver.RequestPool", json.dumps({"Pool": pool, "V6": v6}).encode())
    assert reply.status == 400
    assert light.rows() == before


# -- addresses


def test_any_address_and_a_given_one_have_the_mask_of_the_pool(calls: Dockerd) -> None:
    """P29."""
    pool = calls.call("IpamDriver.RequestPool", {"Pool": PLAIN})["PoolID"]
    any_one = answers.address(calls.call("IpamDriver.RequestAddress", {"PoolID": pool, "Address": ""}))
    assert any_one.network == ip_network(PLAIN)
    given = {"PoolID": pool, "Address": "172.20.1.45"}
    assert calls.call("IpamDriver.RequestAddress", given)["Address"] == "172.20.1.45/16"
    with pytest.raises(PluginError, match=r"172\.20\.1\.45 is in use"):
        calls.call("IpamDriver.RequestAddress", given)


@pytest.mark.parametrize("wanted", ["", "172.20.0.9"])
def test_a_gateway_is_never_handed_out_again(calls: Dockerd, wanted: str) -> None:
    """P30."""
    pool = calls.call("IpamDriver.RequestPool", {"Pool": "172.20.0.0/28"})["PoolID"]
    asked = {"PoolID": pool, "Address": wanted, "Options": GATEWAY}
    gateway = calls.call("IpamDriver.RequestAddress", asked)["Address"]
    assert gateway == f"{wanted or '172.20.0.1'}/28"
    others = [calls.call("IpamDriver.RequestAddress", {"PoolID": pool})["Address"] for _ in range(13)]
    assert gateway not in others
    with pytest.raises(PluginError, match="in use by the network itself"):
        calls.call("IpamDriver.RequestAddress", {"PoolID": pool, "Address": gateway.partition("/")[0]})


def test_an_overlays_gateway_is_never_handed_out(calls: Dockerd) -> None:
    """P30, on an overlay, whose gateway is the half's first host without a record."""
    create_network(calls)
    with pytest.raises(PluginError, match=r"9\.0\.0\.129 is the gateway of 9\.0\.0\.128/25"):
        calls.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4", "Address": "9.0.0.129"})
    given = {calls.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"] for _ in range(125)}
    assert "9.0.0.129/25" not in given


@pytest.mark.parametrize("options", [None, {}, {"com.docker.network.endpoint.name": "web"}])
def test_an_address_is_given_whatever_the_options_of_the_engine(
    calls: Dockerd, options: dict[str, str] | None
) -> None:
    """P31: null for auxiliary addresses; from 29.0 on the container's name."""
    pool = calls.call("IpamDriver.RequestPool", {"Pool": PLAIN, "Options": options and {}})["PoolID"]
    asked = {"PoolID": pool, "Address": "172.20.0.77", "Options": options}
    assert calls.call("IpamDriver.RequestAddress", asked)["Address"] == "172.20.0.77/16"


def test_a_full_pool_says_so_in_both_dialects(light: Plugin) -> None:
    """P32."""
    dockerd = light.dockerd()
    pool = dockerd.call("IpamDriver.RequestPool", {"Pool": "172.20.0.0/30"})["PoolID"]
    dockerd.call("IpamDriver.RequestAddress", {"PoolID": pool, "Options": GATEWAY})
    asked = json.dumps({"PoolID": pool}).encode()
    assert json.loads(dockerd.send("IpamDriver.RequestAddress", asked).body)["Address"] == "172.20.0.2/30"
    before = light.rows()
    reply = dockerd.send("IpamDriver.RequestAddress", asked)
    told = json.loads(reply.body)
    assert reply.status == 500
    assert told["Err"] == told["Error"]
    assert "no free address in plain pool 172.20.0.0/30" in told["Err"]
    assert light.rows() == before


def test_releasing_what_is_unknown_succeeds(light: Plugin) -> None:
    """P33."""
    dockerd = light.dockerd()
    create_network(dockerd)
    before = light.rows()
    for pool, address in (
        ("dcos/v4", "9.0.0.250"),
        ("dcos/v4", "8.8.8.8"),
        ("dcos/v4", "::1"),
        ("nix/v4", "9.0.0.130"),
    ):
        assert dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": address}) == {}
    assert dockerd.call("IpamDriver.ReleasePool", {"PoolID": "nix/v4"}) == {}
    assert light.rows() == before


def test_a_released_address_of_an_endpoint_waits_for_the_endpoint(light: Plugin) -> None:
    """More than P33: a release names no owner, and must not give a living container's address away."""
    dockerd = light.dockerd()
    endpoint = create_endpoint(dockerd, create_network(dockerd)["NetworkID"])
    for _ in range(2):
        dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": "dcos/v4", "Address": "9.0.0.130"})
        assert light.held()["dcos/v4 9.0.0.130"] == "leaving"
    with pytest.raises(PluginError, match=f"in use by endpoint {endpoint['EndpointID'][:12]}"):
        dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4", "Address": "9.0.0.130"})
    dockerd.call("NetworkDriver.DeleteEndpoint", endpoint)
    assert "dcos/v4 9.0.0.130" not in light.held()
