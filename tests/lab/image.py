# SPDX-License-Identifier: Apache-2.0
"""The image every lab host has: `busybox:latest`, made of Debian's static busybox."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from tests.lab.errors import LabError

NAME = "busybox:latest"
_BUSYBOX = Path("/usr/bin/busybox")
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}


def archive(cache: Path) -> Path:
    """Answer the image's root file system as a tar, made on first use and again when busybox is newer."""
    path = cache / "busybox.tar"
    if not _BUSYBOX.exists():
        raise LabError(f"{_BUSYBOX} is missing: apt install busybox-static")
    if not path.exists() or path.stat().st_mtime < _BUSYBOX.stat().st_mtime:
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as unfinished:
            _write(unfinished)
        Path(unfinished.name).replace(path)
    return path


def _write(file: IO[bytes]) -> None:
    applets = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for folder in ("bin", "etc", "root", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in {"bin/busybox": _BUSYBOX.read_bytes(), **_FILES}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for applet in set(applets) - {"busybox"}:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
