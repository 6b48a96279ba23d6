# SPDX-License-Identifier: Apache-2.0
"""Cables and addresses: every node's `eth0` is a port of one bridge, in a namespace of its own.

In the machine's own namespace Docker's FORWARD DROP, which bridged frames meet too, would cut the hosts off.
"""

from __future__ import annotations

import subprocess

from tests.lab import addresses
from tests.lab.errors import CommandError
from tests.lab.node import Node


def make_switch(switch: Node) -> None:
    """Make the bridge, a plain one: it shows its frames to no firewall."""
    switch.run("sh", "-c", "for family in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $family; done")
    _ip(switch, "link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")


def plug_in(switch: Node, node: Node) -> None:
    """Lead a cable from the switch to a node and give its end, `eth0`, the node's addresses."""
    port = f"p-{node.name}"
    _ip(
        switch,
        f"link add {port} type veth peer name eth0 netns {node.pid}",
        f"link set {port} master br0 up",
    )
    _ip(
        node,
        "link set lo up",
        f"address add {node.address}/{addresses.LINK.prefixlen} dev eth0",
        f"address add {node.address6}/{addresses.LINK6.prefixlen} dev eth0 nodad",
        "link set eth0 up",
    )


def route_by_outside(node: Node) -> None:
    """Make `outside` the way to everywhere."""
    _ip(node, f"route add default via {addresses.OUTSIDE}", f"-6 route add default via {addresses.OUTSIDE6}")


def stand_for_the_world(outside: Node) -> None:
    """Put the address on `outside` that lies beyond the link."""
    _ip(
        outside,
        f"address add {addresses.WORLD}/32 dev lo",
        f"address add {addresses.WORLD6}/128 dev lo nodad",
    )


def _ip(node: Node, *commands: str) -> None:
    """Run `ip` commands in the network of a node, but among this process's pids, which the commands name."""
    for command in commands:
        argv = ["nsenter", f"--net=/proc/{node.pid}/ns/net", "ip", *command.split()]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode != 0:
            raise CommandError(argv, done.returncode, done.stdout, done.stderr)
