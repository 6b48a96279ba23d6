# SPDX-License-Identifier: Apache-2.0
"""What a table looked like right after it was fed: one that looks otherwise now was changed by another program."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec


class Fingerprint(msgspec.Struct, frozen=True):
    """Digests of the table as it was fed to nft, and as nft listed it right after."""

    fed: str
    listed: str


class Memory:
    """The fingerprint of one table, in a file that all dni processes of the host share."""

    def __init__(self, file: Path) -> None:
        """Keep it in a file, which need not be there yet."""
        self._file = file

    def remember(self, fed: bytes, listed: bytes) -> None:
        """Remember a table as it was fed, and as it looked right after."""
        draft = self._file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(Fingerprint(_digest(fed), _digest(listed))))
        draft.replace(self._file)

    def forget(self) -> None:
        """Remember nothing: whatever the table looks like, it is out of date."""
        self._file.unlink(missing_ok=True)

    def holds(self) -> bool:
        """Tell whether a table is remembered."""
        return self._remembered() is not None

    def fault(self, fed: bytes, listed: bytes) -> str | None:
        """Answer in words how a table that looks so differs from one that was fed so; None where it does not."""
        known = self._remembered()
        if known is None or known.fed != _digest(fed):
            return "is out of date"
        return "was changed by another program" if known.listed != _digest(listed) else None

    def _remembered(self) -> Fingerprint | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Fingerprint)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
