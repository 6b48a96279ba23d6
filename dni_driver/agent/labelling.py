# SPDX-License-Identifier: Apache-2.0
"""Gives containers that run what their Docker labels say; dockerd tells labels to no driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import structlog

from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.errors import KernelError, Refused
from dni_driver.core.options.labels import limits_of
from dni_driver.core.records import EndpointRecord
from dni_driver.core.views import DockerEndpoint, DockerView
from dni_driver.store import Store, Transaction, endpoints

log = structlog.get_logger(__name__)

Limits = dict[str, int]


class Labelling:
    """Holds what Docker shows against the records. For one thread."""

    def __init__(self, store: Store, reconciler: Reconciler) -> None:
        """Take both."""
        self._store = store
        self._reconciler = reconciler

    def look(self, docker: DockerView) -> list[str]:
        """Apply the limits of labels where neither driver-opt nor person has set any; answer what cannot be had."""
        problems: list[str] = []
        asked: dict[str, Limits] = {}
        for endpoint in _labelled(docker):
            try:
                asked[endpoint.id] = limits_of(endpoint.labels)
            except Refused as error:
                problems.append(f"container {endpoint.container}: {error}")
        return [*problems, *self._apply(asked)]

    def _apply(self, asked: Mapping[str, Limits]) -> list[str]:
        if not asked:
            return []
        with self._store.read() as tx:
            if not list(_due(tx, asked)):
                return []
        with self._store.write() as tx:
            due = list(_due(tx, asked))
            for endpoint, limits in due:
                endpoints.set_options(tx, endpoint.id, msgspec.structs.replace(endpoint.options, **limits))
        try:
            self._reconciler.mend()
        except KernelError as error:
            with self._store.write() as tx:
                for endpoint, _ in due:
                    endpoints.set_options(tx, endpoint.id, endpoint.options)
            return [f"the limits of labels cannot be kept: {error}"]
        log.info("limited by labels", endpoints=[endpoint.id[:12] for endpoint, _ in due])
        return []


def _labelled(docker: DockerView) -> Iterator[DockerEndpoint]:
    return (endpoint for network in docker.networks for endpoint in network.endpoints if endpoint.labels)


def _due(tx: Transaction, asked: Mapping[str, Limits]) -> Iterator[tuple[EndpointRecord, Limits]]:
    """Answer the endpoints with what of their labels nothing else has settled."""
    for identity, limits in asked.items():
        endpoint = endpoints.lookup(tx, identity)
        if endpoint is not None:
            missing = {key: bits for key, bits in limits.items() if getattr(endpoint.options, key) is None}
            if missing:
                yield endpoint, missing
