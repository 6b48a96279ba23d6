# SPDX-License-Identifier: Apache-2.0
"""Docker Compose as a Debian suite has it: one program, which needs of the machine only its C library."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.lab import engines
from tests.lab.errors import LabError

SUITES = {"20.10": "trixie", "26.1": "trixie", "28.5": "forky"}
"""Which suite's Compose goes with which engine; bookworm, which has 20.10, has Compose 1 alone, long abandoned."""
_PACKAGE = "docker-compose"
_PROGRAM = Path("usr/libexec/docker/cli-plugins/docker-compose")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def program(engine: str) -> Path:
    """Answer the program that goes with an engine; fetched at first use, which takes the Debian archive seconds."""
    path = engines.cache() / f"compose-{SUITES[engine]}"
    with engines.one_at_a_time():
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=engines.CACHE, prefix=".compose-") as unfinished:
                _fetch(SUITES[engine], Path(unfinished))
                shutil.move(Path(unfinished) / _PROGRAM, path)
    return path


def _fetch(suite: str, folder: Path) -> None:
    """Have apt fetch the package from a suite that is not the machine's, and unpack it, all in a folder."""
    source = folder / "sources.list"
    source.write_text(f"deb [signed-by={_KEYRING}] {engines.MIRROR} {suite} main\n")
    (folder / "status").touch()
    places = {"Etc::SourceList": source, "Etc::SourceParts": "/dev/null", "State": folder, "Cache": folder}
    options = [f"-oDir::{key}={value}" for key, value in {**places, "State::status": folder / "status"}.items()]
    _run(folder, "apt-get", *options, "-oAPT::Sandbox::User=root", "update")
    _run(folder, "apt-get", *options, "-oAPT::Sandbox::User=root", "download", _PACKAGE)
    (package,) = folder.glob(f"{_PACKAGE}_*.deb")
    _run(folder, "dpkg-deb", "--extract", str(package), str(folder))


def _run(folder: Path, *argv: str) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{_PACKAGE} cannot be fetched: {' '.join(argv[:1])}: {done.stderr[-2000:]}")
