# SPDX-License-Identifier: Apache-2.0
"""The part of the operator API that `dni address` asks: who has which address, what is kept back, and limits."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from dni_driver.console.operations import Operations
from dni_driver.core.addresses.reservations import Wish, read_wish
from dni_driver.core.errors import MalformedRequest, Refused
from dni_driver.core.options.bandwidth import parse_rate
from dni_driver.core.overlays import Address

B = TypeVar("B", bound=msgspec.Struct)

Route = tuple[str, Literal["GET", "POST", "DELETE"], Callable[..., Any], HTTPStatus]


class Body(Protocol):
    """Reads the body of the request at hand."""

    def __call__(self, kind: type[B]) -> B:
        """Answer it; raise MalformedRequest."""


class NewReservation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/reservations. `addresses` is one, a range or a subnet; missing: the next."""

    overlay: str
    addresses: str | None = None
    container: str | None = None
    family: Literal[4, 6] | None = None

    def wish(self) -> Wish:
        """Answer what is meant; raise Refused with how to write it."""
        return read_wish(self.overlay, self.addresses, self.container, self.family)


class NewLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/limits: rates as `10mbit` or `none`; what is left out stays as it is."""

    address: str
    egress: str | None = None
    ingress: str | None = None

    def of(self) -> Address:
        """Answer the address that is meant; raise Refused."""
        try:
            return ip_address(self.address)
        except ValueError:
            raise Refused(
                f"{self.address[:60]!r} is not an IP address: `dni address ls` shows those in use"
            ) from None

    def limits(self) -> dict[str, int]:
        """Answer the limits in bits a second; raise Refused."""
        given = {"egress": self.egress, "ingress": self.ingress}
        limits = {key: parse_rate(key, text) for key, text in given.items() if text is not None}
        if not limits:
            raise Refused(
                "nothing is to be changed: give a rate for egress, for ingress or for both, such as --egress 10mbit"
            )
        return limits


def routes(operations: Operations, body: Body, query: Callable[..., dict[str, str]]) -> list[Route]:
    """Answer paths, methods, what is done there and with which status; the last two read the request at hand."""

    def addresses() -> Any:
        given = query("overlay", "all")
        return operations.addresses(given.get("overlay"), with_free=_is_set(given, "all"))

    def reserve() -> Any:
        return operations.reserve(body(NewReservation).wish())

    def release() -> Any:
        given = query("overlay", "addresses", "container")
        return operations.release(read_wish(given.get("overlay", ""), given.get("addresses"), given.get("container")))

    def limit() -> Any:
        wanted = body(NewLimits)
        return operations.limit(wanted.of(), wanted.limits())

    return [
        ("/v1/addresses", "GET", addresses, HTTPStatus.OK),
        ("/v1/reservations", "POST", reserve, HTTPStatus.CREATED),
        ("/v1/reservations", "DELETE", release, HTTPStatus.OK),
        ("/v1/limits", "POST", limit, HTTPStatus.OK),
    ]


def _is_set(query: dict[str, str], key: str) -> bool:
    value = query.get(key, "0")
    if value not in ("0", "1"):
        raise MalformedRequest(f"query parameter {key}={value!r} is neither 0 nor 1")
    return value == "1"
