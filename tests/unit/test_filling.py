# SPDX-License-Identifier: Apache-2.0
"""When somebody is told that a half fills up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.addresses.filling import LEVELS, SLACK, Alarms, Load
from dni_driver.core.addresses.fullness import Half


def load(used: int, reserved: int = 0, overlay: str = "dcos", half: Half = "docker", family: int = 4) -> Load:
    return Load(overlay=overlay, half=half, family=family, size=100, used=used, reserved=reserved)


def levels(alarms: Alarms, *seen: Load) -> list[int]:
    return [level for _, level in alarms.look(seen)]


def test_each_level_is_told_once_when_it_is_reached() -> None:
    alarms = Alarms()
    told = [levels(alarms, load(used)) for used in (0, 79, 80, 81, 94, 95, 99, 100, 96)]
    assert told == [[], [], [80], [], [], [95], [], [], []]


def test_a_jump_over_both_levels_is_told_as_the_higher() -> None:
    assert levels(Alarms(), load(100)) == [95]


def test_around_a_level_nothing_is_told_again_until_it_was_well_below() -> None:
    alarms = Alarms()
    told = [levels(alarms, load(used)) for used in (80, 79, 80, 76, 80, 74, 80)]
    assert told == [[80], [], [], [], [], [], [80]]
    alarms = Alarms()
    told = [levels(alarms, load(used)) for used in (95, 91, 95, 89, 95)]
    assert told == [[95], [], [], [], [95]]


def test_the_problem_lasts_as_long_as_the_level_and_its_text_does_not_change() -> None:
    alarms = Alarms()
    levels(alarms, load(94))
    assert alarms.problems() == []
    levels(alarms, load(95))
    (text,) = alarms.problems()
    assert text == (
        "the Docker half of overlay 'dcos' on this host is 95 % full or more (IPv4): `dni overlay usage dcos` shows "
        "by how much"
    )
    levels(alarms, load(91))
    assert alarms.problems() == [text]
    levels(alarms, load(89))
    assert alarms.problems() == []


def test_what_is_kept_back_counts_as_taken() -> None:
    assert levels(Alarms(), load(40, reserved=40)) == [80]


def test_halves_families_and_overlays_are_told_of_apart() -> None:
    alarms = Alarms()
    seen = [load(80), load(95, half="mesos"), load(80, family=6), load(10, overlay="dev")]
    assert levels(alarms, *seen) == [80, 95, 80]
    assert len(alarms.problems()) == 1


def test_a_half_that_is_gone_is_forgotten() -> None:
    alarms = Alarms()
    levels(alarms, load(99))
    assert levels(alarms) == []
    assert alarms.problems() == []
    assert levels(alarms, load(99)) == [95]


@pytest.mark.parametrize(("size", "used", "percent"), [(0, 0, 0), (1, 1, 100), (125, 99, 79), (125, 100, 80)])
def test_a_percentage_is_rounded_down(size: int, used: int, percent: int) -> None:
    one = Load(overlay="dcos", half="docker", family=4, size=size, used=used, reserved=0)
    assert one.percent == percent


@given(st.lists(st.integers(0, 100)))
def test_between_two_tellings_of_a_level_the_load_was_well_below_it(course: list[int]) -> None:
    alarms = Alarms()
    since_told: dict[int, list[int]] = {}
    for used in course:
        for level in LEVELS:
            since_told.get(level, []).append(used)
        for level in levels(alarms, load(used)):
            assert used >= level
            assert level not in since_told or min(since_told[level]) < level - SLACK
            since_told[level] = []
