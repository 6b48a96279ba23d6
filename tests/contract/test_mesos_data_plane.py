# SPDX-License-Identifier: Apache-2.0
"""What the data plane of a host of DC/OS leaves to Mesos and dcos-net, and what dni does there."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dni_driver.agent.cni import Cni, CniOptions
from dni_driver.agent.hosted import Hosted
from dni_driver.core.errors import Refused
from dni_driver.core.hosting import Hosting
from dni_driver.core.mesos.cni_wish import CniWish
from dni_driver.core.mtu import Underlay, outdated
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.wanted import wanted
from dni_driver.kernel.firewall import iptables, nft
from dni_driver.registry import open_registry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.contract.mesos_host import OTHER, held, joining, mesos, registry, store
from tests.fakes import FakeClock
from tests.mesos_agent import FakeMesosAgent, agent, overlay, overlay6
from tests.unit.agents import AgentsKernel, create_network, frozen

__all__ = ["mesos", "registry", "store"]


@pytest.mark.parametrize("bridge", [None, {"ip": "9.0.2.128/25", "name": "d-dcos"}])
def test_the_docker_half_is_the_second_half_with_and_without_a_bridge_of_mesos(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, bridge: Any
) -> None:
    mesos.answer = agent(overlay(docker_bridge=bridge))
    assert joining(store, registry).join() == []
    assert [str(half) for half in read_all(store).halves("dcos")] == ["9.0.2.128/25"]
    assert Hosted(store, registry).look() == ()


def test_what_mesos_masquerades_is_left_to_it_and_comes_back_to_us_with_the_local_registry(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, tmp_path: Path
) -> None:
    mesos.answer = agent(overlay(), overlay6())
    joining(store, registry).join()
    create_network(store, 1.0)
    Hosted(store, registry).look()
    assert read_all(store).hosting == Hosting(carries=True, masqueraded=frozenset({"dcos"}))
    assert [policy.masquerade for policy in wanted(read_all(store)).policies] == [False]
    Hosted(store, open_registry("local", tmp_path)).look()
    assert [policy.masquerade for policy in wanted(read_all(store)).policies] == [True]


def test_the_mesos_half_is_left_to_mesos(store: Store, registry: MesosRegistry, tmp_path: Path) -> None:
    """Also where dni had it before, with another registry."""
    kernel, file = AgentsKernel(), tmp_path / "dcos.conf"

    def cni(options: CniOptions) -> Cni:
        return Cni(store, kernel, options, frozen(FakeClock()), lambda: None)

    joining(store, registry).join()
    create_network(store, 1.0)
    assert cni(CniOptions(directory=tmp_path)).round() == []
    assert file.exists()
    assert "m-dcos" in [bridge.name for bridge in wanted(read_all(store)).bridges]
    assert '"m-dcos" : jump to-dcos' in nft.ruleset(wanted(read_all(store)))

    Hosted(store, registry).look()
    assert cni(CniOptions()).round() == []
    target = wanted(read_all(store))
    assert not file.exists()
    assert [bridge.name for bridge in target.bridges] == ["d-dcos"]
    assert 'oifname vmap { "d-dcos" : jump to-dcos }' in nft.ruleset(target)
    assert 'iifname { "d-dcos", "m-dcos" } accept' in nft.ruleset(target)
    assert 'set bridges { type ifname; elements = { "d-dcos", "m-dcos" }; }' in nft.ruleset(target), "it tunnels not"
    rules = iptables.chain_rules(target.policies, [])
    assert [rule for rule in rules if "m-dcos" in rule] == ["-A DNI-FORWARD -i d-dcos -o m-dcos -j ACCEPT"]


def test_a_container_that_dni_cni_has_from_before_goes_on_and_no_other_comes(
    store: Store, registry: MesosRegistry
) -> None:
    def cni(options: CniOptions) -> Cni:
        return Cni(store, AgentsKernel(), options, frozen(FakeClock()), lambda: None)

    def wish(container: str) -> CniWish:
        return CniWish(overlay="dcos", container=container, ifname="eth0", sandbox=f"/run/netns/{container}")

    joining(store, registry).join()
    cni(CniOptions(ipam="dni")).attach(wish("c1"))
    Hosted(store, registry).look()
    with pytest.raises(Refused, match=r"Mesos hands out the Mesos halves of this host itself, .*that Mesos writes"):
        cni(CniOptions()).attach(wish("c2"))
    (told,) = cni(CniOptions()).round()
    assert told.endswith("so host-local cannot hand out its Mesos half yet: stop them")
    assert [bridge.name for bridge in wanted(read_all(store)).bridges] == ["m-dcos"]
    cni(CniOptions()).detach(wish("c1"))
    assert cni(CniOptions()).round() == []
    assert wanted(read_all(store)).bridges == ()


def test_vtep_and_ways_to_other_hosts_are_dcos_nets_whatever_the_registry_told_before(
    store: Store, registry: MesosRegistry
) -> None:
    joining(store, registry).join()
    Hosted(store, registry).look()
    vtep = Vtep(IPv4Interface("44.128.0.2/20"))
    peer = Peer(agent_ip=OTHER, vtep=Vtep(IPv4Interface("44.128.0.3/20")), subnets=(held("9.0.3.0/24"),))
    known = msgspec.structs.replace(read_all(store), vtep=vtep, peers=[peer])
    assert (wanted(known).vtep, wanted(known).peers, wanted(known).hosted) == (None, [], True)
    alone = msgspec.structs.replace(known, hosting=Hosting())
    assert (wanted(alone).vtep, wanted(alone).peers, wanted(alone).hosted) == (vtep, [peer], False)


@pytest.mark.parametrize(
    "changed",
    [
        {"mesos_bridge": None},
        {"state": {"status": "STATUS_FAILED", "error": "no"}},
        {"info": {"name": "dcos", "prefix": 24, "subnet": "9.0.0.0/8", "prefix6": 80, "subnet6": "fd01:c::/64"}},
    ],
)
def test_what_mesos_may_not_masquerade_we_do(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, changed: Any
) -> None:
    mesos.answer = agent(overlay(**changed))
    Hosted(store, registry).look()
    assert read_all(store).hosting.masqueraded == frozenset()


def test_containers_send_no_more_than_the_vtep_of_dcos_lets_through(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    part = overlay()
    part["backend"]["vxlan"]["vtep_mtu"] = 1400
    mesos.answer = agent(part)
    joining(store, registry).join()
    create_network(store, 1.0)
    Hosted(store, registry).look()
    assert list(outdated(read_all(store), Underlay(link="eth0", mtu=1500)).values()) == [1400]
    assert list(outdated(read_all(store), Underlay(link="eth0", mtu=1440)).values()) == [1390]
    cni = Cni(store, AgentsKernel(), CniOptions(), frozen(FakeClock()), lambda: None)
    assert cni.configuration("dcos", None, "plain")["mtu"] == 1400
