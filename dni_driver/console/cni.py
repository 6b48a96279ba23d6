# SPDX-License-Identifier: Apache-2.0
"""The part of the operator API that dni-cni and `dni cni` ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from dni_driver.core.errors import BadWish, MalformedRequest, Refused
from dni_driver.core.mesos.cni_conf import IPAMS, SHAPES, Ipam, Shape
from dni_driver.core.mesos.cni_wish import CniKey, CniReport, CniWish, read_addresses, read_options

_ENDPOINTS = "/v1/cni/endpoints"


class CniOperations(Protocol):
    """What this asks of the agent; called from several threads at a time."""

    def attach(self, wish: CniWish) -> CniReport:
        """Give a container its place; raise NotFound, Refused, InUse, Exhausted, KernelError."""

    def detach(self, key: CniKey) -> None:
        """Take it away; none there is no error."""

    def verify(self, key: CniKey) -> CniReport:
        """Answer it where it is as it was made; raise NotFound, Refused."""

    def configuration(self, overlay: str, ipam: Ipam | None, shape: Shape) -> dict[str, Any]:
        """Answer a network configuration; raise NotFound, Refused."""


class NewEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/cni/endpoints."""

    overlay: str
    container: str
    ifname: str
    sandbox: str
    addresses: list[str] = []
    groups: list[str] = []
    labels: dict[str, str] = {}

    def wish(self) -> CniWish:
        """Answer what is meant; raise BadWish for addresses, groups or labels that are none.

        Raises MalformedRequest for a container, a link or a sandbox that nothing can be called.
        """
        self._check_names()
        try:
            return CniWish(
                overlay=self.overlay,
                container=self.container,
                ifname=self.ifname,
                sandbox=self.sandbox,
                addresses=read_addresses(self.addresses),
                options=read_options(self.labels, self.groups),
            )
        except Refused as error:
            raise BadWish(str(error)) from None

    def _check_names(self) -> None:
        """Keep out of the records what every later look at them would stumble over."""
        for what, text in (("container", self.container), ("ifname", self.ifname), ("sandbox", self.sandbox)):
            if not text or not text.isprintable():
                raise MalformedRequest(f"{what} {text[:40]!r} must be a text that can be printed")
        if not self.sandbox.startswith("/"):
            raise MalformedRequest(f"sandbox {self.sandbox[:40]!r} is not an absolute path")


T = TypeVar("T", bound=str)

Route = tuple[str, Literal["GET", "POST", "DELETE"], Callable[..., Any]]


def is_waited_for(path: str) -> bool:
    """Tell whether a container cannot start or end before what is asked at a path is answered."""
    return path == _ENDPOINTS


def routes(
    operations: CniOperations, body: Callable[[type[NewEndpoint]], NewEndpoint], query: Callable[..., dict[str, str]]
) -> list[Route]:
    """Answer paths, methods and what is done there; `body` and `query` read the request at hand."""

    def key() -> CniKey:
        names = ("overlay", "container", "ifname")
        given = query(*names)
        for name in names:
            if not given.get(name):
                raise MalformedRequest(f"query parameter {name!r} is missing")
        return CniKey(**given)

    def detach() -> Any:
        operations.detach(key())
        return {}

    def configuration(name: str) -> Any:
        given = query("ipam", "shape")
        return operations.configuration(
            name, _one_of(IPAMS, given, "ipam"), _one_of(SHAPES, given, "shape") or SHAPES[0]
        )

    return [
        (_ENDPOINTS, "POST", lambda: operations.attach(body(NewEndpoint).wish())),
        (_ENDPOINTS, "GET", lambda: operations.verify(key())),
        (_ENDPOINTS, "DELETE", detach),
        ("/v1/cni/configurations/<name>", "GET", configuration),
    ]


def _one_of(allowed: Sequence[T], given: Mapping[str, str], key: str) -> T | None:
    """Answer a query parameter, None where it is not given; raise MalformedRequest."""
    if key not in given:
        return None
    for one in allowed:
        if one == given[key]:
            return one
    raise MalformedRequest(f"query parameter {key}={given[key]!r} is none of {', '.join(allowed)}")
