# SPDX-License-Identifier: Apache-2.0
"""A host of DC/OS joins with what Mesos gives it, and follows as that changes, without harm to its containers."""

from __future__ import annotations

import re
import socket
import time
from ipaddress import IPv4Address
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from dni_driver.agent import occupancy
from dni_driver.agent.agent import Agent
from dni_driver.agent.hosted import Hosted
from dni_driver.agent.options import Options
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.errors import Refused, Unavailable
from dni_driver.core.mesos.address import MesosAddress
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.registry.mesos_agent import MesosAgent
from dni_driver.store import Store
from dni_driver.store.forget import forget_network
from dni_driver.store.records import read_all
from tests.contract.mesos_host import joining, mesos, registry, store, subnets
from tests.fakes import AGENT, FakeClock
from tests.mesos_agent import ENDPOINT, FakeMesosAgent, agent, overlay, overlay6
from tests.unit.agents import NETWORK, AgentsKernel, FakeDocker, create_network, frozen
from tests.unit.world import eventually

__all__ = ["mesos", "registry", "store"]


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
