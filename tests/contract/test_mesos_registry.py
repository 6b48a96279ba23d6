# SPDX-License-Identifier: Apache-2.0
"""The registry of a host of DC/OS, over real HTTP: it tells what Mesos has given, and says what Mesos does not do."""

from __future__ import annotations

import threading
import time
from ipaddress import IPv4Interface, IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.fullness import Fullness
from dni_driver.agent.hearing import Hearing
from dni_driver.agent.hosted import Hosted
from dni_driver.core.addresses.counts import Counts
from dni_driver.core.errors import Exhausted, InUse, NotFound, Refused, Unavailable
from dni_driver.core.overlays import Overlay, define
from dni_driver.core.peers import Vtep
from dni_driver.registry import Host, Lease, News, open_registry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.store import Store, overlays
from tests.contract.mesos_host import DCOS, OTHER, held, mesos, registry, store
from tests.fakes import AGENT, FakeClock
from tests.mesos_agent import FakeMesosAgent, agent, overlay
from tests.unit.agents import frozen

__all__ = ["mesos", "registry", "store"]


def test_overlays_subnets_and_vtep_are_those_that_mesos_has_given(registry: MesosRegistry) -> None:
    assert registry.overlays() == [
        Overlay(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=24),
        Overlay(name="dcos6", subnet6=IPv6Network("fd01:b::/64"), prefix6=80),
    ]
    leases = [
        Lease(agent_ip=AGENT, held=held("9.0.2.0/24")),
        Lease(agent_ip=AGENT, held=held("fd01:b:0:0:2::/80", "dcos6")),
    ]
    assert registry.leases() == registry.leases(AGENT) == leases
    assert registry.leases(OTHER) == []
    vtep = Vtep(IPv4Interface("44.128.0.2/20"))
    assert registry.register(Host(agent_ip=AGENT, identity="i", boot="b")) == vtep
    (member,) = registry.members()
    assert (member.agent_ip, member.vtep, member.alive) == (AGENT, vtep, True)
    assert member.subnets == tuple(lease.held for lease in leases)
    assert registry.alive() == {AGENT}
    registry.close()


def test_an_overlay_of_mesos_is_not_removed_and_nothing_of_it_is_touched(
    store: Store, registry: MesosRegistry, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="overlay 'dcos' is Mesos'"):
        Hosted(store, registry).check_removal("dcos")
    Hosted(store, open_registry("local", tmp_path)).check_removal("dcos")


def test_what_mesos_does_not_have_is_refused_with_what_to_do(registry: MesosRegistry) -> None:
    registry.define(DCOS)
    registry.widen(DCOS)
    with pytest.raises(
        Refused, match=r"overlay 'dev' is not one of Mesos' \(dcos, dcos6\): add it to the overlay conf"
    ):
        registry.define(define("dev", [ip_network("10.64.0.0/16")]))
    with pytest.raises(InUse, match="overlay 'dcos' has other subnets in Mesos: use it as `dni overlay ls` shows it"):
        registry.define(define("dcos", [ip_network("10.64.0.0/16")]))
    with pytest.raises(Refused, match="Mesos gives overlay 'dcos' no second family"):
        registry.widen(define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:d::/64")]))
    with pytest.raises(NotFound):
        registry.widen(define("dev", [ip_network("10.64.0.0/16")]))
    with pytest.raises(Refused, match="overlay 'dcos' is Mesos': take it out of the overlay configuration"):
        registry.begin_removal("dcos", AGENT)
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.begin_removal("dev", AGENT)
    with pytest.raises(Exhausted, match=r"Mesos gives agent 192\.0\.2\.10 no more of overlay 'dcos' \(IPv4\)"):
        registry.lease("dcos", 4, AGENT)
    with pytest.raises(NotFound):
        registry.lease("dev", 4, AGENT)


def test_leases_are_confirmed_as_mesos_has_them_and_given_back_by_the_master_alone(registry: MesosRegistry) -> None:
    registry.confirm(held("9.0.2.0/24"), AGENT)
    with pytest.raises(InUse, match=r"Mesos gives this agent 9\.0\.2\.0/24 of it now, no longer 9\.0\.3\.0/24"):
        registry.confirm(held("9.0.3.0/24"), AGENT)
    with pytest.raises(InUse, match="Mesos gives this agent nothing of it now"):
        registry.confirm(held("fd01:b::/80"), AGENT)
    with pytest.raises(NotFound):
        registry.confirm(held("10.64.0.0/24", "dev"), AGENT)
    with pytest.raises(Refused, match=r"curl -X POST http://MASTER:5050/overlay-master/agents/delete"):
        registry.give_back(held("9.0.2.0/24"), AGENT)
    registry.give_back(held("9.0.9.0/24"), AGENT)
    registry.give_back(held("9.0.2.0/24"), OTHER)


def test_there_are_no_peers_to_reach_as_dcos_net_reaches_them(registry: MesosRegistry) -> None:
    assert registry.news(0) == News(whole=True)
    assert registry.news(0) == News()
    closing = threading.Timer(0.05, registry.close)
    closing.start()
    begun = time.monotonic()
    assert registry.news(60) == News()
    assert time.monotonic() - begun < 30
    closing.join()


def test_membership_is_mesos(registry: MesosRegistry, mesos: FakeMesosAgent) -> None:
    registry.set_backend("dcos", "vxlan")
    with pytest.raises(Refused, match="dcos-net carries the packets of overlay 'dcos' by VXLAN"):
        registry.set_backend("dcos", "direct")
    with pytest.raises(NotFound):
        registry.set_backend("dev", "vxlan")
    registry.use(AGENT, ["dcos"])
    registry.seen(AGENT)
    assert registry.reclaim() == []
    with pytest.raises(InUse, match=str(AGENT)):
        registry.forget(AGENT)
    with pytest.raises(Refused, match=r"forgotten by the leading master: curl -X POST http://MASTER:5050"):
        registry.forget(OTHER)
    with pytest.raises(Refused, match=r"Mesos knows this host as 192\.0\.2\.10, dni as 192\.0\.2\.20"):
        registry.register(Host(agent_ip=OTHER, identity="i", boot="b"))
    mesos.answer = agent(overlay(backend={}))
    with pytest.raises(Unavailable, match=r"Mesos has given agent 192\.0\.2\.10 no VTEP"):
        registry.register(Host(agent_ip=AGENT, identity="i", boot="b"))


def test_of_other_agents_nothing_is_told_and_that_is_said_in_words(
    store: Store, registry: MesosRegistry, tmp_path: Path
) -> None:
    clock = FakeClock()
    registry.tell(AGENT, Counts(as_of=1.0))
    with store.write() as tx:
        overlays.set_agent_ip(tx, AGENT)
        overlays.put(tx, DCOS)
        overlays.add_agent_subnet(tx, held("9.0.2.0/24"))
    fullness = Fullness(store, registry, Hearing(registry, clock), frozen(clock), [tmp_path / "cni"])
    usage = fullness.usage("dcos")
    mesos = "Mesos tells an agent of no other: ask each at its own (dni overlay usage)"
    said = f"of other agents nothing new is known: {mesos}"
    assert [(agent.agent, agent.as_of) for agent in usage.agents] == [(str(AGENT), clock.now)]
    assert usage.problem == said
    asked = fullness.room("dcos", OTHER, "docker", 1)
    assert (asked.room, asked.free, asked.as_of) == (None, None, None)
    assert asked.why == f"it is not known what agent 192.0.2.20 holds; {said}"
    assert (fullness.room("dcos", None, "docker", 125).room, fullness.room("dcos", AGENT, "docker", 126).room) == (
        True,
        False,
    )
