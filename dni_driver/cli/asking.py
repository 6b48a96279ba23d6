# SPDX-License-Identifier: Apache-2.0
"""What every command has: the settings that were named, the agent to ask, and how its answer is shown."""

# ruff: noqa: PLC0415 - what one command alone needs is imported by it

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from dni_driver.cli.loading import load
from dni_driver.cli.settings import Settings
from dni_driver.core.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from dni_driver.console.client import Console

R = TypeVar("R")


class Named(msgspec.Struct, frozen=True):
    """What stands before the command: the settings file that was named."""

    file: Path | None

    def console(self) -> Console:
        """Answer what asks the agent."""
        path = load(self.file).api.socket
        from dni_driver.console.client import Console

        return Console(path)

    def settings_of_root(self) -> Settings:
        """Answer the settings for what only root can do."""
        settings = load(self.file)
        if os.geteuid() != 0:
            raise Unavailable("dni changes the network of this host and must run as root: put sudo before it")
        return settings

    def settings_of_program(self, name: str) -> Settings:
        """Answer the settings of a program that is about to start, and begin its log; it must be root's."""
        settings = self.settings_of_root()
        from dni_driver.cli import logs

        logs.configure(settings.log, name)
        return settings


as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
"""The option that every command has which shows something."""


def path_of_overlay(name: str, below: str = "/v1/overlays") -> str:
    """Answer where the agent is asked about an overlay; raise NotFound for a name that no path can have in it."""
    if not name or "/" in name:
        raise NotFound(f"there is no overlay {name!r}: `dni overlay ls` lists them")
    return f"{below}/{quote(name, safe='')}"


def path_of_agent(agent: str) -> str:
    """Answer where the agent here is asked about another; raise NotFound likewise."""
    if not agent or "/" in agent:
        raise NotFound(f"{agent!r} is no agent IP: `dni agent ls` lists them")
    return f"/v1/agents/{quote(agent, safe='')}"


def show(answer: Any, kind: type[R], view: Callable[[R], str], *, as_json: bool) -> R:
    """Write what the agent answered, and answer it as what it is; raise Unavailable where it is something else."""
    try:
        report = msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise Unavailable(
            f"the agent's answer is not understood ({error}): is it of another version than this dni?"
        ) from None
    click.echo(json.dumps(answer, indent=2) if as_json else view(report))
    return report
