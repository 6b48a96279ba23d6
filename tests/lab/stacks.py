# SPDX-License-Identifier: Apache-2.0
"""What a Go program such as dockerd is doing, in its own words: the stacks that it writes down when told to."""

from __future__ import annotations

import re

_OF_INTEREST = ("libnetwork", "docker/daemon.", "pkg/plugins", "libcontainerd")
_ARGUMENTS = re.compile(r"\([^()]*\)$")


def brief(dump: str) -> str:
    """Answer the stacks that have to do with networks and containers: a line each, the innermost call first."""
    return "\n".join(_line(stack) for stack in dump.split("\n\n") if any(part in stack for part in _OF_INTEREST))


def _line(stack: str) -> str:
    head, *rest = stack.strip().splitlines()
    calls = [_ARGUMENTS.sub("", line) for line in rest if not line.startswith("\t")]
    return " < ".join([head.rstrip(":"), *(call.rpartition("/")[2] for call in calls)])
