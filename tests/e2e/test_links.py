# SPDX-License-Identifier: Apache-2.0
"""Container links: how large packets are, where several of them lead, and what may be sent by them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import (
    CREATE,
    FORGER,
    address,
    create,
    fetch,
    forges,
    inside,
    place,
    reaches,
    refused,
    start,
)
from tests.lab import Host, Lab

NAMES = Path(__file__).parent.parent / "lab" / "names.py"
DEV = ("--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev")
SHUT = ("--subnet", "10.66.0.0/16", "--ipam-opt", "overlay=shut", "--internal")
ICMP_HEADERS = 28


@pytest.fixture
def names(lab: Lab) -> Iterator[str]:
    """The hosts' name server; answers the address it has for every name."""
    server = lab.outside.spawn(sys.executable, "-I", "-S", str(NAMES), lab.outside.address, lab.outside.world)
    yield lab.outside.world
    server.kill()
    server.wait()


@pytest.fixture
def underlay(host: Host) -> Iterator[Host]:
    """The host, whose underlay has its MTU again afterwards."""
    yield host
    _set_underlay(host, 1500)


def _set_underlay(host: Host, mtu: int) -> None:
    host.run("ip", "link", "set", "eth0", "mtu", str(mtu))


def _mtus(host: Host, bridge: str, *containers: str) -> set[int]:
    texts = [host.run("ip", "-o", "link", "show", bridge)]
    texts += [inside(host, name, "ip", "-o", "link", "show", "eth0") for name in containers]
    return {int(text.split()[text.split().index("mtu") + 1]) for text in texts}


def _follow(host: Host, mtu: int, *containers: str) -> None:
    host_state.eventually(
        lambda: _mtus(host, "d-dcos", *containers) == {mtu}, 10, f"some have not MTU {mtu} after ten seconds"
    )


def _passes(host: Host, name: str, target: str, mtu: int) -> bool:
    """Tell whether an answer to a ping of full size comes."""
    size = str(mtu - ICMP_HEADERS)
    return host.try_docker("exec", name, "ping", "-c", "1", "-W", "2", "-s", size, target).returncode == 0


# -- MTU


def test_running_containers_follow_the_underlay(lab: Lab, underlay: Host) -> None:
    host = underlay
    create(host, "dcos")
    start(host, "one")
    start(host, "two")
    for mtu in (1400, 1300):
        _set_underlay(host, mtu)
        _follow(host, mtu - 50, "one", "two")
        for target in (address(host, "two"), lab.outside.world):
            assert _passes(host, "one", target, mtu - 50)
    start(host, "later")
    assert _mtus(host, "d-dcos", "later") == {1250}
    host.stop_dni()
    _set_underlay(host, 1500)
    host.start_dni(**host_state.SETTINGS)
    _follow(host, 1450, "one", "two", "later")


def test_a_given_mtu_stands_and_is_told_where_it_no_longer_fits(underlay: Host) -> None:
    host = underlay
    text = refused(host, *CREATE, "-o", "mtu=1500", "dcos")
    assert "mtu=1500 does not fit: eth0 has 1500, VXLAN takes 50: at most 1450" in text
    create(host, "-o", "mtu=1450", "dcos")
    start(host, "one")
    _set_underlay(host, 1400)
    told = "mtu=1450 does not fit: eth0 has 1400, VXLAN takes 50: at most 1350"
    host_state.eventually(
        lambda: [finding["problem"] for finding in host_state.findings(host)] == [told] or None, 10, "not found"
    )
    host_state.eventually(
        lambda: any(told in problem for problem in host_state.problems(host)), 10, "status does not tell"
    )
    assert _mtus(host, "d-dcos", "one") == {1450}


# -- several networks on one container


def _leads_outside(lab: Lab, host: Host, name: str, peers: dict[str, str], networks: set[str]) -> None:
    """Check that a container has one default route, that it works, names are found, and peers on its overlays too."""
    assert inside(host, name, "ip", "route").count("default") == 1
    assert fetch(host, name, lab.outside.echo_url) == host.address
    assert lab.outside.world in inside(host, name, "nslookup", "www.example.org")
    assert all(reaches(host, name, peers[overlay]) for overlay in networks & set(peers))


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("first", "second", "third"),
    [("dcos", "br", "dev"), ("br", "dev", "dcos"), ("dev", "dcos", "br")],
)
def test_networks_come_and_go_in_any_order_and_one_leads_outside(
    lab: Lab, host: Host, first: str, second: str, third: str
) -> None:
    create(host, "dcos")
    create(host, *DEV, "dev")
    host.docker("network", "create", "br")
    peers = {overlay: start(host, f"on-{overlay}", net=overlay) for overlay in ("dcos", "dev")}
    start(host, "one", net=first)
    on = {first}
    for command, network in (
        ("connect", second),
        ("connect", third),
        ("disconnect", first),
        ("connect", first),
        ("disconnect", second),
        ("disconnect", third),
    ):
        host.docker("network", command, network, "one")
        on ^= {network}
        _leads_outside(lab, host, "one", peers, on)


def test_the_network_of_highest_priority_has_the_default_route(host: Host) -> None:
    if ENGINE in ("20.10", "26.1"):
        pytest.skip(f"Docker Engine {ENGINE} has no gw-priority")
    create(host, "dcos")
    create(host, *DEV, "dev")
    host.docker("network", "create", "br")
    for winner, gateway in (("dcos", "9.0.0.129"), ("dev", "10.64.0.129")):
        words = [f"name={name},gw-priority={10 if name == winner else 1}" for name in ("br", "dcos", "dev")]
        host.docker(
            "run", "-d", "--name", winner, *(f"--network={word}" for word in words), "busybox", "sleep", "9999"
        )
        assert f"default via {gateway} " in inside(host, winner, "ip", "route")


def test_an_internal_network_beside_another_is_reached_from_inside_only(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    create(host, *SHUT, "shut")
    peer = start(host, "peer", net="shut")
    start(host, "neighbour")
    start(host, "both", net="shut")
    assert fetch(host, "both", lab.outside.echo_url) is None
    host.docker("network", "connect", "dcos", "both")
    assert reaches(host, "both", peer)
    assert fetch(host, "both", lab.outside.echo_url) == host.address
    assert not reaches(host, "neighbour", peer)
    assert "10.66.0.0/16 via 10.66.0.129" in inside(host, "peer", "ip", "route"), "the way to other agents"


# -- what may be sent


GATEWAY, NOBODY = "9.0.0.129", "9.0.0.250"


def test_a_container_sends_under_its_own_addresses_only(host: Host) -> None:
    create(host, "dcos")
    victim = start(host, "victim")
    start(host, "forger", *FORGER)
    for stolen in (victim, NOBODY):
        assert not forges(host, "forger", stolen, GATEWAY)
    host.docker("restart", "-t", "0", "forger")
    assert not forges(host, "forger", NOBODY, GATEWAY)
    assert reaches(host, "forger", victim)
    inside(host, "forger", "ip", "link", "set", "eth0", "address", place(host, "victim")["MacAddress"])
    assert not reaches(host, "forger", GATEWAY)
    assert reaches(host, "victim", GATEWAY)


def test_the_guard_is_back_when_somebody_took_it_away(host: Host) -> None:
    create(host, "dcos")
    start(host, "forger", *FORGER)
    host_state.eventually(lambda: _forges_unguarded(host), 30, "nothing is forged although the guard is away")
    host_state.eventually(lambda: not forges(host, "forger", NOBODY, GATEWAY), 10, "the guard is not back")
    assert reaches(host, "forger", GATEWAY)


def _forges_unguarded(host: Host) -> bool:
    """Take the guard away and forge; on a busy machine the guard may be back before that."""
    host.try_run("nft", "delete", "table", "bridge", "dni")
    return forges(host, "forger", NOBODY, GATEWAY)


def test_who_needs_to_may_spoof_and_nobody_else(host: Host) -> None:
    create(host, "dcos")
    host.docker(
        "run", "-d", "--name", "router", *FORGER, "--network", "name=dcos,driver-opt=spoof=allow", "busybox",
        "sleep", "9999",
    )  # fmt: skip
    start(host, "forger", *FORGER)
    assert forges(host, "router", NOBODY, GATEWAY)
    assert not forges(host, "forger", NOBODY, GATEWAY)
    create(host, *DEV, "-o", "spoof=allow", "dev")
    start(host, "free", *FORGER, net="dev")
    assert forges(host, "free", "10.64.0.250", "10.64.0.129")


def test_a_link_local_ip_works_with_spoof_allow(host: Host) -> None:
    """Docker sets it without telling the driver: without leave to spoof nobody hears of it."""
    create(host, "dcos")
    create(host, *DEV, "-o", "spoof=allow", "dev")
    for net, expected in (("dcos", False), ("dev", True)):
        for name, link_local in (("one", "169.254.7.1"), ("two", "169.254.7.2")):
            start(host, f"{name}-{net}", "--link-local-ip", link_local, net=net)
        assert "169.254.7.1/" in inside(host, f"one-{net}", "ip", "address", "show", "eth0")
        assert reaches(host, f"one-{net}", "169.254.7.2") is expected
        assert reaches(host, f"one-{net}", address(host, f"two-{net}", net))


def test_a_mac_of_ones_own_choice_works(host: Host) -> None:
    create(host, "dcos")
    start(host, "one", "--mac-address", "02:00:00:00:00:07")
    assert reaches(host, "one", GATEWAY)


# -- options of other drivers


def test_options_of_other_drivers_are_refused_with_what_to_use_instead(host: Host) -> None:
    for option, instead in (
        ("com.docker.network.bridge.name=br7", "--ipam-opt overlay=NAME"),
        ("com.docker.network.bridge.enable_icc=false", "two overlays"),
        ("com.docker.network.bridge.enable_ip_masquerade=false", "-o masquerade="),
        ("com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "-p 127.0.0.1:8080:80"),
        ("encrypted", "WireGuard"),
        ("parent=eth0", "d-OVERLAY"),
        ("overlay=dev", "--ipam-opt overlay=dev"),
        ("prefix=26", "--ipam-opt prefix=VALUE"),
    ):
        assert instead in refused(host, *CREATE, "-o", option, "dcos")


def test_options_that_make_sense_are_taken(host: Host) -> None:
    create(host, "--attachable", "-o", "com.docker.network.container_iface_prefix=lan", "dcos")
    start(host, "one")
    assert inside(host, "one", "sh", "-c", "ls /sys/class/net").split() == ["lan0", "lo"]
    host.docker("run", "--rm", "--net", "dcos", "--link", "one:other", "busybox", "ping", "-c", "1", "other")
    text = refused(
        host, "run", "--rm", "--network", "name=dcos,driver-opt=com.docker.network.endpoint.ifname=wan0", "busybox",
        "true",
    )  # fmt: skip
    assert "com.docker.network.container_iface_prefix=NAME" in text
