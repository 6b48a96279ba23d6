# SPDX-License-Identifier: Apache-2.0
"""The registry of a cluster of many hosts: ZooKeeper. Imports kazoo, and so only where it is used."""

from __future__ import annotations

from dni_driver.registry.zookeeper.registry import ZooKeeperRegistry

__all__ = ["ZooKeeperRegistry"]
