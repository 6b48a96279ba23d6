# SPDX-License-Identifier: Apache-2.0
"""Gives containers that run what their Docker labels say; dockerd tells labels to no driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import structlog

from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.errors import KernelError, NotMended, Refused
from dni_driver.core.names import docker_bridge
from dni_driver.core.options.endpoint import EndpointOptions, taken_back
from dni_driver.core.options.labels import KNOWN, LIMITS, options_of
from dni_driver.core.records import EndpointRecord
from dni_driver.core.views import DockerEndpoint, DockerView
from dni_driver.store import Store, Transaction, endpoints, networks

log = structlog.get_logger(__name__)

Wishes = dict[str, Any]
"""What of an endpoint's labels nothing else has settled, by the names of its options."""


class Labelling:
    """Holds what Docker shows against the records. For one thread."""

    def __init__(self, store: Store, reconciler: Reconciler) -> None:
        """Take both."""
        self._store = store
        self._reconciler = reconciler

    def look(self, docker: DockerView) -> list[str]:
        """Take what labels say where neither driver-opt nor person has said it; answer what cannot be had."""
        problems: list[str] = []
        asked: dict[str, EndpointOptions] = {}
        for endpoint in _labelled(docker):
            try:
                asked[endpoint.id] = options_of(endpoint.labels)
            except Refused as error:
                problems.append(f"container {endpoint.container}: {error}")
        return [*problems, *self._apply(asked)]

    def _apply(self, asked: Mapping[str, EndpointOptions]) -> list[str]:
        if not asked:
            return []
        with self._store.read() as tx:
            if not list(_due(tx, asked)):
                return []
        with self._store.write() as tx:
            due = list(_due(tx, asked))
            _record(tx, due)
        try:
            if any(key in LIMITS for _, wishes in due for key in wishes):
                self._reconciler.mend()
        except KernelError as error:
            with self._store.write() as tx:
                is_hindered = _take_back(tx, due, error)
            if is_hindered:
                return [f"the limits of labels cannot be kept: {error}"]
        log.info("labels taken", endpoints=[endpoint.id[:12] for endpoint, _ in due])
        return []


def _record(tx: Transaction, due: Iterable[tuple[EndpointRecord, Wishes]]) -> None:
    for endpoint, wishes in due:
        endpoints.set_options(tx, endpoint.id, msgspec.structs.replace(endpoint.options, **wishes))


def _take_back(tx: Transaction, due: Iterable[tuple[EndpointRecord, Wishes]], error: KernelError) -> bool:
    """Record no limits where the kernel did not take them, and tell whether that is so anywhere.

    What ails the bridge of another overlay is no hindrance.
    """
    hindered = [
        (now, endpoint, {key: wishes[key] for key in wishes if key in LIMITS})
        for endpoint, wishes in due
        if (now := endpoints.lookup(tx, endpoint.id)) is not None and _is_hindered(tx, now, error)
    ]
    for now, before, limits in hindered:
        endpoints.set_options(tx, now.id, taken_back(now.options, limits, before.options))
    return any(limits for _, _, limits in hindered)


def _is_hindered(tx: Transaction, endpoint: EndpointRecord, error: KernelError) -> bool:
    bridge = docker_bridge(networks.find(tx, endpoint.network).overlay)
    return not isinstance(error, NotMended) or bool(error.on(bridge))


def _labelled(docker: DockerView) -> Iterator[DockerEndpoint]:
    return (endpoint for network in docker.networks for endpoint in network.endpoints if endpoint.labels)


def _due(tx: Transaction, asked: Mapping[str, EndpointOptions]) -> Iterator[tuple[EndpointRecord, Wishes]]:
    """Answer the endpoints with what of their labels nothing else has settled."""
    for identity, options in asked.items():
        endpoint = endpoints.lookup(tx, identity)
        if endpoint is not None:
            given = {key: value for key in KNOWN if (value := getattr(options, key)) is not None}
            missing = {key: value for key, value in given.items() if getattr(endpoint.options, key) is None}
            if missing:
                yield endpoint, missing
