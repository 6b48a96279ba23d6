# SPDX-License-Identifier: Apache-2.0
"""The networks that users of the simulation create: wise ones, odd ones, and mistakes."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import strategies as st

from dni_driver.core.overlays import Overlay
from tests.simulation.model import Plan, Subnet

DCOS = Overlay(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=28)
"""The default overlay, with room for 5 containers: 9.0.0.10 to 9.0.0.14."""

DUAL = Overlay(
    name="dual",
    subnet=IPv4Network("10.64.0.0/16"),
    prefix=28,
    subnet6=IPv6Network("fd01:b::/64"),
    prefix6=124,
)
"""Room for 5 containers by IPv4 (10.64.0.10 to .14), 6 by IPv6."""

SIX = Overlay(name="six", subnet6=IPv6Network("fd06::/64"), prefix6=124)
"""Room for 6 containers; whoever asks for IPv4 gets a local subnet with room for 5 (LOCAL)."""

LOCAL = IPv4Network("198.18.0.0/27")
"""What local subnets are made of, four of /29."""

_dcos_hosts = st.integers(8, 15).map(lambda last: f"9.0.0.{last}")
_plain_hosts = st.integers(0, 7).map(lambda last: f"172.30.0.{last}")
_nothing = st.just("")


def _several(hosts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(hosts, max_size=2, unique=True).map(tuple)


_on_dcos = st.builds(
    Subnet,
    subnet=st.sampled_from(["9.0.0.0/8", "9.0.0.8/29"]),
    ip_range=st.sampled_from(["", "", "9.0.0.12/30", "9.0.0.8/30", "9.0.1.0/24"]),
    gateway=_nothing | _dcos_hosts,
    auxiliary=_several(_dcos_hosts),
)
_plain = st.builds(
    Subnet,
    subnet=st.just("172.30.0.0/29"),
    ip_range=st.sampled_from(["", "", "172.30.0.4/30"]),
    gateway=_nothing | _plain_hosts,
    auxiliary=_several(_plain_hosts),
)

_dual = (("overlay", "dual"),)
_alone = Plan(ipam="null", options=(("overlay", "dcos"),))
_tiny = Plan(subnets=(Subnet("10.80.0.0/16"),), ipam_options=(("overlay", "tiny"), ("prefix", "29")))
_six = (("overlay", "six"),)
_twin = Plan(
    subnets=(Subnet("10.97.0.0/16"), Subnet("fd97::/64", family=6)),
    ipam_options=(("overlay", "twin"), ("prefix", "28"), ("prefix6", "124")),
)
_dev = Plan(subnets=(Subnet("10.96.0.0/16"),), ipam_options=(("overlay", "dev"), ("prefix", "28")))

_usual = st.sampled_from(
    [
        Plan(),
        Plan(internal=True),
        Plan(options=(("mtu", "1400"), ("isolated", "false"))),
        Plan(ipam_options=_dual),
        Plan(ipam_options=_dual, subnets=(Subnet(), Subnet(family=6))),
        _alone,
        _alone,
        Plan(ipam="null", options=_dual, subnets=(Subnet(), Subnet(family=6))),
        Plan(ipam="null", options=_six, subnets=(Subnet(family=6),)),
        Plan(ipam_options=_six, subnets=(Subnet(), Subnet(family=6))),
        Plan(ipam_options=_six, subnets=(Subnet(family=6),)),
        Plan(subnets=(Subnet("10.64.0.0/16"), Subnet(family=6))),
        _tiny,
        _twin,
        _dev,
    ]
)
_mistakes = st.sampled_from(
    [
        Plan(options=(("colour", "red"),)),
        Plan(ipam_options=(("overlay", "nobody"),)),
        Plan(ipam_options=(("overlay", "x" * 14),), subnets=(Subnet("10.112.0.0/16"),)),
        Plan(subnets=(Subnet("172.30.0.0/29"),)),
        Plan(subnets=(Subnet("9.0.0.0/9"),)),
        Plan(subnets=(Subnet(), Subnet(family=6))),
        Plan(ipam_options=_six),
        Plan(subnets=(Subnet("10.98.0.0/16"), Subnet("fd06::/64", family=6)), ipam_options=(("overlay", "far"),)),
        Plan(driver="bridge"),
        Plan(ipam="null"),
        Plan(ipam="null", options=(("overlay", "nobody"),)),
        Plan(ipam="null", options=_six),
    ]
)

plans: st.SearchStrategy[Plan] = st.one_of(
    _usual,
    _usual,
    st.builds(Plan, subnets=st.tuples(_on_dcos)),
    st.builds(Plan, subnets=st.tuples(_on_dcos)),
    st.builds(Plan, driver=st.sampled_from(["macvlan", "macvlan", "bridge"]), subnets=st.tuples(_plain)),
    st.builds(Plan, driver=st.sampled_from(["macvlan", "macvlan", "bridge"]), subnets=st.tuples(_plain)),
    _mistakes,
)
