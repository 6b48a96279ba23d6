# SPDX-License-Identifier: Apache-2.0
"""An address and port to listen on, as people write it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

LOOPBACK = IPv4Address("127.0.0.1")
_LARGEST_PORT = 65535


class ListenAddress:
    """`127.0.0.1:62080`, `[::1]:62080`, or `62080` alone, which means loopback."""

    def __init__(self, text: str) -> None:
        """Read it; raise ValueError where it is none of these."""
        host, colon, port = text.rpartition(":")
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LARGEST_PORT):
            raise ValueError(f"{text!r} has no port from 1 to {_LARGEST_PORT}")
        self.host = _host(host) if colon else LOOPBACK
        self.port = int(port)

    def __eq__(self, other: object) -> bool:
        """Tell whether both mean the same place."""
        return isinstance(other, ListenAddress) and (self.host, self.port) == (other.host, other.port)

    def __hash__(self) -> int:
        """Go with equality."""
        return hash((self.host, self.port))

    def __str__(self) -> str:
        """Write it with its host."""
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"  # noqa: PLR2004


def _host(text: str) -> IPv4Address | IPv6Address:
    """Answer an address; an IPv6 one stands in brackets."""
    in_brackets = text.startswith("[") and text.endswith("]")
    try:
        return IPv6Address(text[1:-1]) if in_brackets else IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None
