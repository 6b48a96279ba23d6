# SPDX-License-Identifier: Apache-2.0
"""Three hosts with a ZooKeeper: one overlay across them, while hosts come and go and ZooKeeper is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.dcos_net import Poller, remote
from tests.e2e import host_state, programmed
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import CREATE, reaches, refused, start
from tests.e2e.host_state import eventually
from tests.lab import Host, Lab
from tests.lab.cuts import cut_off
from tests.lab.zookeeper import ZooKeeper

PEER_SECONDS = 25
"""What nobody is told of is found out in half a minute."""
BACK_SECONDS = 90
DCOS_NETS_PORT = 5051
NEW_AGENT = "192.0.2.99"
PURGE = "/overlay-master/agents/delete"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """Three hosts with real dockerds."""
    with Lab(hosts=3, engine=ENGINE) as made:
        yield made


@pytest.fixture(scope="module")
def zookeeper(cluster: Lab) -> ZooKeeper:
    """A server outside of the hosts; it ends with the lab."""
    server = ZooKeeper(cluster.outside.directory / "zookeeper", cluster.outside)
    server.start()
    return server


@pytest.fixture
def hosts(cluster: Lab, zookeeper: ZooKeeper, request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    """Three hosts that know each other; each test finds their registry at a place of its own, and clean stores."""
    url = f"zookeeper://{zookeeper.address}/{request.node.name[:40].strip('[]')}"
    for host in cluster.hosts:
        host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
        host.start_dni(registry_url=url, api_listen=f"{host.address}:{DCOS_NETS_PORT}", **host_state.SETTINGS)
    for host in cluster.hosts:
        others = {other.address for other in cluster.hosts if other is not host}
        eventually(lambda: known(host) == others or None, 60, "the hosts do not find each other")  # noqa: B023
        eventually(lambda: "dcos" in networks(host) or None, 60, "there is no Docker network")  # noqa: B023
    yield cluster.hosts
    for host in cluster.hosts:
        if not host_state.dockerd_runs(host):
            host.start_dockerd()
        if not host_state.dni_runs(host):
            host.start_dni(registry_url=url, **host_state.SETTINGS)
        containers = host.docker("ps", "-aq").split()
        if containers:
            host.docker("rm", "-f", *containers)
        for name in networks(host) - set(host_state.OURS):
            host.docker("network", "rm", name)
        host.stop_dni()


def known(host: Host) -> set[str]:
    """Answer the other agents that a host has in its store."""
    return {agent["agent"] for agent in status(host)["cluster"]["agents"] if not agent["here"]}


def status(host: Host) -> Any:
    """Answer `dni status`."""
    return json.loads(host.dni("status", "--json"))


def told(host: Host, agent: Host) -> list[str]:
    """Answer what is wrong with an agent, as another host has it."""
    found = (one for one in status(host)["cluster"]["agents"] if one["agent"] == agent.address)
    return list(next(found)["problems"] or ())


def networks(host: Host) -> set[str]:
    """Answer the names of Docker's networks."""
    return set(host.docker("network", "ls", "--format", "{{.Name}}").split())


def alive(host: Host) -> dict[str, bool]:
    """Answer who is alive."""
    return {agent["agent"]: agent["alive"] for agent in json.loads(host.dni("agent", "ls", "--json"))}


def all_reach_all(hosts: list[Host], addresses: dict[str, str]) -> None:
    """Have the container of each host, of one name everywhere, reach those of the others."""
    for host in hosts:
        for address in addresses.values():
            eventually(lambda: reaches(host, "web", address) or None, 20, f"{host.name} does not reach {address}")  # noqa: B023


def test_containers_of_all_hosts_are_on_one_overlay_however_its_packets_travel(hosts: list[Host]) -> None:
    addresses = {host.name: start(host, "web") for host in hosts}
    assert sorted(address.rpartition(".")[0] for address in addresses.values()) == ["9.0.0", "9.0.1", "9.0.2"]
    all_reach_all(hosts, addresses)
    for backend in ("direct", "auto", "vxlan"):
        assert f"backend {backend}" in hosts[1].dni("overlay", "set", "dcos", "--backend", backend)
        for host in hosts:
            shown = lambda: host_state.overlays(host)[0]["backend"] == backend or None  # noqa: B023, E731
            eventually(shown, PEER_SECONDS, "the backend is not that")
        all_reach_all(hosts, addresses)
    for host in hosts:
        eventually(lambda: host_state.findings(host) == [] or None, 20, "dni check finds something")  # noqa: B023


def test_an_overlay_comes_to_every_host_and_goes_when_no_container_is_on_it_anywhere(
    cluster: Lab, hosts: list[Host]
) -> None:
    """Where a host cannot take part, every other says so, and why."""
    one, two, three = hosts
    create = ("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--backend", "direct")
    two.docker("network", "create", "dev")
    one.dni(*create)
    (problem,) = eventually(lambda: told(one, two) or None, 20, "it is not told what is wrong on another host")
    assert "overlay 'dev' has no Docker network" in problem
    assert one.dni("status").endswith(f"\n\n{two.address}:\n  problem: {problem}")
    assert "1: overlay 'dev' has no Docker network" in one.dni("agent", "ls")
    two.docker("network", "rm", "dev")
    two.dni(*create)
    for host in hosts:
        eventually(lambda: "dev" in networks(host) or None, PEER_SECONDS, "there is no network")  # noqa: B023
    _keeps_it_although_it_was_cut_off(cluster, one, three)
    eventually(lambda: "dev" in networks(two) or None, PEER_SECONDS, "its network does not come back")
    web = start(two, "web", net="dev")
    eventually(lambda: reaches(three, "late", web) or None, PEER_SECONDS, "the container has lost its network")
    three.docker("rm", "-f", "late")
    eventually(lambda: _refusal(one, two.address), PEER_SECONDS, "the overlay is not in use")
    two.docker("rm", "-f", "web")
    eventually(lambda: one.try_dni("overlay", "rm", "dev").returncode == 0 or None, 20, "the overlay stays")
    for host in hosts:
        eventually(lambda: "dev" not in networks(host) or None, 20, "the network stays")  # noqa: B023
        eventually(lambda: len(host_state.overlays(host)) == 1 or None, 20, "the overlay is still known")  # noqa: B023
    eventually(lambda: told(one, two) == [] or None, 20, "what is mended is told still")


def _keeps_it_although_it_was_cut_off(cluster: Lab, remover: Host, away: Host) -> None:
    """A host that starts a container while it is cut off, and counts as alive, keeps the overlay when it hears."""
    time.sleep(2.0)  # for all to have told that their new networks are no use of it
    with cut_off(cluster.switch, away):
        start(away, "late", net="dev")
        answer = remover.try_dni("overlay", "rm", "dev")
        assert (
            f"'dev' is being removed, and no answer has come from {away.address}: it goes by itself" in answer.stderr
        )
        assert "dev is being removed, as agent" in remover.dni("overlay", "ls")
        refusal = refused(remover, *CREATE, "--ipam-opt", "overlay=dev", "again")
        assert f"'dev' is being removed, as agent {remover.address} was told to" in refusal
        assert "dev" not in networks(remover)
    in_use = f"overlay 'dev' is in use on {away.address}"
    eventually(lambda: in_use in remover.try_dni("overlay", "rm", "dev").stderr or None, 20, "it is not kept")
    eventually(lambda: host_state.findings(away) == [] or None, 20, "dni check finds something")


def test_every_half_of_a_host_is_reached_from_every_other(hosts: list[Host]) -> None:
    one, *others = hosts
    one.dni("overlay", "create", "small", "--subnet", "10.80.0.0/24", "--prefix", "28")
    for host in hosts:
        eventually(lambda: "small" in networks(host) or None, PEER_SECONDS, "there is no network")  # noqa: B023
    crowd = [start(one, f"web{number}", net="small") for number in range(8)]
    assert len({ip_network(f"{address}/28", strict=False) for address in crowd}) == 2
    lonely = {host.name: start(host, "web", net="small") for host in others}
    for host in others:
        for address in crowd:
            eventually(lambda: reaches(host, "web", address) or None, PEER_SECONDS, f"{address} is not reached")  # noqa: B023
    for name in ("web0", "web7"):
        for address in lonely.values():
            assert reaches(one, name, address)


def _refusal(host: Host, user: str) -> str | None:
    """Try to remove what is in use; answer the refusal, once it names who uses it."""
    done = host.try_dni("overlay", "rm", "dev")
    assert done.returncode != 0, "an overlay was removed that a container is on"
    return done.stderr if user in done.stderr else None


def test_hosts_outlive_their_registry_and_each_other(hosts: list[Host], zookeeper: ZooKeeper) -> None:
    one, two, three = hosts
    addresses = {host.name: start(host, "web", "--restart", "always") for host in hosts}
    zookeeper.kill()
    eventually(lambda: host_state.problems(one) or None, 30, "nobody misses the registry")
    assert "the dni agent is not well: " in one.try_dni("doctor").stdout
    assert "the registry does not answer (ZooKeeper at 192.0.2.1:2181)" in one.try_dni("agent", "ls").stderr
    two.switch_off()
    two.start_dni(registry_url=status(one)["registry"], **host_state.SETTINGS)
    two.start_dockerd()
    addresses[two.name] = start(two, "web2")
    eventually(lambda: reaches(two, "web2", addresses[one.name]) or None, 30, "a new container reaches nobody")
    eventually(lambda: reaches(one, "web", addresses[two.name]) or None, 30, "a new container is not reached")
    zookeeper.start()
    for host in hosts:
        eventually(lambda: host_state.problems(host) == [] or None, BACK_SECONDS, "it does not converge")  # noqa: B023
    assert alive(one) == {host.address: True for host in hosts}
    three.switch_off()
    eventually(lambda: alive(one)[three.address] is False or None, 40, "a host that is off counts as alive")
    assert f"agent {two.address} is alive" in one.try_dni("agent", "forget", two.address).stderr
    one.dni("agent", "forget", three.address)
    for host in (one, two):
        eventually(lambda: three.address not in known(host) or None, PEER_SECONDS, "it is still known")  # noqa: B023
        gone = lambda: "9.0.2.0/24" not in host.run("ip", "route") or None  # noqa: B023, E731
        eventually(gone, PEER_SECONDS, "there is still a route")
    three.start_dockerd()


def test_dcos_net_would_program_what_dni_has_programmed(hosts: list[Host]) -> None:
    """It asks each agent over HTTP; and so it is still when a dead agent was purged and another has its subnets."""
    one, two, three = hosts
    one.dni("overlay", "create", "dual", "--subnet", "10.64.0.0/16", "--subnet6", "fd01:d::/64")
    for host in hosts:
        eventually(lambda: "dual" in networks(host) or None, PEER_SECONDS, "there is no network")  # noqa: B023
    _programmed_alike({host: host.address for host in hosts})
    states = [_ask_agent(host, host.address, "/overlay-master/state") for host in hosts]
    assert states == [states[0]] * 3
    of_three = _subnets(states[0], three.address)
    assert of_three.keys() == {"dcos", "dual"}

    three.docker("network", "rm", "dcos", "dual")
    assert _purge(two, three.address) == (409, f"agent {three.address} is alive")
    three.kill_dni("up")
    eventually(lambda: alive(two)[three.address] is False or None, 40, "a host that was killed counts as alive")
    code, state = _purge(two, three.address)
    assert (code, [agent["ip"] for agent in state["agents"]]) == (200, [one.address, two.address])
    three.run("ip", "addr", "add", f"{NEW_AGENT}/24", "dev", "eth0")
    three.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
    url, listen = status(one)["registry"], f"{NEW_AGENT}:{DCOS_NETS_PORT}"
    three.start_dni(registry_url=url, agent_ip=NEW_AGENT, api_listen=listen, **host_state.SETTINGS)
    eventually(lambda: {"dcos", "dual"} <= networks(three) or None, 60, "there are no Docker networks")
    eventually(lambda: NEW_AGENT in known(one) & known(two) or None, PEER_SECONDS, "it is not known")
    _programmed_alike({one: one.address, two: two.address, three: NEW_AGENT})
    assert _subnets(_ask_agent(one, one.address, "/overlay-master/state"), NEW_AGENT) == of_three


def _subnets(state: dict[str, Any], agent: str) -> dict[str, tuple[str, str | None]]:
    """Answer what an agent holds of each overlay, by what all agents are told."""
    (found,) = (one for one in state["agents"] if one["ip"] == agent)
    return {one["info"]["name"]: (one["subnet"], one.get("subnet6")) for one in found["overlays"]}


def _ask_agent(asker: Host, agent: str, target: str) -> Any:
    """Answer what an agent answers over HTTP to a process of some host."""
    return json.loads(asker.run("curl", "-sS", "-m", "30", f"http://{agent}:{DCOS_NETS_PORT}{target}"))


def _purge(host: Host, agent: str) -> tuple[int, Any]:
    """Purge an agent at the socket of another; answer the status, and the JSON or the beginning of the text."""
    words = ("-X", "POST", "-d", json.dumps({"agents": [agent]}), "-w", "\n%{http_code}")
    told = host.run("curl", "-sS", "--unix-socket", "/run/dni/dni.sock", f"http://dni{PURGE}", *words)
    body, _, code = told.rpartition("\n")
    return int(code), json.loads(body) if body.startswith("{") else body.partition(":")[0]


def _programmed_alike(agents: dict[Host, str]) -> None:
    """Have dcos-net's poller on each host ask the agent there; what they make of it all is what the kernels have."""
    pollers = {host: Poller() for host in agents}
    for host, poller in pollers.items():
        poller.poll(_ask_agent(host, agents[host], "/overlay-agent/overlay"))
        assert poller.skipped == []
    for host in agents:
        others = [told for other, poller in pollers.items() if other is not host for told in poller.told.values()]
        wanted = {"peers": set(remote(others)), "own": set(pollers[host].local)}
        assert len(wanted["peers"]) > 2 * len(agents)
        _become(host, wanted)


def _become(host: Host, wanted: dict[str, set[str]]) -> None:
    """Wait until a kernel has what is wanted, and nothing else."""
    there: dict[str, set[str]] = {}

    def look() -> bool:
        there.update(peers=programmed.entries(host), own=programmed.own(host))
        return there == wanted

    try:
        eventually(look, PEER_SECONDS, "")
    except AssertionError:
        assert there == wanted, host.name
