# SPDX-License-Identifier: Apache-2.0
"""How dni makes itself known to a registry on other hosts."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who dni is for ZooKeeper or a Mesos agent, and how it knows that.

    Without a user, whoever comes may read and write what is in ZooKeeper. With `tls`, `ca` is whose certificates are
    believed (None: those that this host believes), and `certificate` and `key` are what dni shows of itself.
    `token_file` holds what a Mesos agent wants to see.
    """

    user: str | None = None
    password: str | None = None
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
