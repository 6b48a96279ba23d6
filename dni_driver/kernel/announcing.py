# SPDX-License-Identifier: Apache-2.0
"""Tells who is on a bridge which link-layer address the bridge has: by the kernel, no packet of our own is sent.

A container sends to the one that it knows for half a minute and longer, whatever bridge has taken that one's place.
"""

from __future__ import annotations

from collections.abc import Iterable

from dni_driver.kernel import sysctl
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink.conversation import conversation


def announce(bridges: Iterable[str], ledger: Ledger) -> None:
    """Have the kernel announce all addresses of bridges (RFC 5227 section 2.3, RFC 4861 section 7.2.6).

    It does so when a link is given a link-layer address, be it the one that the link has.
    """
    for bridge in bridges:
        with ledger.about(f"bridge {bridge}", bridge), conversation() as kernel:
            sysctl.ensure(f"ipv4/conf/{bridge}/arp_notify", "1")
            sysctl.ensure(f"ipv6/conf/{bridge}/ndisc_notify", "1")
            for link in kernel.link("get", ifname=bridge):
                kernel.link("set", index=link["index"], address=link.get("address"))
