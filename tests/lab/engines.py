# SPDX-License-Identifier: Apache-2.0
"""Docker Engine versions: the installed one, or a Debian suite's in a root file system of its own."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.node import REPOSITORY

CACHE = REPOSITORY / ".cache" / "lab"
SUITES = {"20.10": "bookworm", "26.1": "trixie", "28.5": "forky"}
"""Which Debian suite carries which engine."""
MIRROR = "http://deb.debian.org/debian"
_PACKAGES = ("docker.io", "iptables", "nftables", "iproute2")
_SCRIPT = "/usr/share/debootstrap/scripts/sid"  # also right for suites younger than debootstrap


def root_of(engine: str) -> Path | None:
    """Prepare an engine; answer the root file system to start it in, None when it is the installed one."""
    if engine not in SUITES:
        raise LabError(f"engine {engine!r} is not known; there are {', '.join(SUITES)}")
    return None if _installed(engine) else prepare(engine)


def is_at_hand(engine: str) -> bool:
    """Whether this engine is installed or prepared, so that a lab with it needs no download."""
    return _installed(engine) or _path(engine).exists()


def prepare(engine: str) -> Path:
    """Make the engine's root file system, unless it is there. Takes about a minute and the Debian archive."""
    path = _path(engine)
    with one_at_a_time():
        if not path.exists():
            for abandoned in CACHE.glob(".engine-*"):
                shutil.rmtree(abandoned)
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=".engine-") as unfinished:
                root = Path(unfinished) / "root"
                _debootstrap(SUITES[engine], root)
                _expect_version(engine, root)
                root.rename(path)
    return path


def cache() -> Path:
    """Answer the folder for what is worth keeping between runs; it tells git to ignore it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    ignore = CACHE.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return CACHE


def _path(engine: str) -> Path:
    return CACHE / f"engine-{engine}"


def _installed(engine: str) -> bool:
    dockerd = shutil.which("dockerd", path="/usr/sbin:/usr/bin")
    return dockerd is not None and _version([dockerd]) == engine


def _expect_version(engine: str, root: Path) -> None:
    found = _version(["chroot", str(root), "dockerd"])
    if found != engine:
        raise LabError(f"Debian's {SUITES[engine]} has Docker Engine {found} by now, not {engine}")


def _version(dockerd: list[str]) -> str:
    """Answer the first two parts of a dockerd's version."""
    text = subprocess.run([*dockerd, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+\.\d+)", text)
    if found is None:
        raise LabError(f"no version in {text!r}")
    return found[1]


def _debootstrap(suite: str, root: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise LabError("debootstrap is missing: apt install debootstrap")
    packages = _PACKAGES if suite == "bookworm" else (*_PACKAGES, "docker-cli")  # split off after bookworm
    argv = [
        *("unshare", "--mount", "--propagation", "private", "--"),  # what it mounts ends with it
        *("debootstrap", "--variant=minbase", f"--include={','.join(packages)}"),
        *(suite, str(root), MIRROR, _SCRIPT),
    ]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"debootstrap of {suite} failed:\n{done.stdout[-2000:]}")
    for downloads in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / downloads)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep everybody else from changing the cache."""
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
