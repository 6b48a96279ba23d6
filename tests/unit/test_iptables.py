# SPDX-License-Identifier: Apache-2.0
"""The iptables chain, word for word, and the reading of other people's rules."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dni_driver.core.wanted import Policy
from dni_driver.kernel.firewall.iptables import chain_rules, docker_named, faults, parse, restore_text

EMPTY = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"

DOCKER_20 = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o lan7 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o lan7 -j DOCKER
-A FORWARD -i lan7 ! -o lan7 -j ACCEPT
-A FORWARD -i lan7 -o lan7 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i lan7 ! -o lan7 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o lan7 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
"""

DOCKER_28 = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i lan7 -o lan7 -j DROP
-A DOCKER-BRIDGE -o lan7 -j DOCKER
-A DOCKER-CT -o lan7 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i lan7 -j ACCEPT
"""


def policy(overlay: str, *, internal: bool = False) -> Policy:
    return Policy(
        overlay=overlay,
        bridges=(f"d-{overlay}", f"m-{overlay}"),
        subnets=(ip_network("9.0.0.0/8"),),
        masquerade=True,
        isolated=True,
        internal=internal,
    )


def test_the_chain_opens_overlays_and_leaves_docker_to_docker() -> None:
    assert chain_rules([policy("dcos"), policy("shut", internal=True)], ["docker0"]) == [
        "-A DNI-FORWARD -o d-dcos -j ACCEPT",
        "-A DNI-FORWARD -o m-dcos -j ACCEPT",
        "-A DNI-FORWARD -o d-shut -j ACCEPT",
        "-A DNI-FORWARD -o m-shut -j ACCEPT",
        "-A DNI-FORWARD -o docker0 -j RETURN",
        "-A DNI-FORWARD -i d-dcos -j ACCEPT",
        "-A DNI-FORWARD -i m-dcos -j ACCEPT",
        "-A DNI-FORWARD -i d-shut -j ACCEPT",
        "-A DNI-FORWARD -i m-shut -j ACCEPT",
    ]


@pytest.mark.parametrize("listed", [DOCKER_20, DOCKER_28], ids=["20.10", "28"])
def test_bridges_that_dockers_rules_guard_are_dockers(listed: str) -> None:
    listing = parse(listed)
    assert listing.is_dockers
    assert listing.guarded_bridges == {"lan7"}


def test_a_table_without_docker_guards_nothing() -> None:
    listing = parse(EMPTY + "-A FORWARD -i eth0 -o eth1 -j ACCEPT\n")
    assert not listing.is_dockers
    assert listing.guarded_bridges == set()


def test_dockers_bridges_are_known_by_their_names() -> None:
    links = ["eth0", "docker0", "docker_gwbridge", "br-0123456789ab", "br-lan", "br-0123456789abc", "br-0123456789aX"]
    assert docker_named(links) == ["br-0123456789ab", "docker0", "docker_gwbridge"]


RULES = ["-A DNI-FORWARD -i d-x -o d-x -j ACCEPT", "-A DNI-FORWARD -o d-x -j ACCEPT"]
CHAIN = "-N DNI-FORWARD\n"
JUMP = "-A FORWARD -j DNI-FORWARD\n"
OURS = "\n".join(RULES) + "\n"


def test_what_is_as_wanted_has_no_fault() -> None:
    assert faults(RULES, parse(EMPTY + CHAIN + JUMP + OURS)) == []
    assert faults([], parse(EMPTY)) == []


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        (EMPTY, "chain DNI-FORWARD is missing"),
        (EMPTY + CHAIN + JUMP, "chain DNI-FORWARD has other rules"),
        (EMPTY + CHAIN + JUMP + "\n".join(reversed(RULES)), "chain DNI-FORWARD has other rules"),
        (EMPTY + CHAIN + OURS, "chain DNI-FORWARD is not what FORWARD jumps to once"),
        (EMPTY + CHAIN + JUMP * 2 + OURS, "chain DNI-FORWARD is not what FORWARD jumps to once"),
    ],
)
def test_faults_are_told(listed: str, fault: str) -> None:
    assert faults(RULES, parse(listed)) == [fault]


def test_rules_that_others_put_before_the_jump_stay_there() -> None:
    assert faults(RULES, parse(EMPTY + CHAIN + "-A FORWARD -s 203.0.113.0/24 -j DROP\n" + JUMP + OURS)) == []


USER_JUMP = "-A FORWARD -j DOCKER-USER\n"


@pytest.mark.parametrize("listed", [DOCKER_20, DOCKER_28], ids=["20.10", "28"])
def test_beside_docker_it_is_jumped_to_behind_docker_user_wherever_docker_puts_the_rest(listed: str) -> None:
    behind = listed.replace(USER_JUMP, USER_JUMP + JUMP)
    for right in (behind, listed + JUMP):
        assert faults(RULES, parse(right + CHAIN + OURS)) == []


@pytest.mark.parametrize(
    "jumps",
    [
        USER_JUMP,
        JUMP + USER_JUMP,
        USER_JUMP + JUMP * 2,
        USER_JUMP + JUMP + "-A DOCKER-USER -j DNI-FORWARD\n",
        USER_JUMP + "-A DOCKER-USER -j DNI-FORWARD\n",
        "-A FORWARD -i eth0 -j DOCKER-USER\n" + JUMP + USER_JUMP,
    ],
    ids=["nowhere", "before", "twice", "in DOCKER-USER too", "in DOCKER-USER", "before the second"],
)
def test_what_administrators_decide_in_docker_user_comes_first(jumps: str) -> None:
    listed = DOCKER_20.replace(USER_JUMP, jumps) + CHAIN + OURS
    assert faults(RULES, parse(listed)) == ["chain DNI-FORWARD is not what FORWARD jumps to once, behind DOCKER-USER"]


def test_leftovers_are_told() -> None:
    assert faults([], parse(EMPTY + CHAIN)) == ["chain DNI-FORWARD is left over"]


def test_everything_is_put_in_place_in_one_transaction() -> None:
    listed = parse(
        EMPTY + JUMP + "-A FORWARD -i eth9 -j ACCEPT\n" + USER_JUMP + CHAIN + "-A DOCKER-USER -j DNI-FORWARD\n"
    )
    assert restore_text(RULES, listed).splitlines() == [
        "*filter",
        ":DNI-FORWARD - [0:0]",
        "-D FORWARD -j DNI-FORWARD",
        "-D DOCKER-USER -j DNI-FORWARD",
        *RULES,
        "-I FORWARD 3 -j DNI-FORWARD",
        "COMMIT",
    ]


def test_everything_is_taken_away_in_one_transaction() -> None:
    assert restore_text([], parse(EMPTY + CHAIN + JUMP + OURS)).splitlines() == [
        "*filter",
        ":DNI-FORWARD - [0:0]",
        "-D FORWARD -j DNI-FORWARD",
        "-X DNI-FORWARD",
        "COMMIT",
    ]
