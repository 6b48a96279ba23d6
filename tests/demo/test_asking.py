# SPDX-License-Identifier: Apache-2.0
"""What the table of answers shows."""

from __future__ import annotations

import click

from tests.demo.asking import count, draw

NAMES = ("probe-a", "probe-b")


def test_who_answers_by_its_own_name_who_does_not_and_who_is_not_heard_are_told_apart() -> None:
    answers = {("probe-a", "probe-a"): "probe-a", ("probe-a", "probe-b"): None, ("probe-b", "probe-a"): "probe-x"}
    lines = [click.unstyle(line).split() for line in draw(NAMES, answers)]

    assert lines[0] == ["probe-a", "probe-b"]
    assert lines[1:3] == [["probe-a", "#", "-"], ["probe-b", "?", "-"]]
    assert count(NAMES, answers) == 1
