# SPDX-License-Identifier: Apache-2.0
"""When the address of a container of CNI is taken back that went without a word."""

from __future__ import annotations

import time

import pytest

from dni_driver.agent.collector import PROBES
from dni_driver.core.deadline import deadline
from dni_driver.core.errors import KernelError
from dni_driver.core.invariants.leaks import leaks
from dni_driver.core.views import DockerView
from tests.unit.cni_host import GRACE, Host, host

__all__ = ["host"]


def test_the_docker_collector_has_nothing_to_do_with_them(host: Host) -> None:
    host.attach("one")
    host.clock.pass_by(1e6)
    assert leaks(host.records(), DockerView()) == set()


def test_what_lost_its_namespace_is_freed_after_the_grace_and_not_before(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE - 30)
    assert host.held() == {"9.0.0.2": "one"}
    host.look_for(90)
    assert host.held() == {}
    assert len(host.kernel.detached) == 1


def test_what_lost_its_namespace_keeps_its_address_for_as_long_as_its_link_cannot_be_deleted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise KernelError("link v-one cannot be deleted")

    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    with monkeypatch.context() as patched:
        patched.setattr(host.kernel, "unplug", refuse)
        host.look_for(GRACE + 60)
        assert host.held() == {"9.0.0.2": "one"}
    host.look_for(60)
    assert host.held() == {}


def test_a_namespace_that_is_seen_again_ends_the_wait(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE - 60)
    host.kernel.lost_sandboxes.clear()
    host.look_for(30)
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE - 60)
    assert host.held() == {"9.0.0.2": "one"}


def test_who_answers_keeps_its_address(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.kernel.alive.add("9.0.0.2")
    host.look_for(3 * GRACE)
    assert host.held() == {"9.0.0.2": "one"}


def test_who_comes_back_while_it_is_asked_for_keeps_its_address(host: Host) -> None:
    def come_back() -> None:
        host.kernel.lost_sandboxes.clear()
        host.attach("one")

    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE)
    host.kernel.when_asked = come_back
    host.cni.round()
    assert host.held() == {"9.0.0.2": "one"}
    assert not any(host.kernel.detached)


def test_a_repair_frees_at_once_what_is_settled_and_a_check_tells_of_it(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    assert list(host.cni.repair()) == []
    told = "container one has 9.0.0.2 of overlay 'dcos', but its network namespace /run/netns/one is gone"
    assert told in host.problems()
    assert list(host.cni.repair()) == [told.replace("container one has", "container one: has")]
    assert host.held() == {}


def lose(host: Host, count: int) -> None:
    """Have so many containers that died an hour ago without a word."""
    for number in range(count):
        host.attach(f"c{number}")
        host.kernel.lost_sandboxes.add(f"/run/netns/c{number}")
    host.clock.pass_by(3600)


def test_one_repair_frees_all_of_many_that_died_together(host: Host) -> None:
    """Each is silent for a while; to wait for one after the other takes longer than the caller has."""
    lose(host, 45)
    host.kernel.when_asked = lambda: time.sleep(0.1)
    with deadline(4):
        assert len(list(host.cni.repair())) == 45
    assert host.held() == {}


def test_what_a_repair_has_no_time_for_is_found_and_freed_by_the_next_one(host: Host) -> None:
    lose(host, PROBES + 4)
    host.kernel.when_asked = lambda: host.clock.pass_by(1)
    assert len(list(host.cni.repair())) == PROBES
    assert len(host.cni.findings()) == 4
    assert len(list(host.cni.repair())) == 4
    assert host.held() == {}
