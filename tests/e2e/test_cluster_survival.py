# SPDX-License-Identifier: Apache-2.0
"""What three hosts and their ensemble of ZooKeeper go through while traffic runs between all pairs of containers.

After each of it every host is alive, `dni check` is clean, no address is there twice, and all packets arrive again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from dni_driver.registry.zookeeper.layout import VERSION
from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import reaches, refused, start
from tests.e2e.host_state import eventually
from tests.e2e.survivors import Survivors, says
from tests.e2e.test_cluster import alive, networks
from tests.lab import Host, Lab, addresses
from tests.lab.cuts import Way, cut_off
from tests.lab.dni import Program
from tests.lab.zookeeper import ZooKeeper, url_of

OUTAGE_SECONDS = float(os.environ.get("SURVIVAL_OUTAGE", "70"))
"""Longer than a session (10 s), and than the longest pause of anything that asks the registry again (60 s)."""
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
    programs: tuple[Program, ...] = ("plugin-worker", "plugin-master", "agent")
    with cluster.watched("every program killed, one by one and then all at once") as watch:
        for program in programs:
            host.kill_dni(program)
            host.wait_for_dni()
        host.kill_dni("up")
        cluster.start_dni(host)
        for pid in [host.dni_pid(program) for program in programs]:
            os.kill(pid, signal.SIGKILL)
        host.kill_dni("up")
        cluster.start_dni(host)
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


def test_while_all_of_zookeeper_is_away_hosts_go_on_and_agree_when_it_is_back(cluster: Survivors) -> None:
    one, two, three = cluster.hosts
    one.dni("overlay", "create", "tiny", "--subnet", "10.80.0.0/24", "--prefix", "28")
    eventually(lambda: "tiny" in networks(one) or None, 20, "it does not come")
    with cluster.watched("ZooKeeper away") as watch:
        for server in cluster.servers:
            server.kill()
        two.kill_dni("agent")
        two.kill_dni("plugin-master")
        three.stop_dni()
        cluster.start_dni(three)
        started = {host.name: start(host, "new") for host in cluster.hosts}
        for address in started.values():
            eventually(lambda: reaches(one, "new", address) or None, 20, "a new container is not reached")  # noqa: B023
        refusal = one.try_dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16").stderr
        assert "the registry does not answer (ZooKeeper at 192.0.2.2:2181, 192.0.2.3:2181, 192.0.2.4:2181)" in refusal
        for number in range(5):
            start(one, f"tiny{number}", net="tiny")
        full = refused(one, "run", "--rm", "--net", "tiny", "busybox", "true")
        assert "5 of 5 used, 0 reserved, and no more can be leased now: the registry does not answer" in full
        time.sleep(max(0.0, OUTAGE_SECONDS - watch.elapsed()))
        cluster.revive()
        watch.note("ZooKeeper is back")
        more = lambda: one.try_docker("run", "--rm", "--net", "tiny", "busybox", "true").returncode == 0 or None  # noqa: E731
        eventually(more, 30, "there is no more room")
        one.docker("rm", "-f", *(f"tiny{number}" for number in range(5)))
        cluster.undefine(one, "tiny")
        cluster.define(one)
        watch.note("an overlay is defined")
        for host in cluster.hosts:
            eventually(lambda: "dev" in networks(host) or None, 20, "it does not come")  # noqa: B023
            host.docker("rm", "-f", "new")
        watch.note("it is a network on every host")
        cluster.undefine(one)
        cluster.wait_until_calm()
        watch.note("calm")
    assert watch.lost() == []


SHARED = ("shared", "10.81.0.0/16")


@pytest.mark.parametrize("way", ["both", "sending", "receiving"])
def test_a_host_that_is_cut_off_catches_up_when_it_is_back(cluster: Survivors, way: Way) -> None:
    one, _, three = cluster.hosts
    theirs = cluster.addresses[three.name]
    cluster.define(one, *SHARED)
    eventually(lambda: "shared" in networks(three) or None, 20, "it does not come")
    with cluster.watched(f"cut off: {way}") as watch:
        with cut_off(cluster.lab.switch, three, way):
            eventually(
                lambda: alive(one)[three.address] is False or None, 40, "a host that is cut off counts as alive"
            )
            watch.note("it counts as dead")
            start(three, "late", net="shared")
            refusal = one.try_dni("overlay", "rm", "shared").stderr
            assert f"overlay 'shared' may be in use on {three.address}, from where nothing is heard" in refusal
            cluster.define(one)
            start(three, "new")
            time.sleep(max(0.0, CUT_SECONDS - watch.elapsed()))
            assert "dev" not in networks(three)
        healed = watch.note("healed")
        eventually(lambda: "dev" in networks(three) or None, 40, "it does not catch up")
        watch.note("it has caught up")
        in_use = f"overlay 'shared' is in use on {three.address}"
        eventually(
            lambda: in_use in one.try_dni("overlay", "rm", "shared").stderr or None, 40, "nobody says who uses it"
        )
        three.docker("rm", "-f", "new", "late")
        cluster.undefine(one)
        cluster.undefine(one, "shared")
        cluster.wait_until_calm()
        watch.note("calm")
    assert all(packet.concerns({theirs}) for packet in watch.lost())
    assert watch.lost(), "nothing was cut"
    assert watch.lost(healed + FLOWS_SECONDS) == []


def test_a_backend_that_changes_under_traffic_loses_no_more_than_what_is_on_its_way(cluster: Survivors) -> None:
    one = cluster.hosts[0]
    for backend in ("direct", "auto", "vxlan"):
        with cluster.watched(f"backend {backend}") as watch:
            one.dni("overlay", "set", "dcos", "--backend", backend)
            way = "vtep1024" if backend == "vxlan" else "eth0"
            look = f"ip route show proto 64 | grep -q '^9.0.*dev {way}'"
            for host in cluster.hosts:
                eventually(lambda: host.try_run("sh", "-c", look).returncode == 0 or None, 20, "it goes another way")  # noqa: B023
            watch.note("all go that way")
            cluster.wait_until_calm()
        lost = Counter((packet.sender, packet.target) for packet in watch.lost())
        assert all(number <= 1 for number in lost.values()), (backend, lost)


ROBBERIES = {
    "the VTEP": "ip link del vtep1024",
    "all of dni's routes": (
        "ip route show table all proto 64 | grep -q vtep1024 && ip route flush table all proto 64"
        " && ip route flush dev d-dcos"
    ),
    "all routes, of which the administrator puts back what is not dni's": (
        "ip route save table main dev eth0 > /run/routes && ip route flush table main"
        " && ip route restore < /run/routes"
    ),
    "rules, neighbours and forwarding": (
        "set -e; ip rule del from 9.0.0.0/8 lookup 42; ip neigh flush dev vtep1024 nud permanent;"
        " bridge fdb show dev vtep1024 | while read mac more; do bridge fdb del $mac dev vtep1024; done"
    ),
}


def test_what_is_taken_out_of_the_kernel_comes_back_within_seconds(cluster: Survivors) -> None:
    two = cluster.hosts[1]
    theirs = cluster.addresses[two.name]
    for what, robbery in ROBBERIES.items():
        with cluster.watched(what) as watch:
            two.run("sh", "-c", robbery)
            robbed = watch.elapsed()
            cluster.wait_until_calm()
        assert all(packet.concerns({theirs}) for packet in watch.lost()), what
        assert watch.lost(robbed + MENDED_SECONDS) == [], what


def test_a_host_whose_address_changes_takes_all_it_has_along(cluster: Survivors) -> None:
    one, _, three = cluster.hosts
    theirs, before = cluster.addresses[three.name], three.address
    for new in (str(addresses.LINK[99]), before):
        with cluster.watched(f"from {three.address} to {new}") as watch:
            router = cluster.lab.outside.address
            three.run("sh", "-c", MOVE.format(old=three.address, new=new, router=router))
            three.address = new
            cluster.wait_until_calm()
            moved = watch.note("calm")
        assert all(packet.concerns({theirs}) for packet in watch.lost())
        assert watch.lost(moved) == []
    assert set(alive(one)) == {host.address for host in cluster.hosts}


MOVE = "ip addr del {old}/24 dev eth0; ip addr add {new}/24 dev eth0; ip route replace default via {router}"


def test_two_hosts_are_never_one_agent_whatever_is_copied_or_mistyped(cluster: Survivors) -> None:
    one, two, three = cluster.hosts
    cluster.vacate(three)
    with cluster.watched("impostors") as watch:
        three.stop_dni()
        cluster.start_dni(three, agent_ip=two.address)
        says(three, f"another living host is agent {two.address}")
        three.stop_dni()
        three.run("sh", "-c", "mkdir /var/lib/own && mv /var/lib/dni/* /var/lib/own")
        for file in two.path("/var/lib/dni").iterdir():
            three.path(f"/var/lib/dni/{file.name}").write_bytes(file.read_bytes())
        three.run("sh", "-c", f"echo another > {three.directory}/boot; mount --bind {three.directory}/boot {BOOT}")
        cluster.start_dni(three)
        says(three, f"agent {two.address} is alive and has the identity of this host, whose disk is a copy")
        text = refused(three, "run", "--rm", "--net", "dcos", "busybox", "true")
        assert "this host hands out no new addresses of overlay 'dcos'" in text
        three.stop_dni()
        three.run(
            "sh",
            "-c",
            f"umount {BOOT}; rm -rf /var/lib/dni/*; mv /var/lib/own/* /var/lib/dni; rmdir /var/lib/own",
        )
        cluster.start_dni(three)
        cluster.settle_in(three)
    assert watch.lost() == []
    assert alive(one) == {host.address: True for host in cluster.hosts}


def test_a_host_that_comes_back_without_its_disk_starts_clean_with_what_was_its_own(cluster: Survivors) -> None:
    _, two, three = cluster.hosts
    before = cluster.addresses[three.name]
    cluster.vacate(three)
    three.docker("network", "rm", "dcos")
    with cluster.watched("without its disk") as watch:
        three.stop_dni()
        three.run(
            "sh", "-c", "rm -rf /var/lib/dni/* && ip link del d-dcos; ip link del vtep1024; nft delete table inet dni"
        )
        cluster.start_dni(three)
        cluster.settle_in(three)
        watch.note("its container is there")
        now = cluster.addresses[three.name]
        eventually(lambda: reaches(two, "web", now) or None, 10, "it is not reached")
    assert now.rpartition(".")[0] == before.rpartition(".")[0]
    assert [row["address"] for row in host_state.held(three)] == [now]
    assert watch.lost() == []


BOOT = "/proc/sys/kernel/random/boot_id"


TREE = """
import json, sys
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1])
client.start()
if len(sys.argv) > 2:
    client.create("/newer/format", sys.argv[2].encode(), makepath=True)
def read(path):
    yield path, client.get(path)[0].decode()
    for name in client.get_children(path):
        yield from read(f"{path}/{name}")
print(json.dumps(dict(read("/newer"))))
"""


def test_a_registry_of_a_newer_version_is_refused_in_words_and_left_as_it_is(cluster: Survivors) -> None:
    three, outside = cluster.hosts[2], cluster.lab.outside
    address = cluster.servers[0].address
    before = outside.run(sys.executable, "-c", TREE, address, str(VERSION + 1))
    newer = f"was written by a newer dni (version {VERSION + 1}): install that one"
    with cluster.watched("a newer registry") as watch:
        three.stop_dni()
        cluster.start_dni(three, registry_url=url_of(cluster.servers, "newer"))
        says(three, newer)
        refusal = three.try_dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16").stderr
        assert newer in refusal
        assert "Traceback" not in three.logs("dni")
        assert reaches(three, "web", cluster.addresses["h1"])
        assert outside.run(sys.executable, "-c", TREE, address) == before
        three.stop_dni()
        cluster.start_dni(three)
        cluster.wait_until_calm()
    assert watch.lost() == []


TEN = 10


def test_ten_hosts_that_join_at_once_have_all_of_their_own_and_know_each_other() -> None:
    with Lab(hosts=TEN, dockerd=False) as lab:
        server = ZooKeeper(lab.outside.directory / "zookeeper", lab.outside)
        server.start()
        for host in lab.hosts:
            host.launch_dni(registry_url=url_of([server]))
        for host in lab.hosts:
            others = {other.address for other in lab.hosts if other is not host}
            eventually(lambda: peers_of(host) == others or None, 60, f"{host.name} does not know all")  # noqa: B023
        members = json.loads(lab.hosts[0].dni("agent", "ls", "--json"))
        assert all(member["alive"] for member in members)
        vteps = [member["vtep"] for member in members]
        assert sorted(vteps, key=IPv4Address) == [f"44.128.0.{number}" for number in range(1, TEN + 1)]
        held = [subnet["subnet"] for member in members for subnet in member["subnets"]]
        assert sorted(held) == [f"9.0.{number}.0/24" for number in range(TEN)]
        for host in lab.hosts:
            look = f"for a in {' '.join(vteps)}; do ping -c 1 -W 5 $a > /dev/null || echo $a; done"
            eventually(lambda: host.run("sh", "-c", look) == "" or None, 30, f"{host.name} does not reach all")  # noqa: B023


def peers_of(host: Host) -> set[str]:
    """Answer whom a host knows, once its agent is there to be asked."""
    done = host.try_dni("status", "--json")
    agents = json.loads(done.stdout)["cluster"]["agents"] if done.stdout else []
    return {agent["agent"] for agent in agents if not agent["here"]}
