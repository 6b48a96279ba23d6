# SPDX-License-Identifier: Apache-2.0
"""Several agents around one real ZooKeeper: they find each other, outlive its absence, and give each other up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.agent import loops
from dni_driver.agent.loop import Pace
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.errors import InUse, NotFound, Unavailable
from dni_driver.registry import Member
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from tests.lab.zookeeper import ZooKeeper
from tests.removing import remove
from tests.unit.agents import claim, create_network
from tests.unit.cluster import DEV, FIRST, PATIENCE, Host, Make, alive, eventually, join, make, url
from tests.unit.test_agent_cluster_told import used

pytestmark = pytest.mark.zookeeper


__all__ = ["make", "url"]


AT_ONCE = 20.0
"""What nobody is told of is found out in half a minute."""


def test_ten_hosts_that_join_at_once_know_each_other_and_share_nothing(make: Make) -> None:
    hosts = join(make, 10)
    for host in hosts:
        eventually(lambda host=host: host.holds() != [])  # type: ignore[misc]
    eventually(lambda: all(len([one for p in host.records().peers for one in p.subnets]) == 9 for host in hosts))
    assert sorted(held for host in hosts for held in host.holds()) == [f"dcos 9.0.{n}.0/24" for n in range(10)]
    records = hosts[0].records()
    vteps = [str(peer.vtep.ip) for peer in records.peers]
    assert sorted([*vteps, str(records.vtep and records.vtep.ip)]) == sorted(f"44.128.0.{n}/20" for n in range(1, 11))
    assert alive(hosts[0]) == {str(host.ip): True for host in hosts}


def test_a_new_host_reaches_the_kernel_of_every_other_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "KERNEL", msgspec.structs.replace(loops.KERNEL, every=3600.0))
    one, two = join(make, 2)
    three = make(2).start()
    for host in (one, two):
        eventually(lambda host=host: str(three.ip) in host.kernel.peers, AT_ONCE)  # type: ignore[misc]
    eventually(lambda: three.knows() == [str(one.ip), str(two.ip)], AT_ONCE)


TERM = 4.0
"""Seconds unseen after which a host loses what it holds, in these tests."""


@pytest.mark.parametrize("goes", [Host.cut_off, Host.stop])
def test_a_host_that_is_reclaimed_hands_out_nothing_by_then_and_comes_back_with_another_subnet(
    make: Make, monkeypatch: pytest.MonkeyPatch, goes: Callable[[Host], None]
) -> None:
    """Whether it is cut off or dies, its plugin goes on."""
    monkeypatch.setattr(loops, "CLUSTER", Pace(every=0.2))
    one, two, three = (make(number) for number in range(3))
    for host in (one, two):
        host.start(TERM)
        eventually(lambda host=host: host.holds() != [])  # type: ignore[misc]
    (lost,) = two.holds()
    eventually(two.hands_out)
    goes(two)
    while lost in one.leased():
        time.sleep(0.05)
    assert not two.hands_out(), "both may hand out the same now"
    three.start(TERM)
    eventually(lambda: three.holds() == [lost])
    two.stop()
    two.start(TERM)
    eventually(lambda: two.holds() not in ([], [lost]))
    eventually(two.hands_out)
    assert len({one.holds()[0], two.holds()[0], three.holds()[0]}) == 3


def test_what_dcos_asks_of_the_master_is_answered_from_what_the_host_follows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same words, without a question for each agent."""
    hosts = join(make, 3)
    eventually(lambda: len(hosts[0]().dcos_cluster().agents) == 3)
    as_registered = hosts[0]().purge([])
    assert [len(agent.overlays) for agent in as_registered.agents] == [1, 1, 1]

    def unread(_: ZooKeeperRegistry) -> list[Member]:
        pytest.fail("every agent was asked for")

    monkeypatch.setattr(ZooKeeperRegistry, "members", unread)
    for host in hosts:
        assert host().dcos_cluster() == as_registered


def test_a_host_that_is_gone_is_shown_and_forgotten_when_somebody_says_so(make: Make) -> None:
    one, two, three = join(make, 3)
    with pytest.raises(InUse, match=r"agent 192\.0\.2\.13 is alive: stop dni on that host first"):
        one().forget_agent(three.ip)
    with pytest.raises(InUse, match="is this host"):
        one().forget_agent(one.ip)
    three.stop()
    eventually(lambda: alive(one)[str(three.ip)] is False)
    assert str(three.ip) in two.knows()
    one().forget_agent(three.ip)
    for host in (one, two):
        eventually(lambda: str(three.ip) not in host.knows(), AT_ONCE)  # noqa: B023 - done within the turn
    with pytest.raises(NotFound):
        one().forget_agent(three.ip)
    three.start()
    eventually(lambda: str(three.ip) in two.knows())


def test_a_host_that_comes_back_with_its_disk_has_what_it_had_and_one_without_starts_clean(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    held = two.holds()
    two.stop()
    two.start()
    eventually(lambda: alive(one)[str(two.ip)] is True)
    assert two.holds() == held
    two.stop()
    for file in two.disk.iterdir():
        file.unlink()
    two.start()
    eventually(lambda: two.holds() == held)
    assert two.records().addresses == []
    eventually(lambda: two.knows() == [str(one.ip)])


def test_a_host_whose_address_changes_keeps_its_subnets_and_its_vtep(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    held, vtep = two.holds(), two.records().vtep
    two.stop()
    two.ip = FIRST + 7
    two.start()
    eventually(lambda: one.knows() == [str(FIRST + 7)])
    assert (two.holds(), two.records().vtep) == (held, vtep)
    assert {str(one.subnet) for peer in one.records().peers for one in peer.subnets} == {held[0].split()[1]}


def test_two_hosts_with_one_address_are_told_apart_and_the_second_says_why(make: Make) -> None:
    one = make(0).start()
    eventually(lambda: one.holds() != [])
    second = make(0).start()
    eventually(lambda: any("another living host is agent 192.0.2.11" in p for p in second().status().problems))
    assert second.holds() == []
    with pytest.raises(InUse, match="another living host"):
        second().define_overlay(DEV)
    assert second.records().agent is None


def test_a_host_with_a_copy_of_anothers_disk_is_refused(make: Make) -> None:
    one = make(0).start()
    eventually(lambda: one.holds() != [])
    one.stop()
    copy = make(1)
    shutil.copytree(one.disk, copy.disk, dirs_exist_ok=True)
    one.start()
    eventually(lambda: alive(one) == {str(one.ip): True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dni_driver.agent.identity._BOOT", _boot_of_the_copy(copy.disk))
        copy.start()
        eventually(lambda: any("whose disk is a copy of its" in problem for problem in copy().status().problems))
    assert alive(one) == {str(one.ip): True}


def _boot_of_the_copy(disk: Path) -> Path:
    (disk / "boot").write_text("another\n")
    return disk / "boot"


def test_an_overlay_comes_and_goes_for_all(make: Make) -> None:
    one, two = join(make, 2)
    one().define_overlay(DEV)
    eventually(lambda: len(two.holds()) == 2)
    two().remove_overlay("dev")
    eventually(lambda: len(one.holds()) == 1)


def test_an_overlay_that_another_host_uses_is_not_removed_and_the_host_is_named(make: Make) -> None:
    one, two = join(make, 2)
    one().define_overlay(DEV)
    eventually(lambda: len(two.holds()) == 2)
    assert one.registry is not None
    registry = one.registry
    kept = Wish(overlay="dev", container="web")
    two().reserve(kept)
    eventually(lambda: registry.link.children("uses/2") != [])
    with pytest.raises(InUse, match=r"'dev' is in use on 192\.0\.2\.12: remove its containers and Docker networks"):
        one().remove_overlay("dev")
    assert len(one.holds()) == 2
    two().release(kept)
    eventually(lambda: is_removed(one, "dev"))
    eventually(lambda: len(two.holds()) == 1)


def is_removed(host: Host, overlay: str) -> bool:
    """Remove an overlay, unless it is in use still."""
    with suppress(InUse):
        host().remove_overlay(overlay)
        return True
    return False


def test_what_uses_an_overlay_is_told_to_the_others_by_itself(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    create_network(two.store, time.time())
    claim(two.store, "9.0.1.130", time.time())
    assert one.registry is not None
    registry = one.registry
    eventually(lambda: registry.link.children("uses/1") != [])
    with pytest.raises(InUse, match=f"'dcos' is in use on {two.ip}"):
        remove(registry, "dcos")


def test_the_backend_of_an_overlay_changes_on_every_host(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    assert one().set_backend("dcos", "direct").backend == "direct"
    eventually(lambda: [overlay.backend for overlay in two.records().overlays] == ["direct"], AT_ONCE)


def test_an_agent_whose_session_ended_is_alive_again_soon(make: Make) -> None:
    one, two = join(make, 2)
    assert two.registry is not None
    client = two.registry.link.client
    twin = KazooClient(client.hosts and ",".join(f"{h}:{p}" for h, p in client.hosts), client_id=client.client_id)
    twin.start()
    twin.stop()
    twin.close()
    eventually(lambda: alive(one)[str(two.ip)] is False)
    eventually(lambda: alive(one)[str(two.ip)] is True)


@pytest.mark.parametrize("url", ["own"], indirect=True)
def test_without_its_registry_a_host_goes_on_from_its_store_and_everything_converges_afterwards(
    make: Make, own_server: ZooKeeper
) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [] and one.holds() != [])
    eventually(lambda: used(one, two) == 0)
    own_server.stop()
    eventually(lambda: any("the registry does not answer (ZooKeeper at" in p for p in one().status().problems))
    status = one().status()
    assert status.cluster.problem is not None
    assert [(report.agent, report.alive) for report in status.cluster.agents] == [
        (str(one.ip), True),
        (str(two.ip), None),
    ]
    found = one().usage("dcos")
    assert found.problem is not None
    assert "the registry does not answer (ZooKeeper at" in found.problem
    assert [(agent.agent, agent.subnets[0].docker.free) for agent in found.agents] == [
        (str(one.ip), 125),
        (str(two.ip), 125),
    ]
    assert one().room("dcos", two.ip, "docker", 126).room is False
    for ask in (one().agents, lambda: one().define_overlay(DEV), lambda: one().set_backend("dcos", "direct")):
        with pytest.raises(Unavailable, match="the registry does not answer"):
            ask()
    held = one.holds()
    one.stop()
    one.start()
    assert (one.holds(), one.knows()) == (held, [str(two.ip)])
    assert one.kernel.reconciled.wait(PATIENCE)
    assert one().room("dcos", one.ip, "docker", 125).room is True
    unheard = one().room("dcos", two.ip, "docker", 1)
    assert (unheard.room, unheard.as_of) == (None, None)
    own_server.start()
    three = make(2).start()
    for host in (one, two):
        eventually(lambda host=host: str(three.ip) in host.knows(), 60)  # type: ignore[misc]
        eventually(lambda host=host: host().status().problems == [], 90)  # type: ignore[misc]
    assert alive(three) == {str(host.ip): True for host in (one, two, three)}
