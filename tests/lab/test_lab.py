# SPDX-License-Identifier: Apache-2.0
"""The lab itself: real containers on each engine at hand, and no trace afterwards."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import CommandError, Host, Lab, LabError, Machine, Node, Outside, births, engines, procfs
from tests.lab.node import REPOSITORY
from tests.lab.traces import Traces, named_for

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=engines.SUITES)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    if not engines.is_at_hand(request.param):
        pytest.skip(f"engine {request.param} is not prepared: python -m tests.lab engine {request.param}")
    with Lab(hosts=2, engine=request.param) as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.hosts[0]


def test_a_container_reaches_the_outside_with_its_hosts_address(lab: Lab, host: Host) -> None:
    assert host.docker("run", "--rm", "busybox", "wget", "-qO-", lab.outside.echo_url) == host.address


def test_a_container_without_masquerade_is_seen_by_its_own_address(lab: Lab, host: Host) -> None:
    bare = "com.docker.network.bridge.enable_ip_masquerade=false"
    routed = "com.docker.network.bridge.gateway_mode_ipv4=routed"  # what Engine 28 wants besides
    host.docker(*f"network create --subnet 10.99.0.0/24 -o {bare} -o {routed} bare".split())
    lab.outside.run(*f"ip route add 10.99.0.0/24 via {host.address}".split())
    try:
        ask = f"run --rm --net bare --ip 10.99.0.7 busybox wget -qO- {lab.outside.echo_url}"
        assert host.docker(*ask.split()) == "10.99.0.7"
    finally:
        lab.outside.run("ip", "route", "del", "10.99.0.0/24")
        host.docker("network", "rm", "bare")


def test_hosts_reach_each_other_and_the_world_over_both_families(lab: Lab) -> None:
    one, other = lab.hosts
    for target in (other.address, other.address6, lab.outside.world, lab.outside.world6):
        one.run("busybox", "ping", "-c1", "-W2", target)


def test_the_image_has_what_tests_run(host: Host) -> None:
    applets = ["sh", "ping", "wget", "nc", "httpd", "ip", "arping", "sleep"]
    assert host.docker("run", "--rm", "busybox", "which", *applets).split() == [f"/bin/{name}" for name in applets]


def test_containers_find_each_other_by_name(host: Host) -> None:
    host.docker("network", "create", "named")
    server = host.docker("run", "-d", "--rm", "--net", "named", "--name", "server", "busybox", "sleep", "60")
    try:
        host.docker("run", "--rm", "--net", "named", "busybox", "ping", "-c1", "-W2", "server")
    finally:
        host.docker("rm", "-f", server)
        host.docker("network", "rm", "named")


def test_docker_drops_what_is_forwarded_and_bridged_frames_meet_its_rules(host: Host) -> None:
    assert "-P FORWARD DROP" in host.run("iptables", "-S", "FORWARD")
    assert "-N DOCKER-USER" in host.run("iptables", "-S")
    assert host.run("cat", "/proc/sys/net/bridge/bridge-nf-call-iptables") == "1"


def test_the_base_namespace_sees_dockers_sockets_and_network_namespaces(host: Host) -> None:
    container = host.docker("run", "-d", "--rm", "busybox", "sleep", "60")
    try:
        key = host.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container)
        links = host.run("nsenter", f"--net={key}", "ip", "-o", "link")
    finally:
        host.docker("rm", "-f", container)
    assert "eth0" in links
    assert host.path("/run/docker.sock").is_socket()


PLUGIN = """if True:
    import os, socket, sys, time
    os.makedirs("/run/docker/plugins", exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    caller, _ = listener.accept()
    caller.recv(4096)
    caller.sendall(sys.argv[2].encode())
    os.unlink(sys.argv[1])
    time.sleep(float(sys.argv[3]))
"""
"""Answers one call, as a plugin of the base namespace; what follows says where, what, and for how long it stays."""


def test_dockerd_finds_a_plugin_of_the_base_namespace(host: Host) -> None:
    """It implements nothing, which dockerd can tell only by asking it."""
    answer = 'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"Implements":[]}'
    plugin = host.spawn(sys.executable, "-c", PLUGIN, "/run/docker/plugins/hollow.sock", answer, "0")
    refusal = host.try_docker("network", "create", "-d", "hollow", "n").stderr
    assert "does not implement" in refusal
    assert plugin.wait(60) == 0


def test_a_docker_command_that_takes_too_long_tells_what_dockerd_waits_for(host: Host) -> None:
    plugin = host.spawn(sys.executable, "-c", PLUGIN, "/run/docker/plugins/silent.sock", "", "60")
    with pytest.raises(CommandError, match=r"(?s)ran out of time.*goroutine \d+ \[.*plugins\.\(\*Client\)\.call"):
        host.docker("network", "create", "-d", "silent", "n", timeout=5)
    plugin.kill()
    plugin.wait()


def test_sys_class_net_and_the_host_name_are_the_hosts_own(lab: Lab) -> None:
    for host in lab.hosts:
        assert set(host.run("ls", "/sys/class/net").split()) >= {"lo", "eth0", "docker0"}
        assert host.run("hostname") == host.name


def test_a_failed_command_says_what_it_printed(host: Host) -> None:
    with pytest.raises(CommandError, match="No such container: nobody"):
        host.docker("inspect", "--type", "container", "nobody")
    assert host.try_docker("inspect", "--type", "container", "nobody").returncode == 1


def test_a_command_that_takes_too_long_is_ended(host: Host) -> None:
    with pytest.raises(CommandError, match="ran out of time"):
        host.run("sleep", "3600.125", timeout=0.2)
    assert "3600.125" not in host.run("ps", "axww")


def test_a_spawned_process_has_the_pid_that_is_told(host: Host) -> None:
    log = host.directory / "pid.log"
    process = host.spawn("sh", "-c", "echo $$; exec sleep 60", log=log)
    while not log.read_text():
        time.sleep(0.01)
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"NSpid:\t{process.pid}\t{log.read_text().strip()}\n" in status
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_a_directory_of_the_host_can_be_mounted_in_a_container(host: Host) -> None:
    (host.directory / "note").write_text("hello")
    assert host.docker("run", "--rm", "-v", f"{host.directory}:/here", "busybox", "cat", "/here/note") == "hello"


def test_a_container_outlives_kill_and_restart_of_dockerd_with_live_restore(lab: Lab) -> None:
    host = lab.hosts[1]
    host.stop_dockerd()
    host.start_dockerd(live_restore=True)
    container = host.docker("run", "-d", "busybox", "sleep", "600")
    born = host.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", container)
    for end in (host.kill_dockerd, host.stop_dockerd):
        end()
        host.start_dockerd(live_restore=True)
        assert host.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", container) == born
        assert host.docker("exec", container, "echo", "alive") == "alive"
    host.docker("rm", "-f", container)


def test_a_container_ends_with_dockerd_without_live_restore(lab: Lab) -> None:
    host = lab.hosts[1]
    host.stop_dockerd()
    host.start_dockerd()
    container = host.docker("run", "-d", "--init", "busybox", "sleep", "600")
    host.stop_dockerd()
    host.start_dockerd()
    assert host.docker("inspect", "-f", "{{.State.Running}}", container) == "false"
    host.docker("rm", container)


def test_daemon_settings_reach_dockerd(lab: Lab) -> None:
    host = lab.hosts[1]
    host.stop_dockerd()
    host.start_dockerd(labels=["rack=7"], registry_mirrors=["http://192.0.2.1"])
    assert host.docker("info", "-f", "{{.Labels}} {{.RegistryConfig.Mirrors}}") == "[rack=7] [http://192.0.2.1/]"


def test_a_dockerd_that_does_not_start_says_why(lab: Lab) -> None:
    host = lab.hosts[1]
    host.stop_dockerd()
    with pytest.raises(LabError, match="nonsense"):
        host.start_dockerd(nonsense=True)
    host.start_dockerd()


def test_the_engine_is_of_the_version_asked_for(lab: Lab, request: pytest.FixtureRequest) -> None:
    engine = request.node.callspec.params["lab"]
    for side in ("Client", "Server"):
        assert lab.hosts[0].docker("version", "-f", f"{{{{.{side}.Version}}}}").startswith(f"{engine}.")


def test_nothing_is_left_after_a_lab_with_containers() -> None:
    links = _links()
    with Lab(hosts=1, machines=1) as lab:
        with_docker: list[Host | Machine] = [*lab.hosts, *lab.machines]
        for host in with_docker:
            host.docker("run", "-d", "busybox", "sleep", "600")
            host.spawn("sleep", "600")
        assert _links() == links
        traces = Traces(lab)
        assert len(traces.found()) > 20
    assert traces.found() == []
    assert _links() == links


def test_nothing_is_left_after_a_lab_that_is_interrupted_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(hosts=2)
    seen: list[Traces] = []

    def interrupt(_: Host) -> None:
        seen.append(Traces(lab))
        raise KeyboardInterrupt

    monkeypatch.setattr(Host, "wait_for_dockerd", interrupt)
    with pytest.raises(KeyboardInterrupt), lab:
        pass
    assert [traces.found() for traces in seen] == [[]]


def test_a_child_that_nobody_waits_for_does_not_keep_its_node() -> None:
    """Ctrl-C can come between its birth and the first look at it."""
    with Lab() as lab:
        traces = Traces(lab)
        with births.beside(lab.outside.pid):
            stray = subprocess.Popen(["sleep", "600"])
    assert traces.found() == []
    stray.wait()


def test_one_part_that_cannot_be_removed_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def remove_and_complain(outside: Outside) -> None:
        Node.remove(outside)
        raise LabError("stuck")

    monkeypatch.setattr(Outside, "remove", remove_and_complain)
    with pytest.raises(LabError, match="stuck"), Lab() as lab:
        traces = Traces(lab)
    assert traces.found() == []


def test_a_sweep_clears_the_lab_of_a_process_that_was_killed() -> None:
    argv = [sys.executable, "-m", "tests.lab", "up", "--hosts", "1"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as victim:
        _read_until(victim, "takes the lab down")
        victim.kill()
    run = f"dni-lab-{victim.pid}-"
    assert named_for(run) != []
    Lab.sweep()
    assert named_for(run) == []


def test_a_sweep_ends_keepers_that_outlived_their_lab() -> None:
    """A fork of the lab's process holds on to their standard input."""
    script = """if True:
        import os, time
        from tests.lab import Lab
        with Lab(dockerd=False) as lab:
            fork = os.fork()
            if fork == 0:
                time.sleep(600)
            print(fork, lab.hosts[0].pid, flush=True)
            os.kill(os.getpid(), 9)
    """
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=REPOSITORY) as victim:
        fork, keeper = map(int, _read_until(victim, " ").split())
    try:
        assert procfs.start_time(keeper) is not None
        Lab.sweep()
        assert procfs.start_time(keeper) is None
        assert named_for(f"dni-lab-{victim.pid}-") == []
    finally:
        os.kill(fork, signal.SIGKILL)


def test_control_c_takes_the_lab_of_the_command_line_down() -> None:
    argv = [sys.executable, "-m", "tests.lab", "up", "--hosts", "1"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as command:
        _read_until(command, "takes the lab down")
        command.send_signal(signal.SIGINT)
        assert command.wait(120) == 0
    assert named_for(f"dni-lab-{command.pid}-") == []


def test_the_command_line_tells_how_to_enter_a_host() -> None:
    """As `make lab` does: what it prints is a command line, and dni's networks can be made there."""
    argv = [sys.executable, "-m", "tests.lab", "up", "--hosts", "1", "--dni"]
    script = """
        hostname
        docker version --format '{{.Server.Version}}'
        docker network create -d dni --ipam-driver dni dcos > /dev/null
        docker run --rm --net dcos busybox ip -4 -o address show eth0
        dni check
    """
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as command:
        enter = _read_until(command, "nsenter")
        inside = subprocess.run(shlex.split(enter), input=script, capture_output=True, text=True, check=True)
        command.communicate(b"\n", timeout=120)
    name, engine, address, check = inside.stdout.splitlines()
    assert name == "h1"
    assert engine.startswith("20.10.")
    assert "inet 9.0.0.130/25" in address
    assert check == "All is well: records, kernel and Docker agree."


def test_a_sweep_leaves_living_labs_alone() -> None:
    with Lab() as lab:
        assert lab.hosts[0].directory.parent not in Lab.sweep()
        assert lab.hosts[0].docker("run", "--rm", "busybox", "echo", "here") == "here"


def _links() -> set[str]:
    """Answer the links of the machine's own network namespace."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _read_until(process: subprocess.Popen[bytes], text: str) -> str:
    """Answer the first line of output with the text in it."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"{process.args!r} ended without {text!r}")
