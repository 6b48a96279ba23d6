# SPDX-License-Identifier: Apache-2.0
"""What dockerd never told the driver is found out, and only what is really gone is freed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.e2e import host_state
from tests.e2e.containers import address, create, reaches, start
from tests.lab import Host

DEV = ("--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")


def test_what_was_removed_or_stopped_while_the_driver_was_down_is_freed_by_a_repair_or_by_the_collector(
    host: Host,
) -> None:
    """By a repair whatever the graces; by the collector at its own pace, a look every half minute.

    dockerd calls a driver that is away for a quarter of a minute each time: so both meet what one outage has left.
    """
    create(host, "dcos")
    create(host, *DEV)
    for name in ("one", "two", "three"):
        start(host, name, net="dev")
    host.stop_dni()
    _all_at_once(host, ("rm", "-f", "one"), ("stop", "-t", "0", "three"), ("network", "rm", "dcos"))
    host.run("cp", "-a", "/var/lib/dni", "/var/lib/dni.then")

    host.start_dni(**{**host_state.SETTINGS, "collector_grace": 900, "collector_claim_grace": 900})
    assert len(host_state.held(host)) == 3
    host_state.eventually(lambda: _repaired(host), 60, "repair freed nothing")
    host.stop_dni()
    host.run("sh", "-c", "rm -r /var/lib/dni/* && mv /var/lib/dni.then/* /var/lib/dni && rmdir /var/lib/dni.then")

    host.start_dni(**host_state.SETTINGS)
    assert len(host_state.held(host)) == 3
    host_state.eventually(lambda: len(host_state.held(host)) == 1 or None, 90, "they still hold their addresses")
    host_state.eventually(lambda: _networks(host) == ["dev"] or None, 90, "the network is still there")
    host_state.eventually(
        lambda: host.try_run("ip", "link", "show", "d-dcos").returncode != 0 or None, 10, "its bridge is there"
    )
    assert reaches(host, "two", "10.64.0.129")
    links = host.run("sh", "-c", "ls /sys/class/net | grep -c ^dni")
    assert links == "1"
    host.docker("start", "three")
    assert reaches(host, "three", address(host, "two", "dev"))


def _all_at_once(host: Host, *commands: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(len(commands)) as pool:
        ends = [pool.submit(host.docker, *words, timeout=180) for words in commands]
        for end in ends:
            end.result()


def _networks(host: Host) -> list[str]:
    """Answer the overlays that have a Docker network, as dni has it."""
    return [row["name"] for row in host_state.overlays(host) if row["network"] is not None]


def _repaired(host: Host) -> bool:
    host.dni("repair")
    return len(host_state.held(host)) == 1


def test_living_containers_survive_many_passes(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    before = host_state.held(host)
    host_state.pass_collector(host)
    assert [row["address"] for row in host_state.held(host)] == [row["address"] for row in before]
    assert reaches(host, "one", "9.0.0.129")
