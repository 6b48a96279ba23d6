# SPDX-License-Identifier: Apache-2.0
"""Each overlay is a network of CNI, with a file and a bridge, whether dni or host-local hands out its addresses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dni_driver.core.errors import InUse, NotFound, Refused
from dni_driver.store import Transaction, fence, overlays
from tests.fakes import DUAL, SIX, lease
from tests.unit.cni_host import Host, host, key, writing

__all__ = ["host", "writing"]


def holding(host: Host, *names: str) -> None:
    """Have host-local hold addresses, as its files tell."""
    directory = host.host_local / "dcos"
    directory.mkdir(parents=True, exist_ok=True)
    for name in (*names, "lock", "last_reserved_ip.0"):
        (directory / name).write_text("c1\r\neth0")


def test_dni_hands_out_nothing_where_host_local_does(host: Host) -> None:
    host.restarted("host-local")
    with pytest.raises(Refused, match=r'handed out by host-local.*set ipam = "dni" in \[cni\]'):
        host.attach("one")
    assert host.held() == {}


def test_what_host_local_holds_still_is_left_out(host: Host) -> None:
    holding(host, "9.0.0.2", "9.0.0.4")
    assert [host.address("one"), host.address("two")] == ["9.0.0.3/25", "9.0.0.5/25"]
    with pytest.raises(Refused, match=r"9\.0\.0\.4 is held by a container of host-local"):
        host.attach("three", "9.0.0.4")
    with pytest.raises(
        InUse, match=r"^addresses of overlay 'dcos' are held by containers of CNI's host-local \(2, such as "
    ):
        host.cni.check_vacant("dcos")


def test_each_overlay_with_a_part_here_has_its_file_and_its_bridge(writing: Host) -> None:
    lease(writing.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    lease(writing.store, SIX, "fd06::/80")
    assert writing.cni.round() == []
    assert sorted(path.name for path in writing.files.iterdir()) == ["dcos.conf", "dual.conf"]
    assert json.loads((writing.files / "dcos.conf").read_text())["delegate"]["mtu"] == 1450
    assert set(writing.kernel.bridges) == {"m-dcos", "m-dual", "m-six"}
    assert writing.problems() == []


def test_a_file_follows_the_underlay_and_goes_with_its_overlay(writing: Host) -> None:
    writing.cni.round()
    writing.kernel.underlay_mtu = 9000
    writing.cni.round()
    assert json.loads((writing.files / "dcos.conf").read_text())["delegate"]["mtu"] == 8950
    assert writing.kernel.bridges["m-dcos"].mtu == 8950
    with writing.store.write() as tx:
        overlays.remove(tx, "dcos")
    writing.cni.round()
    assert list(writing.files.iterdir()) == []


def test_nothing_is_done_to_the_kernel_where_nothing_changed(writing: Host) -> None:
    for _ in range(3):
        writing.cni.round()
    assert writing.mended == 1


def test_host_local_takes_over_when_the_containers_of_dni_cni_are_gone(writing: Host) -> None:
    def delegate() -> str:
        return str(json.loads((writing.files / "dcos.conf").read_text())["delegate"]["type"])

    writing.restarted("dni")
    writing.attach("one")
    writing.cni.round()
    assert delegate() == "dni-cni"
    writing.restarted("host-local")
    (problem,) = writing.cni.round()
    assert "overlay 'dcos' has containers with addresses from dni-cni (1), so host-local cannot hand out" in problem
    assert delegate() == "dni-cni"
    writing.cni.detach(key("one"))
    assert writing.cni.round() == []
    assert delegate() == "bridge"


@pytest.mark.parametrize(
    ("close", "open_again", "why"),
    [
        (lambda tx, now: fence.put(tx, now, -1.0), fence.drop, "hands out no new addresses since "),
        (
            lambda tx, _: fence.dispute(tx, "it is held by agent 192.0.2.20", "dcos"),
            lambda tx: fence.settle(tx, "dcos"),
            "hands out no new addresses of overlay 'dcos': it is held by agent 192.0.2.20",
        ),
    ],
    ids=["not heard of for too long", "disputed"],
)
def test_host_local_is_found_by_nobody_while_this_host_may_hand_out_nothing(
    writing: Host, close: Callable[[Transaction, float], None], open_again: Callable[[Transaction], None], why: str
) -> None:
    """It asks nobody whether the Mesos half is still this host's."""
    writing.restarted("host-local")
    assert writing.cni.round() == []
    with writing.store.write() as tx:
        close(tx, writing.clock.now)
    (problem,) = writing.cni.round()
    assert problem.startswith("overlay 'dcos' has no CNI configuration, by which host-local would hand out")
    assert why in problem
    assert list(writing.files.iterdir()) == []
    with writing.store.write() as tx:
        open_again(tx)
    assert writing.cni.round() == []
    assert [path.name for path in writing.files.iterdir()] == ["dcos.conf"]


def test_a_configuration_is_shown_whether_or_not_it_is_written(host: Host, writing: Host) -> None:
    assert host.cni.configuration("dcos", None, "plain") == {
        "cniVersion": "1.0.0",
        "name": "dcos",
        "type": "dni-cni",
    }
    assert host.cni.configuration("dcos", "host-local", "mesos")["delegate"]["ipam"]["subnet"] == "9.0.0.0/25"
    writing.cni.round()
    shown = writing.cni.configuration("dcos", None, "mesos")
    assert shown == json.loads((writing.files / "dcos.conf").read_text())
    with pytest.raises(NotFound, match="there is no overlay 'nowhere'"):
        host.cni.configuration("nowhere", None, "mesos")
