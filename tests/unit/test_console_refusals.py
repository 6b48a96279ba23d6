# SPDX-License-Identifier: Apache-2.0
"""Refusals whose status decides what those do who asked, dni-cni for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from dni_driver.console.app import create_app
from dni_driver.core.errors import Crowded, DniError, Exhausted


class _Refusing:
    """An agent that answers everything with one error."""

    def __init__(self, error: DniError) -> None:
        self._error = error

    def __getattr__(self, _: str) -> Callable[..., NoReturn]:
        return self._refuse

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Crowded("more room is being leased", "dcos/mesos4"), 503),
        (Exhausted("the overlay is full"), 409),
    ],
)
def test_where_there_is_more_room_in_a_moment_the_answer_is_to_try_again(error: DniError, status: int) -> None:
    refusing: Any = _Refusing(error)
    body = {"overlay": "dcos", "container": "c1", "ifname": "eth0", "sandbox": "/run/netns/a"}
    reply = create_app(refusing, cni=refusing).test_client().post("/v1/cni/endpoints", json=body)
    assert (reply.status_code, reply.json) == (status, {"error": str(error)})
