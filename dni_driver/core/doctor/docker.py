# SPDX-License-Identifier: Apache-2.0
"""What can be wrong between Docker and its plugins on a host. Each judge: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from dni_driver.core import engines
from dni_driver.core.doctor.ailments import Ailment, error, warning
from dni_driver.core.doctor.facts import Facts, PluginFacts, PluginSocket
from dni_driver.core.views import is_dni

AWAY = error("docker-away", "nothing can be said about Docker, and dni frees nothing that Docker has forgotten")
TOO_OLD = error("engine-too-old", "dni is not tried on it: networks and containers may fail in any way")
TRAP = warning("engine-trap", "what the release notes of that engine say")
STALE_SOCKET = warning("stale-socket", "dockerd waits 15 s for it each time it lists volumes (`docker volume ls`)")
NO_SOCKET = error("socket-path-taken", "dni cannot start")
STRANGE_LISTENER = error("socket-of-another", "dockerd asks another program than dni")
OPEN_SOCKET = warning(
    "socket-permissions", "any user of this host can give dni orders: to free addresses in use, for one"
)
UNFINDABLE = error("socket-not-found", "dockerd does not find dni: `plugin dni not found`")
SPEC = warning("spec-file", "whenever dni is down, dockerd asks at that address instead of waiting for dni")
SECOND_DRIVER = error("second-driver", "two programs change the same bridges and rules, and undo each other's work")
MANAGED = error("managed-beside-legacy", "`-d dni` leads Docker to the managed plugin, and fails")

KINDS = (
    AWAY,
    TOO_OLD,
    TRAP,
    STALE_SOCKET,
    NO_SOCKET,
    STRANGE_LISTENER,
    OPEN_SOCKET,
    UNFINDABLE,
    SPEC,
    SECOND_DRIVER,
    MANAGED,
)

WELL_KNOWN = ("/run/docker/plugins/dni.sock", "/run/docker/plugins/dni/dni.sock")
"""Where dockerd looks for a plugin named dni before it looks for files that tell of another place."""

_SYSTEMD = 1
_ANYBODY_MAY_CONNECT = 0o002


def engine(facts: Facts) -> Iterator[Ailment]:
    """Find a dockerd that does not answer, or is of a version to be avoided."""
    if facts.docker is None:
        return
    if facts.docker.trouble is not None:
        yield AWAY.found("dockerd", facts.docker.trouble.removeprefix("dockerd "), "systemctl start docker")
        return
    version = engines.parsed(facts.docker.version)
    if version is None:
        return
    if version < engines.OLDEST:
        oldest = ".".join(map(str, engines.OLDEST))
        yield TOO_OLD.found(
            "Docker Engine", f"is {facts.docker.version}, and dni needs {oldest}", "apt-get install docker.io"
        )
    for trap in engines.that_apply(version, engines.TRAPS):
        yield TRAP.found(f"Docker Engine {facts.docker.version}", f"has a fault: {trap}", "apt-get install docker.io")


def sockets(facts: Facts) -> Iterator[Ailment]:
    """Find plugin sockets that nobody serves, or somebody else than dni."""
    if facts.plugin is None:
        return
    for socket in facts.plugin.sockets:
        is_own = socket.path == facts.plugin.socket
        if socket.state == "dead":
            yield STALE_SOCKET.found(socket.path, "is left over: nobody listens there", f"rm {socket.path}")
        elif is_own and socket.state == "no-socket":
            yield NO_SOCKET.found(
                socket.path, "is no socket, and in the place of dni's", f"mv {socket.path} {socket.path}.away"
            )
        elif is_own:
            yield from _strange_listener(socket, facts.plugin)


def _strange_listener(socket: PluginSocket, plugin: PluginFacts) -> Iterator[Ailment]:
    """Find out whether somebody else listens: not dni, and not systemd on its behalf."""
    if socket.listener in (None, _SYSTEMD) or plugin.plugin_runs or "dni_driver" in socket.program:
        return
    yield STRANGE_LISTENER.found(
        socket.path,
        f"is served by pid {socket.listener} ({socket.program or 'unknown'}), which is not dni",
        f"kill {socket.listener}",
    )


def permissions(facts: Facts) -> Iterator[Ailment]:
    """Find sockets of dni's that everybody may use."""
    if facts.plugin is None:
        return
    own = (one for one in facts.plugin.sockets if one.path == facts.plugin.socket and one.state != "no-socket")
    modes = {socket.path: socket.mode for socket in own}
    if facts.plugin.api_mode is not None:
        modes[facts.plugin.api] = facts.plugin.api_mode
    for path, mode in modes.items():
        if mode & _ANYBODY_MAY_CONNECT:
            yield OPEN_SOCKET.found(path, f"is open to everybody (mode {mode & 0o777:04o})", f"chmod 0660 {path}")


def specs(facts: Facts) -> Iterator[Ailment]:
    """Find files that lead dockerd elsewhere, and sockets that no file leads it to."""
    if facts.plugin is None:
        return
    here = f"unix://{facts.plugin.socket}"
    for spec in facts.plugin.specs:
        if spec.address != here:
            yield SPEC.found(spec.path, f"says that the plugin dni is at {spec.address}", f"rm {spec.path}")
    if facts.plugin.socket not in WELL_KNOWN and here not in {spec.address for spec in facts.plugin.specs}:
        yield UNFINDABLE.found(
            f"plugin.socket = {facts.plugin.socket}",
            f"is not where dockerd looks ({WELL_KNOWN[0]}), and no file tells it",
            f"mkdir -p /etc/docker/plugins && echo {here} > /etc/docker/plugins/dni.spec",
        )


def second_drivers(facts: Facts) -> Iterator[Ailment]:
    """Find a second dni: another process here, or a managed plugin beside the legacy one."""
    if facts.plugin is None:
        return
    yield from _second_process(facts.plugin)
    if not _has_legacy(facts.plugin) or facts.docker is None:
        return
    for plugin in facts.docker.plugins:
        if is_dni(plugin.name):
            state = "enabled" if plugin.is_enabled else "disabled"
            yield MANAGED.found(
                f"managed plugin {plugin.name}",
                f"is installed ({state}), and dni runs as a program of this host too",
                f"docker plugin rm -f {plugin.name}",
            )


def _second_process(plugin: PluginFacts) -> Iterator[Ailment]:
    if len(plugin.programs) < 2:  # noqa: PLR2004 - one is as it must be
        return
    for program in plugin.programs:
        if not program.ours:
            yield SECOND_DRIVER.found(
                f"process {program.pid}",
                "runs a second dni plugin in this network namespace",
                f"kill {program.pid}",
                "or, where systemd started it, stop its unit",
            )


def _has_legacy(plugin: PluginFacts) -> bool:
    """Tell whether dockerd finds a plugin named dni by a socket of this host; a managed one has its own elsewhere."""
    return any(socket.path == plugin.socket for socket in plugin.sockets)
