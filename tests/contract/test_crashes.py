# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the real plugin between any two writes to store or kernel: nothing is lost, leaked or given twice.

After each crash dockerd does what it does after an error, the agent looks, and all must be as dockerd has it. What
the agent itself dies of is in test_agent_crashes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from dni_driver.kernel import neighbours
from tests.contract.dockerd import PluginError
from tests.contract.mortal import Host
from tests.contract.plugin import Plugin

pytestmark = pytest.mark.root

MOST_WRITES = 60

DUAL = ("10.65.0.0/16", "fd01:e::/64")

Act = Callable[[Host], object]


@pytest.fixture
def host(real: Plugin, engine: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(neighbours, "_PATIENCE", 0.05)  # nobody is there who could answer
    host = Host(real, real.engine(engine))
    try:
        yield host
    finally:
        host.close()


def _create(host: Host) -> None:
    host.engine.create("dcos")


def _define(host: Host) -> None:
    host.engine.create("dev", subnets=["10.70.0.0/16"], ipam_options={"overlay": "dev"})


def _create_dual(host: Host) -> None:
    host.engine.create("dual", subnets=DUAL, ipam_options={"overlay": "dual"}, ipv6=True)


def _create_alone(host: Host) -> None:
    host.engine.create("dcos", ipam="null", options={"overlay": "dcos"})


def _run(host: Host) -> None:
    host.engine.run("a", "dcos", ports=[8080])


def _run_dual(host: Host) -> None:
    host.engine.run("a", "dual", ports=[8080])


def _run_limited(host: Host) -> None:
    host.engine.run("a", "dcos", driver_opts={"egress": "10mbit", "ingress": "20mbit"})


def _run_alone(host: Host) -> None:
    host.engine.run("a", "dcos", driver_opts={"dni.address": "9.0.0.140"})


def _connect(host: Host) -> None:
    host.engine.connect("a", "dual")


def _disconnect(host: Host) -> None:
    host.engine.disconnect("a", "dual")


def _stop(host: Host) -> None:
    host.engine.stop("a")


def _restart(host: Host) -> None:
    host.engine.restart("a")


def _remove(host: Host) -> None:
    host.engine.remove("dcos")


def _begin(host: Host) -> None:
    """Have a worker begin: it mends before it answers."""
    host.end_worker()


def _reconcile(host: Host) -> None:
    """Have a call reconcile: so does the deletion of a network that nobody knows."""
    with suppress(PluginError):
        host.plugin.dockerd().call("NetworkDriver.DeleteNetwork", {"NetworkID": "0" * 64})


LIFE: dict[str, tuple[tuple[Act, ...], Act, tuple[int, ...]]] = {
    "create": ((), _create, (20,)),
    "define": ((), _define, (28,)),
    "run": ((_create,), _run, (28,)),
    "restart": ((_create, _run), _restart, (28,)),
    "stop": ((_create, _run), _stop, (28,)),
    "remove": ((_create,), _remove, (28,)),
    "connect": ((_create, _create_dual, _run), _connect, (28,)),
    "disconnect": ((_create, _create_dual, _run, _connect), _disconnect, (28,)),
    "dual": ((_create_dual,), _run_dual, (29,)),
    "limited": ((_create,), _run_limited, (28,)),
    "alone": ((_create_alone,), _run_alone, (28,)),
}
"""What was done before, what the plugin dies of, and on which engines: on those whose calls differ there."""


MENDING: dict[str, tuple[Act, Act]] = {
    "mend": (Host.lose_everything, _begin),
    "reconcile": (Host.lose_tables, _reconcile),
}
"""What a host has lost, and what mends it."""


@pytest.mark.parametrize(
    ("name", "engine"), [(name, version) for name, (_, _, versions) in LIFE.items() for version in versions]
)
def test_a_plugin_killed_after_any_write_leaves_nothing_that_is_not_put_right(host: Host, name: str) -> None:
    before, act, _ = LIFE[name]
    for writes in range(1, MOST_WRITES):
        for done in before:
            done(host)
        died = host.dies_within(act, writes)
        host.is_whole()
        host.clear()
        if not died:
            assert writes > 2
            return
    pytest.fail(f"{name} makes more than {MOST_WRITES} writes")


@pytest.mark.parametrize("engine", [28])
@pytest.mark.parametrize("name", MENDING)
def test_a_plugin_killed_after_any_write_of_its_mending_leaves_nothing_that_is_not_mended(
    host: Host, name: str
) -> None:
    _create_dual(host)
    host.plug("a", "dual")
    host.is_whole()
    lose, act = MENDING[name]
    for writes in range(1, MOST_WRITES):
        lose(host)
        died = host.dies_within(act, writes)
        host.is_whole()
        if not died:
            host.clear()
            assert writes > 2
            return
    pytest.fail(f"{name} makes more than {MOST_WRITES} writes")
