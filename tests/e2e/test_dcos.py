# SPDX-License-Identifier: Apache-2.0
"""Beside DC/OS and Mesos: containers as Mesos starts them, overlays as Mesos gives them, and how full a host is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import mesos_agent
from tests.e2e import host_state
from tests.e2e.cni import Runtime
from tests.e2e.containers import create, inside, start
from tests.lab import Host, Lab
from tests.lab.image import NAME

CONTAINER_ID = "e790a1a4-5b0c-4f6e-9d0e-2f9a6d5b7c11"
TASK = "docker-on-dcos.0ebe53e8-1c2d-11e9-a6a4-70b3d5800001"
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"


def fetch(host: Host, url: str) -> str:
    """Answer what a URL answers to a process of the host."""
    return host.run(sys.executable, "-c", FETCH, url)


def ask_socket(host: Host, target: str) -> Any:
    """Answer what the operator API answers at its socket to who does not use `dni`."""
    return json.loads(host.run("curl", "-sS", "--unix-socket", "/run/dni/dni.sock", f"http://dni{target}"))


def test_a_container_started_as_mesos_starts_it_is_found_as_mesos_finds_it(lab: Lab, fresh_host: Host) -> None:
    """The arguments are those of Mesos' Docker containerizer for a task that Marathon sends, in its order."""
    host = fresh_host
    create(host, "dcos")
    name = f"mesos-{CONTAINER_ID}"
    limits = ("--cpu-shares", "102", "--memory", "134217728")
    environment = {
        "MARATHON_APP_ID": "/docker-on-dcos",
        "MESOS_TASK_ID": TASK,
        "HOST": host.address,
        "PORT0": "8080",
        "MESOS_SANDBOX": "/mnt/mesos/sandbox",
        "MESOS_CONTAINER_NAME": name,
        "MESOS_ALLOCATION_ROLE": "slave_public",
    }
    variables = [word for key, value in environment.items() for word in ("-e", f"{key}={value}")]
    host.run("mkdir", "-p", f"{host.directory}/sandbox")
    words = (
        *limits,
        *variables,
        *("-v", f"{host.directory}/sandbox:/mnt/mesos/sandbox"),
        *("--net", "dcos", "-p", "31080:8080/tcp", "--entrypoint", "/bin/sh", "--name", name),
        f"--label=MESOS_TASK_ID={TASK}",
    )
    host.docker("run", "-d", *words, NAME, "-c", "exec httpd -f -p 8080 -h /etc")
    address = _as_mesos_finds_it(host, name)
    assert address == "9.0.0.130"
    for url in (f"http://{address}:8080", "http://127.0.0.1:31080", f"http://{host.address}:31080"):
        assert "root:" in fetch(host, f"{url}/passwd")
    assert "root:" in lab.outside.run("curl", "-sS", "-m", "5", f"http://{host.address}:31080/passwd")
    (row,) = host_state.eventually(
        lambda: [row for row in host_state.held(host) if row["container"]] or None, 10, "the name is not known"
    )
    assert (row["container"], row["address"]) == (name, address)


def test_what_mesos_has_no_words_for_reaches_a_task_through_parameters(fresh_host: Host) -> None:
    """Each parameter is a word of `docker run`; of `network` Mesos makes its own `--net`."""
    host = fresh_host
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    host.docker("network", "rm", "dev")
    host.docker("network", "create", "-d", "dni", "--ipam-driver", "null", "-o", "overlay=dev", "dev")
    asked = {
        "mesos-ip": ("--net", "dcos", "--name", "mesos-ip", "--ip=9.0.0.200", "--net-alias=web"),
        "mesos-rate": ("--net", "name=dcos,driver-opt=dni.egress=10mbit", "--name", "mesos-rate"),
        "mesos-label": ("--net", "dcos", "--name", "mesos-label", "--label=dni.egress=20mbit"),
        "mesos-address": ("--net", "name=dev,driver-opt=dni.address=10.64.0.200", "--name", "mesos-address"),
    }
    for words in asked.values():
        host.docker("run", "-d", *words, NAME, "sleep", "100000")
    found = {name: _as_mesos_finds_it(host, name) for name in asked}
    assert found == {
        "mesos-ip": "9.0.0.200",
        "mesos-rate": "9.0.0.130",
        "mesos-label": "9.0.0.131",
        "mesos-address": "10.64.0.200",
    }
    rates = {"9.0.0.200": None, "9.0.0.130": 10_000_000, "9.0.0.131": 20_000_000, "10.64.0.200": None}
    told = lambda: {row["address"]: row["egress"] for row in host_state.held(host)} == rates  # noqa: E731
    host_state.eventually(told, 20, "the limits are not those of options and labels")
    assert inside(host, "mesos-rate", "ping", "-c", "1", "-W", "2", "web")


def _as_mesos_finds_it(host: Host, name: str) -> str:
    """Answer the address that Mesos reports of a task."""
    (inspected,) = json.loads(host.docker("inspect", name))
    mode = inspected["HostConfig"]["NetworkMode"]
    return str(inspected["NetworkSettings"]["Networks"][mode]["IPAddress"])


def test_people_schedulers_prometheus_and_dcos_net_read_how_full_a_host_is(fresh_host: Host) -> None:
    host = fresh_host
    host.stop_dni()
    host.start_dni(**host_state.SETTINGS, api_listen="62090")
    host_state.eventually(lambda: host_state.overlays(host) or None, 20, "there is no overlay yet")
    create(host, "dcos")
    start(host, "c1")
    runtime = Runtime(host)
    for name in ("m1", "m2"):
        runtime.start(name, runtime.configuration("dcos", "--plain"))

    usage = json.loads(host.dni("overlay", "usage", "dcos", "--json"))
    ((subnet,),) = ([*agent["subnets"]] for agent in usage["agents"])
    assert usage["agents"][0]["agent"] == host.address
    assert (subnet["docker"]["used"], subnet["docker"]["free"]) == (1, 124)
    assert (subnet["mesos"]["used"], subnet["mesos"]["free"]) == (2, 123)
    text = host.dni("overlay", "usage", "dcos")
    assert "9.0.0.128/25" in text
    assert "9.0.0.0/25" in text

    assert ask_socket(host, "/v1/overlays/dcos/room?count=124")["room"] is True
    assert json.loads(fetch(host, "http://127.0.0.1:62090/v1/overlays/dcos/room?count=125"))["room"] is False

    metrics = fetch(host, "http://127.0.0.1:62090/metrics").splitlines()
    assert 'dni_addresses{family="ipv4",half="docker",overlay="dcos",state="used"} 1.0' in metrics
    assert 'dni_addresses{family="ipv4",half="mesos",overlay="dcos",state="used"} 2.0' in metrics
    assert 'dni_endpoints{overlay="dcos"} 1.0' in metrics

    told = json.loads(fetch(host, "http://127.0.0.1:62090/overlay-agent/overlay"))
    assert told == ask_socket(host, "/overlay-agent/overlay")
    assert told["ip"] == host.address
    assert told["overlays"][0]["docker_bridge"] == {"ip": "9.0.0.128/25", "name": "d-dcos"}
    refused = host.try_run("curl", "-sS", "-X", "POST", "http://127.0.0.1:62090/overlay-master/agents/delete")
    assert refused.stdout == "over TCP nothing is changed: ask at the socket, as `dni` does"
    runtime.stop_all()


@contextmanager
def _mesos(host: Host) -> Iterator[str]:
    """Have a Mesos agent of DC/OS answer on the host's own address; answer what registry.url says for it."""
    answer = mesos_agent.agent(mesos_agent.overlay(), ip=host.address)
    argv = (sys.executable, "-m", "tests.mesos_agent", host.address, "5051", json.dumps(answer))
    process = host.spawn(*argv, log=host.directory / "mesos.log")
    try:
        yield f"mesos://{host.address}:5051"
    finally:
        process.kill()
        process.wait(10)


def _make_network_as_mesos_does(host: Host) -> None:
    """Leave in Docker what the overlay module of a Mesos agent makes there, with `docker_bridge` on."""
    options = {
        "com.docker.network.bridge.name": "d-dcos",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.driver.mtu": "1420",
    }
    words = [f"--opt={key}={value}" for key, value in options.items()]
    host.docker("network", "create", "--driver=bridge", *words, "--subnet=9.0.2.128/25", "dcos")
    host.run("iptables", "-w", "-I", "DOCKER-ISOLATION-STAGE-2", "1", "-j", "RETURN")


def test_on_a_host_of_dcos_containers_get_addresses_of_the_half_that_mesos_has_given(fresh_host: Host) -> None:
    """The steps are those of docs/moving-from-dcos.md, on a host whose network is still the one that Mesos made."""
    host = fresh_host
    host.stop_dni()
    host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
    _make_network_as_mesos_does(host)
    try:
        with _mesos(host) as url:
            host.start_dni(**host_state.SETTINGS, registry_url=url)
            host_state.eventually(
                lambda: any("has driver 'bridge'" in problem for problem in host_state.problems(host)), 30, "no word"
            )
            host.docker("network", "rm", "dcos")
            host.run("iptables", "-D", "DOCKER-ISOLATION-STAGE-2", "-j", "RETURN")
            (overlay,) = host_state.eventually(
                lambda: host_state.overlays(host) or None, 20, "nothing was taken over"
            )
            assert (overlay["agent_subnets"], overlay["docker_halves"]) == (["9.0.2.0/24"], ["9.0.2.128/25"])
            made = ("network", "inspect", "-f", "{{.Driver}}", "dcos")
            host_state.eventually(lambda: host.try_docker(*made).stdout.strip() == "dni", 40, "no network was made")
            assert start(host, "c1") == "9.0.2.130"
            assert start(host, "c2") == "9.0.2.131"
            assert inside(host, "c1", "ping", "-c", "1", "-W", "2", "9.0.2.131")
            host_state.eventually(lambda: "masquerade" not in _rules(host), 20, "masquerade is not left to Mesos")
            assert host_state.findings(host) == []
            done = host.try_dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16")
            assert "is not one of Mesos' (dcos)" in done.stderr
        # Mesos is away: containers go on, and new ones start.
        assert start(host, "c3") == "9.0.2.132"
        host_state.eventually(
            lambda: any("does not answer" in problem for problem in host_state.problems(host)), 70, "it is not told"
        )
    finally:
        host_state.clear(host)
        host_state.reset(host)


def _rules(host: Host) -> str:
    return host.run("nft", "list", "table", "inet", "dni")
