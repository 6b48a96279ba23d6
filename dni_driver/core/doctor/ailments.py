# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a host, for `dni doctor`: a name and a weight for each kind, and what it breaks."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad it is.

    error    containers on dni do not work, or will not after the next step
    warning  they work, and something is slow, at risk, or will not work for some of them
    """

    ERROR = "error"
    WARNING = "warning"


class Ailment(msgspec.Struct, frozen=True, kw_only=True):
    """One finding: what it is about, what is wrong, what that breaks, and what mends it.

    `mend` is a command, empty where none does. `otherwise` says what to do then, or what else can be done where the
    command is not always the best way.
    """

    kind: str
    severity: Severity
    about: str
    problem: str
    breaks: str
    mend: str
    otherwise: str = ""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of ailment. `breaks` is told with each."""

    name: str
    severity: Severity
    breaks: str

    def found(self, about: str, problem: str, mend: str, otherwise: str = "") -> Ailment:
        """Build the finding of one on this host, with the command that mends it."""
        return Ailment(
            kind=self.name,
            severity=self.severity,
            about=about,
            problem=problem,
            breaks=self.breaks,
            mend=mend,
            otherwise=otherwise,
        )

    def for_people(self, about: str, problem: str, otherwise: str) -> Ailment:
        """Build the finding of one that no command mends: people have to decide first."""
        return self.found(about, problem, "", otherwise)


def error(name: str, breaks: str) -> Kind:
    """Name a kind of ailment with which containers on dni do not work."""
    return Kind(name=name, severity=Severity.ERROR, breaks=breaks)


def warning(name: str, breaks: str) -> Kind:
    """Name a kind of ailment with which they mostly do."""
    return Kind(name=name, severity=Severity.WARNING, breaks=breaks)
