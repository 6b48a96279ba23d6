# SPDX-License-Identifier: Apache-2.0
"""DC/OS's JSON: what it recorded reads back equal, and what we write is what its data plane needs."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Interface, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Unavailable
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import VTEP_SUBNET, AgentSubnet, Overlay, define
from dni_driver.core.peers import Vtep
from dni_driver.core.records import Records
from dni_driver.mesos.dcos_json import agent_of, cluster_of
from dni_driver.registry import Member
from tests.dcos_net import Poller, remote

DCOS = define("dcos", [ip_network("9.0.0.0/8")])
DCOS6 = define("dcos6", [ip_network("fd01:b::/64")])
DUAL = define("dual", [ip_network("10.64.0.0/16"), ip_network("fd01:d::/64")])

VXLAN = {
    "vni": 1024,
    "vtep_ip": "44.128.0.2/20",
    "vtep_ip6": "fd01:a::2/64",
    "vtep_mac": "70:b3:d5:80:00:02",
    "vtep_name": "vtep1024",
}
RECORDED_AGENT: dict[str, Any] = {
    "configuration_attempts": 1,
    "ip": "10.0.0.2",
    "overlays": [
        {
            "backend": {"vxlan": VXLAN},
            "docker_bridge": {"ip": "9.0.2.128/25", "name": "d-dcos"},
            "info": {"enabled": True, "name": "dcos", "prefix": 24, "subnet": "9.0.0.0/8"},
            "mesos_bridge": {"ip": "9.0.2.0/25", "name": "m-dcos"},
            "state": {"status": "STATUS_OK"},
            "subnet": "9.0.2.0/24",
        },
        {
            "backend": {"vxlan": VXLAN},
            "docker_bridge": {"ip6": "fd01:b::2:8000:0:0/81", "name": "d-dcos6"},
            "info": {"enabled": True, "name": "dcos6", "prefix6": 80, "subnet6": "fd01:b::/64"},
            "mesos_bridge": {"ip6": "fd01:b:0:0:2::/81", "name": "m-dcos6"},
            "state": {"status": "STATUS_OK"},
            "subnet6": "fd01:b:0:0:2::/80",
        },
    ],
}
RECORDED_FAILURE = {
    "configuration_attempts": 4,
    "ip": "10.0.0.2",
    "overlays": [
        {
            "backend": {},
            "info": {"enabled": True, "name": "dcos", "prefix": 24, "subnet": "9.0.0.0/8"},
            "state": {
                "error": "Failed to execute 'sh': Error response from daemon: no such thing",
                "status": "STATUS_FAILED",
            },
            "subnet": "9.0.2.0/24",
        }
    ],
}
RECORDED_UNREGISTERED = {"configuration_attempts": 0, "ip": "10.0.0.2"}
RECORDED_STATE = {
    "agents": [
        {
            "ip": "10.10.0.120",
            "overlays": [
                {
                    "backend": {
                        "vxlan": {
                            "vni": 1024,
                            "vtep_ip": "198.15.0.1/20",
                            "vtep_mac": "70:b3:d5:0f:00:01",
                            "vtep_name": "vtep1024",
                        }
                    },
                    "docker_bridge": {"ip": "44.128.0.128/25", "name": "d-dcos"},
                    "info": {"name": "dcos", "prefix": 24, "subnet": "44.128.0.0/16"},
                    "state": {"status": "STATUS_OK"},
                    "subnet": "44.128.0.0/24",
                }
            ],
        }
    ],
    "network": {
        "overlays": [{"name": "dcos", "prefix": 24, "subnet": "44.128.0.0/16"}],
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "vtep_subnet": "198.15.0.0/20",
    },
}
RECORDED_NETWORK_ONLY = {"network": RECORDED_STATE["network"]}


@pytest.mark.parametrize(
    ("recorded", "kind"),
    [
        (RECORDED_AGENT, dcos.Agent),
        (RECORDED_FAILURE, dcos.Agent),
        (RECORDED_UNREGISTERED, dcos.Agent),
        (RECORDED_STATE, dcos.Cluster),
        (RECORDED_NETWORK_ONLY, dcos.Cluster),
    ],
)
def test_what_dcos_recorded_is_read_and_written_back_byte_for_byte(
    recorded: Any, kind: type[dcos.Agent | dcos.Cluster]
) -> None:
    text = json.dumps(recorded, sort_keys=True, separators=(",", ":")).encode()
    assert dcos.write(msgspec.json.decode(text, type=kind)) == text


def test_what_later_versions_may_add_is_passed_over() -> None:
    text = json.dumps({**RECORDED_AGENT, "zone": "a", "overlays": [{**RECORDED_AGENT["overlays"][0], "x": {}}]})
    assert msgspec.json.decode(text, type=dcos.Agent).overlays[0].subnet == "9.0.2.0/24"


def held(subnet: str, overlay: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=overlay, subnet=ip_network(subnet))


def vtep(number: int) -> Vtep:
    return Vtep(IPv4Interface(f"44.128.0.{number}/20"))


def host(number: int, *overlays: Overlay, **changed: Any) -> Records:
    """Answer the records of the n-th agent of a cluster."""
    known = Records(
        overlays=list(overlays or (DCOS, DCOS6)),
        agent_subnets=[held(f"9.0.{number}.0/24"), held(f"fd01:b:0:0:{number}::/80", "dcos6")],
        pools=[],
        addresses=[],
        networks=[],
        endpoints=[],
        agent=IPv4Address(f"10.0.0.{number}"),
        vtep=vtep(number),
    )
    return msgspec.structs.replace(known, **changed)


def member(number: int, known: Vtep | None) -> Member:
    subnets = (held(f"9.0.{number}.0/24"),)
    return Member(agent_ip=IPv4Address(f"10.0.0.{number}"), vtep=known, subnets=subnets, alive=False, since=0.0)


def written(value: dcos.Agent | dcos.Cluster) -> Any:
    return json.loads(dcos.write(value))


def test_an_agent_of_ours_is_written_as_dcos_writes_that_very_agent() -> None:
    assert written(agent_of(host(2), {})) == RECORDED_AGENT
    assert (
        dcos.write(agent_of(host(2), {}))
        == json.dumps(RECORDED_AGENT, sort_keys=True, separators=(",", ":")).encode()
    )


def test_an_overlay_that_does_not_work_has_failed_with_the_reason() -> None:
    dcos4, dcos6 = written(agent_of(host(2), {"dcos": "it is full"}))["overlays"]
    assert dcos4["state"] == {"error": "it is full", "status": "STATUS_FAILED"}
    assert dcos6["state"] == {"status": "STATUS_OK"}


def test_an_agent_that_holds_nothing_is_written_as_one_that_has_not_registered() -> None:
    assert written(agent_of(host(2, agent_subnets=[]), {})) == RECORDED_UNREGISTERED


def test_before_the_agent_ip_is_known_there_is_no_agent() -> None:
    with pytest.raises(Unavailable, match="does not know its agent IP yet"):
        agent_of(host(2, agent=None), {})


def test_both_families_of_one_overlay_are_one_entry() -> None:
    mine = [held("10.64.1.0/24", "dual"), held("fd01:d:0:0:1::/80", "dual")]
    (dual,) = written(agent_of(host(2, DUAL, agent_subnets=mine), {}))["overlays"]
    assert dual["info"] == {
        "enabled": True,
        "name": "dual",
        "prefix": 24,
        "prefix6": 80,
        "subnet": "10.64.0.0/16",
        "subnet6": "fd01:d::/64",
    }
    assert dual["docker_bridge"] == {"ip": "10.64.1.128/25", "ip6": "fd01:d::1:8000:0:0/81", "name": "d-dual"}


def test_of_several_agent_subnets_dcos_is_told_the_first() -> None:
    """dcos-net keeps one under each VTEP: a second would take the first one's place on every host."""
    (overlay,) = written(agent_of(host(2, DCOS, agent_subnets=[held("9.0.7.0/24"), held("9.0.1.0/24")]), {}))[
        "overlays"
    ]
    assert overlay["subnet"] == "9.0.7.0/24"


def test_an_agent_without_a_vtep_has_a_backend_without_vxlan_and_dcos_net_leaves_it_alone() -> None:
    answer = written(agent_of(host(2, vtep=None), {}))
    assert [overlay["backend"] for overlay in answer["overlays"]] == [{}, {}]
    poller = Poller()
    poller.poll(answer)
    assert poller.skipped == ["dcos", "dcos6"]
    assert (poller.local, poller.told) == ([], {})


def test_the_state_has_every_agent_and_the_network_in_defaults_of_dcos() -> None:
    known = host(2)
    held_here = tuple(known.agent_subnets)
    members = [
        Member(agent_ip=IPv4Address("10.0.0.2"), vtep=vtep(2), subnets=held_here, alive=True, since=0.0),
        member(1, vtep(1)),
        member(3, None),
    ]
    state = written(cluster_of(known.overlays, members, VTEP_SUBNET))
    assert state["network"] == {
        "overlays": [
            {"enabled": True, "name": "dcos", "prefix": 24, "subnet": "9.0.0.0/8"},
            {"enabled": True, "name": "dcos6", "prefix6": 80, "subnet6": "fd01:b::/64"},
        ],
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
    }
    assert [agent["ip"] for agent in state["agents"]] == ["10.0.0.2", "10.0.0.1", "10.0.0.3"]
    mine, first, third = state["agents"]
    assert "configuration_attempts" not in mine
    assert {key: mine[key] for key in ("ip", "overlays")} == {key: RECORDED_AGENT[key] for key in ("ip", "overlays")}
    assert first["overlays"][0]["backend"]["vxlan"]["vtep_mac"] == "70:b3:d5:80:00:01"
    assert third["overlays"][0]["backend"] == {}


def test_an_empty_cluster_is_its_network_alone() -> None:
    state = written(cluster_of([], [], VTEP_SUBNET))
    assert set(state) == {"network"}
    assert "overlays" not in state["network"]


def test_dcos_net_programs_its_overlay_from_our_json() -> None:
    """Two nodes poll us; what each sets up locally and for the other is what the documentation lists."""
    nodes = {number: Poller() for number in (1, 2)}
    for number, poller in nodes.items():
        poller.poll(written(agent_of(host(number), {})))
        poller.poll(written(agent_of(host(number), {})))
    assert nodes[1].local == [
        "ip link add vtep1024 type vxlan id 1024 dstport 64000",
        "ip link set vtep1024 address 70:b3:d5:80:00:01 up",
        "ip addr replace 44.128.0.1/20 dev vtep1024",
        "ip -6 addr replace fd01:a::1/64 dev vtep1024",
        "ip rule add from 9.0.0.0/8 lookup 42",
    ]
    assert remote(nodes[2].told.values()) == [
        "ip neigh replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 dev vtep1024 nud permanent",
        "ip route replace 9.0.2.0/24 via 44.128.0.2",
        "bridge fdb replace 70:b3:d5:80:00:02 dev vtep1024 dst 10.0.0.2 self",
        "ip route replace 10.0.0.2/32 via 44.128.0.2 table 42",
        "ip neigh replace fd01:a::2 lladdr 70:b3:d5:80:00:02 dev vtep1024 nud permanent",
        "ip route replace fd01:b:0:0:2::/80 via fd01:a::2",
    ]


def test_dcos_net_programs_the_same_from_our_json_as_from_its_own() -> None:
    ours, theirs = Poller(), Poller()
    ours.poll(written(agent_of(host(2), {})))
    theirs.poll(RECORDED_AGENT)
    assert (ours.local, ours.told) == (theirs.local, theirs.told)


def test_an_overlay_that_failed_is_left_out_until_it_works() -> None:
    poller = Poller()
    poller.poll(written(agent_of(host(1), {"dcos": "it is full"})))
    assert poller.skipped == ["dcos"]
    assert not any("lookup 42" in command for command in poller.local)
    poller.poll(written(agent_of(host(1), {})))
    assert "ip rule add from 9.0.0.0/8 lookup 42" in poller.local


def test_a_second_agent_subnet_leased_later_changes_nothing_for_dcos_net() -> None:
    poller = Poller()
    poller.poll(written(agent_of(host(1), {})))
    before = dict(poller.told)
    poller.poll(written(agent_of(host(1, agent_subnets=[*host(1).agent_subnets, held("9.0.9.0/24")]), {})))
    assert poller.told == before


TEXTS = st.none() | st.text(max_size=5)
OVERLAYS = st.builds(
    dcos.AgentOverlay,
    info=st.builds(
        dcos.OverlayInfo, name=st.text(max_size=5), enabled=st.booleans(), prefix=st.none() | st.integers(0, 32)
    ),
    backend=st.builds(dcos.Backend),
    subnet=TEXTS,
    mesos_bridge=st.none() | st.builds(dcos.Bridge, name=st.text(max_size=5), ip=TEXTS),
    state=st.none() | st.builds(dcos.State, status=st.sampled_from(["STATUS_OK", "STATUS_FAILED"]), error=TEXTS),
)


@given(st.builds(dcos.Agent, ip=st.text(max_size=5), overlays=st.lists(OVERLAYS, max_size=3)))
def test_whatever_is_written_reads_back_equal_sorted_and_without_nulls(agent: dcos.Agent) -> None:
    text = dcos.write(agent)
    assert msgspec.json.decode(text, type=dcos.Agent) == agent
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert None not in _leaves(json.loads(text))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)] if value else [None]
    return [value]
