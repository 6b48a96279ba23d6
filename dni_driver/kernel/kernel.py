# SPDX-License-Identifier: Apache-2.0
"""Everything dni does to this host's kernel."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from dni_driver.core.errors import KernelError
from dni_driver.core.mtu import Underlay
from dni_driver.core.names import HOST_LINK_PREFIX, container_link, egress_link, host_link
from dni_driver.core.overlays import Address, Network
from dni_driver.core.ports import HostPort, Protocol
from dni_driver.core.views import BridgeView, KernelView, LinkView
from dni_driver.core.wanted import Link, Wanted
from dni_driver.kernel import bridges, neighbours, routes, snapshot, sysctl, whereabouts
from dni_driver.kernel.announcing import announce
from dni_driver.kernel.containers import links, plugging, sandboxes, shaping
from dni_driver.kernel.containers.reaper import Reaper
from dni_driver.kernel.containers.sandboxes import Repairs
from dni_driver.kernel.containers.tenants import Tenants
from dni_driver.kernel.firewall.firewall import Around, Firewall
from dni_driver.kernel.firewall.guard import Guard
from dni_driver.kernel.ledger import Ledger, in_words
from dni_driver.kernel.lock import locked
from dni_driver.kernel.netlink.carried import carried_by
from dni_driver.kernel.netlink.far_end import name_of_far_end
from dni_driver.kernel.netlink.lookout import LINKS, TRAFFIC_CONTROL, Lookout
from dni_driver.kernel.news import News
from dni_driver.kernel.peers.neighbourhood import Founding
from dni_driver.kernel.peers.peers import Peers
from dni_driver.kernel.peers.standing import Standing
from dni_driver.kernel.ports import conntrack, holds, listeners
from dni_driver.kernel.ports.holds import Holds
from dni_driver.kernel.ports.ports import Ports
from dni_driver.kernel.snapshot import Snapshot

_log = structlog.get_logger()

_SILENT_CHANGES = 60.0
"""Seconds that a look at the links is good for: some settings of a link that is down change without a word."""


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn what the kernel says in numbers into a KernelError."""
    try:
        yield
    except OSError as error:
        raise KernelError(f"the kernel cannot be asked: {in_words(error)}") from error


class Kernel:
    """The network namespace this process runs in, as dni uses it; safe to call from many threads.

    `run_dir` is shared by all dni processes of the host: their lock and the firewall's fingerprint are there.
    """

    def __init__(
        self,
        run_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        peers: Founding = Peers,
    ) -> None:
        """Take the folder that all dni processes of this host share, and make it where it is missing.

        `peers` makes what keeps other agents known to the kernel, or leaves them to who does.
        """
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KernelError(f"{run_dir} cannot be made: {in_words(error)}") from error
        self._lock = run_dir / "kernel.lock"
        self._reaper = Reaper(self._bury)
        self._tenants = Tenants()
        self._lookout = Lookout(snapshot.read, LINKS, clock, _SILENT_CHANGES)
        self._traffic = Lookout(shaping.read, TRAFFIC_CONTROL, clock, math.inf)
        self._news = News()
        self._repairs = Repairs(clock)
        self._firewall = Firewall(run_dir)
        self._standing = Standing(clock)
        self._peers = peers(self._standing, clock)
        self._guard = Guard(run_dir)
        self._ports = Ports(run_dir)
        self._holds = Holds()
        self._refused: list[tuple[str | None, str]] = []

    def attach(self, link: Link, beside: Sequence[Link] = ()) -> None:
        """Make a container's veth pair, its host end on the bridge, held to its limits; repeating it does no harm.

        `beside` are the other links of its sandbox. Raises KernelError where something is gone, the bridge for one
        (BridgeMissing): reconcile, then try again.
        """
        self._reaper.await_death(link.host)
        for change in sysctl.ensure_forwarding(address.version for address in link.addresses):
            _log.info("kernel changed", change=change)
        self._tenants.note([link])
        self._guard.admit([link, *beside])
        links.attach(link)
        if link.limits:
            shaping.apply(link)

    @_in_words()
    def carries(self, link: Link) -> bool:
        """Tell whether the bridge of a link has the addresses that lead on from there."""
        there = carried_by(link.bridge)
        return there is not None and link.next_hops <= there

    def awaits_move(self, endpoint: str) -> bool:
        """Tell whether the container end of an endpoint's link is still in this namespace."""
        return links.is_here(container_link(endpoint))

    def detach(self, endpoints: Iterable[str]) -> None:
        """Have the links of endpoints deleted soon, and return; those that are gone already are no error."""
        self._reaper.doom(name(endpoint) for endpoint in endpoints for name in (host_link, egress_link))

    def confine(self, links: Collection[Link]) -> None:
        """Have links send as no more than what is theirs, now that another of their container has gone.

        What cannot be done now is done by the next `reconcile`.
        """
        with suppress(OSError):
            self._guard.confine(links)

    def _bury(self, names: Collection[str]) -> None:
        """Delete links by their names, then what host ends among them might send as; raise OSError.

        And connections of their containers, before somebody else has their addresses.
        """
        links.delete(names)
        conntrack.forget_all_of(self._tenants.take(names))
        self._guard.withdraw([name for name in names if name.startswith(HOST_LINK_PREFIX)])

    @_in_words()
    def publish(self, read_wanted: Callable[[], Wanted]) -> None:
        """Make published ports as the records want them now; raise NotMended."""
        with locked(self._lock):
            ledger = Ledger()
            wanted = read_wanted()
            changed = self._ports.settle(wanted, ledger, ledger.tidied)
            self._holds.serve(wanted.relayed, wanted.confined())
        conntrack.forget(changed)
        ledger.settle()

    @_in_words()
    def relay(self, read_wanted: Callable[[], Wanted]) -> None:
        """Have this process carry callers of the ports that it holds, as the records want it now."""
        with locked(self._lock):
            wanted = read_wanted()
            self._holds.serve(wanted.relayed, wanted.confined())

    def relayed_protocols(self) -> frozenset[Protocol]:
        """Answer what `relay` can carry from this host's IPv6 addresses."""
        return holds.relayed_protocols()

    def hold(self, at: HostPort) -> bool:
        """Keep a port of this host from other programs, as long as this process lives; False where one has it.

        Raises Refused where the host does not have that address, Exhausted, KernelError.
        """
        return self._holds.take(at)

    def release(self, ports: Iterable[HostPort]) -> None:
        """Let go of ports that this process holds."""
        self._holds.release(ports)

    def hold_only(self, ports: Collection[HostPort]) -> None:
        """Let go of all ports but these."""
        self._holds.keep_only(ports)

    def port_holder(self, at: HostPort) -> str | None:
        """Answer in words which program of this host has a port; None where that cannot be told."""
        return listeners.holder(at)

    def dynamic_ports(self) -> range:
        """Answer the ports that are handed out where any will do."""
        return sysctl.dynamic_ports()

    @_in_words()
    def plug(self, link: Link, beside: Sequence[Link] = ()) -> None:
        """Make a whole link, its container end ready inside the sandbox, as libnetwork does for Docker's containers.

        Repeating it does no harm. `beside` are the other links of its sandbox. Raises KernelError where something is
        missing: reconcile, then try again; and where the sandbox is no namespace, or has a link of that name already.
        """
        self._reaper.await_death(link.host)
        for change in sysctl.ensure_forwarding(address.version for address in link.addresses):
            _log.info("kernel changed", change=change)
        self._tenants.note([link])
        self._guard.admit([link, *beside])
        with locked(self._lock):
            plugging.plug(link)
        if link.limits:
            shaping.apply(link)

    def unplug(self, endpoints: Collection[str]) -> None:
        """Delete the links of endpoints, and return when they are gone; raise Unavailable after 10 s.

        Raises KernelError where the kernel keeps one: its container still has its addresses.
        """
        before = snapshot.names().items()
        self.detach(endpoints)
        self.drain()
        # By name and index: one that an ADD makes meanwhile is another.
        kept = dict(before & snapshot.names().items()).keys() & {host_link(endpoint) for endpoint in endpoints}
        if kept:
            raise KernelError(
                f"link {min(kept)} cannot be deleted: its container keeps its addresses until it is, and dni's log "
                f"says why; try again"
            )

    @_in_words()
    def plug_faults(self, link: Link) -> list[str]:
        """Answer in words how a link differs from what `plug` made."""
        return plugging.faults(link)

    def missing_sandboxes(self, sandboxes: Iterable[str]) -> set[str]:
        """Answer which paths lead to no network namespace."""
        return plugging.missing(sandboxes)

    def drain(self) -> None:
        """Return when every link given to `detach` is gone; raise Unavailable after 10 s."""
        self._reaper.drain()

    def close(self) -> None:
        """Delete what waits to be deleted, end the thread that does it, and listen to the kernel no longer."""
        self._reaper.close()
        self._lookout.close()
        self._traffic.close()
        self._holds.close()
        self._standing.close()
        self._peers.close()

    def link_news(self) -> Iterator[None]:
        """Answer, each time that a bridge came or went or a link has another MTU, until `hush`."""
        with _in_words():
            yield from self._news

    def hush(self) -> None:
        """End the news of links; from any thread."""
        self._news.end()

    @_in_words()
    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Make the kernel agree with the records; answer in words what was changed.

        The links are read before the records: so a link seen without a record has really lost it. Raises NotMended
        with all that could not be mended, when the rest has been.
        """
        with locked(self._lock):
            ledger = Ledger(known=self._refused)
            seen, senders = self._lookout.look(), self._guard.look()
            wanted = read_wanted()
            self._tenants.follow(wanted.links)
            self._guard.settle(wanted, senders, read_wanted, ledger)
            swept = now = links.sweep(seen, ledger)
            links.delete_dead(wanted.links, now, ledger)
            bridges.delete_unwanted(wanted.bridges, now, ledger)
            if bridges.make(wanted.bridges, now, ledger):
                now = self._lookout.look()
            bridges.mend(wanted.bridges, now, ledger)
            announce(links.mend(wanted.links, now, sandboxes.resize, ledger), ledger)
            shaping.mend(wanted.links, now, self._traffic.look(), ledger)
            shaping.delete_idle(wanted.links, swept, ledger)
            _keep_forwarding(wanted.links, now, ledger)
            self._repairs.settle(wanted.links, seen, ledger)
            around = self._settle_peers(wanted, ledger)
            self._firewall.settle(wanted, now.names, around, ledger)
            changed = self._ports.settle(wanted, ledger, ledger.did)
            self._refused = ledger.failures
            if ledger.changes:
                self._lookout.forget()
        conntrack.forget(changed)
        ledger.settle()
        return ledger.changes

    def _settle_peers(self, wanted: Wanted, ledger: Ledger) -> Around:
        """Have other agents known, before the firewall lets them in; answer what it needs to know of them."""
        with ledger.about("peers"), self._firewall.kept():
            self._peers.settle(wanted, ledger)
        return Around(self._standing.underlay(wanted), self._peers.guests)

    @_in_words()
    def observe(self, wanted: Wanted) -> KernelView:
        """Answer what there is of ours, and how the firewall differs from the wanted one."""
        with locked(self._lock):
            seen, shapes = self._lookout.look(), self._traffic.look()
            around = Around(self._standing.underlay(wanted))
            firewall = self._firewall.differences(wanted, seen.names, around) + self._guard.differences(wanted)
            firewall += self._ports.differences(wanted)
            peers = self._peers.differences(wanted)
        names = {index: name for name, index in seen.names.items()}
        return KernelView(
            bridges=tuple(
                BridgeView(name=link.name, up=link.up, mtu=link.mtu, addresses=bridges.carried(link, seen))
                for link in bridges.concerned(wanted.bridges, seen)
            ),
            links=tuple(
                LinkView(
                    name=link.name,
                    up=link.up,
                    mtu=link.mtu,
                    bridge=names.get(link.master),
                    limits=shaping.held(link, seen, shapes),
                )
                for link in seen.host_ends.values()
            ),
            ifbs=tuple(seen.ifbs),
            firewall=tuple(firewall),
            peers=tuple(peers),
            underlay=_underlay(wanted),
        )

    @_in_words()
    def overlapping_routes(self, network: Network) -> list[str]:
        """Answer in words the on-link routes and name servers that overlap a network: `9.0.0.0/8 on eth0`."""
        return routes.overlapping(network)

    @_in_words()
    def leads_into(self, network: Network) -> bool:
        """Tell whether any route but the default one leads into a network."""
        return routes.leads_into(network)

    def ipv6_fault(self) -> str | None:
        """Say why this host speaks no IPv6, and what changes that; None where it does."""
        return sysctl.ipv6_fault()

    @_in_words()
    def answers(self, address: Address) -> bool:
        """Tell whether anybody answers for an address on its bridge; takes a second and a half to say no."""
        return neighbours.answers(address)

    @_in_words()
    def ifname_in_sandbox(self, link: Link) -> str | None:
        """Answer what libnetwork called a link's container end; None while it is not in its sandbox."""
        return name_of_far_end(link.host)

    def gone(self, wanted: Iterable[Link]) -> list[Link]:
        """Answer the links that are not there, and whose sandboxes are not: their containers ended unseen.

        Waits up to 2 s for links whose sandboxes are gone: the kernel takes its time to follow.
        """
        return sandboxes.gone(wanted)

    @_in_words()
    def agent_address(self) -> Address:
        """Answer the address this host is best known by."""
        return whereabouts.agent_address()

    @_in_words()
    def underlay(self, agent: Address) -> Underlay:
        """Answer the link that carries the agent IP."""
        return whereabouts.underlay(agent)


def _underlay(wanted: Wanted) -> Underlay | None:
    with suppress(KernelError):
        return whereabouts.underlay(wanted.agent) if wanted.agent else None
    return None


def _keep_forwarding(wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
    """Have this host forward while it has containers; not before: dockerd sets FORWARD to DROP if it comes first."""
    plugged = (link for link in wanted if link.host in seen.names)
    with ledger.about("forwarding"):
        for change in sysctl.ensure_forwarding(address.version for link in plugged for address in link.addresses):
            ledger.did(change)
