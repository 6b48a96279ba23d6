# SPDX-License-Identifier: Apache-2.0
"""Containers are held to their limits, and to nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from pyroute2.iproute import IPRoute
from pyroute2.protocols import ETH_P_ALL

from dni_driver.core.errors import KernelError
from dni_driver.core.names import egress_link
from dni_driver.core.options.bandwidth import Limits, parse_rate
from dni_driver.core.wanted import Link, Wanted
from dni_driver.kernel import Kernel
from dni_driver.kernel.containers import shaping
from dni_driver.kernel.netlink.conversation import conversation
from tests import iperf
from tests.root.ground import Namespace
from tests.root.town import DCOS, DEV, MTU, NO_LIMITS, Container, Host, Overlay, link, overlay
from tests.root.traffic import bits_per_second, frames_per_second

pytestmark = pytest.mark.root

MBIT = 1_000_000
BOTH = Limits(egress=10 * MBIT, ingress=20 * MBIT)


@pytest.fixture
def dcos(host: Host) -> Host:
    host.want(DCOS)
    host.reconcile()
    return host


def held(host: Host, wanted: Link) -> Limits:
    """Answer the limits that the kernel holds a link to."""
    view = host.run(host.kernel.observe, host.wanted)
    return next(each.limits for each in view.links if each.name == wanted.host)


def want_limits(host: Host, container: Container, limits: Limits) -> None:
    changed = msgspec.structs.replace(container.link, limits=limits)
    links = tuple(changed if each == container.link else each for each in host.wanted.links)
    host.wanted = msgspec.structs.replace(host.wanted, links=links)


def devices(host: Namespace, kind: str = "ifb") -> list[str]:
    return [line.split()[1].rstrip(":") for line in host.sh(f"ip -o link show type {kind}").splitlines()]


def queues(host: Namespace) -> str:
    """Answer the qdiscs that are not the kernel's own."""
    return "\n".join(line for line in host.sh("tc qdisc show").splitlines() if "noqueue" not in line)


def carried(client: Container, server: Container, limit: int, protocol: str, *, from_server: bool) -> float:
    """Answer what gets through: payload of TCP, or whole frames of datagrams; never more than the limit."""
    ends = client.sandbox, server.sandbox, server.address.ip, limit
    if protocol == "tcp":
        seen = bits_per_second(*ends, "tcp", from_server=from_server)
    else:
        seen = frames_per_second(*ends, from_server=from_server)
    assert seen <= iperf.MOST * limit
    return seen


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(("egress", "ingress"), [("10mbit", "100mbit"), ("100mbit", "10mbit")])
def test_traffic_fills_each_limit_and_keeps_within_it(dcos: Host, egress: str, ingress: str, protocol: str) -> None:
    limits = Limits(egress=parse_rate("egress", egress), ingress=parse_rate("ingress", ingress))
    limited, free = dcos.container(DCOS, 0, limits), dcos.container(DCOS, 1)
    for limit, is_ingress in ((limits.egress, False), (limits.ingress, True)):
        assert limit is not None
        once = partial(carried, limited, free, limit, protocol, from_server=is_ingress)
        assert iperf.is_filled_and_kept(limit, once)


@pytest.mark.parametrize("from_server", [False, True])
def test_a_gigabit_is_never_exceeded(dcos: Host, from_server: bool) -> None:  # noqa: FBT001
    """Not that it is reached: how much a machine carries beside the tests is its own affair. Smaller limits are."""
    limit = 1000 * MBIT
    limited, free = dcos.container(DCOS, 0, Limits(egress=limit, ingress=limit)), dcos.container(DCOS, 1)
    assert carried(limited, free, limit, "tcp", from_server=from_server) > limit / 10


def test_a_container_is_limited_as_soon_as_it_is_attached(dcos: Host) -> None:
    wanted = link(DCOS, limits=BOTH)
    dcos.run(dcos.kernel.attach, wanted)
    assert held(dcos, wanted) == BOTH


@pytest.mark.parametrize("limits", [Limits(egress=MBIT), Limits(ingress=MBIT)])
def test_one_direction_is_limited_without_the_other(dcos: Host, limits: Limits) -> None:
    container = dcos.container(DCOS, 0, limits)
    assert held(dcos, container.link) == limits
    assert devices(dcos) == ([egress_link(container.link.endpoint)] if limits.egress else [])


def test_attach_repeated_changes_nothing(dcos: Host) -> None:
    container = dcos.container(DCOS, 0, BOTH)
    before = (queues(dcos), devices(dcos))
    dcos.run(dcos.kernel.attach, container.link)
    assert (queues(dcos), devices(dcos)) == before
    assert dcos.reconcile() == []


def test_reconcile_finds_nothing_to_do_on_limits_that_hold(dcos: Host) -> None:
    container = dcos.container(DCOS, 0, BOTH)
    assert dcos.reconcile() == []
    assert held(dcos, container.link) == BOTH


@pytest.mark.parametrize(
    "harm",
    [
        "tc qdisc del dev {host} root",
        "tc qdisc change dev {host} root tbf rate 5mbit burst 10k limit 64k",
        "tc qdisc del dev {host} ingress",
        "tc filter del dev {host} ingress",
        "tc qdisc del dev {ifb} root",
        "ip link set {ifb} down",
        "ip link del {ifb}",
    ],
)
def test_a_limit_that_somebody_breaks_is_seen_and_put_back(dcos: Host, harm: str) -> None:
    container, other = dcos.container(DCOS, 0, BOTH), dcos.container(DCOS, 1)
    assert dcos.reconcile() == []
    dcos.sh(harm.format(host=container.link.host, ifb=egress_link(container.link.endpoint)))
    assert held(dcos, container.link) != BOTH
    (change,) = dcos.reconcile()
    assert change.startswith(f"mended limits of link {container.link.host}: ")
    assert held(dcos, container.link) == BOTH
    assert dcos.reconcile() == []
    container.sandbox.sh(f"ping -c 1 -W 2 {other.address.ip}")


@pytest.mark.parametrize("now", [Limits(egress=2 * MBIT, ingress=MBIT), Limits(egress=MBIT), Limits(ingress=MBIT)])
def test_a_changed_limit_holds_after_the_next_reconcile(dcos: Host, now: Limits) -> None:
    container = dcos.container(DCOS, 0, BOTH)
    want_limits(dcos, container, now)
    assert dcos.reconcile() != []
    assert held(dcos, container.link) == now
    assert dcos.reconcile() == []


def test_a_lifted_limit_leaves_nothing_behind(dcos: Host) -> None:
    container, other = dcos.container(DCOS, 0, BOTH), dcos.container(DCOS, 1)
    want_limits(dcos, container, Limits())
    assert dcos.reconcile() != []
    assert (queues(dcos), devices(dcos)) == ("", [])
    assert dcos.reconcile() == []
    container.sandbox.sh(f"ping -c 1 -W 2 {other.address.ip}")


def test_a_limit_lifted_before_this_process_began_is_taken_off(dcos: Host) -> None:
    container = dcos.container(DCOS, 0, BOTH)
    want_limits(dcos, container, Limits())
    fresh = Kernel(dcos.run_dir)
    try:
        dcos.run(fresh.reconcile, lambda: dcos.wanted)
    finally:
        fresh.close()
    assert (queues(dcos), devices(dcos)) == ("", [])


def test_detach_deletes_what_held_the_link_back(dcos: Host) -> None:
    wanted = link(DCOS, limits=BOTH)
    dcos.run(dcos.kernel.attach, wanted)
    dcos.run(dcos.kernel.detach, [wanted.endpoint])
    dcos.kernel.drain()
    assert (queues(dcos), devices(dcos), devices(dcos, "veth")) == ("", [], [])


def test_reconcile_deletes_what_held_a_link_back_that_is_gone(dcos: Host) -> None:
    wanted = link(DCOS, limits=BOTH)
    dcos.run(dcos.kernel.attach, wanted)
    dcos.sh(f"ip link del {wanted.host}")
    assert dcos.run(dcos.kernel.observe, dcos.wanted).ifbs == (egress_link(wanted.endpoint),)
    assert dcos.reconcile() == [f"deleted idle devices: {egress_link(wanted.endpoint)}"]
    assert devices(dcos) == []


def test_of_a_lifted_limit_nothing_is_left_that_leads_nowhere(dcos: Host) -> None:
    """What a container sends would go to a device that is gone, and be lost."""
    container = dcos.container(DCOS, limits=Limits(egress=10 * MBIT))
    dcos.reconcile()
    want_limits(dcos, container, NO_LIMITS)
    dcos.sh(f"ip link del {egress_link(container.link.endpoint)}")
    assert "ingress" in queues(dcos)
    assert dcos.reconcile() == [f"mended limits of link {container.link.host}: egress none"]
    assert queues(dcos) == ""


def test_what_holds_a_link_back_that_comes_meanwhile_stays(dcos: Host) -> None:
    """A container that starts after the records were read, while a bridge is made for which all is read again."""
    coming = link(DCOS, limits=BOTH)
    dcos.want(DCOS, DEV)

    def read() -> Wanted:
        dcos.kernel.attach(coming)
        return dcos.wanted

    assert "made bridge d-dev" in dcos.run(dcos.kernel.reconcile, read)
    assert egress_link(coming.endpoint) in devices(dcos)


def test_a_link_made_anew_in_a_running_container_is_held_to_its_limits(host: Host) -> None:
    now = [0.0]
    host.kernel.close()
    host.kernel = Kernel(host.run_dir, lambda: now[0])
    host.want(DCOS)
    host.reconcile()
    container = host.container(DCOS, 0, BOTH)
    host.sh(f"ip link del {container.link.host}")
    host.reconcile()
    now[0] += 10
    host.reconcile()
    assert held(host, container.link) == BOTH


def test_a_larger_mtu_gets_a_larger_bucket(host: Host) -> None:
    small = overlay("jumbo", "10.68.0.129/25", subnets=("10.68.0.0/16",))
    large = Overlay(msgspec.structs.replace(small.bridge, mtu=9000), small.policy)
    host.want(small)
    host.reconcile()
    slowest = Limits(egress=256_000, ingress=256_000)
    one, two = (host.container(small, number, slowest) for number in (0, 1))
    links = tuple(msgspec.structs.replace(each.link, mtu=9000) for each in (one, two))
    host.want(large, links=links)
    for each in (one, two):
        each.sandbox.sh("ip link set eth0 mtu 9000")
    host.reconcile()
    one.sandbox.sh(f"ping -c 1 -W 4 -M do -s 8900 {two.address.ip}")
    assert MTU < 8900


def test_a_stranger_under_the_name_of_our_device_is_left_alone(dcos: Host) -> None:
    wanted = link(DCOS, limits=BOTH)
    stranger = egress_link(wanted.endpoint)
    dcos.sh(f"ip link add {stranger} type bridge")
    with pytest.raises(KernelError, match=rf"no ifb: `ip link del {stranger}`"):
        dcos.run(dcos.kernel.attach, wanted)
    assert devices(dcos, "bridge") == ["d-dcos", stranger]


_FIRST_OF_ALL_PROTOCOLS = 1 << 16 | socket.htons(ETH_P_ALL)


class Poor:
    """The kernel, asked for something that no kernel knows in the place of one kind of thing."""

    def __init__(self, kernel: IPRoute, lacking: str) -> None:
        """Put nonsense in the place of one kind."""
        self._kernel = kernel
        self._lacking = lacking

    def link(self, command: str, **about: Any) -> Any:
        """Pass on what is said about a link."""
        if about.get("kind") == self._lacking:
            about["kind"] = "nonsense"
        return self._kernel.link(command, **about)

    def tc(self, command: str, kind: str | None = None, **about: Any) -> Any:
        """Pass on what is said about traffic control."""
        if kind != self._lacking:
            return self._kernel.tc(command, kind, **about)
        place = {key: value for key, value in about.items() if key in ("index", "parent")}
        return self._kernel.tc(command, "nonsense", info=_FIRST_OF_ALL_PROTOCOLS, **place)


@pytest.mark.parametrize(
    ("lacking", "needed", "load"),
    [
        ("tbf", "ingress=20mbit needs sch_tbf", "modprobe -a sch_tbf"),
        ("ifb", "egress=10mbit needs ifb", "modprobe -a ifb"),
        ("ingress", "egress=10mbit needs sch_ingress", "modprobe -a sch_ingress"),
        ("u32", "egress=10mbit needs cls_u32 and act_mirred", "modprobe -a cls_u32 act_mirred"),
    ],
)
def test_a_kernel_without_what_a_limit_needs_refuses_the_link_and_says_what_to_load(
    dcos: Host, monkeypatch: pytest.MonkeyPatch, lacking: str, needed: str, load: str
) -> None:
    @contextmanager
    def poor_conversation() -> Iterator[Poor]:
        with conversation() as kernel:
            yield Poor(kernel, lacking)

    monkeypatch.setattr(shaping, "conversation", poor_conversation)
    wanted = link(DCOS, limits=BOTH)
    with pytest.raises(KernelError, match=rf"^{needed} in this host's kernel, which says: .*\(`{load}`\)"):
        dcos.run(dcos.kernel.attach, wanted)
    dcos.run(dcos.kernel.detach, [wanted.endpoint])
    dcos.kernel.drain()
    assert (queues(dcos), devices(dcos), devices(dcos, "veth")) == ("", [], [])


def test_without_limits_traffic_control_is_looked_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(wraps=shaping.read)
    monkeypatch.setattr(shaping, "read", read)
    host.kernel.close()
    host.kernel = Kernel(host.run_dir)
    host.want(DCOS)
    host.reconcile()
    for number in range(3):
        host.container(DCOS, number)
        host.reconcile()
    assert read.call_count == 1
    assert queues(host) == ""
