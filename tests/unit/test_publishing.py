# SPDX-License-Identifier: Apache-2.0
"""Publishing ports over store and kernel: all or none, whoever is in the way, whatever is repeated or lost."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path

import pytest

from dni_driver.core.errors import InUse, KernelError, NotFound, Refused
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.ports import Binding, HostPort, Protocol, binding
from dni_driver.core.records import AddressState, EndpointRecord, NetworkRecord
from dni_driver.core.wanted import wanted
from dni_driver.plugin.publishing import Publishing
from dni_driver.store import Store, addresses, endpoints, networks, pools, ports
from dni_driver.store.records import read_all
from tests.fakes import DCOS, DUAL, FakeKernel, lease

WEB, DB, TWIN = "1" * 64, "2" * 64, "3" * 64
NETS = {"dcos": "d" * 64, "dual": "e" * 64}


class Host:
    """A host with two containers on dcos, and one that is on dcos and on dual."""

    def __init__(self, path: Path) -> None:
        """Have them run."""
        self.store = Store(path)
        self.kernel = FakeKernel()
        self.publishing = Publishing(self.store, self.kernel)
        lease(self.store, DCOS, "9.0.0.0/24")
        lease(self.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
        with self.store.write() as tx:
            for name, network in NETS.items():
                networks.add(
                    tx, NetworkRecord(id=network, overlay=name, options=NetworkOptions(), mtu=1450, since=1.0)
                )
            pools.use_overlay(tx, "dcos", 4, None, 1.0)
        self.endpoint(WEB, "9.0.0.130/25", sandbox="/web")
        self.endpoint(DB, "9.0.0.131/25", sandbox="/db")
        self.kernel.reconcile(lambda: wanted(read_all(self.store)))
        for link in wanted(read_all(self.store)).links:
            self.kernel.attach(link)

    def endpoint(
        self, name: str, four: str, six: str | None = None, *, on: str = "dcos", sandbox: str | None = None
    ) -> None:
        """Record an endpoint."""
        record = EndpointRecord(
            id=name,
            network=NETS[on],
            mac="02:42:09:00:00:82",
            address=IPv4Interface(four),
            address6=IPv6Interface(six) if six else None,
            sandbox=sandbox,
            since=1.0,
        )
        with self.store.write() as tx:
            endpoints.add(tx, record)

    def publish(self, endpoint: str, *wishes: Binding) -> list[str]:
        """Publish ports; answer what the endpoint has then."""
        self.publishing.publish(endpoint, wishes)
        return self.has(endpoint)

    def has(self, endpoint: str) -> list[str]:
        """Answer the ports that are recorded for an endpoint."""
        with self.store.read() as tx:
            return [f"{record.at} to {record.port}" for record in ports.of_endpoint(tx, endpoint)]

    def agrees(self) -> bool:
        """Tell whether records, kernel and held ports say the same."""
        records = read_all(self.store)
        recorded = {record.at for record in records.ports}
        right = wanted(records)
        leads = self.kernel.ports == frozenset(right.ports) and self.kernel.relayed == frozenset(right.relayed)
        return leads and self.kernel.held == recorded

    def take(self, text: str, port: int, name: str = "nginx (pid 7)") -> None:
        """Have a program take a port of the host."""
        self.kernel.programs[HostPort(Protocol.TCP, ip_address(text), port)] = name


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host of IPv4 alone: what is carried from IPv6 would stand beside each port otherwise."""
    host = Host(tmp_path / "dni.db")
    host.kernel.no_ipv6 = "it is off"
    yield host
    assert host.agrees()
    host.store.close()


def tcp(port: int, first: int = 0, last: int = 0, ip: str | None = None) -> Binding:
    return binding(6, port, ip_address(ip) if ip else None, first, last or first)


def test_a_port_leads_to_its_container(host: Host) -> None:
    assert host.publish(WEB, tcp(80, 8080)) == ["0.0.0.0:8080/tcp to 80"]
    (one,) = host.kernel.ports
    assert (str(one.at), str(one.target), one.port, one.bridge) == ("0.0.0.0:8080/tcp", "9.0.0.130", 80, "d-dcos")


def test_a_container_of_two_families_has_a_port_in_both(host: Host) -> None:
    host.endpoint(TWIN, "10.64.0.130/25", "fd01:b::8000:0:2/81", on="dual", sandbox="/twin")
    assert host.publish(TWIN, tcp(80, 8080)) == ["0.0.0.0:8080/tcp to 80", "[::]:8080/tcp to 80"]
    assert {str(one.target) for one in host.kernel.ports} == {"10.64.0.130", "fd01:b::8000:0:2"}


def test_a_repeat_changes_nothing_and_keeps_the_ports_that_were_given(host: Host) -> None:
    wishes = (tcp(80, 8080), tcp(81), tcp(82, 9000, 9010))
    first = host.publish(WEB, *wishes)
    assert host.publish(WEB, *wishes) == first == [
        "0.0.0.0:8080/tcp to 80", "0.0.0.0:9000/tcp to 82", "0.0.0.0:32768/tcp to 81"
    ]  # fmt: skip


def test_what_is_no_longer_asked_for_goes(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080), tcp(81, 8081))
    assert host.publish(WEB, tcp(80, 8080), tcp(82, 8082)) == ["0.0.0.0:8080/tcp to 80", "0.0.0.0:8082/tcp to 82"]
    assert host.publish(WEB) == []


def test_two_ports_of_a_container_can_change_places(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080), tcp(81, 8081))
    assert host.publish(WEB, tcp(81, 8080), tcp(80, 8081)) == ["0.0.0.0:8080/tcp to 81", "0.0.0.0:8081/tcp to 80"]


def test_any_port_is_the_next_one_free_and_a_freed_one_comes_last(host: Host) -> None:
    assert host.publish(WEB, tcp(80), tcp(81)) == ["0.0.0.0:32768/tcp to 80", "0.0.0.0:32769/tcp to 81"]
    host.publishing.revoke(WEB)
    host.take("0.0.0.0", 32770)
    assert host.publish(DB, tcp(80)) == ["0.0.0.0:32771/tcp to 80"]


def test_of_a_range_the_first_one_free_is_given(host: Host) -> None:
    host.publish(WEB, tcp(80, 8000))
    host.take("127.0.0.1", 8001)
    assert host.publish(DB, tcp(80, 8000, 8005)) == ["0.0.0.0:8002/tcp to 80"]


def test_a_fixed_port_is_served_before_any_that_could_take_it(host: Host) -> None:
    assert host.publish(WEB, tcp(80), tcp(81, 32768)) == ["0.0.0.0:32768/tcp to 81", "0.0.0.0:32769/tcp to 80"]


def test_of_two_families_a_port_is_given_that_is_free_in_both(host: Host) -> None:
    host.endpoint(TWIN, "10.64.0.130/25", "fd01:b::8000:0:2/81", on="dual", sandbox="/twin")
    host.take("::", 32768)
    assert host.publish(TWIN, tcp(80)) == ["0.0.0.0:32769/tcp to 80", "[::]:32769/tcp to 80"]


# -- refusals


def refusal(host: Host, endpoint: str, *wishes: Binding) -> str:
    before = host.has(endpoint)
    with pytest.raises(InUse) as caught:
        host.publish(endpoint, *wishes)
    assert host.has(endpoint) == before
    assert host.agrees()
    return str(caught.value)


def test_a_port_of_another_container_is_refused_with_its_name(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080))
    assert refusal(host, DB, tcp(81, 8081), tcp(80, 8080)) == (
        f"port 0.0.0.0:8080/tcp is in use by the container of endpoint {WEB[:12]}, see `dni ports`: choose another "
        "host port, or stop that first"
    )
    with host.store.write() as tx:
        addresses.hold(tx, "dcos/v4", ip_address("9.0.0.130"), AddressState.CLAIMED, 1.0)
        addresses.bind(tx, "dcos/v4", ip_address("9.0.0.130"), endpoints.find(tx, WEB), 1.0)
        addresses.set_container(tx, "dcos/v4", ip_address("9.0.0.130"), "web")
    assert "in use by container web: " in refusal(host, DB, tcp(80, 8080, ip="192.0.2.10"))


def test_a_port_of_a_program_is_refused_with_its_name(host: Host) -> None:
    host.take("0.0.0.0", 8080)
    assert "port 0.0.0.0:8080/tcp is in use by nginx (pid 7): " in refusal(host, WEB, tcp(81, 8081), tcp(80, 8080))


def test_a_range_without_a_free_port_says_so(host: Host) -> None:
    host.publish(WEB, tcp(80, 8000))
    host.take("0.0.0.0", 8001)
    text = refusal(host, DB, tcp(80, 8000, 8001))
    assert text.startswith(
        "no port of 8000-8001/tcp is free on this host (the last one tried, 0.0.0.0:8001/tcp, is in"
    )


def test_when_no_port_is_left_that_is_said_too(host: Host) -> None:
    host.publish(WEB, *[tcp(port) for port in range(1, 11)])
    assert "no port of 32768-32777/tcp is free" in refusal(host, DB, tcp(80))


def test_a_container_cannot_have_one_port_for_two(host: Host) -> None:
    with pytest.raises(Refused, match=r"same container has 0\.0\.0\.0:8080/tcp for its port 80 already"):
        host.publish(WEB, tcp(80, 8080), tcp(81, 8080))


def test_what_the_kernel_did_before_it_failed_is_taken_back_there_too(host: Host) -> None:
    def fail(where: str) -> None:
        if where == "after a change":
            host.kernel.crash_point = lambda _: None
            raise KernelError("half way")

    host.publish(WEB, tcp(80, 8080))
    host.kernel.crash_point = fail
    with pytest.raises(KernelError, match="half way"):
        host.publish(WEB, tcp(80, 8081))
    assert host.has(WEB) == ["0.0.0.0:8080/tcp to 80"]
    assert host.agrees()


def test_what_the_kernel_refuses_is_taken_back(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080))
    host.kernel.refusals.append(KernelError("no"))
    with pytest.raises(KernelError):
        host.publish(WEB, tcp(80, 8081))
    assert host.has(WEB) == ["0.0.0.0:8080/tcp to 80"]


def test_an_endpoint_that_is_not_known_gets_nothing(host: Host) -> None:
    with pytest.raises(NotFound):
        host.publish("f" * 64, tcp(80, 8080))
    assert host.publish("f" * 64) == []
    host.publishing.revoke("f" * 64)


def test_an_internal_network_publishes_nothing(host: Host) -> None:
    """Docker's own does not either."""
    with host.store.write() as tx:
        inner = NetworkRecord(id="c" * 64, overlay="dual", options=NetworkOptions(internal=True), mtu=1450, since=1.0)
        networks.remove(tx, NETS["dual"])
        networks.add(tx, inner)
        endpoints.add(tx, EndpointRecord(id=TWIN, network=inner.id, mac="02:42:09:00:00:84", since=1.0,
                                         address=IPv4Interface("10.64.0.130/25"), sandbox="/twin"))  # fmt: skip
    assert host.publish(TWIN, tcp(80, 8080)) == []


# -- what is lost and found


def test_the_ports_of_a_container_that_died_unseen_are_free(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080))
    host.kernel.detach([WEB])
    assert host.publish(DB, tcp(80, 8080)) == ["0.0.0.0:8080/tcp to 80"]
    assert host.has(WEB) == []


def test_ports_go_with_their_endpoint(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080))
    with host.store.write() as tx:
        endpoints.remove(tx, WEB)
    assert read_all(host.store).ports == []
    assert host.publishing.keep() == []
    host.kernel.publish(lambda: wanted(read_all(host.store)))


def test_a_plugin_that_starts_again_holds_what_is_recorded(host: Host) -> None:
    host.publish(WEB, tcp(80, 8080), tcp(81, 8081))
    host.kernel.held.clear()
    host.take("0.0.0.0", 8081)
    (problem,) = host.publishing.keep()
    assert problem == ("port 0.0.0.0:8081/tcp leads to a container, but nginx (pid 7) waits for callers there too")
    host.kernel.programs.clear()
    assert host.publishing.keep() == []


# -- a container on several networks


def test_two_networks_of_a_container_share_its_ports(host: Host) -> None:
    """From 28 on one of them may lead outside by IPv4, the other by IPv6."""
    host.endpoint(TWIN, "10.64.0.130/25", "fd01:b::8000:0:2/81", on="dual", sandbox="/web")
    assert host.publish(WEB, tcp(80, 8080), tcp(81)) == ["0.0.0.0:8080/tcp to 80", "0.0.0.0:32768/tcp to 81"]
    assert host.publish(TWIN, tcp(80, 8080), tcp(81)) == [
        "0.0.0.0:8080/tcp to 80",
        "[::]:8080/tcp to 80",
        "0.0.0.0:32768/tcp to 81",
        "[::]:32768/tcp to 81",
    ]
    host.publishing.revoke(WEB)
    assert {str(one.target) for one in host.kernel.ports} == {"10.64.0.130", "fd01:b::8000:0:2"}
    assert HostPort(Protocol.TCP, ip_address("0.0.0.0"), 8080) in host.kernel.held


def test_the_network_that_took_over_keeps_the_ports_when_the_first_is_revoked_late(host: Host) -> None:
    """29 may tell the new one first."""
    host.endpoint(TWIN, "10.64.0.130/25", on="dual", sandbox="/web")
    host.publish(WEB, tcp(80, 8080))
    host.publish(TWIN, tcp(80, 8080))
    host.publishing.revoke(WEB)
    assert host.has(TWIN) == ["0.0.0.0:8080/tcp to 80"]
    assert [str(one.target) for one in host.kernel.ports] == ["10.64.0.130"]


# -- what is carried


def carried(host: Host) -> dict[str, list[str]]:
    """Answer to which addresses callers of which ports are carried."""
    return {str(one.at): [str(target) for target in one.targets] for one in host.kernel.relayed}


@pytest.fixture
def host6(host: Host) -> Host:
    """A host that speaks IPv6 too."""
    host.kernel.no_ipv6 = None
    return host


def test_callers_of_ipv6_are_carried_to_a_container_of_ipv4_alone(host6: Host) -> None:
    assert host6.publish(WEB, tcp(80, 8080)) == ["0.0.0.0:8080/tcp to 80", "[::]:8080/tcp to 80"]
    assert carried(host6) == {"[::]:8080/tcp": ["9.0.0.130"]}
    assert {str(one.at) for one in host6.kernel.ports} == {"0.0.0.0:8080/tcp"}, "the kernel does the rest"
    assert host6.publish(WEB, tcp(80, 8080)) == host6.has(WEB), "a repeat"
    assert host6.publish(WEB, tcp(80, 8080, ip="0.0.0.0")) == ["0.0.0.0:8080/tcp to 80"]
    assert carried(host6) == {}


def test_callers_at_ipv6_loopback_are_carried_whatever_the_container_speaks(host6: Host) -> None:
    host6.endpoint(TWIN, "10.64.0.130/25", "fd01:b::8000:0:2/81", on="dual", sandbox="/twin")
    host6.publish(WEB, tcp(80, 8080, ip="::1"))
    host6.publish(TWIN, tcp(80, 8081, ip="::1"), tcp(80, 8082), tcp(80, 8083, ip="fd00:5::1"))
    both = ["fd01:b::8000:0:2", "10.64.0.130"]
    assert carried(host6) == {"[::1]:8080/tcp": ["9.0.0.130"], "[::1]:8081/tcp": both, "[::]:8082/tcp": both}
    led = {str(one.at) for one in host6.kernel.ports}
    assert led == {"0.0.0.0:8082/tcp", "[::]:8082/tcp", "[fd00:5::1]:8083/tcp"}, "the kernel leads nobody from ::1"


def test_of_two_networks_of_a_container_the_one_with_ipv6_is_where_ipv6_goes(host6: Host) -> None:
    host6.endpoint(TWIN, "10.64.0.130/25", "fd01:b::8000:0:2/81", on="dual", sandbox="/web")
    host6.publish(WEB, tcp(80, 8080))
    host6.publish(TWIN, tcp(80, 8080))
    assert {(str(one.at), str(one.target)) for one in host6.kernel.ports} == {
        ("0.0.0.0:8080/tcp", "9.0.0.130"), ("[::]:8080/tcp", "fd01:b::8000:0:2")
    }  # fmt: skip
    host6.publishing.revoke(TWIN)
    assert carried(host6) == {"[::]:8080/tcp": ["9.0.0.130"]}


def test_a_port_that_only_ipv6_has_taken_is_refused_with_who_has_it(host6: Host) -> None:
    host6.take("::", 8080)
    assert "port [::]:8080/tcp is in use by nginx (pid 7)" in refusal(host6, WEB, tcp(80, 8080))


def test_a_plugin_that_starts_again_carries_callers_again(host6: Host) -> None:
    host6.publish(WEB, tcp(80, 8080))
    before = host6.kernel.relayed
    host6.kernel.held.clear()
    host6.kernel.relayed = frozenset()
    again = Publishing(host6.store, host6.kernel)
    host6.take("::", 8080)
    assert len(again.keep()) == 1
    assert host6.kernel.relayed == frozenset()
    host6.kernel.programs.clear()
    assert again.keep() == []
    assert host6.kernel.relayed == before, "also where another program had the port meanwhile"


def test_a_container_that_the_agent_forgot_is_not_carried_to(host6: Host) -> None:
    """Another network of the same container has the port still."""
    host6.endpoint(TWIN, "10.64.0.130/25", on="dual", sandbox="/web")
    host6.publish(WEB, tcp(80, 8080))
    host6.publish(TWIN, tcp(80, 8080))
    host6.publishing.keep()
    with host6.store.write() as tx:
        endpoints.remove(tx, WEB)
    host6.publishing.keep()
    assert carried(host6) == {"[::]:8080/tcp": ["10.64.0.130"]}
    host6.kernel.publish(lambda: wanted(read_all(host6.store)))


def test_who_is_kept_to_their_network_is_known_when_it_was_made_after_the_port_and_when_it_opens(host6: Host) -> None:
    """The agent has a say in that too: it knows what subnets an overlay has."""
    host6.publish(WEB, tcp(80, 8080))
    host6.publishing.keep()
    for is_internal, bridges in ((True, {"d-dual", "m-dual"}), (False, set())):
        options = NetworkOptions(internal=is_internal)
        with host6.store.write() as tx:
            networks.remove(tx, NETS["dual"])
            networks.add(tx, NetworkRecord(id=NETS["dual"], overlay="dual", options=options, mtu=1450, since=1.0))
        host6.publishing.keep()
        assert host6.kernel.confined.bridges == bridges


def test_as_long_as_nothing_changes_nobody_is_told(host6: Host) -> None:
    host6.publish(WEB, tcp(80, 8080))
    host6.publishing.keep()
    host6.kernel.relayed = frozenset()
    host6.publishing.keep()
    assert carried(host6) == {}
    host6.publish(WEB, tcp(80, 8080))
