# SPDX-License-Identifier: Apache-2.0
"""Runs nft, iptables, ip and bridge: no shell, a deadline, and errors that say what to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import msgspec

from dni_driver.core.deadline import within
from dni_driver.core.errors import KernelError, Unavailable

_PATIENCE = 10.0
_PACKAGES = {"nft": "nftables", "ip": "iproute2", "bridge": "iproute2"}


class Outcome(msgspec.Struct, frozen=True):
    """How a command ended: its exit status, and what it wrote."""

    status: int
    output: str
    complaint: str


def run(argv: Sequence[str], text: str = "") -> str:
    """Run a command with a text to read; answer what it wrote, raise KernelError where it failed."""
    outcome = attempt(argv, text)
    if outcome.status != 0:
        said = "; ".join(line.strip() for line in outcome.complaint.splitlines() if line.strip())
        raise KernelError(f"`{' '.join(argv)}` failed: {said or f'exit status {outcome.status}'}")
    return outcome.output


def attempt(argv: Sequence[str], text: str = "") -> Outcome:
    """Run a command; raise KernelError only where it is not installed, Unavailable where it takes too long."""
    try:
        ended = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within(_PATIENCE),
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        package = _PACKAGES.get(argv[0], "iptables")
        raise KernelError(f"{argv[0]} is not installed on this host: install the package {package}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{' '.join(argv)}` did not end in time: the host is overloaded") from None
    return Outcome(ended.returncode, ended.stdout, ended.stderr)
