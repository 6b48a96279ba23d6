# SPDX-License-Identifier: Apache-2.0
"""What callers write into paths and queries, as values."""

from __future__ import annotations

from collections.abc import Mapping

from dni_driver.core import agent_ip
from dni_driver.core.addresses.fullness import HALVES, Half
from dni_driver.core.errors import MalformedRequest
from dni_driver.core.overlays import Address

MOST = 1 << 24


def read_agent(query: Mapping[str, str]) -> Address | None:
    """Answer which agent is meant, None for this one; raise MalformedRequest."""
    text = query.get("agent")
    try:
        return agent_ip.read(text) if text is not None else None
    except ValueError:
        raise MalformedRequest(f"agent={text!r} is no agent IP: write it like agent=10.0.0.1") from None


def read_agent_ip(text: str) -> Address:
    """Answer which agent a path names; raise MalformedRequest."""
    try:
        return agent_ip.read(text)
    except ValueError:
        raise MalformedRequest(f"{text[:60]!r} is no agent IP: `dni agent ls` lists them") from None


def read_half(query: Mapping[str, str]) -> Half:
    """Answer which half is meant, Docker's where nothing is said; raise MalformedRequest."""
    text = query.get("half", "docker")
    for half in HALVES:
        if half == text:
            return half
    raise MalformedRequest(f"half={text!r} is neither docker nor mesos")


def read_count(query: Mapping[str, str]) -> int:
    """Answer how many containers are to be placed, one where nothing is said; raise MalformedRequest."""
    text = query.get("count", "1")
    if not (text.isascii() and text.isdigit() and len(text) < len(str(MOST)) and int(text) > 0):
        raise MalformedRequest(f"count={text[:40]!r} is no number of containers from 1 on")
    return int(text)
