# SPDX-License-Identifier: Apache-2.0
"""The `dni` command as an operator meets it."""

from __future__ import annotations

import json
import sys
import time

from tests.e2e import host_state
from tests.e2e.containers import create, place, start
from tests.lab import Host
from tests.lab.dni import NOBODY, command

_AGE = """if True:
    import sqlite3
    with sqlite3.connect("/var/lib/dni/dni.db") as store:
        store.execute("UPDATE network SET since = since - 61")
"""
"""What is younger than a minute may still be on its way into the kernel, and is no finding."""


def test_status_shows_agent_overlays_and_how_full_they_are(host: Host) -> None:
    create(host, "dcos")
    start(host, "c1")
    text = host.dni("status")
    for word in (host.address, "dcos", "9.0.0.0/8", "9.0.0.128/25", "125"):
        assert word in text
    status = json.loads(host.dni("status", "--json"))
    assert status["overlays"][0]["usage"]["v4"] == {"size": 125, "used": 1, "reserved": 0, "free": 124}
    assert status["docker"]["reachable"] is True


def test_address_ls_shows_container_state_endpoint_and_since_when(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "dcos")
    began = time.time()
    start(host, "c1")
    row = host_state.eventually(
        lambda: next((row for row in host_state.held(host) if row["container"]), None), 10, "the name is not known"
    )
    endpoint = place(host, "c1")["EndpointID"]
    assert (row["address"], row["state"], row["container"]) == ("9.0.0.130", "bound", "c1")
    assert row["endpoint"] == endpoint
    assert began <= row["since"] <= time.time()
    shown = host.dni("address", "ls").splitlines()
    assert shown[0].split() == ["ADDRESS", "STATE", "OVERLAY", "CONTAINER", "ENDPOINT", "NETWORK", "SINCE"]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["since"]))
    assert shown[1:] == [f"9.0.0.130  bound  dcos     c1         {endpoint[:12]}  dcos     {since}"]


def test_an_overlay_with_a_network_is_not_removed(host: Host) -> None:
    host.dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--no-network")
    create(host, "--ipam-opt", "overlay=dev", "dev")
    text = host_state.eventually(lambda: _refusal_naming(host, "dev"), 10, "the network is not named")
    assert "docker network rm dev" in text
    host.docker("network", "rm", "dev")
    host.dni("overlay", "rm", "dev")
    assert [row["name"] for row in host_state.overlays(host)] == ["dcos"]


def test_check_names_what_is_wrong_and_exits_1(host: Host) -> None:
    """A bridge of somebody else's in the place of dni's: what is not its own it leaves alone, until people decide."""
    create(host, "dcos")
    host.run(sys.executable, "-c", _AGE)
    host_state.leave_to_a_stranger(host, "d-dcos")
    try:
        done = host.try_dni("check")
        assert (done.returncode, done.stdout) == (1, "d-dcos: is missing\n  to mend it: dni repair\n")
        done = host.try_dni("repair")
        assert done.returncode == 1
        assert "ip link del d-dcos" in done.stdout
    finally:
        host.run("ip", "link", "del", "d-dcos")
    assert host.dni("repair").endswith("All is well: records, kernel and Docker agree.")
    assert host.dni("check") == "All is well: records, kernel and Docker agree."


def test_without_the_right_to_the_socket_the_operator_is_told(host: Host) -> None:
    done = host.try_run(*NOBODY, *command("status"))
    assert done.returncode == 1
    assert "sudo dni" in done.stderr


def test_without_an_agent_the_operator_is_told_how_to_start_it(host: Host) -> None:
    host.stop_dni()
    done = host.try_dni("status")
    assert done.returncode == 1
    assert "dni up" in done.stderr
    assert "Traceback" not in done.stderr


def _refusal_naming(host: Host, network: str) -> str | None:
    done = host.try_dni("overlay", "rm", network)
    assert done.returncode == 1
    return done.stderr if f"network {network!r}" in done.stderr else None
