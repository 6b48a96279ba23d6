# SPDX-License-Identifier: Apache-2.0
"""A container that forges an address gets nothing through, and an honest one everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import msgspec
import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.mac import link_local
from dni_driver.core.wanted import Link, Wanted
from dni_driver.kernel import Kernel
from dni_driver.kernel.firewall import guard
from dni_driver.kernel.netlink import nfnetlink
from tests.root import frames
from tests.root.frames import (
    ADVERTISE,
    ARP,
    IPV4,
    IPV6,
    QINQ,
    SOLICIT,
    VLAN,
    about,
    arp,
    ether,
    icmp6,
    ipv4,
    listening,
)
from tests.root.ground import Namespace
from tests.root.packets import call, is_cut_off
from tests.root.town import DCOS, DEV, OPEN, Container, Host, link, plug

pytestmark = pytest.mark.root


class Who:
    """A container by its MAC and addresses."""

    def __init__(self, container: Container) -> None:
        """Read them."""
        self.mac = container.link.mac
        self.ip = container.address.ip
        self.ip6 = container.address6.ip
        self.local = link_local(self.mac)


NOBODY, NOBODY6 = IPv4Address("0.0.0.0"), IPv6Address("::")
GATEWAY = IPv4Address("9.0.0.129")
STRANGER = "02:00:00:00:00:99"


def _tagged(me: Who, it: Who, *tags: int) -> bytes:
    kind, payload = IPV4, ipv4(it.ip)
    for tag in tags:
        kind, payload = frames.tagged(tag, 0, kind, payload)
    return ether(me.mac, kind, payload)


def _snap(me: Who, it: Who) -> bytes:
    packet = b"\xaa\xaa\x03\x00\x00\x00\x08\x00" + ipv4(it.ip)
    return ether(me.mac, len(packet), packet)


FORGED: dict[str, Callable[[Who, Who], bytes]] = {
    "IPv4 of another": lambda me, it: ether(me.mac, IPV4, ipv4(it.ip)),
    "IPv4 of the gateway": lambda me, _: ether(me.mac, IPV4, ipv4(GATEWAY)),
    "IPv4 of nobody": lambda me, _: ether(me.mac, IPV4, ipv4(IPv4Address("203.0.113.9"))),
    "IPv4 from 0.0.0.0": lambda me, _: ether(me.mac, IPV4, ipv4(NOBODY)),
    "MAC of another": lambda me, it: ether(it.mac, IPV4, ipv4(me.ip)),
    "MAC of nobody": lambda me, _: ether(STRANGER, IPV4, ipv4(me.ip)),
    "all of another": lambda _, it: ether(it.mac, IPV4, ipv4(it.ip)),
    "ARP reply for another": lambda me, it: ether(me.mac, ARP, arp(frames.REPLY, me.mac, it.ip, me.ip)),
    "ARP reply for the gateway": lambda me, _: ether(me.mac, ARP, arp(frames.REPLY, me.mac, GATEWAY, me.ip)),
    "ARP request of another": lambda me, it: ether(me.mac, ARP, arp(frames.REQUEST, me.mac, it.ip, it.ip)),
    "ARP with the MAC of another": lambda me, it: ether(me.mac, ARP, arp(frames.REPLY, it.mac, me.ip, me.ip)),
    "ARP probe with the MAC of another": lambda me, it: ether(
        me.mac, ARP, arp(frames.REQUEST, it.mac, NOBODY, me.ip)
    ),
    "ARP in a frame of another": lambda me, it: ether(it.mac, ARP, arp(frames.REQUEST, me.mac, me.ip, it.ip)),
    "IPv6 of another": lambda me, it: ether(me.mac, IPV6, frames.udp6(it.ip6)),
    "link-local address of another": lambda me, it: ether(me.mac, IPV6, frames.udp6(it.local)),
    "IPv6 from ::": lambda me, _: ether(me.mac, IPV6, frames.udp6(NOBODY6)),
    "IPv6 in a frame of another": lambda me, it: ether(it.mac, IPV6, frames.udp6(me.ip6)),
    "advertisement for another": lambda me, it: ether(me.mac, IPV6, icmp6(me.ip6, ADVERTISE, about(it.ip6))),
    "advertisement for another's link-local address": lambda me, it: ether(
        me.mac, IPV6, icmp6(me.local, ADVERTISE, about(it.local))
    ),
    "advertisement for another behind options": lambda me, it: ether(
        me.mac, IPV6, icmp6(me.ip6, ADVERTISE, about(it.ip6), behind_options=True)
    ),
    "solicitation of another": lambda me, it: ether(me.mac, IPV6, icmp6(it.ip6, SOLICIT, about(me.ip6))),
    "claim to another's address": lambda me, it: ether(me.mac, IPV6, icmp6(NOBODY6, SOLICIT, about(it.ip6))),
    "router advertisement": lambda me, _: ether(me.mac, IPV6, icmp6(me.local, frames.ADVERTISE_ROUTER, bytes(12))),
    "IPv4 behind a tag": lambda me, it: _tagged(me, it, VLAN),
    "IPv4 behind two tags": lambda me, it: _tagged(me, it, VLAN, QINQ),
    "IPv4 behind three tags": lambda me, it: _tagged(me, it, VLAN, VLAN, QINQ),
    "IPv4 in LLC": _snap,
    "another protocol": lambda me, _: ether(me.mac, 0x88CC, b"who knows"),
    "another protocol of another": lambda _, it: ether(it.mac, 0x88CC, b"who knows"),
    "to a link-local group": lambda _, it: ether(it.mac, 0x88CC, b"lldp", receiver="01:80:c2:00:00:0e"),
}

HONEST: dict[str, Callable[[Who, Who], bytes]] = {
    "IPv4": lambda me, _: ether(me.mac, IPV4, ipv4(me.ip)),
    "IPv6": lambda me, _: ether(me.mac, IPV6, frames.udp6(me.ip6)),
    "IPv6 from its link-local address": lambda me, _: ether(me.mac, IPV6, frames.udp6(me.local)),
    "ARP request": lambda me, it: ether(me.mac, ARP, arp(frames.REQUEST, me.mac, me.ip, it.ip)),
    "ARP reply": lambda me, it: ether(me.mac, ARP, arp(frames.REPLY, me.mac, me.ip, it.ip)),
    "ARP announcement": lambda me, _: ether(me.mac, ARP, arp(frames.REQUEST, me.mac, me.ip, me.ip)),
    "ARP probe": lambda me, _: ether(me.mac, ARP, arp(frames.REQUEST, me.mac, NOBODY, me.ip)),
    "solicitation": lambda me, it: ether(me.mac, IPV6, icmp6(me.ip6, SOLICIT, about(it.ip6))),
    "advertisement": lambda me, _: ether(me.mac, IPV6, icmp6(me.ip6, ADVERTISE, about(me.ip6))),
    "link-local advertisement": lambda me, _: ether(me.mac, IPV6, icmp6(me.local, ADVERTISE, about(me.local))),
    "claim to its address": lambda me, _: ether(me.mac, IPV6, icmp6(NOBODY6, SOLICIT, about(me.local))),
    "router solicitation": lambda me, _: ether(me.mac, IPV6, icmp6(NOBODY6, frames.SOLICIT_ROUTER)),
    "MLD report": lambda me, _: ether(me.mac, IPV6, icmp6(NOBODY6, frames.LISTENER_REPORT)),
    "MLD report behind options": lambda me, _: ether(
        me.mac, IPV6, icmp6(NOBODY6, frames.LISTENER_REPORT, behind_options=True)
    ),
}


class Stage:
    """A forger, its victim, and those who listen: the victim and the host."""

    def __init__(self, host: Host) -> None:
        """Start both containers."""
        host.want(DCOS)
        host.reconcile()
        self.host = host
        self.forger, self.victim = host.container(DCOS), host.container(DCOS, 1)

    def heard(self, build: Callable[[Who, Who], bytes]) -> bool:
        """Tell whether a frame that the forger sends is heard."""
        me, it = Who(self.forger), Who(self.victim)
        honest = ether(me.mac, IPV4, ipv4(me.ip))
        with listening((self.victim.sandbox, "eth0"), (self.host, "d-dcos")) as ears:
            (through,) = frames.get_through(self.forger.sandbox, [build(me, it)], honest, ears)
        return through

    def relink(self, **changed: object) -> None:
        """Change what is recorded of the forger's link, and reconcile."""
        self.forger.link = msgspec.structs.replace(self.forger.link, **changed)
        self.host.wanted = msgspec.structs.replace(self.host.wanted, links=(self.forger.link, self.victim.link))
        self.host.reconcile()


@pytest.fixture
def stage(host: Host) -> Stage:
    return Stage(host)


def test_nothing_forged_gets_through(stage: Stage) -> None:
    assert [name for name, build in FORGED.items() if stage.heard(build)] == []


def test_everything_honest_gets_through(stage: Stage) -> None:
    assert [name for name, build in HONEST.items() if not stage.heard(build)] == []


def test_without_the_guard_all_of_it_is_heard(stage: Stage) -> None:
    """What the other tests send is sent indeed."""
    stage.host.sh("nft delete table bridge dni")
    unheard = [name for name, build in FORGED.items() if not stage.heard(build)]
    assert unheard == []


def fdb(host: Host, mac: str) -> str:
    """Answer the port of d-dcos behind which a MAC was last seen."""
    (line,) = (line for line in host.sh("bridge fdb show br d-dcos").splitlines() if line.startswith(f"{mac} "))
    return line.split()[2]


def test_the_bridge_learns_no_forged_sender(stage: Stage) -> None:
    """Frames to link-local groups take another way through the bridge, each group its own."""
    me, it = Who(stage.forger), Who(stage.victim)
    assert call(stage.forger.sandbox, it.ip)
    for group in range(16):
        frame = ether(it.mac, 0x88CC, b"lldp", receiver=f"01:80:c2:00:00:{group:02x}")
        frames.send(stage.forger.sandbox, frame)
    assert fdb(stage.host, it.mac) == stage.victim.link.host
    assert fdb(stage.host, me.mac) == stage.forger.link.host


def test_who_may_spoof_is_heard_with_everything(stage: Stage) -> None:
    stage.relink(spoof=True)
    assert [name for name, build in {**FORGED, **HONEST}.items() if not stage.heard(build)] == []
    stage.relink(spoof=False)
    assert not stage.heard(FORGED["IPv4 of another"])
    assert stage.heard(HONEST["IPv4"])


def test_a_host_where_all_may_spoof_has_no_guard(host: Host) -> None:
    """So that a kernel without nftables for bridges can have networks too."""
    host.want(DCOS)
    host.wanted = msgspec.structs.replace(host.wanted, guarded=False)
    host.reconcile()
    free = msgspec.structs.replace(link(DCOS), spoof=True)
    host.run(host.kernel.attach, free)
    assert "bridge dni" not in host.sh("nft list tables")


def elements(host: Host) -> str:
    """Answer every element of the table, one a line."""
    table = json.loads(host.sh("nft -j list table bridge dni"))["nftables"]
    return "\n".join(str(element) for entry in table for element in entry.get("set", {}).get("elem", []))


def test_no_container_starts_unguarded(host: Host) -> None:
    host.want(DCOS)
    host.reconcile()
    host.sh("nft delete table bridge dni")
    late = link(DCOS)
    with pytest.raises(
        KernelError, match="nft table bridge dni is missing on this host: `dni repair` makes it again"
    ):
        host.run(host.kernel.attach, late)
    assert late.host not in host.sh("ip -br link")


def test_a_mac_is_its_own_where_it_is_recorded(stage: Stage) -> None:
    """As with --mac-address; not where the container took it by itself."""
    stage.forger.sandbox.sh(f"ip link set eth0 address {STRANGER}")
    assert is_cut_off(stage.forger.sandbox, stage.victim.address.ip)
    stage.relink(mac=STRANGER)
    assert call(stage.forger.sandbox, stage.victim.address.ip)
    assert call(stage.forger.sandbox, stage.victim.address6.ip)


def test_an_address_taken_by_hand_is_worth_nothing(stage: Stage) -> None:
    """Its old owner is reached as before, and whoever took it reaches nobody by it."""
    taken = stage.victim.address
    stage.forger.sandbox.sh(f"ip addr add {taken} dev eth0", "ip route flush cache")
    stage.forger.sandbox.sh("ip link set eth0 down", "ip link set eth0 up")
    stage.host.sh("ip neigh flush all")
    assert call(stage.host, taken.ip) == "9.0.0.129"
    assert f"{taken.ip} dev d-dcos lladdr {stage.victim.link.mac}" in stage.host.sh("ip neigh show")
    stage.forger.sandbox.sh(f"ip addr del {stage.forger.address} dev eth0")
    assert is_cut_off(stage.forger.sandbox, "9.0.0.129")


def test_a_container_on_two_networks_may_answer_by_either(host: Host) -> None:
    host.want(DCOS, DEV)
    host.reconcile()
    one, other = host.container(DCOS), host.container(DEV)
    second = link(DEV, 5, one.sandbox, "eth1")
    host.run(host.kernel.attach, second, [one.link])
    plug(host, msgspec.structs.replace(second, gateways=()), one.sandbox, "eth1")
    mine, others = second.addresses[0].ip, other.address.ip
    assert isinstance(mine, IPv4Address)
    honest = ether(one.link.mac, IPV4, ipv4(one.address.ip))
    tried = [ether(one.link.mac, IPV4, ipv4(source)) for source in (mine, others)]
    with listening((host, "d-dcos")) as ears:
        assert frames.get_through(one.sandbox, tried, honest, ears) == [True, False]


@pytest.mark.parametrize("strict", ["all", "d-dcos"])
def test_what_comes_in_by_one_network_is_answered_by_the_other(host: Host, outside: Namespace, strict: str) -> None:
    """The default route leads by the first; the host takes the answer although it expects it from the second."""
    host.want(DCOS, OPEN)
    host.reconcile()
    host.sysctl(f"ipv4/conf/{strict}/rp_filter", 1)
    host.reconcile()
    container = host.container(DCOS)
    second = link(OPEN, 0, container.sandbox, "eth1")
    host.run(host.kernel.attach, second, [container.link])
    plug(host, msgspec.structs.replace(second, gateways=()), container.sandbox, "eth1")
    assert call(outside, second.addresses[0].ip) == "198.51.100.2"


def test_a_link_that_goes_takes_its_elements_along(stage: Stage) -> None:
    gone, left = stage.forger.link, stage.victim.link
    assert gone.host in elements(stage.host)
    stage.host.run(stage.host.kernel.detach, [gone.endpoint])
    stage.host.kernel.drain()
    assert gone.host not in elements(stage.host)
    assert left.host in elements(stage.host)


def test_elements_of_links_that_are_gone_are_found_and_removed(stage: Stage) -> None:
    stage.host.sh("nft add element bridge dni ipv4 { dni00000000000 . 02:42:09:00:00:82 . 9.0.0.200 }")
    said = "nft table bridge dni: link dni00000000000 is gone, but not what it may send as"
    assert said in stage.host.run(stage.host.kernel.observe, stage.host.wanted).firewall
    stage.host.reconcile()
    assert "dni00000000000" not in elements(stage.host)


def test_what_a_container_may_send_as_costs_no_program(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "run", lambda *_: pytest.fail("a program was run"))
    late = stage.host.container(DCOS, 2)
    stage.host.reconcile()
    stage.host.run(stage.host.kernel.detach, [late.link.endpoint])
    stage.host.kernel.drain()
    stage.host.run(Kernel(stage.host.run_dir).reconcile, lambda: stage.host.wanted)


def test_a_container_that_comes_meanwhile_is_not_cut_off(stage: Stage) -> None:
    """It was admitted after the table was read, and before it was made anew or looked through."""
    for number, damage in enumerate(("nft list tables", "nft insert rule bridge dni prerouting accept")):
        stage.host.sh(damage)
        before, late = stage.host.wanted, link(DCOS, 10 + number)
        reads = iter([before, msgspec.structs.replace(before, links=(*before.links, late))])

        def read(reads: Iterator[Wanted] = reads, late: Link = late) -> Wanted:
            stage.host.kernel.attach(late)
            return next(reads)

        stage.host.run(stage.host.kernel.reconcile, read)
        assert late.host in elements(stage.host)


@pytest.mark.parametrize("admitted", [True, False], ids=["admitted here", "admitted by a plugin that is gone"])
def test_elements_removed_by_two_at_once_are_no_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, admitted: bool
) -> None:
    host, gone, keeper = stage.host, stage.forger.link.host, guard.Guard(stage.host.run_dir)
    if admitted:
        host.run(keeper.admit, [stage.forger.link])
    really = nfnetlink.remove

    def beaten(table: nfnetlink.Table, keys: nfnetlink.Elements) -> None:
        monkeypatch.setattr(nfnetlink, "remove", really)
        one_of_them = next(key for key in keys["ipv4"])
        really(table, {"ipv4": frozenset([one_of_them])})
        really(table, keys)

    monkeypatch.setattr(nfnetlink, "remove", beaten)
    host.run(keeper.withdraw, [gone])
    assert gone not in elements(host)
    host.run(keeper.withdraw, [gone])


def test_what_was_let_in_by_others_goes_with_its_link_too(stage: Stage) -> None:
    host, gone = stage.host, stage.forger.link
    host.run(host.kernel.attach, gone)
    host.sh(f"nft add element bridge dni ipv4 {{ {gone.host} . {gone.mac} . 9.0.0.200 }}")
    host.run(host.kernel.detach, [gone.endpoint])
    host.kernel.drain()
    host.wanted = msgspec.structs.replace(host.wanted, links=(stage.victim.link,))
    host.reconcile()
    assert gone.host not in elements(host)


def test_links_that_another_process_let_in_go_with_ours_and_so_do_their_elements(stage: Stage) -> None:
    host, ours, theirs = stage.host, link(DCOS, 7), link(DCOS, 8)
    other = Kernel(host.run_dir)
    host.run(other.attach, theirs)
    host.run(host.kernel.attach, ours)
    host.run(host.kernel.detach, [ours.endpoint, theirs.endpoint])
    host.kernel.drain()
    assert ours.host not in elements(host)
    assert theirs.host not in elements(host)
