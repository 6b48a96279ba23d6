# SPDX-License-Identifier: Apache-2.0
"""Changes the limits of a container that runs."""

from __future__ import annotations

import msgspec

from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.errors import KernelError, NotMended
from dni_driver.core.names import docker_bridge
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.overlays import Address
from dni_driver.store import Store, endpoints, networks


def change_limits(store: Store, reconciler: Reconciler, address: Address, limits: dict[str, int]) -> None:
    """Record and apply `egress` and `ingress`, in bits a second, for the endpoint that has an address.

    Raises NotFound where there is none, KernelError where the kernel cannot: then the limits are what they were. What
    ails the bridge of another overlay is no hindrance.
    """
    with store.write() as tx:
        endpoint = endpoints.holder(tx, address)
        bridge = docker_bridge(networks.find(tx, endpoint.network).overlay)
        endpoints.set_options(tx, endpoint.id, msgspec.structs.replace(endpoint.options, **limits))
    try:
        reconciler.mend()
    except KernelError as error:
        if isinstance(error, NotMended) and not error.on(bridge):
            return
        _put_back(store, endpoint.id, endpoint.options)
        raise


def _put_back(store: Store, endpoint: str, options: EndpointOptions) -> None:
    with store.write() as tx:
        endpoints.set_options(tx, endpoint, options)
