# SPDX-License-Identifier: Apache-2.0
"""Ends a program of dni's, as kill -9 does, right after the n-th write to the store or the kernel.

The file `fuse` says how many writes there are to be; with the last it burns away. So a test that lets the first,
the second, the third write be the last has been between any two of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, Self, TypeVar

from pyroute2.iproute import IPRoute

from dni_driver.kernel import command, sysctl
from dni_driver.kernel.firewall.fingerprint import Memory
from dni_driver.kernel.netlink import conversation, nfnetlink, rtnetlink
from dni_driver.kernel.peers import batches
from dni_driver.kernel.ports import conntrack

P = ParamSpec("P")
T = TypeVar("T")

_READS = frozenset({"dump", "get", "show"})


class Fuse:
    """A fuse in a folder; it is not lit as long as its file is not there."""

    def __init__(self, folder: Path) -> None:
        """Take the folder."""
        self._file = folder / "fuse"
        self._lock = Lock()

    def burn(self) -> None:
        """Note a write that has been made."""
        with self._lock:
            if not self._file.exists():
                return
            left = int(self._file.read_text()) - 1
            if left > 0:
                self._file.write_text(str(left))
                return
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def after_commit(self, point: str) -> None:
        """Be the store's crash point: what was not committed was not written."""
        if point == "after commit":
            self.burn()

    def lay(self) -> None:
        """Lead it past everything in the kernel room that writes."""
        vars(batches)["attempt"] = self._past(command.attempt, lambda argv, *_: "-batch" in argv)
        command.attempt = self._past(command.attempt, lambda argv, *_: "-f" in argv or argv[0].endswith("-restore"))
        sysctl.write = self._past(sysctl.write)
        Memory.remember = self._past(Memory.remember)  # type: ignore[method-assign]
        nfnetlink.add = self._past(nfnetlink.add)
        nfnetlink.remove = self._past(nfnetlink.remove)
        for module, change in ((rtnetlink, "_told"), (conntrack, "_delete_one")):
            vars(module)[change] = self._past(vars(module)[change])
        vars(conversation)["IPRoute"] = partial(_Talk, IPRoute, self.burn)

    def _past(self, write: Callable[P, T], writes: Callable[P, bool] = lambda *_, **__: True) -> Callable[P, T]:
        @wraps(write)
        def written(*args: P.args, **kwargs: P.kwargs) -> T:
            answer = write(*args, **kwargs)
            if writes(*args, **kwargs):
                self.burn()
            return answer

        return written


class _Talk:
    """A conversation with the kernel, each change of which counts."""

    def __init__(self, kind: Callable[..., Any], burn: Callable[[], None], **settings: Any) -> None:
        self._route = kind(**settings)
        self._burn = burn

    def __enter__(self) -> Self:
        self._route.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._route.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self._route, name)
        return partial(self._asked, ask) if name in {"link", "addr", "neigh", "route", "tc"} else ask

    def _asked(self, ask: Callable[..., Sequence[Any]], order: str, *kind: str, **details: Any) -> Sequence[Any]:
        answer = ask(order, *kind, **details)
        if order not in _READS:
            self._burn()
        return answer
