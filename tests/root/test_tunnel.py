# SPDX-License-Identifier: Apache-2.0
"""A container cannot write the outer packet of VXLAN itself, and so get past who may get in: real packets."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from dni_driver.core.overlays import Backend
from dni_driver.core.peers import VNI, VXLAN_PORT
from tests.root.cluster import Cluster, Member, place
from tests.root.frames import ether
from tests.root.ground import Namespace
from tests.root.packets import call
from tests.root.town import OPEN, Container, Host

pytestmark = pytest.mark.root

_PORT = 4000
_SECRET = b"let me in"
_IPV4 = 0x0800
_PATIENCE, _IMPATIENCE = 15.0, 0.5


def inner(source: IPv4Address, target: IPv4Address) -> bytes:
    """Answer a UDP packet without checksums that need no repair."""
    payload = struct.pack(">HHHH", _PORT, _PORT, 8 + len(_SECRET), 0) + _SECRET
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0, source.packed, target.packed)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + payload


def wrapped(receiver: Member, source: IPv4Address, target: IPv4Address) -> bytes:
    """Answer what an agent would send to another by VXLAN."""
    head = struct.pack(">II", 0x08 << 24, VNI << 8)
    return head + ether("02:00:00:00:00:01", _IPV4, inner(source, target), receiver.as_peer.vtep.mac)


def hears(listener: socket.socket) -> bool:
    with suppress(TimeoutError):
        return listener.recv(100) == _SECRET
    return False


def gets_in(
    attacker: Namespace, outer: str, receiver: Member, victim: Container, patience: float = _IMPATIENCE
) -> bool:
    """Tell whether a packet in disguise, sent to an address of a host, reaches a container there."""
    sent = wrapped(receiver, victim.address.ip + 5, victim.address.ip)
    with victim.sandbox.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.settimeout(patience)
        listener.bind(("", _PORT))
        with attacker.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(sent, (outer, VXLAN_PORT))
        return hears(listener)


def on(member: Member, name: str, number: int = 0) -> Container:
    return member.container(place(name, member.number), number)


@pytest.mark.parametrize("backend", ["vxlan", "direct", "auto"])
def test_no_container_gets_into_another_overlay_by_a_tunnel_of_its_own(cluster: Cluster, backend: Backend) -> None:
    cluster.meet(dcos=backend, dev=backend)
    first, second, _ = cluster.near
    attacker = on(first, "dev").sandbox
    here, there, far = on(first, "dcos"), on(second, "dcos"), on(cluster.far, "dcos")
    assert gets_in(cluster.switch, second.agent, second, there, _PATIENCE), (
        "whoever else is on the link can, and is not dni's"
    )
    for receiver, victim in ((first, here), (second, there), (cluster.far, far)):
        gateway = str(place("dev", receiver.number).bridge.addresses[0].ip)
        for outer in (receiver.agent, gateway, str(receiver.as_peer.vtep.ip.ip)):
            assert not gets_in(attacker, outer, receiver, victim), outer


def test_a_container_may_answer_to_that_port_anywhere(host: Host, outside: Namespace) -> None:
    """Some systems choose it for those who ask."""
    host.want(OPEN)
    host.reconcile()
    asked = host.container(OPEN)
    with asked.sandbox.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(_PATIENCE)
        server.bind(("", _PORT))
        with outside.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(_PATIENCE)
            client.bind(("", VXLAN_PORT))
            client.sendto(b"who?", (str(asked.address.ip), _PORT))
            _, caller = server.recvfrom(100)
            assert caller[1] == VXLAN_PORT
            server.sendto(_SECRET, caller)
            assert hears(client)


def test_a_container_may_use_that_port_within_its_overlay(cluster: Cluster) -> None:
    cluster.meet(dcos="vxlan")
    one, other = on(cluster.near[0], "dcos"), on(cluster.near[1], "dcos")
    with other.sandbox.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.settimeout(_PATIENCE)
        listener.bind(("", VXLAN_PORT))
        with one.sandbox.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(_SECRET, (str(other.address.ip), VXLAN_PORT))
        assert hears(listener)
    assert call(one.sandbox, other.address.ip)
