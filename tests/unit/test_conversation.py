# SPDX-License-Identifier: Apache-2.0
"""What becomes of the kernel's refusals and interrupted answers; no socket."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2.netlink import NLM_F_DUMP_INTR
from pyroute2.netlink.exceptions import NetlinkError

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DeadlineExceeded
from dni_driver.kernel.netlink.conversation import conversation, dump, in_errno, tolerating


class Answers:
    """Answers one dump after another, each a list of (flags, value)."""

    def __init__(self, *dumps: list[tuple[int, int]]) -> None:
        """Take the dumps; the last one is answered again and again."""
        self._dumps = list(dumps)
        self.asked = 0

    def __call__(self, command: str, **_: object) -> Iterator[dict[str, Any]]:
        """Answer the next."""
        assert command == "dump"
        self.asked += 1
        now = self._dumps[min(self.asked, len(self._dumps)) - 1]
        return iter([{"header": {"flags": flags}, "value": value} for flags, value in now])


def value(message: dict[str, Any]) -> int | None:
    """Read a message; what is negative is left out."""
    found: int = message["value"]
    return found if found >= 0 else None


def test_a_dump_leaves_out_what_is_not_wanted() -> None:
    assert dump(Answers([(0, 1), (0, -1), (0, 0)]), value) == [1, 0]


def test_what_changed_while_it_was_told_is_asked_again() -> None:
    answers = Answers([(0, 1), (NLM_F_DUMP_INTR, 3)], [(0, 1), (0, 2), (0, 3)])
    assert dump(answers, value) == [1, 2, 3]
    assert answers.asked == 2


def test_what_changes_all_the_time_is_taken_as_it_is() -> None:
    answers = Answers([(NLM_F_DUMP_INTR, 1)])
    assert dump(answers, value) == [1]
    assert answers.asked < 10


def refuse(number: int, words: str | None = None) -> None:
    raise NetlinkError(number, words)


def test_a_refusal_is_an_error_of_the_system_in_the_kernels_words() -> None:
    with pytest.raises(OSError, match="mtu greater than device maximum") as caught, in_errno():
        refuse(errno.EINVAL, "mtu greater than device maximum")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(PermissionError), in_errno():
        refuse(errno.EPERM)


def test_only_the_refusals_that_are_tolerated_are() -> None:
    with tolerating(errno.ENODEV, errno.ESRCH) as refused:
        refuse(errno.ESRCH)
    assert refused == [errno.ESRCH]
    with pytest.raises(NetlinkError), tolerating(errno.ENODEV):
        refuse(errno.EBUSY)


def test_nothing_begins_when_the_time_is_up() -> None:
    with deadline(0), pytest.raises(DeadlineExceeded), conversation():
        raise AssertionError("it began")
