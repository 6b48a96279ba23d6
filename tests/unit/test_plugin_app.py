# SPDX-License-Identifier: Apache-2.0
"""What the plugin's app does around every method."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog

from dni_driver.core.deadline import within
from dni_driver.plugin import wire
from dni_driver.plugin.app import HANDLER_SECONDS, LARGEST_BODY, create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.store import Store
from tests.fakes import DCOS, FakeKernel, lease

NOBODY: Any = None
LEAVE = "/NetworkDriver.Leave"


class _Network(NetworkDriver):
    """Notes what it was told, and how long it could have taken."""

    seconds = 0.0
    begun = False

    def get_capabilities(self) -> wire.NetworkCapabilities:
        self.seconds = within(1000.0)
        return super().get_capabilities()

    def forget_the_dead(self) -> None:
        self.begun = True


class _Broken(io.BytesIO):
    """What a caller sends who says no more."""

    def read(self, _: int | None = -1) -> NoReturn:
        raise TimeoutError("timed out")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[_Network]:
    store = Store(tmp_path / "dni.db")
    lease(store, DCOS, "9.0.0.0/24")
    yield _Network(store, FakeKernel())
    store.close()


def _client(network: NetworkDriver, driver: str = "dni") -> Any:
    return create_app(network, IpamDriver(NOBODY, NOBODY, NOBODY, "dcos"), driver).test_client()


def test_a_refusal_names_the_driver_as_users_type_it(network: _Network) -> None:
    reply = _client(network, "dni:latest").post("/NetworkDriver.CreateNetwork", data=b'{"NetworkID": "abc"}')
    assert reply.status_code == 500
    assert "docker network create -d dni:latest --ipam-driver dni:latest" in reply.json["Err"]


def test_when_dockerd_begins_what_an_earlier_one_left_is_forgotten(network: _Network) -> None:
    assert _client(network).post("/Plugin.Activate").status_code == 200
    assert network.begun


def test_every_method_has_a_deadline(network: _Network) -> None:
    _client(network).post("/NetworkDriver.GetCapabilities")
    assert 0 < network.seconds <= HANDLER_SECONDS


def test_a_body_that_breaks_off_is_malformed_and_no_fault_of_dni(network: _Network) -> None:
    with structlog.testing.capture_logs() as lines:
        reply = _client(network).post(LEAVE, input_stream=_Broken())
    assert reply.status_code == 400
    assert (
        reply.json["Err"] == reply.json["Error"] == "the body of the request cannot be read (TimeoutError): timed out"
    )
    assert [line["log_level"] for line in lines] == ["warning"]


def test_a_body_that_is_announced_too_long_is_not_waited_for(network: _Network) -> None:
    reply = _client(network).post(
        LEAVE, input_stream=_Broken(), environ_overrides={"CONTENT_LENGTH": str(LARGEST_BODY + 1)}
    )
    assert reply.status_code == 413
