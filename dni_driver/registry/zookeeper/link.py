# SPDX-License-Identifier: Apache-2.0
"""The way to ZooKeeper: every call ends in time, and its errors are ours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import msgspec
import structlog
from kazoo import exceptions as said
from kazoo.client import KazooClient, KazooState
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry
from kazoo.security import Permissions, make_digest_acl

from dni_driver.core.deadline import within
from dni_driver.core.errors import StoreError, Unavailable
from dni_driver.core.registry_address import ZooKeeperAddress
from dni_driver.registry import tls
from dni_driver.registry.access import Access
from dni_driver.registry.zookeeper.connecting import Connecting

log = structlog.get_logger(__name__)

SESSION_SECONDS = 10.0
"""For how long an agent that is not heard of counts as alive."""
ANSWER_SECONDS = 5.0
_SILENT_SECONDS = SESSION_SECONDS * 2 / 3
"""After which another server is asked: a sound one says something every third of a session at the latest."""
_RECONNECT_SECONDS = 2.0
_AT_A_TIME = 500
"""Reads on their way together."""

_LOST = (
    said.ConnectionLoss,
    said.ConnectionClosedError,
    said.SessionExpiredError,
    said.OperationTimeoutError,
    KazooTimeoutError,
)
_CHANGED = (said.NodeExistsError, said.NoNodeError, said.BadVersionError, said.NotEmptyError)


class Conflict(Exception):  # noqa: N818 - it is none
    """Somebody else changed what a transaction rests on: look again. `path` is that node, where it was one."""

    def __init__(self, text: str, path: str = "") -> None:
        """Say what is so."""
        super().__init__(text)
        self.path = path


class Found(msgspec.Struct, frozen=True):
    """A node: its data, and what ZooKeeper notes of it."""

    data: bytes
    stat: Any

    @property
    def version(self) -> int:
        """Answer how often its data was changed."""
        version: int = self.stat.version
        return version


class Link:
    """A session with ZooKeeper, kept up in the background. Paths are below the registry's own.

    `crash_point` is called around whatever writes: tests raise there. `epoch` is another after a session
    was lost, `turns` counts changes of its state, and `rung` is set at each of them.
    """

    def __init__(
        self, address: ZooKeeperAddress, access: Access, crash_point: Callable[[str], None] = lambda _: None
    ) -> None:
        """Begin to connect, without waiting for it."""
        self.address = address
        self.epoch = 0
        self.turns = 0
        self.rung = threading.Event()
        self._crash_point = crash_point
        self._connected = threading.Event()
        self._closed = False
        self._refused = False
        if access.ca is not None or access.certificate is not None:
            tls.context(access)  # files that cannot be used are named at once
        self._connecting = Connecting(access, _SILENT_SECONDS)
        self.client = _client(address, access, self._connecting)
        self.client.add_listener(self._turned)
        self.client.start_async()

    @property
    def closed(self) -> bool:
        """Tell whether it was closed here."""
        return self._closed

    @property
    def session(self) -> int:
        """Answer the number of the session, as ephemeral nodes have it; raise Unavailable where there is none now."""
        known = self.client.client_id
        if known is None:
            raise self.away()
        number: int = known[0]
        return number

    def wait(self, seconds: float) -> None:
        """Wait until there is a session; raise Unavailable."""
        if not self._connected.wait(within(seconds)) or self._closed:
            raise self.away()

    def away(self) -> Unavailable:
        """Build the error of a registry that does not answer."""
        servers = ", ".join(self.address.servers)
        if self._refused:
            return Unavailable(f"the registry refuses this host (ZooKeeper at {servers}): look at registry.user")
        if self._connecting.trouble is not None:
            return Unavailable(f"the registry cannot be used: ZooKeeper at {self._connecting.trouble}")
        return Unavailable(
            f"the registry does not answer (ZooKeeper at {servers}): containers go on, new ones start, and it is "
            f"tried again until it does"
        )

    def get(self, path: str, watch: Callable[[Any], None] | None = None) -> Found | None:
        """Answer a node, None where there is none; only one that is there is watched."""
        return _found(self._ended(self._begin("get", path, watch)))

    def exists(self, path: str, watch: Callable[[Any], None] | None = None) -> Any:
        """Answer what ZooKeeper notes of a node, None where there is none; that it comes is watched for."""
        return self._ended(self._begin("exists", path, watch))

    def children(self, path: str) -> list[str]:
        """Answer the names below a node; none where it is not there."""
        return self.every_child([path])[0]

    def every(self, paths: Sequence[str]) -> list[Found | None]:
        """Answer many nodes at once."""
        return [_found(one) for one in self._many("get", paths)]

    def every_stat(self, paths: Sequence[str]) -> list[Any]:
        """Answer what ZooKeeper notes of many nodes."""
        return self._many("exists", paths)

    def every_child(self, paths: Sequence[str]) -> list[list[str]]:
        """Answer the names below many nodes."""
        return [names or [] for names in self._many("get_children", paths)]

    def open_among(self, paths: Sequence[str]) -> list[str]:
        """Answer which nodes whoever comes may change; none where this host does not say who it is."""
        if not self.client.default_acl:
            return []
        found = zip(paths, self._many("get_acls", paths), strict=True)
        return [path for path, answer in found if answer and any(_is_open(one) for one in answer[0])]

    def close_to_others(self, paths: Sequence[str]) -> None:
        """Give nodes to this host's user alone."""
        for first in range(0, len(paths), _AT_A_TIME):
            some = paths[first : first + _AT_A_TIME]
            for begun in [self.client.set_acls_async(self._at(path), self.client.default_acl) for path in some]:
                self._ended(begun)

    def make_folders(self, paths: Sequence[str]) -> None:
        """Make nodes that others are put below; those that are there are left alone."""
        with self._explained():
            for path in sorted(set(paths)):
                self._crash_point("before a folder")
                self.client.ensure_path_async(self._at(path)).get(timeout=within(ANSWER_SECONDS))

    def transaction(self) -> Changes:
        """Begin a transaction."""
        return Changes(self.client.transaction(), self._at)

    def commit(self, changes: Changes) -> list[Any]:
        """Do all of a transaction or nothing; raise Conflict, or Unavailable: then nobody knows which."""
        self.wait(ANSWER_SECONDS)
        self._crash_point("before a transaction")
        with self._explained():
            results = changes.transaction.commit_async().get(timeout=within(ANSWER_SECONDS))
        for operation, result in zip(changes.transaction.operations, results, strict=True):
            if isinstance(result, _CHANGED):
                at = operation.path
                raise Conflict(f"{type(result).__name__} at {at}", at.removeprefix(self._at("")).removeprefix("/"))
        with self._explained():
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, said.RolledBackError):
                    raise result
        self._crash_point("after a transaction")
        return list(results)

    def stand_in_line(self, path: str) -> str:
        """Make a node that goes with the session, its name continued by the next number; answer the whole name.

        Raises Conflict where there is no such line, Unavailable. What is made after that is deleted again: nobody
        would know of it, and it would stay for as long as the session.
        """
        self.wait(ANSWER_SECONDS)
        self._crash_point("before a place in a line")
        begun = self.client.create_async(self._at(path), b"", ephemeral=True, sequence=True)
        with ExitStack() as undo:
            undo.callback(begun.rawlink, self._unmake)
            with self._explained():
                made = self._made(begun)
            undo.pop_all()
        self._crash_point("after a place in a line")
        return made

    def _made(self, begun: Any) -> str:
        try:
            return str(begun.get(timeout=within(ANSWER_SECONDS))).removeprefix(self._at(""))
        except said.NoNodeError as error:
            raise Conflict(f"there is no such line: {error}") from None

    def _unmake(self, late: Any) -> None:
        if late.successful():
            self.client.delete_async(late.get_nowait())

    def put_each(self, nodes: Mapping[str, bytes]) -> None:
        """Write many nodes, each by itself, and make those that are not there; raise Unavailable."""
        self.wait(ANSWER_SECONDS)
        self._crash_point("before many writes")
        begun = {path: self.client.set_async(self._at(path), data) for path, data in nodes.items()}
        missing = [path for path, one in begun.items() if self._ended(one) is None]
        made = [self.client.create_async(self._at(path), nodes[path]) for path in missing]
        for one in made:
            with self._explained(), suppress(said.NodeExistsError):
                one.get(timeout=within(ANSWER_SECONDS))

    def drop(self, path: str) -> None:
        """Have a node deleted by and by; where that fails, one that goes with the session stays as long as that."""
        with suppress(said.KazooException):
            self.client.delete_async(self._at(path))

    def remove_tree(self, path: str) -> None:
        """Remove a node and everything below it."""
        for name in self.children(path):
            self.remove_tree(f"{path}/{name}")
        self._crash_point("before a removal")
        with self._explained():
            try:
                self.client.delete_async(self._at(path)).get(timeout=within(ANSWER_SECONDS))
            except _CHANGED:
                return

    def close(self) -> None:
        """End the session."""
        self._closed = True
        self._connected.set()
        self.rung.set()
        self.client.stop()
        self.client.close()

    def _at(self, path: str) -> str:
        return f"{self.address.path}/{path}" if path else self.address.path

    def _begin(self, call: str, path: str, *watch: Callable[[Any], None] | None) -> Any:
        self.wait(ANSWER_SECONDS)
        return getattr(self.client, f"{call}_async")(self._at(path), *watch)

    def _ended(self, call: Any) -> Any:
        with self._explained():
            try:
                return call.get(timeout=within(ANSWER_SECONDS))
            except said.NoNodeError:
                return None

    def _many(self, call: str, paths: Sequence[str]) -> list[Any]:
        answers: list[Any] = []
        for first in range(0, len(paths), _AT_A_TIME):
            begun = [self._begin(call, path) for path in paths[first : first + _AT_A_TIME]]
            answers += [self._ended(one) for one in begun]
        return answers

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (said.NoAuthError, said.AuthFailedError):
            raise Unavailable(
                f"this host may not use the registry {self.address}: registry.user and registry.password must be "
                f"those of the agent that made it"
            ) from None
        except _LOST:
            raise self.away() from None
        except said.KazooException as error:
            raise StoreError(f"the registry cannot be used: ZooKeeper says {type(error).__name__} {error}") from error

    def _turned(self, state: str) -> None:
        """Take note of the session's state; ZooKeeper's client waits for this to return."""
        if state == KazooState.LOST:
            self.epoch += 1
            self._refused = str(self.client.client_state) == "AUTH_FAILED"
        if state == KazooState.CONNECTED or self._closed:
            self._connected.set()
        else:
            self._connected.clear()
        self.turns += 1
        log.info("registry", state=state.lower(), servers=",".join(self.address.servers))
        self.rung.set()


class Changes:
    """A transaction that is being put together."""

    def __init__(self, transaction: Any, at: Callable[[str], str]) -> None:
        """Begin with nothing."""
        self.transaction = transaction
        self._at = at

    def check(self, path: str, version: int) -> None:
        """Expect a node not to have been changed."""
        self.transaction.check(self._at(path), version)

    def create(self, path: str, data: bytes = b"") -> None:
        """Make a node."""
        self.transaction.create(self._at(path), data)

    def create_fleeting(self, path: str, data: bytes) -> None:
        """Make a node that goes with the session."""
        self.transaction.create(self._at(path), data, ephemeral=True)

    def append(self, path: str, data: bytes) -> None:
        """Make a node whose name is continued by the next number."""
        self.transaction.create(self._at(path), data, sequence=True)

    def put(self, path: str, data: bytes, version: int | None) -> None:
        """Change the data of a node that has this version; make it where that is None."""
        if version is None:
            self.create(path, data)
        else:
            self.transaction.set_data(self._at(path), data, version)

    def delete(self, path: str, version: int = -1) -> None:
        """Remove a node."""
        self.transaction.delete(self._at(path), version)


def _is_open(acl: Any) -> bool:
    return bool(acl.id.scheme == "world" and acl.perms & Permissions.ADMIN)


def _found(answer: Any) -> Found | None:
    return None if answer is None else Found(*answer)


def _client(address: ZooKeeperAddress, access: Access, connecting: Connecting) -> KazooClient:
    quiet = logging.getLogger("kazoo")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    retry = KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_delay=_RECONNECT_SECONDS, max_jitter=0.5)
    named = access.user is not None
    return KazooClient(
        hosts=",".join(address.servers),
        timeout=SESSION_SECONDS,
        connection_retry=retry,
        logger=quiet,
        auth_data=[("digest", f"{access.user}:{access.password}")] if named else None,
        default_acl=[make_digest_acl(access.user, access.password, all=True)] if named else None,
        handler=connecting,
    )
