# SPDX-License-Identifier: Apache-2.0
"""VTEPs come from a wider subnet while containers talk; an agent for which the narrow one had no room is reached."""

from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Interface

import msgspec
import pytest

from dni_driver.core.peers import Vtep
from tests.root.cluster import Cluster, Member, place
from tests.root.packets import Server, call
from tests.root.town import Container

pytestmark = pytest.mark.root

VTEPS = ("44.128.0.1/9", "44.128.0.2/9", "44.255.0.5/9", "44.128.0.4/9")
"""The third agent has one that is in no /20 with the others."""


def on(member: Member) -> Container:
    return member.container(place("dcos", member.number))


def widen(cluster: Cluster) -> None:
    """Have all hosts hear of the wider subnet, one after the other."""
    for member, text in zip(cluster.members, VTEPS, strict=True):
        member.as_peer = msgspec.structs.replace(member.as_peer, vtep=Vtep(IPv4Interface(text)))
    for member in cluster.members:
        own = member.as_peer.vtep
        member.wanted = msgspec.structs.replace(
            member.wanted, vtep=own, vtep_subnet=own.ip.network, peers=cluster.others(member)
        )
        member.reconcile()


def test_containers_talk_on_while_the_mask_of_all_vteps_changes(cluster: Cluster) -> None:
    cluster.meet(dcos="vxlan")
    first, second, third = cluster.near
    one, other, late = on(first), on(second), on(third)
    command = ["ping", "-i", "0.02", "-c", "200", "-q", str(other.address.ip)]
    with one.sandbox.run(subprocess.Popen, command, stdout=subprocess.PIPE, text=True) as pinging:
        widen(cluster)
        told, _ = pinging.communicate()
    found = re.search(r"200 packets transmitted, (\d+) received", told)
    assert found, told
    assert int(found[1]) >= 199
    assert "44.128.0.1/9" in first.sh("ip -4 addr show vtep1024")
    assert "/20" not in first.sh("ip -4 addr show vtep1024")
    for caller, called in ((one, late), (late, one)):
        assert call(caller.sandbox, called.address.ip) == str(caller.address.ip)
        assert call(caller.sandbox, called.address6.ip) == str(caller.address6.ip)
    assert call(third, one.address.ip) == "44.255.0.5", "health checks come in under the VTEP's address"
    with Server(first):
        assert call(late.sandbox, first.agent) == "44.255.0.5"
