# SPDX-License-Identifier: Apache-2.0
"""A host of DC/OS, over real HTTP: dni takes what Mesos has given, and says what Mesos does not do."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest

from dni_driver.agent import occupancy
from dni_driver.agent.agent import Agent
from dni_driver.agent.cni import Cni, CniOptions
from dni_driver.agent.fullness import Fullness
from dni_driver.agent.hearing import Hearing
from dni_driver.agent.hosted import Hosted
from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.options import Options
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.addresses.counts import Counts
from dni_driver.core.errors import Exhausted, InUse, NotFound, Refused, SettingsError, Unavailable
from dni_driver.core.hosting import Hosting
from dni_driver.core.mesos.address import MesosAddress, read_mesos_address
from dni_driver.core.mesos.cni_wish import CniWish
from dni_driver.core.mtu import Underlay, outdated
from dni_driver.core.overlays import Address, AgentSubnet, Overlay, define
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.wanted import wanted
from dni_driver.kernel.firewall import iptables, nft
from dni_driver.registry import Access, Host, Lease, News, Registry, open_registry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.registry.mesos_agent import LARGEST_ANSWER, MesosAgent
from dni_driver.store import Store, overlays
from dni_driver.store.forget import forget_network
from dni_driver.store.records import read_all
from tests.fakes import AGENT, FakeClock
from tests.mesos_agent import ENDPOINT, FakeMesosAgent, agent, overlay, overlay6, serving
from tests.scratch import fast_directory
from tests.unit.agents import NETWORK, AgentsKernel, FakeDocker, create_network, frozen
from tests.unit.world import eventually

OTHER = IPv4Address("192.0.2.20")
DCOS = define("dcos", [ip_network("9.0.0.0/8")])
DCOS6 = define("dcos6", [ip_network("fd01:b::/64")])


def held(subnet: str, name: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=name, subnet=ip_network(subnet))


@pytest.fixture
def mesos() -> Iterator[FakeMesosAgent]:
    with serving() as answering:
        answering.answer = agent(overlay(), overlay6())
        yield answering


@pytest.fixture
def registry(mesos: FakeMesosAgent) -> MesosRegistry:
    registry = open_registry(mesos.url, Path("/nonexistent"))
    assert isinstance(registry, MesosRegistry)
    return registry


@pytest.fixture
def store() -> Iterator[Store]:
    with fast_directory() as directory:
        store = Store(Path(directory) / "dni.db")
        yield store
        store.close()


def joining(store: Store, registry: Registry, found: Address = AGENT) -> Joining:
    return Joining(store, registry, Identity(store, lambda: found, None), None, FakeClock())


def subnets(store: Store) -> list[str]:
    with store.read() as tx:
        return [str(one.subnet) for one in overlays.agent_subnets(tx)]


def test_overlays_subnets_and_vtep_are_those_that_mesos_has_given(registry: MesosRegistry) -> None:
    assert registry.overlays() == [
        Overlay(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=24),
        Overlay(name="dcos6", subnet6=IPv6Network("fd01:b::/64"), prefix6=80),
    ]
    leases = [
        Lease(agent_ip=AGENT, held=held("9.0.2.0/24")),
        Lease(agent_ip=AGENT, held=held("fd01:b:0:0:2::/80", "dcos6")),
    ]
    assert registry.leases() == registry.leases(AGENT) == leases
    assert registry.leases(OTHER) == []
    vtep = Vtep(IPv4Interface("44.128.0.2/20"))
    assert registry.register(Host(agent_ip=AGENT, identity="i", boot="b")) == vtep
    (member,) = registry.members()
    assert (member.agent_ip, member.vtep, member.alive) == (AGENT, vtep, True)
    assert member.subnets == tuple(lease.held for lease in leases)
    assert registry.alive() == {AGENT}
    registry.close()


def test_it_is_asked_for_json_and_shown_a_token_where_one_is_configured(
    mesos: FakeMesosAgent, tmp_path: Path
) -> None:
    open_registry(mesos.url, tmp_path).overlays()
    token = tmp_path / "token"
    token.write_text("abc.def\n")
    with_token = open_registry(mesos.url, tmp_path, Access(token_file=token))
    with_token.overlays()
    token.write_text("renewed")
    with_token.overlays()
    assert [path for path, _ in mesos.asked] == [ENDPOINT] * 3
    assert {headers["Accept"] for _, headers in mesos.asked} == {"application/json"}
    assert [headers.get("Authorization") for _, headers in mesos.asked] == [None, "token=abc.def", "token=renewed"]


@pytest.mark.parametrize("content", [None, "", "two\nlines", "é"])
def test_a_token_that_cannot_be_used_is_named(mesos: FakeMesosAgent, tmp_path: Path, content: str | None) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match=f'registry.token_file = "{token}": (cannot be read|must hold one line)'):
        open_registry(mesos.url, tmp_path, Access(token_file=token)).overlays()
    assert mesos.asked == []


def test_a_host_of_dcos_joins_with_what_mesos_gives_and_defines_nothing(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    assert joining(store, registry).join() == []
    assert subnets(store) == ["9.0.2.0/24", "fd01:b:0:0:2::/80"]
    records = read_all(store)
    assert [str(half) for half in records.halves("dcos")] == ["9.0.2.128/25"]
    assert [str(half) for half in records.halves("dcos6")] == ["fd01:b::2:8000:0:0/81"]
    assert (records.agent, records.peers) == (AGENT, [])
    assert {path for path, _ in mesos.asked} == {ENDPOINT}
    assert joining(store, registry).join() == []


def test_before_the_module_has_registered_nothing_is_joined_and_nothing_lost(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    joining(store, registry).join()
    mesos.answer = agent()
    with pytest.raises(Unavailable, match=r"Mesos has given agent 192\.0\.2\.10 no overlay yet: its overlay module"):
        joining(store, registry).join()
    assert subnets(store) == ["9.0.2.0/24", "fd01:b:0:0:2::/80"]
    mesos.answer = agent(overlay(), overlay6())
    assert joining(store, registry).join() == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"status": "STATUS_CONFIGURING"}, "Mesos has not configured overlay 'dcos' on this agent yet"),
        ({"status": "STATUS_INVALID"}, "Mesos has not configured overlay 'dcos' on this agent yet"),
        (None, "Mesos has not configured overlay 'dcos' on this agent yet"),
        (
            {"status": "STATUS_FAILED", "error": "Failed to execute 'sh':\n no chain"},
            "no other host: Failed to execute 'sh': no chain (\"docker_bridge\": false",
        ),
        ({"status": "STATUS_FAILED"}, "dcos-net routes it to no other host: no reason given"),
    ],
)
def test_an_overlay_that_mesos_has_not_configured_serves_this_host_and_is_told_of(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, state: Any, words: str
) -> None:
    mesos.answer = agent(overlay(state=state), overlay6())
    assert joining(store, registry).join() == []
    assert "9.0.2.0/24" in subnets(store)
    (remark,) = Hosted(store, registry).look()
    assert words in remark
    assert len(remark.splitlines()) == 1
    assert read_all(store).hosting.masqueraded == frozenset()


@pytest.mark.parametrize("bridge", [None, {"ip": "9.0.2.128/25", "name": "d-dcos"}])
def test_the_docker_half_is_the_second_half_with_and_without_a_bridge_of_mesos(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, bridge: Any
) -> None:
    mesos.answer = agent(overlay(docker_bridge=bridge))
    assert joining(store, registry).join() == []
    assert [str(half) for half in read_all(store).halves("dcos")] == ["9.0.2.128/25"]
    assert Hosted(store, registry).look() == ()


def test_a_subnet_that_changed_with_a_restart_replaces_an_unused_one(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    mesos.answer = agent(overlay())
    joining(store, registry).join()
    mesos.answer = agent(overlay(subnet="9.0.5.0/24", mesos_bridge=None))
    assert joining(store, registry).join() == []
    assert subnets(store) == ["9.0.5.0/24"]


def test_a_subnet_that_changed_under_containers_is_told_and_not_mixed_with_theirs(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    mesos.answer = agent(overlay())
    joining(store, registry).join()
    create_network(store, 1.0)
    mesos.answer = agent(overlay(subnet="9.0.5.0/24"))
    (problem,) = joining(store, registry).join()
    assert problem == (
        f"overlay 'dcos': Mesos gives this agent 9.0.5.0/24 of it now, no longer 9.0.2.0/24; overlay 'dcos' has the "
        f"Docker network '{NETWORK[:12]}' on this host: remove that first (docker network rm {NETWORK[:12]}); after "
        f"that this host takes what it is given, by itself"
    )
    assert subnets(store) == ["9.0.2.0/24"]


def test_a_mesos_container_does_not_keep_a_changed_subnet_away(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half is Mesos' affair; with another registry host-local's files are a use, and told of as such."""
    (tmp_path / "dcos").mkdir()
    (tmp_path / "dcos" / "9.0.2.7").touch()
    monkeypatch.setattr(occupancy, "DATA_DIRECTORIES", (tmp_path,))
    mesos.answer = agent(overlay())
    joining(store, registry).join()
    mesos.answer = agent(overlay(subnet="9.0.5.0/24", mesos_bridge={"ip": "9.0.5.0/25", "name": "m-dcos"}))
    (problem,) = joining(store, registry).join()
    assert "addresses of overlay 'dcos' are held by containers of CNI's host-local (1, such as 9.0.2.7)" in problem
    assert "docker network rm" not in problem
    Hosted(store, registry).look()
    assert joining(store, registry).join() == []
    assert subnets(store) == ["9.0.5.0/24"]


def test_a_host_that_comes_to_mesos_joins_anew_once_it_is_known_what_mesos_does(
    store: Store, registry: MesosRegistry
) -> None:
    told: list[str] = []
    hosted = Hosted(store, registry, changed=lambda: told.append("changed"))
    hosted.look()
    hosted.look()
    assert told == ["changed"]


def test_once_its_docker_network_is_gone_a_changed_subnet_is_taken_over_at_once(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    """Not with the next joining, up to a minute later."""
    mesos.answer = agent(overlay())
    joining(store, registry).join()
    Hosted(store, registry).look()
    create_network(store, 1.0)
    mesos.answer = agent(overlay(subnet="9.0.5.0/24"))
    events: SimpleQueue[DockerEvent | None] = SimpleQueue()
    docker = FakeDocker()
    docker.news = iter(events.get, None)
    host = Agent(
        store=store,
        kernel=AgentsKernel(),
        registry=registry,
        docker=docker,
        options=Options(default_overlay=None, registry=mesos.url, create_networks=False),
        time=frozen(FakeClock()),
    )
    host.start()
    try:
        assert eventually(lambda: any("no longer 9.0.2.0/24" in problem for problem in host.status().problems))
        assert eventually(lambda: _is_quiet(mesos))
        with store.write() as tx:
            forget_network(tx, NETWORK, 1.0)
        events.put(DockerEvent("network", "destroy"))
        assert eventually(lambda: subnets(store) == ["9.0.5.0/24"])
    finally:
        events.put(None)
        host.stop()


def _is_quiet(mesos: FakeMesosAgent) -> bool:
    """Tell whether nobody asks any more."""
    asked = len(mesos.asked)
    time.sleep(0.3)
    return len(mesos.asked) == asked


def test_an_overlay_that_mesos_no_longer_has_is_forgotten_or_told_where_it_is_used(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    joining(store, registry).join()
    mesos.answer = agent(overlay())
    assert joining(store, registry).join() == []
    assert subnets(store) == ["9.0.2.0/24"]
    create_network(store, 1.0)
    mesos.answer = agent(overlay6())
    (problem,) = joining(store, registry).join()
    assert "overlay 'dcos' is not one of Mesos' (dcos6): add it to the overlay configuration" in problem
    assert subnets(store)[0] == "9.0.2.0/24"


def test_a_host_that_mesos_knows_by_another_address_is_told_which_to_set(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    mesos.answer = agent(overlay(), ip="10.0.0.2:5051")
    with pytest.raises(
        Refused,
        match=r"^Mesos knows this host as 10\.0\.0\.2, dni as 192\.0\.2\.10: set agent\.ip = \"10\.0\.0\.2\"$",
    ):
        joining(store, registry).join()
    assert joining(store, registry, IPv4Address("10.0.0.2")).join() == []


def test_what_mesos_masquerades_is_left_to_it_and_comes_back_to_us_with_the_local_registry(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, tmp_path: Path
) -> None:
    mesos.answer = agent(overlay(), overlay6())
    joining(store, registry).join()
    create_network(store, 1.0)
    Hosted(store, registry).look()
    assert read_all(store).hosting == Hosting(carries=True, masqueraded=frozenset({"dcos"}))
    assert [policy.masquerade for policy in wanted(read_all(store)).policies] == [False]
    Hosted(store, open_registry("local", tmp_path)).look()
    assert [policy.masquerade for policy in wanted(read_all(store)).policies] == [True]


def test_the_mesos_half_is_left_to_mesos(store: Store, registry: MesosRegistry, tmp_path: Path) -> None:
    """Also where dni had it before, with another registry."""
    kernel, file = AgentsKernel(), tmp_path / "dcos.conf"

    def cni(options: CniOptions) -> Cni:
        return Cni(store, kernel, options, frozen(FakeClock()), lambda: None)

    joining(store, registry).join()
    create_network(store, 1.0)
    assert cni(CniOptions(directory=tmp_path)).round() == []
    assert file.exists()
    assert "m-dcos" in [bridge.name for bridge in wanted(read_all(store)).bridges]
    assert '"m-dcos" : jump to-dcos' in nft.ruleset(wanted(read_all(store)))

    Hosted(store, registry).look()
    assert cni(CniOptions()).round() == []
    target = wanted(read_all(store))
    assert not file.exists()
    assert [bridge.name for bridge in target.bridges] == ["d-dcos"]
    assert 'oifname vmap { "d-dcos" : jump to-dcos }' in nft.ruleset(target)
    assert 'iifname { "d-dcos", "m-dcos" } accept' in nft.ruleset(target)
    assert 'set bridges { type ifname; elements = { "d-dcos", "m-dcos" }; }' in nft.ruleset(target), "it tunnels not"
    rules = iptables.chain_rules(target.policies, [])
    assert [rule for rule in rules if "m-dcos" in rule] == ["-A DNI-FORWARD -i d-dcos -o m-dcos -j ACCEPT"]


def test_a_container_that_dni_cni_has_from_before_goes_on_and_no_other_comes(
    store: Store, registry: MesosRegistry
) -> None:
    def cni(options: CniOptions) -> Cni:
        return Cni(store, AgentsKernel(), options, frozen(FakeClock()), lambda: None)

    def wish(container: str) -> CniWish:
        return CniWish(overlay="dcos", container=container, ifname="eth0", sandbox=f"/run/netns/{container}")

    joining(store, registry).join()
    cni(CniOptions(ipam="dni")).attach(wish("c1"))
    Hosted(store, registry).look()
    with pytest.raises(Refused, match=r"Mesos hands out the Mesos halves of this host itself, .*that Mesos writes"):
        cni(CniOptions()).attach(wish("c2"))
    (told,) = cni(CniOptions()).round()
    assert told.endswith("so host-local cannot hand out its Mesos half yet: stop them")
    assert [bridge.name for bridge in wanted(read_all(store)).bridges] == ["m-dcos"]
    cni(CniOptions()).detach(wish("c1"))
    assert cni(CniOptions()).round() == []
    assert wanted(read_all(store)).bridges == ()


def test_vtep_and_ways_to_other_hosts_are_dcos_nets_whatever_the_registry_told_before(
    store: Store, registry: MesosRegistry
) -> None:
    joining(store, registry).join()
    Hosted(store, registry).look()
    vtep = Vtep(IPv4Interface("44.128.0.2/20"))
    peer = Peer(agent_ip=OTHER, vtep=Vtep(IPv4Interface("44.128.0.3/20")), subnets=(held("9.0.3.0/24"),))
    known = msgspec.structs.replace(read_all(store), vtep=vtep, peers=[peer])
    assert (wanted(known).vtep, wanted(known).peers, wanted(known).hosted) == (None, [], True)
    alone = msgspec.structs.replace(known, hosting=Hosting())
    assert (wanted(alone).vtep, wanted(alone).peers, wanted(alone).hosted) == (vtep, [peer], False)


def test_an_overlay_of_mesos_is_not_removed_and_nothing_of_it_is_touched(
    store: Store, registry: MesosRegistry, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="overlay 'dcos' is Mesos'"):
        Hosted(store, registry).check_removal("dcos")
    Hosted(store, open_registry("local", tmp_path)).check_removal("dcos")


@pytest.mark.parametrize(
    "changed",
    [
        {"mesos_bridge": None},
        {"state": {"status": "STATUS_FAILED", "error": "no"}},
        {"info": {"name": "dcos", "prefix": 24, "subnet": "9.0.0.0/8", "prefix6": 80, "subnet6": "fd01:c::/64"}},
    ],
)
def test_what_mesos_may_not_masquerade_we_do(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, changed: Any
) -> None:
    mesos.answer = agent(overlay(**changed))
    Hosted(store, registry).look()
    assert read_all(store).hosting.masqueraded == frozenset()


def test_containers_send_no_more_than_the_vtep_of_dcos_lets_through(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    part = overlay()
    part["backend"]["vxlan"]["vtep_mtu"] = 1400
    mesos.answer = agent(part)
    joining(store, registry).join()
    create_network(store, 1.0)
    Hosted(store, registry).look()
    assert list(outdated(read_all(store), Underlay(link="eth0", mtu=1500)).values()) == [1400]
    assert list(outdated(read_all(store), Underlay(link="eth0", mtu=1440)).values()) == [1390]
    cni = Cni(store, AgentsKernel(), CniOptions(), frozen(FakeClock()), lambda: None)
    assert cni.configuration("dcos", None, "plain")["mtu"] == 1400


def test_what_mesos_does_not_have_is_refused_with_what_to_do(registry: MesosRegistry) -> None:
    registry.define(DCOS)
    registry.widen(DCOS)
    with pytest.raises(
        Refused, match=r"overlay 'dev' is not one of Mesos' \(dcos, dcos6\): add it to the overlay conf"
    ):
        registry.define(define("dev", [ip_network("10.64.0.0/16")]))
    with pytest.raises(InUse, match="overlay 'dcos' has other subnets in Mesos: use it as `dni overlay ls` shows it"):
        registry.define(define("dcos", [ip_network("10.64.0.0/16")]))
    with pytest.raises(Refused, match="Mesos gives overlay 'dcos' no second family"):
        registry.widen(define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:d::/64")]))
    with pytest.raises(NotFound):
        registry.widen(define("dev", [ip_network("10.64.0.0/16")]))
    with pytest.raises(Refused, match="overlay 'dcos' is Mesos': take it out of the overlay configuration"):
        registry.begin_removal("dcos", AGENT)
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.begin_removal("dev", AGENT)
    with pytest.raises(Exhausted, match=r"Mesos gives agent 192\.0\.2\.10 no more of overlay 'dcos' \(IPv4\)"):
        registry.lease("dcos", 4, AGENT)
    with pytest.raises(NotFound):
        registry.lease("dev", 4, AGENT)


def test_leases_are_confirmed_as_mesos_has_them_and_given_back_by_the_master_alone(registry: MesosRegistry) -> None:
    registry.confirm(held("9.0.2.0/24"), AGENT)
    with pytest.raises(InUse, match=r"Mesos gives this agent 9\.0\.2\.0/24 of it now, no longer 9\.0\.3\.0/24"):
        registry.confirm(held("9.0.3.0/24"), AGENT)
    with pytest.raises(InUse, match="Mesos gives this agent nothing of it now"):
        registry.confirm(held("fd01:b::/80"), AGENT)
    with pytest.raises(NotFound):
        registry.confirm(held("10.64.0.0/24", "dev"), AGENT)
    with pytest.raises(Refused, match=r"curl -X POST http://MASTER:5050/overlay-master/agents/delete"):
        registry.give_back(held("9.0.2.0/24"), AGENT)
    registry.give_back(held("9.0.9.0/24"), AGENT)
    registry.give_back(held("9.0.2.0/24"), OTHER)


def test_there_are_no_peers_to_reach_as_dcos_net_reaches_them(registry: MesosRegistry) -> None:
    assert registry.news(0) == News(whole=True)
    assert registry.news(0) == News()
    closing = threading.Timer(0.05, registry.close)
    closing.start()
    begun = time.monotonic()
    assert registry.news(60) == News()
    assert time.monotonic() - begun < 30
    closing.join()


def test_membership_is_mesos(registry: MesosRegistry, mesos: FakeMesosAgent) -> None:
    registry.set_backend("dcos", "vxlan")
    with pytest.raises(Refused, match="dcos-net carries the packets of overlay 'dcos' by VXLAN"):
        registry.set_backend("dcos", "direct")
    with pytest.raises(NotFound):
        registry.set_backend("dev", "vxlan")
    registry.use(AGENT, ["dcos"])
    registry.seen(AGENT)
    assert registry.reclaim() == []
    with pytest.raises(InUse, match=str(AGENT)):
        registry.forget(AGENT)
    with pytest.raises(Refused, match=r"forgotten by the leading master: curl -X POST http://MASTER:5050"):
        registry.forget(OTHER)
    with pytest.raises(Refused, match=r"Mesos knows this host as 192\.0\.2\.10, dni as 192\.0\.2\.20"):
        registry.register(Host(agent_ip=OTHER, identity="i", boot="b"))
    mesos.answer = agent(overlay(backend={}))
    with pytest.raises(Unavailable, match=r"Mesos has given agent 192\.0\.2\.10 no VTEP"):
        registry.register(Host(agent_ip=AGENT, identity="i", boot="b"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"info": {"name": "a.b", "subnet": "9.0.0.0/8", "prefix": 24}},
            "overlay 'a.b' of Mesos cannot be used: .*dot",
        ),
        ({"subnet": "9.0.2.0/25"}, r"9\.0\.2\.0/25 is no agent subnet of it"),
        ({"subnet": "10.0.2.0/24"}, r"10\.0\.2\.0/24 is no agent subnet of it"),
        ({"subnet": "9.0.2.1/24"}, "has host bits set"),
        ({"subnet": "nonsense"}, "nonsense"),
        ({"subnet": None}, "it gives this agent no subnet"),
        ({"subnet6": "fd01:b::/80"}, "fd01:b::/80 is no agent subnet of it"),
        (
            {"docker_bridge": {"name": "d-dcos", "ip": "9.0.2.0/25"}},
            r"its Docker half is '9\.0\.2\.0/25', not 9\.0\.2\.128/25",
        ),
        (
            {"info": {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 30}, "subnet": "9.0.2.0/30"},
            "agent subnets of /30 are too small",
        ),
    ],
)
def test_an_overlay_that_cannot_be_used_is_told_of_and_keeps_no_other_away(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent, changed: Any, words: str
) -> None:
    mesos.answer = agent(overlay(**changed), overlay6())
    assert joining(store, registry).join() == []
    assert subnets(store) == ["fd01:b:0:0:2::/80"]
    (remark,) = Hosted(store, registry).look()
    assert re.search(words, remark)
    mesos.answer = agent(overlay(**changed))
    with pytest.raises(Unavailable, match=r"no overlay of Mesos can be used on agent 192\.0\.2\.10: .*" + words):
        registry.overlays()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "answers what no overlay module does"),
        (b"<html>", "answers what no overlay module does"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `ip`"),
        (b'{"ip": 7}', "Expected `str`"),
        (b'{"ip": "\xff"}', "answers what no overlay module does"),
        (b'{"ip": "10.0.0.2", "overlays": [{}]}', "missing required field"),
        (b'{"ip": "10.0.0.2", "overlays": {}}', "Expected `array`"),
        (b'{"ip": "web", "overlays": []}', "calls itself 'web', which is no IPv4 address"),
        (b"[" * 100000, "answers what no overlay module does"),
        (b" " * (LARGEST_ANSWER + 1), "answers more than 4 MiB"),
    ],
)
def test_an_answer_that_is_none_is_explained_in_a_line(
    registry: MesosRegistry, mesos: FakeMesosAgent, answer: bytes, words: str
) -> None:
    mesos.answer = answer
    with pytest.raises(Unavailable) as caught:
        registry.overlays()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "has no overlay module: there is no /overlay-agent/overlay"),
        (401, r"does not let dni look \(status 401\): registry.token_file names the file"),
        (403, "does not let dni look"),
        (503, "is not ready yet"),
        (500, "answers with status 500"),
        (307, "answers with status 307"),
    ],
)
def test_a_status_is_explained(registry: MesosRegistry, mesos: FakeMesosAgent, status: int, words: str) -> None:
    mesos.status = status
    with pytest.raises(Unavailable, match=rf"the Mesos agent at http://127\.0\.0\.1:\d+ {words}"):
        registry.leases()


def test_an_agent_that_is_away_changes_nothing_in_the_store(
    store: Store, registry: MesosRegistry, mesos: FakeMesosAgent
) -> None:
    joining(store, registry).join()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    away = MesosRegistry(MesosAgent(MesosAddress("127.0.0.1", port)))
    with pytest.raises(Unavailable, match=rf"at http://127\.0\.0\.1:{port} does not answer: Connection refused"):
        joining(store, away).join()
    with pytest.raises(Unavailable):
        Hosted(store, away).look()
    assert subnets(store) == ["9.0.2.0/24", "fd01:b:0:0:2::/80"]
    assert mesos.asked


def test_a_name_that_does_not_resolve_is_explained() -> None:
    with pytest.raises(Unavailable, match=r"the Mesos agent at http://no\.such\.host\.invalid:5051 does not answer"):
        MesosRegistry(MesosAgent(read_mesos_address("mesos://no.such.host.invalid"))).overlays()


def _dripping(ended: threading.Event) -> Any:
    def speak(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.wait(0.02):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    return speak


def _dripping_headers(ended: threading.Event) -> Any:
    """Begin with a header that never ends."""

    def speak(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        while not ended.wait(0.02):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    return speak


def _silent(ended: threading.Event) -> Any:
    def speak(_: BaseHTTPRequestHandler) -> None:
        ended.wait(60)

    return speak


def _greet(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9\r\n")


@pytest.mark.parametrize("spoken", [_dripping, _dripping_headers, _silent])
def test_an_agent_that_takes_too_long_is_given_up_however_it_does_that(
    mesos: FakeMesosAgent, spoken: Callable[[threading.Event], Any]
) -> None:
    ended = threading.Event()
    silence = threading.Timer(20, ended.set)
    silence.start()
    mesos.speak = spoken(ended)
    asked = MesosAgent(read_mesos_address(mesos.url), patience=0.3)
    with pytest.raises(Unavailable, match=r"took longer than 0\.3 s to answer"):
        asked.ask()
    assert not ended.is_set(), "it was waited for until it had done"
    silence.cancel()
    ended.set()


def test_what_does_not_speak_http_is_explained(mesos: FakeMesosAgent) -> None:
    mesos.speak = _greet
    with pytest.raises(Unavailable, match="does not speak HTTP"):
        MesosAgent(read_mesos_address(mesos.url)).ask()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mesos://10.0.0.1:5051", MesosAddress("10.0.0.1", 5051)),
        ("mesos://10.0.0.1", MesosAddress("10.0.0.1", 5051)),
        ("mesos://leader.mesos:5050/", MesosAddress("leader.mesos", 5050)),
        ("mesos://[fd00::1]:5051", MesosAddress("fd00::1", 5051)),
    ],
)
def test_a_mesos_agent_is_named_by_host_and_port(url: str, address: MesosAddress) -> None:
    assert read_mesos_address(url) == address
    assert read_mesos_address(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        *("mesos://", "mesos://a:0", "mesos://a:65536", "mesos://a/b", "mesos://a b", "http://a"),
        *("mesos://.", "mesos://leader..mesos", f"mesos://{'a' * 64}:5051", "mesos://[10.0.0.1]", "mesos://[:::]"),
    ],
)
def test_what_names_no_mesos_agent_is_refused(url: str) -> None:
    with pytest.raises(Refused, match=r"names no Mesos agent: write it like mesos://10\.0\.0\.1:5051"):
        read_mesos_address(url)
    with pytest.raises(SettingsError, match=r"registry\.url"):
        open_registry(url, Path("/nonexistent"))


def test_of_other_agents_nothing_is_told_and_that_is_said_in_words(
    store: Store, registry: MesosRegistry, tmp_path: Path
) -> None:
    clock = FakeClock()
    registry.tell(AGENT, Counts(as_of=1.0))
    with store.write() as tx:
        overlays.set_agent_ip(tx, AGENT)
        overlays.put(tx, DCOS)
        overlays.add_agent_subnet(tx, held("9.0.2.0/24"))
    fullness = Fullness(store, registry, Hearing(registry, clock), frozen(clock), [tmp_path / "cni"])
    usage = fullness.usage("dcos")
    mesos = "Mesos tells an agent of no other: ask each at its own (dni overlay usage)"
    said = f"of other agents nothing new is known: {mesos}"
    assert [(agent.agent, agent.as_of) for agent in usage.agents] == [(str(AGENT), clock.now)]
    assert usage.problem == said
    asked = fullness.room("dcos", OTHER, "docker", 1)
    assert (asked.room, asked.free, asked.as_of) == (None, None, None)
    assert asked.why == f"it is not known what agent 192.0.2.20 holds; {said}"
    assert (fullness.room("dcos", None, "docker", 125).room, fullness.room("dcos", AGENT, "docker", 126).room) == (
        True,
        False,
    )
