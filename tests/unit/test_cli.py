# SPDX-License-Identifier: Apache-2.0
"""What people type and what they read, against an agent that gives canned answers."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dni_driver.cli import asking, doctor, main
from dni_driver.cli.tables import table
from dni_driver.cli.usage import age
from dni_driver.core.doctor.ailments import Ailment, Severity
from dni_driver.core.doctor.diagnosis import Report, Unseen

OVERLAY = {
    "name": "dcos",
    "subnet": "9.0.0.0/8",
    "prefix": 24,
    "subnet6": "fd01:b::/64",
    "prefix6": 80,
    "backend": "vxlan",
    "agent_subnets": ["9.0.0.0/24", "fd01:b::/80"],
    "docker_halves": ["9.0.0.128/25", "fd01:b::8000:0:0/81"],
    "mesos_halves": ["9.0.0.0/25", "fd01:b::/81"],
    "network": {"id": "a" * 64, "name": "dcos"},
    "create": None,
    "usage": {"v4": {"size": 125, "used": 3, "reserved": 1, "free": 121}, "v6": None},
}
NEW = {
    **OVERLAY,
    "name": "dev",
    "subnet": "10.64.0.0/16",
    "subnet6": None,
    "prefix6": None,
    "network": None,
    "create": "docker network create -d dni:latest --ipam-driver dni:latest --ipam-opt overlay=dev dev",
}
STATUS = {
    "version": "0.1.0",
    "agent": "10.0.0.1",
    "registry": "local",
    "store": "/var/lib/dni/dni.db",
    "docker": {"reachable": False, "version": None, "error": "no such file: /run/docker.sock"},
    "overlays": [OVERLAY],
    "problems": ["the registry is read-only"],
}
ADDRESS = {
    "pool": "dcos/v4",
    "overlay": "dcos",
    "address": "9.0.0.130",
    "state": "bound",
    "endpoint": "e" * 64,
    "network": "web-network-of-a-long-name",
    "container": "web",
    "since": 1_700_000_000,
}
KEPT = {
    "overlay": "dcos",
    "first": "9.0.0.140",
    "last": "9.0.0.140",
    "size": 1,
    "container": "web",
    "since": 1_700_000_000.0,
    "docker_run": "--name web --net dcos --ip 9.0.0.140",
}
KEPT_RANGE = {**KEPT, "first": "9.0.0.200", "last": "9.0.0.220", "size": 21, "container": None, "docker_run": None}
PORT = {
    "protocol": "tcp",
    "host_ip": "0.0.0.0",
    "host_port": 8080,
    "container": "web",
    "container_ip": "9.0.0.130",
    "container_port": 80,
    "network": "dcos",
    "endpoint": "e" * 64,
}
PORT6 = {
    **PORT, "protocol": "udp", "host_ip": "::", "container": None, "container_ip": "fd01:b::2", "network": None
}  # fmt: skip
HALF = {"half": "9.0.0.128/25", "size": 125, "used": 3, "reserved": 1, "free": 121, "why": None}
ELSEWHERE = {
    **HALF,
    "half": "9.0.1.128/25",
    "used": None,
    "reserved": None,
    "free": None,
    "why": "agent 10.0.0.2 has not told yet how full it is: ask there (dni overlay usage)",
}
UNREADABLE = {**ELSEWHERE, "half": "9.0.0.0/25", "why": "/var/lib/cni cannot be read"}
USAGE = {
    "overlay": "dcos",
    "agents": [
        {
            "agent": "10.0.0.1",
            "here": True,
            "subnets": [{"subnet": "9.0.0.0/24", "since": 1_700_000_000.0, "mesos": UNREADABLE, "docker": HALF}],
            "as_of": 1_700_000_100.0,
        },
        {
            "agent": "10.0.0.2",
            "here": False,
            "subnets": [{"subnet": "9.0.1.0/24", "since": None, "mesos": ELSEWHERE, "docker": ELSEWHERE}],
            "as_of": None,
        },
        {
            "agent": "10.0.0.3",
            "here": False,
            "subnets": [{"subnet": "9.0.2.0/24", "since": 1_700_000_000.0, "mesos": HALF, "docker": HALF}],
            "as_of": 1_700_000_088.0,
        },
    ],
    "problem": None,
}
FINDING = {"about": "d-dcos", "problem": "the bridge is down", "mend": "dni repair"}


class _CannedAgent(socketserver.ThreadingUnixStreamServer):
    """Answers each `METHOD PATH` with what `answers` holds for it, and remembers what was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _CannedAgent

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.command} {self.path}"
        self.server.asked.append((asked, json.loads(body) if body else None))
        status, answer = self.server.answers.get(asked, (404, {"error": f"no answer to {asked}"}))
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names http.server looks for

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_CannedAgent]:
    with _CannedAgent(tmp_path / "dni.sock") as server:
        monkeypatch.setenv("DNI_API_SOCKET", str(server.path))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Ran(NamedTuple):
    """How a command ended, and what it wrote."""

    status: object
    out: str
    err: str


Dni = Callable[..., Ran]


@pytest.fixture
def dni(capsys: pytest.CaptureFixture[str]) -> Dni:
    def dni(*words: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return Ran(ended.value.code, *capsys.readouterr())

    return dni


def test_help_says_what_dni_is_and_how_to_begin(dni: Dni) -> None:
    for words in ((), ("--help",)):
        ran = dni(*words)
        assert ran.status == 0
        assert "network driver" in ran.out
        assert "sudo dni up" in ran.out
        assert "docker network create -d dni --ipam-driver dni dcos" in ran.out
        assert "docker run" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 100


@pytest.mark.parametrize("group", ["overlay", "agent", "address", "cni", "serve"])
def test_a_group_without_a_command_shows_its_commands_each_with_a_whole_sentence(dni: Dni, group: str) -> None:
    for words in ((), (group,)):
        ran = dni(*words)
        assert ran.status == 0
        listed = ran.out.partition("Commands:\n")[2]
        assert listed.endswith(".\n")
        assert "..." not in listed


def test_where_a_backend_can_be_chosen_help_leads_to_what_each_is(dni: Dni) -> None:
    assert "dni overlay set --help" in " ".join(dni("overlay", "create", "--help").out.split())
    told = dni("overlay", "set", "--help").out.partition("Options:")[0]
    assert all(backend in told for backend in ("vxlan", "direct", "auto"))


def test_help_says_that_a_repair_frees_without_waiting_and_when_keep_changes_nothing(dni: Dni) -> None:
    assert "without the wait" in " ".join(dni("repair", "--help").out.split())
    assert "Where no removal is under way this changes nothing" in dni("overlay", "keep", "--help").out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nonsense"], "dni: No such command 'nonsense'. (`dni --help` says more)"),
        (["overlay", "create"], "dni: Missing argument 'NAME'. (`dni overlay create --help` says more)"),
        (["status", "--x"], "dni: No such option '--x'. (`dni status --help` says more)"),
        (["--json", "status"], "dni: --json comes after the command: `dni status --json`"),
        (["overlay", "--json", "ls"], "dni: --json comes after the command: `dni status --json`"),
        (["cni", "show", "dcos", "--json"], "dni: No such option '--json'. (`dni cni show --help` says more)"),
    ],
)
def test_a_mistyped_command_is_one_line_and_status_2(dni: Dni, words: list[str], line: str) -> None:
    ran = dni(*words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"{line}\n"


def test_a_bad_setting_is_one_line_and_status_2(dni: Dni, tmp_path: Path) -> None:
    file = tmp_path / "dni.toml"
    file.write_text("[plugin]\nthreads = 0\n")
    ran = dni("--config", str(file), "status")
    assert ran.status == 2
    assert ran.err == f"dni: {file}: plugin.threads = 0: must be a whole number from 1 to 512\n"


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


@pytest.mark.parametrize(
    ("words", "asked", "answer"),
    [
        (["status"], "GET /v1/status", STATUS),
        (["overlay", "ls"], "GET /v1/overlays", [OVERLAY]),
        (["overlay", "create", "dev", "--subnet", "10.64.0.0/16"], "POST /v1/overlays", NEW),
        (["overlay", "usage", "dcos"], "GET /v1/overlays/dcos/usage", USAGE),
        (["address", "ls"], "GET /v1/addresses", [ADDRESS]),
        (["address", "reserve", "dcos", "--for", "web"], "POST /v1/reservations", KEPT),
        (
            ["address", "release", "dcos", "--for", "web"],
            "DELETE /v1/reservations?overlay=dcos&container=web",
            [KEPT],
        ),
        (["address", "limit", "9.0.0.130", "--egress", "10mbit"], "POST /v1/limits", ADDRESS),
        (["ports"], "GET /v1/ports", [PORT]),
        (["check"], "POST /v1/check", {"findings": []}),
        (["repair"], "POST /v1/repair", {"changed": [], "freed": [], "findings": []}),
    ],
)
def test_json_is_what_the_agent_answered(
    dni: Dni, agent: _CannedAgent, words: list[str], asked: str, answer: Any
) -> None:
    agent.answers[asked] = (200, answer)
    ran = dni(*words, "--json")
    assert ran.status == 0
    assert json.loads(ran.out) == answer


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


def test_usage_is_a_line_for_each_half_with_its_age_and_what_is_not_known_below(
    dni: Dni, agent: _CannedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 1_700_000_100.0)
    agent.answers["GET /v1/overlays/dcos/usage"] = (200, USAGE)
    title, mesos, docker, *others = dni("overlay", "usage", "dcos").out.splitlines()
    assert title.split("  ")[-1].strip() == "AS OF"
    here = ["10.0.0.1", "(this)", "9.0.0.0/24"]
    since = ["2023-11-14", "22:13:20"]
    assert mesos.split() == [*here, "Mesos", "9.0.0.0/25", "125", "-", "-", "-", *since, "now"]
    assert docker.split() == [*here, "Docker", "9.0.0.128/25", "125", "3", "1", "121", *since, "now"]
    assert [line.split()[0] for line in others[:4]] == ["10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3"]
    assert [line.split()[-2:] for line in others[:2]] == [["-", "-"]] * 2
    counted = ["125", "3", "1", "121", *since, "12", "s", "ago"]
    assert [line.split()[-9:] for line in others[2:4]] == [counted] * 2
    assert others[4:] == [
        "",
        "Other agents are as they told last; one that lives tells of a change within seconds.",
        "",
        "/var/lib/cni cannot be read",
        "agent 10.0.0.2 has not told yet how full it is: ask there (dni overlay usage)",
    ]


def test_of_many_agents_of_whom_nothing_is_known_some_are_named_and_where_all_are(
    dni: Dni, agent: _CannedAgent
) -> None:
    agents = [
        {
            "agent": f"10.0.0.{number}",
            "here": False,
            "subnets": [
                {
                    "subnet": f"9.0.{number}.0/24",
                    "since": None,
                    "mesos": {**ELSEWHERE, "why": f"why {number}"},
                    "docker": HALF,
                }
            ],
        }
        for number in range(9)
    ]
    away = "of other agents nothing new is known: ZooKeeper is away"
    agent.answers["GET /v1/overlays/dcos/usage"] = (200, {**USAGE, "agents": agents, "problem": away})
    *_, first, second, third, fourth, fifth, _, more, _, problem = dni("overlay", "usage", "dcos").out.splitlines()
    assert [first, second, third, fourth, fifth] == [f"why {number}" for number in range(5)]
    assert more == "and 4 more such reasons: dni overlay usage dcos --json"
    assert problem == away


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0 s ago"),
        (0.4, "0 s ago"),
        (119.0, "119 s ago"),
        (120.0, "2 min ago"),
        (7199.0, "119 min ago"),
        (7200.0, "2 h ago"),
        (172_800.0, "2 d ago"),
    ],
)
def test_an_age_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def half(name: str, level: int | None, used: int, overlay: str = "dcos") -> dict[str, Any]:
    """Answer a half of 100 addresses, as a status has it."""
    return {
        "overlay": overlay,
        "half": name,
        "family": 4,
        "size": 100,
        "used": used,
        "reserved": 0,
        "free": 100 - used,
        "percent": used,
        "level": level,
    }


def test_status_shows_halves_that_fill_up_with_their_level_and_what_mesos_has(dni: Dni, agent: _CannedAgent) -> None:
    halves = [
        half("mesos", None, 2),
        half("docker", 80, 84),
        half("mesos", 95, 97, "dev"),
        half("docker", None, 5, "dev"),
    ]
    agent.answers["GET /v1/status"] = (200, {**STATUS, "halves": [*halves, half("mesos", None, 0, "six")]})
    assert (
        "OVERLAY  HALF    FAMILY  SIZE  USED  RESERVED  FREE  FULL  LEVEL\n"
        "dcos     Mesos   IPv4     100     2         0    98  2 %   -\n"
        "dcos     Docker  IPv4     100    84         0    16  84 %  80 % reached\n"
        "dev      Mesos   IPv4     100    97         0     3  97 %  95 % reached\n"
        "\n"
    ) in dni("status").out


def test_without_overlays_the_command_that_makes_one_is_shown(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/overlays"] = (200, [])
    assert "dni overlay create NAME" in dni("overlay", "ls").out


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


def test_addresses_are_shown_with_who_has_them_since_when(
    dni: Dni, agent: _CannedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    free = {**ADDRESS, "address": "9.0.0.131", "state": "free", "endpoint": None, "network": None, "container": None}
    agent.answers["GET /v1/addresses?overlay=dcos&all=1"] = (200, [ADDRESS, free])
    ran = dni("address", "ls", "--overlay", "dcos", "--all")
    assert ran.out == (
        "ADDRESS    STATE  OVERLAY  CONTAINER  ENDPOINT      NETWORK                     SINCE\n"
        "9.0.0.130  bound  dcos     web        eeeeeeeeeeee  web-network-of-a-long-name  2023-11-14 22:13:20\n"
        "9.0.0.131  free   dcos     -          -             -                           2023-11-14 22:13:20\n"
    )


def test_published_ports_are_shown_with_where_they_lead(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/ports"] = (200, [PORT, PORT6])
    assert dni("ports").out == (
        "HOST          CONTAINER     LEADS TO            NETWORK\n"
        "0.0.0.0:8080  web           9.0.0.130:80/tcp    dcos\n"
        "[::]:8080     eeeeeeeeeeee  [fd01:b::2]:80/udp  -\n"
    )
    agent.answers["GET /v1/ports"] = (200, [])
    assert dni("ports").out == "No port is published.\n"


def test_what_is_reserved_is_shown_with_whom_it_is_for(
    dni: Dni, agent: _CannedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    used = {**ADDRESS, "address": "9.0.0.140", "network": "dcos", "reserved": True, "reserved_for": "web"}
    idle = {**used, "address": "9.0.0.141", "state": "reserved", "endpoint": None, "network": None, "container": "db"}
    held = {**idle, "address": "9.0.0.200", "last": "9.0.0.220", "container": None, "reserved_for": None}
    agent.answers["GET /v1/addresses"] = (200, [used, idle, held])
    assert dni("address", "ls").out == (
        "ADDRESS              STATE            OVERLAY  CONTAINER  ENDPOINT      NETWORK  SINCE\n"
        "9.0.0.140            bound, reserved  dcos     web        eeeeeeeeeeee  dcos     2023-11-14 22:13:20\n"
        "9.0.0.141            reserved         dcos     db         -             -        2023-11-14 22:13:20\n"
        "9.0.0.200-9.0.0.220  reserved         dcos     -          -             -        2023-11-14 22:13:20\n"
    )


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["dcos", "9.0.0.140", "--for", "web"], {"addresses": "9.0.0.140", "container": "web"}),
        (["dcos", "--for", "web", "--ipv6"], {"container": "web", "family": 6}),
        (["dcos", "9.0.0.200-9.0.0.220"], {"addresses": "9.0.0.200-9.0.0.220"}),
    ],
)
def test_a_reservation_is_asked_for_as_it_was_typed(
    dni: Dni, agent: _CannedAgent, words: list[str], body: dict[str, Any]
) -> None:
    agent.answers["POST /v1/reservations"] = (201, KEPT)
    assert dni("address", "reserve", *words).status == 0
    assert agent.asked == [("POST /v1/reservations", {"overlay": "dcos", **body})]


@pytest.mark.parametrize(
    ("kept", "shown", "bare"),
    [
        (
            KEPT,
            (
                "9.0.0.140 of overlay dcos is reserved for container web.\n"
                "On any Docker Engine, where the network was created with --subnet: "
                "docker run --name web --net dcos --ip 9.0.0.140 …\n"
            ),
            "9.0.0.140\n",
        ),
        (
            {**KEPT, "docker_run": None},
            "9.0.0.140 of overlay dcos is reserved for container web.\n",
            "9.0.0.140\n",
        ),
        (KEPT_RANGE, "9.0.0.200-9.0.0.220 of overlay dcos is held back (21 addresses).\n", "9.0.0.200-9.0.0.220\n"),
    ],
)
def test_a_reservation_is_shown_in_words_or_bare_for_another_command(
    dni: Dni, agent: _CannedAgent, kept: dict[str, Any], shown: str, bare: str
) -> None:
    agent.answers["POST /v1/reservations"] = (201, kept)
    assert dni("address", "reserve", "dcos", "--for", "web").out == shown
    assert dni("address", "reserve", "dcos", "--for", "web", "-q").out == bare


def test_what_is_given_up_is_shown(dni: Dni, agent: _CannedAgent) -> None:
    asked = "DELETE /v1/reservations?overlay=dcos&addresses=9.0.0.200-9.0.0.220"
    agent.answers[asked] = (200, [KEPT_RANGE])
    assert dni("address", "release", "dcos", "9.0.0.200-9.0.0.220").out == "9.0.0.200-9.0.0.220\n"


def test_a_changed_limit_is_asked_for_as_it_is_given_and_shown(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/limits"] = (200, {**ADDRESS, "egress": 10_000_000, "ingress": None})
    ran = dni("address", "limit", "9.0.0.130", "--egress", "10mbit")
    assert agent.asked == [("POST /v1/limits", {"address": "9.0.0.130", "egress": "10mbit"})]
    title, row = ran.out.splitlines()
    assert (title.split()[-2:], row.split()[-2:]) == (["EGRESS", "INGRESS"], ["10mbit", "-"])


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


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_what_the_agent_refuses_is_one_line_and_status_1(dni: Dni, agent: _CannedAgent, status: int) -> None:
    agent.answers["DELETE /v1/overlays/dev"] = (status, {"error": "overlay 'dev' is in use by network web"})
    ran = dni("overlay", "rm", "dev")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "dni: overlay 'dev' is in use by network web\n"


def test_an_answer_of_another_version_is_said_to_be_that(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/status"] = (200, {**STATUS, "docker": "20.10"})
    ran = dni("status")
    assert (ran.status, ran.out) == (1, "")
    assert "another version" in ran.err


def test_where_no_agent_runs_the_way_to_start_it_is_shown(
    dni: Dni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNI_API_SOCKET", str(tmp_path / "absent.sock"))
    ran = dni("status")
    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1
    assert "does not answer" in ran.err
    assert "`dni up`" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without the right to the socket")
def test_who_lacks_the_right_to_the_socket_is_told_so(dni: Dni, agent: _CannedAgent) -> None:
    os.seteuid(65534)
    try:
        ran = dni("status")
    finally:
        os.seteuid(0)
    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1
    assert str(agent.path) in ran.err
    assert "sudo dni" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can cease to be root")
@pytest.mark.parametrize("words", [["up"], ["serve", "plugin"], ["serve", "agent"]])
def test_a_program_that_needs_root_says_so(dni: Dni, words: list[str]) -> None:
    os.seteuid(65534)
    try:
        ran = dni(*words)
    finally:
        os.seteuid(0)
    assert ran.status == 1
    assert ran.err == "dni: dni changes the network of this host and must run as root: put sudo before it\n"


def test_what_nobody_foresaw_is_one_line_too(dni: Dni, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(asking, "load", fail)
    ran = dni("status")
    assert (ran.status, ran.err) == (1, "dni: unexpected RuntimeError: first second\n")


def test_a_reader_that_goes_away_is_no_error(agent: _CannedAgent) -> None:
    agent.answers["GET /v1/addresses"] = (200, [ADDRESS] * 5000)
    command = [sys.executable, "-m", "dni_driver", "address", "ls"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("dni_driver.cli.entry", ["flask", "gunicorn", "pyroute2", "docker", "structlog", "netaddr", "sqlite3"]),
        ("dni_driver.console.client", ["flask", "gunicorn", "pyroute2", "docker", "structlog", "waitress"]),
        ("dni_driver.cli.holding", ["click", "msgspec", "structlog", "logging", "inspect", "threading"]),
    ],
)
def test_what_must_be_quick_or_small_imports_nothing_heavy(module: str, heavy: list[str]) -> None:
    script = f"import sys, {module}; print(*sorted(set({heavy}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_table_lines_up_and_puts_numbers_to_the_right() -> None:
    assert table(("NAME", "N"), [("a", 5), ("bb", 123)]) == "NAME    N\na       5\nbb    123"


def test_an_absent_cell_is_a_dash() -> None:
    assert table(("NAME", "N"), [(None, 5)]) == "NAME  N\n-     5"


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
