# SPDX-License-Identifier: Apache-2.0
"""Closes a registry that was made without a password to all who have none, once an agent has one."""

from __future__ import annotations

import structlog

from dni_driver.registry.zookeeper.layout import COUNTS, DIGESTS, FOLDERS, FORMAT, OVERLAYS, RECLAIMER
from dni_driver.registry.zookeeper.link import Link

log = structlog.get_logger(__name__)


def close(link: Link) -> None:
    """Give this host's user everything of dni's that whoever comes may change; parents first, so that it stays so.

    The node that tells whether it was done comes last: what an end leaves open is closed by the next agent.
    """
    if not link.open_among([FORMAT]):
        return
    level = ["", OVERLAYS, RECLAIMER, COUNTS, DIGESTS, *FOLDERS]
    while level:
        link.close_to_others(link.open_among(level))
        folders = [path for path in level if path]
        below = zip(folders, link.every_child(folders), strict=True)
        level = [f"{path}/{name}" for path, names in below for name in names]
    link.close_to_others([FORMAT])
    log.info("registry closed to those without its password", registry=str(link.address))
