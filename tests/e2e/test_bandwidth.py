# SPDX-License-Identifier: Apache-2.0
"""Containers of a real engine are held to the limits that people give, a network or a container at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests import iperf
from tests.e2e import host_state
from tests.e2e.containers import create, place, refused, start
from tests.lab import Host
from tests.lab.image import NAME

MBIT = 1_000_000


def run(host: Host, name: str, *options: str, net: str = "dcos") -> str:
    """Start a container with driver options; answer its address."""
    said = ",".join(("name=" + net, *(f"driver-opt={option}" for option in options)))
    host.docker("run", "-d", "--name", name, "--network", said, NAME, "sleep", "100000")
    return str(place(host, name, net)["IPAddress"])


def sandbox(host: Host, name: str) -> str:
    """Answer how to run a command in a container's network namespace."""
    return "--net=" + host.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", name)


@contextmanager
def serving(host: Host, name: str) -> Iterator[None]:
    """Let a container be measured with, once."""
    serving = host.spawn("nsenter", sandbox(host, name), *iperf.SERVER)
    try:
        yield
    finally:
        serving.kill()
        serving.wait()


def measured(
    host: Host, name: str, server: str, limit: int, *, net: str = "dcos", from_server: bool = False
) -> float:
    """Answer the bits a second that TCP carries from a container to a server, or back."""
    with serving(host, server):
        address = str(place(host, server, net)["IPAddress"])
        host_state.eventually(lambda: listens(host, server), 10, "iperf3 does not listen")
        argv = iperf.client(address, limit, "tcp", from_server=from_server)
        return iperf.received(host.run("nsenter", sandbox(host, name), *argv))


def listens(host: Host, name: str) -> bool:
    return ":5201" in host.run("nsenter", sandbox(host, name), "ss", "-ltn")


def limits(host: Host) -> dict[str, tuple[int | None, int | None]]:
    """Answer egress and ingress in bits a second, by address, as `dni address ls` shows them."""
    held = host_state.held(host)
    return {row["address"]: (row["egress"], row["ingress"]) for row in held if row["state"] == "bound"}


def ifbs(host: Host) -> list[str]:
    return [line.split()[1].rstrip(":") for line in host.run("ip", "-o", "link", "show", "type", "ifb").splitlines()]


def test_a_container_sends_and_is_sent_what_its_options_and_its_networks_say(host: Host) -> None:
    create(host, "-o", "ingress=20mbit", "dcos")
    limited, free = run(host, "limited", "egress=10Mbit"), run(host, "free", "ingress=none")
    assert limits(host) == {limited: (10 * MBIT, 20 * MBIT), free: (None, None)}
    assert "EGRESS" in host.dni("address", "ls")
    for limit, from_server in ((10 * MBIT, False), (20 * MBIT, True)):
        once = partial(measured, host, "limited", "free", limit, from_server=from_server)
        assert iperf.is_filled_and_kept(limit, once)


def test_a_running_container_is_connected_with_limits_of_its_own(host: Host) -> None:
    create(host, "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    first = start(host, "c1")
    host.docker("network", "connect", "--driver-opt", "egress=5mbit", "--driver-opt", "ingress=1.5gbit", "dev", "c1")
    second = str(place(host, "c1", "dev")["IPAddress"])
    start(host, "free", net="dev")
    assert {first: (None, None), second: (5 * MBIT, 1500 * MBIT)}.items() <= limits(host).items()
    assert iperf.is_filled_and_kept(5 * MBIT, partial(measured, host, "c1", "free", 5 * MBIT, net="dev"))
    host.docker("network", "disconnect", "dev", "c1")
    host_state.eventually(lambda: ifbs(host) == [], 10, "the device of a link that is gone is still there")


def test_limits_outlive_everything_that_can_happen_to_dni_and_to_the_kernel(host: Host) -> None:
    create(host, "dcos")
    run(host, "c1", "egress=10mbit", "ingress=10mbit")
    (ifb,) = ifbs(host)
    host_end = "dni" + ifb.removeprefix("dne")
    host.kill_dni("agent")
    host.run("tc", "qdisc", "del", "dev", host_end, "root")
    host.run("ip", "link", "del", ifb)
    host_state.eventually(lambda: ifbs(host) == [ifb] and host_state.findings(host) == [], 20, "no limit came back")
    assert "rate 10Mbit" in host.run("tc", "qdisc", "show", "dev", host_end)
    host.docker("restart", "--time", "0", "c1")
    assert len(ifbs(host)) == 1
    host.docker("rm", "-f", "c1")
    host_state.eventually(lambda: ifbs(host) == [], 10, "the device of a container that is gone is still there")


def test_a_running_container_is_limited_and_has_its_own_options_again_when_it_is_started_anew(host: Host) -> None:
    create(host, "dcos")
    address = run(host, "c1", "ingress=20mbit")
    shown = host.dni("address", "limit", address, "--egress", "10mbit", "--ingress", "none")
    assert shown.split()[-2:] == ["10mbit", "-"]
    assert "rate 10Mbit" in host.run("tc", "qdisc", "show", "dev", ifbs(host)[0])
    assert host_state.findings(host) == []
    host.docker("restart", "--time", "0", "c1")
    assert list(limits(host).values()) == [(None, 20 * MBIT)]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("egress=fast", "option egress='fast' is not a rate from 256kbit to 32gbit"),
        ("bandwidth=10mbit", "driver-opt 'bandwidth' is not known to dni: use "),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_what_does(host: Host, option: str, words: str) -> None:
    create(host, "dcos")
    assert words in refused(host, "run", "--network", f"name=dcos,driver-opt={option}", NAME, "true")
    host.docker("network", "rm", "dcos")
    assert "is not a rate" in refused(
        host, "network", "create", "-d", "dni", "--ipam-driver", "dni", "-o", "egress=10", "dcos"
    )
