# SPDX-License-Identifier: Apache-2.0
"""What a host goes through in its life: after each of it `dni check` is clean, and containers start and stop.

Programs killed one by one, and links and bridges deleted by hand, are in test_restarts.py; what dockerd could not
tell is in test_collector.py; what becomes of disks and the store in test_disks.py; kill -9 between any two writes
there are, and a thousand containers, are in tests/contract.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from docker import APIClient

from tests.e2e import host_state
from tests.e2e.containers import FORGER, address, create, fetch, forges, reaches, serve, start
from tests.e2e.recovery import GATEWAY, let_collect, settle, works
from tests.e2e.test_doctor import is_well, kinds
from tests.lab import Host, Lab, procfs
from tests.lab.dni import Program
from tests.lab.node import REPOSITORY, SCRIPTS

MENDED_SECONDS = 10
STOPPED_SECONDS = 60


# -- dockerd, and the whole host


def test_dockerd_killed_with_twenty_endpoints_gives_back_those_that_do_not_come_back(host: Host) -> None:
    create(host, "dcos")

    def run(number: int) -> None:
        start(host, f"c{number}", *(("--restart", "always") if number % 4 == 0 else ()))

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(run, range(20)))
    assert len(host_state.held(host)) == 20
    host.kill_dockerd()
    host.start_dockerd()
    host_state.eventually(lambda: len(host.docker("ps", "-q").split()) == 5 or None, 40, "they are not back")
    settle(host)
    works(host, "c0")


@pytest.mark.parametrize("first", ["dni", "dockerd"])
def test_a_host_comes_back_from_a_loss_of_power(host: Host, first: str) -> None:
    """All kernel state is gone, the store is there; whichever program is started first."""
    create(host, "dcos")
    start(host, "keeper", "--restart", "always")
    start(host, "fleeting")
    host.switch_off()
    if first == "dni":
        host.start_dni(**host_state.SETTINGS)
        host.start_dockerd()
    else:
        host.launch_dockerd()
        time.sleep(1)
        host.start_dni(**host_state.SETTINGS)
        host.wait_for_dockerd()
    host_state.eventually(lambda: reaches(host, "keeper", GATEWAY), 40, "keeper is not back")
    settle(host)
    host.docker("start", "fleeting")
    assert reaches(host, "fleeting", address(host, "keeper"))
    works(host, "keeper")


# -- the firewall


def _flush_nftables(host: Host) -> None:
    host.run("nft", "flush", "ruleset")


def _flush_iptables(host: Host) -> None:
    host.run("sh", "-c", "iptables -F && iptables -t nat -F")


def _reload_like_firewalld(host: Host) -> None:
    """Flush everything, and put own rules in place with which nothing is forwarded that nobody accepts."""
    rules = (
        "*filter",
        ":INPUT ACCEPT",
        ":FORWARD DROP",
        ":OUTPUT ACCEPT",
        "-A FORWARD -i lo -j ACCEPT",
        "COMMIT",
        "",
    )
    host.run("nft", "flush", "ruleset")
    host.run("iptables-restore", stdin="\n".join(rules))


TABLES = ("inet dni", "inet dni-ports", "bridge dni")


def test_a_flushed_or_reloaded_firewall_is_mended_within_ten_seconds(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    start(host, "one", *FORGER, "-p", "8080:9000")
    serve(host, "one")
    start(host, "two")
    start(host, "elsewhere", net="dev")
    for disturb in (_flush_nftables, _flush_iptables, _reload_like_firewalld):
        disturb(host)
        host_state.eventually(lambda: _rules_are_back(host), MENDED_SECONDS, f"{disturb.__name__}: not mended")
        _works_and_keeps_others_out(lab, host, disturb)
    host_state.eventually(lambda: host_state.findings(host) == [] or None, 10, "dni check finds something")
    host.docker("rm", "-f", "one", "two", "elsewhere")
    host.stop_dockerd()
    host.start_dockerd()  # its own rules are its own affair


def _rules_are_back(host: Host) -> bool:
    """Tell whether all tables are there, and iptables leads to dni's chain: what they do is tried without waiting."""
    tables = host.run("nft", "list", "tables").splitlines()
    return (
        all(f"table {table}" in tables for table in TABLES)
        and "-j DNI-FORWARD" in host.try_run("iptables", "-S").stdout
    )


def _works_and_keeps_others_out(lab: Lab, host: Host, disturb: Callable[[Host], None]) -> None:
    """Check that containers reach each other and the outside, by the host's address, and are reached by their port.

    And that another overlay and forged packets get nowhere.
    """
    now = disturb.__name__
    assert reaches(host, "one", address(host, "two")), now
    assert fetch(host, "one", lab.outside.echo_url) == host.address, now
    assert lab.outside.try_run("curl", "-s", "-m", "30", f"http://{host.address}:8080/").stdout.strip() == "one", now
    assert not reaches(host, "elsewhere", address(host, "two")), now
    assert not forges(host, "one", "9.0.0.250", GATEWAY), now
    assert reaches(host, "elsewhere", "10.64.0.129"), now


# -- time


A_DAY = 24 * 3600


def shifted(clock: Path) -> Mapping[str, str]:
    """Answer the variables with which dni's clock is set as a file says."""
    return {"LAB_CLOCK": str(clock), "PYTHONPATH": f"{SCRIPTS / 'clock'}:{REPOSITORY}"}


def test_a_clock_set_back_a_day_keeps_nothing_from_working(host: Host) -> None:
    """While dni runs, and again at its start: what it recorded before is dated tomorrow."""
    clock = host.directory / "clock"
    clock.write_text("0")
    host.stop_dni()
    host.start_dni(shifted(clock), **host_state.SETTINGS)
    create(host, "dcos")
    start(host, "one")
    clock.write_text(str(-A_DAY))
    assert json.loads(host.dni("address", "ls", "--json"))[0]["since"] > time.time() - 3600
    orphan(host)
    works(host, "one")
    assert kinds(host, shifted(clock)) == ["clock-set-back"]
    host.stop_dni()
    host.start_dni(shifted(clock), **host_state.SETTINGS)
    orphan(host)
    host.docker("restart", "-t", "0", "one")
    works(host, "one")
    clock.write_text("0")
    is_well(host, shifted(clock))
    host.stop_dni()


def orphan(host: Host) -> None:
    """Have an address claimed for a container that never comes; the collector is to free it."""
    url = "http://dni/IpamDriver.RequestAddress"
    host.run("curl", "-sf", "--unix-socket", "/run/docker/plugins/dni.sock", url, "-d", '{"PoolID": "dcos/v4"}')
    let_collect(host, "collector_claim_grace")


def test_programs_that_stand_still_for_a_minute_go_on_where_they_were(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    pids = [host.dni_pid(program) for program in ("plugin-worker", "agent")]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(start, host, f"c{number}") for number in range(4)]
        time.sleep(0.2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        assert reaches(host, "one", GATEWAY)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        outcomes = [call.exception(timeout=60) for call in calls]
    for error in filter(None, outcomes):
        assert "dni ran out of time on this call" in str(error) or "dni is busy" in str(error)
    assert [host.dni_pid(program) for program in ("plugin-worker", "agent")] == pids
    works(host, "one")


# -- between two writes


RUN, REMOVE, MEND = (1, 2, 4, 7), (1, 3), (2, 9)
"""After which writes the plugin dies of `docker run` and of `docker rm`, and the agent of mending. After all others:
tests/contract/test_crashes.py and test_agent_crashes.py."""


class Fuses:
    """What ends the programs of a host, for as long as they run with `variables`."""

    def __init__(self, folder: Path) -> None:
        """Have one for each program, none of them lit."""
        self._folder = folder
        self.variables = {"LAB_FUSES": str(folder), "PYTHONPATH": f"{SCRIPTS / 'fuse'}:{REPOSITORY}"}
        for program in ("plugin", "agent"):
            (folder / program).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def burning(self, program: str, writes: int) -> Iterator[None]:
        """Have a program die right after so many writes, which it must make in the block or soon after."""
        fuse = self._folder / program / "fuse"
        fuse.write_text(str(writes))
        yield
        host_state.eventually(lambda: not fuse.exists(), 25, f"{program} made less than {writes} writes")


def test_plugin_and_agent_killed_between_two_writes_leave_nothing_behind(host: Host) -> None:
    fuses = Fuses(host.directory / "fuses")
    host.stop_dni()
    host.start_dni(fuses.variables, **host_state.SETTINGS)
    create(host, "dcos")
    start(host, "keeper")
    run = ("run", "-d", "--net", "dcos", "-p", "8080:9000", "--name")
    for writes in RUN:
        with fuses.burning("plugin", writes):
            host.try_docker(*run, "dying", "busybox", "sleep", "100000")
        host.docker("rm", "-f", "dying")
    for writes in REMOVE:
        host.docker(*run, "dying", "busybox", "sleep", "100000")
        with fuses.burning("plugin", writes):
            host.docker("rm", "-f", "dying")
    for writes in MEND:
        with fuses.burning("agent", writes):
            host.run("sh", "-c", "ip link del d-dcos; nft flush ruleset")
        host_state.eventually(lambda: reaches(host, "keeper", GATEWAY), 25, "the next agent does not mend it")
    works(host, "keeper")
    host.stop_dni()


# -- a long life


ENDPOINTS, WARMING_UP = 160, 80
LANES = 8
"""Containers that come to the network and go again, all at the same time."""
AT_WORK = 4
"""Files that calls and rounds may have open at the moment of looking, and threads they may have at work."""
SLACK_KIB = 8192


def test_hundreds_of_endpoints_leave_plugin_and_agent_as_they_were(host: Host) -> None:
    """Running containers come to a network and go, as `docker network connect` and `disconnect` have them.

    dockerd takes minutes for a thousand: plugin and agent see as many in tests/contract/test_endurance.py.
    """
    create(host, "dcos")
    names = [f"c{number}" for number in range(LANES)]
    for name in names:
        start_elsewhere(host, name)
    programs: dict[Program, int] = {name: host.dni_pid(name) for name in ("plugin-worker", "agent")}
    come_and_go(host, names, WARMING_UP // LANES)
    before = settled_sizes(host, programs)
    come_and_go(host, names, ENDPOINTS // LANES)
    after = settled_sizes(host, programs)
    for name, pid in programs.items():
        assert host.dni_pid(name) == pid, f"{name} died"
        assert after[name].files <= before[name].files + AT_WORK, name
        assert after[name].threads <= before[name].threads + AT_WORK, name
        assert after[name].memory <= before[name].memory + SLACK_KIB, name


def start_elsewhere(host: Host, name: str) -> None:
    host.docker("run", "-d", "--name", name, "busybox", "sleep", "100000")


def come_and_go(host: Host, names: list[str], times: int) -> None:
    """Connect containers to `dcos` and disconnect them, so often, each in a lane of its own."""

    def cycle(name: str) -> None:
        docker = APIClient(f"unix://{host.path('/run/docker.sock')}", version="1.41", timeout=60)
        with closing(docker):
            for _ in range(times):
                docker.connect_container_to_network(name, "dcos")
                docker.disconnect_container_from_network(name, "dcos")

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(cycle, names))


def settled_sizes(host: Host, programs: Mapping[Program, int]) -> dict[Program, procfs.Size]:
    """Answer how large programs are, once nothing is held any more and nothing is wrong."""
    host_state.collected(host, lambda: host_state.held(host) == [], "something is held")
    host_state.collected(host, lambda: host_state.findings(host) == [], "dni check finds something")
    return {name: procfs.size(pid) for name, pid in programs.items()}
