# SPDX-License-Identifier: Apache-2.0
"""How long a cluster of three hosts takes to take up what is new: a host, and an overlay."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.bench.figures import Figure, median_ms
from tests.lab import Host, Lab, LabError
from tests.lab.errors import CommandError
from tests.lab.image import NAME
from tests.lab.zookeeper import ZooKeeper, url_of

HOST, NETWORK, CONTAINER, OVERLAY = "host", "network", "container", "overlay"
_TITLES = {
    HOST: "dni up on a new host, until every other host reaches it",
    NETWORK: "  until it has its Docker network",
    CONTAINER: "dni up on a new host, until every other reaches its first container",
    OVERLAY: "dni overlay create, until it is a Docker network on every host",
}
_BAR_MS = 2000.0
_PATIENCE = 60.0
_TARGETS = {HOST: "44.128.0.3", CONTAINER: "9.0.2.130"}
"""The third VTEP, and the first container of the third host: what is lowest is handed out first."""
_SCRIPT = Path(__file__).with_name("knock.py")
_DEV = ("overlay", "create", "dev", "--subnet", "10.64.0.0/16")


def in_turn(rounds: int, engine: str) -> dict[str, list[float]]:
    """Have a third host join two, and an overlay come to all of them, again and again; the seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in _TITLES}
    with Lab(hosts=3, engine=engine) as lab:
        server = ZooKeeper(lab.outside.directory / "zookeeper", lab.outside)
        server.start()
        *settled, newcomer = lab.hosts
        for host in settled:
            host.start_dni(registry_url=url_of([server]))
            _wait(host, "dcos")
            host.docker("run", "-d", "--net", "dcos", NAME, "sleep", "100000")
        for _ in range(rounds):
            for name, seconds in _join(newcomer, settled, url_of([server])).items():
                taken[name].append(seconds)
            taken[OVERLAY].append(_overlay(lab.hosts))
            _leave(newcomer, settled[0])
    return taken


def figures(taken: dict[str, list[float]]) -> list[Figure]:
    """Answer the medians."""
    return [
        Figure(name=title, value=median_ms(taken[name]), unit="ms", bar=_BAR_MS if name in (HOST, OVERLAY) else None)
        for name, title in _TITLES.items()
    ]


def _join(newcomer: Host, settled: list[Host], url: str) -> dict[str, float]:
    knocks = {name: [_Knock(host, address) for host in settled] for name, address in _TARGETS.items()}
    started = time.perf_counter()
    newcomer.launch_dni(registry_url=url)
    _wait(newcomer, "dcos")
    network = time.perf_counter() - started
    newcomer.docker("run", "-d", "--name", "first", "--net", "dcos", NAME, "sleep", "100000")
    reached = {name: max(one.answered() for one in ones) - started for name, ones in knocks.items()}
    newcomer.wait_for_dni()
    return {NETWORK: network, **reached}


class _Knock:
    """Somebody on a host who knocks at an address until it is reached."""

    def __init__(self, host: Host, address: str) -> None:
        self._log = host.directory / f"knock-{address}"
        self._log.unlink(missing_ok=True)
        self._process = host.spawn(sys.executable, "-I", "-S", str(_SCRIPT), address, log=self._log)

    def answered(self) -> float:
        """Answer when that was; raise LabError where it takes too long."""
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise LabError("a new host is not reached") from None
        return float(self._log.read_text())


def _overlay(hosts: list[Host]) -> float:
    started = time.perf_counter()
    hosts[0].dni(*_DEV)
    for host in hosts:
        _wait(host, "dev")
    seconds = time.perf_counter() - started
    _until(lambda: hosts[0].try_dni("overlay", "rm", "dev").returncode == 0, "an overlay stays")
    return seconds


def _leave(newcomer: Host, other: Host) -> None:
    newcomer.docker("rm", "-f", "first")
    for name in ("dcos", "dev"):
        with suppress(CommandError):
            newcomer.docker("network", "rm", name)
    newcomer.stop_dni()
    newcomer.run("sh", "-c", "rm -rf /var/lib/dni/*; ip link del vtep1024; ip route flush table all proto 64")
    _until(lambda: other.try_dni("agent", "forget", newcomer.address).returncode == 0, "an agent stays")


def _wait(host: Host, network: str) -> None:
    shown = lambda: host.try_docker("network", "inspect", network).returncode == 0  # noqa: E731
    _until(shown, f"{host.name} has no network {network}")


def _until(holds: Callable[[], bool], complaint: str) -> None:
    ends = time.perf_counter() + _PATIENCE
    while not holds():
        if time.perf_counter() > ends:
            raise LabError(complaint)
        time.sleep(0.02)
