# SPDX-License-Identifier: Apache-2.0
"""Who on this host has a port, as far as /proc tells: for the message that refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from dni_driver.core.overlays import Address
from dni_driver.core.ports import HostPort, Protocol

_PROC = Path("/proc")
_TABLES = {
    Protocol.TCP: ("tcp", "tcp6"),
    Protocol.UDP: ("udp", "udp6"),
}
"""Sockets of SCTP are listed otherwise, and hardly ever there."""
_LISTENS = "0A"
_LOCAL, _STATE, _INODE = 1, 3, 9
"""Columns of /proc/net/tcp and udp; a line that has fewer is its title."""
_IPV4_DIGITS = 8
_DOCKERS = {"docker-proxy", "dockerd"}


def holder(at: HostPort) -> str | None:
    """Answer in words which program has a port, or one that overlaps it; None where that cannot be told."""
    inodes = set(_sockets(at))
    for program in sorted(_programs(), key=lambda path: int(path.name)) if inodes else ():
        if inodes & set(_open_sockets(program)):
            return _described(program, at)
    return None


def _sockets(at: HostPort) -> Iterator[str]:
    """Answer the inodes of sockets that have a port; of TCP those that listen."""
    for table in _TABLES.get(at.protocol, ()):
        with suppress(OSError):
            for line in Path("/proc/thread-self/net", table).read_text().splitlines():
                fields = line.split()
                if len(fields) > _INODE and ":" in fields[_LOCAL] and _has(fields, at):
                    yield fields[_INODE]


def _has(fields: list[str], at: HostPort) -> bool:
    digits, _, port = fields[_LOCAL].rpartition(":")
    if int(port, 16) != at.port or (at.protocol is Protocol.TCP and fields[_STATE] != _LISTENS):
        return False
    ip = _address(digits)
    if ip.version != at.family:
        # Bound to ::, it may take IPv4 too.
        return ip.is_unspecified and at.family == 4  # noqa: PLR2004
    return ip.is_unspecified or at.ip.is_unspecified or ip == at.ip


def _address(digits: str) -> Address:
    """Read an address as the kernel writes it: in words of four bytes, each the wrong way round."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    packed = b"".join(words)
    return IPv4Address(packed) if len(digits) == _IPV4_DIGITS else IPv6Address(packed)


def _programs() -> Iterator[Path]:
    return (path for path in _PROC.iterdir() if path.name.isdigit())


def _open_sockets(program: Path) -> Iterator[str]:
    # It may end at any moment, or be another user's.
    with suppress(OSError):
        for file in (program / "fd").iterdir():
            with suppress(OSError):
                target = str(file.readlink())
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]


def _described(program: Path, at: HostPort) -> str:
    try:
        name = (program / "comm").read_text().strip()
    except OSError:
        name = "a program that has just ended"
    told = f"{name} (pid {program.name})"
    if name in _DOCKERS:
        return f"another container that Docker publishes it for, `docker ps --filter publish={at.port}`: {told}"
    return told
