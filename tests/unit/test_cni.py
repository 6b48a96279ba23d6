# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI on the Mesos half: who gets which address, and when it is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.limiting import change_limits
from dni_driver.agent.occupancy import check_vacant
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.reserving import Reserving
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.addresses.room import Leaving, idle
from dni_driver.core.errors import Exhausted, InUse, KernelError, NotFound, Refused, Unavailable
from dni_driver.core.invariants.leaks import leaks
from dni_driver.core.mesos.cni_wish import CniWish
from dni_driver.core.overlays import Address, Family, define
from dni_driver.core.reports import address_reports
from dni_driver.core.views import DockerView
from dni_driver.core.wanted import Link, wanted
from dni_driver.store import leaving, overlays, pools, room
from dni_driver.store.claiming import ANY, claim, halves_of
from tests.fakes import AGENT, DCOS, DUAL, SIX, lease
from tests.unit.agents import create_network
from tests.unit.cni_host import GRACE, Host, key


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Host]:
    """Give a host where the agent writes configurations, of host-local to begin with."""
    made = Host(tmp_path / "writing", "host-local", writes=True)
    yield made
    made.store.close()


def test_containers_get_the_mesos_half_from_its_first_host_on(host: Host) -> None:
    assert [host.address("one"), host.address("two")] == ["9.0.0.2/25", "9.0.0.3/25"]
    assert host.problems() == []


def test_what_is_answered_is_what_the_container_needs(host: Host) -> None:
    report = host.attach("one")
    assert (report.bridge, report.ifname, report.sandbox) == ("m-dcos", "eth0", "/run/netns/one")
    assert (report.mac, report.mtu) == ("02:42:09:00:00:02", 1450)
    assert [(one.address, one.gateway) for one in report.addresses] == [("9.0.0.2/25", "9.0.0.1")]
    assert [(one.dst, one.gw) for one in report.routes] == [("0.0.0.0/0", "9.0.0.1"), ("9.0.0.0/8", "9.0.0.1")]


def test_the_limits_of_a_container_are_changed_while_it_runs_or_stay_where_the_kernel_cannot(host: Host) -> None:
    def limits() -> dict[str | None, int | None]:
        return {one.container: one.egress for one in address_reports(host.records(), None, with_free=False)}

    reconciler = Reconciler(host.store, host.kernel)
    host.attach("one")
    host.attach("two")
    change_limits(host.store, reconciler, ip_address("9.0.0.3"), {"egress": 2_000_000})
    assert limits() == {"one": None, "two": 2_000_000}
    assert {link.limits.egress for link in host.kernel.links.values()} == {None, 2_000_000}
    host.kernel.refusals.append(KernelError("no ifb"))
    with pytest.raises(KernelError, match="no ifb"):
        change_limits(host.store, reconciler, ip_address("9.0.0.3"), {"egress": 4_000_000})
    assert limits() == {"one": None, "two": 2_000_000}
    with pytest.raises(NotFound, match=r"no container on dni has address 9\.0\.0\.9"):
        change_limits(host.store, reconciler, ip_address("9.0.0.9"), {"egress": 4_000_000})


def test_the_same_once_more_is_answered_likewise_and_takes_nothing(host: Host) -> None:
    assert host.attach("one") == host.attach("one")
    assert host.held() == {"9.0.0.2": "one"}


def test_nobody_gets_a_place_on_an_overlay_that_is_leaving_and_its_file_goes(host: Host, writing: Host) -> None:
    writing.cni.round()
    for one in (host, writing):
        with one.store.write() as tx:
            leaving.mark(tx, "dcos", AGENT)
    with pytest.raises(InUse, match="'dcos' is being removed, as agent "):
        host.attach("one")
    assert (host.held(), host.records().cni_networks) == ({}, [])
    assert (writing.files / "dcos.conf").exists()
    writing.cni.withdraw("dcos")
    assert list(writing.files.iterdir()) == []


def test_a_second_link_of_a_container_is_another_endpoint(host: Host) -> None:
    first = host.attach("one")
    other = host.cni.attach(CniWish(overlay="dcos", container="one", ifname="eth1", sandbox="/run/netns/one"))
    assert (first.addresses[0].address, other.addresses[0].address) == ("9.0.0.2/25", "9.0.0.3/25")


def test_a_container_that_comes_back_in_another_namespace_keeps_its_address(host: Host) -> None:
    host.attach("one")
    host.clock.pass_by(60)
    moved = host.attach("one", sandbox="/run/netns/anew")
    assert (moved.addresses[0].address, moved.sandbox) == ("9.0.0.2/25", "/run/netns/anew")
    assert [one.since for one in host.records().cni_endpoints] == [host.clock.now]


def test_who_had_the_path_of_a_namespace_before_is_forgotten_unless_its_link_is_there(host: Host) -> None:
    host.attach("one", sandbox="/run/netns/shared")
    host.attach("two", sandbox="/run/netns/shared")
    assert host.held() == {"9.0.0.2": "one", "9.0.0.3": "two"}
    host.kernel.links.clear()
    host.attach("three", sandbox="/run/netns/shared")
    assert host.held() == {"9.0.0.4": "three"}


def test_a_freed_address_is_the_last_to_come_back(host: Host) -> None:
    host.attach("one")
    host.cni.detach(key("one"))
    assert [host.address(f"c{number}") for number in range(3)] == ["9.0.0.3/25", "9.0.0.4/25", "9.0.0.5/25"]


def test_a_container_that_is_gone_already_is_no_error(host: Host) -> None:
    host.cni.detach(key("never"))
    host.attach("one")
    host.cni.detach(key("one"))
    host.cni.detach(key("one"))
    assert host.held() == {}
    assert host.kernel.links == {}
    assert host.problems() == []


def test_an_address_can_be_asked_for(host: Host) -> None:
    assert host.address("one", "9.0.0.77") == "9.0.0.77/25"
    with pytest.raises(InUse, match=r"9\.0\.0\.77 is in use by container one"):
        host.attach("two", "9.0.0.77")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("9.0.0.130", "lies outside the Mesos half of overlay 'dcos' on this agent: choose one of 9.0.0.2 to"),
        ("9.0.0.1", "is the gateway of 9.0.0.0/25"),
        ("fd01::2", "overlay 'dcos' has no IPv6"),
    ],
)
def test_an_address_that_no_container_of_the_half_can_have_is_refused(host: Host, asked: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        host.attach("one", asked)
    assert host.held() == {}


def test_reserved_addresses_are_given_to_those_alone_who_ask_for_them(host: Host) -> None:
    reserving = Reserving(host.store, host.clock)
    reserving.reserve(read_wish("dcos", "9.0.0.2-9.0.0.5"))
    assert host.address("one") == "9.0.0.6/25"
    assert host.address("two", "9.0.0.3") == "9.0.0.3/25"
    listed = [(one.address, one.pool) for one in address_reports(host.records(), "dcos", with_free=False)]
    assert listed == [("9.0.0.2", "dcos/mesos4"), ("9.0.0.3", "dcos/mesos4"), ("9.0.0.6", "dcos/mesos4")]
    assert host.problems() == []


def test_an_address_that_a_container_has_cannot_be_reserved(host: Host) -> None:
    host.attach("one")
    with pytest.raises(InUse, match=r"9\.0\.0\.2 is in use by container one"):
        Reserving(host.store, host.clock).reserve(read_wish("dcos", "9.0.0.2"))


def fill_docker_half(host: Host) -> set[Address]:
    create_network(host.store, host.clock.now)
    found: set[Address] = set()
    with host.store.write() as tx:
        pool = pools.find(tx, "dcos/v4")
        while True:
            try:
                found.add(claim(tx, pool, halves_of(tx, pool), ANY, host.clock.now))
            except Exhausted:
                return found


def test_both_halves_filled_have_no_address_in_common_and_leave_out_gateways_and_broadcast(host: Host) -> None:
    docker = {str(one) for one in fill_docker_half(host)}
    mesos = {host.address(f"c{number}").partition("/")[0] for number in range(125)}
    with pytest.raises(Exhausted, match=r"no free address in the Mesos half of overlay 'dcos'.*125 of 125 used"):
        host.attach("one-more")
    assert docker.isdisjoint(mesos)
    assert docker | mesos == {f"9.0.0.{last}" for last in (*range(2, 127), *range(130, 255))}
    host.cni.detach(key("c7"))
    assert host.address("one-more") == "9.0.0.9/25"


def test_a_mesos_half_that_fills_up_calls_for_more_room_and_what_a_container_is_in_is_not_given_back(
    host: Host,
) -> None:
    def scarce() -> list[tuple[str, Family]]:
        with host.store.read() as tx:
            return list(room.scarce(tx))

    for number in range(99):
        host.attach(f"c{number}")
    assert scarce() == []
    host.attach("c99")
    assert scarce() == [("dcos", 4)]
    lease(host.store, DCOS, "9.0.7.0/24")
    assert scarce() == []
    for number in range(100, 125):
        host.attach(f"c{number}")
    report = host.attach("in-the-second")
    assert [(one.address, one.gateway) for one in report.addresses] == [("9.0.7.2/25", "9.0.7.1")]
    assert [str(one) for one in host.kernel.bridges["m-dcos"].addresses] == ["9.0.0.1/25", "9.0.7.1/25"]
    for number in range(125):
        host.cni.detach(key(f"c{number}"))
    assert list(idle(host.records(), host.clock.now)) == []
    host.cni.detach(key("in-the-second"))
    (found,) = idle(host.records(), host.clock.now)
    assert str(found.held.subnet) == "9.0.7.0/24"
    with host.store.write() as tx:
        room.begin_leaving(tx, Leaving(held=found.held, agent_ip=AGENT))
        room.forget(tx, found.held)
    host.kernel.reconcile(lambda: wanted(host.records()))
    assert host.problems() == []


def test_an_overlay_of_both_families_gives_an_address_of_each(host: Host) -> None:
    lease(host.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    report = host.attach("one", overlay="dual")
    assert [one.address for one in report.addresses] == ["10.64.0.2/25", "fd01:b::2/81"]
    assert [one.gateway for one in report.addresses] == ["10.64.0.1", "fd01:b::1"]
    assert host.problems() == []


def test_an_overlay_of_ipv6_alone_works_too(host: Host) -> None:
    lease(host.store, SIX, "fd06::/80")
    assert host.address("one", overlay="six") == "fd06::2/81"


def test_on_an_internal_network_nothing_leads_outside(host: Host) -> None:
    create_network(host.store, host.clock.now)
    with host.store.write() as tx:
        tx.execute("""UPDATE network SET options = '{"internal": true}'""")
    report = host.attach("one")
    assert [one.gateway for one in report.addresses] == [None]
    assert [one.dst for one in report.routes] == ["9.0.0.0/8"]


def test_an_unknown_overlay_and_one_that_is_not_leased_yet_are_told(host: Host) -> None:
    with pytest.raises(NotFound, match="there is no overlay 'nowhere'"):
        host.attach("one", overlay="nowhere")
    with host.store.write() as tx:
        overlays.put(tx, define("late", [ip_network("10.7.0.0/16")]))
    with pytest.raises(Unavailable, match="has no agent subnet of overlay 'late' yet"):
        host.attach("one", overlay="late")
    assert host.held() == {}


def test_a_bridge_that_goes_while_a_container_comes_is_made_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile = host.kernel.reconcile

    def clear_away_behind_it(read: Callable[[], object]) -> list[str]:
        monkeypatch.setattr(host.kernel, "reconcile", reconcile)
        host.kernel.reconcile(read)
        host.cni.round()
        return []

    monkeypatch.setattr(host.kernel, "reconcile", clear_away_behind_it)
    assert host.address("one") == "9.0.0.2/25"
    assert set(host.kernel.bridges) == {"m-dcos"}
    assert host.problems() == []


@pytest.mark.parametrize("step", ["reconcile", "plug"])
def test_where_the_kernel_says_no_nothing_is_held(host: Host, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KernelError("no mind to")

    host.attach("before")
    monkeypatch.setattr(host.kernel, step, refuse)
    with pytest.raises(KernelError, match="no mind to"):
        host.attach("one")
    assert host.held() == {"9.0.0.2": "before"}
    with pytest.raises(KernelError, match="no mind to"):
        host.attach("before")
    assert host.held() == {"9.0.0.2": "before"}


def test_nothing_is_held_either_where_something_else_goes_wrong(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Link) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(host.kernel, "plug", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        host.attach("one")
    assert (host.held(), host.records().cni_endpoints) == ({}, [])


def test_a_container_that_is_taken_away_while_it_comes_leaves_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that gave up waiting sends DEL, while its ADD is still under way."""
    plug = host.kernel.plug

    def plug_late(link: Link) -> None:
        host.cni.detach(key("one"))
        plug(link)

    monkeypatch.setattr(host.kernel, "plug", plug_late)
    with pytest.raises(NotFound, match="container one has no eth0 on overlay 'dcos'"):
        host.attach("one")
    assert (host.held(), host.kernel.links) == ({}, {})
    assert host.problems() == []


def test_nobody_gets_an_address_while_the_link_of_who_had_it_is_there(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two links with one MAC on a bridge: what is meant for the one that comes goes to the one that leaves."""
    unplug = host.kernel.unplug

    def unplug_late(endpoints: Iterable[str]) -> None:
        if host.kernel.links:
            with pytest.raises(InUse, match=r"9\.0\.0\.2 is in use by container one"):
                host.attach("two", "9.0.0.2")
        unplug(endpoints)

    host.attach("one")
    monkeypatch.setattr(host.kernel, "unplug", unplug_late)
    host.cni.detach(key("one"))
    assert host.address("two", "9.0.0.2") == "9.0.0.2/25"


def test_a_container_that_comes_once_more_while_it_is_taken_away_leaves_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    unplug = host.kernel.unplug

    def come_once_more(endpoints: Iterable[str]) -> None:
        monkeypatch.setattr(host.kernel, "unplug", unplug)
        unplug(endpoints)
        host.attach("one")

    host.attach("one")
    monkeypatch.setattr(host.kernel, "unplug", come_once_more)
    host.cni.detach(key("one"))
    assert (host.held(), host.kernel.links) == ({}, {})


def test_an_address_whose_link_cannot_be_taken_away_stays_held_until_it_can(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Iterable[str]) -> None:
        raise Unavailable("overloaded")

    host.attach("one")
    with monkeypatch.context() as patched:
        patched.setattr(host.kernel, "unplug", refuse)
        with pytest.raises(Unavailable, match="overloaded"):
            host.cni.detach(key("one"))
        assert host.held() == {"9.0.0.2": "one"}
    host.cni.detach(key("one"))
    assert (host.held(), host.kernel.links) == ({}, {})


def test_a_check_compares_with_the_kernel(host: Host) -> None:
    report = host.attach("one")
    assert host.cni.verify(key("one")) == report
    host.kernel.links.clear()
    with pytest.raises(Refused, match=r"container one is not as it was made: link dni\w+ on m-dcos is missing"):
        host.cni.verify(key("one"))
    with pytest.raises(NotFound, match="container two has no eth0 on overlay 'dcos'"):
        host.cni.verify(key("two"))


def test_the_bridge_comes_with_the_first_container_and_goes_after_the_last(host: Host) -> None:
    host.cni.round()
    assert host.kernel.bridges == {}
    host.attach("one")
    assert set(host.kernel.bridges) == {"m-dcos"}
    host.cni.detach(key("one"))
    host.cni.round()
    assert host.kernel.bridges == {}


def test_the_docker_collector_has_nothing_to_do_with_them(host: Host) -> None:
    host.attach("one")
    host.clock.pass_by(1e6)
    assert leaks(host.records(), DockerView()) == set()


def test_what_lost_its_namespace_is_freed_after_the_grace_and_not_before(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE - 30)
    assert host.held() == {"9.0.0.2": "one"}
    host.look_for(90)
    assert host.held() == {}
    assert len(host.kernel.detached) == 1


def test_a_namespace_that_is_seen_again_ends_the_wait(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE - 60)
    host.kernel.lost_sandboxes.clear()
    host.look_for(30)
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE - 60)
    assert host.held() == {"9.0.0.2": "one"}


def test_who_answers_keeps_its_address(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.kernel.alive.add("9.0.0.2")
    host.look_for(3 * GRACE)
    assert host.held() == {"9.0.0.2": "one"}


def test_who_comes_back_while_it_is_asked_for_keeps_its_address(host: Host) -> None:
    def come_back() -> None:
        host.kernel.lost_sandboxes.clear()
        host.attach("one")

    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    host.look_for(GRACE)
    host.kernel.when_asked = come_back
    host.cni.round()
    assert host.held() == {"9.0.0.2": "one"}
    assert not any(host.kernel.detached)


def test_a_repair_frees_at_once_what_is_settled_and_a_check_tells_of_it(host: Host) -> None:
    host.attach("one")
    host.kernel.lost_sandboxes.add("/run/netns/one")
    assert host.cni.repair() == []
    told = "container one has 9.0.0.2 of overlay 'dcos', but its network namespace /run/netns/one is gone"
    assert told in host.problems()
    assert host.cni.repair() == [told.replace("container one has", "container one: has")]
    assert host.held() == {}


def test_an_overlay_with_containers_of_cni_is_not_removed(host: Host) -> None:
    host.attach("one")
    with host.store.write() as tx, pytest.raises(InUse, match=r"9\.0\.0\.2 .* is in use by container one"):
        check_vacant(tx, "dcos", host.clock.now)
    host.cni.detach(key("one"))
    with host.store.write() as tx:
        check_vacant(tx, "dcos", host.clock.now)
        overlays.remove(tx, "dcos")
    assert host.cni.round() == []


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
