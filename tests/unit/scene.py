# SPDX-License-Identifier: Apache-2.0
"""A host in good order, for tests that put one thing wrong: two containers on `dcos`, one plain pool in use."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import msgspec

from dni_driver.core.invariants.check import findings
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.names import host_link
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.records import (
    AddressRecord,
    AddressState,
    EndpointRecord,
    NetworkRecord,
    PoolRecord,
    Records,
)
from dni_driver.core.views import BridgeView, DockerEndpoint, DockerNetwork, DockerView, KernelView, LinkView
from dni_driver.core.wanted import wanted

NOW = 1_000_000.0
LONG_AGO = NOW - 5000
JUST_NOW = NOW - 5

DCOS = "d" * 64
BR0 = "b" * 64
WEB = "1" * 64
DB = "2" * 64
POOL = "dcos/v4"
PLAIN = "plain/10.5.0.0/24"


def address(
    text: str,
    state: AddressState = AddressState.CLAIMED,
    *,
    pool: str = POOL,
    endpoint: str | None = None,
    network: str | None = None,
    since: float = LONG_AGO,
) -> AddressRecord:
    return AddressRecord(
        pool=pool, address=ip_address(text), state=state, endpoint=endpoint, network=network, since=since
    )


def endpoint(
    name: str, text: str, *, sandbox: str | None = "/run/docker/netns/x", since: float = LONG_AGO
) -> EndpointRecord:
    interface = ip_interface(f"{text}/25")
    assert interface.version == 4
    return EndpointRecord(
        id=name, network=DCOS, mac="02:42:09:00:00:82", address=interface, sandbox=sandbox, since=since
    )


def network(since: float = LONG_AGO) -> NetworkRecord:
    gateway = ip_interface("9.0.0.129/25")
    assert gateway.version == 4
    return NetworkRecord(
        id=DCOS, overlay="dcos", name="dcos", options=NetworkOptions(), mtu=1450, gateway=gateway, since=since
    )


def records(**changed: object) -> Records:
    """Answer the records of the host, some of them replaced."""
    good = Records(
        overlays=[define("dcos", [ip_network("9.0.0.0/8")])],
        agent_subnets=[AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24"))],
        pools=[
            PoolRecord(id=POOL, family=4, overlay="dcos", uses=1, since=LONG_AGO),
            PoolRecord(id=PLAIN, family=4, subnet=ip_network("10.5.0.0/24"), uses=1, since=LONG_AGO),
        ],
        addresses=[
            address("9.0.0.130", AddressState.BOUND, endpoint=WEB, network=DCOS),
            address("9.0.0.131", AddressState.BOUND, endpoint=DB, network=DCOS),
            address("9.0.0.132", AddressState.FREE),
            address("10.5.0.1", AddressState.RESERVED, pool=PLAIN),
            address("10.5.0.2", pool=PLAIN),
        ],
        networks=[network()],
        endpoints=[endpoint(WEB, "9.0.0.130"), endpoint(DB, "9.0.0.131")],
    )
    return msgspec.structs.replace(good, **changed)


def docker_endpoint(name: str, container: str, *addresses: str) -> DockerEndpoint:
    return DockerEndpoint(id=name, container=container, addresses=tuple(map(ip_address, addresses)))


def dcos(*endpoints: DockerEndpoint) -> DockerNetwork:
    return DockerNetwork(
        id=DCOS,
        name="dcos",
        driver="dni",
        ipam_driver="dni",
        endpoints=endpoints,
        addresses=(ip_address("9.0.0.129"),),
        subnets=("9.0.0.128/25",),
    )


def br0(*endpoints: DockerEndpoint) -> DockerNetwork:
    """Answer a bridge network on the plain pool, as engines before 28 show it: without its gateway."""
    return DockerNetwork(
        id=BR0, name="br0", driver="bridge", ipam_driver="dni", endpoints=endpoints, subnets=("10.5.0.0/24",)
    )


WEB_IN_DOCKER = docker_endpoint(WEB, "web", "9.0.0.130")
DB_IN_DOCKER = docker_endpoint(DB, "db", "9.0.0.131")
PLAIN_IN_DOCKER = docker_endpoint("3" * 64, "old", "10.5.0.2")


def docker(*networks: DockerNetwork) -> DockerView:
    """Answer what Docker shows: these networks, or all that the records know."""
    return DockerView(networks=networks or (dcos(WEB_IN_DOCKER, DB_IN_DOCKER), br0(PLAIN_IN_DOCKER)))


def link(name: str) -> LinkView:
    return LinkView(name=host_link(name), up=True, mtu=1450, bridge="d-dcos")


def bridge(**changed: object) -> BridgeView:
    addresses = (ip_interface("9.0.0.129/25"), ip_interface("fe80::1/64"))
    good = BridgeView(name="d-dcos", up=True, mtu=1450, addresses=addresses)
    return msgspec.structs.replace(good, **changed)


def kernel(**changed: object) -> KernelView:
    return msgspec.structs.replace(KernelView(bridges=(bridge(),), links=(link(WEB), link(DB))), **changed)


def check(records: Records, kernel: KernelView | None = None, docker: DockerView | None = None) -> list[Finding]:
    return findings(records, kernel, docker, wanted(records), NOW)


def problems(found: list[Finding]) -> list[str]:
    return [f"{finding.about} {finding.problem}" for finding in found]


def with_addresses(*more: object) -> Records:
    return records(addresses=[*records().addresses, *more])
