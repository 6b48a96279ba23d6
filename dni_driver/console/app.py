# SPDX-License-Identifier: Apache-2.0
"""The operator API: JSON in and out, under /v1. An error is `{"error": TEXT}`, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeVar

import msgspec
import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dni_driver.console import addresses, dcos
from dni_driver.console import cni as cni_part
from dni_driver.console.asking import read_agent, read_agent_ip, read_count, read_half
from dni_driver.console.cni import CniOperations
from dni_driver.console.operations import Operations
from dni_driver.core.deadline import deadline
from dni_driver.core.driver_name import PLAIN, as_typed
from dni_driver.core.errors import (
    BadWish,
    Crowded,
    DniError,
    Exhausted,
    InUse,
    MalformedRequest,
    NotFound,
    Refused,
    Unavailable,
)
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.overlays import Backend, Network, Overlay, define
from dni_driver.core.reports import OverlayReport

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 20.0
REPAIR_SECONDS = 60.0
"""A repair asks every address that it would free whether somebody has it, a second each."""
LARGEST_BODY = 1 << 16

_EXAMPLES = {"subnet": "10.64.0.0/16", "subnet6": "fd01:d::/64"}

_STATUS = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (InUse, HTTPStatus.CONFLICT),
    (Crowded, HTTPStatus.SERVICE_UNAVAILABLE),
    (Exhausted, HTTPStatus.CONFLICT),
    (BadWish, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Refused, HTTPStatus.BAD_REQUEST),
    (MalformedRequest, HTTPStatus.BAD_REQUEST),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)

B = TypeVar("B", bound=msgspec.Struct)

Route = tuple[str, str, Callable[..., Response]]
"""A path, a method, and what answers it."""


class NewOverlay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/overlays. `trial`: for a Docker network that is being created, without which it goes.

    `network`: the agent may make the overlay's Docker network on this host. `backend`: where none is given, the one
    that it has, if it is there.
    """

    name: str
    subnet: str | None = None
    prefix: int | None = None
    subnet6: str | None = None
    prefix6: int | None = None
    backend: Backend | None = None
    trial: bool = False
    network: bool = True

    def overlay(self) -> Overlay:
        """Answer the overlay that is meant; raise Refused with the rule it breaks."""
        given = [
            subnet
            for subnet in (
                _subnet("subnet", self.subnet, self.prefix),
                _subnet("subnet6", self.subnet6, self.prefix6),
            )
            if subnet is not None
        ]
        return define(self.name, given, (self.prefix, self.prefix6), self.backend or "vxlan")


class OverlayChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /v1/overlays/NAME."""

    backend: Backend


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an order that needs no words."""


class Findings(msgspec.Struct, frozen=True):
    """The answer of POST /v1/check."""

    findings: list[Finding]


def create_app(operations: Operations, driver: str = PLAIN, cni: CniOperations | None = None) -> Flask:
    """Build the app around what the agent can do; `driver` is what users call it in commands."""
    return _app([*_all_routes(operations), *(_cni_routes(cni) if cni else ())], driver)


def create_reading_app(operations: Operations, driver: str = PLAIN) -> Flask:
    """Build the app for those who may look and change nothing: over TCP nobody knows who asks."""
    routes = _all_routes(operations)
    return _app([(rule, method, view if method == "GET" else _elsewhere) for rule, method, view in routes], driver)


def _all_routes(operations: Operations) -> list[Route]:
    return [
        *_routes(operations),
        *_address_routes(operations),
        *_cluster_routes(operations),
        *_counts(operations),
        *_dcos_routes(operations),
    ]


def _app(routes: list[Route], driver: str) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    for rule, method, view in routes:
        app.add_url_rule(rule, f"{method} {rule}", view, methods=[method], provide_automatic_options=False)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _any_error)
    app.after_request(partial(_as_typed, driver))
    return app


def _routes(operations: Operations) -> list[Route]:
    def define_overlay() -> Any:
        new = _body(NewOverlay)
        overlay = new.overlay()
        if new.backend is None:
            overlay = _as_it_travels(overlay, operations.overlays())
        if new.trial:
            return operations.try_overlay(overlay)
        return (operations.define_overlay if new.network else operations.define_without_network)(overlay)

    def remove_overlay(name: str) -> Any:
        operations.remove_overlay(name)
        return {}

    def check() -> Any:
        _body(Nothing)
        return Findings(operations.check())

    def repair() -> Any:
        _body(Nothing)
        return operations.repair()

    return [
        ("/v1/status", "GET", _view(operations.status)),
        ("/v1/overlays", "GET", _view(operations.overlays)),
        ("/v1/overlays", "POST", _view(define_overlay, HTTPStatus.CREATED)),
        ("/v1/overlays/<name>", "DELETE", _view(remove_overlay)),
        ("/v1/ports", "GET", _view(operations.ports)),
        ("/v1/check", "POST", _view(check, seconds=REPAIR_SECONDS)),
        ("/v1/repair", "POST", _view(repair, seconds=REPAIR_SECONDS)),
    ]


def _as_it_travels(overlay: Overlay, known: Iterable[OverlayReport]) -> Overlay:
    """Answer an overlay with the backend that it has, if it is there."""
    there = (msgspec.structs.replace(overlay, backend=one.backend) for one in known if one.name == overlay.name)
    return next(there, overlay)


def _cluster_routes(operations: Operations) -> list[Route]:
    """Answer the routes to what all hosts share."""

    def set_overlay(name: str) -> Any:
        return operations.set_backend(name, _body(OverlayChange).backend)

    def keep_overlay(name: str) -> Any:
        _body(Nothing)
        operations.keep_overlay(name)
        return {}

    def forget_agent(agent: str) -> Any:
        operations.forget_agent(read_agent_ip(agent))
        return {}

    return [
        ("/v1/overlays/<name>", "PATCH", _view(set_overlay)),
        ("/v1/overlays/<name>/keep", "POST", _view(keep_overlay)),
        ("/v1/agents", "GET", _view(operations.agents)),
        ("/v1/agents/<agent>", "DELETE", _view(forget_agent)),
    ]


def _cni_routes(operations: CniOperations) -> list[Route]:
    return [
        (rule, method, _view(operation)) for rule, method, operation in cni_part.routes(operations, _body, _query)
    ]


def _address_routes(operations: Operations) -> list[Route]:
    return [
        (rule, method, _view(operation, status))
        for rule, method, operation, status in addresses.routes(operations, _body, _query)
    ]


def _counts(operations: Operations) -> list[Route]:
    """Answer the routes to what is counted: for people, schedulers and monitoring."""

    def room(name: str) -> Any:
        query = _query("agent", "count", "half")
        return operations.room(name, read_agent(query), read_half(query), read_count(query))

    def metrics() -> Response:
        from dni_driver.console.metrics import exposition  # noqa: PLC0415 - for those who ask alone

        with deadline(ANSWER_SECONDS):
            return exposition(operations.figures())

    return [
        ("/v1/overlays/<name>/usage", "GET", _view(operations.usage)),
        ("/v1/overlays/<name>/room", "GET", _view(room)),
        ("/metrics", "GET", metrics),
    ]


def _dcos_routes(operations: Operations) -> list[Route]:
    """Answer the routes that DC/OS knows, at which errors are plain text."""

    def view(answer: Callable[[], Response]) -> Callable[[], Response]:
        def within_time() -> Response:
            with deadline(ANSWER_SECONDS):
                return answer()

        return within_time

    def delete() -> Response:
        return dcos.answer(lambda: operations.purge(dcos.read_purge()))

    return [
        ("/overlay-agent/overlay", "GET", view(lambda: dcos.answer_in_form(operations.dcos_agent))),
        ("/overlay-master/state", "GET", view(lambda: dcos.answer(operations.dcos_cluster))),
        ("/overlay-master/agents/delete", "POST", view(delete)),
    ]


def _elsewhere(**_: str) -> Response:
    return _error("over TCP nothing is changed: ask at the socket, as `dni` does", HTTPStatus.FORBIDDEN)


def _view(
    operation: Callable[..., Any], status: HTTPStatus = HTTPStatus.OK, seconds: float = ANSWER_SECONDS
) -> Callable[..., Response]:
    def view(**parts: str) -> Response:
        with deadline(seconds):
            return _json(operation(**parts), status)

    return view


def _body(kind: type[B]) -> B:
    """Decode the body; raise MalformedRequest naming what is wrong and what is allowed."""
    try:
        return msgspec.json.decode(request.get_data(cache=False) or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        allowed = ", ".join(kind.__struct_fields__) or "nothing"
        raise MalformedRequest(f"the request body is not understood: {error}; allowed: {allowed}") from None


def _query(*allowed: str) -> dict[str, str]:
    for key in request.args:
        if key not in allowed:
            raise MalformedRequest(f"query parameter {key!r} is not known: use {', '.join(allowed)}")
    return request.args.to_dict()


def _subnet(key: str, text: str | None, prefix: int | None) -> Network | None:
    if text is None:
        if prefix is not None:
            raise Refused(f"an agent prefix of {prefix} needs a subnet beside it, such as --{key} {_EXAMPLES[key]}")
        return None
    kind, other = (IPv4Network, "subnet6") if key == "subnet" else (IPv6Network, "subnet")
    try:
        return kind(text)
    except ValueError as error:
        with suppress(ValueError):
            ip_network(text)
            raise Refused(f"{key} {text!r} is of the other family: use --{other}") from None
        raise Refused(f"{key} {text!r} cannot be used: {error}; write it like {_EXAMPLES[key]}") from None


def _json(answer: Any, status: int) -> Response:
    return Response(msgspec.json.encode(answer), status=status, content_type="application/json")


def _as_typed(driver: str, response: Response) -> Response:
    """Have the commands in a text name the driver as users must type it."""
    if response.mimetype == dcos.PROTOBUF:
        return response
    response.set_data(as_typed(response.get_data(as_text=True), driver))
    return response


def _http_error(error: HTTPException) -> Response:
    texts = {
        404: f"there is nothing at {request.path[:80]!r}",
        405: f"{request.method} is not possible at {request.path[:80]!r}",
        413: f"the request is longer than {LARGEST_BODY} bytes",
    }
    status = error.code or 500
    response = _error(texts.get(status, str(error.description)), status)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response


def _any_error(error: Exception) -> Response:
    if not isinstance(error, DniError):
        log.error("failed", request=f"{request.method} {request.path}", exc_info=error)
        text = f"dni failed unexpectedly ({type(error).__name__}): the log of the agent says more"
        return _error(text, HTTPStatus.INTERNAL_SERVER_ERROR)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    log.info("refused", request=f"{request.method} {request.path}", error=str(error))
    return _error(str(error), status)


def _error(text: str, status: int) -> Response:
    return dcos.plain(text, status) if dcos.is_asked() else _json({"error": text}, status)
