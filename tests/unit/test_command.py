# SPDX-License-Identifier: Apache-2.0
"""Commands end in time, and their failures are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DeadlineExceeded, KernelError, Unavailable
from dni_driver.kernel.command import attempt, run


def test_a_command_reads_and_writes() -> None:
    assert run(["cat"], "table inet dni\n") == "table inet dni\n"


def test_a_failure_is_one_line_that_names_the_command() -> None:
    with pytest.raises(KernelError) as caught:
        run(["sh", "-c", "echo first >&2; echo; echo '  second ' >&2; exit 3"])
    assert str(caught.value).endswith("failed: first; second")
    with pytest.raises(KernelError, match="`false` failed: exit status 1"):
        run(["false"])


def test_an_attempt_may_fail() -> None:
    assert attempt(["false"]).status == 1


@pytest.mark.parametrize(
    ("command", "package"), [("nft", "nftables"), ("iptables", "iptables"), ("ip6tables-nft-restore", "iptables")]
)
def test_a_missing_command_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match=f"{command} is not installed on this host: install the package {package}"):
        run([command])


def test_a_command_gets_no_more_time_than_its_caller_has() -> None:
    with deadline(0.1), pytest.raises(Unavailable, match="`sleep 5` did not end in time"):
        run(["sleep", "5"])
    with deadline(0), pytest.raises(DeadlineExceeded):
        run(["true"])


def test_messages_are_in_english_whatever_the_host_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"]) == "C\n"
