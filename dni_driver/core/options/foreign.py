# SPDX-License-Identifier: Apache-2.0
"""Options of Docker's own drivers that dni does not have, and what to use instead."""

from __future__ import annotations

_BRIDGE = "com.docker.network.bridge."
_OWN_BRIDGE = "dni makes its own bridge, d-OVERLAY: leave it out"
_EACH_OTHER = "containers of one overlay always reach each other: put those that must not on two overlays"
_OPEN = "use -o masquerade=false -o isolated=false for containers that are routed to, --internal for closed ones"
_SOURCE = "what leaves an overlay has the address of the link it leaves by"
_NO_ENCRYPTION = "dni does not encrypt: encrypt between the hosts, with WireGuard for example"

_ADVICE = {
    f"{_BRIDGE}name": "the bridge is called d-OVERLAY: choose the overlay with --ipam-opt overlay=NAME",
    f"{_BRIDGE}enable_icc": _EACH_OTHER,
    f"{_BRIDGE}enable_ip_masquerade": "use -o masquerade=true or false",
    f"{_BRIDGE}host_binding_ipv4": "give the address with each port, as in -p 127.0.0.1:8080:80",
    f"{_BRIDGE}default_bridge": "no dni network is the default bridge",
    f"{_BRIDGE}inhibit_ipv4": "the bridge carries the gateway of its containers",
    f"{_BRIDGE}gateway_mode_ipv4": _OPEN,
    f"{_BRIDGE}gateway_mode_ipv6": _OPEN,
    f"{_BRIDGE}trusted_host_interfaces": "use -o isolated=false",
    "com.docker.network.host_ipv4": _SOURCE,
    "com.docker.network.host_ipv6": _SOURCE,
    "com.docker.network.enable_ipv4": "use --ipv4=true or false",
    "com.docker.network.enable_ipv6": "use --ipv6",
    "com.docker.network.internal": "use --internal",
    "com.docker.network.driver.overlay.vxlanid_list": "all overlays of dni share one VXLAN",
    "encrypted": _NO_ENCRYPTION,
    "icc": _EACH_OTHER,
    "parent": _OWN_BRIDGE,
    "macvlan_mode": _OWN_BRIDGE,
    "ipvlan_mode": _OWN_BRIDGE,
    "ipvlan_flag": _OWN_BRIDGE,
    "internal": "use --internal",
    "ipv6": "use --ipv6",
    "subnet": "use --subnet",
    "gateway": "use --gateway",
    "ip-range": "use --ip-range",
    **{key: f"it describes an overlay: use --ipam-opt {key}=VALUE" for key in ("prefix", "prefix6", "backend")},
}


def advice(key: str) -> str | None:
    """Answer what to use instead of an option that other drivers have; None for one that nobody has."""
    return _ADVICE.get(key)
