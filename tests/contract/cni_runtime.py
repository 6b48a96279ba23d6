# SPDX-License-Identifier: Apache-2.0
"""A CNI runtime that calls `dni-cni`, and the agent that this asks."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dni_driver.console.app import create_app
from dni_driver.console.operations import Operations
from dni_driver.console.server import Server
from dni_driver.mesos.cni_plugin import respond
from tests.scratch import fast_directory
from tests.unit.cni_host import Host

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"]
PROGRAM = (sys.executable, "-c", "from dni_driver.mesos.cni_plugin import main; main()")

ADDED: dict[str, Any] = {
    "overlay": "dcos",
    "address": "9.0.0.2/25",
    "routes": [{"dst": "0.0.0.0/0", "gw": "9.0.0.1"}, {"dst": "9.0.0.0/8", "gw": "9.0.0.1"}],
}


@pytest.fixture
def path() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory)


@pytest.fixture
def host(path: Path) -> Iterator[Host]:
    """Give a host whose agent listens, as it does where dni hands out the Mesos half."""
    made = Host(path)
    with serving(made, path / "dni.sock"):
        yield made
    made.store.close()


@contextmanager
def serving(host: Host, socket_path: Path) -> Iterator[None]:
    server = Server(create_app(Mock(spec=Operations), cni=host.cni), socket_path)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()


class Runtime:
    """Calls the plugin as runtimes do, in this process."""

    def __init__(self, path: Path) -> None:
        """Take where the agent's socket is."""
        self.configuration: dict[str, Any] = {"name": "dcos", "type": "dni-cni", "socket": str(path / "dni.sock")}
        self.environment = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0"}

    def call(self, command: str, text: bytes | None = None, /, **more: Any) -> tuple[int, Any]:
        """Call; `more` goes into the configuration, or the environment where it is upper case; None takes away."""
        environment = {**self.environment, "CNI_COMMAND": command}
        configuration = dict(self.configuration)
        for name, value in more.items():
            place: dict[str, Any] = environment if name.isupper() else configuration
            place[name] = value
            if value is None:
                del place[name]
        return respond(environment, json.dumps(configuration).encode() if text is None else text)


@pytest.fixture
def runtime(path: Path) -> Runtime:
    return Runtime(path)


@pytest.fixture
def mesos(host: Host, runtime: Runtime) -> Runtime:
    """Give a runtime on a host with an agent."""
    assert host.held() == {}
    return runtime
