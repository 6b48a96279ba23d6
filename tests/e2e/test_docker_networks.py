# SPDX-License-Identifier: Apache-2.0
"""The Docker networks that dni makes: there when the command returns, and never against their user's will."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import address, place, reaches, start
from tests.lab import Host

DEV = ("overlay", "create", "dev", "--subnet", "10.64.0.0/16")
KNOWS_IPV6_ALONE = float(ENGINE) >= 28


def networks(host: Host) -> list[str]:
    """Answer the names of the networks that are not Docker's own."""
    names = host.docker("network", "ls", "--format", "{{.Name}}").split()
    return [name for name in names if name not in host_state.OURS]


def inspected(host: Host, network: str) -> dict[str, Any]:
    """Answer a network as Docker has it."""
    (found,) = json.loads(host.docker("network", "inspect", network))
    return dict(found)


def test_an_overlay_comes_with_its_network_and_goes_with_it(host: Host) -> None:
    assert "docker run --net dev" in host.dni(*DEV)
    assert start(host, "one", "--ip", "10.64.0.200", net="dev") == "10.64.0.200"
    assert reaches(host, "one", address(host, "one", "dev"))
    assert inspected(host, "dev")["Labels"] == {"dni.made-by": "dni"}
    refused = host.try_dni("overlay", "rm", "dev")
    assert (refused.returncode, "10.64.0.200" in refused.stderr) == (1, True)
    host.docker("rm", "-f", "one")
    host_state.eventually(lambda: host_state.held(host) == [] or None, 10, "the address is still held")
    host.dni("overlay", "rm", "dev")
    assert networks(host) == []
    assert [one["name"] for one in host_state.overlays(host)] == ["dcos"]


def test_what_its_user_removes_stays_away_and_what_a_prune_takes_comes_back(host: Host) -> None:
    host.dni(*DEV)
    host.docker("network", "rm", "dev")
    host.stop_dni()
    host.start_dni(**host_state.SETTINGS)
    host_state.pass_collector(host)
    assert networks(host) == []
    host.dni(*DEV)
    assert networks(host) == ["dev"]
    assert "dev" in host.docker("network", "prune", "-f")
    host_state.eventually(lambda: networks(host) == ["dev"], 10, "the network does not come back")


def test_both_families_and_ipv6_alone(host: Host) -> None:
    host.dni("overlay", "create", "both", "--subnet", "10.70.0.0/16", "--subnet6", "fd70::/64")
    host.dni("overlay", "create", "six", "--subnet6", "fd06::/64")
    start(host, "one", net="both")
    assert place(host, "one", "both")["GlobalIPv6Address"].startswith("fd70::")
    there = start(host, "two", net="six")
    assert place(host, "two", "six")["GlobalIPv6Address"].startswith("fd06::")
    assert there == ("" if KNOWS_IPV6_ALONE else "198.18.0.2")


def test_a_network_of_somebody_else_is_told_of_and_left_alone(host: Host) -> None:
    host.docker("network", "create", "dev")
    told = host.dni(*DEV)
    assert "problem: overlay 'dev' has no Docker network: the Docker network 'dev' has driver 'bridge'" in told
    assert inspected(host, "dev")["Driver"] == "bridge"
    host_state.eventually(lambda: "has driver 'bridge'" in str(host_state.problems(host)), 30, "it is no problem")
    host.docker("network", "rm", "dev")
    host_state.eventually(lambda: networks(host) == ["dev"], 30, "the network is not made")
    assert inspected(host, "dev")["Driver"] == "dni"


def test_with_create_networks_the_default_overlay_has_one_as_soon_as_docker_answers(fresh_host: Host) -> None:
    host = fresh_host
    host.stop_dni()
    host.stop_dockerd()
    host.start_dni(docker_create_networks=True, **host_state.SETTINGS)
    host.start_dockerd()
    host_state.eventually(lambda: networks(host) == ["dcos"], 30, "the network is not made")
    assert start(host, "one").startswith("9.0.0.")
    host.docker("rm", "-f", "one")
    host.docker("network", "rm", "dcos")
    host.stop_dni()
