# SPDX-License-Identifier: Apache-2.0
"""Reads what a network configuration says, field by field; whatever it may not say is CNI's code 7."""

from __future__ import annotations

import json
import socket

from dni_driver.mesos.cni_errors import INVALID_CONFIGURATION, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CONFIGURATION = "the network configuration"


def text(found: dict[str, Any], key: str, where: str = CONFIGURATION) -> str:
    """Answer a text that is there and can be printed."""
    value = found.get(key)
    if not isinstance(value, str) or not value:
        invalid(f"{key!r} in {where} must be a text, not {kind(value)}")
    if not value.isprintable():
        invalid(f"{key!r} in {where} has characters that cannot be printed")
    return value


def object_of(found: dict[str, Any], key: str, where: str = CONFIGURATION) -> dict[str, Any]:
    """Answer an object that is there."""
    value = found.get(key)
    if not isinstance(value, dict):
        invalid(f"{key!r} in {where} must be an object, not {kind(value)}")
    return value


def objects(found: dict[str, Any], key: str, where: str = CONFIGURATION) -> list[dict[str, Any]]:
    """Answer a list of objects; none where it is missing."""
    value = found.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        invalid(f"{key!r} in {where} must be a list of objects, not {kind(value)}")
    return value


def kind(value: object) -> str:
    """Say what stands there; nothing that could be long, or deep."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return "missing" if value is None else json.dumps(value)[:40]


def family(address: str) -> int | None:
    """Answer 4 or 6; None for what is no address. `ipaddress` takes too long to import."""
    for number, named in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        try:
            socket.inet_pton(named, address)
        except (OSError, ValueError):
            continue
        return number
    return None


def invalid(told: str) -> NoReturn:
    """Raise the error of a configuration that says what it may not."""
    raise CniError(INVALID_CONFIGURATION, told)
