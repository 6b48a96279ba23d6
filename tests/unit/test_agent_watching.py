# SPDX-License-Identifier: Apache-2.0
"""What only Docker or only the kernel can tell gets into the store."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.watcher import note_names
from dni_driver.core.errors import KernelError
from dni_driver.core.records import AddressState
from dni_driver.core.views import DockerEndpoint, DockerNetwork, DockerView
from dni_driver.store import Store, addresses, endpoints, pools
from dni_driver.store.records import read_all
from tests.unit.agents import DB, SANDBOX, WEB, AgentsKernel, claim, create_endpoint, create_network, shown


def names(store: Store) -> dict[str, str | None]:
    return {str(record.address): record.container for record in read_all(store).addresses}


@pytest.fixture
def busy(store: Store) -> Store:
    """Answer a store with the network dcos and one endpoint on it."""
    create_network(store, 1)
    create_endpoint(store, WEB, "9.0.0.130", 1)
    return store


def note(store: Store, *networks: DockerNetwork) -> None:
    note_names(store, read_all(store), DockerView(networks=networks))


def test_networks_and_containers_are_known_by_name_and_renamed(busy: Store) -> None:
    note(busy, shown((WEB, "web", "9.0.0.130")))
    assert names(busy) == {"9.0.0.130": "web"}
    assert [network.name for network in read_all(busy).networks] == ["dcos"]
    note(busy, shown((WEB, "front", "9.0.0.130")))
    assert names(busy) == {"9.0.0.130": "front"}


def test_a_container_on_a_plain_pool_is_found_by_its_address(store: Store) -> None:
    with store.write() as tx:
        pool = pools.use_plain(tx, ip_network("10.5.0.0/24"), None, 1)
        addresses.hold(tx, pool.id, ip_address("10.5.0.1"), AddressState.RESERVED, 1)
        addresses.hold(tx, pool.id, ip_address("10.5.0.2"), AddressState.CLAIMED, 1)
    old = DockerEndpoint(id="3" * 64, container="old", addresses=(ip_address("10.5.0.2"),))
    note(store, DockerNetwork(id="b" * 64, name="br0", driver="bridge", ipam_driver="dni", endpoints=(old,)))
    assert names(store) == {"10.5.0.1": None, "10.5.0.2": "old"}


def test_another_endpoints_address_is_not_given_its_name(busy: Store) -> None:
    """Docker shows the address on an endpoint that dni did not record there: a finding, and no name."""
    note(busy, shown((DB, "db", "9.0.0.130")))
    assert names(busy) == {"9.0.0.130": None}


def test_an_address_that_changed_hands_since_it_was_read_gets_no_name(busy: Store) -> None:
    records = read_all(busy)
    with busy.write() as tx:
        addresses.unbind(tx, WEB, 2)
        endpoints.remove(tx, WEB)
    note_names(busy, records, DockerView(networks=(shown((WEB, "web", "9.0.0.130")),)))
    assert names(busy) == {"9.0.0.130": None}


def test_names_that_are_known_already_write_nothing(busy: Store) -> None:
    note(busy, shown((WEB, "web", "9.0.0.130")))
    commits: list[str] = []
    watched = Store(busy.path, commits.append)
    note(watched, shown((WEB, "web", "9.0.0.130")))
    watched.close()
    assert commits == []


def ifnames(store: Store) -> list[str | None]:
    return [endpoint.ifname for endpoint in read_all(store).endpoints]


def test_the_kernel_is_made_as_the_store_wants_it(busy: Store) -> None:
    kernel = AgentsKernel()
    assert Reconciler(busy, kernel).mend() == ["d-dcos"]
    assert set(kernel.bridges) == {"d-dcos"}


def test_a_links_name_in_its_sandbox_is_recorded_once_libnetwork_has_given_it(busy: Store) -> None:
    kernel = AgentsKernel()
    reconciler = Reconciler(busy, kernel)
    reconciler.round()
    assert ifnames(busy) == [None]
    kernel.ifnames[WEB] = "eth0"
    reconciler.round()
    assert ifnames(busy) == ["eth0"]


def test_names_are_recorded_although_the_kernel_cannot_be_mended(busy: Store) -> None:
    kernel = AgentsKernel()
    kernel.ifnames[WEB] = "eth0"
    kernel.refusals.append(KernelError("nft said no"))
    with pytest.raises(KernelError):
        Reconciler(busy, kernel).round()
    assert ifnames(busy) == ["eth0"]


def test_an_endpoint_that_left_while_its_name_was_asked_gets_none(busy: Store) -> None:
    kernel = AgentsKernel()

    def leave(_: object) -> str:
        with busy.write() as tx:
            endpoints.left(tx, WEB)
        return "eth0"

    kernel.ifname_in_sandbox = leave  # type: ignore[method-assign,assignment]
    Reconciler(busy, kernel).round()
    assert ifnames(busy) == [None]


def test_an_endpoint_in_no_sandbox_is_not_asked_about(busy: Store) -> None:
    with busy.write() as tx:
        endpoints.left(tx, WEB)
    claim(busy, "9.0.0.131", 1)
    kernel = AgentsKernel()
    kernel.ifnames = {WEB: "eth0"}
    Reconciler(busy, kernel).round()
    assert ifnames(busy) == [None]
    with busy.write() as tx:
        endpoints.joined(tx, WEB, SANDBOX)
    Reconciler(busy, kernel).round()
    assert ifnames(busy) == ["eth0"]
