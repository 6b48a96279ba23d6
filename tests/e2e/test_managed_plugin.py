# SPDX-License-Identifier: Apache-2.0
"""dni as a managed plugin, which dockerd itself installs, starts, restarts and upgrades."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import address, inside, reaches, refused, serve, start
from tests.lab import Lab, Machine
from tests.lab.node import REPOSITORY

PLUGIN = "dni:latest"
CREATE = ("network", "create", "-d", PLUGIN, "--ipam-driver", PLUGIN)
REGISTRY = "127.0.0.1:5000"
GATEWAY = "9.0.0.129"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A machine with Docker, prepared for the plugin."""
    with Lab(hosts=0, machines=1, engine=ENGINE, dockerd=False) as lab:
        (machine,) = lab.machines
        machine.run("mkdir", "/var/lib/dni")
        machine.start_docker()
        yield lab


@pytest.fixture(scope="module")
def plugged(lab: Lab) -> Machine:
    """A machine with the plugin, and the `dni` command to ask it with."""
    machine = lab.machines[0]
    _make(machine)
    _provide_command(machine)
    machine.docker("plugin", "enable", PLUGIN)
    return machine


def _make(machine: Machine) -> None:
    """Build the plugin where there is a network, and create it on the machine."""
    argv = ["make", "--directory", str(REPOSITORY), "plugin", f"BUILD={machine.directory}/plugin"]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{machine.path('/run/docker.sock')}"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"docker plugin enable {PLUGIN}" in done.stdout


def _provide_command(machine: Machine) -> None:
    script = f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m dni_driver "$@"\n'
    machine.write("/usr/local/bin/dni", script)
    machine.run("chmod", "755", "/usr/local/bin/dni")


@pytest.fixture
def machine(plugged: Machine) -> Iterator[Machine]:
    """A machine with the plugin enabled, and nothing on it."""
    yield plugged
    containers = plugged.docker("ps", "-aq").split()
    if containers:
        plugged.docker("rm", "-f", *containers)
    for name in plugged.docker("network", "ls", "--format", "{{.Name}}").split():
        if name not in host_state.OURS:
            plugged.docker("network", "rm", name)
    host_state.eventually(lambda: host_state.held(plugged) == [] or None, 30, "addresses are still held")
    host_state.eventually(lambda: host_state.findings(plugged) == [] or None, 30, "dni check finds something")


def test_containers_reach_each_other_and_the_outside(machine: Machine, lab: Lab) -> None:
    machine.docker(*CREATE, "dcos")
    start(machine, "one")
    start(machine, "two", "-p", "80:9000")
    serve(machine, "two")
    assert lab.outside.run("curl", "-s", "-m", "30", f"http://{machine.address}/") == "two"
    assert machine.run("curl", "-s", "-m", "30", "http://127.0.0.1/") == "two"
    assert reaches(machine, "one", "two")
    assert reaches(machine, "one", GATEWAY)
    assert inside(machine, "one", "wget", "-q", "-O", "-", lab.outside.echo_url) == machine.address
    assert {row["address"] for row in host_state.held(machine)} == {address(machine, "one"), address(machine, "two")}


def test_the_plugin_sees_sandboxes_and_mends_what_is_deleted_by_hand(machine: Machine) -> None:
    machine.docker(*CREATE, "dcos")
    start(machine, "one")
    machine.run("sh", "-c", "nft delete table inet dni; iptables -F DNI-FORWARD; ip link del d-dcos")
    machine.run("sh", "-c", "for link in $(ls /sys/class/net | grep ^dni); do ip link del $link; done")
    machine.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    host_state.eventually(lambda: reaches(machine, "one", "198.51.100.1"), 25, "the outside is not reached")


def test_the_command_that_dni_suggests_can_be_typed_as_it_stands(machine: Machine) -> None:
    told = machine.dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--no-network")
    command = told.partition("Its Docker network on this host: ")[2]
    machine.run(*shlex.split(command))
    assert start(machine, "one", net="dev").startswith("10.64.0.")
    machine.docker("rm", "-f", "one")
    machine.docker("network", "rm", "dev")
    machine.dni("overlay", "rm", "dev")


def test_the_agent_makes_networks_under_the_plugins_own_name(machine: Machine) -> None:
    machine.dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16")
    assert start(machine, "one", net="dev").startswith("10.64.0.")
    machine.docker("rm", "-f", "one")
    machine.dni("overlay", "rm", "dev")
    assert "dev" not in machine.docker("network", "ls", "--format", "{{.Name}}").split()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-d", "dni", "--ipam-driver", PLUGIN), "could not resolve driver dni in registry"),
        (("-d", PLUGIN, "--ipam-driver", "dni"), "ipam driver"),
        (("-d", PLUGIN), f"use `docker network create -d {PLUGIN} --ipam-driver {PLUGIN} NAME`"),
    ],
    ids=["driver", "ipam-driver", "driver-alone"],
)
def test_the_name_must_be_typed_with_its_tag(machine: Machine, words: tuple[str, ...], text: str) -> None:
    assert text in refused(machine, "network", "create", *words, "dcos")


def test_a_network_keeps_the_plugin_from_being_disabled(machine: Machine) -> None:
    # Docker counts what uses a plugin, and counts wrong after `disable -f` and after its own restart with a network.
    machine.systemctl("restart", "docker.service")
    machine.docker(*CREATE, "dcos")
    assert f"plugin {PLUGIN} is in use" in refused(machine, "plugin", "disable", PLUGIN)


def test_a_killed_plugin_is_started_again_and_containers_go_on(machine: Machine) -> None:
    machine.docker(*CREATE, "dcos")
    start(machine, "one")
    machine.run("kill", "-9", _pid(machine))
    assert reaches(machine, "one", GATEWAY)
    assert start(machine, "two") != address(machine, "one")
    assert reaches(machine, "one", "two")


def _pid(machine: Machine) -> str:
    return machine.run("pgrep", "--full", "--oldest", "/usr/local/bin/dni-plugin")


def test_dockerd_restarts(machine: Machine) -> None:
    machine.docker(*CREATE, "dcos")
    start(machine, "keeper", "--restart", "always", "--stop-signal", "KILL")
    start(machine, "fleeting", "--stop-signal", "KILL")
    machine.systemctl("restart", "docker.service")
    host_state.eventually(lambda: reaches(machine, "keeper", GATEWAY), 20, "keeper is not back")
    assert [row["address"] for row in host_state.held(machine)] == [address(machine, "keeper")]


def test_a_wrong_setting_leaves_the_plugin_disabled_and_dockerds_log_says_why(machine: Machine) -> None:
    machine.docker("plugin", "disable", PLUGIN)
    machine.docker("plugin", "set", PLUGIN, "DNI_LOG_LEVEL=loud")
    refused(machine, "plugin", "enable", PLUGIN)
    assert r"DNI_LOG_LEVEL = \"loud\": must be" in machine.journal("docker.service")
    machine.docker("plugin", "set", PLUGIN, "DNI_LOG_LEVEL=debug")
    machine.docker("plugin", "enable", PLUGIN)
    begins = f"agent     {machine.address}"
    host_state.eventually(
        lambda: machine.try_dni("status").stdout.startswith(begins), 30, "the agent does not answer"
    )


def test_plugin_and_driver_on_a_socket_do_not_run_on_one_host(machine: Machine) -> None:
    assert f"`dni up` runs here already (managed plugin {PLUGIN})" in machine.try_dni("up").stderr
    machine.docker("plugin", "disable", PLUGIN)
    driver = machine.spawn("dni", "up")
    try:
        host_state.eventually(lambda: machine.try_dni("status").returncode == 0, 20, "dni up does not answer")
        # Docker takes `dni` for `dni:latest` as long as a plugin of that name is there.
        text = refused(machine, "network", "create", "-d", "dni", "--ipam-driver", "dni", "dcos")
        assert "found but disabled" in text
    finally:
        driver.terminate()
        driver.wait(60)
        machine.docker("plugin", "enable", PLUGIN)


def test_an_upgrade_keeps_networks_addresses_and_settings(machine: Machine) -> None:
    _publish(machine, f"{REGISTRY}/dni:2")
    machine.docker(*CREATE, "dcos")
    start(machine, "one")
    machine.docker("plugin", "disable", "-f", PLUGIN)
    machine.docker("plugin", "set", PLUGIN, "DNI_COLLECTOR_GRACE=600")
    machine.docker("plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", PLUGIN, f"{REGISTRY}/dni:2")
    assert reaches(machine, "one", GATEWAY)
    machine.docker("plugin", "enable", PLUGIN)
    assert machine.run("sh", "-c", "cat /var/lib/docker/plugins/*/rootfs/version") == "2"
    assert "DNI_COLLECTOR_GRACE=600" in machine.docker("plugin", "inspect", "-f", "{{.Settings.Env}}", PLUGIN)
    _works_on(machine)
    # Without a registry the plugin is removed and created anew: networks know it by its name.
    machine.docker("plugin", "disable", "-f", PLUGIN)
    machine.docker("plugin", "rm", "-f", PLUGIN)
    machine.docker("plugin", "install", "--grant-all-permissions", "--alias", PLUGIN, f"{REGISTRY}/dni:2")
    start(machine, "two")
    assert reaches(machine, "one", "two")


def _publish(machine: Machine, name: str) -> None:
    """Push another version of the plugin to a registry on the machine itself."""
    config = f"""
        version: 0.1
        storage: {{filesystem: {{rootdirectory: {machine.directory}/registry}}}}
        http: {{addr: {REGISTRY}}}
    """
    machine.write("/etc/registry.yml", config)
    machine.spawn("docker-registry", "serve", "/etc/registry.yml", log=machine.directory / "registry.log")
    (machine.directory / "plugin/rootfs/version").write_text("2")
    machine.docker("plugin", "create", name, f"{machine.directory}/plugin")
    machine.docker("plugin", "push", name)
    machine.docker("plugin", "rm", name)
    shutil.rmtree(machine.directory / "plugin")


def _works_on(machine: Machine) -> None:
    """Expect the container there was to reach others, to restart, and to have an address of its own."""
    assert start(machine, "two") != address(machine, "one")
    assert reaches(machine, "one", "two")
    machine.docker("restart", "-t", "0", "one")
    assert reaches(machine, "two", "one")
    machine.docker("rm", "-f", "two")
    assert [row["address"] for row in host_state.held(machine)] == [address(machine, "one")]
