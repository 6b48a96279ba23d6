# SPDX-License-Identifier: Apache-2.0
"""`make demo` shows what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import click
import pytest

from tests.demo.__main__ import CONTAINERS, show
from tests.demo.telling import INTERRUPTED
from tests.lab import Lab, procfs
from tests.lab.node import REPOSITORY
from tests.lab.traces import family, named_for

ADDRESSES = dict(zip(CONTAINERS, ("9.0.0.130", "9.0.0.131", "9.0.0.132"), strict=True))


@pytest.mark.lab
def test_three_containers_talk_and_the_map_shows_their_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    with Lab(hosts=1) as lab:
        show(lab)
        host = lab.hosts[0].address
    told = click.unstyle(capsys.readouterr().out)
    assert "1 packets transmitted, 1 packets received, 0% packet loss" in told
    assert re.search(r"wget -q -O - http://web/\n *hello from web\n", told)
    assert re.search(rf"wget -q -O - http://\S+\n *{re.escape(host)}\n", told)
    for name, address in ADDRESSES.items():
        assert re.search(rf"^ *{re.escape(address)} +bound +dcos +{name} ", told, re.MULTILINE)
    assert "All is well: records, kernel and Docker agree." in told
    assert re.search(r"^ *Mesos half +9\.0\.0\.0 +-G\.{62}$", told, re.MULTILINE)
    assert re.search(r"^ *Docker half +9\.0\.0\.128 +-G###\.{59}$", told, re.MULTILINE)


@pytest.mark.lab
def test_the_demo_ended_by_control_c_leaves_nothing() -> None:
    """A terminal tells every process that has not left the demo's group."""
    argv = [sys.executable, "-m", "tests.demo"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True) as demo:
        run = f"dni-lab-{demo.pid}-"
        assert demo.stdout is not None
        assert any("Three containers on it" in line for line in demo.stdout), "it ended before"
        processes = {pid: start for pid in family(demo.pid) if (start := procfs.start_time(pid)) is not None}
        assert len(processes) > 10, "dockerd and dni run"
        assert named_for(run) != []
        os.killpg(demo.pid, signal.SIGINT)
        told = demo.stdout.read()
        assert demo.wait(120) == INTERRUPTED
    assert "Interrupted: the lab is gone, nothing is left behind." in told
    assert "Traceback" not in told
    assert named_for(run) == []
    assert [pid for pid, start in processes.items() if procfs.start_time(pid) == start] == []
