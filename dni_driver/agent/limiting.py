# SPDX-License-Identifier: Apache-2.0
"""Changes the limits of a container that runs, Docker's or one of dni-cni."""

from __future__ import annotations

import msgspec

from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.cni_records import CniEndpointRecord
from dni_driver.core.errors import KernelError, NotMended
from dni_driver.core.names import docker_bridge, mesos_bridge
from dni_driver.core.options.endpoint import EndpointOptions, taken_back
from dni_driver.core.overlays import Address
from dni_driver.core.records import EndpointRecord
from dni_driver.store import Store, Transaction, cni, endpoints, networks

Endpoint = EndpointRecord | CniEndpointRecord


def change_limits(store: Store, reconciler: Reconciler, address: Address, limits: dict[str, int]) -> None:
    """Record and apply `egress` and `ingress`, in bits a second, for the endpoint that has an address.

    Raises NotFound where there is none, KernelError where the kernel cannot: then the limits are what they were, or
    what somebody else has made of them since. What ails the bridge of another overlay is no hindrance.
    """
    with store.write() as tx:
        endpoint = cni.holder(tx, address) or endpoints.holder(tx, address)
        bridge = _bridge(tx, endpoint)
        _record(tx, endpoint, msgspec.structs.replace(endpoint.options, **limits))
    try:
        reconciler.mend()
    except KernelError as error:
        if isinstance(error, NotMended) and not error.on(bridge):
            return
        with store.write() as tx:
            now = _lookup(tx, endpoint)
            if now is not None:
                _record(tx, now, taken_back(now.options, limits, endpoint.options))
        raise


def _bridge(tx: Transaction, endpoint: Endpoint) -> str:
    if isinstance(endpoint, CniEndpointRecord):
        return mesos_bridge(endpoint.overlay)
    return docker_bridge(networks.find(tx, endpoint.network).overlay)


def _lookup(tx: Transaction, endpoint: Endpoint) -> Endpoint | None:
    if isinstance(endpoint, CniEndpointRecord):
        return cni.find_endpoint(tx, endpoint.id)
    return endpoints.lookup(tx, endpoint.id)


def _record(tx: Transaction, endpoint: Endpoint, options: EndpointOptions) -> None:
    kind = cni if isinstance(endpoint, CniEndpointRecord) else endpoints
    kind.set_options(tx, endpoint.id, options)
