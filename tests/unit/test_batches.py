# SPDX-License-Identifier: Apache-2.0
"""What `ip` and `bridge` are fed, and how their complaints are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dni_driver.core.data_plane.entries import Entries, Key
from dni_driver.core.errors import KernelError
from dni_driver.kernel.command import Outcome
from dni_driver.kernel.peers import batches

ENTRIES: dict[Key, str] = {
    ("rule", "9.0.0.0/8"): "lookup 42",
    ("agent route", "10.0.0.2"): "via 44.128.0.2 dev vtep1024",
    ("route", "9.0.2.0/24"): "via 44.128.0.2 dev vtep1024",
    ("route", "9.0.3.0/24"): "unreachable",
    ("forwarding", "70:b3:d5:80:00:02"): "10.0.0.2",
    ("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02",
    ("guest agent", "10.0.0.2"): "",
}


class Programs:
    """Stands in for `ip` and `bridge`: keeps what they are fed."""

    def __init__(self) -> None:
        """Complain of nothing."""
        self.fed: list[tuple[str, list[str]]] = []
        self.complaint = ""
        self.status: int | None = None

    def attempt(self, argv: Sequence[str], text: str = "") -> Outcome:
        """Run a program."""
        assert argv[-3:] == ["-force", "-batch", "-"]
        self.fed.append((" ".join(argv[:-3]), text.splitlines()))
        return Outcome(bool(self.complaint) if self.status is None else self.status, "", self.complaint)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs()
    monkeypatch.setattr(batches, "attempt", programs.attempt)
    return programs


def test_ways_are_put_after_what_they_lead_over(programs: Programs) -> None:
    batches.put(ENTRIES)
    assert programs.fed == [
        ("ip", ["neigh replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 dev vtep1024 nud permanent"]),
        ("bridge", ["fdb replace 70:b3:d5:80:00:02 dev vtep1024 dst 10.0.0.2 self permanent"]),
        (
            "ip",
            [
                "route replace 9.0.2.0/24 via 44.128.0.2 dev vtep1024 proto 64",
                "route replace unreachable 9.0.3.0/24 proto 64",
                "route replace 10.0.0.2/32 via 44.128.0.2 dev vtep1024 table 42 proto 64",
                "rule add from 9.0.0.0/8 lookup 42 protocol 64",
            ],
        ),
    ]


def test_ways_are_deleted_before_what_they_lead_over_and_only_ours(programs: Programs) -> None:
    batches.delete(ENTRIES)
    assert programs.fed == [
        (
            "ip",
            [
                "rule del from 9.0.0.0/8 lookup 42 protocol 64",
                "route del 10.0.0.2/32 via 44.128.0.2 dev vtep1024 table 42 proto 64",
                "route del 9.0.2.0/24 via 44.128.0.2 dev vtep1024 proto 64",
                "route del unreachable 9.0.3.0/24 proto 64",
            ],
        ),
        ("bridge", ["fdb del 70:b3:d5:80:00:02 dev vtep1024 dst 10.0.0.2 self"]),
        ("ip", ["neigh del 44.128.0.2 dev vtep1024"]),
    ]


def test_where_there_is_nothing_to_do_nothing_is_run(programs: Programs) -> None:
    batches.put({})
    batches.delete({("guest agent", "10.0.0.2"): ""})
    assert programs.fed == []


def test_a_refusal_names_the_command_and_the_reason(programs: Programs) -> None:
    programs.complaint = "Error: Nexthop has invalid gateway.\nCommand failed -:1\n"
    with pytest.raises(KernelError) as refused:
        batches.put({("route", "9.0.2.0/24"): "via 10.0.0.255 dev eth0"})
    assert str(refused.value) == (
        "`ip route replace 9.0.2.0/24 via 10.0.0.255 dev eth0 proto 64`: Error: Nexthop has invalid gateway."
    )


def test_of_many_refusals_the_first_are_told_and_the_rest_counted(programs: Programs) -> None:
    programs.complaint = "".join(f'Cannot find device "vtep1024"\nCommand failed -:{line}\n' for line in range(1, 6))
    with pytest.raises(KernelError, match=r"9\.0\.1\.0.*9\.0\.2\.0.*; and 2 more$"):
        batches.put({("route", f"9.0.{number}.0/24"): "via 44.128.0.2 dev vtep1024" for number in range(1, 6)})


@pytest.mark.parametrize("said", ["No such process", "No such file or directory"])
def test_what_is_gone_already_is_deleted(programs: Programs, said: str) -> None:
    programs.complaint = f"RTNETLINK answers: {said}\nCommand failed -:1\n"
    batches.delete({("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02"})


def test_a_rule_that_is_there_already_is_put(programs: Programs) -> None:
    programs.complaint = "RTNETLINK answers: File exists\nCommand failed -:1\n"
    batches.put({("rule", "9.0.0.0/8"): "lookup 42"})


@pytest.mark.parametrize("act", [batches.put, batches.delete])
@pytest.mark.parametrize(
    ("status", "complaint", "told"),
    [(-9, "", "it ended with status -9"), (255, "Cannot open netlink socket: x\n", "Cannot open netlink socket: x")],
)
def test_a_program_that_fails_as_a_whole_has_done_nothing_for_certain(
    programs: Programs, act: Callable[[Entries], None], status: int, complaint: str, told: str
) -> None:
    programs.status, programs.complaint = status, complaint
    with pytest.raises(KernelError, match=f"`ip -batch` failed: {told}"):
        act({("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02"})


def test_complaints_are_told_apart_by_their_lines() -> None:
    text = "RTNETLINK answers: No such process\nCommand failed -:2\nError: odd.\nCommand failed -:7\n"
    assert batches.complaints(text) == [
        (1, "RTNETLINK answers: No such process"),
        (6, "Error: odd."),
    ]


def test_of_ipv6_rules_ip_is_told_and_the_agents_have_whole_addresses(programs: Programs) -> None:
    entries: dict[Key, str] = {
        ("rule", "fd01:b::/64"): "lookup 42",
        ("agent route", "fd00::2"): "via fd01:a::2 dev vtep1024",
        ("route", "9.0.2.0/24"): "via inet6 fd00::2 dev eth0 src 44.128.0.1",
        ("rule", "9.0.0.0/8"): "lookup 42",
    }
    batches.put(entries)
    assert programs.fed == [
        (
            "ip",
            [
                "route replace 9.0.2.0/24 via inet6 fd00::2 dev eth0 src 44.128.0.1 proto 64",
                "route replace fd00::2/128 via fd01:a::2 dev vtep1024 table 42 proto 64",
                "rule add from 9.0.0.0/8 lookup 42 protocol 64",
            ],
        ),
        ("ip -6", ["rule add from fd01:b::/64 lookup 42 protocol 64"]),
    ]
