# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI on the Mesos half: who gets a place there, and what is answered."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dni_driver.agent.limiting import change_limits
from dni_driver.agent.occupancy import check_vacant
from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.errors import InUse, KernelError, NotFound, Refused, Unavailable
from dni_driver.core.mesos.cni_wish import CniWish
from dni_driver.core.overlays import define
from dni_driver.core.reports import address_reports
from dni_driver.store import leaving, overlays
from tests.fakes import AGENT, DUAL, SIX, lease
from tests.unit.agents import create_network
from tests.unit.cni_host import Host, host, key, writing

__all__ = ["host", "writing"]


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
    host.attach("two")
    assert host.kernel.beside[other.host] == [first.host], "by either of them it may answer for the other"


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


def test_an_overlay_with_containers_of_cni_is_not_removed(host: Host) -> None:
    host.attach("one")
    with host.store.write() as tx, pytest.raises(InUse, match=r"9\.0\.0\.2 .* is in use by container one"):
        check_vacant(tx, "dcos", host.clock.now)
    host.cni.detach(key("one"))
    with host.store.write() as tx:
        check_vacant(tx, "dcos", host.clock.now)
        overlays.remove(tx, "dcos")
    assert host.cni.round() == []
