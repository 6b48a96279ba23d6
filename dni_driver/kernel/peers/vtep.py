# SPDX-License-Identifier: Apache-2.0
"""The VTEP: the VXLAN device by which packets travel to other agents, as dcos-net makes it."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

import msgspec
from pyroute2.iproute import IPRoute
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from dni_driver.core.data_plane.paths import VtepDevice
from dni_driver.core.errors import KernelError
from dni_driver.core.names import VTEP_LINK
from dni_driver.core.peers import VNI, VXLAN_PORT
from dni_driver.core.records import Interface
from dni_driver.kernel import addresses, connected, sysctl
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink.conversation import Message, conversation, tolerating

_ALIAS = "dni vtep"
_WITHOUT_STATISTICS = 8
_LOOSE = "2"


class VtepState(msgspec.Struct, frozen=True, kw_only=True):
    """A link called like our VTEP, as the kernel has it; `vni` and `port` are None where it is no VXLAN device."""

    index: int
    alias: str
    vni: int | None
    port: int | None
    local: str | None
    mac: str
    mtu: int
    up: bool
    addresses: tuple[Interface, ...]

    @property
    def is_ours(self) -> bool:
        """Tell whether dni made it, or took it over."""
        return self.alias == _ALIAS

    def serves(self, wanted: VtepDevice) -> bool:
        """Tell whether it can be kept: a change of what is compared here would drop all neighbours."""
        return (self.vni, self.port, self.mac) == (VNI, VXLAN_PORT, wanted.mac) and self._sends_from(wanted)

    def _sends_from(self, wanted: VtepDevice) -> bool:
        """Tell whether what it sends comes from where it should: over IPv4 that may be anywhere, as in DC/OS."""
        return self.local == str(wanted.local) if wanted.local else ":" not in (self.local or "")


def read() -> VtepState | None:
    """Read the link of that name; None where there is none."""
    found: list[VtepState] = []
    with conversation() as kernel, tolerating(errno.ENODEV):
        found = [_state(kernel, link) for link in kernel.link("get", ifname=VTEP_LINK, ext_mask=_WITHOUT_STATISTICS)]
    return found[0] if found else None


def _state(kernel: IPRoute, link: Message) -> VtepState:
    carried = addresses.read(kernel, [link["index"]])
    return VtepState(
        index=link["index"],
        alias=link.get("ifalias") or "",
        vni=link.get(("linkinfo", "data", "vxlan_id")),
        port=link.get(("linkinfo", "data", "vxlan_port")),
        local=link.get(("linkinfo", "data", "vxlan_local6")) or link.get(("linkinfo", "data", "vxlan_local")),
        mac=link.get("address") or "",
        mtu=link.get("mtu"),
        up=bool(link["flags"] & IFF_UP),
        addresses=tuple(address for _, address in carried if not address.is_link_local),
    )


def faults(wanted: VtepDevice, there: VtepState | None) -> Iterator[str]:
    """Answer in words how the VTEP differs from the wanted one."""
    if there is None:
        yield "is missing"
        return
    if not there.serves(wanted):
        over = f", over IPv6 from {wanted.local}" if wanted.local else ""
        yield f"is no VXLAN device with VNI {VNI}, UDP port {VXLAN_PORT} and MAC {wanted.mac}{over}"
        return
    if not there.is_ours:
        yield "is not marked as dni's"
    if not there.up:
        yield "is down"
    if there.mtu != wanted.mtu:
        yield f"has MTU {there.mtu} instead of {wanted.mtu}"
    for address in _missing(wanted, there):
        yield f"lacks address {address}"
    for address in _strange(wanted, there):
        yield f"carries address {address}, which is not its own"


def _missing(wanted: VtepDevice, there: VtepState) -> list[Interface]:
    return [address for address in wanted.addresses if address not in there.addresses]


def _strange(wanted: VtepDevice, there: VtepState) -> list[Interface]:
    return [address for address in there.addresses if address not in wanted.addresses]


def mend(wanted: VtepDevice | None, there: VtepState | None, ledger: Ledger) -> bool:
    """Make the VTEP as wanted, or delete ours where none is; tell whether anything had to be done."""
    before = ledger.entries
    with ledger.about(VTEP_LINK):
        if wanted is None:
            if there is not None and there.is_ours:
                _delete(there, ledger)
        else:
            _ensure(wanted, there, ledger)
    return ledger.entries > before


def _ensure(wanted: VtepDevice, there: VtepState | None, ledger: Ledger) -> None:
    wrong = list(faults(wanted, there))
    if there is None or not there.serves(wanted):
        with conversation() as kernel:
            _make(kernel, wanted, there)
    else:
        if wrong:
            _mend(wanted, there)
        for network in connected.mend(there.index, wanted.addresses):
            ledger.did(f"{VTEP_LINK}: route to {network} put back")
    if wrong:
        ledger.did(f"{VTEP_LINK} {', '.join(wrong)}: put right")
    _keep_reverse_path_loose(ledger)


def _delete(there: VtepState, ledger: Ledger) -> None:
    with conversation() as kernel, tolerating(errno.ENODEV):
        kernel.link("del", index=there.index)
    ledger.did(f"deleted {VTEP_LINK}")


def _make(kernel: IPRoute, wanted: VtepDevice, in_the_way: VtepState | None) -> None:
    """Make the device; it has its MAC from the start, as a later change would drop its neighbours.

    It speaks either family with other agents: one made with an IPv6 address of its own takes no IPv4 ones. Over
    IPv6 its UDP has checksums, which the kernel makes and asks for unless told otherwise.
    """
    if in_the_way is not None:
        with tolerating(errno.ENODEV):
            kernel.link("del", index=in_the_way.index)
    kernel.link(
        "add", ifname=VTEP_LINK, kind="vxlan", vxlan_id=VNI, vxlan_port=VXLAN_PORT, vxlan_learning=1,
        address=wanted.mac, **({"vxlan_local6": str(wanted.local)} if wanted.local else {}),
    )  # fmt: skip
    (link,) = kernel.link("get", ifname=VTEP_LINK, ext_mask=_WITHOUT_STATISTICS)
    _set(kernel, link["index"], wanted, wanted.addresses)


def _mend(wanted: VtepDevice, there: VtepState) -> None:
    strange = _strange(wanted, there)
    with conversation() as kernel:
        _set(kernel, there.index, wanted, _missing(wanted, there))
        for address in strange:
            # Those of IPv6 go by themselves where the MTU is too small for it now.
            with tolerating(errno.EADDRNOTAVAIL, errno.ENXIO):
                kernel.addr("del", index=there.index, **addresses.described(address))
        if strange:
            # One of the same subnet that was there before ours has taken ours along.
            _put(kernel, there.index, wanted.addresses)


def _set(kernel: IPRoute, index: int, wanted: VtepDevice, missing: Iterable[Interface]) -> None:
    kernel.link("set", index=index, ifalias=_ALIAS, mtu=wanted.mtu)
    if any(address.version == 6 for address in wanted.addresses):  # noqa: PLR2004
        for key, value in (("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")):
            sysctl.ensure(f"ipv6/conf/{VTEP_LINK}/{key}", value)
    with tolerating(errno.EADDRINUSE) as refused:
        kernel.link("set", index=index, state="up")
    if refused:
        raise KernelError(
            f"UDP port {VXLAN_PORT}, by which agents reach each other, is another program's: "
            f"`ss -lunp sport = {VXLAN_PORT}` names it"
        )
    _put(kernel, index, missing)


def _put(kernel: IPRoute, index: int, wanted: Iterable[Interface]) -> None:
    for address in wanted:
        kernel.addr("replace", index=index, **addresses.described(address))


def _keep_reverse_path_loose(ledger: Ledger) -> None:
    """Take answers of agents from their own addresses, to which this host has another way, as dcos-net does."""
    if sysctl.ensure(f"ipv4/conf/{VTEP_LINK}/rp_filter", _LOOSE):
        ledger.did(f"{VTEP_LINK}: reverse path filter loose")
