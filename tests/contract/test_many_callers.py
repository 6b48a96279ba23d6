# SPDX-License-Identifier: Apache-2.0
"""Many calls at once: dockerd opens as many connections as it has calls."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

from dni_driver.core.overlays import define
from dni_driver.store.addresses import LONGEST_QUEUE
from tests.contract.dockerd import Dockerd
from tests.contract.plugin import Plugin, eventually
from tests.fakes import lease

CALLERS, CALLS = 32, 200
WIDE = define("wide", [ip_network("10.0.0.0/8")], (16, None))
"""Its first half, 10.0.128.0/17, has room for 32,765 containers."""


class Holders:
    """Who has which address, as the callers see it: two at once is a failure."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self.ever: set[str] = set()

    def take(self, address: str) -> None:
        """Note that a caller has been given an address."""
        with self._lock:
            assert address not in self._held, f"{address} was handed out twice"
            self._held.add(address)
            self.ever.add(address)

    def give_back(self, address: str) -> None:
        """Note that a caller is about to release an address."""
        with self._lock:
            self._held.remove(address)


def at_once(work: Callable[[int], None]) -> None:
    """Have all callers do some work at the same time; any failure of one is a failure."""
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(work, range(CALLERS)))


def test_many_containers_that_come_and_go_never_share_an_address_and_leave_nothing(light: Plugin) -> None:
    """32 callers, 200 calls each: request, create, delete, release."""
    lease(light.store, WIDE, "10.0.0.0/16")
    network = light.engine().create("wide", ipam_options={"overlay": "wide"}).id
    before, holders = light.held(), Holders()

    def caller(_: int) -> None:
        dockerd = light.dockerd()
        for _ in range(CALLS // 4):
            _come_and_go(dockerd, network, holders)

    at_once(caller)
    assert LONGEST_QUEUE <= len(holders.ever) < CALLERS * CALLS // 4, "freed ones wait in line, and then come back"
    assert light.held() == before


def _come_and_go(dockerd: Dockerd, network: str, holders: Holders) -> None:
    address = dockerd.call("IpamDriver.RequestAddress", {"PoolID": "wide/v4"})["Address"]
    holders.take(address)
    endpoint = {"NetworkID": network, "EndpointID": secrets.token_hex(32)}
    dockerd.call("NetworkDriver.CreateEndpoint", {**endpoint, "Interface": {"Address": address}})
    dockerd.call("NetworkDriver.DeleteEndpoint", endpoint)
    holders.give_back(address)
    dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": "wide/v4", "Address": address.partition("/")[0]})


def test_a_pool_asked_by_many_at_once_gives_each_address_once_until_it_is_empty(light: Plugin) -> None:
    """32 callers, 200 requests each, for the 6,400 addresses of a range."""
    dockerd, holders = light.dockerd(), Holders()
    asked = {"Pool": "172.16.0.0/16", "SubPool": "172.16.32.0/19"}
    pool = dockerd.call("IpamDriver.RequestPool", asked)["PoolID"]

    def caller(_: int) -> None:
        for _ in range(CALLS):
            holders.take(light.dockerd().call("IpamDriver.RequestAddress", {"PoolID": pool})["Address"])

    at_once(caller)
    assert len(holders.ever) == CALLERS * CALLS
    assert len([key for key in light.held() if key.startswith(f"{pool} ")]) == CALLERS * CALLS
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": pool})
    assert not [key for key in light.held() if key.startswith(pool)]


def test_containers_that_start_at_once_all_have_their_link(plugin: Plugin) -> None:
    """Whole starts and stops of 32 containers, each an engine's worth of calls, on one bridge."""
    engine = plugin.engine()
    engine.create("dcos")
    before = plugin.held()

    def caller(number: int) -> None:
        engine.run(f"c{number}", "dcos")

    at_once(caller)
    assert len({engine.ip(name) for name in engine.containers}) == CALLERS
    assert len(plugin.links()) == 2 * CALLERS
    at_once(lambda number: engine.delete(f"c{number}"))
    eventually(lambda: not plugin.links(), "links are left", lambda: str(plugin.links()))
    assert (plugin.held(), engine.logged) == (before, [])


def test_a_slow_call_keeps_no_other_waiting(light: Plugin) -> None:
    """One network's bridge takes its time; addresses of another are answered meanwhile, not one by one with it."""
    lease(light.store, WIDE, "10.0.0.0/16")
    engine = light.engine()
    engine.create("dcos")
    light.tell("seconds", "1")
    done = threading.Event()

    def create() -> None:
        engine.create("wide", ipam_options={"overlay": "wide"})
        done.set()

    slow = threading.Thread(target=create)
    slow.start()
    answered = 0
    while not done.is_set():
        address = light.dockerd().call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
        light.dockerd().call("IpamDriver.ReleaseAddress", {"PoolID": "dcos/v4", "Address": address.partition("/")[0]})
        answered += 1
    slow.join()
    assert answered > 2
