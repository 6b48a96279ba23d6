# SPDX-License-Identifier: Apache-2.0
"""What three hosts and their ensemble of ZooKeeper go through while traffic runs between all pairs of containers.

After each of it every host is alive, `dni check` is clean, no address is there twice, and all packets arrive again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import ENGINE
from tests.e2e.containers import start
from tests.e2e.host_state import eventually
from tests.e2e.survivors import Survivors
from tests.e2e.test_cluster import alive, networks
from tests.lab import Lab
from tests.lab.cuts import cut_off
from tests.lab.dni import Program

CUT_SECONDS = float(os.environ.get("SURVIVAL_CUT", "15"))
"""Longer than a session."""
FLOWS_SECONDS = 5.0
"""After a cut is healed."""
MENDED_SECONDS = 10.0
"""After the kernel was robbed of what dni put there: it is looked at every five seconds."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three hosts with real dockerds, and three for ZooKeeper."""
    with Lab(hosts=3, servers=3, engine=ENGINE) as made:
        yield made


@pytest.fixture(scope="module")
def brought_up(lab: Lab) -> Survivors:
    return Survivors(lab)


@pytest.fixture
def cluster(brought_up: Survivors) -> Iterator[Survivors]:
    """A cluster in which all is well, before and afterwards."""
    yield brought_up
    brought_up.wait_until_calm()


def test_programs_that_are_killed_lose_no_packet(cluster: Survivors) -> None:
    host = cluster.hosts[0]
    programs: tuple[Program, ...] = ("plugin-worker", "plugin-master", "agent", "up")
    with cluster.watched("every program killed") as watch:
        for program in programs:
            host.kill_dni(program)
            if program == "up":
                cluster.start_dni(host)
            host.wait_for_dni()
        cluster.wait_until_calm()
    assert watch.lost() == []


def test_an_ensemble_that_loses_its_leader_goes_on_and_no_packet_is_lost(cluster: Survivors) -> None:
    one, two, _ = cluster.hosts
    with cluster.watched("leader killed") as watch:
        cluster.leader().kill()
        cluster.define(one)
        watch.note("an overlay is defined")
        eventually(lambda: "dev" in networks(two) or None, 20, "it does not come")
        start(two, "new", net="dev")
        cluster.revive()
        two.docker("rm", "-f", "new")
        cluster.undefine(one)
    assert watch.lost() == []


def test_a_host_that_is_cut_off_catches_up_when_it_is_back(cluster: Survivors) -> None:
    one, _, three = cluster.hosts
    theirs = cluster.addresses[three.name]
    with cluster.watched("cut off") as watch:
        with cut_off(cluster.lab.switch, three):
            eventually(
                lambda: alive(one)[three.address] is False or None, 40, "a host that is cut off counts as alive"
            )
            watch.note("it counts as dead")
            cluster.define(one)
            start(three, "new")
            time.sleep(max(0.0, CUT_SECONDS - watch.elapsed()))
            assert "dev" not in networks(three)
        healed = watch.note("healed")
        eventually(lambda: "dev" in networks(three) or None, 40, "it does not catch up")
        watch.note("it has caught up")
        three.docker("rm", "-f", "new")
        cluster.undefine(one)
        cluster.wait_until_calm()
        watch.note("calm")
    assert all(packet.concerns({theirs}) for packet in watch.lost())
    assert watch.lost(), "nothing was cut"
    assert watch.lost(healed + FLOWS_SECONDS) == []


ROBBERIES = {
    "the VTEP": "ip link del vtep1024",
    "all routes": "ip route flush table all proto 64; ip route flush dev d-dcos",
    "rules, neighbours and forwarding": (
        "ip rule del from 9.0.0.0/8 lookup 42; ip neigh flush dev vtep1024 nud permanent;"
        " bridge fdb show dev vtep1024 | while read mac more; do bridge fdb del $mac dev vtep1024; done"
    ),
}


def test_what_is_taken_out_of_the_kernel_comes_back_within_seconds(cluster: Survivors) -> None:
    two = cluster.hosts[1]
    theirs = cluster.addresses[two.name]
    for what, robbery in ROBBERIES.items():
        with cluster.watched(what) as watch:
            two.try_run("sh", "-c", robbery)
            robbed = watch.elapsed()
            cluster.wait_until_calm()
        assert all(packet.concerns({theirs}) for packet in watch.lost()), what
        assert watch.lost(robbed + MENDED_SECONDS) == [], what
