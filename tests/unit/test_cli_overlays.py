# SPDX-License-Identifier: Apache-2.0
"""What people read of overlays, where they make, look at, keep or remove one."""

from __future__ import annotations

import json

from tests.unit.canned_agent import NEW, OVERLAY, STATUS, Dni, _CannedAgent, agent, dni

__all__ = ["agent", "dni"]


def test_a_new_overlay_is_shown_with_the_command_that_makes_its_network(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/overlays"] = (200, NEW)
    ran = dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--prefix", "26", "--backend", "direct")
    wanted = {"name": "dev", "subnet": "10.64.0.0/16", "prefix": 26, "backend": "direct"}
    assert agent.asked == [("POST /v1/overlays", wanted)]
    assert f"Its Docker network on this host: {NEW['create']}" in ran.out


def test_a_new_overlay_is_shown_with_the_network_that_was_made_of_it(dni: Dni, agent: _CannedAgent) -> None:
    made = {**NEW, "network": {"id": "d" * 64, "name": "dev"}, "create": None}
    agent.answers["POST /v1/overlays"] = (200, made)
    ran = dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16")
    assert ran.out.endswith("\n\nIts Docker network is there: docker run --net dev …\n")


def test_why_no_network_was_made_is_shown(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/overlays"] = (200, {**NEW, "hindrance": "Docker says no"})
    ran = dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--no-network")
    assert agent.asked == [("POST /v1/overlays", {"name": "dev", "subnet": "10.64.0.0/16", "network": False})]
    assert f"problem: Docker says no\nIts Docker network on this host: {NEW['create']}" in ran.out
    assert ran.out.endswith("\nOr take the overlay back, on every host: dni overlay rm dev\n")


SIX = {
    **OVERLAY,
    "name": "dcos6",
    "subnet": None,
    "prefix": None,
    "agent_subnets": ["fd01:b::/80"],
    "docker_halves": ["fd01:b::8000:0:0/81"],
    "local_subnet": "198.18.0.0/20",
}


def test_the_ipv4_of_an_ipv6_only_overlay_is_shown_as_this_hosts_own(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/overlays"] = (200, [SIX])
    assert dni("overlay", "ls").out == (
        "OVERLAY  SUBNET           PER AGENT  DOCKER HALF          SIZE  USED  RESERVED  FREE  NETWORK\n"
        "dcos6    fd01:b::/64      /80        fd01:b::8000:0:0/81     -     -         -     -  dcos\n"
        "dcos6    this host's own  -          198.18.0.0/20         125     3         1   121  dcos\n"
    )


def test_without_overlays_the_command_that_makes_one_is_shown(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/overlays"] = (200, [])
    assert "dni overlay create NAME" in dni("overlay", "ls").out


def test_where_the_registry_is_away_status_does_not_say_to_make_an_overlay(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/status"] = (200, {**STATUS, "overlays": [], "problems": ["the registry does not answer"]})
    told = dni("status").out
    assert "problem: the registry does not answer" in told
    assert "dni overlay create" not in told


def test_a_removed_overlay_is_named(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["DELETE /v1/overlays/dev"] = (200, {})
    agent.answers["DELETE /v1/overlays/a%3Fb"] = (200, {})
    assert dni("overlay", "rm", "dev").out == "dev\n"
    assert json.loads(dni("overlay", "rm", "a?b", "--json").out) == {"removed": "a?b"}


def test_an_overlay_that_is_kept_is_named(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/overlays/dev/keep"] = (200, {})
    assert dni("overlay", "keep", "dev").out == "dev\n"
    assert json.loads(dni("overlay", "keep", "dev", "--json").out) == {"kept": "dev"}


def test_an_overlay_that_is_leaving_is_shown_as_such_with_how_to_call_that_off(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/overlays"] = (200, [{**OVERLAY, "name": "dev", "leaving": "10.0.0.1"}])
    assert dni("overlay", "ls").out.endswith(
        "\nOverlay dev is being removed, as agent 10.0.0.1 was told to; to call that off: dni overlay keep dev\n"
    )
