# SPDX-License-Identifier: Apache-2.0
"""How groups of commands are listed in help."""

from __future__ import annotations

import click

_LONGEST_SUMMARY = 200
"""Characters: click cuts off what is longer, and wraps what is not."""


class InOrder(click.Group):
    """Lists its commands as they are written, those to begin with first, each with its whole first sentence."""

    group_class = type
    """Groups within it do likewise."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Answer the names as they are written."""
        return list(self.commands)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        rows = [(name, command.get_short_help_str(_LONGEST_SUMMARY)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
