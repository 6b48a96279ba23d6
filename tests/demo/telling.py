# SPDX-License-Identifier: Apache-2.0
"""How a demo speaks: steps, commands with what they answered, and a clean end whatever happens."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable

import click

from tests.lab import CommandError, Host, LabError

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def step(text: str) -> None:
    """Say what comes next."""
    click.echo(f"\n{click.style(text, bold=True)}")


def docker(host: Host, *words: str) -> None:
    """Run a docker command, and show it."""
    told(host, ("docker", *words), host.docker(*words))


def dni(host: Host, *words: str) -> None:
    """Run a dni command, and show it."""
    told(host, ("dni", *words), host.dni(*words))


def told(host: Host, command: tuple[str, ...], output: str) -> None:
    """Show a command and its output."""
    lines(f"{click.style(f'{host.name}#', fg='cyan')} {shlex.join(command)}", *output.splitlines())


def lines(*text: str) -> None:
    """Show some lines, moved in as everything below a step is."""
    for line in text:
        click.echo(f"  {line}")


def run(demo: Callable[[], None]) -> None:
    """Run a demo that leaves nothing behind, on Ctrl-C too; say how long it took.

    What a shell starts in the background ignores the signal of Ctrl-C, until told otherwise.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    try:
        demo()
    except KeyboardInterrupt:
        click.echo("\nInterrupted: the lab is gone, nothing is left behind.")
        sys.exit(INTERRUPTED)
    except (CommandError, LabError, AssertionError) as error:
        sys.exit(f"demo: {error}")
    step(f"That took {time.monotonic() - began:.0f} s. The lab is gone, nothing is left behind.")
