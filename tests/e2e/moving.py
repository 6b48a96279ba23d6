# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/moving-from-dcos.md, taken as the page has them."""

from __future__ import annotations

import re
import shlex

from tests.e2e.host_state import eventually
from tests.lab import Host
from tests.lab.node import REPOSITORY
from tests.readme.transcript import Step, steps

_PAGE = REPOSITORY / "docs/moving-from-dcos.md"
_SETTINGS = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATIENCE = 60.0
_SIGNS = re.compile(
    r"9\.0\.[2-9]\.|9\.0\.1\.0/24 via 44\.128\.0\.1 |44\.128\.0\.[3-9] |192\.0\.2\.24\d|^overlay$|match-set overlay"
    r"|^-A FORWARD -j ACCEPT$|STAGE-2 -j RETURN$|^ip rule: (?!.*proto)"
)
"""Numbers that dni has given nobody on two hosts, and what has none; a rule of routing that is dni's says so."""


def page(title: str) -> str:
    """Answer a section of the page, by its title."""
    (section,) = re.findall(rf"^### {title}$(.*?)(?=^##)", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(section)


def around_settings(text: str) -> tuple[list[Step], str, list[Step]]:
    """Answer the steps before the settings, these, and the steps after them."""
    before, settings, after = _SETTINGS.split(text)
    return list(steps(before)), settings, list(steps(after))


def other_outputs(host: Host, told: list[Step]) -> list[str]:
    """Take steps; answer, each with its command, the outputs that are not those told, after a while."""
    assert told
    return [f"$ {step.command}\n{output}" for step in told if (output := _other(host, step))]


def _other(host: Host, step: Step) -> str | None:
    last = ""

    def is_met() -> bool:
        nonlocal last
        last = _run(host, step.command)
        return step.is_met_by(last)

    try:
        eventually(is_met, _PATIENCE if step.command.startswith("dni ") else 0, "another output")
    except AssertionError:
        return last or "(nothing)"
    return None


def _run(host: Host, command: str) -> str:
    program, *words = shlex.split(command)
    run = {"docker": host.try_docker, "dni": host.try_dni}.get(program)
    done = run(*words) if run else host.try_run("sh", "-c", command)
    return done.stdout + done.stderr


def left_of_dcos(host: Host) -> list[str]:
    """Answer what a host has still that dcos-net or the overlay module of Mesos made."""
    listed = (
        *(f"ip route: {line}" for line in host.run("ip", "route", "show", "table", "all").splitlines()),
        *(f"ip rule: {line}" for line in host.run("ip", "rule").splitlines() if "lookup 42" in line),
        *(f"neighbour: {line}" for line in host.run("ip", "neigh", "show", "dev", "vtep1024").splitlines()),
        *host.run("iptables", "-S").splitlines(),
        *host.run("iptables", "-t", "nat", "-S").splitlines(),
        *host.run("ipset", "list", "-name").splitlines(),
    )
    return [line for line in listed if _SIGNS.search(line)]
