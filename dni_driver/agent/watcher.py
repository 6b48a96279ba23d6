# SPDX-License-Identifier: Apache-2.0
"""Takes the names of networks and containers from Docker into the store: dockerd tells them to no driver."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dni_driver.core.records import HELD, AddressRecord, Records
from dni_driver.core.views import DockerView
from dni_driver.store import Store, addresses, networks


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """An address, as it was recorded, and the container that Docker says has it."""

    record: AddressRecord
    container: str


def note_names(store: Store, records: Records, docker: DockerView) -> None:
    """Record what Docker, asked after the records were read, calls networks and containers."""
    renamed, named = dict(_renamed(records, docker)), list(_named(records, docker))
    if not renamed and not named:
        return
    with store.write() as tx:
        for network, name in renamed.items():
            networks.set_name(tx, network, name)
        for one in named:
            if addresses.find(tx, one.record.pool, one.record.address) == one.record:
                addresses.set_container(tx, one.record.pool, one.record.address, one.container)


def _renamed(records: Records, docker: DockerView) -> Iterator[tuple[str, str]]:
    names = {network.id: network.name for network in docker.networks}
    for network in records.networks:
        name = names.get(network.id)
        if name is not None and name != network.name:
            yield network.id, name


def _named(records: Records, docker: DockerView) -> Iterator[Named]:
    """Find containers by endpoint; where only Docker knows endpoints (plain pools), by address."""
    seen = [endpoint for network in docker.networks for endpoint in network.endpoints]
    by_endpoint = {endpoint.id: endpoint.container for endpoint in seen}
    by_address = {address: endpoint.container for endpoint in seen for address in endpoint.addresses}
    for record in records.addresses:
        if record.state in HELD:
            name = by_endpoint.get(record.endpoint) if record.endpoint else by_address.get(record.address)
            if name and name != record.container:
                yield Named(record=record, container=name)
