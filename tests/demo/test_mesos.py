# SPDX-License-Identifier: Apache-2.0
"""`make demo-mesos` shows what it says."""

from __future__ import annotations

import click
import pytest

from tests.demo.mesos import show
from tests.lab import Lab


@pytest.mark.lab
def test_four_tasks_on_one_port_start_beside_each_other_and_all_reach_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Where two of four fail without an overlay."""
    with Lab(hosts=2) as lab:
        assert show(lab)
    told = click.unstyle(capsys.readouterr().out)
    assert "16 of 16 were answered by whom they asked." in told
    assert told.count("Exited (1)") == 2
    for task in ("probe-a  h1  Docker", "probe-b  h1  CNI", "probe-c  h2  Docker", "probe-d  h2  CNI"):
        assert task in told
