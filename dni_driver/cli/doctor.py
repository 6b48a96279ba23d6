# SPDX-License-Identifier: Apache-2.0
"""`dni doctor`: looks at everything dni rests on, with nobody's help, and says what is wrong with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from dni_driver.agent import survey
from dni_driver.agent.docker import DockerDaemon
from dni_driver.cli import surroundings
from dni_driver.cli.loading import load
from dni_driver.cli.settings import Settings
from dni_driver.console.client import Console
from dni_driver.core.deadline import deadline
from dni_driver.core.doctor.ailments import Ailment, Severity
from dni_driver.core.doctor.diagnosis import Report, Unseen, report
from dni_driver.core.doctor.facts import Facts, KernelFacts, StoreFacts
from dni_driver.core.errors import DniError, SettingsError
from dni_driver.core.reports import Status
from dni_driver.kernel.doctor import examination, features, foreign_rules
from dni_driver.store import examination as store_examination

FINE, WARNINGS, ERRORS = range(3)
"""Exit statuses."""

LOOK_SECONDS = 20.0
"""For each look."""

T = TypeVar("T")


def run(file: Path | None, *, as_json: bool) -> int:
    """Look, write what there is to say, and answer the exit status."""
    facts, unseen = examine(file)
    found = report(facts, unseen)
    click.echo(json.dumps(msgspec.to_builtins(found), indent=2) if as_json else shown(found))
    return _status(found)


def _status(found: Report) -> int:
    if not found.findings:
        return FINE
    return ERRORS if any(one.severity is Severity.ERROR for one in found.findings) else WARNINGS


class _Looks:
    """Looks one at a time; what fails or takes too long leaves the others alone."""

    def __init__(self) -> None:
        self.unseen: list[Unseen] = []

    def at(self, what: str, look: Callable[[], T]) -> T | None:
        """Answer what a look shows, None where it shows nothing."""
        try:
            with deadline(LOOK_SECONDS):
                return look()
        except PermissionError:
            why = "it needs root"
        except (DniError, OSError) as error:
            why = str(error)
        self.unseen.append(Unseen(what=what, why=why if os.geteuid() == 0 else f"{why}: put sudo before dni"))
        return None


def examine(file: Path | None) -> tuple[Facts, list[Unseen]]:
    """Look at everything; answer what was seen, and what was not. `file` is the settings file that was named."""
    settings, complaint = _settings(file)
    looks = _Looks()
    directory = settings.store.directory
    store = looks.at("the store", lambda: store_examination.look(directory / "dni.db"))
    plugin = looks.at("plugin sockets and dni's programs", lambda: surroundings.look(settings))
    facts = Facts(
        now=time.time(),
        settings=complaint,
        store=store,
        disk=looks.at("the disk under the store", lambda: store_examination.look_at_disk(directory)),
        docker=looks.at("Docker", lambda: survey.look(DockerDaemon(settings.docker.socket))),
        plugin=plugin,
        kernel=looks.at("links and kernel settings", lambda: _kernel(settings, store)),
        firewall=looks.at("the firewall", foreign_rules.look),
        lacks=looks.at("kernel features", features.lacks),
        complaints=_complaints(settings) if plugin and plugin.agent_runs else (),
    )
    return facts, looks.unseen


def _complaints(settings: Settings) -> tuple[str, ...]:
    """Answer what the agent says is wrong, or why it says nothing although it runs."""
    try:
        answer = Console(settings.api.socket, LOOK_SECONDS).get("/v1/status")
        return tuple(msgspec.convert(answer, Status).problems)
    except (DniError, msgspec.ValidationError) as error:
        return (str(error),)


def _settings(file: Path | None) -> tuple[Settings, str | None]:
    """Answer the settings; those of a host without any, and what is wrong, where they cannot be used."""
    try:
        return load(file), None
    except SettingsError as error:
        return Settings(), str(error)


def _kernel(settings: Settings, store: StoreFacts | None) -> KernelFacts:
    records = store.records if store else None
    overlays = {settings.overlay.name, *(overlay.name for overlay in (records.overlays if records else ()))}
    return examination.look(records, sorted(overlays), settings.agent.ip)


def shown(found: Report) -> str:
    """Show a report to people."""
    host = "\n".join(f"{name:<15}{value}" for name, value in found.host.items())
    notes = "\n".join(f"on this engine {text}" for text in found.differences)
    findings = "\n\n".join("\n".join(_lines(one)) for one in found.findings)
    unseen = "\n".join(f"not looked at: {one.what} ({one.why})" for one in found.unseen)
    return "\n\n".join(filter(None, (host, notes, findings, unseen, _summary(found))))


def _lines(ailment: Ailment) -> Iterator[str]:
    yield f"{ailment.severity}: {ailment.about} {ailment.problem} [{ailment.kind}]"
    yield f"  what breaks: {ailment.breaks}"
    ways = [way for way in (ailment.mend, ailment.otherwise) if way]
    yield f"  to mend it:  {ways[0]}"
    yield from (f"               {way}" for way in ways[1:])


def _summary(found: Report) -> str:
    errors = sum(one.severity is Severity.ERROR for one in found.findings)
    warnings = len(found.findings) - errors
    if not found.findings:
        return "Nothing is wrong." if not found.unseen else "Nothing is wrong with what was looked at."
    return (
        f"{errors} {'error' if errors == 1 else 'errors'}, {warnings} {'warning' if warnings == 1 else 'warnings'}."
    )
