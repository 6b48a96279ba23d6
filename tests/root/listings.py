# SPDX-License-Identifier: Apache-2.0
"""What the kernel lists of the ways to other agents, and a host that is to have some."""

from __future__ import annotations

import re

import pytest

from tests.root.cluster import Cluster, Member

LISTINGS = (
    "ip route show table all", "ip -6 route show table main", "ip rule", "ip neigh show nud permanent",
    "bridge fdb show dev vtep1024",
)  # fmt: skip


_PRIORITY = re.compile(r"^\d+:\t")
_BY_ITSELF = ("fe80::", "ff00::", "multicast")
"""What the kernel gives links in its own time."""


def listed(member: Member) -> list[str]:
    """Answer everything a host's kernel knows of ways, rules without their priorities."""
    lines = (_PRIORITY.sub("", line).rstrip() for listing in LISTINGS for line in member.sh(listing).splitlines())
    return sorted(line for line in lines if not any(own in line for own in _BY_ITSELF))


def about(member: Member, number: int) -> list[str]:
    """Answer what a host's kernel has about the agent of a number."""
    own = (f"9.0.{number}.", f"10.64.{number}.", f":0:0:{number}::", f"44.128.0.{number}", f"fd01:a::{number}")
    mac = f"70:b3:d5:80:00:{number:02x}"
    return [line for line in listed(member) if any(text in line for text in (*own, mac))]


@pytest.fixture
def first(cluster: Cluster) -> Member:
    cluster.meet(dcos="vxlan", dev="auto")
    return cluster.near[0]
