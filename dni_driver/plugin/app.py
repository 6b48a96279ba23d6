# SPDX-License-Identifier: Apache-2.0
"""The Flask app dockerd talks to: one POST route for each method, JSON in and out, errors in both dialects.

dockerd sends no Content-Type and takes only status 200 for success. It reads errors from `Err` (NetworkDriver)
or `Error` (IpamDriver), so every error carries both, in one line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from dni_driver.core.deadline import deadline
from dni_driver.core.driver_name import PLAIN, as_typed
from dni_driver.core.errors import DniError, MalformedRequest
from dni_driver.plugin import wire
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
HANDLER_SECONDS = 20.0
"""dockerd waits without end for a plugin on a socket, and holds locks meanwhile."""
LARGEST_BODY = 16 << 20
"""In bytes. `-p 1-65535:1-65535` makes 7 MB: an object for each port, twice."""

LONGEST_TEXT = 2000
"""In characters, of an error: some repeat what they were sent."""

_FAILURE = "dni.failure"
"""Where in a call's environment is what went wrong with it."""

Answer = Callable[[bytes], wire.Response]


class _App(Flask):
    """Flask with a short way: a method that succeeds is answered from a table, without what a web page would need.

    Everything else is Flask's: what is no method, and to tell what went wrong.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        """Take what answers each method."""
        super().__init__(__name__, static_folder=None)
        self._answers = {f"/{name}": _timed(name, answer) for name, answer in answers.items()}
        for path in self._answers:
            self.add_url_rule(path, path, _fail, methods=["POST"], provide_automatic_options=False)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one call."""
        answer = self._answers.get(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        if answer is None:
            return super().wsgi_app(environ, start_response)
        try:
            body = answer(_body(environ))
        except Exception as error:  # noqa: BLE001 - whatever it is, Flask tells it
            environ[_FAILURE] = error
            return super().wsgi_app(environ, start_response)
        start_response("200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))])
        return [body]


def _fail() -> NoReturn:
    """Have Flask tell what the short way met with."""
    error: Exception = request.environ[_FAILURE]
    raise error


def create_app(network: NetworkDriver, ipam: IpamDriver, driver: str = PLAIN) -> Flask:
    """Build the app that answers every method of both drivers; `driver` is what users call it in commands."""
    app = _App(methods(network, ipam))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _any_error)
    app.after_request(partial(_as_typed, driver))
    return app


def methods(network: NetworkDriver, ipam: IpamDriver) -> Mapping[str, Answer]:
    """Answer every method by its name on the wire."""
    return {
        "Plugin.Activate": _bodiless(lambda: _activate(network)),
        "NetworkDriver.GetCapabilities": _bodiless(network.get_capabilities),
        "NetworkDriver.AllocateNetwork": _typed(wire.AllocateNetworkRequest, network.allocate_network),
        "NetworkDriver.FreeNetwork": _typed(wire.NetworkRequest, network.free_network),
        "NetworkDriver.GwAllocCheck": _typed(wire.GwAllocCheckRequest, network.gw_alloc_check),
        "NetworkDriver.CreateNetwork": _typed(wire.CreateNetworkRequest, network.create_network),
        "NetworkDriver.DeleteNetwork": _typed(wire.NetworkRequest, network.delete_network),
        "NetworkDriver.CreateEndpoint": _typed(wire.CreateEndpointRequest, network.create_endpoint),
        "NetworkDriver.DeleteEndpoint": _typed(wire.EndpointRequest, network.delete_endpoint),
        "NetworkDriver.EndpointOperInfo": _typed(wire.EndpointRequest, network.endpoint_oper_info),
        "NetworkDriver.Join": _typed(wire.JoinRequest, network.join),
        "NetworkDriver.Leave": _typed(wire.EndpointRequest, network.leave),
        "NetworkDriver.ProgramExternalConnectivity": _typed(
            wire.ProgramExternalConnectivityRequest, network.program_external_connectivity
        ),
        "NetworkDriver.RevokeExternalConnectivity": _typed(
            wire.EndpointRequest, network.revoke_external_connectivity
        ),
        "NetworkDriver.DiscoverNew": _typed(wire.DiscoveryRequest, network.discover_new),
        "NetworkDriver.DiscoverDelete": _typed(wire.DiscoveryRequest, network.discover_delete),
        "IpamDriver.GetCapabilities": _bodiless(ipam.get_capabilities),
        "IpamDriver.GetDefaultAddressSpaces": _bodiless(ipam.get_default_address_spaces),
        "IpamDriver.RequestPool": _typed(wire.RequestPoolRequest, ipam.request_pool),
        "IpamDriver.ReleasePool": _typed(wire.ReleasePoolRequest, ipam.release_pool),
        "IpamDriver.RequestAddress": _typed(wire.RequestAddressRequest, ipam.request_address),
        "IpamDriver.ReleaseAddress": _typed(wire.ReleaseAddressRequest, ipam.release_address),
    }


def _activate(network: NetworkDriver) -> wire.ActivateResponse:
    """Answer what this plugin is; dockerd asks once in its life."""
    network.forget_the_dead()
    return wire.ActivateResponse(implements=["NetworkDriver", "IpamDriver"])


def _bodiless(handler: Callable[[], wire.Response]) -> Answer:
    return lambda _: handler()


def _typed(kind: type[wire.R], handler: Callable[[wire.R], wire.Response]) -> Answer:
    return lambda body: handler(wire.decode(body, kind))


def _timed(name: str, answer: Answer) -> Callable[[bytes], bytes]:
    def in_time(body: bytes) -> bytes:
        started = time.monotonic()
        with deadline(HANDLER_SECONDS):
            answered = wire.encode(answer(body))
        log.debug("answered", method=name, milliseconds=round((time.monotonic() - started) * 1000, 2))
        return answered

    return in_time


def _body(environ: WSGIEnvironment) -> bytes:
    """Read what came with a call; raise MalformedRequest where that breaks off, or is not what HTTP allows."""
    if int(environ.get("CONTENT_LENGTH") or 0) > LARGEST_BODY:
        raise RequestEntityTooLarge
    try:
        body: bytes = environ["wsgi.input"].read(LARGEST_BODY + 1)
    except Exception as error:  # each server has errors of its own
        raise MalformedRequest(f"the body of the request cannot be read ({type(error).__name__}): {error}") from error
    if len(body) > LARGEST_BODY:
        raise RequestEntityTooLarge
    return body


def _http_error(error: HTTPException) -> Response:
    texts = {
        404: f"{request.path.lstrip('/')[:80]!r} is not a method of dni",
        405: f"use POST: {request.path.lstrip('/')[:80]!r} is a method of Docker's plugin protocol",
        413: f"the request is longer than {LARGEST_BODY} bytes",
    }
    status = error.code or 500
    return _error(texts.get(status, str(error.description)), status)


def _any_error(error: Exception) -> Response:
    method, text = request.path.lstrip("/"), _line(str(error))
    if isinstance(error, MalformedRequest):
        log.warning("malformed request", method=method, error=text)
        return _error(text, 400)
    if isinstance(error, DniError):
        log.warning("refused", method=method, error=text)
        return _error(text, 500)
    log.error("failed", method=method, exc_info=error)
    return _error(f"dni failed unexpectedly ({type(error).__name__}): its log says more", 500)


def _as_typed(driver: str, response: Response) -> Response:
    """Have the commands in an error name the driver as users must type it."""
    if response.status_code != HTTPStatus.OK:
        response.set_data(as_typed(response.get_data(as_text=True), driver))
    return response


def _error(text: str, status: int) -> Response:
    line = _line(text)
    body: dict[str, Any] = {"Err": line, "Error": line}
    return Response(msgspec.json.encode(body), status=status, content_type=CONTENT_TYPE)


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_TEXT]
