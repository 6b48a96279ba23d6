# SPDX-License-Identifier: Apache-2.0
"""What a bench ran on."""

from __future__ import annotations

import os
import platform
import time

from tests.lab import Host


def describe(host: Host) -> dict[str, object]:
    """Answer when this is, and which engine and kernel a lab host has."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "engine": f"Docker Engine {host.docker('version', '--format', '{{.Server.Version}}')}",
        "kernel": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
