# SPDX-License-Identifier: Apache-2.0
"""`dni-cni`: a CNI plugin whose containers have their addresses from dni, in the Mesos half.

It asks the agent, which records the address, makes the link and puts it into the container's namespace.
"""

from __future__ import annotations

import json
import os
import sys

from dni_driver.mesos import cni_agent, cni_answers
from dni_driver.mesos.cni_call import OLDEST, VERSIONS, Call, command_of, configuration
from dni_driver.mesos.cni_errors import FAILED, REFUSED, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

_ENDPOINTS = "/v1/cni/endpoints"
_NONE_OF_THE_AGENTS = (LookupError, TypeError, AttributeError)
"""What reading an answer ends in that has another form than the agent's."""


def main() -> NoReturn:
    """Answer one call: a result and status 0, or an error and status 1."""
    status, answer = respond(os.environ, _given())
    if answer is not None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    sys.exit(status)


def _given() -> bytes:
    """Answer what stands on standard input: nothing where a person has typed this, or where that is closed."""
    return b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()


def respond(environment: Mapping[str, str], text: bytes) -> tuple[int, dict[str, Any] | None]:
    """Answer exit status and standard output, None for an empty one."""
    version = OLDEST
    try:
        if environment.get("CNI_COMMAND") == "VERSION":
            return 0, cni_answers.versions()
        if not text:
            command_of(environment)
        given = configuration(text)
        version = given["cniVersion"] if given.get("cniVersion") in VERSIONS else VERSIONS[-1]
        call = Call(environment, given)
        version = call.version
        return 0, _done(call)
    except CniError as error:
        return 1, cni_answers.error(version, error)
    except Exception as error:  # noqa: BLE001 - the last edge: a runtime gets an error it can read, never a traceback
        return 1, cni_answers.error(version, CniError(FAILED, f"unexpected {type(error).__name__}: {error}"))


def _done(call: Call) -> dict[str, Any] | None:
    if call.command == "ADD":
        return _add(call)
    key = {"overlay": call.overlay, "container": call.container, "ifname": call.ifname}
    where = cni_agent.target(_ENDPOINTS, **key)
    if call.command == "DEL":
        cni_agent.ask(call.socket, "DELETE", where)
        return None
    _check(call, cni_agent.ask(call.socket, "GET", where))
    return None


def _add(call: Call) -> dict[str, Any]:
    body = {
        "overlay": call.overlay,
        "container": call.container,
        "ifname": call.ifname,
        "sandbox": call.sandbox,
        "addresses": call.addresses,
        "groups": call.groups,
        "labels": call.labels,
    }
    made = cni_agent.ask(call.socket, "POST", _ENDPOINTS, body)
    try:
        return cni_answers.result(call.version, made)
    except _NONE_OF_THE_AGENTS:
        raise cni_agent.stranger(call.socket) from None


def _check(call: Call, endpoint: Any) -> None:
    """Raise CniError where ADD has answered something else than there is."""
    try:
        there = {str(address["address"]) for address in endpoint["addresses"]}
        sandbox = endpoint["sandbox"]
    except _NONE_OF_THE_AGENTS:
        raise cni_agent.stranger(call.socket) from None
    told = call.previous
    if there != told:
        raise CniError(
            REFUSED, f"container {call.container} has {_listed(there)}, and prevResult tells of {_listed(told)}"
        )
    if sandbox != call.sandbox:
        raise CniError(REFUSED, f"container {call.container} is in {sandbox}, not in {call.sandbox}")


def _listed(addresses: set[str]) -> str:
    return ", ".join(sorted(addresses)) or "no address"
