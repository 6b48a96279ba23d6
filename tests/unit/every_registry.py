# SPDX-License-Identifier: Apache-2.0
"""A registry of each kind, and what tests put into it. Another implementation joins by one more entry in KINDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from dni_driver.core.overlays import Address, AgentSubnet, Overlay, define
from dni_driver.core.peers import Peer, Vtep
from dni_driver.registry import Host, Registry, open_registry

OpenRegistry = Callable[[], Registry]
"""Opens one and the same registry each time, as another agent or a later start would."""

KINDS = ["local", pytest.param("zookeeper", marks=pytest.mark.zookeeper)]

ME = IPv4Address("192.0.2.1")
OTHER = IPv4Address("192.0.2.2")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    return "local" if request.param == "local" else str(request.getfixturevalue("zookeeper_url"))


@pytest.fixture
def again(url: str, tmp_path: Path) -> Iterator[OpenRegistry]:
    opened: list[Registry] = []

    def open_once_more() -> Registry:
        opened.append(open_registry(url, tmp_path))
        return opened[-1]

    yield open_once_more
    for registry in opened:
        registry.close()


@pytest.fixture
def registry(again: OpenRegistry) -> Registry:
    return again()


def overlay(name: str = "dcos", subnet: str = "9.0.0.0/8", prefix: int | None = None) -> Overlay:
    return define(name, [ip_network(subnet)], (prefix, prefix))


def held(subnet: str, name: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=name, subnet=ip_network(subnet))


DUAL = define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])


def host(agent_ip: Address = ME, identity: str = "one", **more: Any) -> Host:
    return Host(agent_ip=agent_ip, identity=identity, **{"boot": f"boot of {identity}", **more})


def vtep(text: str) -> Vtep:
    return Vtep(IPv4Interface(f"{text}/20"))


def alive(registry: Registry) -> dict[str, bool]:
    """Answer who lives, by all that is told of them; by names alone it is the same."""
    found = {str(member.agent_ip): member.alive for member in registry.members()}
    assert set(map(str, registry.alive())) == {agent for agent, lives in found.items() if lives}
    return found


def peer(agent_ip: Address, vtep_ip: str, *subnets: AgentSubnet) -> Peer:
    return Peer(agent_ip=agent_ip, vtep=vtep(vtep_ip), subnets=subnets)
