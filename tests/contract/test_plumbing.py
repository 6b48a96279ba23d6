# SPDX-License-Identifier: Apache-2.0
"""What libnetwork does with Join's answer, on the real kernel: nothing that dni did not prepare is done here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.contract.engine import Engine
from tests.contract.objects import Endpoint
from tests.contract.plugin import Plugin, eventually
from tests.fakes import DUAL, UNDERLAY_MTU, lease
from tests.root.ground import Namespace

pytestmark = pytest.mark.root

MTU = UNDERLAY_MTU - 50


@pytest.fixture
def sandboxes() -> Iterator[tuple[Namespace, Namespace]]:
    """Give the network namespaces of two containers."""
    with Namespace() as one, Namespace() as other:
        yield one, other


@pytest.fixture
def engine(real: Plugin) -> Engine:
    """Give an engine with a dual-stack network."""
    lease(real.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    engine = real.engine()
    engine.create("dual", ipam_options={"overlay": "dual"}, ipv6=True)
    return engine


def plug(host: Namespace, sandbox: Namespace, endpoint: Endpoint) -> None:
    """Do as osl/interface_linux.go: move, down, rename, MAC, addresses, up, routes. No MTU."""
    host.sh(f"ip link set {endpoint.link} netns {sandbox.path}")
    sandbox.sh(f"ip link set {endpoint.link} down", f"ip link set {endpoint.link} name eth0")
    sandbox.sh(f"ip link set eth0 address {endpoint.mac}")
    for interface in endpoint.addresses.values():
        sandbox.sh(f"ip addr add {interface} dev eth0 {'nodad' if interface.version == 6 else ''}")
    sandbox.sh("ip link set eth0 up")
    for destination, gateway in endpoint.routes.items():
        sandbox.sh(f"ip route add {destination} via {gateway}")
    for family, gateway in endpoint.gateways.items():
        sandbox.sh(f"ip -{family} route add default via {gateway}")


def unplug(host: Namespace, sandbox: Namespace, endpoint: Endpoint) -> None:
    """Do as libnetwork after Leave: down, back to its first name, back to the host."""
    sandbox.sh("ip link set eth0 down", f"ip link set eth0 name {endpoint.link}")
    sandbox.sh(f"ip link set {endpoint.link} netns {host.path}")


def test_what_join_answers_is_enough_for_containers_to_reach_each_other_and_the_host(
    real: Plugin, engine: Engine, sandboxes: tuple[Namespace, Namespace]
) -> None:
    host, (one, other) = _host(real), sandboxes
    first, second = (engine.run(name, "dual").endpoints["dual"] for name in ("a", "b"))
    plug(host, one, first)
    plug(host, other, second)
    for target in (*second.addresses.values(), *first.gateways.values()):
        one.sh(f"ping -c 1 -W 3 {str(target).partition('/')[0]}")
    host.sh(*(f"ping -c 1 -W 3 {interface.ip}" for interface in first.addresses.values()))
    assert f"mtu {MTU}" in one.sh("ip link show eth0")
    assert first.mac in one.sh("ip link show eth0")


def test_a_link_goes_with_its_endpoint_wherever_it_is(
    real: Plugin, engine: Engine, sandboxes: tuple[Namespace, Namespace]
) -> None:
    """Back on the host as after a stop, and still in the sandbox as after a crash."""
    host, (one, other) = _host(real), sandboxes
    for name, sandbox, back in (("a", one, True), ("b", other, False)):
        endpoint = engine.run(name, "dual").endpoints["dual"]
        plug(host, sandbox, endpoint)
        if back:
            unplug(host, sandbox, endpoint)
        engine.delete(name)
        eventually(lambda: not real.links(), "links are left", lambda: str(real.links()))
        assert "eth0" not in sandbox.sh("ip link show")
    assert engine.logged == []


def test_a_network_that_comes_and_goes_leaves_containers_of_others_alone(
    real: Plugin, engine: Engine, sandboxes: tuple[Namespace, Namespace]
) -> None:
    endpoint = engine.run("a", "dual").endpoints["dual"]
    plug(_host(real), sandboxes[0], endpoint)
    for _ in range(3):
        engine.create("dcos")
        engine.remove("dcos")
    sandboxes[0].sh(*(f"ping -c 1 -W 3 {gateway}" for gateway in endpoint.gateways.values()))


def test_what_a_network_left_behind_goes_with_it(
    real: Plugin, engine: Engine, sandboxes: tuple[Namespace, Namespace]
) -> None:
    """A deleted network takes the links of containers that dockerd forgot along, out of their sandboxes too."""
    endpoint = engine.run("a", "dual").endpoints["dual"]
    plug(_host(real), sandboxes[0], endpoint)
    engine.remove("dual")
    eventually(lambda: not real.links() and not real.bridges(), "devices are left", lambda: str(real.links()))
    assert "eth0" not in sandboxes[0].sh("ip link show")


def test_what_a_container_may_send_as_is_settled_before_join_answers_and_goes_with_its_endpoint(
    real: Plugin, engine: Engine
) -> None:
    host, mac = _host(real), "02:42:ac:13:00:02"
    checked = engine.run("a", "dual", mac=mac).endpoints["dual"]
    free = engine.run("b", "dual", driver_opts={"spoof": "allow"}).endpoints["dual"]
    table = host.sh("nft list table bridge dni")
    for address in checked.addresses.values():
        assert f'"dni{checked.id[:11]}" . {mac} . {address.ip}' in table
    assert f'elements = {{ "dni{free.id[:11]}" }}' in table
    for name in ("a", "b"):
        engine.delete(name)
    eventually(lambda: "elements" not in host.sh("nft list table bridge dni"), "elements are left")


def test_what_a_container_may_send_as_on_its_other_networks_goes_with_the_one_it_leaves(
    real: Plugin, engine: Engine
) -> None:
    host = _host(real)
    engine.create("dcos")
    container = engine.run("a", "dual")
    engine.connect("a", "dcos")
    stays, goes = container.endpoints["dual"], container.endpoints["dcos"]
    assert _allowed(host, stays) == {*_ips(stays), *_ips(goes)}
    engine.disconnect("a", "dcos")
    assert _allowed(host, stays) == _ips(stays)


def _allowed(host: Namespace, endpoint: Endpoint) -> set[str]:
    """Answer the addresses that an endpoint's link may send as, but for the one of the link alone."""
    listed = host.sh("nft list table bridge dni")
    named = re.findall(rf'"dni{endpoint.id[:11]}" \. {endpoint.mac} \. ([0-9a-f.:]+)', listed)
    return {address for address in named if not address.startswith("fe80:")}


def _ips(endpoint: Endpoint) -> set[str]:
    return {str(interface.ip) for interface in endpoint.addresses.values()}


def _host(plugin: Plugin) -> Namespace:
    assert plugin.namespace is not None
    return plugin.namespace
