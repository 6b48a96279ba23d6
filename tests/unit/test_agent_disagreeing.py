# SPDX-License-Identifier: Apache-2.0
"""Where a host's store and the registry disagree, what containers use is kept and what nobody uses follows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import msgspec
import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import DOUBLED_SECONDS, Joining
from dni_driver.core.errors import Doubled, Exhausted, InUse, Refused, Unavailable
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.overlays import Address, AgentSubnet, Backend, define
from dni_driver.core.peers import Vtep
from dni_driver.registry import Host, Registry, open_registry
from dni_driver.store import Store, claiming, identity, local_subnets, pools
from dni_driver.store.forget import forget_network
from tests.fakes import AGENT, DCOS, FakeClock
from tests.members import joined
from tests.removing import remove, remove_here
from tests.unit.agents import NETWORK, create_network
from tests.unit.joiner import DEV, OTHER, Start, directory, held, known, registry, start, store

__all__ = ["directory", "registry", "start", "store"]


def test_what_containers_use_is_put_back_into_a_registry_that_lost_it(
    start: Start, store: Store, directory: Path
) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    with store.write() as tx:
        pools.use_overlay(tx, "dev", 4, None, FakeClock().now)
    for file in directory.glob("registry.db*"):
        file.unlink()
    empty = open_registry("local", directory)
    again = Joining(store, empty, Identity(store, lambda: AGENT, None), DCOS, FakeClock())
    assert again.join() == []
    assert empty.overlays() == [DCOS, DEV]
    assert [lease.held for lease in empty.leases(AGENT)] == [
        AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")),
        AgentSubnet(overlay="dev", subnet=ip_network("10.64.0.0/24")),
    ]
    assert held(store) == ["dcos 9.0.0.0/24", "dev 10.64.0.0/24"]


def test_an_empty_registry_gets_back_also_what_nothing_uses(start: Start, store: Store, directory: Path) -> None:
    """It was lost: an overlay that somebody removed leaves the others there."""
    joining = start()
    joining.join()
    joining.define(DEV)
    for file in directory.glob("registry.db*"):
        file.unlink()
    empty = open_registry("local", directory)
    assert Joining(store, empty, Identity(store, lambda: AGENT, None), DCOS, FakeClock()).join() == []
    assert (empty.overlays(), held(store)) == ([DCOS, DEV], ["dcos 9.0.0.0/24", "dev 10.64.0.0/24"])


def test_an_overlay_removed_elsewhere_is_forgotten_where_nothing_uses_it(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    remove(registry, "dev")
    assert joining.join() == []
    assert known(store) == [DCOS]


def test_an_overlay_redefined_elsewhere_is_taken_over_where_nothing_uses_it(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    remove(registry, "dev")
    registry.define(define("dev", [ip_network("10.65.0.0/16")]))
    joining.join()
    assert held(store) == ["dcos 9.0.0.0/24", "dev 10.65.0.0/24"]


def test_a_subnet_that_another_agent_has_got_is_given_up_where_nothing_uses_it(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    (mine,) = registry.leases()
    registry.give_back(mine.held, AGENT)
    joined(registry, OTHER).lease("dcos", 4, OTHER)
    assert joining.join() == []
    assert held(store) == ["dcos 9.0.1.0/24"]


def test_a_subnet_that_another_agent_has_got_and_containers_use_is_a_problem(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    create_network(store, FakeClock().now)
    (mine,) = registry.leases()
    registry.give_back(mine.held, AGENT)
    joined(registry, OTHER).lease("dcos", 4, OTHER)
    (problem,) = joining.join()
    assert "overlay 'dcos': agent subnet 9.0.0.0/24 of overlay 'dcos' is held by agent 192.0.2.20; " in problem
    assert "remove that first (docker network rm" in problem
    assert held(store)[0] == "dcos 9.0.0.0/24"


@pytest.mark.parametrize("backend", ["direct", "auto"])
def test_the_default_overlay_may_be_given_another_backend(start: Start, registry: Registry, backend: Backend) -> None:
    joining = start()
    joining.join()
    joining.set_backend("dcos", backend)
    for again in (joining, start()):
        assert again.join() == []
        assert [overlay.backend for overlay in registry.overlays()] == [backend]
        with pytest.raises(Refused, match="is the default overlay"):
            remove_here(again, "dcos")


def test_a_host_that_lost_its_session_is_alive_again_before_it_removes_what_it_holds_itself(
    start: Start, store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    registered: list[Address] = []
    register = type(registry).register

    def noted(one: Registry, host: Host) -> Vtep:
        registered.append(host.agent_ip)
        return register(one, host)

    monkeypatch.setattr(type(registry), "alive", lambda _: frozenset())
    monkeypatch.setattr(type(registry), "register", noted)
    remove_here(joining, "dev")
    assert registered == [AGENT]
    assert known(store) == [DCOS]


def test_an_overlay_redefined_elsewhere_and_in_use_here_is_a_problem_and_nothing_more_is_taken_part_in(
    start: Start, store: Store, registry: Registry
) -> None:
    """Containers with addresses of old would go on beside those with new ones."""
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    create_network(store, FakeClock().now)
    remove(registry, "dcos")
    registry.define(define("dcos", [ip_network("10.65.0.0/16")]))
    (problem,) = joining.join()
    assert problem.startswith("overlay 'dcos': overlay 'dcos' exists already, with 10.65.0.0/16")
    assert not joining.is_settled
    assert (DCOS in known(store), held(store)) == (True, ["dev 10.64.0.0/24", "dcos 9.0.0.0/24"])


def test_what_another_agent_has_got_is_handed_out_no_more_until_it_is_this_hosts_again(
    start: Start, store: Store, registry: Registry
) -> None:
    """Its address would have two owners."""
    joining = start()
    joining.join()
    create_network(store, FakeClock().now)
    (mine,) = registry.leases()
    registry.give_back(mine.held, AGENT)
    theirs = joined(registry, OTHER).lease("dcos", 4, OTHER)
    joining.join()
    with pytest.raises(Unavailable, match=r"no new addresses of overlay 'dcos': .* is held by agent 192\.0\.2\.20"):
        take(store)
    registry.give_back(theirs, OTHER)
    assert joining.join() == []
    assert take(store) == "9.0.0.130"


def take(store: Store) -> str:
    """Claim the next address of dcos, as the plugin does."""
    with store.write() as tx:
        pool = pools.find(tx, "dcos/v4")
        return str(claiming.claim(tx, pool, claiming.halves_of(tx, pool), claiming.ANY, FakeClock().now))


@pytest.mark.parametrize(
    ("of_another", "told"),
    [
        (Host(agent_ip=AGENT, identity="another", boot="b"), r"another living host is agent 192\.0\.2\.10"),
        (
            Host(agent_ip=OTHER, identity="this", boot="b"),
            r"agent 192\.0\.2\.20 is alive and has the identity of this",
        ),
    ],
    ids=["the same address", "a copy of the disk"],
)
def test_a_host_whose_place_another_has_hands_out_nothing_that_the_other_may_hand_out_too(
    start: Start, store: Store, registry: Registry, directory: Path, of_another: Host, told: str
) -> None:
    start(found=of_another.agent_ip).join()
    create_network(store, FakeClock().now)
    registry.close()
    other = open_registry("local", directory)
    this = identity.of_store(store) if of_another.identity == "this" else of_another.identity
    other.register(msgspec.structs.replace(of_another, identity=this))
    again = Joining(store, open_registry("local", directory), Identity(store, lambda: AGENT, None), DCOS, FakeClock())
    with pytest.raises(InUse, match=told):
        again.join()
    with pytest.raises(Unavailable, match=f"no new addresses of overlay 'dcos': {told}"):
        take(store)
    other.close()
    assert again.join() == []
    assert take(store) == "9.0.0.130"


def test_what_the_store_has_is_not_given_back_although_a_registry_that_lost_it_has_just_given_it(
    start: Start, registry: Registry
) -> None:
    """Containers have addresses of it; where the other family is full it would be the next host's."""
    two = define("two", [ip_network("10.80.0.0/26"), ip_network("fd01:c::/80")], (28, 80))
    joining = start()
    joining.join()
    joining.define(two)
    (mine,) = [one.held for one in registry.leases() if one.held.overlay == "two" and one.held.family == 4]
    for one in [one.held for one in registry.leases() if one.held.overlay == "two"]:
        registry.give_back(one, AGENT)
    joined(registry, OTHER).lease("two", 6, OTHER)
    with pytest.raises(Exhausted):
        joining.define(two)
    assert [one.held for one in registry.leases(AGENT) if one.held.overlay == "two"] == [mine]


def test_who_was_forgotten_meanwhile_is_an_agent_again_by_what_it_is_asked_to_do(
    start: Start, registry: Registry, directory: Path
) -> None:
    def forget() -> None:
        with closing(sqlite3.connect(directory / "registry.db")) as connection, connection:
            connection.execute("DELETE FROM agent")
            connection.execute("DELETE FROM lease")

    joining = start()
    joining.join()
    forget()
    joining.define(DEV)
    assert [lease.held.overlay for lease in registry.leases(AGENT)] == ["dev"]
    forget()
    joining.set_backend("dev", "direct")
    assert [lease.held.overlay for lease in registry.leases(AGENT)] == ["dev"]
    forget()
    assert joining.begin_removal("dev")
    assert registry.leaving() == {"dev": AGENT}


def test_a_copy_of_a_host_with_its_address_hands_out_nothing_once_it_can_be_no_earlier_life_of_the_same(
    store: Store, registry: Registry, directory: Path
) -> None:
    """A host that is started again is kept waiting for some seconds by what is left of its former life."""
    clock = FakeClock()
    identity_here = Identity(store, lambda: AGENT, None)
    Joining(store, registry, identity_here, DCOS, clock).join()
    create_network(store, clock.now)
    registry.close()
    original = open_registry("local", directory)
    original.register(Host(agent_ip=AGENT, identity=identity.of_store(store), boot="of another machine"))
    copy = Joining(store, open_registry("local", directory), identity_here, DCOS, clock, monotonic=clock)
    for seconds in (0.0, DOUBLED_SECONDS - 1):
        clock.pass_by(seconds)
        with pytest.raises(Doubled, match=r"was alive a moment ago, before this host was started"):
            copy.join()
    assert take(store) == "9.0.0.130"
    clock.pass_by(1)
    with pytest.raises(Doubled):
        copy.join()
    with pytest.raises(Unavailable, match=r"no new addresses .*: agent 192\.0\.2\.10 was alive a moment ago"):
        take(store)
    original.close()
    assert copy.join() == []
    assert take(store) == "9.0.0.131"


def test_what_is_disputed_is_forgotten_with_the_overlay(start: Start, store: Store, registry: Registry) -> None:
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    create_network(store, FakeClock().now)
    (mine,) = [lease for lease in registry.leases() if lease.held.overlay == "dcos"]
    registry.give_back(mine.held, AGENT)
    joined(registry, OTHER).lease("dcos", 4, OTHER)
    joining.join()
    with store.write() as tx:
        forget_network(tx, NETWORK, FakeClock().now)
    assert joining.join() == []
    assert held(store) == ["dev 10.64.0.0/24", "dcos 9.0.1.0/24"]
    with store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, FakeClock().now)
    assert take(store) == "9.0.1.130"


def test_a_changed_backend_is_taken_over_while_the_overlay_is_in_use(
    start: Start, store: Store, directory: Path
) -> None:
    start().join()
    create_network(store, 1)
    for file in directory.glob("registry.db*"):
        file.unlink()
    registry = open_registry("local", directory)
    direct = define("dcos", [ip_network("9.0.0.0/8")], (None, None), "direct")
    registry.define(direct)
    Joining(store, registry, Identity(store, lambda: AGENT, None), direct, FakeClock()).join()
    assert known(store) == [direct]
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_an_overlay_of_the_cluster_takes_the_place_of_an_unused_local_subnet(
    start: Start, store: Store, registry: Registry
) -> None:
    six = define("six", [ip_network("fd06::/64")])
    joining = start()
    joining.join()
    joining.define(six)
    with store.write() as tx:
        local_subnets.put(tx, LocalSubnet(overlay="six", subnet=IPv4Network("198.18.0.0/20")))
    registry.define(define("wide", [ip_network("198.18.0.0/16")]))
    assert start().join() == []
    with store.read() as tx:
        assert local_subnets.every(tx) == []


def test_a_used_local_subnet_keeps_this_host_out_of_an_overlay_and_that_is_told(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.define(define("six", [ip_network("fd06::/64")]))
    with store.write() as tx:
        local_subnets.put(tx, LocalSubnet(overlay="six", subnet=IPv4Network("198.18.0.0/20")))
        pools.use_overlay(tx, "six", 4, None, FakeClock()())
    registry.define(define("wide", [ip_network("198.18.0.0/16")]))
    (problem,) = start().join()
    assert "overlay 'wide': subnet 198.18.0.0/16 overlaps 198.18.0.0/20, which overlay 'six' has" in problem
