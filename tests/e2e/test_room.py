# SPDX-License-Identifier: Apache-2.0
"""A host with more containers than its first half of an overlay has room for."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from tests.e2e import host_state
from tests.e2e.containers import address, create, fetch, inside, refused, start
from tests.lab import Host, Lab
from tests.lab.image import NAME

HALVES = ["10.67.0.8/29", "10.67.0.24/29", "10.67.0.40/29"]
"""Room for five containers each."""
CONTAINERS = 12
REACH_ALL = "for a in {}; do ping -c 1 -W 2 $a >/dev/null || echo $a; done"


def _crowd(host: Host) -> list[str]:
    """Start twelve containers on an overlay whose halves hold five; answer their names."""
    create(host, "--subnet", "10.67.0.0/26", "--ipam-opt", "overlay=small", "--ipam-opt", "prefix=28", "small")
    names = [f"c{number}" for number in range(CONTAINERS)]
    for name in names:
        start(host, name, "--restart", "always", net="small")
    return names


def _all_reach_all(lab: Lab, host: Host, names: list[str]) -> None:
    """A container of each half that is used reaches every other and the outside, and the host reaches them all."""
    addresses = [address(host, name, "small") for name in names]
    look = REACH_ALL.format(" ".join(addresses))
    used = [half for half in _halves(host) if any(ip_address(one) in ip_network(half) for one in addresses)]
    assert len(used) > 1
    for half in used:
        name = next(name for name, one in zip(names, addresses, strict=True) if ip_address(one) in ip_network(half))
        assert inside(host, name, "sh", "-c", look) == ""
        assert fetch(host, name, lab.outside.echo_url) == host.address
    assert host.run("sh", "-c", look) == ""


def _halves(host: Host) -> list[str]:
    return list(next(one for one in host_state.overlays(host) if one["name"] == "small")["docker_halves"])


def _is_whole(host: Host, names: list[str]) -> bool:
    return len(host.docker("ps", "-q").split()) == len(names) == len(host_state.held(host))


def test_containers_in_every_half_reach_each_other_the_host_and_the_outside_through_restarts(
    lab: Lab, host: Host
) -> None:
    names = _crowd(host)
    _all_reach_all(lab, host, names)
    assert _halves(host)[:3] == HALVES
    host_state.eventually(lambda: host_state.findings(host) == [] or None, 20, "dni check finds something")
    host.stop_dni()
    host.start_dni(**host_state.SETTINGS)
    _all_reach_all(lab, host, names)
    host.kill_dockerd()
    host.start_dockerd()
    host_state.eventually(lambda: _is_whole(host, names), 60, "not all containers are back")
    _all_reach_all(lab, host, names)
    host_state.eventually(lambda: host_state.findings(host) == [] or None, 30, "dni check finds something")


def test_an_address_in_a_later_half_can_be_asked_for_and_only_a_full_overlay_refuses_a_start(host: Host) -> None:
    host.dni("overlay", "create", "small", "--subnet", "10.67.0.0/27", "--prefix", "28", "--no-network")
    host.docker("network", "create", "-d", "dni", "--ipam-driver", "null", "-o", "overlay=small", "small")
    for number in range(4):
        start(host, f"c{number}", net="small")
    wanted = "10.67.0.28"
    host_state.eventually(lambda: len(_halves(host)) == 2, 30, "no second half was leased")
    option = f"name=small,driver-opt=dni.address={wanted}"
    host.docker("run", "-d", "--name", "asked", "--network", option, NAME, "sleep", "100000")
    assert address(host, "asked", "small") == wanted
    for number in range(4, 9):
        start(host, f"c{number}", net="small")
    text = refused(host, "run", "--rm", "--net", "small", "busybox", "true")
    for word in (
        "the 2 Docker halves of overlay 'small'",
        f"agent {host.address}",
        "10 of 10 used",
        "all 2 agent subnets of /28 in 10.67.0.0/27 are held",
        "dni address ls --overlay small",
    ):
        assert word in text
