# SPDX-License-Identifier: Apache-2.0
"""What `docker network create -o KEY=VALUE` may say to `-d dni`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from dni_driver.core.errors import Refused
from dni_driver.core.names import check_overlay_name
from dni_driver.core.options import foreign
from dni_driver.core.options.bandwidth import parse_rate
from dni_driver.core.options.endpoint import parse_spoof

DEFAULT_LINK_PREFIX = "eth"
"""What links are called inside containers, with a number behind."""

LINK_PREFIX_KEY = "com.docker.network.container_iface_prefix"
_LINK_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,10}")
"""Linux allows 15 characters for a link; four are for its number."""

MTU_KEYS = ("mtu", "com.docker.network.driver.mtu")
SMALLEST_MTU = 552
"""The bound DC/OS set for its overlay MTU; below 1280 IPv6 does not work."""
LARGEST_MTU = 65535

_ALLOWED = ("mtu", "masquerade", "isolated", "spoof", "egress", "ingress", "overlay")
_DOCKERS_OWN = ("com.docker.network.advertise_addr_nmsgs", "com.docker.network.advertise_addr_ms")
"""Read by dockerd itself (28.0 and later) for every driver."""

MADE_BY = ("dni.made-by", "dni")
"""What a network that the agent makes bears, as a label for people and as an option for the plugin, which hears of no
labels."""

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one Docker network.

    `mtu` in bytes, None for the underlay's less the encapsulation; `masquerade`: hide container addresses
    from what is outside every overlay; `isolated`: let nobody in but the overlay itself, this host and the
    other agents; `internal`: nobody out either; `spoof`: containers may send under addresses that are not theirs;
    `link_prefix`: what their links are called inside, with a number behind. `egress`, `ingress`: the bits a second
    that each container may send and be sent where it has no limit of its own; None or 0 for as many as it likes.
    `overlay`: which one, for `--ipam-driver null` alone (with dni's own IPAM driver `--ipam-opt` says that);
    `is_agents`: the agent makes the network, of itself, so that it is no use of its overlay.
    """

    mtu: int | None = None
    masquerade: bool = True
    isolated: bool = True
    internal: bool = False
    overlay: str | None = None
    egress: int | None = None
    ingress: int | None = None
    spoof: bool = False
    link_prefix: str = DEFAULT_LINK_PREFIX
    is_agents: bool = False


def parse_options(given: Mapping[str, str], *, internal: bool = False) -> NetworkOptions:
    """Read the options of a network; raise Refused naming the key, the value and what is allowed."""
    for key in given:
        if key not in (*_ALLOWED, *MTU_KEYS, LINK_PREFIX_KEY, MADE_BY[0], *_DOCKERS_OWN):
            raise Refused(_refusal(key))
    return NetworkOptions(
        mtu=_mtu(given),
        masquerade=_truth(given, "masquerade"),
        isolated=_truth(given, "isolated"),
        internal=internal,
        overlay=check_overlay_name(given["overlay"]) if "overlay" in given else None,
        egress=parse_rate("egress", given["egress"]) if "egress" in given else None,
        ingress=parse_rate("ingress", given["ingress"]) if "ingress" in given else None,
        link_prefix=_link_prefix(given.get(LINK_PREFIX_KEY, DEFAULT_LINK_PREFIX)),
        spoof="spoof" in given and parse_spoof(given["spoof"]),
        is_agents=_is_agents(given),
    )


def _refusal(key: str) -> str:
    advice = foreign.advice(key)
    if advice is not None:
        return f"option {key!r} is not one of dni: {advice}"
    return f"option {key[:40]!r} is not known to dni: use {', '.join(_ALLOWED)}"


def _is_agents(given: Mapping[str, str]) -> bool:
    key, value = MADE_BY
    if given.get(key, value) != value:
        raise Refused(f"option {key} is for the networks that the agent makes: leave it out")
    return key in given


def _link_prefix(text: str) -> str:
    if not _LINK_PREFIX.fullmatch(text):
        raise Refused(
            f"option {LINK_PREFIX_KEY}={text[:40]!r} cannot begin the name of a link: use a letter, then up to 10 "
            f"letters, digits, '-' or '_'"
        )
    return text


def _mtu(given: Mapping[str, str]) -> int | None:
    values = {given[key] for key in MTU_KEYS if key in given}
    if not values:
        return None
    if len(values) > 1:
        raise Refused(f"options {' and '.join(MTU_KEYS)} say different things: give one")
    text = values.pop()
    if not (_is_short_number(text) and SMALLEST_MTU <= int(text) <= LARGEST_MTU):
        raise Refused(f"option mtu={text[:40]!r} is not a number of bytes from {SMALLEST_MTU} to {LARGEST_MTU}")
    return int(text)


def _is_short_number(text: str) -> bool:
    """Tell whether `int` reads it at once: Python refuses thousands of digits with an error of its own."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_MTU))


def _truth(given: Mapping[str, str], key: str) -> bool:
    text = given.get(key, "true").lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Refused(f"option {key}={given[key][:40]!r} is neither true nor false")
