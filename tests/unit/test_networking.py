# SPDX-License-Identifier: Apache-2.0
"""Overlays have their Docker network without anybody's asking: once on each host, and never against its user."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent.agent import Agent
from dni_driver.agent.networking import PRUNE_SECONDS, RETRY_SECONDS
from dni_driver.agent.occupancy import used_overlays
from dni_driver.agent.options import Options
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.docker_networks import ListedNetwork, creation, is_wanted
from dni_driver.core.errors import InUse, Refused, Unavailable
from dni_driver.core.options.network import MADE_BY, parse_options
from dni_driver.core.overlays import Overlay, define
from dni_driver.core.records import AddressState, NetworkRecord
from dni_driver.core.views import DockerNetwork
from dni_driver.registry import open_registry
from dni_driver.store import Store, addresses, networked, networks, pools
from dni_driver.store.forget import forget_network
from tests.fakes import DCOS, FakeClock
from tests.scratch import fast_directory
from tests.unit.agents import AgentsKernel, FakeDocker, frozen

DEV = define("dev", [ip_network("10.64.0.0/16")])
DUAL = define("dual", [ip_network("10.70.0.0/16"), ip_network("fd01:b::/64")])
SIX = define("six", [ip_network("fd06::/64")])


class Host:
    """An agent, and a Docker whose networks dni's plugin records, as it does when dockerd calls it."""

    def __init__(self, directory: Path) -> None:
        """Take part in the default overlay."""
        self._directory = directory
        self.store = Store(directory / "dni.db")
        self.docker, self.clock = FakeDocker(), FakeClock()
        self.docker.when_created, self.docker.when_removed = self._created, self._removed
        self.start()

    def start(self, **options: Any) -> None:
        """Begin anew, as another process does."""
        self._agents = Store(self._directory / "dni.db")
        self.agent = Agent(
            store=self._agents,
            kernel=AgentsKernel(),
            registry=open_registry("local", self._directory),
            docker=self.docker,
            options=Options(default_overlay=DCOS, **options),
            time=frozen(self.clock),
        )
        self.agent._parts.joining.join()  # noqa: SLF001 - what its loop does
        self.networking = self.agent._parts.networking  # noqa: SLF001 - what its loop looks with

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()
        self._agents.close()

    def names(self) -> list[str]:
        """Name the networks that were made and are there."""
        return [one.name for one in self.docker.made if one.is_made_by_dni]

    def remove_by_hand(self, name: str) -> None:
        """Do what `docker network rm` does."""
        self.docker.remove_network(next(one.id for one in self.docker.made if one.name == name))

    def create_by_hand(self, overlay: str, identity: str) -> None:
        """Do what `docker network create` does, under some other name."""
        self._record(overlay, identity, {})
        self.docker.made.append(ListedNetwork(id=identity, name="by-hand", driver="dni"))

    def _created(self, body: dict[str, Any]) -> None:
        self._record(body["IPAM"]["Options"]["overlay"], self.docker.made[-1].id, body["Options"])

    def _record(self, overlay: str, identity: str, given: dict[str, str]) -> None:
        gateway = ip_interface("10.64.0.129/25")
        assert gateway.version == 4
        with self.store.write() as tx:
            network = NetworkRecord(
                id=identity,
                overlay=overlay,
                options=parse_options(given),
                mtu=1450,
                gateway=gateway,
                since=self.clock.now,
            )
            pools.use_overlay(tx, overlay, 4, None, self.clock.now)
            networks.add(tx, network)
            networked.note(tx, overlay, made=network.options.is_agents)

    def _removed(self, identity: str) -> None:
        with self.store.write() as tx:
            forget_network(tx, identity, self.clock.now)


@pytest.fixture
def host() -> Iterator[Host]:
    with fast_directory() as directory:
        host = Host(Path(directory))
        yield host
        host.close()


def test_a_created_overlay_has_its_docker_network_when_the_command_returns(host: Host) -> None:
    report = host.agent.define_overlay(DEV)
    assert report.network is not None
    assert (report.network.name, report.create, report.hindrance) == ("dev", None, None)
    assert host.names() == ["dev"]


def test_an_overlay_that_came_from_elsewhere_gets_it_at_the_next_look(host: Host) -> None:
    open_registry("local", Path(host.store.path).parent).define(DEV)
    host.agent._parts.joining.join()  # noqa: SLF001 - what its loop does
    assert host.networking.look() == []
    assert host.names() == ["dev"]


def test_a_network_that_the_agent_makes_is_no_use_of_its_overlay_at_any_moment(host: Host) -> None:
    seen: list[set[str]] = []
    created = host.docker.when_created

    def look(body: dict[str, Any]) -> None:
        created(body)
        seen.append(uses(host))

    host.docker.when_created = look
    assert host.agent.define_overlay(DEV).network is not None
    assert (seen, uses(host)) == ([set()], set())


def test_it_is_none_either_before_the_plugin_has_noted_it(host: Host) -> None:
    host.agent.define_overlay(DEV)
    with host.store.write() as tx:
        networked.forget(tx, "dev")
    assert uses(host) == set()


def test_the_default_overlay_of_a_host_alone_is_left_to_its_user(host: Host) -> None:
    host.networking.look()
    assert host.names() == []
    assert host.agent.define_overlay(DCOS).create is not None


@pytest.mark.parametrize(
    ("overlay", "choice", "registry", "wanted"),
    [
        ("dcos", "auto", "local", False),
        ("dev", "auto", "local", True),
        ("dcos", "auto", "zk://10.0.0.1:2181/dni", True),
        ("dev", "auto", "zk://10.0.0.1:2181/dni", True),
        ("dcos", True, "local", True),
        ("dev", False, "zk://10.0.0.1:2181/dni", False),
    ],
)
def test_the_setting_says_which_networks_are_made(overlay: str, choice: Any, registry: str, wanted: bool) -> None:  # noqa: FBT001
    assert is_wanted(overlay, choice, "dcos", registry) == wanted


def test_with_create_networks_true_the_default_overlay_has_one_as_soon_as_docker_answers(host: Host) -> None:
    host.docker.away = "dockerd does not answer"
    host.start(create_networks=True)
    with pytest.raises(Unavailable):
        host.networking.look()
    host.docker.away = None
    assert host.networking.look() == []
    assert host.names() == ["dcos"]


def test_with_create_networks_false_the_command_is_shown_instead(host: Host) -> None:
    host.start(create_networks=False)
    report = host.agent.define_overlay(DEV)
    assert report.create == "docker network create -d dni --ipam-driver dni --ipam-opt overlay=dev dev"
    host.networking.look()
    assert host.names() == []


def test_what_a_user_removes_is_not_made_again(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.remove_by_hand("dev")
    host.networking.look()
    host.start()
    host.networking.look()
    assert host.names() == []


def test_what_a_user_made_and_removed_is_not_followed_by_one_of_the_agents(host: Host) -> None:
    host.agent._parts.joining.define(DEV)  # noqa: SLF001 - without its network
    host.create_by_hand("dev", "e" * 64)
    host.networking.look()
    with host.store.write() as tx:
        forget_network(tx, "e" * 64, host.clock.now)
        pools.clear_uses(tx, "dev")
    host.clock.pass_by(3600)
    host.networking.look()
    assert host.names() == []


def test_creating_the_overlay_once_more_makes_it_again(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.remove_by_hand("dev")
    assert host.agent.define_overlay(DEV).network is not None
    assert host.names() == ["dev"]


def test_what_a_prune_took_along_is_made_again(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.remove_by_hand("dev")
    host.networking.heed(DockerEvent("network", "destroy", "dev"))
    host.networking.heed(DockerEvent("network", "prune"))
    host.networking.look()
    assert host.names() == ["dev"]


def test_a_prune_brings_nothing_back_that_was_removed_before(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.remove_by_hand("dev")
    host.networking.heed(DockerEvent("network", "destroy", "dev"))
    host.clock.pass_by(PRUNE_SECONDS + 1)
    host.networking.heed(DockerEvent("network", "destroy", "other"))
    host.networking.heed(DockerEvent("network", "prune"))
    host.networking.look()
    assert host.names() == []


def test_a_network_of_any_name_will_do_and_is_not_followed_by_another(host: Host) -> None:
    with host.networking.sparing("dev"):
        host.agent._parts.joining.define(DEV)  # noqa: SLF001 - as if another host had
        host.create_by_hand("dev", "e" * 64)
    host.networking.look()
    host._removed("e" * 64)  # noqa: SLF001 - what `docker network rm` does
    host.networking.look()
    assert host.names() == []


def test_an_overlay_can_be_created_without(host: Host) -> None:
    report = host.agent.define_without_network(DEV)
    host.networking.look()
    assert (report.network, host.names()) == (None, [])
    assert report.create is not None


def test_an_overlay_whose_network_is_being_created_is_left_alone(host: Host) -> None:
    host.agent.try_overlay(DEV)
    host.networking.look()
    assert host.names() == []
    with host.store.write() as tx:
        pools.settle(tx, "dev")
        pools.use_overlay(tx, "dev", 4, None, host.clock.now)
    host.networking.look()
    assert host.names() == []


@pytest.mark.parametrize(("driver", "words"), [("bridge", "has driver 'bridge'"), ("dni", "is not on it")])
def test_a_network_of_that_name_is_reported_and_never_taken_over(host: Host, driver: str, words: str) -> None:
    host.docker.networks = (DockerNetwork(id="b" * 64, name="dev", driver=driver, ipam_driver="default"),)
    report = host.agent.define_overlay(DEV)
    assert report.hindrance is not None
    assert words in report.hindrance
    assert "docker network rm dev" in report.hindrance
    assert host.networking.look() == [report.hindrance]
    host.docker.networks = ()
    assert host.networking.look() == [report.hindrance], "Docker is not asked at every look"
    host.clock.pass_by(RETRY_SECONDS)
    assert host.networking.look() == []
    assert host.names() == ["dev"]


def test_what_docker_says_against_it_is_a_problem_until_it_is_made(host: Host) -> None:
    host.docker.refusal = "this host speaks no IPv6"
    report = host.agent.define_overlay(DUAL)
    assert report.hindrance == "overlay 'dual' has no Docker network: this host speaks no IPv6"
    assert host.networking.look() == [report.hindrance]
    host.create_by_hand("dual", "e" * 64)
    assert host.networking.look() == []


def test_while_docker_is_away_the_overlay_is_created_all_the_same(host: Host) -> None:
    host.docker.away = "dockerd does not answer"
    report = host.agent.define_overlay(DEV)
    assert report.hindrance == "dockerd does not answer"
    host.docker.away = None
    host.networking.look()
    assert host.names() == ["dev"]


def test_removing_the_overlay_removes_the_network_that_was_made_of_it(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.agent.remove_overlay("dev")
    assert (host.names(), [one.name for one in host.agent.overlays()]) == ([], ["dcos"])
    host.agent.define_overlay(DEV)
    assert host.names() == ["dev"], "a new overlay of that name is a new one"


def uses(host: Host) -> set[str]:
    """Answer the overlays that count as used on a host."""
    with host.store.read() as tx:
        return used_overlays(tx, host.clock.now)


def kill_while_made(host: Host) -> None:
    """Have an agent make a network and die of it, before it can note that; then another one."""
    host.agent.define_without_network(DEV)
    created = host.docker.when_created

    def killed(body: dict[str, Any]) -> None:
        created(body)
        raise KeyboardInterrupt

    host.docker.when_created = killed
    with pytest.raises(KeyboardInterrupt):
        host.networking.make("dev")
    host.start()


def test_a_network_that_was_being_made_when_the_agent_was_killed_is_the_agents(host: Host) -> None:
    kill_while_made(host)
    assert uses(host) == set()
    host.agent.remove_overlay("dev")
    assert host.names() == []


def test_one_that_docker_does_not_list_yet_only_delays_the_removal(host: Host) -> None:
    kill_while_made(host)
    (listed,) = host.docker.made
    host.docker.made.clear()
    with pytest.raises(Unavailable, match="does not list the network"):
        host.networking.withdraw("dev")
    host.docker.made.append(listed)
    assert host.networking.withdraw("dev")


def test_a_network_that_passes_for_the_agents_by_its_option_alone_is_left_to_its_user(host: Host) -> None:
    host.agent.define_without_network(DEV)
    host._record("dev", "e" * 64, dict([MADE_BY]))  # noqa: SLF001 - what `docker network create -o` does
    host.docker.made.append(ListedNetwork(id="e" * 64, name="mine", driver="dni"))
    with pytest.raises(InUse, match="remove that first"):
        host.agent.remove_overlay("dev")
    assert [one.name for one in host.docker.made] == ["mine"]


def test_one_that_passes_for_it_by_its_label_alone_is_left_too(host: Host) -> None:
    host.agent.define_without_network(DEV)
    host._record("dev", "e" * 64, {})  # noqa: SLF001 - what `docker network create --label` does
    host.docker.made.append(ListedNetwork(id="e" * 64, name="mine", driver="dni", labels=dict([MADE_BY])))
    host.networking.look()
    with pytest.raises(InUse, match="remove that first"):
        host.agent.remove_overlay("dev")
    assert [one.name for one in host.docker.made] == ["mine"]


def test_a_network_of_the_users_own_keeps_the_overlay(host: Host) -> None:
    host.agent.define_without_network(DEV)
    host.create_by_hand("dev", "e" * 64)
    with pytest.raises(InUse, match="remove that first"):
        host.agent.remove_overlay("dev")


def test_one_that_the_user_made_instead_of_ours_keeps_the_overlay(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.remove_by_hand("dev")
    host.create_by_hand("dev", "e" * 64)
    with pytest.raises(InUse, match="remove that first"):
        host.agent.remove_overlay("dev")


def test_a_used_network_keeps_the_overlay_and_stays(host: Host) -> None:
    host.agent.define_overlay(DEV)
    with host.store.write() as tx:
        addresses.hold(tx, "dev/v4", ip_address("10.64.0.130"), AddressState.CLAIMED, host.clock.now)
    with pytest.raises(InUse, match=r"10\.64\.0\.130 of overlay 'dev' is in use"):
        host.agent.remove_overlay("dev")
    assert host.names() == ["dev"]


def test_an_overlay_can_be_removed_at_once_after_its_network_was_made(host: Host) -> None:
    host.agent.define_overlay(DEV)
    with host.store.write() as tx:
        pools.use_overlay(tx, "dev", 4, None, host.clock.now)
    host.agent.remove_overlay("dev")
    assert host.names() == []


def test_a_network_that_docker_does_not_let_go_keeps_the_overlay(host: Host) -> None:
    host.agent.define_overlay(DEV)
    host.docker.refusal = "network dev has active endpoints"
    with pytest.raises(InUse, match="overlay 'dev' keeps its Docker network 'dev': network dev has active endpoints"):
        host.agent.remove_overlay("dev")
    assert [one.name for one in host.agent.overlays()] == ["dcos", "dev"]


def test_an_overlay_that_stays_after_all_keeps_its_network(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.agent.define_overlay(DEV)

    def withdraw(_: str) -> None:
        raise InUse("it is needed")

    with monkeypatch.context() as patch:
        patch.setattr(host.agent._parts.removal, "_withdraw_cni", withdraw)  # noqa: SLF001 - after the network has gone
        with pytest.raises(InUse, match="it is needed"):
            host.agent.remove_overlay("dev")
    host.networking.look()
    assert host.names() == ["dev"]


def test_the_default_overlay_keeps_its_network_when_it_may_not_go(host: Host) -> None:
    host.start(create_networks=True)
    host.networking.look()
    with pytest.raises(Refused, match="is the default overlay"):
        host.agent.remove_overlay("dcos")
    assert host.names() == ["dcos"]


@pytest.mark.parametrize(
    ("overlay", "version", "subnets", "ipv4", "ipv6"),
    [
        (DEV, "20.10.24", ["10.64.0.0/16"], None, False),
        (DUAL, "20.10.24", ["10.70.0.0/16", "fd01:b::/64"], None, True),
        (DUAL, "28.5.2", ["10.70.0.0/16", "fd01:b::/64"], None, True),
        (SIX, "26.1.5", ["fd06::/64"], None, True),
        (SIX, "28.5.2", ["fd06::/64"], False, True),
    ],
)
def test_a_network_speaks_what_its_overlay_speaks_and_older_engines_add_ipv4(
    overlay: Overlay,
    version: str,
    subnets: list[str],
    ipv4: bool | None,  # noqa: FBT001
    ipv6: bool,  # noqa: FBT001
) -> None:
    body = creation(overlay, "dni", version)
    assert [pool["Subnet"] for pool in body["IPAM"]["Config"]] == subnets
    assert (body.get("EnableIPv4"), body["EnableIPv6"]) == (ipv4, ipv6)


def test_a_network_has_the_name_of_its_overlay_both_drivers_as_docker_knows_them_and_says_who_made_it() -> None:
    body = creation(DEV, "dni:latest", "28.5.2")
    assert (body["Name"], body["Driver"], body["IPAM"]["Driver"]) == ("dev", "dni:latest", "dni:latest")
    assert (body["IPAM"]["Options"], body["Options"], body["Labels"]) == (
        {"overlay": "dev"},
        dict([MADE_BY]),
        dict([MADE_BY]),
    )
