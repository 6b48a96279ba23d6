# SPDX-License-Identifier: Apache-2.0
"""A full disk, one that becomes read-only, and a damaged store: dni refuses clearly, and goes on afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e import host_state
from tests.e2e.containers import address, create, reaches, refused, start
from tests.e2e.recovery import GATEWAY, let_collect, settle, works
from tests.e2e.test_doctor import kinds, mend
from tests.lab import Host

# -- the disk


@contextmanager
def own_disk(host: Host) -> Iterator[Path]:
    """Have dni's store on a disk of its own, small and empty, with dni not running; answer its image."""
    image = host.directory / "disk"
    host.stop_dni()
    host.run("truncate", "-s", "8M", str(image))
    host.run("mkfs.ext4", "-q", "-m", "0", str(image))
    host.run("mount", "-o", "loop", str(image), "/var/lib/dni")
    try:
        yield image
    finally:
        if host_state.dni_runs(host):
            host.stop_dni()
        host.run("umount", "-l", "/var/lib/dni")
        host.start_dni(**host_state.SETTINGS)


def fill_disk(host: Host) -> None:
    """Leave no room on the disk, nor in the store's log, which is written from its beginning again and again.

    The log is emptied first; where dni was faster than what fills the room that this makes, once more.
    """
    emptied = "import sqlite3; sqlite3.connect('/var/lib/dni/dni.db').execute('PRAGMA wal_checkpoint(TRUNCATE)')"
    for number in range(20):
        host.try_run("dd", "if=/dev/zero", f"of=/var/lib/dni/ballast{number}", "bs=4k")
        if host.run("stat", "-c", "%s", "/var/lib/dni/dni.db-wal") == "0":
            return
        host.run(sys.executable, "-c", emptied)
    raise AssertionError("the store's log is never empty")


def test_a_full_disk_refuses_clearly_and_all_goes_on_when_there_is_room(host: Host) -> None:
    with own_disk(host):
        host.start_dni(**host_state.SETTINGS)
        create(host, "dcos")
        start(host, "one")
        start(host, "two")
        fill_disk(host)
        text = refused(host, "run", "--name", "three", "--net", "dcos", "busybox", "true")
        assert "cannot be written: its disk is full; make room there (`df -h /var/lib/dni`)" in text
        assert reaches(host, "one", address(host, "two"))
        host.docker("rm", "-f", "two", "three")
        assert kinds(host) == ["disk-full"]
        host.run("sh", "-c", "rm /var/lib/dni/ballast*")
        let_collect(host, "collector_grace")
        works(host, "one")
        clear(host)
        assert integrity(host) == "ok"


def test_a_disk_that_becomes_read_only_refuses_clearly_and_is_as_it_was_afterwards(host: Host) -> None:
    """First the kernel stops writing to it under a running dni; then it is mounted read-only when dni starts."""
    with own_disk(host) as image:
        host.start_dni(**host_state.SETTINGS)
        create(host, "dcos")
        start(host, "one")
        host.run("mount", "-o", "remount,abort", "/var/lib/dni")
        text = refused(host, "run", "--rm", "--net", "dcos", "busybox", "true")
        assert "cannot be written: its disk is read-only" in text
        assert reaches(host, "one", GATEWAY)
        assert "disk-read-only" in kinds(host)
        host.stop_dni()
        host.run("umount", "/var/lib/dni")
        assert host.try_run("e2fsck", "-fy", str(image)).returncode < 4
        host.run("mount", "-o", "loop", str(image), "/var/lib/dni")
        host.run("mount", "-o", "remount,ro", "/var/lib/dni")
        host.launch_dni(**host_state.SETTINGS)
        text = refused(host, "run", "--rm", "--net", "dcos", "busybox", "true")
        assert "its disk is read-only" in text
        mend(host, "disk-read-only")
        host.wait_for_dni()
        works(host, "one")
        clear(host)
        assert integrity(host) == "ok"


def clear(host: Host) -> None:
    host_state.clear(host)
    host_state.collected(host, lambda: host_state.held(host) == [], "addresses are still held")


def integrity(host: Host) -> str:
    script = (
        "import sqlite3; print(*sqlite3.connect('/var/lib/dni/dni.db').execute('PRAGMA integrity_check').fetchone())"
    )
    return host.run("python3", "-c", script)


# -- the store


DAMAGE = {
    "random bytes": "head -c 65536 /dev/urandom > dni.db",
    "truncated": "truncate -s 9000 dni.db",
    "empty": "truncate -s 0 dni.db",
}


def test_a_damaged_store_is_refused_with_the_way_out_and_a_copy_put_back_is_taken_up(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    host.stop_dni()
    host.run("sh", "-c", "cp -a /var/lib/dni /var/lib/dni.copy")
    for what, damage in DAMAGE.items():
        host.run("sh", "-c", f"cd /var/lib/dni && {damage}")
        host.launch_dni(**host_state.SETTINGS)
        text = refused(host, "run", "--rm", "--net", "dcos", "busybox", "true")
        assert "the store /var/lib/dni/dni.db is damaged" in text, what
        assert "put back a copy of it, or make its networks anew" in text, what
        assert reaches(host, "one", GATEWAY), what
        host.run("sh", "-c", "rm -rf /var/lib/dni/dni.db* && cp -a /var/lib/dni.copy/dni.db /var/lib/dni/")
        host.wait_for_dni()
        settle(host)
        host.stop_dni()
    host.run("rm", "-rf", "/var/lib/dni.copy")
    host.start_dni(**host_state.SETTINGS)
    works(host, "one")
