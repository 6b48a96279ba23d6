# SPDX-License-Identifier: Apache-2.0
"""Cuts between a node and the others: a cable that is pulled, and a switch that drops what goes one way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

from tests.lab.node import Node

Way = Literal["both", "sending", "receiving"]
_TABLE = "cuts"


@contextlib.contextmanager
def cut_off(switch: Node, node: Node, way: Way = "both") -> Iterator[None]:
    """Let nothing from or to a node through; or nothing that it is `sending`, or nothing it would be `receiving`."""
    port = f"p-{node.name}"
    if way == "both":
        cut, heal = f"ip link set {port} down", f"ip link set {port} up"
    else:
        table, side = f"{_TABLE}-{port}", "iifname" if way == "sending" else "oifname"
        chain = f"type filter hook forward priority 0\n{side} {port} drop"
        rules = f"table bridge {table} {{\nchain cut {{\n{chain}\n}}\n}}"
        cut, heal = f"echo '{rules}' | nft -f -", f"nft delete table bridge {table}"
    switch.run("sh", "-c", cut)
    try:
        yield
    finally:
        switch.run("sh", "-c", heal)
