# SPDX-License-Identifier: Apache-2.0
"""Container links come and go."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import BridgeMissing, KernelError
from dni_driver.core.wanted import Link
from dni_driver.kernel.lock import locked
from dni_driver.kernel.netlink import carried
from tests.open_files import nothing_left_open
from tests.root.ground import Namespace
from tests.root.packets import call
from tests.root.town import DCOS, MTU, Host, Overlay, link, overlay, plug

pytestmark = pytest.mark.root


@pytest.fixture
def dcos(host: Host) -> Host:
    host.want(DCOS)
    host.reconcile()
    return host


def names(host: Namespace) -> set[str]:
    listed = host.sh("ip -o link show type veth").splitlines()
    return {line.split()[1].rstrip(":").partition("@")[0] for line in listed}


def settings(host: Namespace) -> str:
    """Answer how all links are set; whether they carry anything, the kernel finds out in its own time."""
    return re.sub(r"NO-CARRIER,|,LOWER_UP|,M-DOWN| state [A-Z]+", "", host.sh("ip -o link show"))


def attach(host: Host, *links: Link) -> None:
    for wanted in links:
        host.run(host.kernel.attach, wanted)


def awaits_move(host: Host, wanted: Link) -> bool:
    return host.run(host.kernel.awaits_move, wanted.endpoint)


def test_attach_leaves_a_link_that_libnetwork_can_move(dcos: Host) -> None:
    wanted = link(DCOS)
    attach(dcos, wanted)
    host_end = dcos.sh(f"ip -d link show {wanted.host}")
    assert f"mtu {MTU}" in host_end
    assert "master d-dcos" in host_end
    assert "hairpin on" in host_end
    assert ",UP" in host_end
    container_end = dcos.sh(f"ip link show {wanted.container}")
    assert f"mtu {MTU}" in container_end
    assert wanted.mac in container_end
    assert ",UP" not in container_end


def test_a_link_awaits_its_move_from_its_making_until_its_sandbox_has_it(dcos: Host) -> None:
    wanted = link(DCOS)
    seen = [awaits_move(dcos, wanted)]
    attach(dcos, wanted)
    seen.append(awaits_move(dcos, wanted))
    with Namespace() as sandbox:
        plug(dcos, wanted, sandbox)
        seen.append(awaits_move(dcos, wanted))
    assert seen == [False, True, False]


def test_the_host_end_has_no_address_of_the_kernels_making(dcos: Host) -> None:
    container = dcos.container(DCOS)
    assert "inet6" not in dcos.sh(f"ip addr show {container.link.host}")


@pytest.mark.parametrize("strict", [carried._STRICT, 9999])  # noqa: SLF001
def test_a_bridge_carries_what_leads_on_when_it_has_all_of_it(
    dcos: Host, monkeypatch: pytest.MonkeyPatch, strict: int
) -> None:
    """Also where the kernel is too old to be asked about one link alone."""
    monkeypatch.setattr(carried, "_STRICT", strict)
    wanted = link(DCOS)
    assert dcos.run(dcos.kernel.carries, wanted)
    dcos.sh("ip addr del fd01:b::8000:0:1/81 dev d-dcos", "ip addr add fd01:b::8000:0:1/81 dev lo")
    assert not dcos.run(dcos.kernel.carries, wanted)
    dcos.sh("ip addr add fd01:b::8000:0:1/81 dev d-dcos nodad")
    assert dcos.run(dcos.kernel.carries, wanted)
    dcos.sh("ip link del d-dcos")
    assert not dcos.run(dcos.kernel.carries, wanted)


def test_a_bridge_that_goes_while_it_is_asked_for_carries_nothing(
    dcos: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "if_nametoindex", lambda _: 9999)
    assert not dcos.run(dcos.kernel.carries, link(DCOS))


def test_what_a_bridge_carries_is_told_while_others_have_the_lock(dcos: Host) -> None:
    """Each Join asks, once an overlay has a second half here."""
    with locked(dcos.run_dir / "kernel.lock"), deadline(5):
        assert dcos.run(dcos.kernel.carries, link(DCOS))


def test_attach_repeated_changes_nothing(dcos: Host) -> None:
    wanted = link(DCOS)
    attach(dcos, wanted)
    before = settings(dcos)
    attach(dcos, wanted)
    assert settings(dcos) == before


def test_attach_repeated_finishes_what_was_cut_short(dcos: Host) -> None:
    wanted = link(DCOS)
    dcos.sh(f"ip link add {wanted.host} type veth peer name {wanted.container}")
    attach(dcos, wanted)
    host_end = dcos.sh(f"ip -d link show {wanted.host}")
    assert "master d-dcos" in host_end
    assert "hairpin on" in host_end
    assert ",UP" in host_end
    container_end = dcos.sh(f"ip link show {wanted.container}")
    assert f"mtu {MTU}" in container_end
    assert wanted.mac in container_end


def test_attach_repeated_after_the_move_leaves_the_sandbox_alone(dcos: Host) -> None:
    with Namespace() as sandbox:
        wanted = link(DCOS, 0, sandbox)
        attach(dcos, wanted)
        plug(dcos, wanted, sandbox)
        before = sandbox.sh("ip -4 -o addr show")
        attach(dcos, wanted)
        assert sandbox.sh("ip -4 -o addr show") == before


def test_attach_without_its_bridge_says_so(dcos: Host) -> None:
    dcos.sh("ip link del d-dcos")
    with pytest.raises(BridgeMissing, match=r"d-dcos is missing.*dni repair"):
        attach(dcos, link(DCOS))
    assert names(dcos) == set()


def test_a_bridge_that_is_full_is_said_to_be(dcos: Host) -> None:
    made = [f"link add x{n} master d-dcos type veth peer name y{n}\nlink set y{n} master d-dcos" for n in range(512)]
    filling = partial(subprocess.run, ["ip", "-force", "-batch", "-"], capture_output=True, check=False)
    dcos.run(filling, input="\n".join(made).encode())
    with pytest.raises(KernelError, match=r"on d-dcos cannot be made: the bridge has as many links .* \(1023\)"):
        attach(dcos, link(DCOS))


def test_attach_does_not_take_over_a_stranger(dcos: Host) -> None:
    wanted = link(DCOS)
    dcos.sh(f"ip link add {wanted.host} type bridge")
    with pytest.raises(KernelError, match=f"ip link del {wanted.host}"):
        attach(dcos, wanted)


def test_attach_switches_forwarding_on_for_the_families_it_needs(dcos: Host) -> None:
    assert dcos.setting("ipv4/ip_forward") == "0", "not before the first container: dockerd comes first"
    attach(dcos, link(DCOS))
    assert dcos.setting("ipv4/ip_forward") == "1"
    assert dcos.setting("ipv6/conf/all/forwarding") == "1"


def test_a_link_too_small_for_ipv6_is_made_all_the_same(host: Host) -> None:
    small = overlay("small", "10.67.0.129/25", subnets=("10.67.0.0/16",))
    small = Overlay(msgspec.structs.replace(small.bridge, mtu=600), small.policy)
    host.want(small)
    host.reconcile()
    one, two = host.container(small), host.container(small, 1)
    assert "mtu 600" in host.sh(f"ip link show {one.link.host}")
    assert call(one.sandbox, two.address.ip)
    assert host.reconcile() == []


def test_detach_deletes_links_wherever_they_are(dcos: Host) -> None:
    with Namespace() as sandbox:
        moved, waiting = link(DCOS, 0, sandbox), link(DCOS, 1)
        attach(dcos, moved, waiting)
        plug(dcos, moved, sandbox)
        dcos.run(dcos.kernel.detach, [moved.endpoint, waiting.endpoint])
        dcos.kernel.drain()
        assert names(dcos) == set()
        assert names(sandbox) == set()


def test_detach_of_what_is_gone_is_no_error(dcos: Host) -> None:
    """However many are: the kernel answers for each, and keeps so many answers and no more."""
    gone, there = [f"{number:011x}".ljust(64, "0") for number in range(500)], link(DCOS, 1)
    attach(dcos, there)
    with capture_logs() as logs:
        dcos.run(dcos.kernel.detach, [*gone, there.endpoint, there.endpoint])
        dcos.kernel.drain()
        dcos.run(dcos.kernel.detach, [there.endpoint])
        dcos.kernel.drain()
    assert logs == []
    assert names(dcos) == set()


def test_attach_right_after_detach_keeps_the_new_link(dcos: Host) -> None:
    wanted = link(DCOS)
    for _ in range(5):
        attach(dcos, wanted)
        dcos.run(dcos.kernel.detach, [wanted.endpoint])
    attach(dcos, wanted)
    dcos.kernel.drain()
    assert names(dcos) == {wanted.host, wanted.container}


def test_sixteen_threads_attach_and_detach_at_once(dcos: Host) -> None:
    def start_and_stop(number: int) -> str:
        first, second = link(DCOS, number), link(DCOS, 16 + number)
        dcos.kernel.attach(first)
        dcos.kernel.detach([first.endpoint])
        dcos.kernel.attach(second)
        return second.host

    def at_once() -> set[str]:
        with ThreadPoolExecutor(16) as pool:
            return set(pool.map(start_and_stop, range(64)))

    kept = dcos.run(at_once)
    dcos.kernel.drain()
    assert len(kept) == 64
    assert {name for name in names(dcos) if name.startswith("dni")} == kept


def test_two_hundred_cycles_leave_no_file_and_no_thread(dcos: Host) -> None:
    def cycle() -> None:
        for number in range(200):
            wanted = link(DCOS, number % 120)
            dcos.kernel.attach(wanted)
            dcos.kernel.detach([wanted.endpoint])
        dcos.kernel.drain()

    dcos.run(dcos.kernel.detach, ["0" * 64])
    dcos.kernel.drain()
    with nothing_left_open():
        dcos.run(cycle)
    assert names(dcos) == set()


def test_close_deletes_what_waits_and_ends_the_thread(dcos: Host) -> None:
    threads = threading.active_count()
    wanted = [link(DCOS, number) for number in range(10)]
    attach(dcos, *wanted)
    dcos.run(dcos.kernel.detach, [each.endpoint for each in wanted])
    dcos.kernel.close()
    assert names(dcos) == set()
    assert threading.active_count() == threads
