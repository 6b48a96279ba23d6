# SPDX-License-Identifier: Apache-2.0
"""Beside DC/OS and Mesos: containers as Mesos starts them, overlays as Mesos gives them, and how full a host is."""

from __future__ import annotations

import json
import sys
from ipaddress import IPv4Address
from typing import Any

from tests.e2e import dcos_host, host_state
from tests.e2e.cni import Runtime
from tests.e2e.containers import CREATE, create, inside, reaches, refused, serve, start
from tests.lab import Host, Lab
from tests.lab.image import NAME
from tests.mesos_agent import overlay

CONTAINER_ID = "e790a1a4-5b0c-4f6e-9d0e-2f9a6d5b7c11"
TASK = "docker-on-dcos.0ebe53e8-1c2d-11e9-a6a4-70b3d5800001"
QUERY = r"\0\036\022\064\001\0\0\001\0\0\0\0\0\0\006leader\005mesos\0\0\001\0\001"
"""For the address of leader.mesos, as a name server is asked over TCP, in words of `printf`."""

FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())"


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
        *("--cpu-shares", "102", "--cpu-quota", "10000", "--memory-reservation", "67108864", "--memory", "134217728"),
        *("--oom-score-adj", "500", *variables, "-v", f"{host.directory}/sandbox:/mnt/mesos/sandbox"),
        *("--net", "dcos", "--dns", dcos_host.RESOLVER, "--dns-search", "mesos", "--hostname", "docker-on-dcos"),
        *("-p", "31080:8080/tcp", "--entrypoint", "/bin/sh", "--name", name, f"--label=MESOS_TASK_ID={TASK}"),
    )
    host.docker("-H", "unix:///run/docker.sock", "run", "-d", *words, NAME, "-c", "exec httpd -f -p 8080 -h /etc")
    address = _as_mesos_finds_it(host, name)
    assert address == "9.0.0.130"
    for url in (f"http://{address}:8080", "http://127.0.0.1:31080", f"http://{host.address}:31080"):
        assert "root:" in fetch(host, f"{url}/passwd")
    assert "root:" in lab.outside.run("curl", "-sS", "-m", "30", f"http://{host.address}:31080/passwd")
    (row,) = host_state.eventually(
        lambda: [row for row in host_state.held(host) if row["container"]] or None, 10, "the name is not known"
    )
    assert (row["container"], row["address"]) == (name, address)
    assert inside(host, name, "hostname") == "docker-on-dcos"
    with dcos_host.names_on(host, "leader.mesos"):
        _asks_the_resolver(host, name)


def _asks_the_resolver(host: Host, name: str) -> None:
    """Names are answered by the host itself, at an address that only its loopback has."""
    for words in (("leader.mesos",), ("leader.mesos", dcos_host.RESOLVER)):
        told = lambda: host.address in _looked_up(host, name, *words)  # noqa: B023, E731
        host_state.eventually(told, 10, f"no answer to {words}")
    assert "NXDOMAIN" in _looked_up(host, name, "nobody.mesos", dcos_host.RESOLVER)
    assert inside(host, name, "ping", "-c", "1", "-W", "2", "leader"), "found by --dns-search"
    packed = IPv4Address(host.address).packed.hex(" ")
    over_tcp = f"printf '{QUERY}' | nc -w 3 {dcos_host.RESOLVER} 53 | od -An -v -tx1"
    assert packed in " ".join(inside(host, name, "sh", "-c", over_tcp).split())


def _looked_up(host: Host, name: str, *words: str) -> str:
    return host.try_docker("exec", name, "nslookup", *words).stdout


def test_what_mesos_has_no_words_for_reaches_a_task_through_parameters(fresh_host: Host) -> None:
    """Each parameter is a word of `docker run`; of `network` Mesos makes its own `--net`."""
    host = fresh_host
    create(host, "--subnet", "9.0.0.0/8", "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    host.docker("network", "rm", "dev")
    host.docker("network", "create", "-d", "dni", "--ipam-driver", "null", "-o", "overlay=dev", "dev")
    asked = {
        "mesos-ip": ("--net", "dcos", "--name", "mesos-ip", "--ip=9.0.0.200", "--net-alias=web"),
        "mesos-rate": (
            "--net",
            "name=dcos,driver-opt=dni.egress=10mbit,driver-opt=dni.groups=db",
            "--name",
            "mesos-rate",
        ),
        "mesos-label": (
            *("--net", "dcos", "--name", "mesos-label"),
            *("--label=dni.egress=20mbit", "--label=dni.groups=public,web"),
        ),
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
    wanted = {
        "9.0.0.200": (None, []),
        "9.0.0.130": (10_000_000, ["db"]),
        "9.0.0.131": (20_000_000, ["public", "web"]),
        "10.64.0.200": (None, []),
    }

    def told() -> dict[str, tuple[int | None, list[str]]]:
        return {row["address"]: (row["egress"], row["groups"]) for row in host_state.held(host)}

    host_state.eventually(lambda: told() == wanted, 20, "limits and groups are not those of options and labels")
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

    status = [line.split() for line in host.dni("status").splitlines()]
    assert ["dcos", "Mesos", "IPv4", "125", "2", "0", "123", "1", "%", "-"] in status

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


def test_on_a_host_of_dcos_containers_get_addresses_of_the_half_that_mesos_has_given(fresh_host: Host) -> None:
    """The steps are those of docs/moving-from-dcos.md, on a host whose network is still the one that Mesos made."""
    host = fresh_host
    with dcos_host.mesos_on(host) as mesos:
        dcos_host.make_network(host, "9.0.2.128/25")
        host.run("iptables", "-w", "-I", "DOCKER-ISOLATION-STAGE-2", "1", "-j", "RETURN")
        mesos.start(overlay())
        host.start_dni(**host_state.SETTINGS, registry_url=mesos.url)
        _eventually_told(host, "has driver 'bridge'")
        host.docker("network", "rm", "dcos")
        host.run("iptables", "-D", "DOCKER-ISOLATION-STAGE-2", "-j", "RETURN")
        (taken,) = host_state.eventually(lambda: host_state.overlays(host) or None, 20, "nothing was taken over")
        assert (taken["agent_subnets"], taken["docker_halves"]) == (["9.0.2.0/24"], ["9.0.2.128/25"])
        _eventually_there(host)
        assert start(host, "c1") == "9.0.2.130"
        assert start(host, "c2") == "9.0.2.131"
        assert inside(host, "c1", "ping", "-c", "1", "-W", "2", "9.0.2.131")
        host_state.eventually(lambda: not _is_masqueraded(host), 20, "masquerade is not left to Mesos")
        assert '"d-dcos" : jump to-dcos' in _rules(host)
        assert '"m-dcos" : jump' not in _rules(host)
        assert host_state.findings(host) == []
        done = host.try_dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16")
        assert "is not one of Mesos' (dcos)" in done.stderr


def test_every_state_of_mesos_is_told_and_containers_go_on(fresh_host: Host) -> None:
    """They are those of docs/moving-from-dcos.md. Mesos starts anew for each, and dni's agent, to look at once."""
    host = fresh_host
    with dcos_host.mesos_on(host) as mesos:
        mesos.start()
        host.start_dni(**host_state.SETTINGS, registry_url=mesos.url)
        _eventually_told(host, f"Mesos has given agent {host.address} no overlay yet: its overlay module has not")
        assert "this host has no agent subnet of overlay 'dcos' yet: `dni status` shows" in refused(
            host, *CREATE, "dcos"
        )

        mesos.start(overlay(state={"status": "STATUS_CONFIGURING"}))
        _eventually_there(host)
        assert start(host, "c1") == "9.0.2.130"
        serve(host, "c1")
        _eventually_told(host, "Mesos has not configured overlay 'dcos' on this agent yet: until it has, dcos-net")
        assert _is_masqueraded(host)

        mesos.start(overlay(state={"status": "STATUS_FAILED", "error": "Failed to execute 'sh': No chain"}))
        _look_now(host)
        _eventually_told(host, "dcos-net routes it to no other host: Failed to execute 'sh': No chain")
        _goes_on(host, "c2", "9.0.2.131")

        mesos.start(overlay(docker_bridge={"ip": "9.0.2.128/25", "name": "d-dcos"}))
        _look_now(host)
        host_state.eventually(lambda: not host_state.problems(host), 20, "there is still a problem")
        host_state.eventually(lambda: not _is_masqueraded(host), 20, "masquerade is not left to Mesos")
        _goes_on(host, "c3", "9.0.2.132")
        told_of = ask_socket(host, "/overlay-master/state")
        assert [one["ip"] for one in told_of["agents"]] == [host.address], (
            "of other agents Mesos tells an agent nothing"
        )
        assert [one["name"] for one in told_of["network"]["overlays"]] == ["dcos"]

        mesos.stop()
        _look_now(host)
        _eventually_told(host, f"the Mesos agent at http://{host.address}:5051 does not answer: Connection refused")
        _goes_on(host, "c4", "9.0.2.133")
        asked = ("curl", "-sS", "-w", " %{http_code}", "--unix-socket", "/run/dni/dni.sock")
        assert host.run(*asked, "http://dni/overlay-master/state").endswith(" 503")
        assert ask_socket(host, "/overlay-agent/overlay")["overlays"][0]["subnet"] == "9.0.2.0/24"
        assert host_state.findings(host) == []

        mesos.start(overlay(subnet="9.0.5.0/24", mesos_bridge={"ip": "9.0.5.0/25", "name": "m-dcos"}))
        told = "Mesos gives this agent 9.0.5.0/24 of it now, no longer 9.0.2.0/24"
        _eventually_told(host, told)
        assert told in refused(host, "run", "--net", "dcos", NAME, "true")
        _answers(host)
        host.docker("rm", "-f", "c1", "c2", "c3", "c4")
        host.docker("network", "rm", "dcos")
        _eventually_there(host)
        assert start(host, "c1") == "9.0.5.130"


def _goes_on(host: Host, name: str, address: str) -> None:
    """A container that runs answers the host and a new one, which has the next address."""
    _answers(host)
    assert start(host, name) == address
    assert reaches(host, name, "9.0.2.130")


def _answers(host: Host) -> None:
    assert fetch(host, "http://9.0.2.130:9000/") == "c1"


def _look_now(host: Host) -> None:
    host.kill_dni("agent")


def _eventually_told(host: Host, words: str) -> None:
    told = lambda: any(words in problem for problem in host_state.problems(host))  # noqa: E731
    host_state.eventually(told, 30, f"it is not told: {words}")


def _eventually_there(host: Host) -> None:
    made = ("network", "inspect", "-f", "{{.Driver}}", "dcos")
    host_state.eventually(lambda: host.try_docker(*made).stdout.strip() == "dni", 40, "no network was made")


def _is_masqueraded(host: Host) -> bool:
    return "masquerade" in _rules(host)


def _rules(host: Host) -> str:
    return host.run("nft", "list", "table", "inet", "dni")


def test_a_module_that_finds_the_network_there_changes_nothing_for_containers(lab: Lab, fresh_host: Host) -> None:
    """With `docker_bridge` on it leaves the network that dni made first, and turns Docker's own isolation off."""
    host = fresh_host
    create(host, "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    host.docker("network", "create", "plain")
    one, other = start(host, "c1"), start(host, "c2")
    aside, plain = start(host, "dev1", net="dev"), start(host, "plain1", net="plain")
    serve(host, "c1")
    options = host.docker("network", "inspect", "-f", "{{json .IPAM}} {{json .Options}} {{.Driver}}", "dcos")
    assert not _pings(host, "plain1", one), "apart before, and by Docker's isolation too"
    dcos_host.run_module(host)
    try:
        assert reaches(host, "c1", other)
        assert reaches(host, "c2", one)
        assert fetch(host, f"http://{one}:9000/") == "c1"
        assert inside(host, "c1", "wget", "-q", "-O", "-", lab.outside.echo_url) == host.address
        assert not _pings(host, "dev1", one)
        assert not _pings(host, "plain1", one)
        assert not _pings(host, "c1", aside)
        assert not _pings(host, "c1", plain)
        assert host_state.findings(host) == []
        assert (
            host.docker("network", "inspect", "-f", "{{json .IPAM}} {{json .Options}} {{.Driver}}", "dcos") == options
        )
        assert host.run("iptables", "-S", "DOCKER-ISOLATION-STAGE-2", "1").endswith("-j RETURN"), "it is Mesos'"
    finally:
        dcos_host.undo_module(host)


def _pings(host: Host, name: str, target: str) -> bool:
    return host.try_docker("exec", name, "ping", "-c", "1", "-W", "1", target).returncode == 0
