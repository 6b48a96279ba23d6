# SPDX-License-Identifier: Apache-2.0
"""What becomes of a store's file on a disk that fails."""

from __future__ import annotations

from pathlib import Path


def damage_all(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 1000)


def damage_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_all_but_the_log(path: Path) -> None:
    path.with_name("dni.db-wal").write_bytes(b"frames")
    path.unlink()


DAMAGES = [damage_all, damage_a_page, cut_off, cut_short, empty, lose_all_but_the_log]
