# SPDX-License-Identifier: Apache-2.0
"""What the tests want of the kernel: overlays, links, and containers as libnetwork would plug them."""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, ip_interface, ip_network
from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec

from dni_driver.core.mac import mac_for
from dni_driver.core.names import container_link, docker_bridge, host_link, mesos_bridge
from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.wanted import Bridge, Link, Policy, Wanted
from dni_driver.kernel import Kernel
from tests.root.ground import Namespace
from tests.root.packets import Server

MTU = 1450
NO_LIMITS = Limits()


class Overlay(msgspec.Struct, frozen=True):
    """An overlay as one host has it: its bridge and its policy."""

    bridge: Bridge
    policy: Policy


def overlay(
    name: str, *gateways: str, subnets: tuple[str, ...], masquerade: bool = True, isolated: bool = True,
    internal: bool = False, local: tuple[str, ...] = (),
) -> Overlay:  # fmt: skip
    """Describe an overlay by what its bridge carries."""
    bridge = Bridge(name=docker_bridge(name), addresses=tuple(map(ip_interface, gateways)), mtu=MTU)
    policy = Policy(
        overlay=name,
        bridges=(docker_bridge(name), mesos_bridge(name)),
        subnets=tuple(map(ip_network, subnets)),
        masquerade=masquerade,
        isolated=isolated,
        internal=internal,
        local=tuple(map(IPv4Network, local)),
    )
    return Overlay(bridge, policy)


DCOS = overlay("dcos", "9.0.0.129/25", "fd01:b::8000:0:1/81", subnets=("9.0.0.0/8", "fd01:b::/64"))
DEV = overlay("dev", "10.64.0.129/25", "fd01:d::8000:0:1/81", subnets=("10.64.0.0/16", "fd01:d::/64"))
OPEN = overlay(
    "open", "10.65.0.129/25", "fd01:e::8000:0:1/81", subnets=("10.65.0.0/16", "fd01:e::/64"), isolated=False,
    masquerade=False,
)  # fmt: skip
FOUR = overlay("four", "10.67.0.129/25", subnets=("10.67.0.0/16",))
"""Of IPv4 alone."""
SIX = overlay("six", "198.18.0.1/20", "fd06::8000:0:1/81", subnets=("fd06::/64",), local=("198.18.0.0/20",))
"""Of IPv6 alone; the IPv4 is this host's."""
SHUT = overlay(
    "shut", "10.66.0.129/25", "fd01:f::8000:0:1/81", subnets=("10.66.0.0/16", "fd01:f::/64"), internal=True
)


def link(
    place: Overlay, number: int = 0, sandbox: Namespace | None = None, ifname: str | None = "eth0",
    limits: Limits = NO_LIMITS,
) -> Link:  # fmt: skip
    """Describe the link of an overlay's container by its number."""
    endpoint = uuid4().hex * 2
    addresses = tuple(_address(gateway, number) for gateway in place.bridge.addresses)
    return Link(
        endpoint=endpoint,
        host=host_link(endpoint),
        container=container_link(endpoint),
        bridge=place.bridge.name,
        mtu=place.bridge.mtu,
        mac=mac_for(addresses[0].ip),
        addresses=addresses,
        gateways=tuple(str(gateway.ip) for gateway in place.bridge.addresses),
        limits=limits,
        sandbox=sandbox.path if sandbox else None,
        ifname=ifname if sandbox else None,
    )


def _address(gateway: IPv4Interface | IPv6Interface, number: int) -> IPv4Interface | IPv6Interface:
    return type(gateway)((gateway.ip + 1 + number, gateway.network.prefixlen))


class Container:
    """A sandbox on an overlay with a server inside, plugged as libnetwork does it after Join."""

    def __init__(self, host: Host, place: Overlay, number: int = 0, limits: Limits = NO_LIMITS) -> None:
        """Attach it, plug it, and have it serve."""
        self.sandbox = Namespace()
        self.link = link(place, number, self.sandbox, limits=limits)
        host.run(host.kernel.attach, self.link)
        plug(host, self.link, self.sandbox)
        self._server = Server(self.sandbox)

    @property
    def address(self) -> IPv4Interface:
        """Answer its IPv4 address."""
        return next(address for address in self.link.addresses if isinstance(address, IPv4Interface))

    @property
    def address6(self) -> IPv6Interface:
        """Answer its IPv6 address."""
        return next(address for address in self.link.addresses if isinstance(address, IPv6Interface))

    def __enter__(self) -> Self:
        """Let it run."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its server and its sandbox."""
        with self.sandbox, self._server:
            pass


def plug(host: Namespace, link: Link, sandbox: Namespace, name: str = "eth0") -> None:
    """Move a container end into its sandbox, rename and address it, as libnetwork does."""
    host.sh(f"ip link set {link.container} netns {sandbox.path}")
    sandbox.sh(f"ip link set {link.container} name {name}")
    for address in link.addresses:
        sandbox.sh(f"ip addr add {address} dev {name}{' nodad' if address.version == 6 else ''}")
    sandbox.sh(f"ip link set {name} up")
    for gateway in link.gateways:
        sandbox.sh(f"ip route add default via {gateway}")


class Host(Namespace):
    """A host with dni on it."""

    def __init__(self, run_dir: Path) -> None:
        """Begin without forwarding, as a fresh machine does."""
        super().__init__()
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.sysctl(key, 0)
        self.run_dir = run_dir
        self.kernel = Kernel(run_dir)
        self.wanted = Wanted()
        self._containers = ExitStack()

    def __exit__(self, *error: object) -> None:
        """Stop the containers, then dni, then the host."""
        self._containers.close()
        self.kernel.close()
        super().__exit__(*error)

    def want(self, *places: Overlay, links: tuple[Link, ...] = ()) -> None:
        """Record these overlays, and these links."""
        self.wanted = Wanted(
            bridges=tuple(place.bridge for place in places),
            links=links,
            policies=tuple(place.policy for place in places),
            overlay_subnets=tuple(subnet for place in places for subnet in place.policy.subnets),
            guarded=bool(places),
        )

    def reconcile(self) -> list[str]:
        """Make the kernel agree with what is recorded."""
        return self.run(self.kernel.reconcile, lambda: self.wanted)

    def container(self, place: Overlay, number: int = 0, limits: Limits = NO_LIMITS) -> Container:
        """Start a container and record its link."""
        container = self._containers.enter_context(Container(self, place, number, limits))
        self.wanted = msgspec.structs.replace(self.wanted, links=(*self.wanted.links, container.link))
        return container
