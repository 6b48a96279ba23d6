# SPDX-License-Identifier: Apache-2.0
"""Published ports over the socket: said twice, taken back twice or not at all, refused, and refused half-way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.calls import create_endpoint, create_network, join, unknown
from tests.contract.dockerd import Dockerd, PluginError
from tests.contract.objects import EXPOSED, PUBLISHED
from tests.contract.plugin import Plugin, eventually

PROGRAM, REVOKE = "NetworkDriver.ProgramExternalConnectivity", "NetworkDriver.RevokeExternalConnectivity"


def port(inside: int, host: int = 0, **more: object) -> dict[str, object]:
    """Write one published port as Go marshals it."""
    return {"Proto": 6, "IP": "", "Port": inside, "HostIP": "", "HostPort": host, "HostPortEnd": host, **more}


def program(dockerd: Dockerd, endpoint: dict[str, str], *ports: dict[str, object]) -> Any:
    """Publish ports of an endpoint."""
    exposed = [{"Proto": each["Proto"], "Port": each["Port"]} for each in ports]
    return dockerd.call(PROGRAM, {**endpoint, "Options": {EXPOSED: exposed, PUBLISHED: list(ports)}})


class Place:
    """Two containers on a network of a plugin with the kernel in memory."""

    def __init__(self, plugin: Plugin) -> None:
        """Have them run."""
        self.plugin = plugin
        self.dockerd = plugin.dockerd()
        network = create_network(self.dockerd)["NetworkID"]
        self.web, self.db = (create_endpoint(self.dockerd, network) for _ in range(2))
        for number, endpoint in enumerate((self.web, self.db)):
            join(self.dockerd, endpoint, f"/var/run/docker/netns/{number:012}")

    def refused(self, endpoint: dict[str, str], *ports: dict[str, object]) -> str:
        """Have ports refused, and nothing changed by that; answer what the user reads."""
        before = self.plugin.rows(), self.plugin.ports()
        with pytest.raises(PluginError) as caught:
            program(self.dockerd, endpoint, *ports)
        assert (self.plugin.rows(), self.plugin.ports()) == before
        return str(caught.value)


@pytest.fixture
def place(light: Plugin) -> Place:
    return Place(light)


def test_ports_lead_to_their_container_until_they_are_revoked(place: Place) -> None:
    program(place.dockerd, place.web, port(80, 8080), port(53, 5353, Proto=17), port(5000, 5000, Proto=132))
    assert place.plugin.ports() == {
        "0.0.0.0:8080/tcp": "9.0.0.130 80",
        "0.0.0.0:5353/udp": "9.0.0.130 53",
        "0.0.0.0:5000/sctp": "9.0.0.130 5000",
    }
    for _ in range(2):
        assert place.dockerd.call(REVOKE, place.web) == {}
        assert place.plugin.ports() == {}


def test_what_is_said_last_is_what_there_is(place: Place) -> None:
    """29 says it again when the other family's gateway is there too."""
    for _ in range(2):
        program(place.dockerd, place.web, port(80), port(81, 8081))
        assert place.plugin.ports() == {"0.0.0.0:32768/tcp": "9.0.0.130 80", "0.0.0.0:8081/tcp": "9.0.0.130 81"}
    program(place.dockerd, place.web, port(81, 8082, HostIP="127.0.0.1"))
    assert place.plugin.ports() == {"127.0.0.1:8082/tcp": "9.0.0.130 81"}
    assert place.dockerd.call(PROGRAM, {**place.web, "Options": None}) == {}
    assert place.plugin.ports() == {}


def test_ipv6_is_carried_to_a_container_of_ipv4_where_the_host_speaks_it(place: Place) -> None:
    program(place.dockerd, place.web, port(80, 8080), port(81, 8081, HostIP="::1"), port(82, 8082, HostIP="::"))
    assert place.plugin.ports() == {"0.0.0.0:8080/tcp": "9.0.0.130 80"}, "the kernel leads no more than that"
    assert place.plugin.relayed() == {
        "[::]:8080/tcp": "9.0.0.130 80",
        "[::1]:8081/tcp": "9.0.0.130 81",
        "[::]:8082/tcp": "9.0.0.130 82",
    }
    place.plugin.tell("no-ipv6", "it is off")
    program(place.dockerd, place.web, port(80, 8080))
    assert place.plugin.relayed() == {}
    assert place.plugin.ports() == {"0.0.0.0:8080/tcp": "9.0.0.130 80"}


@pytest.mark.parametrize("method", ["NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint"])
def test_ports_go_with_their_endpoint_though_nobody_revokes_them(place: Place, method: str) -> None:
    """From 29 on dockerd forgets after live-restore that it had any."""
    program(place.dockerd, place.web, port(80, 8080))
    assert place.dockerd.call(method, place.web) == {}
    assert place.plugin.ports() == {}
    assert place.plugin.rows()["port"] == []
    program(place.dockerd, place.db, port(80, 8080))
    assert place.plugin.ports() == {"0.0.0.0:8080/tcp": "9.0.0.131 80"}


def test_ports_go_with_their_network(place: Place) -> None:
    program(place.dockerd, place.web, port(80, 8080))
    place.dockerd.call("NetworkDriver.DeleteNetwork", {"NetworkID": place.web["NetworkID"]})
    assert place.plugin.ports() == {}


def test_a_port_of_another_container_and_one_of_a_program_are_refused(place: Place) -> None:
    program(place.dockerd, place.web, port(80, 8080))
    assert f"in use by the container of endpoint {place.web['EndpointID'][:12]}" in place.refused(
        place.db, port(81, 8081), port(80, 8080)
    )
    place.plugin.tell("programs", "tcp 0.0.0.0 8090 nginx (pid 7)")
    text = place.refused(place.db, port(81, 8081), port(80, 8090))
    assert "port 0.0.0.0:8090/tcp is in use by nginx (pid 7): choose another host port, or stop that first" in text


def test_what_the_kernel_refuses_leaves_nothing(place: Place) -> None:
    place.plugin.tell("broken-once", "the kernel says no")
    assert "the kernel says no" in place.refused(place.web, port(80, 8080))
    program(place.dockerd, place.web, port(80, 8080))


def test_a_revoke_that_the_kernel_refuses_is_answered_and_the_ports_can_be_had(place: Place) -> None:
    program(place.dockerd, place.web, port(80, 8080))
    place.plugin.tell("broken-once", "the kernel says no")
    assert place.dockerd.call(REVOKE, place.web) == {}
    program(place.dockerd, place.db, port(80, 8080))
    eventually(lambda: place.plugin.ports() == {"0.0.0.0:8080/tcp": "9.0.0.131 80"}, "it leads elsewhere")


def test_a_container_that_died_unseen_does_not_keep_its_port(place: Place) -> None:
    """With it its link ends, and no call tells of that while the driver is down."""
    program(place.dockerd, place.web, port(80, 8080))
    with place.plugin.store.write() as tx:
        tx.execute("UPDATE endpoint SET sandbox = NULL WHERE id = ?", (place.web["EndpointID"],))
    program(place.dockerd, place.db, port(80, 8080))
    assert place.plugin.ports() == {"0.0.0.0:8080/tcp": "9.0.0.131 80"}


def test_an_endpoint_that_is_not_known_is_refused_ports_but_not_peace(calls: Dockerd) -> None:
    with pytest.raises(PluginError, match="is not recorded by dni: start its container again"):
        program(calls, unknown(), port(80, 8080))
    assert program(calls, unknown()) == {}


@pytest.mark.parametrize(
    ("ports", "status", "text"),
    [
        ("80", 400, "cannot be read"),
        ([{"Proto": "tcp", "Port": 80}], 400, "cannot be read"),
        ([port(0)], 400, "they are 1 to 65535"),
        ([port(80, 70000)], 400, "they are 1 to 65535"),
        ([port(80, 0, HostPortEnd=9)], 400, "they are 1 to 65535"),
        ([port(80, 8080, HostIP="localhost")], 400, "'localhost' is not an IP address"),
        ([port(80, 8080, HostIP="fe80::1%eth0")], 400, "is not an IP address"),
        ([port(80, 8080, Proto=1)], 500, "use tcp (6), udp (17) or sctp (132)"),
        ([port(80, 8080, HostIP="::")], 500, "the container has no IPv6 address"),
        ([port(80, 8080, HostIP="::1")], 500, "to carry tcp to it takes a host with IPv6"),
    ],
)
def test_what_cannot_be_published_is_refused_in_words(place: Place, ports: Any, status: int, text: str) -> None:
    place.plugin.tell("no-ipv6", "it is off")
    before = place.plugin.rows()
    body = json.dumps({**place.web, "Options": {PUBLISHED: ports}}).encode()
    reply = place.dockerd.send(PROGRAM, body)
    assert reply.status == status
    assert text in json.loads(reply.body)["Err"]
    assert place.plugin.rows() == before
