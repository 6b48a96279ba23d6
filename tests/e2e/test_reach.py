# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom: inside an overlay, the host, the outside, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.containers import address, create, fetch, inside, reaches, serve, start
from tests.lab import Host, Lab


@pytest.fixture
def route_back(lab: Lab, host: Host) -> Iterator[None]:
    """The outside knows the way to the overlays, as a neighbour with a static route would."""
    subnets = ("9.0.0.0/8", "10.64.0.0/16")
    for subnet in subnets:
        lab.outside.run("ip", "route", "replace", subnet, "via", host.address)
    yield
    for subnet in subnets:
        lab.outside.run("ip", "route", "del", subnet)


def _outside_reaches(lab: Lab, target: str) -> bool:
    return lab.outside.try_run("ping", "-c", "1", "-W", "2", target).returncode == 0


def _two_overlays(host: Host, *options: str) -> tuple[str, str]:
    create(host, "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", *options, "dev")
    return start(host, "c1"), start(host, "d1", net="dev")


def test_docker_drops_forwarded_packets_and_bridged_ones_go_through_iptables(host: Host) -> None:
    """What the other tests here rely on."""
    assert "-P FORWARD DROP" in host.run("iptables", "-S", "FORWARD")
    assert host.run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables") == "1"


def test_containers_reach_each_other_by_address_and_by_name(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    start(host, "two")
    serve(host, "two")
    assert reaches(host, "one", address(host, "two"))
    assert fetch(host, "one", "http://two:9000/") == "two"


def test_the_host_reaches_a_container_and_is_reached(host: Host) -> None:
    create(host, "dcos")
    there = start(host, "one")
    serve(host, "one")
    assert host.run("curl", "-s", "-m", "30", f"http://{there}:9000/") == "one"
    assert reaches(host, "one", host.address)
    assert reaches(host, "one", "9.0.0.129")


def test_a_container_leaves_under_the_hosts_address(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    assert fetch(host, "one", lab.outside.echo_url) == host.address


@pytest.mark.usefixtures("route_back")
def test_without_masquerade_it_leaves_under_its_own(lab: Lab, host: Host) -> None:
    create(host, "-o", "masquerade=false", "dcos")
    there = start(host, "one")
    assert fetch(host, "one", lab.outside.echo_url) == there


@pytest.mark.usefixtures("route_back")
def test_the_outside_does_not_get_in(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    assert not _outside_reaches(lab, start(host, "one"))


@pytest.mark.usefixtures("route_back")
def test_the_outside_gets_in_where_the_network_is_not_isolated(lab: Lab, host: Host) -> None:
    create(host, "-o", "isolated=false", "dcos")
    assert _outside_reaches(lab, start(host, "one"))


def test_another_overlay_does_not_get_in(host: Host) -> None:
    on_dcos, on_dev = _two_overlays(host)
    assert not reaches(host, "c1", on_dev)
    assert not reaches(host, "d1", on_dcos)


def test_another_overlay_gets_in_where_the_network_is_not_isolated(host: Host) -> None:
    on_dcos, on_dev = _two_overlays(host, "-o", "isolated=false")
    assert reaches(host, "c1", on_dev)
    assert not reaches(host, "d1", on_dcos)


def test_dockers_own_bridges_do_not_get_in_and_stay_closed(host: Host) -> None:
    create(host, "dcos")
    ours = start(host, "one")
    host.docker("network", "create", "plainbridge")
    on_default = start(host, "on-docker0", net="bridge")
    on_other = start(host, "on-br", net="plainbridge")
    assert not reaches(host, "on-docker0", ours)
    assert not reaches(host, "on-br", ours)
    assert not reaches(host, "one", on_default)
    assert not reaches(host, "one", on_other)


def test_a_port_that_docker_publishes_is_reached_from_an_overlay(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    start(host, "web", "-p", "8099:9000", net="bridge")
    serve(host, "web")
    assert fetch(host, "one", f"http://{host.address}:8099/") == "web"


def test_an_internal_network_is_an_island(lab: Lab, host: Host) -> None:
    create(host, "--internal", "dcos")
    start(host, "one")
    start(host, "two")
    assert reaches(host, "one", address(host, "two"))
    assert fetch(host, "one", lab.outside.echo_url) is None
    assert "default" not in inside(host, "one", "ip", "route")
    assert inside(host, "one", "sh", "-c", "ls /sys/class/net").split() == ["eth0", "lo"]


def test_docker_networks_keep_working_beside_dni(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    start(host, "ours")
    start(host, "theirs", net="bridge")
    assert fetch(host, "theirs", lab.outside.echo_url) == host.address
