# SPDX-License-Identifier: Apache-2.0
"""Everything may die at any moment: containers keep their network, nothing leaks, nothing is given twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.e2e import host_state
from tests.e2e.containers import address, create, inside, place, reaches, start
from tests.lab import Host

PROGRAMS = ("plugin-worker", "plugin-master", "agent", "up")


def _kill(host: Host, program: str) -> None:
    host.kill_dni(program)  # type: ignore[arg-type]
    if program == "up":
        host.start_dni(**host_state.SETTINGS)


def _whole(host: Host, *names: str) -> None:
    """Containers reach each other and their gateway, and a new one starts."""
    for name in names:
        for target in ("9.0.0.129", *(address(host, other) for other in names)):
            _await_reach(host, name, target)
    new = f"new{time.monotonic_ns()}"
    assert start(host, new) not in {address(host, name) for name in names}
    host.docker("rm", "-f", new)
    host_state.eventually(lambda: host_state.findings(host) == [] or None, 20, "dni check finds something")


def _await_reach(host: Host, name: str, target: str) -> None:
    host_state.eventually(lambda: reaches(host, name, target), 25, f"{name} does not reach {target}")


@pytest.fixture
def pair(host: Host) -> tuple[str, str]:
    """Two running containers."""
    create(host, "dcos")
    start(host, "one")
    start(host, "two")
    return "one", "two"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_killed_program_comes_back_and_nothing_is_lost(host: Host, pair: tuple[str, str], program: str) -> None:
    _kill(host, program)
    host.wait_for_dni()
    _whole(host, *pair)


@pytest.mark.parametrize("program", ["plugin-worker", "plugin-master"])
def test_a_call_made_while_the_worker_is_down_is_answered_when_it_is_back(host: Host, program: str) -> None:
    create(host, "dcos")
    with ThreadPoolExecutor(1) as pool:
        host.kill_dni(program)  # type: ignore[arg-type]
        call = pool.submit(start, host, "c1")
        assert call.result(timeout=60).startswith("9.0.0.")


@contextmanager
def _killing(host: Host, program: str, every: float) -> Iterator[None]:
    """Kill a program again and again while the block runs."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(every):
            _kill(host, program)
            host.wait_for_dni()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("program", PROGRAMS)
def test_killing_under_load_leaks_nothing_and_gives_nothing_twice(host: Host, program: str) -> None:
    create(host, "dcos")

    def cycle(number: int) -> str | None:
        name = f"c{number}"
        run = host.try_docker("run", "-d", "--name", name, "--net", "dcos", "busybox", "sleep", "100000")
        found = address(host, name) if run.returncode == 0 else None
        if number % 2 == 0:
            host.try_docker("rm", "-f", name)
        return found if number % 2 else None

    with _killing(host, program, 0.7), ThreadPoolExecutor(3) as pool:
        kept = [found for found in pool.map(cycle, range(24)) if found]
    host.wait_for_dni()
    assert len(kept) == len(set(kept))
    assert kept
    running = host.docker("ps", "-q").split()
    assert len({address(host, name) for name in running}) == len(running)
    host_state.collected(
        host, lambda: len(host_state.held(host)) == len(running), "something is held that nobody has"
    )
    host_state.collected(host, lambda: host_state.findings(host) == [], "dni check finds something")


@pytest.mark.parametrize("live_restore", [False, True], ids=["plain", "live-restore"])
@pytest.mark.parametrize("graceful", [True, False], ids=["stopped", "killed"])
def test_dockerd_restarts(host: Host, *, graceful: bool, live_restore: bool) -> None:
    host.stop_dockerd()
    host.start_dockerd(live_restore=live_restore)
    create(host, "dcos")
    start(host, "keeper", "--restart", "always")
    start(host, "fleeting")
    before = address(host, "keeper")
    (host.stop_dockerd if graceful else host.kill_dockerd)()
    host.start_dockerd(live_restore=live_restore)
    host_state.eventually(lambda: reaches(host, "keeper", "9.0.0.129"), 30, "keeper is not back")
    if live_restore:
        assert address(host, "keeper") == before
        assert reaches(host, "fleeting", address(host, "keeper"))
    running = host.docker("ps", "--format", "{{.Names}}").split()
    _whole(host, *running)
    host_state.collected(host, lambda: len(host_state.held(host)) == len(running), "something leaked")
    host.docker("rm", "-f", "keeper", "fleeting")
    host.stop_dockerd()
    host.start_dockerd()


def _delete_bridge(host: Host) -> None:
    host.run("ip", "link", "del", "d-dcos")


def _flush_nft(host: Host) -> None:
    host.run("nft", "delete", "table", "inet", "dni")


def _flush_forward(host: Host) -> None:
    host.run("sh", "-c", "iptables -F DOCKER-USER && iptables -F DNI-FORWARD")


def _delete_links(host: Host) -> None:
    host.run("sh", "-c", "for l in $(ls /sys/class/net | grep ^dni); do ip link del $l; done")


def _everything(host: Host) -> None:
    for act in (_delete_links, _delete_bridge, _flush_nft, _flush_forward):
        act(host)


@pytest.mark.parametrize(
    "act", [_delete_bridge, _flush_nft, _flush_forward, _delete_links, _everything], ids=lambda act: act.__name__
)
def test_what_is_deleted_by_hand_is_mended(host: Host, pair: tuple[str, str], act: Callable[[Host], None]) -> None:
    act(host)
    _whole(host, *pair)
    assert "default via 9.0.0.129" in inside(host, "one", "ip", "route")
    assert place(host, "one")["MacAddress"] in inside(host, "one", "ip", "link", "show", "eth0")


def test_repair_mends_at_once(host: Host, pair: tuple[str, str]) -> None:
    _flush_nft(host)
    host.dni("repair")
    assert "dni" in host.run("nft", "list", "tables")
    _whole(host, *pair)


def test_a_mended_container_stops_and_starts_as_ever(host: Host, pair: tuple[str, str]) -> None:
    _delete_links(host)
    host_state.eventually(lambda: reaches(host, "one", "9.0.0.129"), 25, "a is not mended")
    host.docker("restart", "-t", "0", "one")
    _whole(host, *pair)


def test_the_host_comes_back_after_dni_was_stopped(host: Host, pair: tuple[str, str]) -> None:
    host.stop_dni()
    assert reaches(host, "one", address(host, "two"))
    host.start_dni(**host_state.SETTINGS)
    _whole(host, *pair)
