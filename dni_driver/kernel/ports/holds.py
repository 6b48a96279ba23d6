# SPDX-License-Identifier: Apache-2.0
"""Sockets that keep published ports from other programs of this host, as long as this process lives.

A port that only the firewall forwards looks free: a program that takes it would wait for callers in vain, and
Docker would publish it a second time. So each is bound here. It listens where callers can come that the firewall does
not forward; elsewhere nothing does, and such a caller is refused at once.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Collection, Iterable
from contextlib import ExitStack

from dni_driver.core.errors import Exhausted, KernelError, Refused
from dni_driver.core.ports import HostPort, Protocol, Relayed, bracketed
from dni_driver.core.published import Confined
from dni_driver.kernel import descriptors, sysctl
from dni_driver.kernel.relay.relay import Relay

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS = {
    Protocol.TCP: (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    Protocol.UDP: (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    Protocol.SCTP: (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_SCTP = "netfilter/nf_conntrack_sctp_timeout_established"
"""A setting that is there where connections of SCTP are followed."""
_SMALLEST_BUFFER = 1


class Holds:
    """The ports that this process holds. Safe to use from several threads."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._lock = threading.Lock()
        self._held: dict[HostPort, socket.socket | None] = {}
        self._relay = Relay()

    def take(self, at: HostPort) -> bool:
        """Hold a port, unless it is held already; False where another program has it.

        Raises Refused where this host does not have the address, Exhausted where this process may open no more
        sockets, KernelError where the kernel cannot do the protocol.
        """
        if at.protocol is Protocol.SCTP and not follows_sctp():
            raise KernelError(
                "this kernel does not follow SCTP connections, so that no SCTP port can be published: "
                "`modprobe nf_conntrack_proto_sctp`, or a kernel with CONFIG_NF_CT_PROTO_SCTP"
            )
        with self._lock:
            if at not in self._held:
                try:
                    self._held[at] = _bound(at)
                except OSError as error:
                    return _is_taken(at, error)
        return True

    def release(self, ports: Iterable[HostPort]) -> None:
        """Let go of ports; of those that are not held there is nothing to let go."""
        with self._lock:
            gone = list(ports)
            self._relay.stop(gone)
            for at in gone:
                held = self._held.pop(at, None)
                if held is not None:
                    held.close()

    def keep_only(self, ports: Collection[HostPort]) -> None:
        """Let go of all other ports."""
        self.release(self._held.keys() - set(ports))

    def serve(self, relayed: Iterable[Relayed], confined: Confined) -> None:
        """Carry callers of these ports to containers, as far as they are held here; of all others nobody."""
        with self._lock:
            held = ((one, self._held.get(one.at)) for one in relayed)
            self._relay.settle({one.at: (bound, one) for one, bound in held if bound is not None}, confined)

    def close(self) -> None:
        """Let go of all."""
        self.keep_only(())
        self._relay.close()


def relayed_protocols() -> frozenset[Protocol]:
    """Answer what can be carried to containers: nothing without IPv6, and SCTP where there are sockets of it."""
    if sysctl.ipv6_fault() is not None:
        return frozenset()
    return frozenset(Protocol) if _has_sctp() else frozenset({Protocol.TCP, Protocol.UDP})


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET6, *_KINDS[Protocol.SCTP]).close()
    except OSError:
        return False
    return True


def follows_sctp() -> bool:
    """Tell whether the kernel follows SCTP connections; as long as nothing asks it to follow any, it does not."""
    return sysctl.read(_SCTP) is not None


def _bound(at: HostPort) -> socket.socket | None:
    """Answer a socket bound to a port; None where the kernel has no sockets of that kind, nor anybody else then."""
    try:
        return _bind(at)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None
        if error.errno != errno.EMFILE:
            raise
    descriptors.allow_all()
    return _bind(at)


def _bind(at: HostPort) -> socket.socket:
    with ExitStack() as undo:
        bound = undo.enter_context(socket.socket(_FAMILIES[at.family], *_KINDS[at.protocol]))
        if at.family == 6:  # noqa: PLR2004
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if at.protocol is Protocol.TCP:
            _bind_for_good(bound, at)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST_BUFFER)
            bound.bind((str(at.ip), at.port))
        undo.pop_all()
    return bound


def _bind_for_good(bound: socket.socket, at: HostPort) -> None:
    """Bind past connections that wait for their end, and yet in the way of whoever would bind past this one.

    SO_REUSEADDR does the first. To take it off again does the second only if the socket has listened once.
    """
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((str(at.ip), at.port))
    bound.listen(0)
    bound.shutdown(socket.SHUT_RDWR)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _is_taken(at: HostPort, error: OSError) -> bool:
    """Answer False where a port is another program's; raise what else keeps it from being held."""
    if error.errno == errno.EADDRINUSE:
        return False
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL):
        raise Refused(
            f"port {at} cannot be published: this host has no address {at.ip}; `ip addr` lists those it has"
        ) from error
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise Exhausted(
            f"port {at} cannot be published: dni may hold no more ports; raise its limit of open files (LimitNOFILE)"
        ) from error
    raise KernelError(f"port {at.port}/{at.protocol} at {bracketed(at.ip)}: {error.strerror}") from error
