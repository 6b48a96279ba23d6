# SPDX-License-Identifier: Apache-2.0
"""dni on a machine that systemd runs, beside Docker's own units: installed, restarted, confined, taken away."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import CREATE, address, create, reaches, refused, serve, start
from tests.lab import Lab, Machine
from tests.lab.image import NAME

UNITS = ("dni-plugin.socket", "dni-plugin.service", "dni-agent.service")
DOCKER = ("docker.socket", "docker.service")
CONTAINERS = [f"c{number}" for number in range(20)]
EXPOSURE = 33
"""What `systemd-analyze security` may find, in tenths: from 0 to 100."""


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    """A machine with Docker, and with dni ready to be unpacked, as in a package."""
    with Lab(hosts=0, machines=1, engine=ENGINE) as lab:
        (machine,) = lab.machines
        _make(machine, "install", "DESTDIR=/stage")
        yield machine


@pytest.fixture(scope="module")
def untouched(bare: Machine) -> list[str]:
    """What the machine was like before dni came, and after Docker had a network: it leaves rules behind."""
    bare.docker("network", "create", "first")
    bare.docker("run", "--rm", "--net", "first", NAME, "true")
    bare.docker("network", "rm", "first")
    return _trace(bare)


@pytest.fixture
def machine(bare: Machine, untouched: list[str]) -> Iterator[Machine]:
    """A machine with Docker and dni, and nothing on them."""
    if _trace(bare) == untouched:
        _unpack(bare)
    yield bare
    _clear(bare)
    host_state.eventually(lambda: host_state.held(bare) == [] or None, 30, "addresses are still held")
    host_state.eventually(lambda: host_state.findings(bare) == [] or None, 30, "dni check finds something")


def _make(machine: Machine, *words: str) -> str:
    done = machine.make(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _unpack(machine: Machine) -> None:
    machine.run("cp", "-a", "/stage/.", "/")
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", "--now", "dni-plugin")


def _clear(machine: Machine) -> None:
    containers = machine.docker("ps", "-aq").split()
    if containers:
        machine.docker("rm", "-f", *containers)
    for name in machine.docker("network", "ls", "--format", "{{.Name}}").split():
        if name not in host_state.OURS:
            host_state.remove_network(machine, name, lambda: machine.systemctl("restart", "docker.service"))


def _trace(machine: Machine) -> list[str]:
    """Answer what an installation and its networks could leave: files, units, links, rules."""
    places = "find /etc /usr/local /usr/lib/systemd /var/lib/dni /run/dni /run/docker/plugins"
    looks = (
        f"{places} -not -type d 2>/dev/null | sort; ls -d /run/dni /var/lib/dni 2>/dev/null",
        "systemctl list-units --all --no-legend --plain 'dni*'",
        "ip -o link show type bridge | cut -d: -f2; ls /sys/class/net | grep ^dn",
        "nft list tables; iptables -S; ip6tables -S",
        "ls /sys/class/net | grep vtep; ip route show table all proto 64; ip rule | grep 'lookup 42'",
    )
    return [line for look in looks for line in machine.try_run("sh", "-c", look).stdout.splitlines()]


def test_the_units_are_well_formed_and_confined(machine: Machine) -> None:
    paths = [f"/usr/local/lib/systemd/system/{unit}" for unit in UNITS]
    verified = machine.try_run("systemd-analyze", "verify", *paths)
    assert (verified.returncode, verified.stderr) == (0, "")
    machine.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", "--no-pager", *UNITS[1:])


def test_dni_is_there_before_dockerd_and_goes_after_it(machine: Machine) -> None:
    create(machine, "dcos")
    start(machine, "keeper", "--restart", "always", "--stop-signal", "KILL")
    start(machine, "fleeting", "--stop-signal", "KILL")
    said = _failed_calls(machine)
    machine.systemctl("stop", *DOCKER, *UNITS)
    assert _failed_calls(machine) == said
    # As at boot: all at once, in the order that systemd finds in the units.
    machine.systemctl("start", "multi-user.target")
    began = [int(_property(machine, unit, "ActiveEnterTimestampMonotonic")) for unit in UNITS]
    assert max(began) < int(_property(machine, "docker.service", "ExecMainStartTimestampMonotonic"))
    assert not set(UNITS) & set(_property(machine, "docker.service", "Requires").split())
    host_state.eventually(lambda: reaches(machine, "keeper", "9.0.0.129"), 20, "keeper is not back")
    assert [row["address"] for row in host_state.held(machine)] == [address(machine, "keeper")]


def _property(machine: Machine, unit: str, name: str) -> str:
    return machine.systemctl("show", "--value", "--property", name, unit)


def test_a_call_starts_the_plugin_where_none_runs(machine: Machine) -> None:
    machine.systemctl("stop", "dni-plugin.service", "dni-agent.service")
    assert machine.try_run("systemctl", "is-active", "dni-plugin.service").stdout.strip() == "inactive"
    create(machine, "dcos")
    host_state.eventually(lambda: _are_active(machine), 20, "the call started less than all of them")


def _are_active(machine: Machine) -> bool:
    """Tell whether all units are: the agent begins beside the plugin, and may be ready later."""
    return machine.try_run("systemctl", "is-active", *UNITS).stdout.split() == ["active"] * 3


def test_confined_as_they_are_the_programs_attach_masquerade_publish_and_mend(machine: Machine) -> None:
    create(machine, "dcos")
    start(machine, "one")
    start(machine, "two", "-p", "80:9000")
    serve(machine, "two")
    assert machine.run("curl", "-s", "-m", "30", "http://127.0.0.1/") == "two"
    start(machine, "theirs", "-p", "8099:80", net="bridge")
    text = refused(machine, "run", "--rm", "--net", "dcos", "-p", "8099:80", "busybox", "true")
    assert "docker-proxy (pid " in text
    machine.run("sh", "-c", "ip link del d-dcos; nft delete table inet dni; iptables -F DNI-FORWARD")
    machine.run("sh", "-c", "for link in $(ls /sys/class/net | grep ^dni); do ip link del $link; done")
    host_state.eventually(lambda: reaches(machine, "one", address(machine, "two")), 25, "no link was made anew")
    host_state.eventually(lambda: reaches(machine, "one", "198.51.100.1"), 10, "the outside is not reached")
    assert "d-dcos" in machine.run("iptables", "-S", "DNI-FORWARD")


def test_ten_restarts_under_load_the_last_an_upgrade_lose_no_call(machine: Machine) -> None:
    said = _failed_calls(machine)
    create(machine, "dcos")
    for name in CONTAINERS:
        machine.docker("create", "--name", name, "--net", "dcos", "busybox", "sleep", "100000")
    with _starting_and_stopping(machine, CONTAINERS) as rounds:
        for _ in range(9):
            before = len(rounds)
            machine.systemctl("restart", "dni-plugin.service")
            host_state.eventually(lambda: len(rounds) > before, 30, "nothing is started any more")  # noqa: B023
        began = _property(machine, "dni-plugin.service", "InvocationID")
        _make(machine, "install")
    assert _property(machine, "dni-plugin.service", "InvocationID") != began
    machine.docker("start", *CONTAINERS)
    assert _failed_calls(machine) == said
    addresses = {address(machine, name) for name in CONTAINERS}
    assert {row["address"] for row in host_state.held(machine)} == addresses
    assert len(addresses) == len(CONTAINERS)


@contextmanager
def _starting_and_stopping(machine: Machine, names: Sequence[str], lanes: int = 3) -> Iterator[list[str]]:
    """Start and stop containers in a loop while the block runs, a few at a time; no command may fail."""
    over = threading.Event()
    rounds: list[str] = []

    def cycle(mine: Sequence[str]) -> None:
        while not over.is_set():
            for name in mine:
                machine.docker("start", name)
                machine.docker("stop", "-t", "0", name)
                rounds.append(name)

    with ThreadPoolExecutor(lanes) as pool:
        running = [pool.submit(cycle, names[lane::lanes]) for lane in range(lanes)]
        try:
            yield rounds
        finally:
            over.set()
            for one in running:
                one.result()


def _failed_calls(machine: Machine) -> list[str]:
    """Answer what dockerd said about calls that it had to repeat, or that failed."""
    words = ("Unable to connect to plugin", "NetworkDriver.", "IpamDriver.", "driver error")
    return [line for line in machine.journal("docker.service").splitlines() if any(word in line for word in words)]


def test_other_network_software_keeps_its_hands_off(machine: Machine) -> None:
    create(machine, "dcos")
    limited = "name=dcos,driver-opt=egress=10mbit"
    machine.docker("run", "-d", "--name", "one", "--network", limited, NAME, "sleep", "100000")
    machine.write("/etc/systemd/network/50-all.network", "[Match]\nName=d-* dn*\n\n[Network]\nAddress=10.9.9.9/24\n")
    # It waits for udev, which runs in no container, unless /sys is read-only.
    machine.write("/run/systemd/system/systemd-networkd.service.d/lab.conf", "[Service]\nReadOnlyPaths=/sys\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "systemd-networkd.service")
    try:
        shown = machine.run("networkctl", "--no-legend", "--no-pager").splitlines()
        states = {words[1]: words[4] for words in map(str.split, shown) if words[1].startswith("d")}
        assert "d-dcos" in states
        assert {link[:3] for link in states if link.startswith("dn")} == {"dni", "dne"}
        assert {link: state for link, state in states.items() if state != "unmanaged"} == {}
    finally:
        machine.systemctl("stop", "systemd-networkd.service", "systemd-networkd.socket")
        machine.run("rm", "/etc/systemd/network/50-all.network")
    assert reaches(machine, "one", "9.0.0.129")


def test_forwarding_stays_on_when_kernel_settings_are_applied_anew(machine: Machine) -> None:
    """And IPv6's stays as it is: the host may have its default route from a router that it would hear no more."""
    keys = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    machine.run("sysctl", "-qw", *(f"{key}=0" for key in keys))
    # Of these keys alone: others are not the machine's, they are the kernel's.
    machine.run("sysctl", "--system", "--pattern", "|".join(f"^{key}$" for key in keys))
    assert machine.run("sysctl", "-n", *keys).split() == ["1", "0"]


def test_uninstalling_refuses_while_networks_are_there(machine: Machine) -> None:
    create(machine, "dcos")
    machine.docker("network", "create", "--ipam-driver", "dni", "--subnet", "10.68.0.0/24", "lan")
    refused = machine.make("uninstall")
    assert refused.returncode != 0
    command = refused.stderr.partition("(docker network rm ")[2].partition(")")[0]
    assert set(command.split()) == {"dcos", "lan"}
    assert machine.systemctl("is-active", *UNITS).split() == ["active"] * 3


def test_uninstalling_refuses_while_dni_up_would_go_on_without_its_files(machine: Machine) -> None:
    machine.systemctl("stop", *UNITS)
    machine.run("sh", "-c", "dni up > /dev/null 2>&1 & echo $! > /run/up.pid")
    host_state.eventually(lambda: machine.run("ls", "/run/dni").find("up.lock") >= 0 or None, 20, "it does not start")
    refused = machine.make("uninstall")
    assert refused.returncode != 0
    assert f"dni up runs here (pid {machine.run('cat', '/run/up.pid').strip()}): end it first" in refused.stderr
    assert machine.run("dni", "--version")
    machine.run("sh", "-c", "kill $(cat /run/up.pid); tail --pid=$(cat /run/up.pid) -f /dev/null; rm /run/up.pid")
    machine.systemctl("enable", "--now", "dni-plugin")
    host_state.eventually(
        lambda: machine.systemctl("is-active", *UNITS).split() == ["active"] * 3 or None, 20, "it is not back"
    )


def test_uninstalling_leaves_nothing_but_the_store_unless_that_shall_go_too(
    machine: Machine, untouched: list[str]
) -> None:
    machine.docker(*CREATE, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    machine.docker("network", "rm", "dev")
    _be_among_others(machine)
    written = _with_configurations_of_cni(machine)
    assert "kept: /var/lib/dni (PURGE=1 removes it too)" in _make(machine, "uninstall")
    assert machine.run("ls", written) == ""
    machine.run("rm", "-r", written, "/etc/dni/dni.toml")
    assert [line for line in _trace(machine) if "/var/lib/dni" not in line] == untouched
    _unpack(machine)
    assert [overlay["name"] for overlay in host_state.overlays(machine)] == ["dcos", "dev"]
    machine.dni("overlay", "rm", "dev")
    _make(machine, "uninstall", "PURGE=1")
    assert _trace(machine) == untouched
    _unpack(machine)


def _be_among_others(machine: Machine) -> None:
    """Have the registry know another host, and the kernel too."""
    rows = (
        "agent VALUES ('198.51.100.77', '44.128.0.2/20', 'other', 'b', 0, 0, NULL)",
        "lease (overlay, subnet, agent_ip) VALUES ('dcos', '9.0.7.0/24', '198.51.100.77')",
    )
    script = "; ".join(f'tx.execute("INSERT INTO {row}")' for row in rows)
    opened = "import sqlite3; tx = sqlite3.connect('/var/lib/dni/registry.db', isolation_level=None)"
    machine.run("/usr/local/lib/dni/bin/python", "-c", f"{opened}; {script}")
    host_state.eventually(lambda: _knows_the_other(machine) or None, 20, "it is not known to the kernel")


def _knows_the_other(machine: Machine) -> bool:
    known = machine.try_run("sh", "-c", "ip route show proto 64; bridge fdb show dev vtep1024").stdout
    return all(
        text in known for text in ("9.0.7.0/24 via 44.128.0.2 dev vtep1024", "dst 198.51.100.77 self permanent")
    )


def _with_configurations_of_cni(machine: Machine) -> str:
    """Have the agent write some; answer the directory."""
    directory = "/var/lib/dni/net.d"
    setting = f"mkdir -p /etc/dni; printf '[cni]\\ndirectory = \"{directory}\"\\n' > /etc/dni/dni.toml"
    machine.run("sh", "-c", setting)
    machine.systemctl("restart", "dni-agent.service")
    files = [f"{directory}/{overlay}.conf" for overlay in ("dcos", "dev")]
    host_state.eventually(lambda: machine.try_run("ls", *files).returncode == 0, 20, "no file was written")
    return directory
