# SPDX-License-Identifier: Apache-2.0
"""Which iptables: two sets of tables can stand side by side, and Docker's rules are in one of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from shutil import which

import msgspec

from dni_driver.core.overlays import Family
from dni_driver.kernel.command import run
from dni_driver.kernel.firewall.iptables import Listing, parse

PLAIN: dict[Family, str] = {4: "iptables", 6: "ip6tables"}
_LEGACY_TABLES: dict[Family, str] = {4: "ip_tables_names", 6: "ip6_tables_names"}
_PROC = Path("/proc/thread-self/net")


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """An iptables command, and the filter table as it lists it."""

    command: str
    listing: Listing

    @property
    def restore(self) -> str:
        """Answer the command that changes many rules at once."""
        return f"{self.command}-restore"


def usable(family: Family, *, needed: bool) -> list[Variant]:
    """Answer the variants that this host uses, the plain command first.

    A legacy table comes into being when it is listed: so it is looked at only where there is one, or where our
    rules are needed and the plain command is the legacy one.
    """
    return [listed(command) for command in _commands(family, needed=needed)]


def _commands(family: Family, *, needed: bool) -> list[str]:
    plain = PLAIN[family]
    if which(plain) is None or not _speaks(family):
        return []
    legacy_in_use = _has_legacy_tables(family)
    if _is_legacy(plain):
        nft = f"{plain}-nft"
        return [plain] * (needed or legacy_in_use) + [nft] * (which(nft) is not None)
    legacy = f"{plain}-legacy"
    return [plain] + [legacy] * (legacy_in_use and which(legacy) is not None)


def _speaks(family: Family) -> bool:
    return family == 4 or (_PROC / "if_inet6").exists()  # noqa: PLR2004


def _has_legacy_tables(family: Family) -> bool:
    names = _PROC / _LEGACY_TABLES[family]
    return names.exists() and bool(names.read_text().strip())


@functools.cache
def _is_legacy(command: str) -> bool:
    return "nf_tables" not in run([command, "--version"])


def listed(command: str) -> Variant:
    """List a variant's filter table."""
    return Variant(command=command, listing=parse(run([command, "-w", "-S"])))


def docker_uses(variants: Sequence[Variant]) -> Variant | None:
    """Choose the variant that Docker uses, else the plain one."""
    return next((variant for variant in variants if variant.listing.is_dockers), next(iter(variants), None))


def all_counted() -> bool:
    """Tell whether every table of this host is nftables', which counts its changes."""
    families: tuple[Family, Family] = (4, 6)
    return not any(_has_legacy_tables(family) for family in families)
