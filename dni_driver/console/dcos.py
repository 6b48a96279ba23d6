# SPDX-License-Identifier: Apache-2.0
"""The three endpoints of DC/OS Overlay as its own modules answer them.

Sorted JSON, JSONP; of the agent protobuf too, for who takes no JSON; errors in plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from flask import Response, request
from werkzeug.exceptions import UnsupportedMediaType

from dni_driver.core import agent_ip
from dni_driver.core.errors import MalformedRequest
from dni_driver.core.mesos.dcos import Agent, Cluster, Purge, write
from dni_driver.core.overlays import Address

_JSON = "application/json"
_SCRIPT = "text/javascript"
_PREFIXES = ("/overlay-agent/", "/overlay-master/")
_CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,127}", re.ASCII)
PROTOBUF = "application/x-protobuf"
_WANTED = f"Client needs to support either {_JSON} or {PROTOBUF}"
"""What DC/OS says."""


def is_asked() -> bool:
    """Tell whether the request at hand is for one of these endpoints."""
    return request.path.startswith(_PREFIXES)


def answer(operation: Callable[[], Agent | Cluster]) -> Response:
    """Do what was asked, and answer it as JSON, whatever the client takes; raise MalformedRequest."""
    callback = _callback()
    body = write(operation())
    if callback is None:
        return Response(body, content_type=_JSON)
    return Response(b"%s(%s);" % (callback.encode(), body), content_type=_SCRIPT)


def answer_in_form(operation: Callable[[], Agent]) -> Response:
    """Do what was asked, and answer it in the form that the client takes, JSON before protobuf.

    Raises MalformedRequest, and UnsupportedMediaType where it takes neither.
    """
    if _takes(_JSON):
        return answer(operation)
    if not _takes(PROTOBUF):
        raise UnsupportedMediaType(_WANTED)
    from dni_driver.mesos import dcos_protobuf  # noqa: PLC0415 - for those who ask alone

    return Response(dcos_protobuf.write(operation()), content_type=PROTOBUF)


def read_purge() -> list[Address]:
    """Answer which agents the body names; raise MalformedRequest."""
    try:
        purge = msgspec.json.decode(request.get_data(cache=False), type=Purge)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(
            f'the request body is not understood: {error}; write it like {{"agents": ["10.0.0.1"]}}'
        ) from None
    return [_ip(text) for text in purge.agents]


def plain(text: str, status: int) -> Response:
    """Answer an error."""
    return Response(text, status=status, content_type="text/plain; charset=utf-8")


def _takes(form: str) -> bool:
    return "Accept" not in request.headers or request.accept_mimetypes[form] > 0


def _callback() -> str | None:
    callback = request.args.get("jsonp")
    if callback is not None and not _CALLBACK.fullmatch(callback):
        raise MalformedRequest(f"jsonp={callback[:40]!r} is no name of a function")
    return callback


def _ip(text: str) -> Address:
    try:
        return agent_ip.read(text)
    except ValueError:
        raise MalformedRequest(f"{text[:40]!r} is no agent IP: write it like 10.0.0.1") from None
