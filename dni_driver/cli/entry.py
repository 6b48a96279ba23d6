# SPDX-License-Identifier: Apache-2.0
"""Where `dni` begins and where every error ends: one line on standard error, and an exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from dni_driver.cli.commands import dni
from dni_driver.core.errors import DniError, SettingsError

FAILED = 1
MISUSED = 2
"""A command line or a setting that cannot be understood."""

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; it does not return."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old locale need not know every character that is shown
    sys.exit(_status(argv))


def _status(argv: Sequence[str] | None) -> int:
    try:
        outcome = dni.main(argv, prog_name="dni", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last edge: people get a line, never a traceback
        return _explain(error)
    return outcome if isinstance(outcome, int) else 0


def _explain(error: Exception) -> int:
    """Write what went wrong, and answer the exit status."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message())
            return 0
        case click.NoSuchOption(option_name="--json", ctx=click.Context(command=click.Group())):
            text, status = "--json comes after the command: `dni status --json`", MISUSED
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "dni"
            text, status = f"{error.format_message()} (`{command} --help` says more)", MISUSED
        case UnicodeEncodeError():
            text, status = "the command line has a word in it that is not UTF-8", MISUSED
        case SettingsError():
            text, status = str(error), MISUSED
        case DniError():
            text, status = str(error), FAILED
        case _:
            text, status = f"unexpected {type(error).__name__}: {error}", FAILED
    click.echo(f"dni: {' '.join(text.split())}", err=True)
    return status
