# SPDX-License-Identifier: Apache-2.0
"""Closes a registry that was made without a password to all who have none, once an agent has one."""

from __future__ import annotations

import structlog

from dni_driver.registry.zookeeper.layout import FORMAT
from dni_driver.registry.zookeeper.link import Link

log = structlog.get_logger(__name__)


def close(link: Link) -> None:
    """Give this host's user everything that whoever comes may change: parents first, so that nothing new is open.

    The node that tells whether it was done comes last: what an end leaves open is closed by the next agent.
    """
    if not link.open_among([FORMAT]):
        return
    level = [""]
    while level:
        link.close_to_others(link.open_among(level))
        below = zip(level, link.every_child(level), strict=True)
        level = [f"{path}/{name}".lstrip("/") for path, names in below for name in names if name != FORMAT]
    link.close_to_others([FORMAT])
    log.info("registry closed to those without its password", registry=str(link.address))
