# SPDX-License-Identifier: Apache-2.0
"""Where a registry is, as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Refused
from dni_driver.core.registry_address import read_address


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("zookeeper://h1,h2:2182,h3/dni", "zookeeper://h1:2181,h2:2182,h3:2181/dni"),
        ("zookeeper://h1", "zookeeper://h1:2181/dni"),
        (f"zookeeper://{'a' * 63}.b_c.", f"zookeeper://{'a' * 63}.b_c.:2181/dni"),
        ("zookeeper://h1/", "zookeeper://h1:2181/dni"),
        ("zookeeper://10.0.0.1:99/a/b.c/", "zookeeper://10.0.0.1:99/a/b.c"),
        ("zookeeper://[fd00::1]:2182,[fd00::2]/dni", "zookeeper://[fd00::1]:2182,[fd00::2]:2181/dni"),
    ],
)
def test_servers_and_place_are_completed(url: str, meant: str) -> None:
    assert str(read_address(url)) == meant


def test_local_is_no_ensemble() -> None:
    assert read_address("local") is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("etcd://h1", 'must be "local", .* or an address such as "zookeeper://h1,h2:2181,h3/dni"'),
        ("", 'must be "local"'),
        ("zookeeper://", "'' is no server: write them like h1,h2:2181,h3"),
        ("zookeeper://h1,,h2", "'' is no server"),
        ("zookeeper://h1:port", "'h1:port' is no server"),
        ("zookeeper://h1,a..b", "'a..b' is no server"),
        ("zookeeper://h1,.b", "'.b' is no server"),
        (f"zookeeper://{'a' * 64}.example", "is no server"),
        ("zookeeper://[10.0.0.1]", r"'\[10\.0\.0\.1\]' is no server"),
        ("zookeeper://[fd00::1::2]", "is no server"),
        ("zookeeper://h1:0", "'h1:0' has no port from 1 to 65535"),
        ("zookeeper://h1:70000", "'h1:70000' has no port from 1 to 65535"),
        ("zookeeper://dni:secret@h1", r"names a user: put that into registry\.user, .* registry\.password"),
        ("zookeeper://h1/a//b", "'/a//b' is no place in ZooKeeper: write it like /dni"),
        ("zookeeper://h1/../x", "is no place in ZooKeeper"),
        ("zookeeper://h1/zookeeper", "is no place in ZooKeeper"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(url: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read_address(url)


@given(st.text())
def test_whatever_stands_there_is_taken_or_refused(text: str) -> None:
    try:
        found = read_address(f"zookeeper://{text}")
    except Refused:
        return
    assert found is not None
    assert read_address(str(found)) == found
