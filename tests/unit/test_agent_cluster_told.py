# SPDX-License-Identifier: Apache-2.0
"""Around one real ZooKeeper each agent tells how full all are and what is wrong with others, and writes it once."""

from __future__ import annotations

import time
from ipaddress import ip_network

import pytest

from dni_driver.agent import hearing, loops
from dni_driver.agent.loop import Pace
from dni_driver.core.addresses import telling
from dni_driver.core.addresses.counts import Counts
from dni_driver.core.overlays import Address
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from dni_driver.registry.zookeeper.link import Changes, Link
from dni_driver.store import pools
from tests.unit.agents import claim
from tests.unit.cluster import Host, Make, alive, eventually, join, make, url

pytestmark = pytest.mark.zookeeper


__all__ = ["make", "url"]


def used(host: Host, agent: Host) -> int | None:
    """Answer how many addresses of its Docker half an agent has handed out, as another one says; None for unknown."""
    found = (one for one in host().usage("dcos").agents if one.agent == str(agent.ip))
    return next((subnet.docker.used for one in found for subnet in one.subnets), None)


def test_each_agent_tells_how_full_all_are(make: Make) -> None:
    """In the same words as the one that is asked about; and no longer, once that is forgotten."""
    hosts = join(make, 3)
    one, two, three = hosts
    for host in hosts:
        eventually(lambda host=host: all(used(host, of) == 0 for of in hosts))  # type: ignore[misc]
    begun = time.time()
    take(three, 125)
    eventually(lambda: used(one, three) == 125)
    for host in (one, two):
        room = host().room("dcos", three.ip, "docker", 1)
        assert (room.free, room.as_of is not None and room.as_of >= begun) == (sum(more_of(three)), True)
        assert host().room("dcos", host.ip, "docker", 125).room is True
        (mine,) = (agent for agent in three().usage("dcos").agents if agent.here)
        (theirs,) = (agent for agent in host().usage("dcos").agents if agent.agent == str(three.ip))
        assert theirs.subnets[0] == mine.subnets[0]
        assert theirs.subnets[0].since is not None
    three.stop()
    eventually(lambda: alive(one)[str(three.ip)] is False)
    assert used(two, three) == 125
    one().forget_agent(three.ip)
    eventually(lambda: str(three.ip) not in two.knows())
    assert one.registry is not None
    assert one.registry.told([three.ip]) == {}
    assert [agent.agent for agent in two().usage("dcos").agents] == [str(two.ip), str(one.ip)]
    three.start()
    eventually(lambda: used(one, three) == 125)


def wrong_with(host: Host, agent: Host) -> list[str] | None:
    """Answer what is wrong with an agent, as some host says; None where it does not know."""
    return next(one.problems for one in host().agents() if one.agent == str(agent.ip))


def test_what_is_wrong_with_one_agent_every_other_says_until_it_is_over_or_that_is_forgotten(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pace in ("DOCKER", "TELLING"):
        monkeypatch.setattr(loops, pace, Pace(every=0.1))
    monkeypatch.setattr(telling, "EVERY", 0.2)
    monkeypatch.setattr(hearing, "LATELY", 0.1)
    hosts = join(make, 3)
    one, two, three = hosts
    for host in hosts:
        eventually(lambda host=host: all(wrong_with(host, of) == [] for of in hosts))  # type: ignore[misc]
    begun = time.time()
    three.docker.away = "dockerd is out of order"
    for host in hosts:
        eventually(lambda host=host: "dockerd is out of order" in (wrong_with(host, three) or []))  # type: ignore[misc]
    (report,) = (agent for agent in one().status().cluster.agents if agent.agent == str(three.ip))
    assert (report.alive, report.as_of is not None and report.as_of >= begun) == (True, True)
    assert (wrong_with(one, two), one().status().problems) == ([], [])
    three.docker.away = None
    eventually(lambda: wrong_with(one, three) == [])
    three.docker.away = "dockerd is out of order"
    eventually(lambda: wrong_with(two, three) != [])
    three.stop()
    eventually(lambda: alive(one)[str(three.ip)] is False)
    assert wrong_with(two, three) == ["dockerd is out of order"], "its last word"
    one().forget_agent(three.ip)
    assert str(three.ip) not in alive(two)


def take(host: Host, number: int) -> None:
    """Hand out so many addresses of the Docker half."""
    first = ip_network(host.holds()[0].split()[1]).network_address + 130
    with host.store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, time.time())
    for one in range(number):
        claim(host.store, str(first + one), time.time())


def more_of(host: Host) -> list[int]:
    """Answer what is free in the agent subnets that a host leased as it filled up."""
    (mine,) = (agent for agent in host().usage("dcos").agents if agent.here)
    return [subnet.docker.free or 0 for subnet in mine.subnets]


def test_an_agent_that_dcos_deletes_is_told_of_no_more(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: used(one, two) == 0)
    two.stop()
    eventually(lambda: alive(one)[str(two.ip)] is False)
    one().purge([two.ip])
    assert one.registry is not None
    assert one.registry.told([two.ip]) == {}


def test_where_nothing_changes_nothing_is_written_of_how_full_agents_are(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted anew again and again all the same, by agents whose Mesos half may change without the store."""
    monkeypatch.setattr(telling, "LOOKS", 0.0)
    hosts = join(make, 3)
    for host in hosts:
        eventually(lambda host=host: all(used(host, of) == 0 for of in hosts))  # type: ignore[misc]
    looked: list[Address] = []
    tell = ZooKeeperRegistry.tell

    def told(registry: ZooKeeperRegistry, agent_ip: Address, counts: Counts) -> None:
        tell(registry, agent_ip, counts)
        looked.append(agent_ip)

    written: list[str] = []
    commit = Link.commit

    def committed(link: Link, changes: Changes) -> list[object]:
        written.extend(operation.path for operation in changes.transaction.operations)
        return commit(link, changes)

    def is_quiet() -> bool:
        """Tell whether each has told three times since anything was written last."""
        if written:
            written.clear()
            looked.clear()
        return all(looked.count(host.ip) > 3 for host in hosts) and not written

    monkeypatch.setattr(ZooKeeperRegistry, "tell", told)
    monkeypatch.setattr(Link, "commit", committed)
    eventually(is_quiet)
    take(hosts[0], 1)
    eventually(lambda: used(hosts[1], hosts[0]) == 1)
    assert len([path for path in written if "/counts/" in path]) == 1
