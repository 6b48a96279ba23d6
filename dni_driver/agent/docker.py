# SPDX-License-Identifier: Apache-2.0
"""dockerd, over its API. Never to be asked by a handler that dockerd waits for: it would wait for itself.

docker-py is imported when first needed, in the thread that needs it; its client asks dockerd for its version when
it is made.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from dni_driver.agent.docker_wire import Container, Network, convert, to_view
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.deadline import holding
from dni_driver.core.docker_networks import ListedNetwork
from dni_driver.core.errors import Refused, Unavailable
from dni_driver.core.records import Records
from dni_driver.core.views import DockerView, is_dni

ANSWER_SECONDS = 10
CREATION_SECONDS = 45
"""For what dockerd does by calls of dni's plugin, a handler of which may take 20 s."""
_ENGINE = re.compile(r"Docker/(\S+)")
_PREAMBLE = "Error response from daemon: "
TURN_SECONDS = 30.0
"""How long a thread waits for another that asks dockerd: for three answers, which a look takes."""
_EVENTS = {"type": ["network", "daemon"], "event": ["create", "destroy", "prune", "connect", "disconnect", "reload"]}
"""A container that starts or stops connects to a network or disconnects."""
_PLUGGED = frozenset({"connect", "disconnect"})
_BUILT_IN_IPAM = frozenset({"", "default", "null"})


class DockerDaemon:
    """The dockerd behind one socket. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Ask nothing yet."""
        self._socket = path
        self._lock = threading.Lock()
        self._client: Any = None
        self._foreign: frozenset[str] = frozenset()
        self._stream: Any = None
        self._closed = False

    def version(self) -> str:
        """Answer the version of the engine; raise Unavailable.

        Every answer names it. Asked for it outright, dockerd starts runc and docker-init to ask those for theirs.
        """
        with self.asking() as client:
            answer = client.get(f"{client.base_url}/_ping", timeout=ANSWER_SECONDS)
            named = _ENGINE.match(answer.headers.get("Server", ""))
            return named[1] if named else convert(client.version(), dict[str, Any]).get("Version") or "unknown"

    def view(self, records: Records) -> DockerView:
        """Answer the networks that use dni, or that the records know; raise Unavailable.

        Networks come before containers: so an endpoint that is on neither list was on no network in between.
        """
        with self.asking() as client:
            listed = convert(client.networks(), list[Network])
            ours = [one.id for one in listed if _concerns_dni(one, records)]
            self._foreign = frozenset(one.id for one in listed).difference(ours)
            networks = list(_inspected(client, ours))
            containers = convert(client.containers(), list[Container]) if networks else []
        return DockerView(networks=tuple(to_view(network, containers) for network in networks))

    def listed(self) -> list[ListedNetwork]:
        """Answer all networks; raise Unavailable."""
        with self.asking() as client:
            listed = convert(client.networks(), list[Network])
        return [ListedNetwork(id=one.id, name=one.name, driver=one.driver, labels=one.labels or {}) for one in listed]

    def create_network(self, body: dict[str, Any]) -> None:
        """Create a network; raise Refused with what dockerd says, Unavailable.

        docker-py does not know all of the body: so it is posted as it stands.
        """
        with self.asking() as client:
            url = f"{client.base_url}/v{client.api_version}/networks/create"
            _check(client.post(url, json=body, timeout=CREATION_SECONDS))

    def remove_network(self, network: str) -> None:
        """Remove a network; raise Refused with what dockerd says, Unavailable."""
        with self.asking() as client:
            url = f"{client.base_url}/v{client.api_version}/networks/{network}"
            _check(client.delete(url, timeout=CREATION_SECONDS), HTTPStatus.NOT_FOUND)

    def events(self) -> Iterator[DockerEvent]:
        """Answer the events of networks and the daemon, until dockerd ends; raise Unavailable.

        Who comes and goes on a network that the last view left out is left out too.
        """
        with self._explained():
            self._probe()
            client = self._connect()
            with ExitStack() as undo:
                undo.callback(client.close)
                self._stream = client.events(decode=True, filters=_EVENTS)
                undo.pop_all()
        if self._closed:
            self._end_stream()
        return self._read(client, self._stream)

    def close(self) -> None:
        """End the events, whoever reads or begins to read them, and let go of dockerd unless it is being asked."""
        self._closed = True
        self._end_stream()
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()

    def _end_stream(self) -> None:
        if self._stream is not None:
            # The stream reaches deep into urllib3 to find its socket, and may find none.
            with suppress(OSError, AttributeError):
                self._stream.close()

    def _read(self, client: Any, stream: Iterable[dict[str, Any]]) -> Iterator[DockerEvent]:
        with self._explained():
            try:
                for event in stream:
                    action, subject = str(event.get("Action")), (event.get("Actor") or {}).get("ID")
                    if action not in _PLUGGED or subject not in self._foreign:
                        yield DockerEvent(str(event.get("Type")), action, _name(event))
            finally:
                client.close()

    def _connect(self) -> Any:
        from docker import APIClient  # noqa: PLC0415 - 8 MiB and 80 ms that nothing else of dni needs

        return APIClient(base_url=f"unix://{self._socket}", version="auto", timeout=ANSWER_SECONDS)

    def _probe(self) -> None:
        """Raise OSError where nobody listens: docker-py would say so in many words, and leave a socket open."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(str(self._socket))

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """Give the client to one thread at a time; drop it after a failure, as dockerd may come back another."""
        with holding(self._lock, TURN_SECONDS, f"dockerd at {self._socket} is being asked already: try again"):
            try:
                with self._explained():
                    self._probe()
                    self._client = self._client or self._connect()
                    yield self._client
            except Unavailable:
                self._drop()
                raise

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _failures() as error:
            raise Unavailable(f"dockerd does not answer at {self._socket}: {_reason(error)}") from error


def _failures() -> tuple[type[Exception], ...]:
    """Answer what docker-py raises: errors of its own, of urllib3, of sockets and requests, of json."""
    if "docker" not in sys.modules:
        return (OSError,)
    from docker.errors import DockerException  # noqa: PLC0415 - as in _connect
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - as in _connect

    return DockerException, HTTPError, OSError, ValueError


def _concerns_dni(network: Network, records: Records) -> bool:
    """Tell whether a network is ours by its drivers, by its id, or by a pool of ours: plugins can have aliases."""
    if is_dni(network.driver) or is_dni(network.ipam_driver):
        return True
    if network.id in {known.id for known in records.networks}:
        return True
    pools = {str(pool.subnet) for pool in records.pools if pool.subnet is not None}
    return network.ipam_driver not in _BUILT_IN_IPAM and not pools.isdisjoint(network.subnets())


def _inspected(client: Any, ids: Iterable[str]) -> Iterator[Network]:
    from docker.errors import NotFound  # noqa: PLC0415 - as in _connect

    for network in ids:
        # Gone since it was listed.
        with suppress(NotFound):
            yield convert(client.inspect_network(network), Network)


def _check(answer: Any, fine: HTTPStatus = HTTPStatus.OK) -> None:
    """Raise Refused, with dockerd's own words, where it did not do as it was asked."""
    if not answer.ok and answer.status_code != fine:
        words = msgspec.json.decode(answer.content).get("message", "")
        raise Refused(" ".join(str(words).removeprefix(_PREAMBLE).split()) or f"dockerd answers {answer.status_code}")


def _name(event: Mapping[str, Any]) -> str:
    return str(((event.get("Actor") or {}).get("Attributes") or {}).get("name", ""))


def _reason(error: BaseException) -> str:
    """Answer what the operating system said, which the libraries wrap several times over; else one line of theirs."""
    seen: BaseException | None = error
    while seen is not None:
        for inner in (seen, *seen.args):
            if isinstance(inner, OSError) and inner.strerror:
                return inner.strerror
        if "timed out" in str(seen).lower():
            return f"no answer within {ANSWER_SECONDS} s"
        seen = seen.__cause__ or seen.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]
