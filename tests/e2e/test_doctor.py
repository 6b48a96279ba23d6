# SPDX-License-Identifier: Apache-2.0
"""`dni doctor` on a real host: nothing to find on a healthy one; on an ill one exactly that, and what mends it.

What needs no dockerd is in tests/root/test_doctor.py; full and read-only disks are in test_disks.py, clocks in
test_survival.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import create, start
from tests.lab import Host
from tests.lab.dni import NOBODY, PLUGIN_SOCKET, command

STATUS = {"error": 2, "warning": 1}
LISTEN = (
    "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(600)"
)

SINCE_26 = (
    "`--ipv4=false` is not known",
    "`--ipv6` needs `--subnet`",
    "`has active endpoints`",
    "the first of their names",
)
DIFFERENT = {"20.10": ("two networks of one name", *SINCE_26), "26.1": SINCE_26, "28.5": ()}
"""What is different on an engine, for users of dni."""

_DISPUTE = """if True:
    import sqlite3
    store = sqlite3.connect("/var/lib/dni/dni.db", isolation_level=None)
    store.execute("INSERT INTO meta VALUES ('dispute', '192.0.2.99 is it too')")
"""


def findings(host: Host, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Answer what the doctor finds; the exit status must be that of the worst, and everything have been seen."""
    done = host.try_run(*command("doctor", "--json"), env=env)
    told = json.loads(done.stdout)
    assert told["unseen"] == []
    assert done.returncode == max((STATUS[one["severity"]] for one in told["findings"]), default=0)
    return list(told["findings"])


def kinds(host: Host, env: Mapping[str, str] | None = None) -> list[str]:
    return sorted({one["kind"] for one in findings(host, env)})


def is_well(host: Host, env: Mapping[str, str] | None = None) -> None:
    """Find nothing, once the agent has noticed that all is well."""
    host_state.eventually(lambda: kinds(host, env) == [] or None, 40, "something is still found")


def mend(host: Host, kind: str) -> None:
    """Find exactly one kind of illness, and do as its findings say."""
    found = findings(host)
    assert {one["kind"] for one in found} == {kind}, found
    for one in found:
        host.run("sh", "-c", one["mend"])


@contextmanager
def without_dni(host: Host) -> Iterator[None]:
    """Have dni stopped inside the block."""
    host.stop_dni()
    try:
        yield
    finally:
        host.start_dni(**host_state.SETTINGS)


@contextmanager
def bridged_frames_passing_by(host: Host) -> Iterator[None]:
    """Have what goes from one container of a bridge to another not meet iptables inside the block."""
    host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    try:
        yield
    finally:
        host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")


def test_a_healthy_host_has_nothing_unless_dni_is_stopped(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    assert findings(host) == []
    host.docker("rm", "-f", "one")
    host.docker("network", "rm", "dcos")
    with without_dni(host):
        assert kinds(host) == ["not-running"]
    text = host.dni("doctor")
    assert text.endswith("Nothing is wrong.")
    assert f"agent          {host.address} on eth0, MTU 1500" in text
    assert "(Docker), FORWARD DROP" in text
    assert f"Docker Engine  {ENGINE}." in text
    assert "bridged frames meet iptables" in text
    told = [line for line in text.splitlines() if line.startswith("on this engine ")]
    assert len(told) == len(DIFFERENT[ENGINE])
    assert all(word in line for word, line in zip(DIFFERENT[ENGINE], told, strict=True))
    with bridged_frames_passing_by(host):
        text = host.dni("doctor")
    assert "bridged frames pass by iptables" in text
    assert text.endswith("Nothing is wrong.")


def test_another_user_is_told_what_could_not_be_looked_at(host: Host) -> None:
    done = host.try_run(*NOBODY, *command("doctor"))
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("Docker", "plugin sockets and dni's programs", "the firewall", "kernel features"):
        assert f"not looked at: {what} (" in done.stdout
    assert "put sudo before dni" in done.stdout
    assert done.stdout.rstrip().endswith("Nothing is wrong with what was looked at.")


def _leave_a_socket(host: Host) -> None:
    host.run(sys.executable, "-c", LISTEN.replace("time.sleep(600)", "0"), "/run/docker/plugins/old.sock")


def _open_the_sockets(host: Host) -> None:
    host_state.addresses(host)
    host.run("chmod", "0666", PLUGIN_SOCKET, "/run/dni/dni.sock")


def _lead_dockerd_elsewhere(host: Host) -> None:
    host.run("sh", "-c", "mkdir -p /etc/docker/plugins && echo tcp://192.0.2.99:80 > /etc/docker/plugins/dni.spec")


def _misspell_a_setting(host: Host) -> None:
    host.run("sh", "-c", "mkdir -p /etc/dni && echo '[log]\nlevle = \"info\"' > /etc/dni/dni.toml")


def _let_everybody_read(host: Host) -> None:
    host.run("sh", "-c", "chmod 0644 /var/lib/dni/dni.db*")


def _make_the_bridge_as_dcos_did(host: Host) -> None:
    option = "com.docker.network.bridge.name=d-dcos"
    host.docker("network", "create", "-d", "bridge", "--subnet", "9.0.0.128/25", "-o", option, "dcos")


def _widen_a_container(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    sandbox = host.docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "one")
    host.run("nsenter", f"--net={sandbox}", "ip", "link", "set", "eth0", "mtu", "1500")


def _install_a_managed_plugin(host: Host) -> None:
    place = host.directory / "managed"
    (place / "rootfs").mkdir(parents=True, exist_ok=True)
    interface = {"types": ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"], "socket": "dni.sock"}
    config = {"description": "none", "entrypoint": ["/none"], "interface": interface, "network": {"type": "host"}}
    (place / "config.json").write_text(json.dumps(config))
    host.docker("plugin", "create", "dni:latest", str(place))


def _run_a_second_dni(host: Host) -> None:
    paths = {"STORE_DIRECTORY": "", "RUN_DIRECTORY": "/run", "PLUGIN_SOCKET": "/dni.sock", "API_SOCKET": "/api.sock"}
    env = {f"DNI_{key}": f"{host.directory}/second{path}" for key, path in paths.items()}
    host.spawn(*command("up"), env=env, log=host.directory / "second.log")
    host_state.eventually(lambda: "second-driver" in kinds(host), 20, "the second dni does not start")


@pytest.mark.parametrize(
    ("kind", "fall_ill"),
    [
        ("stale-socket", _leave_a_socket),
        ("socket-permissions", _open_the_sockets),
        ("spec-file", _lead_dockerd_elsewhere),
        ("settings", _misspell_a_setting),
        ("store-permissions", _let_everybody_read),
        ("strange-bridge", _make_the_bridge_as_dcos_did),
        ("mtu-of-container", _widen_a_container),
        ("managed-beside-legacy", _install_a_managed_plugin),
        ("second-driver", _run_a_second_dni),
    ],
)
def test_what_is_ill_is_found_and_its_command_mends_it(
    host: Host, kind: str, fall_ill: Callable[[Host], None]
) -> None:
    fall_ill(host)
    mend(host, kind)
    host_state.eventually(lambda: kinds(host) == [], 10, f"{kind} is still found")


@contextmanager
def stranger(host: Host) -> Iterator[None]:
    """Have another program than dni listen on dni's socket, until it is killed; nothing is left in its place."""
    process = host.spawn(sys.executable, "-c", LISTEN, PLUGIN_SOCKET)
    try:
        host_state.eventually(lambda: "socket-of-another" in kinds(host), 10, "the stranger does not listen")
        yield
    finally:
        process.kill()
        process.wait()
        host.run("rm", "-f", PLUGIN_SOCKET)


def test_what_keeps_dni_up_from_starting_is_found_without_it(host: Host) -> None:
    with without_dni(host):
        host.run("touch", PLUGIN_SOCKET)
        mend(host, "socket-path-taken")
        host.run("rm", f"{PLUGIN_SOCKET}.away")

        with stranger(host):
            mend(host, "socket-of-another")
            host_state.eventually(lambda: kinds(host) == ["stale-socket"], 10, "the stranger is still there")
            mend(host, "stale-socket")

        elsewhere = {"DNI_PLUGIN_SOCKET": "/run/dni/plugin.sock"}
        (found,) = findings(host, elsewhere)
        assert found["kind"] == "socket-not-found"
        host.run("sh", "-c", found["mend"])
        assert kinds(host, elsewhere) == ["not-running"]
        host.run("rm", "/etc/docker/plugins/dni.spec")

        host.run("sh", "-c", "head -c 8192 /dev/urandom > /var/lib/dni/dni.db")
        mend(host, "store")
        assert kinds(host) == []


def test_a_docker_that_is_away_is_found(host: Host) -> None:
    host.stop_dockerd()
    (found,) = findings(host)
    assert (found["kind"], found["mend"]) == ("docker-away", "systemctl start docker")
    host.start_dockerd()
    is_well(host)


def test_a_link_of_this_host_inside_an_overlay_is_found(host: Host) -> None:
    create(host, "dcos")
    host.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    host.run("ip", "address", "add", "9.5.0.1/24", "dev", "lan0")
    for end in ("lan0", "lan1"):
        host.run("ip", "link", "set", end, "up")
    (found,) = findings(host)
    assert (found["kind"], found["about"]) == ("inside-overlay", "overlay dcos")
    assert "(9.5.0.0/24 on lan0)" in found["problem"]
    host.run("ip", "link", "del", "lan0")
    assert kinds(host) == []


def test_a_dispute_is_found_also_where_no_agent_tells_of_it(host: Host) -> None:
    create(host, "dcos")
    with without_dni(host):
        host.run(sys.executable, "-c", _DISPUTE)
        (found,) = [one for one in findings(host) if one["kind"] == "disputed"]
        assert (found["about"], found["problem"]) == ("this host", "is in dispute: 192.0.2.99 is it too")
    host_state.eventually(lambda: kinds(host) == [], 20, "what is no dispute is not settled")


def test_networks_without_dni_and_without_records_are_found(host: Host) -> None:
    create(host, "dcos")
    with without_dni(host):
        assert kinds(host) == ["not-running"]
    is_well(host)
    with without_dni(host):
        host.run("sh", "-c", "rm /var/lib/dni/dni.db*")
    problem = host_state.eventually(lambda: _problem(host, "dcos"), 20, "the agent does not say it")
    assert "is in Docker, but dni has no record of it" in problem
    mend(host, "store-lost")
    is_well(host)


def _problem(host: Host, word: str) -> str | None:
    told = json.loads(host.try_dni("status", "--json").stdout or "{}")
    return next((problem for problem in told.get("problems", []) if word in problem), None)


def test_a_log_that_grows_is_found_and_gone_after_a_restart(host: Host) -> None:
    """A reader that hangs keeps SQLite from folding it back into the store."""
    script = """if True:
        import sqlite3
        reader, writer = (sqlite3.connect("/var/lib/dni/dni.db", isolation_level=None) for _ in range(2))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        for _ in range(17):
            writer.execute("INSERT INTO meta VALUES ('ballast', ?)", ("x" * (4 << 20),))
            writer.execute("DELETE FROM meta WHERE key = 'ballast'")
    """
    host.run(sys.executable, "-c", script)
    assert kinds(host) == ["store-log"]
    host.stop_dni()
    host.start_dni(**host_state.SETTINGS)
    assert kinds(host) == []
