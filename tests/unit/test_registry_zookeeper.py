# SPDX-License-Identifier: Apache-2.0
"""What is the ZooKeeper registry's own: outages, sessions, ends at every write, and what a change costs."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from itertools import count
from pathlib import Path

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts
from dni_driver.core.deadline import deadline
from dni_driver.core.errors import (
    DeadlineExceeded,
    DniError,
    Exhausted,
    InUse,
    NotFound,
    Refused,
    SettingsError,
    StoreError,
    Unavailable,
)
from dni_driver.core.overlays import Address, AgentSubnet, define
from dni_driver.core.peers import Peer
from dni_driver.core.registry_address import ZooKeeperAddress, read_address
from dni_driver.registry import Access, Host, open_registry
from dni_driver.registry.zookeeper import ZooKeeperRegistry, counts, digest, follower, ground, journal, link, turn
from dni_driver.registry.zookeeper.agents import Agents
from dni_driver.registry.zookeeper.counts import AgentCounts
from dni_driver.registry.zookeeper.digest import Digest
from dni_driver.registry.zookeeper.layout import COUNTS, RECLAIMER, VTEPS, Record, of_agent, shard_of_agent
from dni_driver.registry.zookeeper.link import Changes, Conflict, Link
from dni_driver.registry.zookeeper.numbers import Numbered, Search
from dni_driver.registry.zookeeper.removals import Removals
from dni_driver.registry.zookeeper.turn import Turn
from tests import certificates as made
from tests.lab.zookeeper import ZooKeeper, ensemble, running
from tests.removing import remove
from tests.scratch import fast_directory

pytestmark = pytest.mark.zookeeper

DCOS = define("dcos", [ip_network("9.0.0.0/8")])
DUAL = define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])
DEV = define("dev", [ip_network("10.64.0.0/16")])
OTHER = define("other", [ip_network("10.65.0.0/16")])
HALF = HalfCounts(125, 1, 0, 124)
TOLD = Counts(
    as_of=1.0, subnets=(SubnetCounts(overlay="dcos", subnet="9.0.0.0/24", since=1.0, mesos=HALF, docker=HALF),)
)
FIRST = IPv4Address("192.0.2.1")
SIX = IPv6Address("fd00::1")
NUMBERED = Numbered(folder="vteps", first=1, last=100, number_of=lambda name: int(name.rpartition(".")[2]))

Open = Callable[..., ZooKeeperRegistry]


class Died(BaseException):
    """The end of a process."""


@contextmanager
def opening(url: str) -> Iterator[Open]:
    """Give how registries at one place are opened, and close them afterwards."""
    opened: list[ZooKeeperRegistry] = []

    def one_more(access: Access = Access(), crash_point: Callable[[str], None] = lambda _: None) -> ZooKeeperRegistry:  # noqa: B008
        address = read_address(url)
        assert isinstance(address, ZooKeeperAddress)
        opened.append(ZooKeeperRegistry(address, access, crash_point))
        return opened[-1]

    yield one_more
    for registry in opened:
        registry.close()


@pytest.fixture
def connect(zookeeper_url: str) -> Iterator[Open]:
    with opening(zookeeper_url) as one_more:
        yield one_more


@pytest.fixture
def own_server() -> Iterator[ZooKeeper]:
    """A server that a test may stop."""
    with fast_directory() as directory, running(Path(directory) / "own") as server:
        yield server


@pytest.fixture
def raw(zookeeper: ZooKeeper) -> Iterator[KazooClient]:
    """ZooKeeper itself."""
    client = KazooClient(zookeeper.address)
    client.start()
    yield client
    client.stop()
    client.close()


def host(number: int = 0, vtep_subnet: IPv4Network | None = None) -> Host:
    return Host(agent_ip=FIRST + number, identity=f"host {number}", boot="boot", vtep_subnet=vtep_subnet)


def expire(registry: ZooKeeperRegistry) -> None:
    """Have ZooKeeper end the session, as it does with one not heard of."""
    client = registry.link.client
    twin = KazooClient(",".join(registry.link.address.servers), client_id=client.client_id)
    twin.start()
    twin.stop()
    twin.close()


def is_alive(registry: ZooKeeperRegistry, number: int = 0) -> bool:
    return {member.agent_ip: member.alive for member in registry.members()}[FIRST + number]


def eventually(what: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with suppress(DniError):
            if what():
                return
        time.sleep(0.05)
    pytest.fail("it does not come to be")


def audit(registry: ZooKeeperRegistry) -> None:
    """Find every holder's node to agree with its record, and the other way round."""
    link = registry.link
    records: dict[Address, Record] = registry.ground.records()
    definitions, _ = registry.ground.definitions()
    held = {
        (number, name): str(holder.data, "ascii")
        for number in definitions.names()
        for shard in link.children(f"subnets/{number}")
        for name in link.children(f"subnets/{number}/{shard}")
        if (holder := link.get(f"subnets/{number}/{shard}/{name}"))
    }
    recorded = {
        (one.overlay, one.subnet.replace("/", "-")): str(agent)
        for agent, record in records.items()
        for one in record.subnets
        if one.overlay in definitions.names()
    }
    assert held == recorded
    vteps = {
        name: str(holder.data, "ascii")
        for shard in link.children(VTEPS)
        for name in link.children(f"{VTEPS}/{shard}")
        if (holder := link.get(f"{VTEPS}/{shard}/{name}"))
    }
    assert vteps == {record.vtep.partition("/")[0]: str(agent) for agent, record in records.items() if record.vtep}


def test_an_ensemble_that_is_away_is_named_and_nothing_waits_for_it_for_long(tmp_path: Path) -> None:
    registry = open_registry("zookeeper://127.0.0.1:1,127.0.0.1:2/dni", tmp_path)
    began = time.monotonic()
    with pytest.raises(
        Unavailable, match=r"does not answer \(ZooKeeper at 127\.0\.0\.1:1, 127\.0\.0\.1:2\): containers go on"
    ):
        registry.overlays()
    with pytest.raises(Unavailable):
        registry.news(0)
    registry.close()
    assert time.monotonic() - began < 40


def test_an_agent_that_starts_before_its_registry_finds_it_when_it_comes(own_server: ZooKeeper) -> None:
    own_server.stop()
    with opening(f"zookeeper://{own_server.address}") as connect:
        registry = connect()
        own_server.start()
        eventually(lambda: registry.overlays() == [])


def test_after_an_outage_everything_is_as_before(own_server: ZooKeeper) -> None:
    with opening(f"zookeeper://{own_server.address}") as connect:
        one, two = connect(), connect()
        one.define(DCOS)
        one.register(host())
        two.register(host(1))
        mine = one.lease("dcos", 4, FIRST)
        two.news(5)
        own_server.kill()
        with pytest.raises(Unavailable):
            one.lease("dcos", 4, FIRST)
        own_server.start()
        eventually(lambda: one.register(host()) is not None)
        assert one.lease("dcos", 4, FIRST) != mine
        eventually(lambda: bool(two.news(1)))
        assert is_alive(two)
        audit(one)


def test_a_registry_that_hangs_is_given_up_in_time(own_server: ZooKeeper) -> None:
    with opening(f"zookeeper://{own_server.address}") as connect:
        registry = connect()
        registry.define(DCOS)
        own_server.freeze()
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            registry.overlays()
        assert time.monotonic() - began < 20
        own_server.thaw()
        eventually(lambda: registry.overlays() == [DCOS])


def test_a_server_that_hangs_is_left_however_much_it_is_asked(own_server: ZooKeeper) -> None:
    """A sign of life is asked for only where there is nothing else to ask."""
    with opening(f"zookeeper://{own_server.address}") as connect:
        registry = connect()
        registry.define(DCOS)
        own_server.freeze()

        def is_left() -> bool:
            registry.link.client.exists_async("/")
            return not registry.link.client.connected

        eventually(is_left, seconds=3 * link.SESSION_SECONDS)
        own_server.thaw()
        eventually(lambda: registry.overlays() == [DCOS])


def test_who_asks_for_news_in_the_moment_in_which_the_registry_is_closed_hears_none(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = connect()
    registry.news(5)

    def closing() -> None:
        registry.close()
        raise registry.link.away()

    monkeypatch.setattr(registry.ground, "prepare", closing)
    assert not registry.news(60)


def test_an_agent_whose_session_expired_comes_back_to_life(connect: Open) -> None:
    one, two = connect(), connect()
    one.register(host())
    two.news(5)
    one.news(5)
    expire(one)
    eventually(lambda: not is_alive(two))
    eventually(lambda: one.register(host()) is not None and is_alive(two))
    assert not two.news(0)
    two.register(host(1))
    eventually(lambda: any(peer.agent_ip == FIRST + 1 for peer in one.news(1).peers))


def test_an_agent_that_loses_its_server_while_it_joins_says_so(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which session it has nobody can tell meanwhile."""
    registry = connect()
    registry.register(host())
    monkeypatch.setattr(KazooClient, "client_id", None)
    with pytest.raises(Unavailable, match="does not answer"):
        registry.register(host())


def test_a_new_process_of_a_host_takes_over_from_one_that_was_killed(connect: Open) -> None:
    killed, successor = connect(), connect()
    vtep = killed.register(host())
    assert successor.register(host()) == vtep
    killed.close()
    assert is_alive(successor)


@pytest.mark.parametrize("way", ["settled", "settled_in_turn"])
def test_who_finds_others_in_its_way_again_and_again_asks_ever_less_often(connect: Open, way: str) -> None:
    attempts: list[object] = []

    def attempt(*turn: object) -> None:
        attempts.append(turn)
        raise Conflict("somebody else")

    with deadline(2.0), pytest.raises(DeadlineExceeded, match=r"again and again \(somebody else\)"):
        getattr(connect().ground, way)(attempt)
    assert 3 < len(attempts) < 50


def test_ten_agents_that_join_at_once_never_get_the_same(connect: Open) -> None:
    connect().define(DCOS)
    ready, got = threading.Barrier(10), []

    def join(number: int) -> None:
        registry = connect()
        ready.wait(30)
        vtep = registry.register(host(number))
        got.append((str(vtep.ip.ip), str(registry.lease("dcos", 4, FIRST + number).subnet)))

    threads = [threading.Thread(target=join, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vteps, subnets = zip(*got, strict=True)
    assert sorted(vteps, key=IPv4Address) == [f"44.128.0.{number}" for number in range(1, 11)]
    assert sorted(subnets) == [f"9.0.{number}.0/24" for number in range(10)]
    audit(connect())


def test_forty_agents_that_join_at_once_take_turns_and_none_looks_often(connect: Open) -> None:
    connect().define(DCOS)
    many = 40
    asked: list[str] = []
    begin = Link._begin  # noqa: SLF001 - every question goes through it

    def counted(link: Link, call: str, path: str, *more: object) -> object:
        asked.append(path)
        return begin(link, call, path, *more)  # type: ignore[arg-type]

    with ThreadPoolExecutor(many) as pool, pytest.MonkeyPatch.context() as patch:
        registries = list(pool.map(lambda _: connect(), range(many)))
        assert all(pool.map(lambda registry: registry.overlays(), registries))
        patch.setattr(Link, "_begin", counted)
        vteps = list(pool.map(lambda n: registries[n].register(host(n)), range(many)))
        subnets = list(pool.map(lambda n: registries[n].lease("dcos", 4, FIRST + n), range(many)))
    assert sorted(vtep.ip.ip for vtep in vteps) == [IPv4Address("44.128.0.0") + n for n in range(1, many + 1)]
    assert sorted(str(one.subnet) for one in subnets) == sorted(f"9.0.{n}.0/24" for n in range(many))
    assert len(asked) < 35 * many
    assert [registries[0].link.children(line) for line in ("line/vteps", "line/subnets/1/v4")] == [[], []]
    audit(registries[0])


def test_who_waits_behind_one_that_hangs_goes_ahead(connect: Open) -> None:
    stuck, other = connect(), connect()
    stuck.define(DCOS)
    other.overlays()
    Turn(stuck.link, stuck.ground.make_room).stand("line/vteps")
    began = time.monotonic()
    assert str(other.register(host(1)).ip.ip) == "44.128.0.1"
    assert time.monotonic() - began < 10
    assert len(other.link.children("line/vteps")) == 1, "its own place is left, that of the other stays"


def test_a_line_of_which_several_hang_moves_on(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "_HANGS_AFTER", 0.1)
    monkeypatch.setattr(turn, "_STANDS_STILL", 0.4)
    stuck, other = connect(), connect()
    stuck.define(DCOS)
    other.overlays()
    for _ in range(4):
        Turn(stuck.link, stuck.ground.make_room).stand("line/vteps")
    assert str(other.register(host(1)).ip.ip) == "44.128.0.1"
    assert len(other.link.children("line/vteps")) == 4


def test_a_place_that_is_made_later_than_anybody_waits_for_it_is_left_again(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would know of it, and it would stay for as long as the session."""
    registry = connect()
    registry.register(host())
    registry.link.make_folders(["line/vteps"])
    before = registry.link.exists("line/vteps").cversion
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        Turn(registry.link, registry.ground.make_room).stand("line/vteps")
    monkeypatch.undo()
    eventually(lambda: registry.link.exists("line/vteps").cversion == before + 2)
    assert registry.link.children("line/vteps") == []


def test_who_gives_up_waiting_leaves_the_line(connect: Open) -> None:
    first, other = connect(), connect()
    first.define(DCOS)
    other.overlays()
    for _ in range(2):
        Turn(first.link, first.ground.make_room).stand("line/subnets/1/v4")
    with pytest.raises(DeadlineExceeded, match="many agents join at once"), deadline(1.5):
        other.lease("dcos", 4, FIRST)
    eventually(lambda: len(first.link.children("line/subnets/1/v4")) == 2)


def test_a_number_that_was_told_is_kept_while_its_agent_lives_and_goes_with_it(connect: Open) -> None:
    told, other = connect(), connect()
    told.define(DCOS)
    held = Turn(told.link, told.ground.make_room)
    held.stand("line/vteps")
    told.link.client.set(f"{told.link.address.path}/line/vteps/q-0000000000", b"1")
    assert str(other.register(host(1)).ip.ip) == "44.128.0.2"
    told.close()
    eventually(lambda: other.link.children("line/vteps") == [])
    assert str(connect().register(host(2)).ip.ip) == "44.128.0.1"


def test_who_finds_its_number_taken_stands_in_the_line_anew(connect: Open) -> None:
    """As where one took it that stood in no line."""
    registry = connect()
    registry.register(host(0))
    numbers: list[int | None] = []

    def takes_what_is_taken(turn: Turn) -> int | None:
        numbers.append(turn.number(Search(registry.link, NUMBERED)))
        if len(numbers) < 4:
            raise Conflict("it is taken")
        return numbers[-1]

    assert registry.ground.settled_in_turn(takes_what_is_taken) == 2
    assert numbers == [2, 2, 2, 2]
    eventually(lambda: registry.link.children("line/vteps") == [])
    assert registry.link.exists("line/vteps").cversion == 4, "two places, made and left"


def test_a_number_is_kept_however_many_are_told_theirs_before_it_is_taken(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who take are slower than who hands out; so that waits for them, but not for ever."""
    monkeypatch.setattr(turn, "TOGETHER", 2)
    monkeypatch.setattr(turn, "_AHEAD", 3)
    monkeypatch.setattr(turn, "_PAUSE", 0.01)
    registry = connect()
    registry.register(host())
    turns = [Turn(registry.link, registry.ground.make_room) for _ in range(9)]
    for one in turns:
        one.stand("line/vteps")
    search = Search(registry.link, NUMBERED)
    assert [one.number(search) for one in turns] == list(range(2, 11))
    for one in turns:
        with one:
            pass
    eventually(lambda: registry.link.children("line/vteps") == [])


def test_all_who_wait_are_told_at_once_and_those_for_whom_there_is_none_too(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five want one of the three that are left; who is first looks for all."""
    small = IPv4Network("44.128.0.0/29")
    first = connect()
    for number in range(3):
        first.register(host(number, vtep_subnet=small))
    blocking = Turn(first.link, first.ground.make_room)
    blocking.stand("line/vteps")
    looked: list[int] = []
    lowest = Search.lowest

    def noted(search: Search, wanted: int, kept: Collection[int] = ()) -> list[int]:
        looked.append(wanted)
        return lowest(search, wanted, kept)

    monkeypatch.setattr(Search, "lowest", noted)

    def join(number: int) -> str:
        try:
            return str(connect().register(host(number)).ip.ip)
        except Exhausted:
            return "none"

    with ThreadPoolExecutor(5) as pool:
        joining = [pool.submit(join, number) for number in range(10, 15)]
        eventually(lambda: len(first.link.children("line/vteps")) == 6)
        first.link.drop("line/vteps/q-0000000000")
        got = sorted(one.result() for one in joining)
    assert got == ["44.128.0.4", "44.128.0.5", "44.128.0.6", "none", "none"]
    assert looked[-1] == 5
    audit(first)


def test_the_lowest_that_is_free_is_found_without_reading_what_is_full(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = connect()
    registry.define(DCOS)
    held = [AgentSubnet(overlay="dcos", subnet=ip_network(f"9.{n // 256}.{n % 256}.0/24")) for n in range(600)]
    for n, one in enumerate(held):
        registry.confirm(one, FIRST + n)
    asked: list[str] = []
    every_child = Link.every_child

    def noted(link: Link, paths: Sequence[str]) -> list[list[str]]:
        asked.extend(paths)
        return every_child(link, paths)

    monkeypatch.setattr(Link, "every_child", noted)
    assert str(registry.lease("dcos", 4, FIRST).subnet) == "9.2.88.0/24"
    assert asked == ["subnets/1", "subnets/1/v4-2"]
    registry.give_back(held[300], FIRST + 300)
    asked.clear()
    assert registry.lease("dcos", 4, FIRST) == held[300]
    assert asked == ["subnets/1", "subnets/1/v4-1"]


def test_a_full_subnet_of_vteps_is_widened_and_more_agents_join(connect: Open) -> None:
    small = IPv4Network("44.128.0.0/29")
    registries = [connect() for _ in range(8)]
    for number in range(6):
        registries[number].register(host(number, vtep_subnet=small))
    with pytest.raises(Exhausted, match=r'overlay\.vtep_subnet = "44\.128\.0\.0/25" makes room'):
        registries[6].register(host(6))
    registries[0].widen_vteps(IPv4Network("44.128.0.0/16"))
    assert [str(registries[number].register(host(number)).ip) for number in (6, 7)] == [
        "44.128.0.7/16",
        "44.128.0.8/16",
    ]
    assert str(registries[0].register(host(0)).ip) == "44.128.0.1/16"
    audit(registries[0])


@pytest.mark.parametrize("is_first", [False, True])
def test_an_overlay_that_is_defined_in_the_moment_in_which_vteps_get_its_addresses_keeps_them(
    connect: Open, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    registry, other = connect(), connect()
    if not is_first:
        registry.register(host())
    assert registry.overlays() == other.overlays() == []
    commit, comes = Link.commit, [define("dev", [ip_network("44.129.0.0/16")])]

    def late(one: Link, changes: Changes) -> list[object]:
        while one is registry.link and comes:
            other.define(comes.pop())
        return commit(one, changes)

    monkeypatch.setattr(Link, "commit", late)
    wide = IPv4Network("44.128.0.0/12")
    with pytest.raises(InUse, match="'dev'"):
        _ = registry.register(host(vtep_subnet=wide)) if is_first else registry.widen_vteps(wide)  # type: ignore[func-returns-value]


def test_of_agents_that_are_the_first_all_at_once_none_takes_a_vtep_from_elsewhere(connect: Open) -> None:
    """One that was about to be the first has made the folder of its VTEP."""
    registry = connect()
    registry.overlays()
    registry.link.make_folders([f"{VTEPS}/0"])
    subnet = IPv4Network("10.96.0.0/12")
    assert [str(registry.register(host(n, vtep_subnet=subnet)).ip) for n in (0, 1)] == [
        "10.96.0.1/12",
        "10.96.0.2/12",
    ]


def test_vteps_of_another_subnet_are_for_those_who_know_of_it(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    place = f"/{zookeeper_url.rpartition('/')[2]}"
    first = connect()
    first.register(host())
    assert (raw.get(f"{place}/vteps")[0], raw.get(f"{place}/format")[0]) == (b"44.128.0.0/20", b"1")
    first.widen_vteps(IPv4Network("44.128.0.0/12"))
    assert (raw.get(f"{place}/vteps")[0], raw.get(f"{place}/format")[0]) == (b"44.128.0.0/12", b"3")


def test_a_registry_from_before_there_was_a_choice_goes_on(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    place = f"/{zookeeper_url.rpartition('/')[2]}"
    connect().register(host())
    raw.set(f"{place}/vteps", b"")
    raw.delete(f"{place}/line")
    later = connect()
    assert str(later.register(host(1, vtep_subnet=IPv4Network("10.96.0.0/12"))).ip) == "44.128.0.2/20"
    with pytest.raises(Refused, match="come from"):
        later.widen_vteps(IPv4Network("10.96.0.0/12"))
    later.widen_vteps(IPv4Network("44.128.0.0/16"))
    assert str(connect().register(host(2)).ip) == "44.128.0.3/16"


def life(registry: ZooKeeperRegistry) -> None:
    """Everything that writes, as one agent does it. What is refused the second time was done the first."""
    nine, ten = (AgentSubnet(overlay="dcos", subnet=ip_network(f"9.0.{number}.0/24")) for number in (9, 10))
    moved = Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST)
    steps: list[Callable[[], object]] = [
        lambda: registry.define(DCOS),
        lambda: registry.define(DEV),
        lambda: registry.register(host()),
        lambda: registry.leases(FIRST) or registry.lease("dcos", 4, FIRST),
        lambda: registry.use(FIRST, ["dcos"]),
        lambda: registry.confirm(nine, FIRST),
        lambda: registry.confirm(ten, FIRST + 1),
        lambda: registry.confirm(ten, FIRST, FIRST + 1),
        lambda: registry.give_back(nine, FIRST),
        lambda: registry.widen(DUAL),
        lambda: registry.set_backend("dev", "direct"),
        lambda: registry.seen(FIRST),
        lambda: registry.tell(FIRST, TOLD),
        lambda: registry.tell(FIRST, msgspec.structs.replace(TOLD, subnets=())),
        lambda: registry.forget(FIRST + 1),
        registry.reclaim,
        lambda: registry.use(FIRST, []),
        lambda: registry.set_backend("dev", "vxlan"),
        lambda: registry.register(moved),
        lambda: registry.register(Host(agent_ip=FIRST, identity="host 0", boot="boot", formerly=FIRST + 2)),
        lambda: registry.begin_removal("dev", FIRST),
        lambda: registry.keep("dev", FIRST),
        lambda: registry.use(FIRST, []),
        lambda: remove(registry, "dev"),
    ]
    for step in steps:
        with suppress(Refused):
            step()


def ends_at(place: int, kinds: set[str]) -> Callable[[str], None]:
    """Answer a crash point at which a process ends, counted from its start; note of which kind it is."""
    numbers = count()

    def end(kind: str) -> None:
        if next(numbers) == place:
            kinds.add(kind)
            raise Died

    return end


def follow(registry: ZooKeeperRegistry, peers: dict[Address, Peer]) -> dict[Address, Peer]:
    """Take over all news there are into what was known before."""
    while news := registry.news(0):
        peers = {} if news.whole else {agent: peer for agent, peer in peers.items() if agent not in news.gone}
        peers |= {peer.agent_ip: peer for peer in news.peers}
    return peers


@pytest.mark.timeout(900)
def test_an_agent_that_ends_at_any_write_blocks_nobody_and_goes_on_where_it_was(
    zookeeper: ZooKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other time its session is over when it comes back. Whoever followed all along knows what is so."""
    monkeypatch.setattr(journal, "KEPT", 4)
    monkeypatch.setattr(journal, "_TRIMMED_EVERY", 4)
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.0)
    kinds: set[str] = set()
    for place in count():
        with opening(f"zookeeper://{zookeeper.address}/dni-crash-{place}") as connect:
            gone = connect()
            gone.register(msgspec.structs.replace(host(9), reclaim_after=0.001))
            gone.close()
            other = connect()
            known = follow(other, {})
            dying = connect(crash_point=ends_at(place, kinds))
            try:
                life(dying)
            except Died:
                pass
            else:
                break
            with suppress(Refused):
                other.define(DCOS)
            other.register(host(5))
            theirs = other.lease("dcos", 4, FIRST + 5)
            audit(other)
            known = follow(other, known)
            if place % 2:
                expire(dying)
            again = connect()
            life(again)
            audit(again)
            assert again.overlays() == [DUAL]
            alive = [member.agent_ip for member in again.members() if member.alive]
            assert alive == [FIRST, FIRST + 5]
            assert [one.held for one in again.leases(FIRST + 5)] == [theirs]
            assert theirs not in [one.held for one in again.leases(FIRST)]
            assert follow(other, known) == follow(again, {})
    assert place > 80
    assert kinds == {"before a folder", "before a transaction", "after a transaction", "before a removal"}


def test_a_registry_of_a_newer_version_is_refused(connect: Open, raw: KazooClient, zookeeper_url: str) -> None:
    connect().overlays()
    raw.set(f"/{zookeeper_url.rpartition('/')[2]}/format", b"9")
    for attempt in (lambda: connect().overlays(), lambda: connect().register(host()), lambda: connect().news(0)):
        with pytest.raises(StoreError, match=r"written by a newer dni \(version 9\): install that one"):
            attempt()


def nodes(raw: KazooClient, place: str) -> dict[str, bytes]:
    """Answer all nodes below a place, with their data."""
    found = {place: raw.get(place)[0]}
    for name in raw.get_children(place):
        found |= nodes(raw, f"{place}/{name}")
    return found


def test_a_registry_that_becomes_newer_while_an_agent_runs_is_left_as_it_is(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, place = connect(), f"/{zookeeper_url.rpartition('/')[2]}"
    registry.define(DCOS)
    registry.define(OTHER)
    registry.register(host())
    held = registry.lease("dcos", 4, FIRST)
    registry.begin_removal("other", FIRST)
    own = raw.get(f"{place}/format")[0]
    raw.set(f"{place}/format", b"9")
    before = nodes(raw, place)
    attempts: list[Callable[[], object]] = [
        lambda: registry.define(DEV),
        lambda: registry.widen(DUAL),
        lambda: registry.set_backend("dcos", "direct"),
        lambda: registry.begin_removal("dcos", FIRST),
        lambda: registry.keep("other"),
        lambda: registry.end_removal("other"),
        lambda: registry.use(FIRST, ["dcos"]),
        lambda: registry.register(msgspec.structs.replace(host(), reclaim_after=5.0)),
        lambda: registry.register(host(7)),
        lambda: registry.register(Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST)),
        lambda: registry.widen_vteps(IPv4Network("44.128.0.0/16")),
        lambda: registry.lease("dcos", 4, FIRST),
        lambda: registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network("9.0.9.0/24")), FIRST),
        lambda: registry.give_back(held, FIRST),
        lambda: registry.seen(FIRST),
        lambda: registry.tell(FIRST, TOLD),
    ]
    for attempt in attempts:
        raw.set(f"{place}/format", own)
        registry.overlays()
        raw.set(f"{place}/format", b"9")
        with pytest.raises(StoreError, match=r"written by a newer dni \(version 9\): install that one"):
            attempt()
    after = nodes(raw, place)
    assert {node: after.get(node) for node in before} == before
    assert [node for node in after.keys() - before.keys() if after[node] or "." in node] == [], "but empty folders"


def test_an_agent_that_comes_and_goes_while_others_are_reclaimed_keeps_what_it_holds(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has given a sign of life, and hands out addresses by that, although it is not alive at the moment."""
    registry, brief = connect(), msgspec.structs.replace(host(1), reclaim_after=0.001)

    def come_and_go() -> None:
        once = connect()
        once.register(brief)
        once.seen(FIRST + 1)
        once.close()
        eventually(lambda: FIRST + 1 not in registry.alive())

    registry.define(DCOS)
    registry.register(host())
    come_and_go()
    held = registry.lease("dcos", 4, FIRST + 1)
    now = Agents._now  # noqa: SLF001 - between looking and forgetting

    def late(agents: Agents) -> float | None:
        come_and_go()
        return now(agents)

    with monkeypatch.context() as patched:
        patched.setattr(Agents, "_now", late)
        assert registry.reclaim() == []
    assert held in [one.held for one in registry.leases(FIRST + 1)]
    eventually(lambda: registry.reclaim() == [FIRST + 1])
    assert registry.leases() == []


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda registry, _: registry.forget(FIRST), "is alive"),
        (lambda registry, held: registry.confirm(held, FIRST + 2, FIRST), f"is held by agent {FIRST}"),
    ],
    ids=["to forget it", "to take over what it holds"],
)
def test_an_agent_that_comes_back_in_the_moment_in_which_it_loses_something_keeps_it(
    connect: Open,
    monkeypatch: pytest.MonkeyPatch,
    attempt: Callable[[ZooKeeperRegistry, AgentSubnet], object],
    said: str,
) -> None:
    registry, gone, back = connect(), connect(), connect()
    registry.define(DCOS)
    gone.register(host())
    held = gone.lease("dcos", 4, FIRST)
    gone.close()
    eventually(lambda: registry.alive() == frozenset())
    when_it_begins(monkeypatch, registry, lambda: back.register(host()))
    with pytest.raises(InUse, match=said):
        attempt(registry, held)
    assert [one.held for one in back.leases(FIRST)] == [held]
    audit(back)


def test_who_is_no_longer_the_one_that_looks_reclaims_nothing(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = connect()
    registry.register(host())
    registry.reclaim()
    monkeypatch.setattr(Agents, "_is_reclaimer", lambda _: True)
    other = connect()
    registry.close()
    eventually(lambda: other.link.exists(RECLAIMER) is None)
    assert other.reclaim() == []


def test_an_overlay_goes_although_a_holder_is_known_by_nothing_else(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, gone = connect(), connect()
    registry.define(DCOS)
    gone.register(host(1))
    gone.lease("dcos", 4, FIRST + 1)
    gone.close()
    eventually(lambda: registry.alive() == frozenset())
    place = f"/{zookeeper_url.rpartition('/')[2]}/agents"
    for shard in raw.get_children(place):
        if str(FIRST + 1) in raw.get_children(f"{place}/{shard}"):
            raw.delete(f"{place}/{shard}/{FIRST + 1}")
    remove(registry, "dcos")
    assert registry.overlays() == []


def format_of(raw: KazooClient, zookeeper_url: str) -> bytes:
    version: bytes = raw.get(f"/{zookeeper_url.rpartition('/')[2]}/format")[0]
    return version


def test_while_an_overlay_is_leaving_the_registry_is_for_those_who_know_what_that_means(
    connect: Open, raw: KazooClient, zookeeper_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older dni that is at work writes nothing from then on, and one that starts reads nothing."""
    registry, older = connect(), connect()
    registry.define(DCOS)
    registry.define(DEV)
    older.register(host())
    held = older.lease("dcos", 4, FIRST)
    registry.begin_removal("dcos", FIRST)
    registry.begin_removal("dev", FIRST)
    assert format_of(raw, zookeeper_url) == b"5"
    with monkeypatch.context() as patch:
        patch.setattr(ground, "VERSION", 4)
        for attempt in (
            lambda: older.define(OTHER),
            lambda: older.lease("dcos", 4, FIRST),
            lambda: connect().overlays(),
        ):
            with pytest.raises(StoreError, match=r"written by a newer dni \(version 5\)"):
                attempt()
    registry.register(host(1))
    assert format_of(raw, zookeeper_url) == b"5"
    assert registry.end_removal("dev")
    assert format_of(raw, zookeeper_url) == b"5"
    registry.keep("dcos")
    assert format_of(raw, zookeeper_url) == b"1"
    assert older.lease("dcos", 4, FIRST) != held


def test_that_is_said_beside_where_vteps_come_from_and_how_agents_are_named(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry = connect()
    registry.define(DCOS)
    registry.define(DEV)
    registry.begin_removal("dcos", FIRST)
    registry.register(Host(agent_ip=SIX, identity="six", boot="b", vtep_subnet=IPv4Network("44.128.0.0/12")))
    assert format_of(raw, zookeeper_url) == b"8"
    registry.end_removal("dcos")
    assert format_of(raw, zookeeper_url) == b"4"
    registry.begin_removal("dev", FIRST)
    registry.widen_vteps(IPv4Network("44.128.0.0/10"))
    assert format_of(raw, zookeeper_url) == b"8"
    registry.keep("dev")
    assert format_of(raw, zookeeper_url) == b"4"


def test_overlays_that_an_older_dni_recorded_are_not_leaving(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, place = connect(), f"/{zookeeper_url.rpartition('/')[2]}/overlays"
    registry.define(DCOS)
    assert b"leaving" not in raw.get(place)[0]
    assert (registry.leaving(), registry.overlays()) == ({}, [DCOS])
    registry.begin_removal("dcos", FIRST)
    registry.keep("dcos")
    assert b"leaving" not in raw.get(place)[0]


@pytest.mark.parametrize("is_another_leaving", [False, True])
def test_a_lease_that_was_begun_before_its_overlay_began_to_leave_is_refused(
    connect: Open, monkeypatch: pytest.MonkeyPatch, *, is_another_leaving: bool
) -> None:
    """Also where another is leaving already, so that `format` stays as it is."""
    registry, other = connect(), connect()
    registry.define(DCOS)
    registry.define(DEV)
    registry.register(host())
    if is_another_leaving:
        registry.begin_removal("dev", FIRST)
        registry.overlays()
    make_room = ground.Ground.make_room

    def late(one: ground.Ground, paths: Sequence[str]) -> None:
        if one is registry.ground and "dcos" not in other.leaving():
            other.begin_removal("dcos", FIRST + 1)
        make_room(one, paths)

    monkeypatch.setattr(ground.Ground, "make_room", late)
    with pytest.raises(InUse, match="'dcos' is being removed"):
        registry.lease("dcos", 4, FIRST)
    assert registry.leases() == []
    assert registry.end_removal("dcos")


def when_it_begins(
    monkeypatch: pytest.MonkeyPatch, registry: ZooKeeperRegistry, happens: Callable[[], object]
) -> None:
    """Have something happen once, when a registry has looked and begins to change what it found."""
    transaction, to_come = ground.Ground.transaction, [happens]

    def late(one: ground.Ground) -> Changes:
        begun = transaction(one)
        while one is registry.ground and to_come:
            to_come.pop()()
        return begun

    monkeypatch.setattr(ground.Ground, "transaction", late)


def test_an_overlay_that_is_kept_in_the_moment_in_which_nobody_holds_any_stays(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = connect(), connect()
    registry.define(DCOS)
    registry.begin_removal("dcos", FIRST)
    when_it_begins(monkeypatch, registry, lambda: other.keep("dcos", FIRST + 1))
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.2"):
        registry.end_removal("dcos")
    assert registry.overlays() == [DCOS]


def test_an_overlay_stays_that_somebody_says_to_use_in_the_moment_in_which_it_goes(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = connect(), connect()
    registry.define(DCOS)
    registry.begin_removal("dcos", FIRST)
    when_it_begins(monkeypatch, registry, lambda: other.use(FIRST + 1, ["dcos"]))
    assert not registry.end_removal("dcos")
    assert registry.overlays() == [DCOS]


def test_an_overlay_stays_whose_last_holder_takes_it_to_another_address_in_that_moment(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, moving = connect(), connect()
    registry.define(DCOS)
    moving.register(host())
    held = moving.lease("dcos", 4, FIRST)
    registry.begin_removal("dcos", FIRST)
    is_known, moves = Removals._is_known, [Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST)]  # noqa: SLF001 - between looking and forgetting

    def late(removals: Removals, agent_ip: Address) -> bool:
        while moves:
            moving.register(moves.pop())
        return is_known(removals, agent_ip)

    monkeypatch.setattr(Removals, "_is_known", late)
    assert not registry.end_removal("dcos")
    assert [one.held for one in registry.leases(FIRST + 2)] == [held]


def test_a_host_with_a_new_address_says_anew_what_it_uses(connect: Open) -> None:
    registry = connect()
    registry.define(DCOS)
    registry.register(host())
    registry.use(FIRST, ["dcos"])
    registry.register(Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST))
    registry.use(FIRST + 2, ["dcos"])
    with pytest.raises(InUse, match=rf"'dcos' is in use on {FIRST + 2}"):
        registry.begin_removal("dcos", FIRST)


def test_a_registry_that_a_newer_dni_made_anew_is_left_as_it_is(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, place = connect(), f"/{zookeeper_url.rpartition('/')[2]}"
    registry.define(DCOS)
    raw.delete(place, recursive=True)
    connect().define(DEV)
    raw.delete(f"{place}/format")
    raw.create(f"{place}/format", b"9")
    before = nodes(raw, place)
    with pytest.raises(StoreError, match=r"written by a newer dni \(version 9\)"):
        registry.define(DCOS)
    assert nodes(raw, place) == before


def test_the_format_says_which_family_agents_are_named_by(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    """A dni that knows agents of IPv4 addresses alone, and version 1, says so instead of stumbling over others."""
    place = f"/{zookeeper_url.rpartition('/')[2]}/format"
    one = connect()
    one.register(host())
    assert raw.get(place)[0] == b"1"
    one.register(Host(agent_ip=SIX, identity="host 0", boot="boot", formerly=FIRST))
    assert raw.get(place)[0] == b"2"
    assert connect().register(Host(agent_ip=SIX + 1, identity="host 1", boot="boot"))
    audit(one)


def test_of_two_first_agents_of_different_families_one_is_refused(connect: Open) -> None:
    """Whichever comes first: between looking and writing, the other one may come."""
    one, two = connect(), connect()
    one.overlays()
    start = threading.Barrier(2)
    outcomes: list[object] = []

    def join(registry: ZooKeeperRegistry, agent: Host) -> None:
        start.wait()
        try:
            outcomes.append(registry.register(agent))
        except Refused as error:
            outcomes.append(error)

    agents = (host(), Host(agent_ip=SIX, identity="six", boot="boot"))
    joining = [threading.Thread(target=join, args=each) for each in zip((one, two), agents, strict=True)]
    for thread in joining:
        thread.start()
    for thread in joining:
        thread.join()
    assert [isinstance(outcome, Refused) for outcome in outcomes].count(True) == 1
    assert len(one.members()) == 1


def test_what_is_no_registry_is_left_alone(connect: Open, raw: KazooClient, zookeeper_url: str) -> None:
    raw.create(f"/{zookeeper_url.rpartition('/')[2]}/overlays", b"another's", makepath=True)
    with pytest.raises(StoreError, match=r"is no registry of dni: use another place"):
        connect().define(DCOS)


def test_a_registry_with_a_password_is_for_those_who_have_it(connect: Open) -> None:
    mine = Access(user="dni", password="secret")  # noqa: S106 - of this test
    connect(mine).define(DCOS)
    assert connect(mine).overlays() == [DCOS]
    for other in (Access(), Access(user="dni", password="guessed")):  # noqa: S106 - of this test
        with pytest.raises(Unavailable, match=r"registry\.user and registry\.password must be those"):
            connect(other).overlays()


def test_a_password_that_is_set_later_closes_what_was_there_and_what_is_made_by_then(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    mine, place = Access(user="dni", password="secret"), f"/{zookeeper_url.rpartition('/')[2]}"  # noqa: S106 - of this test
    before = connect()
    before.define(DCOS)
    before.register(host(3))
    held = before.lease("dcos", 4, FIRST + 3)
    raw.create(f"{place}/anothers", b"left alone")
    after = connect(mine)
    assert after.news(0).whole
    life(after)
    assert held in [one.held for one in after.leases(FIRST + 3)]
    with pytest.raises(Unavailable, match=r"registry\.user and registry\.password must be those"):
        before.lease("dcos", 4, FIRST + 3)
    raw.add_auth("digest", "dni:secret")
    open_to_all = [
        node for node in nodes(raw, place) if any(one.id.scheme != "digest" for one in raw.get_acls(node)[0])
    ]
    assert open_to_all == [f"{place}/anothers"]
    audit(connect(mine))


@contextmanager
def noting(registry: ZooKeeperRegistry) -> Iterator[list[str]]:
    """Note what a registry asks ZooKeeper."""
    asked: list[str] = []
    begin = Link._begin  # noqa: SLF001 - every question goes through it

    def noted(link: Link, call: str, path: str, *more: object) -> object:
        if link is registry.link:
            asked.append(f"{call} {path}")
        return begin(link, call, path, *more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "_begin", noted)
        yield asked


def test_a_new_agent_costs_each_other_two_questions_however_many_there_are(connect: Open) -> None:
    one, two = connect(), connect()
    one.define(DCOS)
    for number in range(200):
        one.confirm(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.1.{number}.0/24")), FIRST + number)
    two.news(5)
    two.news(0)
    with noting(two) as asked, ThreadPoolExecutor(1) as thread:
        heard = thread.submit(two.news, 20)
        one.register(host(250))
        assert [peer.agent_ip for peer in heard.result().peers] == [FIRST + 250]
    assert [call.split()[0] for call in asked][-2:] == ["get", "exists"]
    assert len(asked) <= 3, "the third is whether there was anything yet"


def told(used: int) -> Counts:
    half = HalfCounts(125, used, 0, 125 - used)
    return Counts(as_of=float(used), subnets=(msgspec.structs.replace(TOLD.subnets[0], docker=half),))


def test_to_tell_how_full_an_agent_is_costs_one_transaction_for_each_change_and_else_nothing(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a look now and then."""
    monkeypatch.setattr(counts, "LOOKED_AT_EVERY", 1e9)
    kinds: list[str] = []
    one, two = connect(crash_point=kinds.append), connect()
    one.register(host())
    two.news(5)
    two.news(0)
    one.tell(FIRST, told(1))
    kinds.clear()
    with noting(one) as asked, noting(two) as watched:
        for used in (1, 1, 2, 2, 3):
            one.tell(FIRST, told(used))
        assert not two.news(0), "nobody is told who does not ask"
    assert kinds == ["before a transaction", "after a transaction"] * 2
    assert asked == []
    assert [call for call in watched if "counts" in call] == []
    with noting(two) as asked:
        assert two.told([FIRST]) == {FIRST: told(3)}
    assert asked == [f"get counts/{shard_of_agent(FIRST):02d}/{FIRST}"]


def test_after_its_session_an_agent_looks_whether_what_it_told_is_there_still(connect: Open) -> None:
    one, two = connect(), connect()
    one.register(host())
    one.tell(FIRST, told(1))
    expire(one)
    eventually(lambda: not is_alive(two))
    two.forget(FIRST)
    assert two.told([FIRST]) == {}

    def tell() -> bool:
        one.register(host())
        one.tell(FIRST, told(1))
        return True

    eventually(tell)
    assert two.told([FIRST]) == {FIRST: told(1)}


@pytest.mark.parametrize("before", [0, 1])
def test_an_agent_that_is_forgotten_while_it_tells_leaves_nothing_behind(
    before: int, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look of who forgets and its transaction."""
    one, two = connect(), connect()
    one.register(host())
    for used in range(before):
        one.tell(FIRST, told(used))
    one.link.drop(of_agent("alive", FIRST))
    eventually(lambda: not is_alive(two))
    drop, tells = AgentCounts.drop, [7]

    def dropped(of: AgentCounts, changes: Changes, agent_ip: Address) -> None:
        drop(of, changes, agent_ip)
        while tells:
            one.tell(FIRST, told(tells.pop()))

    monkeypatch.setattr(AgentCounts, "drop", dropped)
    two.forget(FIRST)
    assert tells == []
    assert two.link.get(of_agent(COUNTS, FIRST)) is None
    with pytest.raises(NotFound):
        one.tell(FIRST, told(8))
    assert two.link.get(of_agent(COUNTS, FIRST)) is None


@pytest.mark.parametrize("damage", [b"\xff", b'{"version": 1}', None])
def test_counts_that_somebody_damaged_or_deleted_are_written_anew_by_and_by(
    damage: bytes | None, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = connect(), connect()
    one.register(host())
    one.tell(FIRST, told(1))
    if damage is None:
        two.link.remove_tree(of_agent(COUNTS, FIRST))
    else:
        two.link.put_each({of_agent(COUNTS, FIRST): damage})
    monkeypatch.setattr(counts, "LOOKED_AT_EVERY", 0.01)

    def is_told_again() -> bool:
        one.tell(FIRST, told(1))
        return two.told([FIRST]) == {FIRST: told(1)}

    eventually(is_told_again)


def test_counts_of_a_newer_dni_or_none_at_all_keep_nobody_from_the_others(connect: Open) -> None:
    one = connect()
    agents = [FIRST + number for number in range(4)]
    for number, agent in enumerate(agents):
        one.register(host(number))
        one.tell(agent, told(number))
    one.link.put_each({of_agent(COUNTS, FIRST + 1): b'{"version": 2}', of_agent(COUNTS, FIRST + 2): b"\xff"})
    one.link.remove_tree(of_agent(COUNTS, FIRST + 3))
    found = one.told(agents)
    assert found.keys() == {FIRST, FIRST + 1, FIRST + 2}
    assert found[FIRST] == told(0)
    assert found[FIRST + 1] == "was written by a newer dni (version 2)"
    assert str(found[FIRST + 2]).startswith("is not understood (")


def test_who_hears_nothing_watches_for_one_thing_once_however_often_it_looks(connect: Open) -> None:
    """ZooKeeper's client keeps each watch that it is given, as long as nothing happens."""
    registry = connect()
    registry.define(DCOS)
    for _ in range(5):
        registry.news(0)
    watches = registry.link.client._data_watchers  # noqa: SLF001 - nobody else tells
    assert [len(one) for one in watches.values()] == [1]


def test_an_entry_that_a_deleted_journal_had_is_not_looked_for_in_the_next_one(
    connect: Open, raw: KazooClient, zookeeper_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told, and not there: everything was read again and again, without a pause."""
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.0)
    one, two = connect(), connect()
    one.define(DCOS)
    two.news(0)
    assert not two.news(0)
    two.link.rung.clear()
    one.define(DEV)
    assert two.link.rung.wait(20)
    raw.delete(f"/{zookeeper_url.rpartition('/')[2]}", recursive=True)
    connect().define(DCOS)
    assert two.news(0).whole
    assert not two.news(0)


def test_many_changes_at_once_are_read_together(connect: Open) -> None:
    one, two = connect(), connect()
    one.define(DCOS)
    two.news(5)
    two.news(0)
    for number in range(100):
        one.confirm(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.1.{number}.0/24")), FIRST + number)
    with noting(two) as asked:
        two.news(5)
    assert asked.count("get journal/e-0000000050") == 1
    assert len(asked) < 170


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a digest written at once, for few agents too."""
    monkeypatch.setattr(follower, "_DIGEST_WITHIN", 0.0)
    monkeypatch.setattr(digest, "WORTHWHILE", 1)


def populate(registry: ZooKeeperRegistry, numbers: Iterable[int]) -> None:
    for number in numbers:
        registry.register(host(number))
        registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.1.{number}.0/24")), FIRST + number)


@pytest.mark.usefixtures("quick")
def test_a_newcomer_reads_the_digest_and_what_came_after_and_no_single_record(connect: Open) -> None:
    one = connect()
    one.define(DCOS)
    populate(one, range(30))
    one.news(5)
    populate(one, range(30, 40))
    one.give_back(AgentSubnet(overlay="dcos", subnet=ip_network("9.1.7.0/24")), FIRST + 7)
    gone = connect()
    gone.register(host(77))
    gone.close()
    one.forget(FIRST + 77)
    two = connect()
    with noting(two) as asked:
        found = two.news(5)
    assert found.whole
    assert not [call for call in asked if "agents" in call]
    held = {int(peer.agent_ip) - int(FIRST): [str(s.subnet) for s in peer.subnets] for peer in found.peers}
    assert held == {number: [] if number == 7 else [f"9.1.{number}.0/24"] for number in range(40)}
    one.register(host(50))
    assert [peer.agent_ip for peer in two.news(5).peers] == [FIRST + 50]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["older than the journal", "unreadable", "not whole"])
def test_a_digest_that_is_of_no_use_is_passed_over(
    damage: str, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEPT", 10)
    monkeypatch.setattr(journal, "_TRIMMED_EVERY", 8)
    one = connect()
    one.define(DCOS)
    populate(one, range(5))
    one.news(5)
    assert len(one.link.children("digests")) == 64
    if damage == "older than the journal":
        populate(one, range(5, 30))
    elif damage == "unreadable":
        one.link.put_each({"digests/07": b"{"})
    else:
        one.link.remove_tree("digests/07")
    two = connect()
    with noting(two) as asked:
        found = two.news(5)
    assert {peer.agent_ip for peer in found.peers} == set(one.ground.records())
    assert [call for call in asked if "get agents/" in call]


@pytest.mark.usefixtures("quick")
def test_of_all_who_follow_one_writes_the_digest(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "EVERY", 20)
    monkeypatch.setattr(follower, "EVERY", 20)
    registries = [connect() for _ in range(5)]
    registries[0].define(DCOS)
    written: list[int] = []
    write = Digest._write  # noqa: SLF001 - to count

    def noted(one: Digest, place: int, *more: object) -> None:
        written.append(place)
        write(one, place, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Digest, "_write", noted)
    for round_ in range(3):
        populate(registries[0], range(10 * round_, 10 * round_ + 10))
        for registry in registries:
            registry.news(5)
    assert written == [21, 41, 61]


def test_no_node_has_many_children_and_none_is_large(connect: Open, raw: KazooClient, zookeeper_url: str) -> None:
    registry = connect()
    registry.define(DCOS)
    for number in range(600):
        registry.confirm(
            AgentSubnet(overlay="dcos", subnet=ip_network(f"9.{number // 256}.{number % 256}.0/24")), FIRST + number
        )
    most, largest = 0, 0

    def walk(path: str) -> None:
        nonlocal most, largest
        data, stat = raw.get(path)
        if not path.endswith("/journal"):
            most = max(most, stat.numChildren)
        largest = max(largest, len(data))
        for name in raw.get_children(path):
            walk(f"{path}/{name}")

    walk(f"/{zookeeper_url.rpartition('/')[2]}")
    assert most <= 256
    assert largest < 1000


def test_a_journal_is_kept_short_and_who_was_away_for_too_long_reads_everything(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEPT", 10)
    monkeypatch.setattr(journal, "_TRIMMED_EVERY", 8)
    one, two = connect(), connect()
    one.define(DCOS)
    two.news(5)
    for _ in range(10):
        one.give_back(one.lease("dcos", 4, FIRST), FIRST)
    one.register(host())
    assert len(one.link.children("journal")) <= 20
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.0)
    found = two.news(5)
    assert found.whole
    assert [peer.agent_ip for peer in found.peers] == [FIRST]


def test_an_ensemble_that_loses_its_leader_goes_on() -> None:
    with fast_directory() as directory, ensemble(Path(directory) / "ensemble", 3) as servers:
        url = f"zookeeper://{','.join(server.address for server in servers)}/dni"
        with opening(url) as connect:
            one, two = connect(), connect()
            one.define(DCOS)
            one.register(host())
            two.register(host(1))
            mine = one.lease("dcos", 4, FIRST)
            two.news(5)
            next(server for server in servers if server.mode() == "leader").kill()
            eventually(lambda: one.register(host()) is not None, 60)
            assert one.leases(FIRST)[0].held == mine
            second = one.lease("dcos", 4, FIRST)
            eventually(lambda: any(second in peer.subnets for peer in two.news(1).peers), 60)
            audit(two)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with what a server and an agent show each other."""
    return made.make(tmp_path)


def test_over_tls_server_and_agent_show_each_other_who_they_are(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a server is to be who it is called, and vouched for by the authority that is named and no other."""
    mine = Access(
        tls=True,
        ca=certificates / "ca.pem",
        certificate=certificates / "certificate.pem",
        key=certificates / "key.pem",
    )
    with fast_directory() as directory:
        server = ZooKeeper(Path(directory) / "tls")
        url = f"zookeeper://{server.speak_tls(certificates)}"
        try:
            server.start()
            with opening(url) as connect:
                connect(mine).define(DCOS)
                monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
                assert connect(msgspec.structs.replace(mine, ca=None)).overlays() == [DCOS]
                believes_another = connect(msgspec.structs.replace(mine, ca=certificates / "other.pem"))
                said = r"ZooKeeper at 127\.0\.0\.1:\d+ is not believed: .*: registry\.ca names"
                with deadline(1.5), pytest.raises(Unavailable, match=said):
                    believes_another.overlays()
            with opening(url.replace("127.0.0.1", "localhost")) as connect:
                named_otherwise = connect(mine)
                said = (
                    r"ZooKeeper at localhost:\d+ is not believed: Hostname mismatch, .* valid for 'localhost': regist"
                )
                with deadline(1.5), pytest.raises(Unavailable, match=said):
                    named_otherwise.overlays()
        finally:
            server.kill()
            gc.collect()


def test_what_tls_needs_is_named_where_it_cannot_be_used(certificates: Path, tmp_path: Path) -> None:
    def refused(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> str:
        with pytest.raises(SettingsError) as raised:
            open_registry(
                "zookeeper://127.0.0.1:1", tmp_path, Access(tls=True, ca=ca, certificate=certificate, key=key)
            )
        return str(raised.value)

    gone, certificate = certificates / "gone.pem", certificates / "certificate.pem"
    assert refused(ca=gone) == f"registry.ca = '{gone}': cannot be read: No such file or directory"
    assert refused(ca=certificates / "key.pem").endswith("is no ca in PEM, or none that fits the other")
    assert refused(certificate=certificate, key=gone).startswith(f"registry.key = '{gone}': cannot be read")
    other = certificates / "other.key"
    assert refused(certificate=certificate, key=other).startswith(f"registry.certificate = '{certificate}': is no")
