# SPDX-License-Identifier: Apache-2.0
"""What the agent answers to DC/OS is what store and registry hold, and deleting gives up what the dead held."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.dcos import DcosView
from dni_driver.core.errors import InUse
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import AgentSubnet
from dni_driver.registry import Host, Member, Registry, open_registry
from dni_driver.store import Store, overlays, peers
from tests.fakes import AGENT, DCOS, DUAL
from tests.members import joined

DEAD = IPv4Address("192.0.2.77")
ALIVE = IPv4Address("192.0.2.78")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry("local", tmp_path)
    for overlay in (DCOS, DUAL):
        registry.define(overlay)
    gone = joined(open_registry("local", tmp_path), DEAD, ALIVE)
    registry.register(Host(agent_ip=AGENT, identity="me", boot="b"))
    for agent in (AGENT, DEAD, ALIVE):
        registry.lease("dcos", 4, agent)
    gone.close()
    registry.lease("dual", 6, DEAD)
    yield registry
    registry.close()


def view(store: Store, registry: Registry, *problems: str) -> DcosView:
    return DcosView(store, registry, lambda: problems)


def states(agent: dcos.Agent) -> dict[str, dcos.State | None]:
    return {overlay.info.name: overlay.state for overlay in agent.overlays}


def test_an_agent_answers_what_its_store_holds(store: Store, registry: Registry) -> None:
    agent = view(store, registry).agent()
    assert (agent.ip, agent.configuration_attempts) == (str(AGENT), 1)
    assert [(overlay.subnet, overlay.subnet6) for overlay in agent.overlays] == [
        ("9.0.0.0/24", None),
        ("10.64.0.0/24", "fd01:b::/80"),
    ]
    assert set(states(agent).values()) == {dcos.State(status="STATUS_OK")}


def test_what_keeps_it_from_taking_part_is_the_error_of_that_overlay(store: Store, registry: Registry) -> None:
    problems = ("overlay 'dual': it is full: all is held", "overlay 'dual': and more", "the registry is slow")
    found = states(view(store, registry, *problems).agent())
    assert found["dual"] == dcos.State(status="STATUS_FAILED", error="it is full: all is held;and more")
    assert found["dcos"] == dcos.State(status="STATUS_OK")


def test_the_cluster_has_all_agents_and_what_they_hold(store: Store, registry: Registry) -> None:
    cluster = view(store, registry).cluster()
    assert [agent.ip for agent in cluster.agents] == [str(AGENT), str(DEAD), str(ALIVE)]
    dead = cluster.agents[1]
    assert [(one.info.name, one.subnet, one.subnet6) for one in dead.overlays] == [
        ("dcos", "9.0.1.0/24", None),
        ("dual", None, "fd01:b::/80"),
    ]


def test_a_deleted_agent_gives_up_all_it_held_and_the_next_one_gets_it(store: Store, registry: Registry) -> None:
    asked = view(store, registry)
    asked.purge([DEAD, IPv4Address("192.0.2.200")])
    assert [agent.ip for agent in asked.cluster().agents] == [str(AGENT), str(ALIVE)]
    assert registry.lease("dcos", 4, ALIVE) == AgentSubnet(overlay="dcos", subnet=ip_network("9.0.1.0/24"))
    asked.purge([])


def test_this_host_is_not_deleted_nor_anybody_named_beside_it(store: Store, registry: Registry) -> None:
    with pytest.raises(InUse, match=r"agent 192\.0\.2\.10 is alive: stop dni on that host first"):
        view(store, registry).purge([DEAD, AGENT])
    assert registry.leases(DEAD) != []


class UnreadError(Exception):
    """The registry was asked for its agents."""


def test_agents_that_the_host_follows_are_answered_without_asking_for_them(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of the registry itself, this host among the others and with what it holds."""
    follow(store, registry)
    asked = DcosView(store, registry, tuple, lambda: True)
    as_registered = asked.registered()

    def unread() -> list[Member]:
        raise UnreadError

    monkeypatch.setattr(registry, "members", unread)
    assert asked.cluster() == as_registered
    assert [agent.ip for agent in as_registered.agents] == [str(AGENT), str(DEAD), str(ALIVE)]
    with pytest.raises(UnreadError):
        DcosView(store, registry, tuple, lambda: False).cluster()


def follow(store: Store, registry: Registry) -> None:
    """Have the store know what the registry does, every agent with a VTEP, and the registry what the store holds."""
    registry.give_back(AgentSubnet(overlay="dual", subnet=ip_network("fd01:b::/80")), DEAD)
    for number, agent in enumerate((DEAD, ALIVE)):
        registry.register(Host(agent_ip=agent, identity=str(number), boot="b"))
    news = registry.news(0)
    with store.write() as tx:
        overlays.set_agent_ip(tx, AGENT)
        peers.set_vtep(tx, registry.register(Host(agent_ip=AGENT, identity="me", boot="b")))
        peers.put(tx, [peer for peer in news.peers if peer.agent_ip != AGENT])
        mine = overlays.agent_subnets(tx)
    for one in mine:
        registry.confirm(one, AGENT)
