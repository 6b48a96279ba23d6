# SPDX-License-Identifier: Apache-2.0
"""The driver's name in the commands that texts suggest: what users type differs for a managed plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dni_driver.core.driver_name import PLAIN, as_typed
from dni_driver.plugin.app import create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.store import Store
from tests.fakes import DCOS, FakeKernel, lease


def test_commands_name_a_managed_plugin_whole() -> None:
    text = "-d dni needs --ipam-driver dni too: use `docker network create -d dni --ipam-driver dni NAME`"
    assert as_typed(text, "dni:latest") == (
        "-d dni:latest needs --ipam-driver dni:latest too: "
        "use `docker network create -d dni:latest --ipam-driver dni:latest NAME`"
    )


def test_compose_files_name_it_whole_too() -> None:
    assert as_typed("(in a Compose file `ipam: {driver: dni}`)", "dni:latest") == (
        "(in a Compose file `ipam: {driver: dni:latest}`)"
    )


@pytest.mark.parametrize("text", ["dni needs root", "-d dnis", "-d dni:other x", "-d dni/x", "rmdir -d /run/dni"])
def test_what_is_not_the_driver_in_a_command_stays(text: str) -> None:
    assert as_typed(text, "example.org/net/dni:1.2") == text


def test_a_plain_driver_changes_nothing() -> None:
    assert as_typed("use -d dni", PLAIN) == "use -d dni"


def test_a_refusal_reaches_dockerd_with_the_name_to_type(tmp_path: Path) -> None:
    store, kernel = Store(tmp_path / "dni.db"), FakeKernel()
    lease(store, DCOS, "9.0.0.0/24")
    nobody: Any = None
    app = create_app(NetworkDriver(store, kernel), IpamDriver(store, kernel, nobody, "dcos"), "dni:latest")
    body = {"NetworkID": "n" * 64, "Options": {}, "IPv4Data": [{"Pool": "172.18.0.0/16"}]}
    answer = app.test_client().post("/NetworkDriver.CreateNetwork", json=body).get_json()
    assert "use `docker network create -d dni:latest --ipam-driver dni:latest NAME`" in answer["Err"]
    assert answer["Err"] == answer["Error"]
    store.close()
