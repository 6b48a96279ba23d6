# SPDX-License-Identifier: Apache-2.0
"""Stand-ins that several kinds of tests share: a clock, a kernel in memory, a store with overlays leased."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from dni_driver.core.errors import BridgeMissing, DniError, KernelError
from dni_driver.core.mtu import Underlay
from dni_driver.core.names import host_link
from dni_driver.core.overlays import Address, AgentSubnet, Network, Overlay
from dni_driver.core.ports import HostPort, Protocol, Published, Relayed
from dni_driver.core.published import Confined
from dni_driver.core.views import BridgeView, KernelView, LinkView
from dni_driver.core.wanted import Bridge, Link, Wanted
from dni_driver.store import Store, overlays

AGENT = IPv4Address("192.0.2.10")
UNDERLAY_MTU = 1500

DCOS = Overlay(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=24)
"""The default overlay; its first agent subnet is 9.0.0.0/24, the Docker half 9.0.0.128/25."""

DUAL = Overlay(
    name="dual",
    subnet=IPv4Network("10.64.0.0/16"),
    prefix=24,
    subnet6=IPv6Network("fd01:b::/64"),
    prefix6=80,
)
"""An overlay that speaks both families."""

SIX = Overlay(name="six", subnet6=IPv6Network("fd06::/64"), prefix6=80)
"""An overlay that speaks IPv6 alone; the first agent's Docker half is fd06::8000:0:0/81."""


class FakeClock:
    """Seconds since 1970 that pass, or jump, when a test says so."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        """Begin at some time."""
        self.now = now

    def __call__(self) -> float:
        """Answer the time, as `time.time` does."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let time go by; backwards where `seconds` is negative."""
        self.now += seconds


class FakeKernel:
    """Bridges and container links in memory, made to agree with what is wanted.

    `foreign` are subnets that other devices of the host are on. An error put into `refusals` is raised by the
    next change, once. `crash_point` is called before each change and after it: a test may raise there. `no_ipv6`
    says why the host speaks none. `programs` are those that have a port of the host, `held` the ports that the plugin
    keeps from them, `relayed` those whose callers it carries, but for who is `confined`. `unmoved` are the host ends
    of links that no sandbox has yet.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.crash_point: Callable[[str], None] = lambda _: None
        self.bridges: dict[str, Bridge] = {}
        self.links: dict[str, Link] = {}
        self.beside: dict[str, list[str]] = {}
        self.foreign: dict[str, Network] = {}
        self.refusals: list[DniError] = []
        self.no_ipv6: str | None = None
        self.lost_sandboxes: set[str] = set()
        self.underlay_mtu = UNDERLAY_MTU
        self.lost_underlay: KernelError | None = None
        self.ports: frozenset[Published] = frozenset()
        self.relayed: frozenset[Relayed] = frozenset()
        self.confined = Confined(frozenset(), ())
        self.held: set[HostPort] = set()
        self.programs: dict[HostPort, str] = {}
        self.dynamic = range(32768, 32778)
        self.unmoved: set[str] = set()

    def attach(self, link: Link, beside: Sequence[Link] = ()) -> None:
        """Hang a link on its bridge, which must be there; note what is beside it."""
        with self._change():
            if link.bridge not in self.bridges:
                raise BridgeMissing(f"bridge {link.bridge} is missing on this host")
            self.links[link.host] = link
            self.beside[link.host] = [other.host for other in beside]

    def awaits_move(self, endpoint: str) -> bool:
        """Tell whether an endpoint's link is one of those that are still to be moved."""
        return host_link(endpoint) in self.unmoved

    def confine(self, links: Collection[Link]) -> None:
        """Note what is beside links that are left in a sandbox."""
        for link in links:
            self.beside[link.host] = [other.host for other in links if other.host != link.host]

    def carries(self, link: Link) -> bool:
        """Tell whether the bridge was made with the addresses that lead on."""
        bridge = self.bridges.get(link.bridge)
        return bridge is not None and link.next_hops <= {str(address.ip) for address in bridge.addresses}

    def detach(self, endpoints: Iterable[str]) -> None:
        """Delete links; unknown ones are no error."""
        self.crash_point("before detaching")
        for endpoint in endpoints:
            self.links.pop(host_link(endpoint), None)

    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Take away what is not wanted, make missing bridges; a link whose other end is gone stays gone."""
        with self._change():
            seen = set(self.links)
            wanted = read_wanted()
            dead = seen - {link.host for link in wanted.links}
            bridges = {bridge.name: bridge for bridge in wanted.bridges}
            changed = {name for name, _ in bridges.items() ^ self.bridges.items()}
            self.bridges = bridges
            self.links.update({link.host: link for link in wanted.links if link.host in self.links})
            for host in dead:
                self.links.pop(host, None)
            self.links |= {link.host: link for link in wanted.links if link.host in self.links}
            self.ports = frozenset(wanted.ports)
        return sorted(changed | dead)

    def publish(self, read_wanted: Callable[[], Wanted]) -> None:
        """Have the published ports that are wanted."""
        with self._change():
            self.ports = frozenset(read_wanted().ports)
            self.relay(read_wanted)

    def hold(self, at: HostPort) -> bool:
        """Hold a port that no program has."""
        if self.port_holder(at):
            return False
        self.held.add(at)
        return True

    def release(self, ports: Iterable[HostPort]) -> None:
        """Let go of ports."""
        self.held -= set(ports)

    def hold_only(self, ports: Collection[HostPort]) -> None:
        """Let go of all others."""
        self.held &= set(ports)

    def port_holder(self, at: HostPort) -> str | None:
        """Name the program that has a port."""
        return next((name for there, name in self.programs.items() if there.overlaps(at)), None)

    def dynamic_ports(self) -> range:
        """Answer few ports, so that they run out."""
        return self.dynamic

    def relayed_protocols(self) -> frozenset[Protocol]:
        """Answer that all are, as long as the host speaks IPv6."""
        return frozenset() if self.ipv6_fault() else frozenset(Protocol)

    def relay(self, read_wanted: Callable[[], Wanted]) -> None:
        """Carry callers of held ports."""
        wanted = read_wanted()
        self.relayed = frozenset(one for one in wanted.relayed if one.at in self.held)
        self.confined = wanted.confined()

    def plug(self, link: Link, beside: Sequence[Link] = ()) -> None:
        """Hang a link on its bridge, whole."""
        self.attach(link, beside)

    def unplug(self, endpoints: Iterable[str]) -> None:
        """Delete links at once."""
        FakeKernel.detach(self, endpoints)

    def plug_faults(self, link: Link) -> list[str]:
        """Answer that a link is not there, where it is not."""
        return [] if link.host in self.links else [f"link {link.host} on {link.bridge} is missing"]

    def missing_sandboxes(self, sandboxes: Iterable[str]) -> set[str]:
        """Answer the paths that a test has taken away."""
        return self.lost_sandboxes.intersection(sandboxes)

    def gone(self, links: Iterable[Link]) -> list[Link]:
        """Answer the links that are not there; a sandbox is there as long as its link is."""
        return [link for link in links if link.host not in self.links]

    def underlay(self, agent: Address) -> Underlay:
        """Answer the link that carries the agent IP."""
        assert agent == AGENT
        if self.lost_underlay is not None:
            raise self.lost_underlay
        return Underlay(link="eth0", mtu=self.underlay_mtu)

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name the bridges and foreign devices that are on a subnet."""
        own = [(bridge.name, address.network) for bridge in self.bridges.values() for address in bridge.addresses]
        return [
            f"{subnet} on {device}"
            for device, subnet in (*own, *self.foreign.items())
            if subnet.version == network.version and subnet.overlaps(network)
        ]

    def leads_into(self, network: Network) -> bool:
        """Tell whether a bridge or foreign device is on a subnet: there are no other routes."""
        return bool(self.overlapping_routes(network))

    def ipv6_fault(self) -> str | None:
        """Answer what a test has said."""
        return self.no_ipv6

    def observe(self, wanted: Wanted) -> KernelView:
        """Answer what there is, as values."""
        bridges = (
            BridgeView(name=bridge.name, up=True, mtu=bridge.mtu, addresses=bridge.addresses)
            for bridge in self.bridges.values()
        )
        links = (
            LinkView(name=link.host, up=True, mtu=link.mtu, bridge=link.bridge, limits=link.limits)
            for link in self.links.values()
        )
        underlay = Underlay(link="eth0", mtu=self.underlay_mtu)
        wrong = [f"port {one.at} is not as it should be" for one in self.ports ^ frozenset(wanted.ports)]
        return KernelView(bridges=tuple(bridges), links=tuple(links), underlay=underlay, firewall=tuple(wrong))

    def agent_address(self) -> Address:
        """Answer the agent IP."""
        return AGENT

    def answers(self, _: Address) -> bool:
        """Answer that nobody answers: what must not be freed has to be known without that."""
        return False

    def ifname_in_sandbox(self, link: Link) -> str | None:
        """Answer the name libnetwork gives to the first link of a sandbox."""
        return "eth0" if link.host in self.links else None

    def link_news(self) -> Iterator[None]:
        """Tell nothing: who listens comes back a little later."""
        return iter(())

    def hush(self) -> None:
        """Tell nothing any more."""

    def reboot(self) -> None:
        """Lose everything."""
        self.bridges.clear()
        self.links.clear()
        self.foreign.clear()
        self.ports = frozenset()
        self.held.clear()

    @contextmanager
    def _change(self) -> Iterator[None]:
        self.crash_point("before a change")
        if self.refusals:
            raise self.refusals.pop()
        yield
        self.crash_point("after a change")


def lease(store: Store, overlay: Overlay, *agent_subnets: str) -> None:
    """Record an overlay, and that this agent holds some agent subnets of it."""
    with store.write() as tx:
        overlays.set_agent_ip(tx, AGENT)
        overlays.put(tx, overlay)
        for subnet in agent_subnets:
            overlays.add_agent_subnet(tx, AgentSubnet(overlay=overlay.name, subnet=ip_network(subnet)))
