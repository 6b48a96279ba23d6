# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a host, each as one event."""

from __future__ import annotations

from dataclasses import dataclass

from dni_driver.core.errors import KernelError
from tests.simulation.picks import choose
from tests.simulation.world import World


@dataclass(frozen=True)
class PluginWillDie:
    """The plugin is killed at one of its next writes, and restarted at once, or after some events."""

    points: int
    down_for: int

    def befall(self, world: World) -> None:
        """Light the fuse."""
        world.plugin_down_for = self.down_for
        if world.plugin.up:
            world.plugin.fuse.light(self.points)


@dataclass(frozen=True)
class PluginEnds:
    """The plugin is stopped, and started again after some events: calls in between are lost."""

    down_for: int

    def befall(self, world: World) -> None:
        """Stop it."""
        world.plugin_down_for = self.down_for
        world.plugin.end()


@dataclass(frozen=True)
class AgentWillDie:
    """The agent is killed at one of its next writes, and restarted; with 0, it is restarted now."""

    points: int

    def befall(self, world: World) -> None:
        """Light the fuse, or end it."""
        if self.points:
            world.agent.fuse.light(self.points)
        else:
            world.agent.end()
            world.without_answer(world.agent.restart)


@dataclass(frozen=True)
class KernelWillRefuse:
    """The next change of the kernel is refused."""

    def befall(self, world: World) -> None:
        """Prepare the refusal."""
        if not world.kernel.refusals:
            world.kernel.refusals.append(KernelError("the kernel says no"))


@dataclass(frozen=True)
class DockerdCrashes:
    """The engine is killed, perhaps while it waits for an answer; it starts when somebody needs it."""

    pick: int
    loses_answer: bool
    live_restore: bool

    def befall(self, world: World) -> None:
        """Kill it."""
        world.live_restore = self.live_restore
        if self.loses_answer and world.dockerd.tasks:
            world.dockerd.lose_answer(choose(self.pick, world.dockerd.tasks))
        else:
            world.dockerd.crash()


@dataclass(frozen=True)
class DockerdRestarts:
    """`systemctl restart docker`."""

    live_restore: bool

    def befall(self, world: World) -> None:
        """Restart it."""
        world.boot_if_down()
        if self.live_restore:
            world.dockerd.finish()
            world.dockerd.crash()
        else:
            world.dockerd.stop_gracefully()
        world.dockerd.boot(containers_live=self.live_restore)


@dataclass(frozen=True)
class Reboot:
    """The machine loses everything but its disk."""

    gracefully: bool

    def befall(self, world: World) -> None:
        """Reboot."""
        world.reboot(gracefully=self.gracefully and world.dockerd.up)
