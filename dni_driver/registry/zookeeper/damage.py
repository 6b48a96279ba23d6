# SPDX-License-Identifier: Apache-2.0
"""Nodes with what no dni wrote: each is named as ZooKeeper's own tools want it, with the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from dni_driver.core.errors import StoreError
from dni_driver.core.overlays import Address
from dni_driver.core.registry_address import ZooKeeperAddress
from dni_driver.registry.zookeeper.layout import AGENTS, ALIVE, FORMAT, OVERLAYS, SUBNETS, VTEPS

K = TypeVar("K")
T = TypeVar("T")

_OF_ALL = (FORMAT, OVERLAYS, VTEPS)
_OF_ONE = (f"{AGENTS}/", f"{ALIVE}/", f"{SUBNETS}/", f"{VTEPS}/")


def damaged(at: ZooKeeperAddress, path: str, why: object) -> StoreError:
    """Build the error of a node that cannot be used, `why` in words; `at` is where the registry is."""
    node = f"{at.path}/{path}"
    return StoreError(f"the registry is damaged: {node} in ZooKeeper {why}; {_cure(at, path, node)}")


def understood(at: ZooKeeperAddress, data: bytes, kind: type[K], path: str) -> K:
    """Read what is kept; raise StoreError where it is something else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_understood(at, path, error) from None


def read_names(at: ZooKeeperAddress, folder: str, names: Iterable[str], read: Callable[[str], T]) -> list[T]:
    """Read the names of the nodes of a folder; raise StoreError for one that `read` refuses with a ValueError."""
    found = []
    for name in names:
        try:
            found.append(read(name))
        except ValueError:
            at_fault = f"{folder}/{name}"
            raise StoreError(
                f"the registry is damaged: {at.path}/{at_fault} in ZooKeeper is none of dni's; "
                f"delete it: {_command(at, 'deleteall', at_fault)}"
            ) from None
    return found


def read_holder(at: ZooKeeperAddress, data: bytes, path: str) -> Address:
    """Read who holds something; raise StoreError."""
    try:
        return ip_address(data.decode())
    except ValueError as error:
        raise not_understood(at, path, error) from None


def not_understood(at: ZooKeeperAddress, path: str, why: object) -> StoreError:
    """Build the error of a node with rubbish in it."""
    return damaged(at, path, f"is not understood ({why})")


def _cure(at: ZooKeeperAddress, path: str, node: str) -> str:
    if path in _OF_ALL:
        return (
            f"put {node} back as it was, or have the agents that run write the whole registry anew from their "
            f"stores: {_command(at, 'deleteall', '')}"
        )
    if path.startswith(_OF_ONE):
        return f"delete it, and its agent writes it anew within a minute: {_command(at, 'delete', path)}"
    return f"delete it: {_command(at, 'delete', path)}"


def _command(at: ZooKeeperAddress, word: str, path: str) -> str:
    node = f"{at.path}/{path}" if path else at.path
    return f"zkCli.sh -server {at.servers[0]} {word} {node}"
