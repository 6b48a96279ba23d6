# SPDX-License-Identifier: Apache-2.0
"""A container of CNI whose coming or going is cut short, refused or crossed by another leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from dni_driver.core.errors import InUse, KernelError, NotFound, Unavailable
from dni_driver.core.wanted import Link
from tests.unit.cni_host import Host, host, key

__all__ = ["host"]


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
    def refuse(_: Link, __: Sequence[Link]) -> None:
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

    def plug_late(link: Link, beside: Sequence[Link]) -> None:
        host.cni.detach(key("one"))
        plug(link, beside)

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
