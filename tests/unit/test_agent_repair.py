# SPDX-License-Identifier: Apache-2.0
"""What the agent finds when it is told to check, and what it mends and leaves alone when it is told to repair."""

from __future__ import annotations

import pytest

from dni_driver.agent.cni import Cni, CniOptions
from dni_driver.agent.inspection import PORTION
from dni_driver.core.errors import KernelError, StoreError
from dni_driver.core.mesos.cni_wish import CniWish
from dni_driver.core.reports import Repair
from dni_driver.store import cni, networks
from dni_driver.store.forget import forget_endpoint
from tests.unit.agents import DB, NETWORK, WEB, claim, create_network, frozen, shown
from tests.unit.world import World, new, world

__all__ = ["new", "world"]


def test_check_is_clean_on_a_host_in_good_order_and_takes_one_look(world: World) -> None:
    world.run_containers()
    before = world.clock.now
    assert world.agent.check() == []
    assert world.clock.now == before


def test_check_tells_what_is_still_there_at_a_second_look(world: World) -> None:
    world.run_containers()
    world.kernel.bridges.clear()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    found = world.agent.check()
    assert [finding.about for finding in found] == ["d-dcos", f"endpoint {DB[:12]}"]


def test_check_does_not_tell_what_was_only_under_way(world: World) -> None:
    """The container ends just as it is looked at: Docker lists it no more, then the store has it no more."""
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)

    def end(seconds: float) -> None:
        world.clock.pass_by(seconds)
        with world.store.write() as tx:
            forget_endpoint(tx, DB, world.clock.now)
        world.kernel.links.popitem()

    world.agent._parts.inspection._time = type(frozen(world.clock))(clock=world.clock, sleep=end)  # noqa: SLF001
    assert world.agent.check() == []


def test_check_says_when_docker_or_kernel_could_not_be_asked(world: World) -> None:
    world.run_containers()
    world.docker.away = "dockerd is away"
    (finding,) = world.agent.check()
    assert (finding.about, finding.problem) == ("docker", "dockerd is away")


def test_repair_mends_the_kernel_and_frees_what_docker_does_not_have_within_seconds(world: World) -> None:
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.bridges.clear()
    before = world.clock.now
    repair = world.agent.repair()
    assert repair.changed[0] == "d-dcos"
    assert repair.freed == [f"endpoint {DB[:12]}: is recorded with 9.0.0.131, but Docker does not list it"]
    assert repair.findings == []
    assert world.held() == ["9.0.0.130"]
    assert world.kernel.detached == [DB]
    assert 2 <= world.clock.now - before < 10


def test_repair_does_nothing_where_nothing_is_wrong(world: World) -> None:
    world.run_containers()
    assert world.agent.repair() == Repair(changed=[], freed=[], findings=[])


@pytest.mark.parametrize("age", [0.0, 15.0, -86400.0])
def test_repair_leaves_alone_what_a_call_may_still_be_working_on(world: World, age: float) -> None:
    """Also what bears a date to come: the clock was set back, and its age is not known."""
    create_network(world.store, world.clock.now - 3600)
    world.docker.networks = (shown(),)
    claim(world.store, "9.0.0.140", world.clock.now - age)
    assert world.agent.repair().freed == []
    assert world.held() == ["9.0.0.140"]


def test_repair_leaves_alone_what_answers(world: World) -> None:
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.alive = {"9.0.0.131"}
    repair = world.agent.repair()
    assert repair.freed == []
    assert [finding.about for finding in repair.findings] == [f"endpoint {DB[:12]}"]


def test_repair_leaves_alone_what_docker_lists_at_the_second_look(world: World) -> None:
    world.run_containers()
    late, world.docker.networks = world.docker.networks, (shown((WEB, "web", "9.0.0.130")),)
    looks: list[None] = []

    def appear() -> None:
        looks.append(None)
        if len(looks) == 1:
            return
        world.docker.networks = late

    world.docker.when_asked = appear
    assert world.agent.repair().freed == []
    assert world.held() == ["9.0.0.130", "9.0.0.131"]


def test_repair_mends_the_kernel_although_docker_is_away(world: World) -> None:
    world.run_containers()
    world.kernel.bridges.clear()
    world.docker.away = "dockerd is away"
    repair = world.agent.repair()
    assert repair.changed == ["d-dcos"]
    assert (repair.freed, [finding.about for finding in repair.findings]) == ([], ["docker"])


def test_repair_frees_although_the_kernel_refuses_and_says_both(world: World) -> None:
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.refusals = [KernelError("nft said no"), KernelError("nft said no")]
    repair = world.agent.repair()
    assert world.held() == ["9.0.0.130"]
    assert repair.findings[0].problem == "nft said no"


def test_a_network_name_in_messages_is_dockers(world: World) -> None:
    world.run_containers()
    with world.store.write() as tx:
        networks.set_name(tx, NETWORK, "front")
    world.docker.networks = ()
    assert "network front" in [finding.about for finding in world.agent.check()]


def test_a_repair_that_runs_out_of_time_frees_a_part_and_says_how_much_is_left(world: World) -> None:
    create_network(world.store, world.clock.now - 3600)
    world.docker.networks = (shown(),)
    for last in range(130, 230):
        claim(world.store, f"9.0.0.{last}", world.clock.now - 3600)
    world.kernel.when_asked = lambda: world.clock.pass_by(1)
    repair = world.agent.repair()
    assert len(repair.freed) == PORTION
    (told,) = [finding for finding in repair.findings if finding.about == "repair"]
    assert told.problem.startswith("had no time for 36 more")
    assert told.mend == "dni repair"
    assert len(world.agent.repair().freed) == 36


def test_repair_mends_kernel_and_docker_although_a_container_of_cni_cannot_be_freed_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    mesos = Cni(world.store, world.kernel, CniOptions(ipam="dni"), frozen(world.clock), lambda: None)
    mesos.attach(CniWish(overlay="dcos", container="one", ifname="eth0", sandbox="/run/netns/one"))
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.bridges.clear()
    world.kernel.lost_sandboxes.add("/run/netns/one")
    monkeypatch.setattr(cni, "forget_endpoint", refuse)
    repair = world.agent.repair()
    assert repair.changed[0] == "d-dcos"
    assert repair.freed == [f"endpoint {DB[:12]}: is recorded with 9.0.0.131, but Docker does not list it"]
    assert ("repair", "the disk is full") in [(finding.about, finding.problem) for finding in repair.findings]
    assert "container one" in [finding.about for finding in repair.findings]
