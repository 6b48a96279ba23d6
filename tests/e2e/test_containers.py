# SPDX-License-Identifier: Apache-2.0
"""`docker run`, `connect`, `restart` and what `docker inspect` shows of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from tests.e2e import host_state
from tests.e2e.containers import address, create, inside, place, reaches, refused, start
from tests.lab import Host
from tests.lab.image import NAME


def test_inspect_shows_address_mac_and_gateway(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "dcos")
    start(host, "c1")
    shown = place(host, "c1")
    assert (shown["IPAddress"], shown["IPPrefixLen"], shown["Gateway"]) == ("9.0.0.130", 25, "9.0.0.129")
    assert shown["MacAddress"] == "02:42:09:00:00:82"
    assert shown["MacAddress"] in inside(host, "c1", "ip", "link", "show", "eth0")


def test_a_container_has_one_interface_and_one_default_route(host: Host) -> None:
    create(host, "dcos")
    start(host, "c1")
    assert inside(host, "c1", "sh", "-c", "ls /sys/class/net").split() == ["eth0", "lo"]
    assert inside(host, "c1", "ip", "route").count("default") == 1


def test_an_address_and_a_mac_can_be_asked_for(host: Host) -> None:
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    assert start(host, "c1", "--ip", "9.0.0.200", "--mac-address", "02:00:00:00:00:07") == "9.0.0.200"
    assert place(host, "c1")["MacAddress"] == "02:00:00:00:00:07"


def test_an_address_in_use_is_refused_naming_who_has_it(host: Host) -> None:
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    start(host, "holder", "--ip", "9.0.0.200")
    host_state.eventually(
        lambda: any(row["container"] == "holder" for row in host_state.held(host)) or None, 10, "holder has no name"
    )
    with host_state.nothing_left(host):
        text = refused(host, "run", "--rm", "--net", "dcos", "--ip", "9.0.0.200", "busybox", "true")
    assert "9.0.0.200 is in use by container holder" in text
    assert reaches(host, "holder", "9.0.0.129")


def test_an_address_outside_the_half_is_refused_with_the_range(host: Host) -> None:
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    for wrong in ("9.0.0.129", "9.0.0.255"):
        text = refused(host, "run", "--rm", "--net", "dcos", "--ip", wrong, "busybox", "true")
        assert "9.0.0.130 to 9.0.0.254" in text
    for known_by_docker_as_wrong in ("9.0.0.5", "9.0.7.200"):
        refused(host, "run", "--rm", "--net", "dcos", "--ip", known_by_docker_as_wrong, "busybox", "true")
    assert host_state.held(host) == []


def test_a_running_container_is_connected_and_disconnected(host: Host) -> None:
    create(host, "dcos")
    start(host, "peer")
    host.docker("run", "-d", "--name", "c1", "--net", "bridge", "busybox", "sleep", "100000")
    host.docker("network", "connect", "dcos", "c1")
    assert reaches(host, "c1", address(host, "peer"))
    host.docker("network", "disconnect", "dcos", "c1")
    assert "eth1" not in inside(host, "c1", "ip", "link")
    assert [row["container"] for row in host_state.held(host)] in (["peer"], [None])


def test_a_stopped_container_is_connected_and_gets_its_address_when_it_starts(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "dcos")
    host.docker("create", "--name", "c1", "--net", "bridge", "busybox", "sleep", "100000")
    host.docker("network", "connect", "dcos", "c1")
    assert host_state.held(host) == []
    host.docker("start", "c1")
    assert address(host, "c1") == "9.0.0.130"
    host.docker("stop", "-t", "0", "c1")
    host.docker("network", "disconnect", "dcos", "c1")
    assert host_state.held(host) == []


def test_two_dni_networks_on_one_container(host: Host) -> None:
    create(host, "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    start(host, "on-dev", net="dev")
    start(host, "on-dcos")
    start(host, "both")
    host.docker("network", "connect", "dev", "both")
    assert reaches(host, "both", address(host, "on-dev", "dev"))
    assert reaches(host, "both", address(host, "on-dcos"))
    host.docker("restart", "-t", "0", "both")
    assert reaches(host, "both", address(host, "on-dev", "dev"))
    assert reaches(host, "both", address(host, "on-dcos"))


def test_a_restart_keeps_a_container_reachable_by_name(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    start(host, "two")
    host.docker("restart", "-t", "0", "two")
    assert reaches(host, "one", "two")
    assert len(host_state.held(host)) == 2


def test_aliases_and_names_resolve(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    start(host, "two", "--network-alias", "database")
    assert reaches(host, "one", "two")
    assert reaches(host, "one", "database")


def test_thirty_containers_at_once_have_thirty_addresses(host: Host) -> None:
    create(host, "dcos")
    with ThreadPoolExecutor(30) as pool:
        list(pool.map(lambda number: start(host, f"m{number}"), range(30)))
    shown = json.loads(host.docker("network", "inspect", "--format", "{{json .Containers}}", "dcos"))
    found = {row["IPv4Address"] for row in shown.values()}
    assert len(found) == len(shown) == 30


def test_a_crowd_on_two_networks_each_starts_whichever_of_them_is_first(host: Host) -> None:
    """Each waits its turn on both: nobody may wait for who waits for it."""
    create(host, "dcos")
    create(host, "--subnet", "10.70.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    names = [f"b{number}" for number in range(16)]
    for name, (first, second) in zip(names, cycle([("dcos", "dev"), ("dev", "dcos")]), strict=False):
        host.docker("create", "--name", name, "--net", first, NAME, "sleep", "100000")
        host.docker("network", "connect", second, name)
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: host.docker("start", name), names))
    for net in ("dcos", "dev"):
        assert len({address(host, name, net) for name in names} - {""}) == len(names)
    assert reaches(host, names[0], address(host, names[1]))
    assert reaches(host, names[1], address(host, names[0], "dev"))
