# SPDX-License-Identifier: Apache-2.0
"""An overlay goes once every host has given it up, whatever dies or is cut off meanwhile; one that is used stays."""

from __future__ import annotations

import time
from contextlib import suppress
from ipaddress import ip_network
from itertools import count

import pytest

from dni_driver.agent import removal
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.docker_networks import ListedNetwork
from dni_driver.core.errors import InUse, NotFound, Unavailable
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import define
from dni_driver.core.records import NetworkRecord
from dni_driver.store import leaving, networks
from tests.unit.removal_hosts import DEV, Died, Host, Make, begin, kept_by, make, registered, two, url

__all__ = ["make", "two", "url"]


OVER = define("over", [ip_network("10.64.7.0/24")], (26, None))


def test_it_goes_when_all_have_given_it_up_with_its_networks_everywhere(two: list[Host]) -> None:
    one, other = two
    assert one.networks() == other.networks() == ["dcos", "dev"]
    begin(one)
    assert (one.overlays(), other.overlays()) == (["dcos", "dev leaves"], ["dcos", "dev"])
    assert (len(one.holds()), len(other.holds())) == (1, 2)
    assert registered(one) == ["dcos", "dev"]
    assert other.look() == []
    assert registered(one) == ["dcos"]
    assert one.look() == other.look() == []
    assert one.overlays() == other.overlays() == ["dcos"]
    assert one.networks() == other.networks() == ["dcos"]


def test_who_has_not_answered_is_named_with_what_to_do(two: list[Host]) -> None:
    one, other = two
    with pytest.raises(
        Unavailable,
        match=rf"from {other.ip}: it goes by itself when .*`dni agent forget IP`; .* off: dni overlay keep dev$",
    ):
        one.agent.remove_overlay("dev")


def test_nothing_is_begun_with_it_where_that_was_heard(two: list[Host]) -> None:
    one, _ = two
    begin(one)
    with pytest.raises(
        InUse, match=rf"'dev' is being removed, as agent {one.ip} was told to: .*dni overlay keep dev"
    ):
        one.start_container()
    with pytest.raises(InUse, match="'dev' is being removed"):
        one.agent.reserve(Wish(overlay="dev", container="web"))
    for overlay in (DEV, OVER):
        with pytest.raises(InUse, match="'dev'"):
            one.agent.define_overlay(overlay)
    one.look()
    assert one.networks() == ["dcos"]


def test_a_host_that_has_begun_to_use_it_before_it_heard_keeps_it_and_is_named(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.start_container()
    assert other.look() == []
    with pytest.raises(InUse, match=f"'dev' is in use on {other.ip}: remove its containers"):
        one.agent.remove_overlay("dev")
    one.look()
    assert one.overlays() == other.overlays() == ["dcos", "dev"]
    assert (len(one.holds()), len(other.holds())) == (2, 2)
    assert one.networks() == other.networks() == ["dcos", "dev"], "its network came back where it had gone"
    other.stop_container()
    other.look()
    begin(one)


def test_what_a_crash_kept_out_of_the_store_of_its_holder_is_given_back_too(make: Make) -> None:
    one, other = make(0), make(1)
    one.agent.define_overlay(DEV)
    assert other.registry is not None
    other.registry.lease("dev", 4, other.ip)
    begin(one)
    other.look()
    assert registered(one) == ["dcos"]


def test_a_host_that_uses_it_refuses_no_container_there_meanwhile(
    two: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    begin(one)
    other.start_container()
    marked: list[str] = []
    monkeypatch.setattr(leaving, "mark", lambda _tx, overlay, _remover: marked.append(overlay))
    other.look()
    assert marked == []


def test_what_a_host_said_of_itself_before_does_not_keep_it_once_that_is_over(two: list[Host]) -> None:
    """It is told every some seconds; who removes the network and then the overlay does not wait for that."""
    one, _ = two
    assert one.registry is not None
    one.registry.use(one.ip, ["dev"])
    begin(one)


def test_its_removal_can_be_called_off(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.agent.keep_overlay("dev")
    one.look()
    other.look()
    assert one.overlays() == other.overlays() == ["dcos", "dev"]
    assert one.networks() == ["dcos", "dev"]
    one.start_container()
    with pytest.raises(NotFound):
        one.agent.keep_overlay("unknown")


def test_who_waits_is_told_that_it_was_called_off(two: list[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    monkeypatch.setattr(removal, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(removal, "sleep", lambda _: other.agent.keep_overlay("dev"))
    with pytest.raises(InUse, match=r"'dev' stays: its removal was called off meanwhile \(dni overlay keep dev\)"):
        one.agent.remove_overlay("dev")


def test_anyone_may_go_on_with_a_removal_whose_remover_is_gone(two: list[Host]) -> None:
    one, other = two
    begin(one)
    one.stop()
    other.agent.remove_overlay("dev")
    assert registered(other) == other.overlays() == ["dcos"]


def test_it_goes_by_itself_when_a_host_is_forgotten_that_never_answered(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.stop()
    assert one.registry is not None
    while other.ip in one.registry.alive():
        time.sleep(0.05)
    one.agent.forget_agent(other.ip)
    one.look()
    assert registered(one) == one.overlays() == ["dcos"]


def test_a_host_that_joins_while_it_is_leaving_takes_none_of_it(make: Make, two: list[Host]) -> None:
    one, other = two
    begin(one)
    late = make(2)
    assert (late.overlays(), len(late.holds())) == (["dcos"], 1)
    other.look()
    assert registered(late) == ["dcos"]


def test_one_that_is_the_default_of_another_host_is_kept_by_that(make: Make) -> None:
    one, other = make(0), make(1)
    one.start(default=None)
    with kept_by(other):
        one.agent.remove_overlay("dcos")
    other.look()
    assert (other.overlays(), len(other.holds())) == (["dcos"], 1)


def test_another_may_be_defined_in_its_place_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default overlay of settings that have changed: each host defines it as soon as the old one is gone."""
    one, other = make(0), make(1)
    changed = define("dcos", [ip_network("10.9.0.0/16")])
    for host in (one, other):
        host.start(default=changed)
    monkeypatch.setattr(removal, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(removal, "sleep", lambda _: (other.look(), other.look()))
    one.agent.remove_overlay("dcos")
    assert other.holds() == ["dcos 10.9.0.0/24"]
    one.look()
    assert one.holds() == ["dcos 10.9.1.0/24"]


def test_while_docker_is_away_its_network_and_it_stay_and_nobody_says_that_it_is_used(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.docker.away = "dockerd does not answer"
    (problem,) = other.agent._parts.removal.look()  # noqa: SLF001 - what its loop does
    assert problem == (
        "overlay 'dev' is being removed, and stays on this host for now: dockerd does not answer; it goes by itself "
        "after that; to call the removal off: dni overlay keep dev"
    )
    assert other.agent._parts.removal.is_hindered, "it is tried again as soon as dockerd is back"  # noqa: SLF001
    with pytest.raises(InUse, match="is being removed"):
        other.start_container()
    other.docker.away = None
    assert other.look() == []
    assert registered(one) == ["dcos"]


def test_who_removes_it_is_told_what_hinders_that_here(two: list[Host]) -> None:
    one, other = two
    one.docker.away = "dockerd does not answer"
    with pytest.raises(
        Unavailable, match=r"'dev' is being removed, and stays on this host for now: dockerd does not"
    ):
        one.agent.remove_overlay("dev")
    one.docker.away = None
    one.look()
    other.look()
    assert registered(one) == ["dcos"]


def test_a_network_of_the_users_own_keeps_it(two: list[Host]) -> None:
    one, other = two
    other.docker.remove_network(next(network.id for network in other.docker.made if network.name == "dev"))
    with other.store.write() as tx:
        networks.add(tx, NetworkRecord(id="e" * 64, overlay="dev", options=NetworkOptions(), mtu=1450))
    other.docker.made.append(ListedNetwork(id="e" * 64, name="mine", driver="dni"))
    with kept_by(other):
        one.agent.remove_overlay("dev")
    assert "dev" in other.overlays()


def test_containers_of_host_local_keep_it_and_no_runtime_finds_it_while_it_leaves(two: list[Host]) -> None:
    one, other = two
    configuration = other.disk / "cni" / "dev.conf"
    assert configuration.exists()
    (other.disk / "held" / "dev").mkdir(parents=True)
    (other.disk / "held" / "dev" / "10.64.1.2").write_text("c1\r\neth0")
    with kept_by(other):
        one.agent.remove_overlay("dev")
    assert not (one.disk / "cni" / "dev.conf").exists()
    other.look()
    assert configuration.exists()


def test_what_a_lost_registry_had_of_it_is_not_put_back_from_where_it_was_leaving(
    two: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    begin(one)
    assert one.registry is not None
    with monkeypatch.context() as patch:
        patch.setattr(type(one.registry), "overlays", lambda _: [])
        defined: list[str] = []
        patch.setattr(type(one.registry), "define", lambda _, overlay: defined.append(overlay.name))
        one.agent._parts.joining._agreement.refill()  # noqa: SLF001 - what joining an empty registry does first
    assert defined == ["dcos"]


def test_a_host_that_was_forgotten_and_comes_back_with_containers_keeps_what_is_leaving(two: list[Host]) -> None:
    one, other = two
    other.start_container()
    assert one.registry is not None
    (lost,) = [lease for lease in one.registry.leases(other.ip) if lease.held.overlay == "dev"]
    one.registry.give_back(lost.held, other.ip)
    one.registry.begin_removal("dev", one.ip)
    other.look()
    other.look()
    assert lost in one.registry.leases(other.ip)
    assert "dev" in other.overlays()


def sound(*hosts: Host) -> None:
    """No host could start a container on what it does not hold in the registry."""
    for host in hosts:
        assert host.registry is not None
        leased = [f"{one.held.overlay} {one.held.subnet}" for one in host.registry.leases(host.ip)]
        with host.store.read() as tx:
            marked = leaving.every(tx)
        assert [one for one in host.holds() if one not in leased and one.split()[0] not in marked] == []


@pytest.mark.parametrize("who", ["the remover", "another"])
@pytest.mark.parametrize("called_off", [False, True], ids=["it goes", "it is called off"])
def test_an_agent_that_ends_at_any_write_leaves_it_to_the_next_look(
    make: Make, who: str, *, called_off: bool
) -> None:
    one, other = make(0), make(1)
    mortal = one if who == "the remover" else other
    for place in count():
        one.agent.define_overlay(DEV)
        other.look()
        one.look()
        assert (len(one.holds()), len(other.holds())) == (2, 2)
        mortal.writes, mortal.dies_at = 0, place
        died = False
        try:
            with suppress(Unavailable):
                one.agent.remove_overlay("dev")
            other.look()
        except Died:
            died = True
        mortal.dies_at = None
        sound(one, other)
        if called_off and "dev" in registered(other if mortal is one else one):
            (other if mortal is one else one).agent.keep_overlay("dev")
        mortal.start()
        sound(one, other)
        for host in (one, other, one, other, one):
            host.look()
            sound(one, other)
        if "dev" in registered(one):
            assert one.overlays() == other.overlays() == ["dcos", "dev"]
            assert one.networks() == other.networks() == ["dcos", "dev"]
            one.start_container()
            other.start_container()
            one.stop_container()
            other.stop_container()
            one.agent._parts.presence.tell()  # noqa: SLF001 - that it is used no more
            other.agent._parts.presence.tell()  # noqa: SLF001 - likewise
            with suppress(Unavailable):
                one.agent.remove_overlay("dev")
            other.look()
            one.look()
            other.look()
        assert registered(one) == one.overlays() == other.overlays() == ["dcos"]
        assert one.networks() == other.networks() == ["dcos"]
        if not died:
            break
    assert place > 4
