# SPDX-License-Identifier: Apache-2.0
"""What a host of namespaces and a machine with systemd have in common: an administrator's two commands."""

from __future__ import annotations

import subprocess
from typing import Protocol


class Administered(Protocol):
    """Something with Docker and dni on it."""

    def docker(self, *words: str) -> str:
        """Run a docker command; its standard output, stripped."""

    def try_docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As docker, but answer also when it fails."""

    def try_dni(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a dni command, and answer also when it fails."""
