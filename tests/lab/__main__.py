# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.lab`: a lab to look around in, its engines, and what dead labs left."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

import click

from tests.lab import engines
from tests.lab.errors import LabError
from tests.lab.lab import Lab

_VERSION = click.Choice(list(engines.SUITES))


@click.group()
def lab() -> None:
    """Hosts with real Docker Engines, in namespaces on this machine."""


@lab.command()
@click.option("--hosts", default=2, show_default=True, help="How many hosts.")
@click.option("--engine", type=_VERSION, default="20.10", show_default=True, help="Docker Engine.")
@click.option("--dni", is_flag=True, help="Run `dni up` on each host.")
def up(hosts: int, engine: str, *, dni: bool) -> None:
    """Bring up a lab, and take it down on Enter or Ctrl-C."""
    with _ending_on_a_signal(), _telling_errors(), Lab(hosts=hosts, engine=engine) as lab:
        for host in lab.hosts:
            if dni:
                host.start_dni()
            click.echo(f"{host.name}  {host.address}  {host.address6}\n    {host.enter_command()}")
        outside = lab.outside
        click.echo(f"outside  {outside.address}  {outside.world}\n    {outside.enter_command()}")
        click.echo("Enter or Ctrl-C takes the lab down.")
        sys.stdin.readline()


@lab.command()
@click.argument("version", type=_VERSION)
def engine(version: str) -> None:
    """Prepare a Docker Engine, so that a lab with it starts at once."""
    with _telling_errors():
        root = engines.root_of(version)
    click.echo(f"Engine {version} is {'the one installed here' if root is None else f'in {root}'}.")


@lab.command()
def sweep() -> None:
    """Clear what labs have left that did not end well."""
    with _telling_errors():
        for directory in Lab.sweep():
            click.echo(f"cleared {directory}")


@contextlib.contextmanager
def _telling_errors() -> Iterator[None]:
    try:
        yield
    except LabError as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _ending_on_a_signal() -> Iterator[None]:
    """End the block on Ctrl-C, SIGTERM or the terminal's end as if it had come to its end.

    A shell has what it starts in the background ignore Ctrl-C's signal.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield


if __name__ == "__main__":
    lab(prog_name="python -m tests.lab")
