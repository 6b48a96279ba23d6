# SPDX-License-Identifier: Apache-2.0
"""Reading which addresses host-local has handed out, whatever else lies in its directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Unavailable
from dni_driver.mesos.host_local import occupied
from tests.scratch import fast_directory


def fill(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("0123456789ab\r\neth0")


def read(directories: Sequence[Path], overlay: str = "dcos") -> set[str]:
    return {str(address) for address in occupied(overlay, directories)}


def test_each_file_named_after_an_address_is_one_and_both_places_count(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fill(old / "dcos", "9.0.0.2", "9.0.0.3")
    fill(new / "dcos", "9.0.0.3", "9.0.0.4", "fd01:b::2")
    fill(new / "dev", "10.64.0.2")
    assert read([old, new]) == {"9.0.0.2", "9.0.0.3", "9.0.0.4", "fd01:b::2"}


def test_what_else_lies_there_is_no_address(tmp_path: Path) -> None:
    directory = tmp_path / "dcos"
    fill(directory, "lock", "last_reserved_ip.0", "9.0.0", "9.0.0.2.bak", "9.0.0.256", ".9.0.0.2", "9.0.0.2 ", "7")
    (directory / "9.0.0.9").mkdir()
    (directory / "9.0.0.10").symlink_to(directory / "lock")
    os.mkfifo(directory / "9.0.0.11")
    (directory / "9.0.0.12").touch()
    assert read([tmp_path]) == {"9.0.0.12"}


def test_where_no_mesos_container_ever_ran_nothing_is_taken(tmp_path: Path) -> None:
    assert read([tmp_path, tmp_path / "absent"]) == set()


def test_a_directory_that_cannot_be_read_is_named_and_not_counted_as_empty(tmp_path: Path) -> None:
    (tmp_path / "dcos").write_text("no directory")
    with pytest.raises(Unavailable, match=f"the Mesos half cannot be counted: {tmp_path}/dcos cannot be read"):
        occupied("dcos", [tmp_path])


BYTES = st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="/")
NAMES = (
    st.text(BYTES, min_size=1, max_size=40)
    .map(lambda name: name.encode("latin-1"))
    .filter(lambda name: name not in (b".", b".."))
)


@given(st.sets(NAMES, max_size=8))
def test_no_name_of_a_file_hides_the_addresses_beside_it(names: set[bytes]) -> None:
    with fast_directory() as place:
        fill(Path(place) / "dcos", "9.0.0.2")
        for name in names:
            (Path(place) / "dcos" / os.fsdecode(name)).write_bytes(name)
        found = occupied("dcos", [Path(place)])
    assert ip_address("9.0.0.2") in found
