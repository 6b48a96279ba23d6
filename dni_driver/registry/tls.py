# SPDX-License-Identifier: Apache-2.0
"""Whom dni believes over TLS, and what it shows of itself."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dni_driver.core.errors import SettingsError
from dni_driver.registry.access import Access

_BELIEVED = (
    "registry.ca names the file of those who vouch for it, and registry.url must call it as its certificate does"
)


def context(access: Access) -> ssl.SSLContext:
    """Answer what a connection needs; raise SettingsError, naming the key, for a file that cannot be used.

    Who is connected to must be named in its certificate as it was called, and be vouched for by the authorities that
    `ca` holds, and by no other; where there is none, by one that the machine believes: to read these takes some
    thirty milliseconds.
    """
    if access.ca is None:
        made = ssl.create_default_context()
    else:
        with _blaming("ca", access.ca):
            made = ssl.create_default_context(cafile=access.ca)
    if access.certificate is not None and access.key is not None:
        with _blaming("key", access.key):
            access.key.read_bytes()
        with _blaming("certificate", access.certificate):
            made.load_cert_chain(access.certificate, access.key)
    return made


def explained(error: ssl.SSLError) -> str:
    """Say why there is no TLS with somebody, and what it may be."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"is not believed: {error.verify_message.rstrip('.')}: {_BELIEVED}"
    words = (error.reason or str(error)).replace("_", " ").lower()
    return (
        f"does not agree on TLS: {words}: registry.tls is for those who speak it, registry.certificate is shown them"
    )


@contextmanager
def _blaming(key: str, path: Path) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError:
        raise SettingsError(
            f"registry.{key} = {str(path)!r}: is no {key} in PEM, or none that fits the other"
        ) from None
    except OSError as error:
        raise SettingsError(f"registry.{key} = {str(path)!r}: cannot be read: {error.strerror}") from None


_Mark = tuple[int, int, int]


class KeptContext:
    """A context for many questions, each of which takes less time than to make one.

    It is made again once a file that it was made of is another.
    """

    def __init__(self, access: Access) -> None:
        """Make none yet."""
        self._access = access
        machines = ssl.get_default_verify_paths()
        told = (access.ca, access.certificate, access.key, machines.cafile, machines.capath)
        self._files = [Path(file) for file in told if file is not None]
        self._made: tuple[list[_Mark | None], ssl.SSLContext] | None = None

    def get(self) -> ssl.SSLContext:
        """Answer it as of now; raise SettingsError as `context` does."""
        marks = [_mark(file) for file in self._files]
        if self._made is None or self._made[0] != marks or None in marks:
            self._made = (marks, context(self._access))
        return self._made[1]


def _mark(path: Path) -> _Mark | None:
    """Answer what changes with a file; None where there is none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
