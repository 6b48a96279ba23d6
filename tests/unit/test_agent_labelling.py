# SPDX-License-Identifier: Apache-2.0
"""The agent gives running containers the limits and groups that their Docker labels say."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from dni_driver.agent.docker_wire import Container, Network, convert, to_view
from dni_driver.core.errors import KernelError, NotMended, Refused
from dni_driver.core.options.endpoint import EndpointOptions, parse_endpoint_options
from dni_driver.core.options.labels import options_of
from dni_driver.store import endpoints
from tests.fakes import DCOS
from tests.scratch import fast_directory
from tests.unit import docker_api
from tests.unit.agents import WEB
from tests.unit.world import World

MBIT = 1_000_000


@pytest.fixture
def world() -> Iterator[World]:
    """Give a host with containers web and db."""
    with fast_directory() as directory:
        made = World(Path(directory))
        made.agent.define_overlay(DCOS)
        made.run_containers()
        yield made
        made.store.close()


def label(world: World, **labels: str) -> None:
    """Have container web carry labels, `_` standing for the dot after `dni`."""
    (network,) = world.docker.networks
    web, db = network.endpoints
    told = {key.replace("_", ".", 1): value for key, value in labels.items()}
    web = msgspec.structs.replace(web, labels=told)
    world.docker.networks = (msgspec.structs.replace(network, endpoints=(web, db)),)


def limits(world: World) -> dict[str, tuple[int | None, int | None]]:
    """Answer egress and ingress by address."""
    return {row.address: (row.egress, row.ingress) for row in world.agent.addresses("dcos", with_free=False)}


def test_a_running_container_has_the_limits_of_its_labels_and_the_others_have_none(world: World) -> None:
    label(world, dni_egress="10mbit", dni_ingress="5mbit")
    assert world.agent.look() == []
    assert limits(world) == {"9.0.0.130": (10 * MBIT, 5 * MBIT), "9.0.0.131": (None, None)}
    assert {(link.limits.egress, link.limits.ingress) for link in world.kernel.links.values()} == {
        (10 * MBIT, 5 * MBIT),
        (None, None),
    }


def groups(world: World) -> dict[str, tuple[str, ...]]:
    """Answer groups by address."""
    return {row.address: row.groups for row in world.agent.addresses("dcos", with_free=False)}


def test_the_groups_of_a_label_are_recorded_in_their_order_and_cost_the_kernel_nothing(world: World) -> None:
    label(world, dni_groups="web, public,web")
    world.kernel.reconciled.clear()
    assert world.agent.look() == []
    assert groups(world) == {"9.0.0.130": ("web", "public"), "9.0.0.131": ()}
    assert not world.kernel.reconciled.is_set()


def test_groups_of_a_driver_opt_hold_before_those_of_a_label(world: World) -> None:
    with world.store.write() as tx:
        endpoints.set_options(tx, WEB, parse_endpoint_options({"dni.groups": "own"}))
    label(world, dni_groups="other", dni_egress="10mbit")
    assert world.agent.look() == []
    assert groups(world)["9.0.0.130"] == ("own",)
    assert limits(world)["9.0.0.130"] == (10 * MBIT, None)


def test_what_a_person_has_changed_since_is_left(world: World) -> None:
    label(world, dni_egress="10mbit")
    world.agent.look()
    world.agent.limit(ip_address("9.0.0.130"), {"egress": 2 * MBIT})
    world.agent.look()
    assert limits(world)["9.0.0.130"] == (2 * MBIT, None)


def test_a_look_at_what_is_done_already_writes_nothing(world: World) -> None:
    label(world, dni_egress="10mbit")
    world.agent.look()
    before = world.store.version()
    world.agent.look()
    assert world.store.version() == before


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"dni.address": "9.0.0.200"}, "label dni.address comes too late, .*: use --ip or a driver-opt"),
        ({"dni.group": "web"}, "label 'dni.group' is not known to dni: use dni.egress, dni.ingress, dni.groups"),
        ({"dni.groups": "web,"}, "'' is no name of a group: use 1 to 63 letters, digits"),
        ({"dni.groups": "a b"}, "'a b' is no name of a group"),
        ({"dni.egress": "fast"}, "egress=.*fast"),
    ],
)
def test_a_label_that_says_nothing_is_a_problem_told_with_the_containers_name(
    world: World, labels: dict[str, str], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        options_of(labels)
    label(world, **{key.replace(".", "_"): value for key, value in labels.items()})
    (problem,) = world.agent.look()
    assert problem.startswith("container web: ")
    assert limits(world)["9.0.0.130"] == (None, None)


def test_labels_of_others_are_nobodys_business() -> None:
    assert options_of({"MESOS_TASK_ID": "x", "dnix.egress": "1mbit"}) == EndpointOptions()


def test_limits_that_the_kernel_cannot_keep_are_a_problem_and_tried_again(world: World) -> None:
    label(world, dni_egress="10mbit", dni_groups="web")
    world.kernel.refusals.append(KernelError("egress=10mbit needs ifb in this host's kernel"))
    assert world.agent.look() == [
        "the limits of labels cannot be kept: egress=10mbit needs ifb in this host's kernel"
    ]
    assert limits(world)["9.0.0.130"] == (None, None)
    assert groups(world)["9.0.0.130"] == ("web",)
    assert world.agent.look() == []
    assert limits(world)["9.0.0.130"] == (10 * MBIT, None)


def meanwhile(world: World, **changed: object) -> None:
    """Have the kernel refuse, and somebody change the options of container web just before."""

    def change(_: str) -> None:
        world.kernel.crash_point = lambda _: None
        with world.store.write() as tx:
            known = endpoints.find(tx, WEB)
            endpoints.set_options(tx, WEB, msgspec.structs.replace(known.options, **changed))

    world.kernel.crash_point = change
    world.kernel.refusals.append(KernelError("no ifb"))


def test_limits_of_labels_that_are_taken_back_take_nothing_along_that_was_said_meanwhile(world: World) -> None:
    label(world, dni_egress="10mbit", dni_ingress="10mbit")
    meanwhile(world, ingress=2 * MBIT, groups=("web",))
    assert world.agent.look() == ["the limits of labels cannot be kept: no ifb"]
    assert (limits(world)["9.0.0.130"], groups(world)["9.0.0.130"]) == ((None, 2 * MBIT), ("web",))


def test_limits_that_a_person_cannot_have_take_nothing_along_that_was_said_meanwhile(world: World) -> None:
    meanwhile(world, ingress=2 * MBIT, groups=("web",))
    with pytest.raises(KernelError, match="no ifb"):
        world.agent.limit(ip_address("9.0.0.130"), {"egress": MBIT, "ingress": MBIT})
    assert (limits(world)["9.0.0.130"], groups(world)["9.0.0.130"]) == ((None, 2 * MBIT), ("web",))


def test_what_ails_another_overlay_keeps_no_label_away(world: World) -> None:
    label(world, dni_egress="10mbit")
    world.kernel.refusals.append(NotMended([("d-other", "bridge d-other: Operation not permitted")]))
    assert world.agent.look() == []
    assert limits(world)["9.0.0.130"] == (10 * MBIT, None)
    label(world, dni_ingress="5mbit")
    world.kernel.refusals.append(NotMended([("d-dcos", "bridge d-dcos: Operation not permitted")]))
    (problem,) = world.agent.look()
    assert problem == "the limits of labels cannot be kept: bridge d-dcos: Operation not permitted"
    assert limits(world)["9.0.0.130"] == (10 * MBIT, None)


def test_docker_tells_labels_beside_a_containers_networks_and_only_those_of_dni_are_taken() -> None:
    network = docker_api.network("dcos", docker_api.DCOS, "dni", "dni")
    told = docker_api.container("web", docker_api.DCOS, docker_api.WEB, "9.0.0.130")
    for labels, taken in ((None, {}), ({"dni.egress": "1mbit", "role": "web"}, {"dni.egress": "1mbit"})):
        containers = [convert({**told, "Labels": labels}, Container)]
        (endpoint,) = to_view(convert(network, Network), containers).endpoints
        assert endpoint.labels == taken
