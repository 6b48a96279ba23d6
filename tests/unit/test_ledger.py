# SPDX-License-Identifier: Apache-2.0
"""What a reconcile tells of what it did and could not do."""

from __future__ import annotations

import errno

import pytest
from structlog.testing import capture_logs

from dni_driver.core.errors import DeadlineExceeded, KernelError, NotMended, Unavailable
from dni_driver.kernel.ledger import Ledger, in_words


def refuse(error: Exception) -> None:
    raise error


def test_failures_are_collected_and_raised_as_one() -> None:
    ledger = Ledger()
    with ledger.about("bridge d-a"):
        refuse(KernelError("not ours"))
    with ledger.about("bridge d-b"):
        ledger.did("made bridge d-b")
    with ledger.about("link dni1"):
        refuse(OSError(errno.EINVAL, "mtu greater than device maximum"))
    assert ledger.changes == ["made bridge d-b"]
    with pytest.raises(KernelError) as caught:
        ledger.settle()
    assert str(caught.value) == "bridge d-a: not ours; link dni1: mtu greater than device maximum"


def test_what_is_known_from_last_time_is_no_news_to_the_log() -> None:
    ledger = Ledger(known=[(None, "bridge d-a: not ours")])
    with capture_logs() as lines:
        with ledger.about("bridge d-a"):
            refuse(KernelError("not ours"))
        with ledger.about("bridge d-b"):
            refuse(KernelError("not ours"))
    assert [(line["log_level"], line["subject"]) for line in lines] == [
        ("debug", "bridge d-a"),
        ("warning", "bridge d-b"),
    ]
    assert [text for _, text in ledger.failures] == ["bridge d-a: not ours", "bridge d-b: not ours"]


def test_failures_are_told_by_the_bridge_they_concern() -> None:
    ledger = Ledger()
    with ledger.about("bridge d-a", "d-a"):
        refuse(KernelError("not ours"))
    with ledger.about("link dni1", "d-b"):
        refuse(OSError(errno.EINVAL, "mtu greater than device maximum"))
    with ledger.about("forwarding"):
        refuse(KernelError("cannot be set"))
    with pytest.raises(NotMended) as caught:
        ledger.settle()
    assert caught.value.on("d-a") == ["bridge d-a: not ours", "forwarding: cannot be set"]
    assert caught.value.on("d-c") == ["forwarding: cannot be set"]


def test_what_happens_every_day_is_told_but_not_to_the_log() -> None:
    ledger = Ledger()
    with capture_logs() as lines:
        ledger.tidied("deleted dead links: dni1")
        ledger.did("made bridge d-a")
    assert [line["log_level"] for line in lines] == ["debug", "info"]
    assert ledger.changes == ["deleted dead links: dni1", "made bridge d-a"]


def test_without_failures_nothing_is_raised() -> None:
    Ledger().settle()


def test_a_deadline_ends_it_all_and_an_overload_does_not() -> None:
    ledger = Ledger()
    with ledger.about("a"):
        refuse(Unavailable("nft did not end in time"))
    with pytest.raises(DeadlineExceeded), ledger.about("b"):
        refuse(DeadlineExceeded("out of time"))


def test_who_may_not_is_told_what_it_takes() -> None:
    said = in_words(PermissionError(errno.EPERM, "Operation not permitted"))
    assert said == "Operation not permitted: dni must run as root, or with CAP_NET_ADMIN"
