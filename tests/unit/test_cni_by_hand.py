# SPDX-License-Identifier: Apache-2.0
"""`dni-cni` where no runtime calls it: typed by a person, or with its standard input closed."""

from __future__ import annotations

import io
import json
import os
import pty
import sys

import pytest

from dni_driver.mesos import cni_plugin

WHAT_IT_IS = "CNI_COMMAND is '', not one of ADD, DEL, CHECK, VERSION: dni-cni is for CNI runtimes"


def _answered(capsys: pytest.CaptureFixture[str]) -> tuple[object, dict[str, object]]:
    with pytest.raises(SystemExit) as ended:
        cni_plugin.main()
    return ended.value.code, json.loads(capsys.readouterr().out)


def test_typed_at_a_terminal_it_says_what_it_is_and_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard, terminal = pty.openpty()
    monkeypatch.delenv("CNI_COMMAND", raising=False)
    with os.fdopen(terminal) as stdin, os.fdopen(keyboard, "wb", buffering=0) as keys:
        keys.write(b"\x04")  # ends the input for whoever reads it all the same
        monkeypatch.setattr(sys, "stdin", stdin)
        status, answer = _answered(capsys)
    assert (status, answer["code"]) == (1, 4)
    assert WHAT_IT_IS in str(answer["msg"])


def test_with_nothing_to_read_it_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CNI_COMMAND", raising=False)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert WHAT_IT_IS in str(_answered(capsys)[1]["msg"])


@pytest.mark.parametrize(("command", "status"), [("VERSION", 0), ("ADD", 1), ("", 1)])
def test_with_standard_input_closed_it_answers_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, status: int
) -> None:
    monkeypatch.setenv("CNI_COMMAND", command)
    monkeypatch.setattr(sys, "stdin", None)
    assert _answered(capsys)[0] == status
