# SPDX-License-Identifier: Apache-2.0
"""A host becomes an agent, and stays one through crashes, changes of address, and losses on either side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from pathlib import Path

import msgspec
import pytest

from dni_driver.agent import joining as joining_module
from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.core.errors import DeadlineExceeded, InUse, NotFound, Refused, StoreError, Unavailable
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Address, AgentSubnet, Backend, Overlay, define
from dni_driver.core.peers import Vtep
from dni_driver.core.records import CREATION_SECONDS, AddressState, NetworkRecord
from dni_driver.registry import Host, Lease, Registry, open_registry
from dni_driver.store import Store, claiming, identity, leaving, local_subnets, networks, overlays, peers, pools
from dni_driver.store.forget import forget_network
from tests.fakes import AGENT, DCOS, FakeClock
from tests.removing import remove, remove_here
from tests.scratch import fast_directory
from tests.unit.agents import NETWORK, claim, create_network

OTHER = IPv4Address("192.0.2.20")
LOOPBACK = IPv4Address("127.0.0.1")
SIX = IPv6Address("fd00::11")
DEV = define("dev", [ip_network("10.64.0.0/16")])


@pytest.fixture
def directory() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory)


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    store = Store(directory / "dni.db")
    yield store
    store.close()


@pytest.fixture
def registry(directory: Path) -> Registry:
    return open_registry("local", directory)


Start = Callable[..., Joining]


@pytest.fixture
def start(store: Store, registry: Registry) -> Start:
    """Answer how an agent starts, with the address it is found to have."""

    def start(
        found: Address = AGENT,
        default: Overlay = DCOS,
        configured: Address | None = None,
        clock: Callable[[], float] = FakeClock(),  # noqa: B008 - nobody lets it pass
        vtep_subnet: IPv4Network | None = None,
    ) -> Joining:
        identity = Identity(store, lambda: found, configured, vtep_subnet=vtep_subnet)
        return Joining(store, registry, identity, default, clock)

    return start


def held(store: Store) -> list[str]:
    with store.read() as tx:
        return [f"{one.overlay} {one.subnet}" for one in overlays.agent_subnets(tx)]


def known(store: Store) -> list[Overlay]:
    with store.read() as tx:
        return overlays.every(tx)


def agent_ip(store: Store) -> Address | None:
    with store.read() as tx:
        return overlays.agent_ip(tx)


def leases(registry: Registry) -> list[tuple[str, str]]:
    return [(str(lease.agent_ip), str(lease.held.subnet)) for lease in registry.leases()]


def test_a_new_host_has_the_default_overlay_and_the_first_agent_subnet(
    start: Start, store: Store, registry: Registry
) -> None:
    assert start().join() == []
    assert (agent_ip(store), known(store), held(store)) == (AGENT, [DCOS], ["dcos 9.0.0.0/24"])
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_a_second_start_writes_nothing(start: Start, store: Store, registry: Registry) -> None:
    start().join()
    before = leases(registry)
    commits: list[str] = []
    watched = Store(store.path, commits.append)
    assert Joining(watched, registry, Identity(watched, lambda: AGENT, None), DCOS, FakeClock()).join() == []
    watched.close()
    assert (commits, leases(registry)) == ([], before)
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_both_families_are_leased(start: Start, store: Store) -> None:
    dual = define("dual", [ip_network("10.0.0.0/16"), ip_network("fd01:b::/64")])
    start(default=dual).join()
    assert held(store) == ["dual 10.0.0.0/24", "dual fd01:b::/80"]


def test_an_overlay_defined_on_another_host_is_joined(start: Start, store: Store, registry: Registry) -> None:
    start().join()
    registry.define(DEV)
    registry.lease("dev", 4, OTHER)
    start().join()
    assert held(store) == ["dcos 9.0.0.0/24", "dev 10.64.1.0/24"]


def test_a_lease_that_a_crash_kept_out_of_the_store_is_found_again(
    start: Start, store: Store, registry: Registry
) -> None:
    registry.define(DCOS)
    registry.lease("dcos", 4, AGENT)
    start().join()
    assert held(store) == ["dcos 9.0.0.0/24"]
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_an_overlay_that_cannot_be_joined_keeps_no_other_from_it(
    start: Start, store: Store, registry: Registry
) -> None:
    registry.define(define("aaa", [ip_network("10.1.0.0/24")], (24, None)))
    registry.lease("aaa", 4, OTHER)
    (problem,) = start().join()
    assert "overlay 'aaa': overlay 'aaa' is full" in problem
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_settings_that_contradict_the_registry_are_told_and_the_registry_holds(
    start: Start, store: Store, registry: Registry
) -> None:
    registry.define(DCOS)
    (problem,) = start(default=define("dcos", [ip_network("10.0.0.0/8")])).join()
    assert problem.startswith("the default overlay: overlay 'dcos' exists already, with 9.0.0.0/8")
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_a_configured_agent_ip_is_used_as_it_stands(start: Start, store: Store, registry: Registry) -> None:
    start(configured=LOOPBACK).join()
    assert agent_ip(store) == LOOPBACK
    assert leases(registry) == [("127.0.0.1", "9.0.0.0/24")]


def test_an_agent_whose_address_changed_keeps_its_subnets(start: Start, store: Store, registry: Registry) -> None:
    start().join()
    create_network(store, 1)
    assert start(found=OTHER).join() == []
    assert (agent_ip(store), held(store)) == (OTHER, ["dcos 9.0.0.0/24"])
    assert leases(registry) == [(str(OTHER), "9.0.0.0/24")]


def test_a_registry_that_fails_while_the_address_changes_costs_no_subnet(store: Store, registry: Registry) -> None:
    """The former address is what shows that the subnets are this agent's: it is kept until all are confirmed."""
    Joining(store, registry, Identity(store, lambda: AGENT, None), DCOS, FakeClock()).join()
    failing = _FailingOnce(registry, "register")
    moved = Joining(store, failing, Identity(store, lambda: OTHER, None), DCOS, FakeClock())  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="busy"):
        moved.join()
    assert moved.join() == []
    assert (agent_ip(store), held(store)) == (OTHER, ["dcos 9.0.0.0/24"])
    assert leases(registry) == [(str(OTHER), "9.0.0.0/24")]


class _FailingOnce:
    """A registry of which one call fails, the first time."""

    def __init__(self, registry: Registry, method: str) -> None:
        self._registry = registry
        self._method = method

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name == self._method:
            self._method = ""
            raise StoreError("the registry is busy")
        answer: Callable[..., object] = getattr(self._registry, name)
        return answer


def test_a_host_without_network_keeps_the_address_it_was_known_by(
    start: Start, store: Store, registry: Registry
) -> None:
    start().join()
    start(found=LOOPBACK).join()
    assert agent_ip(store) == AGENT
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_a_host_that_had_only_its_loopback_takes_a_better_address_while_it_runs(
    store: Store, registry: Registry
) -> None:
    found = [LOOPBACK]
    joining = Joining(store, registry, Identity(store, lambda: found[-1], None), DCOS, FakeClock())
    joining.join()
    assert agent_ip(store) == LOOPBACK
    found.append(AGENT)
    joining.join()
    assert agent_ip(store) == AGENT
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_a_host_keeps_the_family_it_was_known_by_until_it_is_told_another(
    start: Start, store: Store, registry: Registry
) -> None:
    """Networks come up one family after the other: IPv6 alone may be there when dni starts."""
    start().join()
    start(found=SIX).join()
    assert agent_ip(store) == AGENT
    start(configured=SIX).join()
    assert agent_ip(store) == SIX
    assert leases(registry) == [(str(SIX), "9.0.0.0/24")]
    start(found=AGENT).join()
    assert agent_ip(store) == SIX


def test_a_host_refused_for_its_family_is_looked_at_again(store: Store, registry: Registry) -> None:
    registry.register(Host(agent_ip=OTHER, identity="other", boot="boot"))
    found: list[Address] = [SIX]
    joining = Joining(store, registry, Identity(store, lambda: found[-1], None), DCOS, FakeClock())
    with pytest.raises(Refused, match="named by IPv4 addresses"):
        joining.join()
    assert agent_ip(store) is None
    found.append(AGENT)
    assert joining.join() == []
    assert agent_ip(store) == AGENT


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
    registry.lease("dcos", 4, OTHER)
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
    registry.lease("dcos", 4, OTHER)
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
    theirs = registry.lease("dcos", 4, OTHER)
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


def test_what_is_disputed_is_forgotten_with_the_overlay(start: Start, store: Store, registry: Registry) -> None:
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    create_network(store, FakeClock().now)
    (mine,) = [lease for lease in registry.leases() if lease.held.overlay == "dcos"]
    registry.give_back(mine.held, AGENT)
    registry.lease("dcos", 4, OTHER)
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


def test_a_defined_overlay_can_be_used_at_once(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.define(DEV)
    assert agent_ip(store) == AGENT
    assert held(store) == ["dev 10.64.0.0/24"]
    joining.define(DEV)
    assert leases(registry) == [(str(AGENT), "10.64.0.0/24")]


def test_a_definition_that_is_refused_leaves_nothing_behind(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.join()
    with pytest.raises(InUse):
        joining.define(define("dev", [ip_network("9.9.0.0/16")]))
    assert (known(store), registry.overlays()) == ([DCOS], [DCOS])


def test_an_overlay_on_a_plain_pool_is_refused_and_leaves_nothing_behind(
    start: Start, store: Store, registry: Registry
) -> None:
    """Both would hand out the same addresses."""
    joining = start()
    joining.join()
    with store.write() as tx:
        pools.use_plain(tx, ip_network("10.64.7.0/24"), None, 1)
    with pytest.raises(InUse, match=r"overlaps plain pool 10\.64\.7\.0/24 of this host"):
        joining.define(DEV)
    assert (registry.overlays(), known(store)) == ([DCOS], [DCOS])


def test_an_overlay_defined_elsewhere_on_a_plain_pool_of_this_host_is_a_problem(
    start: Start, store: Store, registry: Registry
) -> None:
    with store.write() as tx:
        pools.use_plain(tx, ip_network("10.64.7.0/24"), None, 1)
    registry.define(DEV)
    (problem,) = start().join()
    assert "overlaps plain pool 10.64.7.0/24 of this host" in problem
    assert known(store) == [DCOS]


def test_an_overlay_defined_once_more_is_no_trial_any_longer(start: Start, store: Store) -> None:
    """A person wants it now, whatever becomes of the network it was first defined for."""
    joining = start()
    joining.try_out(DEV)
    joining.define(DEV)
    with store.read() as tx:
        assert [pool.trial for pool in pools.every(tx)] == [False]


def trials(store: Store) -> list[str | None]:
    with store.read() as tx:
        return [pool.overlay for pool in pools.every(tx) if pool.trial]


def test_an_overlay_whose_network_never_came_goes_again(start: Start, store: Store, registry: Registry) -> None:
    """Dockerd's call gave up on the agent, which finished all the same."""
    clock = FakeClock()
    joining = start(clock=clock)
    joining.try_out(DEV)
    joining.join()
    assert (known(store), trials(store)) == ([DCOS, DEV], ["dev"])
    clock.pass_by(CREATION_SECONDS)
    assert joining.join() == []
    assert (known(store), registry.overlays()) == ([DCOS], [DCOS])


def test_nothing_is_begun_with_an_overlay_that_goes_again_before_it_is_given_back(
    start: Start, store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, marked = FakeClock(), []
    joining = start(clock=clock)
    joining.try_out(DEV)
    clock.pass_by(CREATION_SECONDS)
    give_back = registry.give_back

    def noted(held: AgentSubnet, agent_ip: Address) -> None:
        with store.read() as tx:
            marked.append(list(leaving.every(tx)))
        give_back(held, agent_ip)

    monkeypatch.setattr(registry, "give_back", noted)
    joining.join()
    assert marked == [["dev"]]


def test_an_overlay_whose_network_was_created_stays_although_nobody_settled_it(start: Start, store: Store) -> None:
    """The plugin died between the network's record and that."""
    clock = FakeClock()
    joining = start(clock=clock)
    joining.join()
    joining.try_out(DEV)
    with store.write() as tx:
        networks.add(tx, NetworkRecord(id=NETWORK, overlay="dev", options=NetworkOptions(), mtu=1450))
    clock.pass_by(CREATION_SECONDS)
    joining.join()
    assert (known(store), trials(store)) == ([DCOS, DEV], [])


def test_a_trial_that_the_registry_refuses_leaves_nothing_behind(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    with pytest.raises(InUse):
        joining.try_out(define("dev", [ip_network("9.9.0.0/16")]))
    assert (known(store), registry.overlays(), trials(store)) == ([DCOS], [DCOS], [])


def test_an_overlay_that_the_registry_has_already_is_no_trial(start: Start, store: Store, registry: Registry) -> None:
    """Another host wants it, whatever becomes of a network here."""
    registry.define(DEV)
    start().try_out(DEV)
    assert (known(store), trials(store)) == ([DEV], [])


def test_one_who_waits_too_long_for_the_registry_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining_module, "TURN_SECONDS", 0.01)
    joining = start()
    with joining._turn, pytest.raises(DeadlineExceeded, match="another change of the overlays is under way"):  # noqa: SLF001
        joining.define(DEV)


def test_a_removed_overlay_is_gone_from_store_and_registry(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    remove_here(joining, "dev")
    assert (known(store), registry.overlays()) == ([DCOS], [DCOS])
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        remove_here(joining, "dev")


def test_an_overlay_can_be_removed_that_only_the_store_or_only_the_registry_knows(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.define(DEV)
    remove(registry, "dev")
    remove_here(joining, "dev")
    assert known(store) == []
    registry.define(DEV)
    remove_here(joining, "dev")
    assert registry.overlays() == []


def test_the_default_overlay_stays_unless_the_settings_say_otherwise(
    start: Start, store: Store, registry: Registry
) -> None:
    start().join()
    with pytest.raises(Refused, match="'dcos' is the default overlay"):
        remove_here(start(), "dcos")
    changed = define("dcos", [ip_network("10.0.0.0/8")])
    remove_here(start(default=changed), "dcos")
    assert start(default=changed).join() == []
    assert known(store) == registry.overlays() == [changed]


def dev_in_use(store: Store) -> None:
    with store.write() as tx:
        pools.use_overlay(tx, "dev", 4, None, FakeClock().now)


def test_an_overlay_with_a_network_is_not_removed(start: Start, store: Store) -> None:
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    create_network(store, 1)
    with store.write() as tx:
        networks.set_name(tx, NETWORK, "front")
    with pytest.raises(InUse, match=r"has the Docker network 'front' on this host: .*docker network rm front"):
        remove_here(joining, "dcos")
    assert DCOS in known(store)


def test_an_overlay_with_an_address_in_use_is_not_removed(start: Start, store: Store) -> None:
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    with store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, 1)
    claim(store, "9.0.0.130", 1, AddressState.RESERVED)
    with pytest.raises(InUse, match=r"address 9\.0\.0\.130 of overlay 'dcos' is in use .*`dni repair` frees it"):
        remove_here(joining, "dcos")


def test_an_overlay_whose_network_is_being_created_is_not_removed(start: Start, store: Store) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    dev_in_use(store)
    with pytest.raises(InUse, match="a Docker network is being created on overlay 'dev'"):
        remove_here(joining, "dev")


class _Gone:
    """A registry that cannot be had."""

    def __getattr__(self, _: str) -> Callable[..., object]:
        def refuse(*_: object) -> object:
            raise Unavailable("no registry")

        return refuse


def test_without_the_registry_nothing_in_the_store_changes(start: Start, store: Store) -> None:
    start().join()
    away = Joining(store, _Gone(), Identity(store, lambda: AGENT, None), DCOS, FakeClock())  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="no registry"):
        away.join()
    assert held(store) == ["dcos 9.0.0.0/24"]


class _Halting:
    """A registry after whose n-th answer the agent dies."""

    def __init__(self, registry: Registry, answers: int) -> None:
        self._registry = registry
        self._left = answers

    def __getattr__(self, name: str) -> Callable[..., object]:
        def answer(*values: object) -> object:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            answered: object = getattr(self._registry, name)(*values)
            return answered

        return answer


@pytest.mark.parametrize("answers", range(9))
def test_an_agent_killed_at_any_call_to_the_registry_joins_whole_the_next_time(
    start: Start, store: Store, registry: Registry, answers: int
) -> None:
    dying = Joining(
        store,
        _Halting(registry, answers),  # type: ignore[arg-type]
        Identity(store, lambda: AGENT, None),
        DCOS,
        FakeClock(),
    )
    with suppress(KeyboardInterrupt):
        dying.join()
    assert start().join() == []
    assert held(store) == ["dcos 9.0.0.0/24"]
    assert registry.leases() == [
        Lease(agent_ip=AGENT, held=AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")))
    ]


WIDE = define("dev", [*DEV.subnets(), ip_network("fd64::/64")])


def test_an_overlay_on_trial_gets_its_second_family_and_stays_on_trial(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.try_out(DEV)
    joining.try_out(WIDE)
    assert registry.overlays() == known(store) == [DCOS, WIDE]
    assert held(store)[1:] == ["dev 10.64.0.0/24", "dev fd64::/80"]
    with store.read() as tx:
        assert pools.on_trial(tx, "dev")


def test_one_that_is_there_to_stay_gets_none(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    with pytest.raises(InUse, match="'dev' exists already"):
        joining.try_out(WIDE)
    assert registry.overlays() == known(store) == [DCOS, DEV]


def test_a_user_who_defines_what_is_on_trial_keeps_it(start: Start, store: Store) -> None:
    joining = start()
    joining.join()
    joining.try_out(DEV)
    joining.define(DEV)
    with store.read() as tx:
        assert not pools.on_trial(tx, "dev")


def test_a_second_family_that_a_crash_kept_out_of_the_store_is_found_again(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.try_out(DEV)
    registry.widen(WIDE)
    assert start().join() == []
    assert known(store) == [DCOS, WIDE]
    assert held(store)[1:] == ["dev 10.64.0.0/24", "dev fd64::/80"]


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


def own_vtep(store: Store) -> str:
    with store.read() as tx:
        return str((vtep := peers.vtep(tx)) and vtep.ip)


def test_vteps_come_from_where_the_settings_say_and_from_a_wider_subnet_later(start: Start, store: Store) -> None:
    assert start(vtep_subnet=IPv4Network("10.96.0.0/16")).join() == []
    assert own_vtep(store) == "10.96.0.1/16"
    assert start(vtep_subnet=IPv4Network("10.96.0.0/12")).join() == []
    assert own_vtep(store) == "10.96.0.1/12"
    assert start().join() == [], "who says nothing takes what there is"
    assert own_vtep(store) == "10.96.0.1/12"


def test_another_subnet_of_vteps_is_told_and_hinders_nothing(start: Start, store: Store) -> None:
    start().join()
    joining = start(vtep_subnet=IPv4Network("10.96.0.0/16"))
    (problem,) = joining.join()
    assert problem.startswith("overlay.vtep_subnet: the VTEPs of this registry come from 44.128.0.0/20, and the")
    assert joining.is_settled
    assert own_vtep(store) == "44.128.0.1/20"
    assert held(store) == ["dcos 9.0.0.0/24"]
