# SPDX-License-Identifier: Apache-2.0
"""Every error dni raises on purpose.

DniError
  MalformedRequest   the bytes do not say what the method needs
    EmptyBody        a cut-off retry: dockerd sends no body after a broken connection
  Refused            understood, and against a rule; the text says which and what to type instead
    BadName          an overlay name that Linux, Docker or Mesos could not carry
    BadWish          what a CNI runtime passes on for a container is not what it may be
    InUse            held by somebody else: an address, an overlay, a network
      Disowned       what this host's store calls its own is another living host's
      Doubled        this host is alive elsewhere: as it was before it was started again, or by a copy of its disk
    NotFound         no overlay, network or endpoint of that name
      NoAgent        the registry does not know the agent in whose name it is asked
  Exhausted          no free address, or no free agent subnet
    Crowded          no free address at this moment: the agent may be leasing more
  Unavailable        something dni needs does not answer in time
    DeadlineExceeded a step would run past the time its caller can wait
  SettingsError      /etc/dni/dni.toml or a DNI_ variable
  StoreError         the database cannot be read or written
  KernelError        the kernel, nft or iptables said no
    BridgeMissing    a container link has no bridge to hang on: reconcile first
    NotMended        some of what dni keeps in the kernel is not as it should be, and the rest is

A text is one line, says what was wrong and what to do: dockerd prints it to its user as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence


class DniError(Exception):
    """Anything dni says no to; `str(error)` is for people."""


class MalformedRequest(DniError):  # noqa: N818 - named for what the caller sent, as all below
    """A request whose bytes do not say what its method needs."""


class EmptyBody(MalformedRequest):
    """A request without a body where the method needs one.

    dockerd's retry after a broken connection carries none; answering it would be answering rubbish.
    """


class Refused(DniError):  # noqa: N818
    """A request that was understood and is against a rule."""


class BadName(Refused):
    """An overlay name outside the rule."""


class BadWish(Refused):
    """Something a CNI runtime passes on for a container that is not what it may be."""


class InUse(Refused):
    """Something asked for that somebody else holds."""


class Disowned(InUse):
    """What this host's store says it holds, another living host holds: its disk is a copy."""


class Doubled(InUse):
    """This host, by its identity and its agent IP, is alive elsewhere, or was a moment ago.

    It was started again, which ends by itself, or its disk is a copy.
    """


class NotFound(Refused):
    """An overlay, network, endpoint or pool that is not recorded here."""


class NoAgent(NotFound):
    """An agent that the registry does not have, or has forgotten."""


class Exhausted(DniError):  # noqa: N818
    """Nothing left to hand out."""


class Crowded(Exhausted):
    """No free address in a pool that may have more room in a moment."""

    def __init__(self, text: str, pool: str) -> None:
        """Take what to say if it has not, and the pool's id."""
        super().__init__(text)
        self.pool = pool


class Unavailable(DniError):  # noqa: N818
    """Something dni needs does not answer."""


class DeadlineExceeded(Unavailable):
    """A step would run past the time its caller can wait."""


class SettingsError(DniError):
    """A settings file or variable that cannot be used."""


class StoreError(DniError):
    """The store cannot be read or written."""


class KernelError(DniError):
    """The kernel refused a change."""


class BridgeMissing(KernelError):  # noqa: N818
    """A container link has no bridge to hang on: after a reconcile it has."""


class NotMended(KernelError):  # noqa: N818
    """Some of what dni keeps in the kernel could not be made as it should be.

    `failures` are pairs: the bridge that one concerns, None where it concerns them all, and what went wrong in words.
    """

    def __init__(self, failures: Sequence[tuple[str | None, str]]) -> None:
        """Take all of them."""
        super().__init__("; ".join(text for _, text in failures))
        self.failures = tuple(failures)

    def on(self, bridge: str) -> list[str]:
        """Answer what concerns one bridge."""
        return [text for where, text in self.failures if where in (None, bridge)]
