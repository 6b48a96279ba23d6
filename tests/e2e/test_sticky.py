# SPDX-License-Identifier: Apache-2.0
"""An address kept for a container is there again after a restart, a new `docker run`, and a reboot of the host."""

from __future__ import annotations

import json

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import address, create, place, reaches, refused, start
from tests.lab import Host

ALWAYS = ("--restart", "always")
ALONE = ("network", "create", "-d", "dni", "--ipam-driver", "null", "-o", "overlay=dcos", "dcos")
"""A network whose addresses dockerd asks nobody for."""
DUAL = ("--ipv6", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/64", "--ipam-opt", "overlay=dev", "dev")


def _reserve(host: Host, *words: str) -> str:
    return host.dni("address", "reserve", "dcos", *words, "-q")


def _release_all(host: Host) -> None:
    for row in host_state.addresses(host):
        if row["reserved"]:
            ends = f"{row['address']}-{row['last']}" if row["last"] else row["address"]
            host.try_dni("address", "release", row["overlay"], ends)


def _usage(host: Host) -> dict[str, int]:
    dcos = next(overlay for overlay in host_state.overlays(host) if overlay["name"] == "dcos")
    return dict(dcos["usage"]["v4"])


def _reboot(host: Host) -> None:
    """Lose every process and all kernel state at once; what is on disk stays, and everything starts again."""
    pids = host.docker("inspect", "--format", "{{.State.Pid}}", *host.docker("ps", "-q").split()).split()
    host.kill_dockerd()
    host.kill_dni("up")
    host.run("kill", "-KILL", *pids)
    lose = (
        "for l in $(ls /sys/class/net | grep -E '^(dni|d-|veth|docker)'); do ip link del $l; done; nft flush ruleset"
    )
    host.run("sh", "-c", lose)
    host.start_dni(**host_state.SETTINGS)
    host.start_dockerd()


def _is_back_at(host: Host, name: str, expected: str) -> None:
    host_state.eventually(lambda: address(host, name) == expected or None, 30, f"{name} is not back at {expected}")


def test_an_address_by_ip_is_kept_through_restart_new_run_and_reboot(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    try:
        kept = _reserve(host, "--for", "web")
        assert kept == _reserve(host, "--for", "web") == "9.0.0.130"
        assert start(host, "other") == "9.0.0.131"
        assert start(host, "web", "--ip", kept, *ALWAYS) == kept
        host.docker("restart", "-t", "0", "web")
        assert address(host, "web") == kept
        host.docker("rm", "-f", "web")
        assert start(host, "filler") == "9.0.0.132"
        assert start(host, "web", "--ip", kept, *ALWAYS) == kept
        _reboot(host)
        _is_back_at(host, "web", kept)
        assert reaches(host, "web", "9.0.0.129")
        assert _usage(host)["used"] == 1
    finally:
        _release_all(host)


def test_addresses_of_both_families_are_kept_through_restart_new_run_and_reboot(fresh_host: Host) -> None:
    host = fresh_host
    create(host, *DUAL)
    try:
        kept = [host.dni("address", "reserve", "dev", *words, "--for", "web", "-q") for words in ((), ("--ipv6",))]
        assert kept == ["10.64.0.130", "fd64::8000:0:2"]
        words = ("--ip", kept[0], "--ip6", kept[1], *ALWAYS)
        start(host, "other", net="dev")
        start(host, "web", *words, net="dev")
        assert (_both(host, "other"), _both(host, "web")) == (["10.64.0.131", "fd64::8000:0:3"], kept)
        host.docker("restart", "-t", "0", "web")
        assert _both(host, "web") == kept
        host.docker("rm", "-f", "web")
        start(host, "filler", net="dev")
        assert _both(host, "filler") == ["10.64.0.132", "fd64::8000:0:4"]
        start(host, "web", *words, net="dev")
        _reboot(host)
        host_state.eventually(lambda: _both(host, "web") == kept or None, 30, f"web is not back at {kept}")
        assert reaches(host, "web", "fd64::8000:0:1")
        assert host_state.problems(host) == []
    finally:
        _release_all(host)


def _both(host: Host, name: str) -> list[str]:
    there = place(host, name, "dev")
    return [there["IPAddress"], there["GlobalIPv6Address"]]


def test_both_addresses_by_driver_opt_are_kept_where_the_engine_has_ipv6_without_ipam(fresh_host: Host) -> None:
    """From 28 on; before that Docker's own null driver refuses IPv6."""
    host = fresh_host
    host.dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--subnet6", "fd64::/64", "--no-network")
    alone = ("network", "create", "-d", "dni", "--ipam-driver", "null", "--ipv6", "-o", "overlay=dev", "dev")
    if tuple(map(int, ENGINE.split("."))) < (28,):
        assert "null ipam driver does not handle IPv6 address pool" in refused(host, *alone)
        return
    host.docker(*alone)
    kept = ["10.64.0.140", "fd64::8000:0:8c"]
    asking = f"name=dev,driver-opt=dni.address={kept[0]},driver-opt=dni.address6={kept[1]}"
    run = ("run", "-d", "--name", "web", "--network", asking, *ALWAYS, "busybox", "sleep", "100000")
    host.docker(*run)
    assert _both(host, "web") == kept
    host.docker("restart", "-t", "0", "web")
    assert _both(host, "web") == kept
    host.docker("rm", "-f", "web")
    host.docker(*run)
    _reboot(host)
    host_state.eventually(lambda: _both(host, "web") == kept or None, 30, f"web is not back at {kept}")
    assert reaches(host, "web", "fd64::8000:0:1")


def test_before_29_the_name_alone_gets_another_address_and_status_says_how(fresh_host: Host) -> None:
    """Before 29 dockerd tells no driver the name: it is learnt afterwards."""
    host = fresh_host
    create(host, "dcos")
    kept = ("run", "--rm", "--name", "web", "--net", "dcos", "--ip", "9.0.0.130", "busybox", "true")
    assert "only when connecting to networks with user configured subnets" in refused(host, *kept)
    host.docker("network", "rm", "dcos")
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    try:
        assert _reserve(host, "--for", "web") == "9.0.0.130"
        assert start(host, "web") == "9.0.0.131"
        complaint = (
            "container web has 9.0.0.131, not 9.0.0.130, which is reserved for it: Docker Engine 29 gives it at the "
            "next start, before that start it with `--net dcos --ip 9.0.0.130`, which Docker takes where the network "
            "was created with --subnet"
        )
        host_state.eventually(lambda: host_state.problems(host) == [complaint] or None, 15, "nobody is told")
        host.docker("rm", "-f", "web")
        helps = complaint.split("`")[1].split()
        host.docker("run", "-d", "--name", "web", *helps, "busybox", "sleep", "100000")
        assert address(host, "web") == "9.0.0.130"
        host_state.eventually(lambda: host_state.problems(host) == [] or None, 15, "it is still a problem")
    finally:
        _release_all(host)


def test_an_address_by_driver_opt_is_kept_through_restart_new_run_and_reboot(fresh_host: Host) -> None:
    host = fresh_host
    host.docker(*ALONE)
    try:
        kept = _reserve(host, "9.0.0.140", "--for", "web")
        asking = ("--network", f"name=dcos,driver-opt=dni.address={kept}", *ALWAYS)
        run = ("run", "-d", "--name", "web", *asking, "busybox", "sleep", "100000")
        host.docker(*run)
        assert start(host, "other") == "9.0.0.130"
        assert address(host, "web") == kept
        assert place(host, "web")["MacAddress"] == "02:42:09:00:00:8c"
        assert reaches(host, "other", "web")
        host.docker("restart", "-t", "0", "web")
        assert address(host, "web") == kept
        host.docker("rm", "-f", "web")
        assert start(host, "filler") == "9.0.0.131"
        host.docker(*run)
        assert address(host, "web") == kept
        host.kill_dockerd()
        host.start_dockerd()
        _is_back_at(host, "web", kept)
        _reboot(host)
        _is_back_at(host, "web", kept)
        assert reaches(host, "web", "9.0.0.129")
        host_state.eventually(lambda: _usage(host)["used"] == 1 or None, 30, "what died is still held")
    finally:
        _release_all(host)


def test_a_container_that_outlives_dockerd_keeps_its_address_by_driver_opt(fresh_host: Host) -> None:
    host = fresh_host
    host.stop_dockerd()
    host.start_dockerd(live_restore=True)
    host.docker(*ALONE)
    asking = ("--network", "name=dcos,driver-opt=dni.address=9.0.0.140")
    host.docker("run", "-d", "--name", "web", *asking, "busybox", "sleep", "100000")
    host.kill_dockerd()
    host.start_dockerd(live_restore=True)
    assert start(host, "other") == "9.0.0.130"
    assert address(host, "web") == "9.0.0.140"
    assert reaches(host, "other", "9.0.0.140")
    host.docker("rm", "-f", "web", "other")
    host.stop_dockerd()
    host.start_dockerd()


def test_a_running_container_is_connected_at_the_address_of_a_driver_opt(fresh_host: Host) -> None:
    host = fresh_host
    host.docker(*ALONE)
    host.docker("run", "-d", "--name", "web", "busybox", "sleep", "100000")
    host.docker("network", "connect", "--driver-opt", "dni.address=9.0.0.150", "dcos", "web")
    assert address(host, "web") == "9.0.0.150"
    text = refused(host, "run", "--rm", "--network", "name=dcos,driver-opt=dni.address=9.0.0.150", "busybox", "true")
    assert "address 9.0.0.150 is in use by" in text
    host.docker("network", "disconnect", "dcos", "web")
    assert _usage(host) == {"size": 125, "used": 0, "reserved": 0, "free": 125}


def test_a_driver_opt_that_comes_too_late_is_refused_with_what_works(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    asking = ("--network", "name=dcos,driver-opt=dni.address=9.0.0.140")
    text = refused(host, "run", "--name", "web", *asking, "busybox", "true")
    for words in ("dni.address=9.0.0.140 comes too late", "say --ip 9.0.0.140", "--ipam-driver null -o overlay=dcos"):
        assert words in text
    assert host_state.held(host) == []
    assert start(host, "db", "--ip", "9.0.0.140") == "9.0.0.140"


def test_reserved_addresses_are_counted_apart_listed_with_their_name_and_given_to_nobody(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "dcos")
    try:
        _reserve(host, "9.0.0.130-9.0.0.139")
        assert start(host, "web") == "9.0.0.140"
        host_state.eventually(lambda: "web" in host.dni("address", "ls") or None, 10, "the name is not known")
        said = host.dni("address", "reserve", "dcos", "9.0.0.141", "--for", "web")
        assert "docker run --name web --net dcos --ip 9.0.0.141" in said
        assert _usage(host) == {"size": 125, "used": 1, "reserved": 11, "free": 113}
        shown = host.dni("address", "ls")
        assert "9.0.0.130-9.0.0.139  reserved" in shown
        assert "9.0.0.141            reserved  dcos     web" in shown
        status = json.loads(host.dni("status", "--json"))
        assert status["overlays"][0]["usage"]["v4"]["reserved"] == 11
        refusal = host.try_dni("address", "reserve", "dcos", "9.0.0.140", "--for", "db")
        assert "address 9.0.0.140 is in use by container web" in refusal.stderr
        assert start(host, "other") == "9.0.0.142"
        host_state.eventually(
            lambda: "container web has 9.0.0.140, not 9.0.0.141" in host.dni("status") or None, 15, "nobody is told"
        )
    finally:
        _release_all(host)
    assert _usage(host)["reserved"] == 0


def test_what_is_reserved_outlives_its_network(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "dcos")
    try:
        _reserve(host, "9.0.0.130", "--for", "web")
        host.docker("network", "rm", "dcos")
        create(host, "--subnet", "9.0.0.0/8", "dcos")
        assert start(host, "other") == "9.0.0.131"
        assert start(host, "web", "--ip", "9.0.0.130") == "9.0.0.130"
    finally:
        _release_all(host)
