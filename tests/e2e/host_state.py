# SPDX-License-Identifier: Apache-2.0
"""What is on a lab host: cleared before a test, checked after it, and read during it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.lab import Administered, Host, LabError

T = TypeVar("T")

GRACES = {"collector_grace": 6, "collector_claim_grace": 2}
"""Short enough to wait for."""
SETTINGS: dict[str, object] = {**GRACES, "log_level": "debug"}

LOOK_SECONDS = 3
"""News of Docker gather for two."""
COLLECTED_SECONDS = 90
"""The graces are over in ten; but a busy machine may be slow."""

API_SOCKET = "/run/dni/dni.sock"
_RECORDED = [f"http://dni/v1/{what}" for what in ("addresses", "overlays", "ports")]

OURS = ("bridge", "host", "none")


def make_ready(host: Host) -> None:
    """Make dockerd and dni run, and have FORWARD drop: a dockerd that begins again does not see to that.

    Chains of Docker's own that a test has flushed are there again only when dockerd begins again; and it ends soon
    where dni runs, which it would call for a quarter of a minute for each thing that its containers have.
    """
    if not dni_runs(host):
        _start_dni(host)
    if dockerd_runs(host) and host.try_run("iptables", "-t", "nat", "-nL", "DOCKER").returncode != 0:
        host.stop_dockerd()
    if not dockerd_runs(host):
        host.start_dockerd()
    host.run("iptables", "-P", "FORWARD", "DROP")


def _start_dni(host: Host) -> None:
    """Start dni, and wait for the agent too: the plugin may answer before it."""
    host.start_dni(**SETTINGS)
    overlays(host)


def leave_clean(host: Host, *, say_why: bool) -> None:
    """Remove every container and network; then nothing may be held, and `dni check` must find nothing."""
    make_ready(host)
    clear(host)
    if not say_why:
        reset(host)
        return
    try:
        collected(host, lambda: held(host) == [], "addresses are still held")
        collected(host, lambda: findings(host) == [], "dni check finds something")
    except AssertionError as error:
        complaint = f"{error}: held {held(host)}, findings {findings(host)}"
        reset(host)
        raise AssertionError(complaint) from None


def clear(host: Host) -> None:
    """Remove every container and every network that is not Docker's own."""
    containers = host.docker("ps", "-aq").split()
    if containers:
        host.docker("rm", "-f", *containers)
    names = host.docker("network", "ls", "--format", "{{.Name}}").split()
    for name in names:
        if name not in OURS:
            remove_network(host, name, lambda: _restart_dockerd(host))
    for overlay in overlays(host):
        if overlay["name"] != "dcos":
            host.dni("overlay", "rm", str(overlay["name"]))


def _restart_dockerd(host: Host) -> None:
    host.stop_dockerd()
    host.start_dockerd()


def remove_network(host: Administered, name: str, restart_docker: Callable[[], object]) -> None:
    """Remove a network that no container is on.

    Engines before 28.1 count endpoints apart from listing them, and can miscount when many start at once: they
    count anew when they start.
    """
    done = host.try_docker("network", "rm", name)
    if done.returncode != 0 and "has active endpoints" in done.stderr:
        assert host.docker("network", "inspect", "--format", "{{len .Containers}}", name) == "0"
        restart_docker()
        done = host.try_docker("network", "rm", name)
    assert done.returncode == 0, done.stderr


def reset(host: Host) -> None:
    """Begin anew with an empty store, so that one failed test does not fail the next, and nothing of CNI's held."""
    host.stop_dni()
    host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/* /var/lib/cni/networks /var/run/dcos/cni")
    _start_dni(host)


def dockerd_runs(host: Host) -> bool:
    """Tell whether the engine answers."""
    try:
        return host.try_docker("version", timeout=20).returncode == 0
    except LabError:
        return False


def dni_runs(host: Host) -> bool:
    """Tell whether `dni up` runs."""
    try:
        host.dni_pid("up")
    except LabError:
        return False
    return True


def overlays(host: Administered) -> list[dict[str, Any]]:
    """Answer `dni overlay ls`."""
    return list(_told(host, "overlay", "ls"))


def addresses(host: Administered) -> list[dict[str, Any]]:
    """Answer `dni address ls`."""
    return list(_told(host, "address", "ls"))


def ports(host: Administered) -> list[dict[str, Any]]:
    """Answer `dni ports`."""
    return list(_told(host, "ports"))


def held(host: Administered) -> list[dict[str, Any]]:
    """Answer every address that is not free."""
    return [row for row in addresses(host) if row["state"] != "free"]


def findings(host: Administered) -> list[dict[str, Any]]:
    """Answer what `dni check` finds."""
    return list(_told(host, "check")["findings"])


def problems(host: Administered) -> list[str]:
    """Answer the problems that `dni status` tells of."""
    return list(_told(host, "status")["problems"])


def _told(host: Administered, *words: str) -> Any:
    """Answer what a dni command shows, once the agent is there to be asked."""

    def ask() -> str | None:
        done = host.try_dni(*words, "--json")
        assert done.stdout or "does not answer" in done.stderr, done.stderr
        return done.stdout or None

    return json.loads(eventually(ask, 30, "the agent does not answer"))


@contextmanager
def nothing_left(host: Host) -> Iterator[None]:
    """Hold what is recorded, what Docker has and what the kernel has after the block against what was before it.

    Links are deleted in the background, so that some seconds are allowed.
    """
    before = _all_of(host)
    yield
    try:
        eventually(lambda: _all_of(host) == before, 5, "something is left behind")
    except AssertionError as error:
        after = _all_of(host)
        changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
        raise AssertionError(f"{error}: {changed}") from None


def _all_of(host: Host) -> dict[str, object]:
    """Answer all that a refusal could leave behind: what dni has recorded, and what Docker and the kernel have."""
    answers = host.run("curl", "-sS", "--unix-socket", API_SOCKET, "-w", "\n", *_RECORDED).splitlines()
    addresses, overlays, ports = map(json.loads, answers)
    held = [
        (row["pool"], row["address"], row["state"], row["endpoint"]) for row in addresses if row["state"] != "free"
    ]
    links = {
        link["ifname"]: [one["local"] for one in link["addr_info"]]
        for link in json.loads(host.run("ip", "-j", "address"))
        if not link["ifname"].startswith("veth")
    }
    return {
        "held": sorted(held),
        "overlays": overlays,
        "ports": ports,
        "containers": host.docker("ps", "-aq"),
        "networks": host.docker("network", "ls", "-q", "--no-trunc"),
        "links": links,
        "tables": host.run("nft", "list", "tables"),
        "rules": [line for line in host.run("iptables", "-S").splitlines() if "DNI" in line],
    }


def leave_to_a_stranger(host: Host, bridge: str) -> None:
    """Take the name of one of dni's bridges for another one, however quickly dni mends it."""
    once_more = f"until ip link del {bridge}; ip link add {bridge} type bridge; do :; done"
    host.run("timeout", "20", "sh", "-c", once_more)


def stir(host: Administered) -> None:
    """Have the collector look: it does a little after something happened in Docker, else every half minute."""
    host.docker("network", "rm", host.docker("network", "create", "event"))
    time.sleep(LOOK_SECONDS)


def pass_collector(host: Host) -> None:
    """Have the collector look, and look again when every grace of the tests' settings is over."""
    overlays(host)  # the agent may have been started a moment ago
    stir(host)
    time.sleep(max(GRACES.values()))
    stir(host)


def collected(host: Administered, is_done: Callable[[], bool], complaint: str) -> None:
    """Wait until the collector has done something, which it takes two looks for, with a grace between."""

    def is_done_by_now() -> bool:
        if not is_done():
            stir(host)
        return is_done()

    eventually(is_done_by_now, COLLECTED_SECONDS, complaint)


def eventually(look: Callable[[], T | None], seconds: float, complaint: str) -> T:
    """Look again and again until there is an answer."""
    ends = time.monotonic() + seconds
    while True:
        answer = look()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > ends:
            raise AssertionError(complaint)
        time.sleep(0.2)
