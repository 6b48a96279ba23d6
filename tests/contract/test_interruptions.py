# SPDX-License-Identifier: Apache-2.0
"""Calls that come too early, are cut off, or meet a store, a kernel or an agent that keeps them waiting."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dni_driver.store.records import read_all
from tests.contract.calls import create_endpoint, create_network, join
from tests.contract.dockerd import BODILESS, Dockerd, PluginError, Unreachable
from tests.contract.objects import EXPOSED, PUBLISHED
from tests.contract.plugin import Plugin, eventually, running
from tests.contract.test_fuzz import FIELDS
from tests.fakes import AGENT, DCOS, lease

SCALE = 0.1
"""How long a second of dni lasts here."""

HANDLER = "dni_driver.plugin.app.HANDLER_SECONDS"
LOCK = "dni_driver.store.database.LOCK_SECONDS"
AGENT_WAIT = "dni_driver.plugin.pool_finder.AGENT_SECONDS"
BOUND = 20 * SCALE
"""Seconds in which every call is answered; what a test allows beyond them is for a machine that is busy."""

_GRACE = 15.0


@contextmanager
def limited(folder: Path, **seconds: float) -> Iterator[Plugin]:
    """Run a plugin whose limits are other ones."""
    names = {"handler": HANDLER, "lock": LOCK, "agent": AGENT_WAIT}
    (folder / "limits").write_text("\n".join(f"{names[key]} {value}" for key, value in seconds.items()))
    with running(folder) as plugin:
        lease(plugin.store, DCOS, "9.0.0.0/24")
        yield plugin


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Have another process hold the right to write, as an agent that hangs would."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            yield
        finally:
            holder.kill()


# -- an empty body


@pytest.mark.parametrize("method", sorted(FIELDS))
def test_a_call_without_its_body_is_refused_and_says_why(light: Plugin, method: str) -> None:
    """Dockerd's second attempt after a broken connection carries none."""
    light.engine().create("dcos")
    before = light.rows()
    for body in (b"", b"\n"):
        reply = light.dockerd().send(method, body)
        assert reply.status == 400
        told = json.loads(reply.body)
        assert told["Err"] == told["Error"]
        assert "has no body: it is a retry of a call that was cut off" in told["Err"]
    assert light.rows() == before


def test_a_call_that_dies_with_its_worker_is_repeated_without_body_and_can_be_made_again(tmp_path: Path) -> None:
    """The bridge takes its time, the worker is killed; what the store had by then is what the next call meets."""
    with limited(tmp_path) as plugin:
        engine = plugin.engine()
        engine.create("dcos")
        worker = _worker(plugin)
        plugin.tell("seconds", "30")
        failed: list[Exception] = []
        call = threading.Thread(target=lambda: failed.append(_failure(lambda: engine.run("a", "dcos"))))
        call.start()
        eventually(lambda: _joins(plugin), "the call did not get as far as the kernel", plugin.log)
        (plugin.folder / "seconds").unlink()
        os.kill(worker, signal.SIGKILL)
        call.join(60)
        assert "has no body" in str(failed[0])
        assert not [key for key in plugin.held() if "endpoint" in key or "9.0.0.130" in key]
        engine.start("a")
        assert engine.ip("a") == "9.0.0.131"


def _joins(plugin: Plugin) -> bool:
    return any(endpoint.sandbox for endpoint in read_all(plugin.store).endpoints)


def test_an_endpoint_whose_answer_was_lost_keeps_its_address_for_the_collector(light: Plugin) -> None:
    """Dockerd deletes no endpoint whose creation failed, and the release that it sends names no owner."""
    engine, dockerd = light.engine(), light.dockerd()
    network = engine.create("dcos").id
    address = dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    endpoint = {"NetworkID": network, "EndpointID": "c" * 64}
    dockerd.call("NetworkDriver.CreateEndpoint", {**endpoint, "Interface": {"Address": address}})
    assert dockerd.send("NetworkDriver.CreateEndpoint", b"").status == 400
    dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": "dcos/v4", "Address": address.partition("/")[0]})
    assert light.held()["dcos/v4 9.0.0.130"] == "leaving"
    with pytest.raises(PluginError, match="no free address"):
        _fill(dockerd)
    dockerd.call("NetworkDriver.DeleteNetwork", {"NetworkID": network})
    assert not [key for key in light.held() if key.startswith(("dcos/v4", "endpoint", "network"))]


def _fill(dockerd: Dockerd) -> None:
    while True:
        given = dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
        assert given != "9.0.0.130/25", "an endpoint's address was handed out again"


def _failure(act: Any) -> Exception:
    try:
        act()
    except (PluginError, Unreachable) as error:
        return error
    raise AssertionError("nothing failed")


def _worker(plugin: Plugin) -> int:
    assert plugin.process is not None
    children = Path(f"/proc/{plugin.process.pid}/task/{plugin.process.pid}/children").read_text()
    return int(children.split()[0])


def test_a_call_made_before_the_plugin_is_there_is_answered_once_it_is(tmp_path: Path) -> None:
    """A refused or missing socket costs no body: the same call comes again after 1, 2, 4 and 8 seconds."""
    plugin = Plugin(tmp_path)
    lease(plugin.store, DCOS, "9.0.0.0/24")
    answers: list[dict[str, Any]] = []
    call = threading.Thread(
        target=lambda: answers.append(
            plugin.dockerd(second=0.5).call("IpamDriver.RequestPool", {"Pool": "9.0.0.0/8"})
        )
    )
    call.start()
    try:
        plugin.start()
        call.join()
        assert answers == [{"PoolID": "dcos/v4", "Pool": "9.0.0.128/25", "Data": {}}]
    finally:
        plugin.stop()
        plugin.store.close()


def test_the_client_gives_up_after_five_attempts(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Unreachable, match=r"Plugin\.Activate: .*No such file"):
        Dockerd(tmp_path / "none.sock", second=0.01).call("Plugin.Activate")
    assert time.monotonic() - begun >= 0.15


# -- what keeps a call waiting


PORT = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}


def busy(network: str, endpoint: Mapping[str, str]) -> Mapping[str, Mapping[str, Any]]:
    """Answer every call that writes, on a network and a joined endpoint with a port."""
    other = {"NetworkID": network, "EndpointID": "b" * 64}
    return {
        "IpamDriver.RequestPool": {"Pool": "172.20.0.0/24"},
        "IpamDriver.ReleasePool": {"PoolID": "dcos/v4"},
        "IpamDriver.RequestAddress": {"PoolID": "dcos/v4", "Address": "9.0.0.140"},
        "IpamDriver.ReleaseAddress": {"PoolID": "dcos/v4", "Address": "9.0.0.130"},
        "NetworkDriver.CreateNetwork": {"NetworkID": "a" * 64, "IPv4Data": [{"Pool": "9.0.0.128/25"}]},
        "NetworkDriver.DeleteNetwork": {"NetworkID": network},
        "NetworkDriver.CreateEndpoint": {**other, "Interface": {"Address": "9.0.0.131/25"}},
        "NetworkDriver.DeleteEndpoint": endpoint,
        "NetworkDriver.Join": {**endpoint, "SandboxKey": "/run/netns/x"},
        "NetworkDriver.Leave": endpoint,
        "NetworkDriver.ProgramExternalConnectivity": {**endpoint, "Options": {EXPOSED: [], PUBLISHED: [PORT]}},
        "NetworkDriver.RevokeExternalConnectivity": endpoint,
    }


NO_WRITERS = {
    "NetworkDriver.AllocateNetwork",
    "NetworkDriver.FreeNetwork",
    "NetworkDriver.DiscoverNew",
    "NetworkDriver.DiscoverDelete",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.GwAllocCheck",
}


def test_calls_are_known_as_those_that_write_and_those_that_do_not() -> None:
    assert busy("", {}).keys() | NO_WRITERS == FIELDS.keys()


@pytest.mark.parametrize("lock_seconds", [5 * SCALE, 60], ids=["the lock's own limit", "the handler's deadline"])
def test_a_store_that_another_process_holds_is_an_error_in_time_for_every_call_that_writes(
    tmp_path: Path, lock_seconds: float
) -> None:
    with limited(tmp_path, handler=BOUND, lock=lock_seconds) as plugin:
        dockerd = plugin.dockerd()
        network = create_network(dockerd)["NetworkID"]
        endpoint = create_endpoint(dockerd, network)
        join(dockerd, endpoint)
        calls = busy(network, endpoint)
        program = "NetworkDriver.ProgramExternalConnectivity"
        dockerd.call(program, calls[program])
        before = plugin.rows(), plugin.ports()
        with locked(plugin.folder / "dni.db"):
            waits = [_Call(plugin, method, arguments) for method, arguments in calls.items()]
            for call in waits:
                call.join(BOUND + _GRACE)
                assert not call.is_alive(), f"{call.method} is not answered"
                assert call.status == 500, f"{call.method}: {call.text}"
                assert "busy" in call.text or "ran out of time" in call.text
            assert dockerd.call("NetworkDriver.EndpointOperInfo", endpoint) == {"Value": {}}
        assert (plugin.rows(), plugin.ports()) == before
        for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "DeleteNetwork"):
            dockerd.call(f"NetworkDriver.{method}", calls[f"NetworkDriver.{method}"])
        assert plugin.ports() == {}
        plugin.engine().create("dcos")


class _Call(threading.Thread):
    """A call under way, and what became of it."""

    def __init__(self, plugin: Plugin, method: str, arguments: Any) -> None:
        super().__init__(daemon=True)
        self.method, self._body = method, json.dumps(arguments).encode()
        self._plugin = plugin
        self.status, self.text = 0, ""
        self.start()

    def run(self) -> None:
        reply = self._plugin.dockerd().send(self.method, self._body)
        self.status, self.text = reply.status, json.loads(reply.body).get("Err", "")


def test_reading_waits_for_no_writer(tmp_path: Path) -> None:
    """A refusal that needs no write comes at once, whoever has the lock."""
    with limited(tmp_path, lock=60.0) as plugin, locked(plugin.folder / "dni.db"):
        begun = time.monotonic()
        with pytest.raises(PluginError, match="no overlay 'nix'"):
            plugin.dockerd().call("IpamDriver.RequestPool", {"Options": {"overlay": "nix"}})
        assert time.monotonic() - begun < _GRACE


@pytest.mark.parametrize("options", [{}, {"overlay": "dev"}])
def test_an_agent_that_leases_nothing_is_an_error_in_time(tmp_path: Path, options: dict[str, str]) -> None:
    """The first subnet of the default overlay, and that of an overlay just defined, are the agent's to lease."""
    with limited(tmp_path, handler=BOUND, agent=10 * SCALE) as plugin:
        plugin.forget()
        plugin.tell("no-agent")
        arguments = {"Pool": "10.70.0.0/16" if options else "", "Options": options}
        begun = time.monotonic()
        with pytest.raises(PluginError, match=r"has no agent subnet of overlay '(dcos|dev)' yet: `dni status` shows"):
            plugin.dockerd().call("IpamDriver.RequestPool", arguments)
        assert time.monotonic() - begun < BOUND + _GRACE


def test_a_network_asked_for_while_the_agent_still_starts_is_made_once_it_has(light: Plugin) -> None:
    light.forget()
    engine = light.engine()
    late = threading.Timer(0.3, lambda: lease(light.store, DCOS, "9.0.0.0/24"))
    late.start()
    assert str(engine.create("dcos").pools[0].subnet) == "9.0.0.128/25"
    late.join()


def test_a_damaged_store_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with limited(tmp_path) as plugin:
        plugin.stop()
        plugin.store.close()
        for file in plugin.folder.glob("dni.db*"):
            file.write_bytes(b"no database " * 1000)
        (plugin.folder / "dni.sock").unlink(missing_ok=True)
        with pytest.raises(
            PluginError,
            match=r"is damaged .*: stop dni and move it away, .* put back a copy of it, or make its networks anew",
        ):
            plugin.start()
        for method in BODILESS:
            assert plugin.dockerd().send(method, b"").status == 500


def test_the_store_outlives_the_process_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """Nothing is repeated to a plugin that was restarted: all it knows is on disk."""
    with limited(tmp_path) as plugin:
        engine = plugin.engine()
        engine.create("dcos")
        engine.run("a", "dcos")
        before = plugin.rows()
        assert plugin.process is not None
        plugin.process.kill()
        plugin.process.wait()
        plugin.start()
        assert plugin.rows() == before
        engine.run("b", "dcos")
        assert engine.ip("b") == "9.0.0.131"
        for name in ("a", "b"):
            engine.delete(name)
        engine.remove("dcos")
        assert [key for key in plugin.held() if not key.startswith("overlay")] == []
        assert engine.logged == []
        with sqlite3.connect(plugin.folder / "dni.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()
        assert str(AGENT) in str(plugin.rows()["meta"])
