# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with what dni keeps, and with what it needs for that. Each judge: facts in, findings out."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dni_driver.core.doctor.ailments import Ailment, error, warning
from dni_driver.core.doctor.facts import DiskFacts, Facts
from dni_driver.core.records import Records

SETTINGS = error("settings", "dni cannot start")
DAMAGED = error("store", "dni cannot start, and refuses every call of dockerd")
LOST = error("store-lost", "containers on that network can neither start nor be cleaned up")
DISPUTED = error("disputed", "no container gets a new address")
READABLE = warning("store-permissions", "any user of this host can read, or even change, who has which address")
LARGE_LOG = warning("store-log", "the disk fills up, and each look at the store takes longer")
FULL_DISK = error("disk-full", "no container on dni can start: addresses are recorded first")
READ_ONLY_DISK = error("disk-read-only", "no container on dni can start: addresses are recorded first")
CLOCK = error("clock", "ages of records are wrong: `dni check` and `dni repair` miss what has leaked")
CLOCK_BACK = warning("clock-set-back", "`dni check` and `dni repair` overlook what bears a date to come")
NOT_RUNNING = error("not-running", "no container on dni can start or stop cleanly, and nothing is mended")
COMPLAINTS = warning(
    "agent-complains", "what it says: overlays, hosts and containers may be left out of what dni does"
)

KINDS = (
    SETTINGS,
    DAMAGED,
    LOST,
    DISPUTED,
    READABLE,
    LARGE_LOG,
    FULL_DISK,
    READ_ONLY_DISK,
    CLOCK,
    CLOCK_BACK,
    NOT_RUNNING,
    COMPLAINTS,
)

LEAST_FREE = 8 << 20
"""Bytes: a store of some thousand addresses, and its log, twice."""
LARGEST_LOG = 64 << 20
"""Bytes: SQLite folds it back at 32 MiB, unless a reader hangs."""
EARLIEST = 1_700_000_000.0
"""Seconds since 1970: November 2023. A clock before that has not been set."""
TOLERANCE = 60.0

_ANYBODY = 0o077


def settings(facts: Facts) -> Iterator[Ailment]:
    """Find settings that cannot be used."""
    if facts.settings is not None:
        place, _, problem = facts.settings.partition(": ")
        yield SETTINGS.found("settings", f"{place}: {problem}", *_way_out(place))


def _way_out(place: str) -> tuple[str, str]:
    """Answer how to be without a settings file or a variable: dni needs neither."""
    name = place.split(maxsplit=1)[0]
    if name.startswith("/"):
        return f"mv {name} {name}.wrong", "or put right what is named: dni runs without a file as well"
    return f"unset {name}", "or put its value right, where it is set"


def store(facts: Facts) -> Iterator[Ailment]:
    """Find a store that cannot be used, or that everybody may read, or whose log grows."""
    found = facts.store
    if found is None or not found.exists:
        return
    if found.trouble is not None:
        yield DAMAGED.found(
            "the store",
            found.trouble,
            f"for file in {found.path}*; do mv $file ${{file%/*}}/damaged-${{file##*/}}; done",
            "with dni stopped; then put back a copy, where there is one: without it its networks must be made anew",
        )
    if found.mode & _ANYBODY:
        yield READABLE.found(
            found.path, f"is not for root alone (mode {found.mode & 0o777:04o})", f"chmod 0600 {found.path}*"
        )
    if found.log_size > LARGEST_LOG:
        size = found.log_size >> 20
        yield LARGE_LOG.found(
            f"{found.path}-wal",
            f"has {size} MiB",
            "systemctl restart dni-plugin dni-agent",
            "without systemd: stop dni up and start it again",
        )


def lost_store(facts: Facts) -> Iterator[Ailment]:
    """Find networks of Docker's on dni that no record tells of."""
    if facts.store is None or facts.docker is None or facts.store.trouble is not None:
        return
    if facts.store.exists and facts.records is None:
        return
    known = {network.id for network in facts.records.networks} if facts.records else set()
    for name in sorted(name for id_, name in facts.docker.networks.items() if id_ not in known):
        problem = "has no record of it" if facts.store.exists else "is gone"
        yield LOST.found(
            f"network {name}",
            f"is in Docker, and the store {facts.store.path} {problem}",
            f"docker network rm {name}",
            "then create it again; or, where there is a copy of the store, stop dni and put it back",
        )


def disputes(facts: Facts) -> Iterator[Ailment]:
    """Find that another host holds what this one has: neither hands it out until people have decided."""
    for overlay, why in facts.store.disputes.items() if facts.store else ():
        problem = f"is in dispute: {why}"
        about = f"overlay {overlay}" if overlay else "this host"
        networks = facts.records.networks if facts.records else ()
        name = next((one.label for one in networks if one.overlay == overlay), None)
        if name is None:
            yield DISPUTED.for_people(about, problem, "as it says, on the host that is not to keep it")
            continue
        yield DISPUTED.found(
            about,
            problem,
            f"docker ps -q --filter network={name} | xargs -r docker stop && docker network rm {name}",
            "or the same on the other host, where this one is to keep it: dni agent ls",
        )


def disk(facts: Facts) -> Iterator[Ailment]:
    """Find a disk that nothing can be written to."""
    found = facts.disk
    if found is None:
        return
    if found.is_read_only:
        yield READ_ONLY_DISK.found(found.path, "is on a read-only file system", f"mount -o remount,rw {found.mount}")
    elif _is_full(found):
        left = "no inodes" if found.is_out_of_inodes else f"{found.free >> 10} KiB"
        listing = f"du -x{'--inodes' if found.is_out_of_inodes else 'h'} {found.mount} | sort -h | tail"
        yield FULL_DISK.for_people(found.path, f"has {left} left", f"make room: `{listing}` lists what takes most")


def _is_full(disk: DiskFacts) -> bool:
    return disk.is_out_of_inodes or disk.free < LEAST_FREE


def clock(facts: Facts) -> Iterator[Ailment]:
    """Find a clock that was never set, or was set back since the newest record."""
    now = _date(facts.now)
    if facts.now < EARLIEST:
        yield CLOCK.found("the clock", f"says {now}: it was never set", "timedatectl set-ntp true")
        return
    newest = _newest(facts.records) if facts.records else 0.0
    if newest > facts.now + TOLERANCE:
        yield CLOCK_BACK.found(
            "the clock", f"says {now}, and the store has records of {_date(newest)}", "timedatectl set-ntp true"
        )


def _newest(records: Records) -> float:
    dates = [record.since for record in records.addresses]
    dates += [record.since for record in records.endpoints]
    dates += [record.since for record in records.networks]
    return max(dates, default=0.0)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def programs(facts: Facts) -> Iterator[Ailment]:
    """Find that dni does not run although it has networks; where it cannot, that is another finding."""
    if facts.records is not None and facts.records.networks:
        yield from _not_running(facts, "does not run, and this host has networks on dni")


def idle(facts: Facts) -> Iterator[Ailment]:
    """Find that dni does not run where it has no network yet: what keeps it from that may be another finding."""
    if facts.records is not None and not facts.records.networks:
        yield from _not_running(facts, "does not run")


def _not_running(facts: Facts, problem: str) -> Iterator[Ailment]:
    if facts.plugin is None or _is_hindered(facts):
        return
    running = {"plugin": facts.plugin.plugin_runs, "agent": facts.plugin.agent_runs}
    for name in (name for name, runs in running.items() if not runs):
        yield NOT_RUNNING.found(f"the dni {name}", problem, "dni up", f"under systemd: systemctl start dni-{name}")


def complaints(facts: Facts) -> Iterator[Ailment]:
    """Find what the agent itself says is wrong."""
    if facts.complaints:
        first, *more = facts.complaints
        others = f", and {len(more)} more" if more else ""
        yield COMPLAINTS.found("the dni agent", f"is not well: {first}{others}", "dni status")


def _is_hindered(facts: Facts) -> bool:
    """Tell whether dni could not start: it reads its settings and writes to its disk."""
    return facts.settings is not None or (
        facts.disk is not None and (facts.disk.is_read_only or _is_full(facts.disk))
    )
