# SPDX-License-Identifier: Apache-2.0
"""What dockerd never told the driver is found out, and only what is really gone is freed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.e2e import host_state
from tests.e2e.containers import address, create, reaches, start
from tests.lab import Host


def test_containers_removed_or_stopped_while_the_driver_was_down_are_collected(host: Host) -> None:
    create(host, "dcos")
    for name in ("one", "two", "three"):
        start(host, name)
    host.stop_dni()
    with ThreadPoolExecutor(2) as pool:
        ends = [
            pool.submit(host.docker, *words, timeout=180)
            for words in (("rm", "-f", "one"), ("stop", "-t", "0", "three"))
        ]
        for end in ends:
            end.result()
    host.start_dni(**host_state.SETTINGS)
    host_state.eventually(lambda: len(host_state.held(host)) == 1 or None, 40, "they still hold their addresses")
    assert reaches(host, "two", "9.0.0.129")
    links = host.run("sh", "-c", "ls /sys/class/net | grep -c ^dni")
    assert links == "1"
    host.docker("start", "three")
    assert reaches(host, "three", address(host, "two"))


def test_a_network_removed_while_the_driver_was_down_is_collected(host: Host) -> None:
    create(host, "dcos")
    host.stop_dni()
    host.try_docker("network", "rm", "dcos", timeout=180)
    host.start_dni(**host_state.SETTINGS)
    host_state.eventually(
        lambda: all(row["network"] is None for row in host_state.overlays(host)) or None, 90, "it is still there"
    )
    host_state.eventually(
        lambda: host.try_run("ip", "link", "show", "d-dcos").returncode != 0 or None, 10, "its bridge is there"
    )


def test_repair_frees_what_docker_does_not_have(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    host.stop_dni()
    host.docker("rm", "-f", "one", timeout=180)
    host.start_dni(**{**host_state.SETTINGS, "collector_grace": 900, "collector_claim_grace": 900})
    try:
        assert len(host_state.held(host)) == 1
        host_state.eventually(lambda: _repaired(host), 60, "repair freed nothing")
    finally:
        host.stop_dni()


def _repaired(host: Host) -> bool:
    host.dni("repair")
    return host_state.held(host) == []


def test_living_containers_survive_many_passes(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    before = host_state.held(host)
    host_state.pass_collector(host)
    assert [row["address"] for row in host_state.held(host)] == [row["address"] for row in before]
    assert reaches(host, "one", "9.0.0.129")
