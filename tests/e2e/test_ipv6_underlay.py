# SPDX-License-Identifier: Apache-2.0
"""Two hosts without IPv4 between them, and a ZooKeeper that is reached by IPv6: one overlay of both families."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import fetch, place, reaches, serve, start
from tests.e2e.host_state import eventually
from tests.e2e.test_cluster import alive, known, networks, status
from tests.lab import Host, Lab, addresses
from tests.lab.zookeeper import ZooKeeper

SETTINGS = {**host_state.SETTINGS, "overlay_subnet6": "fd01:b::/64"}
GOES_OVER = {"vxlan": "vtep1024", "auto": "eth0", "direct": "eth0"}


@pytest.fixture(scope="module")
def without_ipv4() -> Iterator[Lab]:
    """Two hosts with real dockerds, and IPv6 alone on their link."""
    with Lab(hosts=2, engine=ENGINE) as made:
        for host in made.hosts:
            host.run("ip", "-4", "address", "flush", "dev", "eth0")
        yield made


@pytest.fixture
def url(without_ipv4: Lab) -> str:
    """A ZooKeeper that has no IPv4 address either; it ends with the lab."""
    outside = without_ipv4.outside
    server = ZooKeeper(outside.directory / "zookeeper", outside, str(addresses.OUTSIDE6))
    server.start()
    return f"zookeeper://{server.address}/six"


@pytest.fixture
def hosts(without_ipv4: Lab, url: str) -> Iterator[list[Host]]:
    """Give the hosts, which know each other; each has found its agent IP by itself."""
    for host in without_ipv4.hosts:
        host.start_dni(registry_url=url, **SETTINGS)
        host_state.overlays(host)
    one, two = without_ipv4.hosts
    for host, other in ((one, two), (two, one)):
        eventually(lambda: known(host) == {other.address6} or None, 60, "the hosts do not find each other")  # noqa: B023
        eventually(lambda: "dcos" in networks(host) or None, 60, "there is no Docker network")  # noqa: B023
    yield without_ipv4.hosts
    for host in without_ipv4.hosts:
        containers = host.docker("ps", "-aq").split()
        if containers:
            host.docker("rm", "-f", *containers)
        host.stop_dni()


def test_hosts_with_nothing_but_ipv6_between_them_share_an_overlay_of_both_families(
    without_ipv4: Lab, hosts: list[Host], url: str
) -> None:
    one, two = hosts
    assert alive(one) == {host.address6: True for host in hosts}
    assert f"{one.address6} on eth0, MTU 1500" in one.try_dni("doctor").stdout
    four = {host.name: start(host, "web", "-p", "8080:9000") for host in hosts}
    six = {host.name: str(place(host, "web", "dcos")["GlobalIPv6Address"]) for host in hosts}
    for host in hosts:
        serve(host, "web")
    for backend in ("vxlan", "direct", "auto"):
        two.dni("overlay", "set", "dcos", "--backend", backend)
        for host, other in ((one, two), (two, one)):
            for family, address in (("-4", four[other.name]), ("-6", six[other.name])):
                by = lambda: GOES_OVER[backend] in host.run("ip", family, "route", "get", address) or None  # noqa: B023, E731
                eventually(by, 10, f"{address} is not reached by {backend}")
                assert reaches(host, "web", address), f"{host.name} does not reach {address} by {backend}"
        check = f"http://[{six[two.name]}]:9000/"
        assert one.run("curl", "-s", "-m", "30", check) == "web", "one agent checks the health of another's container"
    for host in hosts:
        eventually(lambda: host_state.findings(host) == [] or None, 20, "dni check finds something")  # noqa: B023
        assert fetch(host, "web", without_ipv4.outside.echo_url6) == host.address6
        assert without_ipv4.outside.run("curl", "-s", "-m", "30", f"http://[{host.address6}]:8080/") == "web"
    two.docker("rm", "-f", "web")
    two.stop_dni()
    two.start_dni(registry_url=url, agent_ip="192.0.2.12", **SETTINGS)
    refusal = "agents of this registry are named by IPv6 addresses; this host's agent IP is 192.0.2.12"
    eventually(lambda: any(refusal in text for text in host_state.problems(two)) or None, 30, "it is not refused")
    two.stop_dni()
    eventually(lambda: alive(one).get(two.address6) is False or None, 40, "a host that is off counts as alive")
    one.dni("agent", "forget", two.address6)
    eventually(lambda: known(one) == set() or None, 10, "it is still known")
    assert two.address6 not in json.dumps(status(one)["cluster"])
    gone = lambda: "proto 64" not in one.run("sh", "-c", "ip -4 route; ip -6 route") or None  # noqa: E731
    eventually(gone, 10, "there is still a route")
    two.start_dni(registry_url=url, **SETTINGS)
