# SPDX-License-Identifier: Apache-2.0
"""How an agent's counts are written down, and when it tells them."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.addresses import telling
from dni_driver.core.addresses.counts import Counts, HalfCounts, Heard, SubnetCounts, is_told, read, write
from dni_driver.core.addresses.fullness import Local
from dni_driver.core.addresses.telling import EVERY, LOOKS, Pacing
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.problems import LENGTH, LINES, InShort, in_short
from tests.unit.scene import NOW, records

OTHER = IPv4Address("192.0.2.20")
ILL = InShort(lines=("dockerd does not answer",), more=2)


def counts(used: int = 2, as_of: float = NOW, mesos: HalfCounts | str = "it cannot be read") -> Counts:
    docker = HalfCounts(125, used, 1, 124 - used)
    subnet = SubnetCounts(overlay="dcos", subnet="9.0.0.0/24", since=NOW - 100, mesos=mesos, docker=docker)
    return Counts(as_of=as_of, subnets=(subnet,))


def test_what_is_written_is_read_again() -> None:
    for one in (
        counts(),
        Counts(as_of=NOW),
        Counts(as_of=NOW, problems=ILL),
        counts(mesos=HalfCounts(2**71 - 2, 1, 0, 2**71 - 3)),
    ):
        assert read(write(one)) == one


def test_it_is_written_as_documented_with_its_version() -> None:
    assert write(counts(as_of=1.5)) == (
        b'{"version":1,"counts":{"as_of":1.5,"subnets":[{"overlay":"dcos","subnet":"9.0.0.0/24","since":%r,'
        b'"mesos":"it cannot be read","docker":[125,2,1,122]}]}}' % (NOW - 100)
    )


def test_a_small_record_holds_many_overlays() -> None:
    of = counts(mesos=HalfCounts(125, 100, 0, 25)).subnets[0]
    assert len(write(Counts(as_of=NOW, subnets=(of,)))) < 200
    assert len(write(Counts(as_of=NOW, subnets=(of,) * 40))) < 6000


def test_a_newer_version_is_not_guessed_at() -> None:
    assert read(b'{"version": 2, "counts": [1, 2, 3]}') == "was written by a newer dni (version 2)"
    told = Heard(told={OTHER: read(b'{"version": 7}')}).of(OTHER)
    assert told == (
        "what agent 192.0.2.20 told was written by a newer dni (version 7): ask there (dni overlay usage)"
    )


def test_what_a_later_dni_of_this_version_adds_is_passed_over() -> None:
    assert read(write(counts()).replace(b'"since"', b'"more":[1],"since"')) == counts()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"version": "1"}',
        b'{"version": 1}',
        b'{"version": 1, "counts": {"as_of": "now"}}',
        write(counts()).replace(b"[125,2,1,122]", b"[125,2,1]"),
        write(counts()).replace(b"[125,2,1,122]", b"[125,-2,5,122]"),
        write(counts()).replace(b"[125,2,1,122]", b"[125,2,1,125]"),
        write(Counts(as_of=NOW, problems=ILL)).replace(b"2}", b"-2}"),
        write(Counts(as_of=NOW, problems=ILL)).replace(b'["dockerd does not answer"]', b"7"),
    ],
)
def test_what_is_damaged_is_said_to_be_and_is_no_error(rubbish: bytes) -> None:
    said = read(rubbish)
    assert isinstance(said, str)
    assert said.startswith("is not understood (")
    assert not is_told(counts(), rubbish)


def test_the_same_counts_are_told_already_whenever_they_were_counted() -> None:
    assert is_told(counts(as_of=1.0), write(counts(as_of=2.0)))
    assert not is_told(counts(3), write(counts(2)))


def test_problems_are_told_beside_and_who_is_well_says_so_as_an_older_dni_does_not() -> None:
    ill, well = (msgspec.structs.replace(counts(), problems=of) for of in (ILL, InShort()))
    assert write(ill).endswith(b'],"problems":{"lines":["dockerd does not answer"],"more":2}}}')
    assert write(well).endswith(b'],"problems":{}}}')
    assert read(write(well)) == well
    assert not any(is_told(one, write(other)) for one, other in itertools.permutations([counts(), ill, well], 2))
    assert is_told(msgspec.structs.replace(ill, as_of=1.0), write(ill))


def test_however_many_problems_there_are_the_record_stays_small() -> None:
    said = in_short(["🚒" * 1000] * 100)
    assert (len(said.lines), said.more, {len(line) for line in said.lines}) == (LINES, 95, {LENGTH})
    assert len(write(Counts(as_of=NOW, problems=said))) < 6200
    assert in_short(said.lines, said.more) == said, "who is told cuts the same, whoever told"
    assert in_short(["short"]) == InShort(lines=("short",))


def test_a_problem_is_one_line_that_does_nothing_to_a_terminal() -> None:
    said = in_short(["no file\n /tmp/\udcff: \x1b[2Jgone\t!"])
    assert said.lines == ("no file /tmp/ : [2Jgone !",)
    assert read(write(Counts(as_of=NOW, problems=said))) == Counts(as_of=NOW, problems=said)


def test_an_agent_tells_of_every_half_that_it_holds() -> None:
    held = [AgentSubnet(overlay="dcos", subnet=ip_network(one)) for one in ("9.0.0.0/24", "fd01::/125")]
    occupied = {"dcos": frozenset({ip_address("9.0.0.5")})}
    local = Local(records=records(agent_subnets=held), occupied=occupied, since={"9.0.0.0/24": 5.0})
    found = telling.counts(local, ILL, NOW)
    four, six = found.subnets
    assert (found.as_of, four.overlay, four.subnet, four.since) == (NOW, "dcos", "9.0.0.0/24", 5.0)
    assert found.problems == ILL
    assert (four.mesos, four.docker) == (HalfCounts(125, 1, 0, 124), HalfCounts(125, 2, 0, 123))
    assert (six.subnet, six.since, six.docker) == ("fd01::/125", None, HalfCounts(2, 0, 0, 2))
    assert (
        telling.counts(Local(records=local.records, occupied={"dcos": "why"}, since={}), ILL, NOW).subnets[0].mesos
        == "why"
    )


Step = tuple[float, bool]
"""After so many seconds, one look; something was written before it or not."""
steps = st.lists(st.tuples(st.sampled_from([0.25, 1.0, 4.0, 30.0]), st.booleans()), max_size=60)


@given(steps, st.sampled_from([0, 100, 2_500, 10_000]))
def test_it_is_told_seldom_and_the_last_change_always_gets_out(course: list[Step], agents: int) -> None:
    pacing, now, version, told = Pacing(), 0.0, 0, [(0.0, -1)]
    gap = max(EVERY, agents / telling.A_SECOND)

    def look() -> None:
        if pacing.is_due(version, now):
            pacing.told(version, counts(version % 100), now, agents)
            if told[-1][1] != version:
                told.append((now, version))

    look()
    for seconds, is_changed in course:
        now += seconds
        version += is_changed
        look()
    at = [when for when, _ in told[1:]]
    assert all(later - earlier >= gap for earlier, later in itertools.pairwise(at))
    now += gap
    look()
    assert told[-1][1] == version


def test_where_nothing_changes_it_is_counted_now_and_then_and_where_the_store_does_at_once() -> None:
    pacing = Pacing()
    assert pacing.is_due("a", 0.0)
    pacing.told("a", counts(1), 0.0, 3)
    assert not pacing.is_due("b", EVERY - 0.1)
    assert pacing.is_due("b", EVERY)
    pacing.told("b", counts(1), EVERY, 3)
    assert pacing.is_due("c", EVERY + 0.1), "what was told already leaves the next change free to go"
    assert not pacing.is_due("b", EVERY + LOOKS - 0.1)
    assert pacing.is_due("b", EVERY + LOOKS)


def test_what_could_not_be_told_is_due_again() -> None:
    pacing = Pacing()
    pacing.told("a", counts(1), 0.0, 1)
    assert pacing.is_due("b", EVERY)
    assert pacing.is_due("b", EVERY + 1), "nobody took note that it was told"
