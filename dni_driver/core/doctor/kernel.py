# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the kernel of a host, its links and its settings. Each judge: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from dni_driver.core import mtu
from dni_driver.core.doctor.ailments import Ailment, Kind, error, warning
from dni_driver.core.doctor.facts import ContainerEnd, Facts, KernelFacts, Underlay
from dni_driver.core.names import docker_bridge
from dni_driver.core.overlays import family_of
from dni_driver.core.records import NetworkRecord, Records

FEATURES: dict[str, tuple[Kind, str]] = {
    "bridge": (error("no-bridge", "no network can be created"), "modprobe bridge"),
    "veth": (error("no-veth", "no container can be started"), "modprobe veth"),
    "nftables": (
        error("no-nftables", "no network can be created: isolation and masquerading are nftables rules"),
        "modprobe -a nf_tables nft_ct nft_masq nft_nat nft_chain_nat nft_fib_inet",
    ),
    "bridge-nftables": (
        error("no-bridge-nftables", "no network can be created where senders are to be checked"),
        "",
    ),
    "vxlan": (warning("no-vxlan", "containers on different hosts cannot reach each other"), "modprobe vxlan"),
    "shaping": (
        warning("no-shaping", "bandwidth limits of containers are refused"),
        "modprobe -a sch_tbf ifb sch_ingress cls_u32 act_mirred",
    ),
    "sctp": (warning("no-sctp", "published SCTP ports do not work"), "modprobe nf_conntrack_proto_sctp"),
}
"""What the kernel is asked for: the ailment where it does not have it, and what loads it where it is a module."""

_NO_MODULE = "boot a kernel with CONFIG_NF_TABLES_BRIDGE, or create networks with -o spoof=allow"

FORWARDING_OFF = error("forwarding-off", "containers reach this host and their own network, and nothing beyond")
IPV6_OFF = error("ipv6-off", "the IPv6 addresses of containers lead nowhere, and no network with IPv6 can be created")
STRICT_SOURCES = warning(
    "rp-filter-strict",
    "replies of a container on several networks, and what comes from other agents, are dropped where they come by "
    "another link than this host would answer on",
)
NO_AGENT_LINK = error("agent-ip-missing", "no network can be created, and other agents cannot reach this one")
LARGE_PACKETS = warning("mtu-too-large", "large packets get lost between hosts: connections open, then hang")
OTHER_MTU = warning("mtu-of-container", "large packets of this container get lost, or all are needlessly small")
CHECKSUMS = warning("checksum-offload", "packets between hosts arrive with wrong checksums and are dropped")
INSIDE_OVERLAY = warning(
    "inside-overlay",
    "containers do not get there: what they send to addresses of overlays is not masqueraded; nor does this host, "
    "once an agent has that part of the overlay",
)
STRANGE_BRIDGE = error("strange-bridge", "the network of this overlay cannot be created")

KINDS = (
    *(kind for kind, _ in FEATURES.values()),
    FORWARDING_OFF,
    IPV6_OFF,
    STRICT_SOURCES,
    NO_AGENT_LINK,
    LARGE_PACKETS,
    OTHER_MTU,
    CHECKSUMS,
    INSIDE_OVERLAY,
    STRANGE_BRIDGE,
)

_SYSCTL = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_IPV6_SWITCH = "net.ipv6.conf.all.disable_ipv6"
_STRICT = 1
_FIRST_RIGHT = (5, 7)
"""The kernel release from which on checksums inside VXLAN survive address translation (calico issue 3145)."""


def missing_features(facts: Facts) -> Iterator[Ailment]:
    """Find what this kernel does not have."""
    for lack in facts.lacks or ():
        kind, mend = FEATURES[lack.feature]
        otherwise = "" if mend else _NO_MODULE
        yield kind.found(f"kernel feature {lack.feature}", f"is not there: {lack.answer}", mend, otherwise)


def forwarding(facts: Facts) -> Iterator[Ailment]:
    """Find forwarding that is off although containers here need it."""
    if facts.kernel is None or facts.records is None:
        return
    for family in sorted(_spoken(facts.records)):
        if facts.kernel.forwarding.get(family) is False:
            setting = _SYSCTL[family]
            yield FORWARDING_OFF.found(f"IPv{family} forwarding", f"is off ({setting} = 0)", f"sysctl -w {setting}=1")


def _spoken(records: Records) -> set[int]:
    """Answer the families in which containers here have addresses."""
    joined = (endpoint for endpoint in records.endpoints if endpoint.sandbox is not None)
    return {interface.version for endpoint in joined for interface in endpoint.interfaces()}


def ipv6(facts: Facts) -> Iterator[Ailment]:
    """Find that this host speaks no IPv6 although it has networks that do."""
    if facts.kernel is None or facts.records is None:
        return
    names = ", ".join(network.label for network in facts.records.networks if network.gateway6 is not None)
    if not names:
        return
    if facts.kernel.forwarding.get(6) is None:
        problem = f"is not in this kernel, and network {names} has it"
        yield IPV6_OFF.found("IPv6", problem, "modprobe ipv6", "or boot without ipv6.disable=1")
    elif facts.kernel.ipv6_is_off:
        problem = f"is off ({_IPV6_SWITCH} = 1), and network {names} has it"
        yield IPV6_OFF.found("IPv6", problem, f"sysctl -w {_IPV6_SWITCH}=0")


def source_filters(facts: Facts) -> Iterator[Ailment]:
    """Find strict reverse path filters where packets may rightly come by another link."""
    if facts.kernel is None or facts.records is None:
        return
    bridges = {docker_bridge(network.overlay) for network in facts.records.networks}
    strict = sorted(bridge for bridge in bridges if _effective(facts.kernel, bridge) == _STRICT)
    if strict and (len(bridges) > 1 or facts.kernel.has_vtep):
        yield STRICT_SOURCES.found(
            "rp_filter", f"is strict on {', '.join(strict)}", "sysctl -w net.ipv4.conf.all.rp_filter=2"
        )


def _effective(kernel: KernelFacts, link: str) -> int:
    """Answer the filter in force: the kernel takes the greater of the link's and everybody's."""
    return max(kernel.rp_filter.get("all", 0), kernel.rp_filter.get(link, 0))


def underlay(facts: Facts) -> Iterator[Ailment]:
    """Find an agent IP that this host does not have."""
    found = facts.kernel.underlay if facts.kernel else None
    if found is not None and found.link is None:
        yield NO_AGENT_LINK.for_people(
            f"agent IP {found.agent}",
            "is on no link of this host",
            "take agent.ip out of the settings (/etc/dni/dni.toml, DNI_AGENT_IP), or set it to an address of this "
            "host: `ip address` lists them",
        )


def large_packets(facts: Facts) -> Iterator[Ailment]:
    """Find networks whose packets do not fit the link that carries them to other hosts."""
    if facts.kernel is None or facts.kernel.underlay is None or facts.records is None:
        return
    for network in facts.records.networks:
        largest = _largest(network, facts.records, facts.kernel.underlay)
        if largest is not None and network.mtu > largest:
            yield _too_large(network, largest, facts.kernel.underlay)


def _largest(network: NetworkRecord, records: Records, under: Underlay) -> int | None:
    backends = {overlay.name: overlay.backend for overlay in records.overlays}
    if under.link is None or network.overlay not in backends:
        return None
    return mtu.overlay_mtu(under.mtu, backends[network.overlay], family_of(under.agent))


def _too_large(network: NetworkRecord, largest: int, under: Underlay) -> Ailment:
    return LARGE_PACKETS.found(
        f"network {network.label}",
        f"has MTU {network.mtu}, and {under.link} with its {under.mtu} carries {largest} at the most",
        f"ip link set dev {under.link} mtu {under.mtu + network.mtu - largest}",
        f"or, where the link cannot carry that, create the network anew with -o mtu={largest}",
    )


def containers_mtu(facts: Facts) -> Iterator[Ailment]:
    """Find containers that send packets of another size than their network's."""
    if facts.kernel is None or facts.records is None:
        return
    sizes = {network.id: network for network in facts.records.networks}
    networks = {endpoint.id: sizes.get(endpoint.network) for endpoint in facts.records.endpoints}
    names = {record.endpoint: record.container for record in facts.records.addresses if record.container}
    for end in facts.kernel.ends:
        network = networks.get(end.endpoint)
        if network is not None and end.mtu != network.mtu:
            yield _other_mtu(end, network, names.get(end.endpoint) or f"of endpoint {end.endpoint[:12]}")


def _other_mtu(end: ContainerEnd, network: NetworkRecord, container: str) -> Ailment:
    return OTHER_MTU.found(
        f"container {container}",
        f"has MTU {end.mtu} on its {end.name}, and its network {network.label} {network.mtu}",
        f"nsenter --net={end.sandbox} ip link set dev {end.name} mtu {network.mtu}",
    )


def checksums(facts: Facts) -> Iterator[Ailment]:
    """Find VTEPs whose checksums are left to a kernel that gets them wrong."""
    if facts.kernel is None or not _is_wrong(facts.kernel.release):
        return
    for link in facts.kernel.offloading:
        yield CHECKSUMS.found(
            link,
            f"leaves checksums to the network card, which kernel {facts.kernel.release} gets wrong after address "
            f"translation",
            f"ethtool -K {link} tx-checksum-ip-generic off",
        )


def _is_wrong(release: str) -> bool:
    """Tell whether a kernel has the fault; Red Hat's 4.18 has the correction."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) < _FIRST_RIGHT and ".el8" not in release


def strange_bridges(facts: Facts) -> Iterator[Ailment]:
    """Find links called like a bridge of dni's that somebody else made: DC/OS did, by Docker's bridge driver."""
    for name in facts.kernel.strange_bridges if facts.kernel else ():
        network = facts.docker.bridges.get(name) if facts.docker else None
        problem = "was not made by dni, and has the name of a bridge that dni needs"
        if network is None:
            yield STRANGE_BRIDGE.found(name, problem, f"ip link del {name}")
        else:
            yield STRANGE_BRIDGE.found(
                name, f"{problem}: Docker made it for its network {network}", f"docker network rm {network}"
            )


def inside_overlays(facts: Facts) -> Iterator[Ailment]:
    """Find what this host reaches directly, or asks for names, under addresses that are an overlay's."""
    for overlay, found in facts.kernel.inside.items() if facts.kernel else ():
        yield INSIDE_OVERLAY.for_people(
            f"overlay {overlay}",
            f"has addresses that this host has another use for ({', '.join(found)})",
            "give that other addresses; for a name server, name another one in /etc/resolv.conf; or have the "
            "containers elsewhere: dni overlay create NAME --subnet ...",
        )
