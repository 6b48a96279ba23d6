# SPDX-License-Identifier: Apache-2.0
"""One host: dockerd, plugin, agent, kernel, disk and clocks, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from dni_driver.agent.ports import Time
from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Family
from dni_driver.core.views import DockerView
from dni_driver.store import Store
from tests.fakes import FakeClock, FakeKernel
from tests.scratch import fast_directory
from tests.simulation.api import view
from tests.simulation.dockerd import Dockerd
from tests.simulation.model import Call, CallFailed, Container, Network, Placed, Steps
from tests.simulation.plans import DUAL, SIX
from tests.simulation.process import AgentProcess, Died, DockerApi, PluginProcess, Unreachable
from tests.simulation.runtime import Runtime
from tests.simulation.witness import Witness

BODILESS = {"Plugin.Activate", "IpamDriver.GetDefaultAddressSpaces"}
LONGER_THAN_ANY_GRACE = 1000.0


class World:
    """Everything on one host. Calls of dockerd pass through here to the plugin."""

    def __init__(self, engine: int) -> None:
        """Begin with an engine of some version, and three overlays."""
        self._directory = fast_directory()
        path = Path(self._directory.name) / "dni.db"
        self.clock, self.monotonic = FakeClock(), FakeClock(0.0)
        time = Time(clock=self.clock, monotonic=self.monotonic, sleep=self._wait_for_room)
        self.kernel = FakeKernel()
        self.dockerd = Dockerd(self.call, self.kernel, engine)
        self._api = DockerApi(lambda: view(self.dockerd))
        self.agent = AgentProcess(path, self.kernel, self._api, time)
        self.agent.define(DUAL)
        self.agent.define(SIX)
        waiting = Time(clock=self.clock, monotonic=self.monotonic, sleep=self._wait)
        self.plugin = PluginProcess(path, self.kernel, waiting, self.agent)
        self.plugin_down_for = 0
        self.live_restore = False
        self._containers = 0
        self._store = Store(path)
        placed: list[Placed] = []
        self.witness = Witness(self._store, self.dockerd, placed, self.kernel, time)
        self.runtime = Runtime(self.agent, self.kernel, self.witness, placed)

    def close(self) -> None:
        """Take everything away."""
        self.plugin.end()
        self.agent.end()
        self._store.close()
        self._directory.cleanup()

    # The way from dockerd to the plugin.

    def call(self, call: Call) -> dict[str, Any]:
        """Make a call of dockerd's; raise CallFailed for an error, or where nobody answers."""
        body = b"" if call.method in BODILESS else msgspec.json.encode(call.body) + b"\n"
        try:
            status, answer = self.plugin.answer(call.method, body)
        except Unreachable:
            raise CallFailed("connection refused") from None
        except Died:
            status, answer = self._retry(call)
        if status != HTTPStatus.OK:
            self._refused(call, status, answer)
        self.witness.check_answer(call, answer)
        return answer

    def _retry(self, call: Call) -> tuple[int, dict[str, Any]]:
        """Repeat a call as dockerd does after a broken connection: without its body."""
        self.witness.observe()
        if self.plugin_down_for:
            raise CallFailed("connection refused")
        self.plugin.start()
        return self.plugin.answer(call.method, b"")

    def _refused(self, call: Call, status: int, answer: dict[str, Any]) -> None:
        text = answer["Err"]
        assert text == answer["Error"] != ""
        assert "\n" not in text
        assert "unexpectedly" not in text, f"{call.method}: {text}"
        assert (status == HTTPStatus.BAD_REQUEST) == ("no body" in text)
        self.witness.check_refusal(call, text)
        raise CallFailed(text)

    # What events need.

    def tick(self) -> None:
        """Begin with the next event: a plugin that was down for some is restarted."""
        if self.plugin.up:
            return
        self.plugin_down_for = max(0, self.plugin_down_for - 1)
        if not self.plugin_down_for:
            self.plugin.start()

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.pass_by(seconds)
        self.monotonic.pass_by(seconds)

    def make_room(self) -> None:
        """Have the agent see whether room is scarce, or something needed no more."""
        self.without_answer(self.agent.make_room)

    def _wait(self, seconds: float) -> None:
        """Have the plugin wait: the agent goes on meanwhile."""
        self.pass_time(seconds)
        self.make_room()

    def _wait_for_room(self, seconds: float) -> None:
        """Have a call of dni-cni's wait: the agent goes on meanwhile, and where it dies the call has no answer."""
        self.pass_time(seconds)
        self.agent.make_room()
        self.witness.observe()

    def boot_if_down(self) -> None:
        """Start dockerd where it is down: somebody wants something of it."""
        if not self.dockerd.up:
            self.dockerd.boot(containers_live=self.live_restore)

    def begin(self, name: str, steps: Steps, container: Container | None = None, *, now: bool) -> None:
        """Have dockerd begin something, and perhaps finish all that is under way."""
        self.dockerd.begin(name, steps, container)
        if now:
            self.dockerd.finish()

    def networks(self) -> list[Network]:
        """Answer the networks that dockerd lists."""
        return [network for network in self.dockerd.networks.values() if not network.deleting]

    def idle(self, *, running: bool) -> list[Container]:
        """Answer the containers that run, or that do not, and with which nothing is under way."""
        containers = self.dockerd.containers.values()
        return [container for container in containers if container.running == running and not container.busy]

    def new_container(self, networks: dict[str, str], *, restarts: bool, ports: tuple[int, ...] = ()) -> Container:
        """Create a container, without starting it."""
        self._containers += 1
        container = Container(name=f"c{self._containers}", networks=networks, restarts=restarts, ports=ports)
        self.dockerd.containers[container.name] = container
        return container

    def look(self, under_way: int) -> None:
        """Have the agent look at Docker; so many calls are made between its reading the records and the answer."""

        def show() -> DockerView | None:
            for task in self.dockerd.tasks[:under_way]:
                self.dockerd.advance(task)
            return view(self.dockerd)

        self._api.show = show
        self.without_answer(self.agent.look)
        self._api.show = lambda: view(self.dockerd)

    def lease_more(self, overlay: str, family: Family) -> None:
        """Have the agent lease one more agent subnet."""
        self.without_answer(lambda: self.agent.lease_more(overlay, family))

    def without_answer(self, act: Callable[[], None]) -> None:
        """Have the agent do something that it may refuse, or die of."""
        with suppress(DniError):
            act()
        self.witness.observe()

    def reboot(self, *, gracefully: bool) -> None:
        """End everything and start it again."""
        if gracefully:
            self.dockerd.stop_gracefully()
        self.dockerd.crash()
        self.plugin.end()
        self.agent.end()
        self.kernel.reboot()
        self.runtime.lose_all()
        for endpoint in self.dockerd.endpoints.values():
            endpoint.joined = False
        self.agent.restart()
        self.plugin.start()
        self.dockerd.boot(containers_live=False)

    def settle(self) -> None:
        """End all faults, finish what is under way, and let the collector see it all long enough."""
        self.agent.fuse.put_out()
        self.plugin.fuse.put_out()
        self.kernel.refusals.clear()
        if not self.plugin.up:
            self.plugin.start()
        self.boot_if_down()
        self.dockerd.finish()
        self.runtime.settle()
        for _ in range(4):
            self.agent.look()
            self.agent.make_room()
            self.witness.observe()
            self.pass_time(LONGER_THAN_ANY_GRACE)
        self.agent.join()
        self.agent.make_room()
        for seconds in (LONGER_THAN_ANY_GRACE, 1.0):
            self.pass_time(seconds)
            self.agent.make_room()
        self.agent.mend()
        self.plugin.keep_ports()
        self.witness.observe()
