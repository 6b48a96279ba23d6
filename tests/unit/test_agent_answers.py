# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: what it answers and does when people ask."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, ip_address, ip_network

import pytest

from dni_driver import __version__
from dni_driver.core.errors import KernelError, NotFound, NotMended, Refused
from dni_driver.core.invariants.collection import Graces
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.options.bandwidth import UNLIMITED, Limits
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import define
from dni_driver.core.records import AddressState, NetworkRecord
from dni_driver.core.reports import DockerReport, NetworkReport
from dni_driver.store import addresses, local_subnets, networks, pools
from dni_driver.store.forget import forget_endpoint
from tests.unit.agents import DB, NETWORK, claim
from tests.unit.world import DEV, World, new, world

__all__ = ["new", "world"]


def test_the_status_of_a_host_that_has_not_joined_says_so(new: World) -> None:
    status = new.agent.status()
    assert (status.version, status.agent, status.registry, status.overlays) == (__version__, None, "local", [])
    assert status.docker == DockerReport(reachable=False, error="not asked yet")
    assert status.store == str(new.store.path)


def test_overlays_are_reported_with_this_agents_part_and_how_full_it_is(world: World) -> None:
    world.run_containers()
    claim(world.store, "9.0.0.200", world.clock.now, AddressState.RESERVED)
    world.agent.define_overlay(DEV)
    dcos, dev = world.agent.overlays()
    assert (dcos.agent_subnets, dcos.mesos_halves, dcos.docker_halves) == (
        ["9.0.0.0/24"],
        ["9.0.0.0/25"],
        ["9.0.0.128/25"],
    )
    assert dcos.network == NetworkReport(id=NETWORK, name=NETWORK[:12])
    assert dcos.usage.v4 is not None
    assert (dcos.usage.v4.size, dcos.usage.v4.used, dcos.usage.v4.reserved, dcos.usage.v4.free) == (125, 2, 1, 122)
    assert dcos.usage.v6 is None
    assert dev.network is None
    assert dev.usage.v6 is not None
    assert dev.usage.v6.free == 2**47 - 2


@pytest.mark.parametrize("define_it", ["define_overlay", "define_without_network", "try_overlay"])
def test_an_overlay_on_what_the_host_reaches_directly_is_refused_and_defined_nowhere(
    world: World, define_it: str
) -> None:
    world.kernel.foreign["eth0"] = ip_network("192.0.2.0/24")
    lan = define("lan", [ip_network("192.0.0.0/16")])
    with pytest.raises(Refused, match=r"'lan' overlaps what this host reaches directly \(192\.0\.2\.0/24 on eth0\)"):
        getattr(world.agent, define_it)(lan)
    assert "lan" not in {overlay.name for overlay in world.agent.overlays()}
    world.agent.define_overlay(DEV)
    world.kernel.foreign["eth1"] = ip_network("10.64.0.0/16")
    world.agent.define_overlay(DEV)


def test_an_ipv6_only_overlay_is_reported_with_the_ipv4_it_has_here(world: World) -> None:
    world.agent.define_overlay(define("six", [ip_network("fd06::/64")]))
    local = LocalSubnet(overlay="six", subnet=IPv4Network("198.18.0.0/20"))
    gateway, gateway6 = IPv4Interface("198.18.0.1/20"), IPv6Interface("fd06::8000:0:1/81")
    network = NetworkRecord(
        id="6" * 64, overlay="six", options=NetworkOptions(), mtu=1450, gateway=gateway, gateway6=gateway6
    )
    with world.store.write() as tx:
        local_subnets.put(tx, local)
    assert world.agent.overlays()[-1].local_subnet is None, "nobody uses it yet"
    with world.store.write() as tx:
        pools.use_overlay(tx, "six", 4, None, world.clock.now)
        networks.add(tx, network)
        addresses.hold(tx, "six/v4", ip_address("198.18.0.2"), AddressState.CLAIMED, world.clock.now)
    six = world.agent.overlays()[-1]
    assert (six.local_subnet, six.docker_halves) == ("198.18.0.0/20", ["fd06::8000:0:0/81"])
    assert six.usage.v4 is not None
    assert (six.usage.v4.size, six.usage.v4.used) == (4093, 1)


def test_addresses_are_listed_by_overlay_and_free_ones_only_when_asked_for(world: World) -> None:
    world.run_containers()
    world.agent.define_overlay(DEV)
    with world.store.write() as tx:
        forget_endpoint(tx, DB, world.clock.now)
    assert [one.address for one in world.agent.addresses(None, with_free=False)] == ["9.0.0.130"]
    assert [one.address for one in world.agent.addresses("dcos", with_free=True)] == ["9.0.0.130", "9.0.0.131"]
    assert world.agent.addresses("dev", with_free=True) == []
    with pytest.raises(NotFound, match="no overlay 'none'"):
        world.agent.addresses("none", with_free=False)


def test_the_limits_of_a_running_container_are_changed_one_by_one(world: World) -> None:
    world.run_containers()
    web = ip_address("9.0.0.130")
    assert world.agent.limit(web, {"egress": 10_000_000}).egress == 10_000_000
    changed = world.agent.limit(web, {"ingress": 5_000_000})
    assert (changed.egress, changed.ingress) == (10_000_000, 5_000_000)
    assert Limits(egress=10_000_000, ingress=5_000_000) in {link.limits for link in world.kernel.links.values()}
    assert world.agent.limit(web, {"egress": UNLIMITED}).egress is None


def test_a_limit_that_the_kernel_cannot_keep_is_not_recorded(world: World) -> None:
    world.run_containers()
    world.kernel.refusals.append(KernelError("egress=10mbit needs ifb in this host's kernel"))
    with pytest.raises(KernelError, match="needs ifb"):
        world.agent.limit(ip_address("9.0.0.130"), {"egress": 10_000_000})
    assert {row.egress for row in world.agent.addresses("dcos", with_free=False)} == {None}


def test_a_limit_is_kept_although_another_overlays_bridge_cannot_be_mended(world: World) -> None:
    world.run_containers()
    world.kernel.refusals.append(NotMended([("d-other", "bridge d-other: Operation not permitted")]))
    assert world.agent.limit(ip_address("9.0.0.130"), {"egress": 10_000_000}).egress == 10_000_000


def test_nobody_can_be_limited_at_an_address_that_no_container_has(world: World) -> None:
    with pytest.raises(NotFound, match=r"no container on dni has address 9\.0\.0\.140: `dni address ls`"):
        world.agent.limit(ip_address("9.0.0.140"), {"egress": 10_000_000})


def test_a_removed_overlay_is_no_longer_reported(world: World) -> None:
    world.agent.define_overlay(DEV)
    world.agent.remove_overlay("dev")
    assert [overlay.name for overlay in world.agent.overlays()] == ["dcos"]


def test_a_new_overlay_comes_with_the_command_that_makes_its_network(world: World) -> None:
    four, six = define("four", [ip_network("10.66.0.0/16")]), define("six", [ip_network("fd06::/64")])
    assert world.agent.define_overlay(four).create == (
        "docker network create -d dni --ipam-driver dni --ipam-opt overlay=four four"
    )
    assert world.agent.define_overlay(six).create == (
        "docker network create -d dni --ipam-driver dni --ipv6 --ipam-opt overlay=six six"
    )


def test_what_is_counted_for_monitoring_is_what_happened(world: World) -> None:
    world.run_containers()
    world.agent.look()
    figures = world.agent.figures()
    assert (figures.version, figures.docker_reachable, figures.problems) == (__version__, True, 0)
    assert figures.endpoints == {"dcos": 2}
    docker = next(load for load in figures.loads if load.half == "docker")
    assert (docker.overlay, docker.size, docker.used, docker.reserved) == ("dcos", 125, 2, 0)
    assert figures.kernel_changes > 0
    assert (figures.candidates, figures.reclaimed) == (0, 0)
    assert figures.cluster is not None
    assert [(one.overlay, one.here, one.count) for one in figures.cluster.leases] == [("dcos", True, 1)]


def test_what_the_collector_watches_and_frees_is_counted(world: World) -> None:
    world.run_containers()
    claim(world.store, "9.0.0.200", world.clock.now)
    world.agent.look()
    assert (world.agent.figures().candidates, world.agent.figures().reclaimed) == (1, 0)
    world.clock.pass_by(Graces().claim)
    world.agent.look()
    world.agent.look()
    assert (world.agent.figures().candidates, world.agent.figures().reclaimed) == (0, 1)
