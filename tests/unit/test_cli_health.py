# SPDX-License-Identifier: Apache-2.0
"""What people read of the state of a host: status, check, repair, doctor, and CNI's configuration."""

from __future__ import annotations

import json

import pytest

from dni_driver.cli import doctor
from dni_driver.core.doctor.ailments import Ailment, Severity
from dni_driver.core.doctor.diagnosis import Report, Unseen
from tests.unit.canned_agent import STATUS, Dni, _CannedAgent, agent, dni

__all__ = ["agent", "dni"]


FINDING = {"about": "d-dcos", "problem": "the bridge is down", "mend": "dni repair"}


def test_status_shows_the_host_its_overlays_and_its_problems(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/status"] = (200, STATUS)
    ran = dni("status")
    assert ran.status == 0
    assert ran.out == (
        "agent     10.0.0.1\n"
        "registry  local\n"
        "store     /var/lib/dni/dni.db\n"
        "docker    not reachable: no such file: /run/docker.sock\n"
        "dni       0.1.0\n"
        "\n"
        "OVERLAY  SUBNET       PER AGENT  DOCKER HALF          SIZE  USED  RESERVED  FREE  NETWORK\n"
        "dcos     9.0.0.0/8    /24        9.0.0.128/25          125     3         1   121  dcos\n"
        "dcos     fd01:b::/64  /80        fd01:b::8000:0:0/81     -     -         -     -  dcos\n"
        "\n"
        "problem: the registry is read-only\n"
    )


def test_a_check_that_finds_something_says_what_mends_it_and_ends_with_1(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/check"] = (200, {"findings": [FINDING]})
    ran = dni("check")
    assert ran.status == 1
    assert ran.out == "d-dcos: the bridge is down\n  to mend it: dni repair\n"
    assert ran.err == ""


def test_a_clean_check_ends_with_0(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/check"] = (200, {"findings": []})
    ran = dni("check")
    assert (ran.status, ran.out) == (0, "All is well: records, kernel and Docker agree.\n")


def test_repair_says_what_it_did_and_ends_with_1_where_something_is_left(dni: Dni, agent: _CannedAgent) -> None:
    answer = {"changed": ["set d-dcos up"], "freed": ["9.0.0.130"], "findings": [FINDING]}
    agent.answers["POST /v1/repair"] = (200, answer)
    ran = dni("repair")
    assert ran.status == 1
    assert ran.out.splitlines()[:3] == ["changed: set d-dcos up", "freed: 9.0.0.130", "d-dcos: the bridge is down"]


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ([], "shape=mesos"),
        (["--plain"], "shape=plain"),
        (["--list"], "shape=list"),
        (["--plain", "--ipam", "dni"], "shape=plain&ipam=dni"),
    ],
)
def test_a_cni_configuration_is_written_as_a_file_has_it(
    dni: Dni, agent: _CannedAgent, words: list[str], query: str
) -> None:
    told = {"name": "dcos", "type": "dni-cni"}
    agent.answers[f"GET /v1/cni/configurations/dcos?{query}"] = (200, told)
    assert dni("cni", "show", "dcos", *words) == (0, json.dumps(told, indent=2) + "\n", "")


def test_the_doctor_shows_host_engine_findings_and_what_was_not_looked_at() -> None:
    common = {"about": "x", "problem": "is ill", "breaks": "all of it"}
    findings = [
        Ailment(kind="one", severity=Severity.ERROR, mend="rm x", **common),
        Ailment(kind="two", severity=Severity.WARNING, mend="mv x y", otherwise="or leave it", **common),
        Ailment(kind="three", severity=Severity.WARNING, mend="", otherwise="decide about x", **common),
    ]
    unseen = [Unseen(what="Docker", why="it needs root: put sudo before dni")]
    shown = doctor.shown(Report(host={"kernel": "6.1"}, differences=["all is new"], findings=findings, unseen=unseen))
    assert (
        shown
        == """\
kernel         6.1

on this engine all is new

error: x is ill [one]
  what breaks: all of it
  to mend it:  rm x

warning: x is ill [two]
  what breaks: all of it
  to mend it:  mv x y
               or leave it

warning: x is ill [three]
  what breaks: all of it
  to mend it:  decide about x

not looked at: Docker (it needs root: put sudo before dni)

1 error, 2 warnings."""
    )
