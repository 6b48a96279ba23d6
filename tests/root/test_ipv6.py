# SPDX-License-Identifier: Apache-2.0
"""What IPv6 asks of a host beyond what IPv4 does: routers that advertise, path MTUs, and to live without it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dni_driver.kernel import sysctl
from tests.root import docker
from tests.root.ground import Namespace, wire
from tests.root.packets import Server, call, is_cut_off
from tests.root.town import DCOS, SIX, Host

pytestmark = pytest.mark.root

ALL_NODES = "ff02::1"
FAR = "fd00:6::2"
FORWARDING = "ipv6/conf/all/forwarding"
OUTSIDE, OUTSIDE6 = "198.51.100.2", "fd00:5::2"
_IPV6_MTU = 24
"""An option of sockets that Python has no name for."""
_FAR_TOO_MUCH = 1400


def advertise(router: Namespace) -> None:
    """Send a router advertisement (RFC 4861 section 4.2): "send what is for elsewhere to me", for half an hour."""

    def say() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as speaking:
            speaking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
            speaking.sendto(body, (ALL_NODES, 0, 0, socket.if_nametoindex("eth0")))

    router.run(say)


def eventually(holds: Callable[[], bool], words: str) -> None:
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, words
        time.sleep(0.05)


def default_routes(host: Namespace) -> str:
    return host.sh("ip -6 route show default")


def learn_route(host: Host, router: Namespace) -> None:
    """Have a host learn its default route from what its router advertises."""

    def learned() -> bool:
        advertise(router)
        return "proto ra" in default_routes(host)

    host.sh("ip -6 route flush default")
    eventually(lambda: "tentative" not in router.sh("ip -6 addr show dev eth0"), "no link-local address")
    eventually(learned, "no route was learned")


@pytest.fixture
def advertised(host: Host, outside: Namespace) -> Namespace:
    """Give the router that has told a host of itself."""
    host.sysctl("ipv6/conf/eth0/accept_ra", 1)
    learn_route(host, outside)
    host.want(DCOS)
    host.reconcile()
    return outside


def test_a_host_that_begins_to_forward_keeps_the_route_its_router_told_it_and_goes_on_hearing_it(
    host: Host, advertised: Namespace
) -> None:
    container = host.container(DCOS)
    assert host.setting(FORWARDING) == "1"
    assert "proto ra" in default_routes(host)
    assert call(container.sandbox, OUTSIDE6) == "fd00:5::1"
    learn_route(host, advertised)


def test_that_is_told_among_the_changes(host: Host, advertised: Namespace) -> None:
    assert advertised
    host.container(DCOS)
    host.sysctl(FORWARDING, 0)
    host.sysctl("ipv6/conf/eth0/accept_ra", 1)
    assert host.reconcile() == [
        "net.ipv6.conf.eth0.accept_ra set to 2: eth0 goes on hearing its router",
        "net.ipv6.conf.all.forwarding switched on",
    ]
    assert host.reconcile() == []


@pytest.mark.parametrize("chosen", ["0", "2"])
def test_who_listens_for_the_kernel_is_not_disturbed(host: Host, advertised: Namespace, chosen: str) -> None:
    """systemd-networkd and NetworkManager hear routers themselves, and tell the kernel not to."""
    assert advertised
    host.sysctl("ipv6/conf/eth0/accept_ra", chosen)
    host.container(DCOS)
    assert host.setting("ipv6/conf/eth0/accept_ra") == chosen


def test_other_links_are_left_as_they_are(host: Host, advertised: Namespace) -> None:
    with Namespace() as neighbour:
        wire(host, "eth1", neighbour, "eth0")
        host.sysctl("ipv6/conf/eth1/accept_ra", 1)
        host.container(DCOS)
        assert host.setting("ipv6/conf/eth1/accept_ra") == "1"
    assert advertised


def test_no_container_is_taken_for_a_router_by_the_host(host: Host, outside: Namespace) -> None:
    assert outside
    host.want(DCOS)
    host.reconcile()
    container = host.container(DCOS)
    before = default_routes(host)
    eventually(lambda: "tentative" not in container.sandbox.sh("ip -6 addr show dev eth0"), "no link-local address")
    for _ in range(3):
        advertise(container.sandbox)
    assert call(host, container.address6.ip), "what was sent before has been heard"
    assert default_routes(host) == before


@pytest.fixture
def narrow(outside: Namespace) -> Iterator[Namespace]:
    """Give a machine behind the outside, on a link of 1280 bytes."""
    with Namespace() as far:
        wire(outside, "eth1", far, "eth0")
        outside.sysctl(FORWARDING, 1)
        outside.sh("ip link set eth1 mtu 1280", "ip addr add fd00:6::1/64 dev eth1 nodad")
        far.sh("ip link set eth0 mtu 1280", f"ip addr add {FAR}/64 dev eth0 nodad")
        far.sh("ip route add default via fd00:6::1")
        with Server(far):
            yield far


def path_mtu(caller: Namespace) -> int:
    """Send far too much to far away; answer what the kernel then knows of the way, in bytes, once it is told."""

    def send() -> int:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as speaking:
            speaking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)
            speaking.connect((FAR, 9))
            speaking.send(bytes(_FAR_TOO_MUCH))
            eventually(lambda: _known(speaking) < _FAR_TOO_MUCH, "nothing is known of the way")
            return _known(speaking)

    return caller.run(send)


def _known(speaking: socket.socket) -> int:
    mtu: int = speaking.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
    return mtu


def test_a_container_is_told_how_narrow_its_path_is(host: Host, narrow: Namespace) -> None:
    """Packet Too Big comes from a router on the way, to an isolated and masqueraded container."""
    assert narrow
    docker.filter_bridged_frames(host)
    host.sh("ip6tables -P FORWARD DROP")
    host.want(DCOS)
    host.reconcile()
    container = host.container(DCOS)
    assert call(container.sandbox, FAR) == "fd00:5::1"
    assert path_mtu(container.sandbox) == 1280


@pytest.fixture
def off(host: Host, outside: Namespace) -> Host:
    """Give a host with IPv6 switched off on all its links."""
    assert outside
    for links in ("all", "default"):
        host.sysctl(f"ipv6/conf/{links}/disable_ipv6", 1)
    return host


def test_a_host_without_ipv6_says_so_with_the_command_that_changes_it(host: Host) -> None:
    assert host.kernel.ipv6_fault() is None
    host.sysctl("ipv6/conf/all/disable_ipv6", 1)
    name = "net.ipv6.conf.all.disable_ipv6"
    assert host.run(host.kernel.ipv6_fault) == f"{name} is 1: `sysctl -w {name}=0`"


def test_a_kernel_without_ipv6_says_so_too(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    assert "boot without ipv6.disable=1" in str(host.kernel.ipv6_fault())


def test_a_kernel_without_ipv6_gives_a_bridge_of_both_families_its_ipv4_address(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reboot without it: what was recorded is not lost, and IPv4 goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(sysctl, "_ROOT", tmp_path)
        host.want(DCOS)
        host.reconcile()
        assert "9.0.0.129/25" in host.sh("ip addr show dev d-dcos")
        assert "fd01" not in host.sh("ip addr show dev d-dcos")
    host.reconcile()
    assert "fd01:b::8000:0:1/81" in host.sh("ip addr show dev d-dcos")


def test_ipv4_works_where_ipv6_is_off_and_a_network_that_spoke_it_goes_on(off: Host) -> None:
    off.want(DCOS)
    off.reconcile()
    one, two = off.container(DCOS), off.container(DCOS, 1)
    assert call(one.sandbox, two.address.ip) == str(one.address.ip)
    assert call(one.sandbox, OUTSIDE) == "198.51.100.1"
    off.sysctl("ipv6/conf/all/disable_ipv6", 1)
    off.reconcile()
    assert call(one.sandbox, two.address6.ip) == str(one.address6.ip)


@pytest.fixture(params=[True, False], ids=["with Docker", "without Docker"])
def six(request: pytest.FixtureRequest, host: Host, outside: Namespace) -> Iterator[Host]:
    """Give a host with an IPv6-only overlay that has a local subnet, and an isolated overlay beside it."""
    assert outside
    host.want(SIX, DCOS)
    if request.param:
        with docker.docker_on(host):
            host.reconcile()
            yield host
    else:
        host.reconcile()
        yield host


def test_the_local_subnet_of_an_ipv6_only_overlay_leads_out_under_this_hosts_name(six: Host) -> None:
    one, two = six.container(SIX), six.container(SIX, 1)
    assert call(one.sandbox, two.address.ip) == str(one.address.ip)
    assert call(one.sandbox, two.address6.ip) == str(one.address6.ip)
    assert call(one.sandbox, OUTSIDE) == "198.51.100.1"
    assert call(one.sandbox, OUTSIDE6) == "fd00:5::1"


def test_it_does_where_no_overlay_speaks_ipv4(host: Host, outside: Namespace) -> None:
    assert outside
    host.want(SIX)
    host.reconcile()
    one, two = host.container(SIX), host.container(SIX, 1)
    assert call(one.sandbox, two.address.ip) == str(one.address.ip)
    assert call(one.sandbox, OUTSIDE) == "198.51.100.1"
    assert call(one.sandbox, OUTSIDE6) == "fd00:5::1"
    assert host.reconcile() == []


def test_and_lets_nobody_in(six: Host, outside: Namespace) -> None:
    one, other = six.container(SIX), six.container(DCOS)
    for caller, called in ((other.sandbox, one), (one.sandbox, other), (outside, one)):
        assert is_cut_off(caller, called.address.ip)
        assert is_cut_off(caller, called.address6.ip)
    assert call(six, one.address.ip)


def test_a_containers_link_local_address_is_its_own(host: Host) -> None:
    """Hairpin sends its question whether somebody has that address back to it."""
    host.want(DCOS)
    host.reconcile()
    container = host.container(DCOS)

    def settled() -> str:
        shown = container.sandbox.sh("ip -6 addr show dev eth0 scope link")
        return shown if "fe80" in shown and "tentative" not in shown else ""

    eventually(lambda: bool(settled()), "no link-local address")
    assert "dadfailed" not in settled()
    assert "fe80" not in host.sh(f"ip addr show dev {container.link.host}"), "the host's end has none"
