# SPDX-License-Identifier: Apache-2.0
"""Where log lines go: standard error, for people (`console`) or machines (`json`), libraries' lines like ours."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from dni_driver.cli.settings import LogSettings

_TALKATIVE = ("asyncio", "pyroute2")
"""Where they are let, these tell of each message to the kernel: seventy lines for a look at it."""


def configure(settings: LogSettings, program: str) -> None:
    """Send this process's log lines to standard error, each with the name of the program."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]

    def name_program(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**event, "by": program}

    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_program,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings, common))
    handler.addFilter(_is_worth_a_line)
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Leave out the chatter. By a filter: pyroute2 sets the level of its logger anew when it is imported."""
    return record.levelno >= logging.INFO or record.name.partition(".")[0] not in _TALKATIVE


def _formatter(settings: LogSettings, common: list[Processor]) -> structlog.stdlib.ProcessorFormatter:
    """Answer what writes a line; lines of libraries come by way of the standard `logging`."""
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
