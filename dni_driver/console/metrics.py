# SPDX-License-Identifier: Apache-2.0
"""The agent's figures in the form that Prometheus reads. Imported by the first who asks: the library is large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dni_driver.core.addresses.filling import Load
from dni_driver.core.figures import Cluster, Figures


def exposition(figures: Figures) -> Response:
    """Answer the figures as text."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(figures))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Snapshot(Collector):
    """A collector of what was counted at one moment."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Answer every family of figures."""
        figures = self._figures
        yield _info(figures.version)
        yield _addresses(figures.loads)
        yield _endpoints(figures.endpoints)
        yield from _cluster(figures.cluster)
        yield from _of_this_moment(figures)
        yield from _since_the_start(figures)


def _info(version: str) -> Metric:
    family = GaugeMetricFamily("dni_build_info", "1, with the version of the agent.", labels=["version"])
    family.add_metric([version], 1)
    return family


def _addresses(loads: Iterable[Load]) -> Metric:
    text = "Addresses for containers in this host's halves: used, reserved (kept back) or free."
    family = GaugeMetricFamily("dni_addresses", text, labels=["overlay", "half", "family", "state"])
    for load in loads:
        for state, number in (("used", load.used), ("reserved", load.reserved), ("free", load.free)):
            family.add_metric([load.overlay, load.half, f"ipv{load.family}", state], number)
    return family


def _endpoints(counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily("dni_endpoints", "Containers on an overlay's network here.", labels=["overlay"])
    for overlay, number in counts.items():
        family.add_metric([overlay], number)
    return family


def _cluster(cluster: Cluster | None) -> Iterator[Metric]:
    yield _gauge("dni_registry_reachable", "1 where the registry answers, else 0.", cluster is not None)
    if cluster is None:
        return
    agents = GaugeMetricFamily("dni_agents", "Agents that the registry knows: alive or lost.", labels=["state"])
    agents.add_metric(["alive"], cluster.alive)
    agents.add_metric(["lost"], cluster.lost)
    yield agents
    family = GaugeMetricFamily("dni_leases", "Agent subnets held.", labels=["overlay", "family", "holder"])
    for lease in cluster.leases:
        family.add_metric([lease.overlay, f"ipv{lease.family}", "this" if lease.here else "other"], lease.count)
    yield family


def _of_this_moment(figures: Figures) -> Iterator[Metric]:
    yield _gauge(
        "dni_docker_reachable", "1 where dockerd answered when last asked, else 0.", figures.docker_reachable
    )
    yield _gauge("dni_problems", "What `dni status` shows as problems.", figures.problems)
    yield _gauge("dni_collector_candidates", "What looks leaked and is being watched.", figures.candidates)


def _since_the_start(figures: Figures) -> Iterator[Metric]:
    yield CounterMetricFamily("dni_collector_reclaimed", "What the collector has freed.", value=figures.reclaimed)
    text = "Changes by which the agent made the kernel agree with the records."
    yield CounterMetricFamily("dni_kernel_changes", text, value=figures.kernel_changes)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
