# SPDX-License-Identifier: Apache-2.0
"""Paths that are said to lead to a network namespace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dni_driver.kernel import namespaces


@pytest.mark.timeout(30)
def test_a_pipe_in_the_place_of_a_namespace_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with namespaces.opened(str(tmp_path / "pipe")) as found:
        assert found is None


@pytest.mark.parametrize("path", ["/dev/null", "/proc/thread-self/ns/net", "/proc/thread-self/ns/uts", "/none"])
def test_what_is_no_other_network_namespace_is_none(path: str) -> None:
    with namespaces.opened(path) as found:
        assert found is None
