# SPDX-License-Identifier: Apache-2.0
"""A kernel in the memory of the plugin's process, which a test speaks to through a folder.

foreign       lines `DEVICE SUBNET`: what other devices of the host are on
broken        its text is the error of every change, as long as it is there
broken-once   its text is the error of one change
seconds       how long every change takes
programs      lines `PROTOCOL ADDRESS PORT NAME`: which programs of the host have which ports
no-ipv6       its text says why the host speaks no IPv6
state         what there is: a line for each bridge with its addresses, each link and each port; written by the kernel
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Network
from dni_driver.core.ports import HostPort
from dni_driver.core.ports import Protocol as PortProtocol
from dni_driver.core.wanted import Link, Wanted
from tests.fakes import FakeKernel


class FolderKernel(FakeKernel):
    """The fake of all tests, ruled from another process; safe to call from many threads."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing."""
        super().__init__()
        self._folder = folder
        self._programs = folder / "programs"
        self._lock = threading.Lock()
        self._shown = ""

    def attach(self, link: Link, beside: Sequence[Link] = ()) -> None:
        """Make a link."""
        self._obey()
        with self._lock:
            super().attach(link, beside)
            self._show()

    def detach(self, endpoints: Iterable[str]) -> None:
        """Delete links."""
        with self._lock:
            super().detach(endpoints)
            self._show()

    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Make bridges and links agree with the records."""
        self._obey()
        with self._lock:
            changes = super().reconcile(read_wanted)
            self.relay(read_wanted)  # as what keeps the ports does soon; thousands left by one test slow all others
            self._show()
        return changes

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name what is on a subnet."""
        lines = (line.split() for line in self._told("foreign").splitlines())
        self.foreign = {device: ip_network(subnet, strict=False) for device, subnet in lines}
        return super().overlapping_routes(network)

    def publish(self, read_wanted: Callable[[], Wanted]) -> None:
        """Make published ports agree with the records."""
        self._obey()
        with self._lock:
            super().publish(read_wanted)
            self._show()

    def port_holder(self, at: HostPort) -> str | None:
        """Name the program that has a port; it is asked of each, and there may be very many."""
        if not self._programs.exists():
            return None
        lines = (line.split(maxsplit=3) for line in self._told("programs").splitlines())
        self.programs = {
            HostPort(PortProtocol(kind), ip_address(ip), int(port)): name for kind, ip, port, name in lines
        }
        return super().port_holder(at)

    def ipv6_fault(self) -> str | None:
        """Answer what the test has said."""
        return self._told("no-ipv6") or None

    def _obey(self) -> None:
        time.sleep(float(self._told("seconds") or 0))
        once = self._told("broken-once")
        (self._folder / "broken-once").unlink(missing_ok=True)
        text = once or self._told("broken")
        if text:
            raise KernelError(text)

    def _told(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def _show(self) -> None:
        bridges = [f"{bridge.name} {' '.join(map(str, bridge.addresses))}" for bridge in self.bridges.values()]
        links = [f"{name} {link.bridge}" for link in self.links.values() for name in (link.host, link.container)]
        ports = [f"port:{one.at} {one.target} {one.port}" for one in self.ports]
        ports += [f"relayed:{one.at} {one.targets[0]} {one.port}" for one in self.relayed]
        state = "\n".join(sorted(bridges + links + ports))
        if state != self._shown:
            draft = self._folder / "state.new"
            draft.write_text(state)
            draft.replace(self._folder / "state")
            self._shown = state
