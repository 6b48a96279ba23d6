# SPDX-License-Identifier: Apache-2.0
"""dni's Python packages as wheels, for machines of the lab, which reach no package index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.lab.engines import cache, one_at_a_time
from tests.lab.errors import LabError
from tests.lab.node import REPOSITORY

_PYTHON = "/usr/bin/python3"


def directory() -> Path:
    """Answer the folder with what dni needs, for the machine's own Python; fetched when that has changed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    version = _version()
    path = cache() / f"wheels-{hashlib.sha256(repr((version, sorted(wanted))).encode()).hexdigest()[:12]}"
    with one_at_a_time():
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=cache(), prefix=".wheels-") as unfinished:
                fetched = Path(unfinished) / "wheels"
                _download(wanted, version, fetched)
                fetched.rename(path)
    return path


def _version() -> str:
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([_PYTHON, "-I", "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def _download(wanted: list[str], version: str, into: Path) -> None:
    options = ["--quiet", "--only-binary=:all:", "--python-version", version, "--dest", str(into)]
    argv = [sys.executable, "-m", "pip", "download", *options, *wanted]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"pip download failed:\n{done.stderr[-2000:]}")
