# SPDX-License-Identifier: Apache-2.0
"""The outside world: the hosts' gateway, and an address beyond it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.lab import addresses
from tests.lab.errors import LabError
from tests.lab.node import Node

ECHO_PORT = 8000
_ECHO = Path(__file__).resolve().parent / "echo.py"


class Outside(Node):
    """A node without Docker, on the hosts' link and their default gateway.

    `world` and `world6` are addresses of its own that no host shares a link with. `echo_url` answers with
    the source address of who asks: the host's when masqueraded, else the container's. The way back to a
    container is the test's to lay: `outside.run("ip", "route", "add", SUBNET, "via", host.address)`.
    """

    world = str(addresses.WORLD)
    world6 = str(addresses.WORLD6)
    echo_url = f"http://{addresses.WORLD}:{ECHO_PORT}/"
    echo_url6 = f"http://[{addresses.WORLD6}]:{ECHO_PORT}/"

    def __init__(self, run: Path) -> None:
        """Name it and its addresses on the link; `run` is the directory of the run."""
        super().__init__("outside", run, address=str(addresses.OUTSIDE), address6=str(addresses.OUTSIDE6))

    def start_echo(self) -> None:
        """Start the server behind `echo_url`."""
        server = self.spawn(sys.executable, "-I", "-S", str(_ECHO), str(ECHO_PORT), log=self.directory / "echo.log")
        while not self._listens():
            if server.poll() is not None:
                raise LabError(f"echo does not start: {(self.directory / 'echo.log').read_text()}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        port = f":{ECHO_PORT:04X} "
        return port in Path(f"/proc/{self.pid}/net/tcp6").read_text()
