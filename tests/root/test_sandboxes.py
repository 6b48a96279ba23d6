# SPDX-License-Identifier: Apache-2.0
"""A running container gets back a link that somebody deleted, and only then."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.wanted import Link, Route
from dni_driver.kernel import Kernel
from tests.open_files import nothing_left_open
from tests.root.ground import Namespace
from tests.root.packets import Server, call
from tests.root.town import DCOS, OPEN, Container, Host, link, plug

pytestmark = pytest.mark.root


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dcos(host: Host, clock: Clock) -> Host:
    host.kernel = Kernel(host.run_dir, clock)
    host.want(DCOS, OPEN)
    host.reconcile()
    return host


def delete_link(host: Host, container: Container) -> None:
    host.sh(f"ip link del {container.link.host}")


def renewals(host: Host, clock: Clock, seconds: float = 60) -> list[str]:
    """Reconcile, wait, reconcile again; answer what was made anew."""
    changes = host.reconcile()
    clock.now += seconds
    return [change for change in changes + host.reconcile() if "anew" in change]


def test_a_deleted_link_comes_back_as_it_was(dcos: Host, clock: Clock) -> None:
    container, neighbour = dcos.container(DCOS), dcos.container(DCOS, 1)
    before = container.sandbox.sh("ip -br addr show eth0"), container.sandbox.sh("ip route")
    delete_link(dcos, container)
    assert call(dcos, neighbour.address.ip)
    assert renewals(dcos, clock) == [
        f"made link {container.link.host} anew, as eth0 in sandbox {container.link.sandbox}"
    ]
    after = container.sandbox.sh("ip -br addr show eth0"), container.sandbox.sh("ip route")
    assert [set(text.split()[2:]) for text in after] == [set(text.split()[2:]) for text in before]
    made = container.sandbox.sh("ip link show eth0")
    assert "mtu 1450" in made
    assert container.link.mac in made
    assert call(neighbour.sandbox, container.address.ip) == str(neighbour.address.ip)
    assert call(neighbour.sandbox, container.address6.ip) == str(neighbour.address6.ip)
    assert dcos.reconcile() == []


def test_the_renewed_link_leads_outside(dcos: Host, clock: Clock, outside: Namespace) -> None:
    assert outside
    container = dcos.container(DCOS)
    delete_link(dcos, container)
    renewals(dcos, clock)
    assert call(container.sandbox, "198.51.100.2") == "198.51.100.1"
    assert call(container.sandbox, "fd00:5::2") == "fd00:5::1"


def test_the_renewed_link_has_the_routes_of_its_overlay(dcos: Host, clock: Clock) -> None:
    """Also where it has no default route, as on an internal network."""
    container = dcos.container(DCOS)
    routes = (Route(ip_network("9.0.0.0/8"), "9.0.0.129"), Route(ip_network("fd01:b::/64"), "fd01:b::8000:0:1"))
    internal = msgspec.structs.replace(container.link, gateways=(), routes=routes)
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(internal,))
    delete_link(dcos, container)
    assert renewals(dcos, clock)
    assert "default" not in container.sandbox.sh("ip route")
    assert "9.0.0.0/8 via 9.0.0.129 dev eth0" in container.sandbox.sh("ip route")
    assert "fd01:b::/64 via fd01:b::8000:0:1 dev eth0" in container.sandbox.sh("ip -6 route")


def test_bridge_and_links_deleted_together_come_back(dcos: Host, clock: Clock) -> None:
    one, two = dcos.container(DCOS), dcos.container(DCOS, 1)
    dcos.sh("ip link del d-dcos", f"ip link del {one.link.host}", f"ip link del {two.link.host}")
    assert len(renewals(dcos, clock)) == 2
    assert call(one.sandbox, two.address.ip) == str(one.address.ip)


def test_a_link_deleted_inside_the_container_comes_back(dcos: Host, clock: Clock) -> None:
    container = dcos.container(DCOS)
    container.sandbox.sh("ip link del eth0")
    assert renewals(dcos, clock)
    assert call(dcos, container.address.ip)


def test_another_network_of_the_container_keeps_its_name_and_route(dcos: Host, clock: Clock) -> None:
    container = dcos.container(DCOS)
    second = link(OPEN, 0, container.sandbox, "eth1")
    dcos.run(dcos.kernel.attach, second)
    plug(dcos, msgspec.structs.replace(second, gateways=()), container.sandbox, "eth1")
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(*dcos.wanted.links, second))
    dcos.sh(f"ip link del {second.host}")
    assert renewals(dcos, clock)
    assert "via 9.0.0.129 dev eth0" in container.sandbox.sh("ip route show default")
    assert call(dcos, second.addresses[0].ip)
    delete_link(dcos, container)
    assert renewals(dcos, clock)
    assert "9.0.0.130/25" in container.sandbox.sh("ip addr show eth0")


@pytest.mark.parametrize("recorded", [None, "lo"])
def test_without_a_name_that_is_free_the_first_free_one_is_taken(
    dcos: Host, clock: Clock, recorded: str | None
) -> None:
    container = dcos.container(DCOS)
    dcos.wanted = msgspec.structs.replace(
        dcos.wanted, links=(msgspec.structs.replace(container.link, ifname=recorded),)
    )
    delete_link(dcos, container)
    container.sandbox.sh("ip link add eth0 type bridge")
    assert [change.partition("anew, ")[2].split()[1] for change in renewals(dcos, clock)] == ["eth1"]


def test_one_sighting_is_not_enough(dcos: Host, clock: Clock) -> None:
    """Between Join's record and its link there are some milliseconds."""
    container = dcos.container(DCOS)
    delete_link(dcos, container)
    assert dcos.reconcile() == []
    assert dcos.reconcile() == [], "no time has passed"
    dcos.run(dcos.kernel.attach, container.link)
    clock.now += 60
    assert dcos.reconcile() == []
    delete_link(dcos, container)
    assert dcos.reconcile() == [], "the count begins anew"


@pytest.mark.parametrize("leftover", [False, True])
def test_a_sandbox_that_is_not_there_yet_is_not_broken(
    dcos: Host,
    clock: Clock,
    tmp_path: Path,
    leftover: bool,  # noqa: FBT001
) -> None:
    """Before 28.0 it comes after Join; and dockerd leaves an empty file where one was mounted."""
    sandbox = tmp_path / "sandbox"
    if leftover:
        sandbox.touch()
    wanted = msgspec.structs.replace(link(DCOS), sandbox=str(sandbox))
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(wanted,))
    assert renewals(dcos, clock) == []
    assert "dni" not in dcos.sh("ip -o link show type veth")


def test_this_host_itself_is_no_sandbox(dcos: Host, clock: Clock) -> None:
    wanted = msgspec.structs.replace(link(DCOS), sandbox=dcos.path)
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(wanted,))
    assert renewals(dcos, clock) == []


def test_a_link_that_waits_to_be_moved_is_left_alone(dcos: Host, clock: Clock) -> None:
    with Namespace() as sandbox:
        wanted = link(DCOS, 0, sandbox)
        dcos.run(dcos.kernel.attach, wanted)
        dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(wanted,))
        assert renewals(dcos, clock) == []
        plug(dcos, wanted, sandbox)
        with Server(sandbox):
            assert call(dcos, wanted.addresses[0].ip)


def test_a_repair_that_fails_leaves_nothing_half_done(dcos: Host, clock: Clock) -> None:
    container = dcos.container(DCOS)
    broken = msgspec.structs.replace(container.link, gateways=("192.0.2.1",))
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(broken,))
    delete_link(dcos, container)
    with pytest.raises(KernelError, match="eth0 cannot be given its addresses and routes"):
        renewals(dcos, clock)
    assert any("deleted dead links" in change for change in dcos.reconcile())
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(container.link,))
    assert renewals(dcos, clock)
    assert call(dcos, container.address.ip)


def test_repairs_leave_no_thread_and_no_file(dcos: Host, clock: Clock) -> None:
    container = dcos.container(DCOS)
    delete_link(dcos, container)
    renewals(dcos, clock)
    with nothing_left_open():
        delete_link(dcos, container)
        renewals(dcos, clock)


def test_the_name_inside_the_sandbox_is_found(dcos: Host) -> None:
    with Namespace() as sandbox:
        wanted = link(DCOS, 0, sandbox)
        assert dcos.run(dcos.kernel.ifname_in_sandbox, wanted) is None
        dcos.run(dcos.kernel.attach, wanted)
        assert dcos.run(dcos.kernel.ifname_in_sandbox, wanted) is None, "not moved yet"
        plug(dcos, wanted, sandbox, "eth7")
        assert dcos.run(dcos.kernel.ifname_in_sandbox, wanted) == "eth7"
    assert gone(dcos, wanted) == [wanted]
    assert dcos.run(dcos.kernel.ifname_in_sandbox, wanted) is None, "gone with its sandbox"


def gone(host: Host, *links: Link) -> list[Link]:
    return host.run(host.kernel.gone, links)


def test_a_container_is_gone_when_neither_its_link_nor_its_sandbox_is_there(dcos: Host) -> None:
    running = dcos.container(DCOS, 1)
    with Container(dcos, DCOS) as ended:
        assert gone(dcos, ended.link) == []
    assert gone(dcos, ended.link, running.link) == [ended.link]


def test_a_container_whose_link_somebody_deleted_is_not_gone(dcos: Host) -> None:
    container = dcos.container(DCOS)
    delete_link(dcos, container)
    assert gone(dcos, container.link) == []


def test_a_link_whose_sandbox_is_not_to_be_seen_is_not_gone(dcos: Host) -> None:
    container = dcos.container(DCOS)
    assert gone(dcos, msgspec.structs.replace(container.link, sandbox="/run/docker/netns/elsewhere")) == []
