# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI and of Docker on one overlay of two hosts, which know each other by a ZooKeeper."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import dcos_net
from tests.e2e import cni, dcos_host, host_state, moving
from tests.e2e.cni import Runtime
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import address as container_address
from tests.e2e.containers import fetch, serve, start
from tests.e2e.host_state import eventually
from tests.lab import Host, Lab
from tests.lab.node import REPOSITORY
from tests.lab.zookeeper import ZooKeeper

IPAMS = ("host-local", "dni")
ECHO = REPOSITORY / "tests/lab/echo.py"
PING = "for at in {}; do (ping -q -c 1 -W 2 $at > /dev/null && echo $at) & done; wait"
"""All at a time: who is not reached costs two seconds."""


class Place(NamedTuple):
    """A host with a runtime of CNI beside its Docker."""

    host: Host
    runtime: Runtime
    docker_half: IPv4Network
    mesos_half: IPv4Network


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """Two hosts with real dockerds, and a ZooKeeper outside of them."""
    with Lab(hosts=2, engine=ENGINE) as made:
        ZooKeeper(made.outside.directory / "zookeeper", made.outside).start()
        yield made


@pytest.fixture
def left_by_dcos(cluster: Lab) -> Iterator[list[Host]]:
    """Give hosts as DC/OS left them: it gave them other numbers than dni will, as its masters had the first."""
    numbers = {7 + number: host for number, host in enumerate(cluster.hosts)}
    with ExitStack() as leaving:
        for own, host in numbers.items():
            host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
            masters = {number: f"192.0.2.24{number}" for number in (1, 2, 3)}
            others = {other: at.address for other, at in numbers.items() if at is not host}
            dcos_host.leave_behind(host, own, {**masters, **others})
            leaving.callback(host.run, "sh", "-c", "rm -f /etc/dni/dni.toml; rm -rf /run/dcos /opt/mesosphere")
        yield cluster.hosts


@pytest.fixture(params=IPAMS)
def places(cluster: Lab, request: pytest.FixtureRequest) -> Iterator[list[Place]]:
    """Give hosts with overlays dcos and dev, whose Mesos halves are handed out by one of both ways."""
    url = f"zookeeper://{cluster.outside.address}:2181/{request.param}"
    for host in cluster.hosts:
        host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
        host.start_dni(**host_state.SETTINGS, registry_url=url, cni_directory=cni.DIRECTORY, cni_ipam=request.param)
    cluster.hosts[0].dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16")
    with ExitStack() as leaving:
        made = []
        for host in cluster.hosts:
            leaving.callback(_forget, host)
            made.append(_place(host))
            leaving.callback(made[-1].runtime.stop_all)
        yield made


def _place(host: Host) -> Place:
    _await_networks(host, "dcos", "dev")
    dcos = next(overlay for overlay in host_state.overlays(host) if overlay["name"] == "dcos")
    (docker_half,), (subnet,) = dcos["docker_halves"], dcos["agent_subnets"]
    mesos_half, _ = IPv4Network(subnet).subnets()
    return Place(host, Runtime(host), IPv4Network(docker_half), mesos_half)


def _await_networks(host: Host, *networks: str) -> None:
    for network in networks:
        there = lambda: host.try_docker("network", "inspect", network).returncode == 0  # noqa: B023, E731
        eventually(there, 60, f"{host.name} has no network {network}")


def _forget(host: Host) -> None:
    containers = host.docker("ps", "-aq").split()
    if containers:
        host.docker("rm", "-f", *containers)
    host.docker("network", "rm", *host.docker("network", "ls", "-q", "--filter", "driver=dni").split())
    host.stop_dni()
    host.run("sh", "-c", f"rm -rf /run/dcos {cni.DIRECTORY}")


def test_containers_of_both_kinds_on_two_hosts_reach_their_own_overlay_and_no_other(places: list[Place]) -> None:
    """By the file that the agent writes for Mesos on dcos, by the plain one on dev."""
    dcos = [_start(place, "dcos") for place in places]
    dev = [_start(place, "dev", "--plain") for place in places]
    for place, (docker, mesos) in zip(places, dcos, strict=True):
        assert IPv4Address(docker) in place.docker_half
        assert IPv4Address(mesos) in place.mesos_half
    ours, theirs = {*dcos[0], *dcos[1]}, {*dev[0], *dev[1]}
    for place in places:
        for ask in (_ask_docker, _ask_mesos):
            for overlay, own in (("dcos", ours), ("dev", theirs)):
                _reach_all(lambda: own - ask(place, overlay, own), f"{overlay} on {place.host.name}")  # noqa: B023
                assert ask(place, overlay, (ours | theirs) - own) == set()
        assert host_state.findings(place.host) == []
    _see_each_other(places, dcos)


def test_hosts_of_dcos_are_moved_by_the_steps_of_the_page(left_by_dcos: list[Host], cluster: Lab) -> None:
    """Each command of docs/moving-from-dcos.md prints what that says; its addresses stand for those of the lab."""
    zookeeper = f"{cluster.outside.address}:2181/moved"
    with ExitStack() as leaving:
        for host in left_by_dcos:
            text = (
                moving.page("Instead of DC/OS")
                .replace("10.0.0.2", host.address)
                .replace("10.0.0.1:2181/dni", zookeeper)
            )
            before, settings, after = moving.around_settings(text)
            assert moving.other_outputs(host, before) == []
            host.run("sh", "-c", "mkdir -p /etc/dni; cat > /etc/dni/dni.toml", stdin=settings)
            host.start_dni()
            leaving.callback(_forget_dcos, host)
            there = lambda: host.try_docker("network", "inspect", "dcos").returncode == 0  # noqa: B023, E731
            eventually(there, 60, "there is no network")
            assert moving.other_outputs(host, after) == []
        _are_one_overlay(left_by_dcos)


def _forget_dcos(host: Host) -> None:
    host.docker("rm", "-f", "web")
    host.docker("network", "rm", "dcos")
    host.stop_dni()


def _are_one_overlay(hosts: list[Host]) -> None:
    """Each reaches the other's container, by a route as dcos-net would make it of what the other answers to it."""
    for host, other in zip(hosts, reversed(hosts), strict=True):
        poller = dcos_net.Poller()
        poller.poll(json.loads(host.run("curl", "-sS", f"http://{other.address}:5051/overlay-agent/overlay")))
        assert poller.skipped == []
        (told,) = (one for one in poller.told.values() if ":" not in one.vtep)
        via = told.vtep.partition("/")[0]
        eventually(lambda: f"{told.subnet} via {via}" in host.run("ip", "route"), 20, "dni has no way there")  # noqa: B023
        reached = lambda: fetch(host, "web", f"http://{container_address(other, 'web')}/group")  # noqa: B023, E731
        assert eventually(reached, 20, f"{host.name} does not reach {other.name}") == "root:x:0:"
        written = json.loads(host.run("cat", f"{dcos_host.CNI_DIRECTORY}/dcos.conf"))
        assert (written["chain"], written["delegate"]["bridge"]) == ("M-DCOS", "m-dcos")
        assert written["delegate"]["ipam"]["subnet"] in {"9.0.0.0/25", "9.0.1.0/25"}, "numbers are dni's now"
        assert not moving.left_of_dcos(host), "nothing is left of what DC/OS made"


@pytest.mark.parametrize("places", ["dni"], indirect=True)
def test_any_agent_tells_a_scheduler_how_much_room_another_has(places: list[Place]) -> None:
    """On an overlay of two agent subnets, in each half of which there is one address: one container fills it."""
    here, there = places
    here.host.dni("overlay", "create", "tiny", "--subnet", "10.65.0.0/28", "--prefix", "29")
    for place in places:
        _await_networks(place.host, "tiny")
    for half in ("docker", "mesos"):
        free = lambda: _room(here, there, half)["free"] == 1  # noqa: B023, E731
        eventually(free, 20, "the other host has not told that all is free")
    _start(there, "tiny")
    for half in ("docker", "mesos"):
        full = lambda: _room(here, there, half)["room"] is False  # noqa: B023, E731
        eventually(full, 20, "the other host has not told that it is full")
        asked, exact = _room(here, there, half), _room(there, there, half)
        assert (asked["free"], asked["why"]) == (0, exact["why"])
        assert asked["as_of"] < exact["as_of"]
        own = _room(here, here, half)
        assert (own["room"], own["free"]) == (True, 1)
    mine, theirs = _usage(here)
    assert (mine["here"], theirs["agent"]) == (True, there.host.address)
    assert theirs["subnets"] == _usage(there)[0]["subnets"]
    assert theirs["subnets"][0]["since"] is not None
    shown = here.host.dni("overlay", "usage", "tiny").splitlines()
    ages = [line.endswith(" ago") for line in shown if line.startswith(there.host.address)]
    assert ages == [True, True]
    assert "95 % reached" in there.host.dni("status")


def _usage(asked: Place) -> list[dict[str, Any]]:
    """Answer how full all agents are, as one of them tells."""
    return list(json.loads(asked.host.dni("overlay", "usage", "tiny", "--json"))["agents"])


def _room(asked: Place, about: Place, half: str) -> dict[str, Any]:
    """Ask one agent, as a scheduler does, whether another has room for one more container."""
    target = f"http://dni/v1/overlays/tiny/room?agent={about.host.address}&count=1&half={half}"
    return dict(json.loads(asked.host.run("curl", "-sS", "--unix-socket", "/run/dni/dni.sock", target)))


def _start(place: Place, overlay: str, *words: str) -> tuple[str, str]:
    """Start a container of each kind, both called after their overlay; answer their addresses, Docker's first."""
    docker = start(place.host, overlay, net=overlay)
    return docker, place.runtime.start(overlay, place.runtime.configuration(overlay, *words))


def _ask_docker(place: Place, name: str, targets: Iterable[str]) -> set[str]:
    """Answer who replies to ping of a container of Docker."""
    return set(place.host.docker("exec", name, "sh", "-c", PING.format(" ".join(targets))).split())


def _ask_mesos(place: Place, name: str, targets: Iterable[str]) -> set[str]:
    """Answer who replies to ping of a container of CNI."""
    return set(place.runtime.inside(name, "sh", "-c", PING.format(" ".join(targets))).split())


def _reach_all(missed: Callable[[], set[str]], who: str) -> None:
    """Wait a while until nobody is missed."""
    last: set[str] = set()

    def look() -> bool:
        last.clear()
        last.update(missed())
        return not last

    try:
        eventually(look, 20, f"{who} reaches not all")
    except AssertionError:
        raise AssertionError(f"{who} does not reach {sorted(last)}") from None


def _see_each_other(places: list[Place], addresses: list[tuple[str, str]]) -> None:
    """TCP in both directions between hosts, each caller seen under its own address."""
    (here, there), (docker, mesos) = places, (addresses[0][0], addresses[1][1])
    serve(here.host, "dcos")
    assert there.runtime.inside("dcos", "curl", "-sS", "-m", "30", f"http://{docker}:9000/") == "dcos"
    entered = ("ip", "netns", "exec", "dcos", sys.executable, "-I", "-S", str(ECHO), "9000")
    echo = there.host.spawn(*entered, log=Path(there.host.directory, "echo.log"))
    try:
        seen = lambda: fetch(here.host, "dcos", f"http://{mesos}:9000/") == docker  # noqa: E731
        eventually(seen, 10, "a container of Docker is not seen under its own address")
    finally:
        echo.kill()
        echo.wait(60)
