# SPDX-License-Identifier: Apache-2.0
"""Published ports, as `docker run -p` and `-P` ask for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import host_state
from tests.e2e.containers import address, create, place, refused, start
from tests.lab import Host, Lab
from tests.lab.image import NAME
from tests.lab.node import Node

DUAL = ("--ipv6", "--subnet", "10.65.0.0/16", "--subnet", "fd01:e::/64", "--ipam-opt", "overlay=dual")
DEV = ("--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev")
SIX = ("--ipv6", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/64", "--ipam-opt", "overlay=dev")
GATEWAY, GATEWAY6 = "10.65.0.129", "fd01:e::8000:0:1"
WHO = "#!/bin/sh\necho\necho $REMOTE_ADDR"
"""A page that tells its caller who that is."""
ASK = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
asking = socket.socket(family, socket.SOCK_DGRAM)
asking.settimeout(5)
asking.connect((sys.argv[1], int(sys.argv[2])))
asking.send(b"who am I?")
print(asking.recv(64).decode())
"""
ECHO = """
import socket, sys
echo = socket.socket(type=socket.SOCK_DGRAM)
echo.bind(("", int(sys.argv[1])))
print("listening", flush=True)
while True:
    _, caller = echo.recvfrom(64)
    echo.sendto(caller[0].encode(), caller)
"""
"""Busybox serves nothing by UDP: this runs in a container's network alone."""


def serve(host: Host, name: str, *words: str, net: str = "dcos") -> str:
    """Start a container that says on port 9000 who it is, and at /cgi-bin/who who calls; answer its address."""
    there = start(host, name, *words, net=net)
    prepare(host, name)
    return there


def prepare(host: Host, name: str) -> None:
    """Have a container serve: once httpd is in the background, it listens."""
    host.docker(
        *("exec", name, "sh", "-c"),
        f"mkdir -p /www/cgi-bin && echo {name} > /www/index.html && printf '{WHO}' > /www/cgi-bin/who && "
        "chmod +x /www/cgi-bin/who",
    )
    host.docker("exec", name, "httpd", "-p", "9000", "-h", "/www")


def got(caller: Node, at: str, path: str = "/") -> str | None:
    """Answer what a machine gets at an address and port, or None."""
    done = caller.try_run("curl", "-s", "-m", "5", f"http://{at}{path}")
    return done.stdout.strip() if done.returncode == 0 else None


def told(caller: Node, at: str) -> str | None:
    """Answer whom a container takes a machine for."""
    who = got(caller, at, "/cgi-bin/who")
    return bare(who) if who else None


def bare(address: str) -> str:
    """Answer an address as httpd has it, as others write it."""
    return address.strip("[]").removeprefix("::ffff:")


def seen(host: Host, name: str, at: str) -> str | None:
    """Answer whom a container takes another for."""
    done = host.try_docker("exec", name, "timeout", "5", "wget", "-q", "-O", "-", f"http://{at}/cgi-bin/who")
    return bare(done.stdout.strip()) if done.returncode == 0 else None


def published(host: Host) -> list[str]:
    """Answer `dni ports`, as `0.0.0.0:8080 web 9.0.0.130:9000/tcp`."""
    return [
        f"{row['host_ip']}:{row['host_port']} {row['container']} "
        f"{row['container_ip']}:{row['container_port']}/{row['protocol']}"
        for row in host_state.ports(host)
    ]


def at_8080(web: str) -> list[str]:
    """Answer what `published` says of the container of `web`."""
    return [f"{ip}:8080 web {web}:9000/tcp" for ip in ("0.0.0.0", "::")]


def kept(host: Host) -> list[str]:
    """Answer the published ports once the names of their containers are known."""
    return host_state.eventually(
        lambda: rows if "None" not in " ".join(rows := published(host)) else None, 20, "a container has no name"
    )


@contextmanager
def answering(host: Host, name: str, *words: str) -> Iterator[None]:
    """Have a program of Python's run in a container's network once it listens, with these words."""
    log = host.directory / "answering.log"
    sandbox = host.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", name)
    program = host.spawn("nsenter", f"--net={sandbox}", sys.executable, *words, log=log)
    try:
        host_state.eventually(lambda: "listening" in log.read_text() or None, 10, "it does not listen")
        yield
    finally:
        program.kill()
        program.wait()
        log.unlink()


@pytest.fixture
def web(host: Host) -> str:
    """A container whose port 9000 is published as 8080; answers its address."""
    create(host, "dcos")
    return serve(host, "web", "-p", "8080:9000")


@contextmanager
def listening(host: Host, port: int) -> Iterator[None]:
    """Have a program of the host listen."""
    program = host.spawn(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    try:
        host_state.eventually(lambda: got(host, f"127.0.0.1:{port}"), 10, "it does not listen")
        yield
    finally:
        program.kill()
        program.wait()


def test_a_published_port_is_reached_from_everywhere_and_callers_are_seen(lab: Lab, host: Host) -> None:
    create(host, *DUAL, "dual")
    create(host, *SIX, "dev")
    ports = ("8080:9000", f"[{host.address6}]:8082:9000", "[::1]:8083:9000")
    there = serve(host, "web", *(word for port in ports for word in ("-p", port)), net="dual")
    start(host, "beside", net="dual")
    elsewhere = start(host, "elsewhere", net="dev")
    assert told(lab.outside, f"{host.address}:8080") == lab.outside.address
    assert told(lab.outside, f"[{host.address6}]:8080") == lab.outside.address6
    assert told(host, f"{host.address}:8080") == host.address
    assert told(host, f"[{host.address6}]:8080") == host.address6
    assert told(host, "127.0.0.1:8080") == GATEWAY
    assert got(host, "localhost:8080") == "web"
    assert told(host, "[::1]:8080") == told(host, "[::1]:8083") == GATEWAY6
    assert got(lab.outside, f"[{host.address6}]:8083") is None
    assert seen(host, "beside", f"{host.address}:8080") == GATEWAY
    assert seen(host, "beside", f"[{host.address6}]:8080") == GATEWAY6
    assert seen(host, "web", f"{host.address}:8080") == GATEWAY
    assert seen(host, "elsewhere", f"{host.address}:8080") == elsewhere
    assert seen(host, "elsewhere", f"[{host.address6}]:8080") == place(host, "elsewhere", "dev")["GlobalIPv6Address"]
    start(host, "theirs", net="bridge")
    assert seen(host, "theirs", f"{host.address}:8080") == GATEWAY, "Docker masquerades what leaves its bridge"
    assert told(lab.outside, f"[{host.address6}]:8082") == lab.outside.address6
    assert got(lab.outside, f"{host.address}:8082") is None, "published at the other family's address alone"
    assert got(lab.outside, f"{there}:9000") is None, "the container itself stays closed"
    host.docker("rm", "-f", "web")
    assert got(lab.outside, f"{host.address}:8080") is None
    assert host_state.ports(host) == []


def test_all_exposed_ports_are_published_and_can_be_read_back(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    there = serve(host, "web", "-P", "--expose", "9000", "--expose", "53/udp")
    assert len(rows := kept(host)) == 4, "IPv6 is carried there too"
    ports = {row["container_port"]: row["host_port"] for row in host_state.ports(host)}
    assert f"0.0.0.0:{ports[9000]} web {there}:9000/tcp" in rows
    assert told(lab.outside, f"{host.address}:{ports[9000]}") == lab.outside.address
    assert f"0.0.0.0:{ports[53]}" in host.dni("ports")
    assert "->" not in host.docker("ps", "--format", "{{.Ports}}"), "Docker shows its own drivers' alone"
    host.docker("restart", "-t", "0", "web")
    again = {row["container_port"]: row["host_port"] for row in host_state.ports(host)}
    assert again.keys() == ports.keys()
    assert set(again.values()).isdisjoint(ports.values()), "a freed port is not given at once"


def test_ranges_addresses_of_the_host_and_udp(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    serve(
        *(host, "one", "-p", "8000-8001:9000", "-p", "127.0.0.1:8080:9000", "-p", "5353:53/udp"),
        *("-p", "8010-8012:9000-9002"),
    )
    serve(host, "two", "-p", "8000-8001:9000", "-p", f"{host.address}:8080:9000")
    rows = [row.rpartition(" ")[0] for row in kept(host)]
    assert [row for row in rows if not row.startswith("::")] == [
        "0.0.0.0:5353 one",
        "0.0.0.0:8000 one",
        "0.0.0.0:8001 two",
        "0.0.0.0:8010 one",
        "0.0.0.0:8011 one",
        "0.0.0.0:8012 one",
        "127.0.0.1:8080 one",
        f"{host.address}:8080 two",
    ]
    carried = [row.removeprefix(":::") for row in rows if row.startswith("::")]
    assert carried == [row.removeprefix("0.0.0.0:") for row in rows if row.startswith("0.0.0.0")]
    assert got(lab.outside, f"[{host.address6}]:8001") == got(host, "[::1]:8001") == "two"
    assert got(host, "127.0.0.1:8080") == "one"
    assert got(lab.outside, f"{host.address}:8080") == "two"
    assert got(lab.outside, f"{host.address}:8001") == "two"
    assert "no port of 8000-8001/tcp is free" in refused(
        host, "run", "--rm", "--net", "dcos", "-p", "8000-8001:9000", NAME, "true"
    )
    host.docker("exec", "one", "httpd", "-p", "9002", "-h", "/www")
    assert [got(lab.outside, f"{host.address}:{port}") for port in (8010, 8011, 8012)] == ["one", None, "one"]
    with answering(host, "one", "-c", ECHO, "53"):
        assert lab.outside.run(sys.executable, "-c", ASK, host.address, "5353") == lab.outside.address
        assert host.run(sys.executable, "-c", ASK, "127.0.0.1", "5353") == "9.0.0.129"
        assert host.run(sys.executable, "-c", ASK, "::1", "5353") == "9.0.0.129"
        assert lab.outside.run(sys.executable, "-c", ASK, host.address6, "5353") == "9.0.0.129"


def test_sctp_gets_to_a_container_and_back_or_is_refused_with_the_module(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    run = ("run", "-d", "--name", "one", "--net", "dcos", "-p", "5000:6000/sctp", NAME, "sleep", "1000")
    started = host.try_docker(*run)
    if started.returncode != 0:
        assert "does not follow SCTP connections" in started.stderr
        assert "`modprobe nf_conntrack_proto_sctp`" in started.stderr
        return
    assert f"0.0.0.0:5000 one {address(host, 'one')}:6000/sctp" in kept(host)
    with answering(host, "one", "-m", "tests.sctp", "answer", "6000"):
        answerer = lab.outside.run(sys.executable, "-m", "tests.sctp", "ask", host.address, "5000")
    assert answerer == f"{host.address}:5000", "who was asked is who answers"


def test_callers_are_seen_as_on_dockers_own_bridge(lab: Lab, host: Host) -> None:
    create(host, "dcos")
    host.docker("network", "create", "own")
    ours, dockers = (_callers(lab, host, net, port) for net, port in (("dcos", 8080), ("own", 8081)))
    assert ours == dockers == [lab.outside.address, host.address, *["gateway"] * 5]


def _callers(lab: Lab, host: Host, net: str, port: int) -> list[str | None]:
    """Answer whom a container sees at its published port: outside, the host, beside it, itself."""
    server, beside, at = f"{net}-web", f"{net}-beside", f"{host.address}:{port}"
    serve(host, server, "-p", f"{port}:9000", net=net)
    start(host, beside, net=net)
    who = [
        told(lab.outside, at),
        told(host, at),
        told(host, f"127.0.0.1:{port}"),
        told(host, f"[::1]:{port}"),
        told(lab.outside, f"[{host.address6}]:{port}"),
        seen(host, beside, at),
        seen(host, server, at),
    ]
    return ["gateway" if one == place(host, server, net)["Gateway"] else one for one in who]


def test_a_port_in_use_is_refused_with_who_has_it_and_nothing_is_left(host: Host, web: str) -> None:
    create(host, *DEV, "dev")
    host_state.eventually(lambda: kept(host) == at_8080(web) or None, 20, "not named")
    before, run = host_state.held(host), ("run", "--rm", "--net", "dev", "-p", "8081:9000", "-p")
    assert "port 0.0.0.0:8080/tcp is in use by container web: choose another host port" in refused(
        host, *run, "8080:80", NAME, "true"
    )
    with listening(host, 8090):
        assert "port 0.0.0.0:8090/tcp is in use by " in (text := refused(host, *run, "8090:80", NAME, "true"))
        assert re.search(r"python[0-9.]* \(pid ", text), "its pid is another one where the engine has a pid namespace"
    host.docker("run", "-d", "--name", "theirs", "-p", "8099:80", NAME, "sleep", "1000")
    assert "port 0.0.0.0:8099/tcp is in use by " in refused(host, *run, "8099:80", NAME, "true")
    assert "this host has no address 203.0.113.9" in refused(host, *run, "203.0.113.9:8091:80", NAME, "true")
    assert "in use" in refused(host, "run", "--rm", "-p", "8080:80", NAME, "true"), "nor does Docker take ours"
    host_state.eventually(lambda: host_state.held(host) == before or None, 20, "an address is left")
    assert published(host) == at_8080(web)
    start(host, "later", "-p", "8081:9000", net="dev")


def test_ports_of_an_internal_network_are_ignored_as_docker_ignores_them(host: Host) -> None:
    create(host, "--internal", "dcos")
    start(host, "web", "-p", "8080:9000")
    assert host_state.ports(host) == []


@pytest.mark.usefixtures("web")
def test_ports_follow_the_network_that_leads_outside(lab: Lab, host: Host) -> None:
    host.docker("network", "create", "br")
    host.docker("network", "connect", "br", "web")
    host.docker("network", "disconnect", "dcos", "web")
    assert host_state.ports(host) == []
    assert got(lab.outside, f"{host.address}:8080") == "web", "by Docker's own network"
    host.docker("network", "connect", "dcos", "web")
    host.docker("network", "disconnect", "br", "web")
    assert {row["host_port"] for row in host_state.ports(host)} == {8080}
    assert address(host, "web")
    assert got(lab.outside, f"{host.address}:8080") == got(host, "[::1]:8080") == "web"


def test_ports_outlive_dni_and_its_worker_and_go_on_being_held(lab: Lab, host: Host, web: str) -> None:
    host.kill_dni("plugin-worker")
    host.wait_for_dni()
    assert got(lab.outside, f"{host.address}:8080") == "web"
    host_state.eventually(lambda: got(host, "[::1]:8080"), 10, "the next worker carries nobody")
    host.stop_dni()
    assert got(lab.outside, f"{host.address}:8080") == "web", "also without dni"
    assert got(host, "[::1]:8080") is None, "dni itself carries these"
    host.start_dni(**host_state.SETTINGS)
    assert kept(host) == at_8080(web)
    assert host_state.eventually(lambda: got(host, "[::1]:8080"), 10, "nobody is carried") == "web"
    assert "in use" in refused(host, "run", "--rm", "-p", "8080:80", NAME, "true")


@pytest.mark.parametrize("live", [False, True], ids=["without live-restore", "with live-restore"])
def test_ports_outlive_dockerd(lab: Lab, host: Host, *, live: bool) -> None:
    host.stop_dockerd()
    host.start_dockerd(live_restore=live)
    create(host, "dcos")
    serve(host, "web", "--restart", "always", "-p", "8080:9000")
    host.stop_dockerd()
    if live:
        assert got(lab.outside, f"{host.address}:8080") == "web"
    host.start_dockerd(live_restore=live)
    host_state.eventually(lambda: host.try_docker("exec", "web", "true").returncode == 0 or None, 30, "not started")
    if not live:
        host.run("iptables", "-P", "FORWARD", "DROP")
        prepare(host, "web")
    assert got(lab.outside, f"{host.address}:8080") == "web"
    host.docker("rm", "-f", "web")
    assert host_state.ports(host) == [], "also where no Revoke came"
    host.stop_dockerd()
    host.start_dockerd()


@pytest.mark.usefixtures("web")
def test_a_flushed_firewall_is_mended_and_a_killed_container_frees_its_port(lab: Lab, host: Host) -> None:
    host.run("nft", "flush", "ruleset")
    host_state.eventually(lambda: got(lab.outside, f"{host.address}:8080"), 10, "not mended after ten seconds")
    host.docker("kill", "web")
    start(host, "next", "-p", "8080:9000")
    assert {row["host_port"] for row in host_state.ports(host)} == {8080}


@pytest.mark.usefixtures("web")
def test_what_an_administrator_drops_in_docker_user_is_let_in_by_nobody(lab: Lab, host: Host) -> None:
    rule = ("DOCKER-USER", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "8080", "-j", "DROP")
    assert got(lab.outside, f"{host.address}:8080") == "web"
    host.run("iptables", "-I", *rule)
    host.docker("network", "create", "plainbridge")
    host_state.eventually(lambda: host_state.findings(host) == [] or None, 20, "dni check finds something")
    assert got(lab.outside, f"{host.address}:8080") is None
    host.run("iptables", "-D", *rule)
    assert got(lab.outside, f"{host.address}:8080") == "web"
