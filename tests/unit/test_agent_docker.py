# SPDX-License-Identifier: Apache-2.0
"""What the agent reads from Docker's API, through docker-py and a real socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent import docker
from dni_driver.agent.docker import DockerDaemon
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.errors import Unavailable
from dni_driver.core.records import Records
from dni_driver.core.views import DockerEndpoint, DockerNetwork
from tests.scratch import fast_directory
from tests.unit import scene
from tests.unit.docker_api import BR0, DCOS, OLD, WEB, DockerApi, attached, container, network

NOTHING = Records(overlays=[], agent_subnets=[], pools=[], addresses=[], networks=[], endpoints=[])


@pytest.fixture
def path() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory) / "docker.sock"


@pytest.fixture
def api(path: Path) -> Iterator[DockerApi]:
    with DockerApi(path) as api:
        yield api


@pytest.fixture
def daemon(path: Path) -> Iterator[DockerDaemon]:
    daemon = DockerDaemon(path)
    yield daemon
    daemon.close()


def seen(daemon: DockerDaemon, records: Records = NOTHING) -> list[DockerNetwork]:
    return list(daemon.view(records).networks)


def test_the_engine_tells_its_version(api: DockerApi, daemon: DockerDaemon) -> None:
    assert daemon.version() == "28.5.2"
    api.server = "Docker/29.0.0+dfsg1 (linux)"
    assert daemon.version() == "29.0.0+dfsg1"
    assert api.asked == ["/version", "/_ping", "/_ping"], "asked outright by docker-py alone, for that of the API"


def test_behind_a_proxy_that_speaks_for_the_engine_it_is_asked_for_its_version(
    api: DockerApi, daemon: DockerDaemon
) -> None:
    api.server = "nginx/1.27.1"
    assert daemon.version() == "28.5.2"


def test_a_network_is_read_with_gateway_auxiliary_addresses_and_containers(
    api: DockerApi, daemon: DockerDaemon
) -> None:
    config = {"Subnet": "9.0.0.128/25", "Gateway": "9.0.0.129/25", "AuxiliaryAddresses": {"router": "9.0.0.200"}}
    dcos = network("dcos", DCOS, "dni", "dni", config)
    dcos["Containers"] = {"c" * 64: attached(WEB, "web", "9.0.0.130/25", "fd01:b::82/81")}
    api.networks = [dcos, network("bridge", "e" * 64, "bridge", "default")]
    assert seen(daemon) == [
        DockerNetwork(
            id=DCOS,
            name="dcos",
            driver="dni",
            ipam_driver="dni",
            endpoints=(
                DockerEndpoint(
                    id=WEB, container="web", addresses=(ip_address("9.0.0.130"), ip_address("fd01:b::82"))
                ),
            ),
            addresses=(ip_address("9.0.0.129"), ip_address("9.0.0.200")),
            subnets=("9.0.0.128/25",),
        )
    ]


def test_networks_that_have_nothing_to_do_with_dni_are_not_asked_about(api: DockerApi, daemon: DockerDaemon) -> None:
    api.networks = [network("bridge", "e" * 64, "bridge", "default"), network("none", "f" * 64, "null", "default")]
    assert seen(daemon) == []
    assert api.asked.count("/networks") == 1
    assert "/containers/json" not in api.asked
    assert not [path for path in api.asked if path.startswith("/networks/")]


@pytest.mark.parametrize(
    ("driver", "ipam"),
    [("dni", "dni"), ("dni:latest", "dni:latest"), ("bridge", "dni"), ("example.org/dni:1.0", "default")],
)
def test_a_network_is_ours_by_either_driver_and_with_any_tag(
    api: DockerApi, daemon: DockerDaemon, driver: str, ipam: str
) -> None:
    api.networks = [network("dcos", DCOS, driver, ipam)]
    assert [(one.driver, one.ipam_driver) for one in seen(daemon)] == [(driver, ipam)]


def test_a_plugin_under_an_alias_is_known_by_the_networks_and_pools_we_recorded(
    api: DockerApi, daemon: DockerDaemon
) -> None:
    """Else everything on them would look leaked."""
    api.networks = [
        network("dcos", DCOS, "mynet:latest", "mynet:latest"),
        network("br0", BR0, "bridge", "mynet:latest", {"Subnet": "10.5.0.0/24"}),
        network("other", "e" * 64, "bridge", "default", {"Subnet": "10.5.0.0/24"}),
    ]
    assert [one.name for one in seen(daemon, scene.records())] == ["dcos", "br0"]


def test_running_containers_complete_what_a_network_says(api: DockerApi, daemon: DockerDaemon) -> None:
    dcos = network("dcos", DCOS, "dni", "dni")
    dcos["Containers"] = {"ep-x": attached(WEB, "old-name", "9.0.0.130/25")}
    api.networks = [dcos]
    api.containers = [
        container("web", DCOS, WEB, "9.0.0.130"),
        container("db", DCOS, OLD, "9.0.0.131", "fd01:b::83"),
        container("elsewhere", BR0, "5" * 64, "10.5.0.2"),
        container("stopped", DCOS, "", ""),
    ]
    (one,) = seen(daemon)
    assert one.endpoints == (
        DockerEndpoint(id=WEB, container="web", addresses=(ip_address("9.0.0.130"),)),
        DockerEndpoint(id=OLD, container="db", addresses=(ip_address("9.0.0.131"), ip_address("fd01:b::83"))),
    )


def test_a_container_that_has_aliases_by_links_keeps_its_own_name(api: DockerApi, daemon: DockerDaemon) -> None:
    linked = container("web", DCOS, WEB, "9.0.0.130")
    linked["Names"] = ["/proxy/backend", "/web"]
    api.networks, api.containers = [network("dcos", DCOS, "dni", "dni")], [linked]
    assert [endpoint.container for endpoint in seen(daemon)[0].endpoints] == ["web"]


def test_what_engines_leave_out_or_write_for_nothing_is_nothing(api: DockerApi, daemon: DockerDaemon) -> None:
    bare = network("dcos", DCOS, "dni", "dni", {"Subnet": "9.0.0.130/25", "Gateway": ""}, {"Gateway": "<nil>"})
    bare["Containers"] = {"c": attached(WEB, "web", "")}
    nulls = network("dev", BR0, "dni", "dni")
    nulls["Containers"], nulls["IPAM"]["Config"] = None, None
    api.networks = [bare, nulls]
    api.containers = [{"Names": None, "NetworkSettings": None}, {"Names": [], "NetworkSettings": {"Networks": None}}]
    first, second = seen(daemon)
    assert (first.subnets, first.addresses) == (("9.0.0.128/25",), ())
    assert first.endpoints == (DockerEndpoint(id=WEB, container="web"),)
    assert (second.subnets, second.endpoints) == ((), ())


def test_a_network_that_goes_while_it_is_asked_about_is_left_out(api: DockerApi, daemon: DockerDaemon) -> None:
    api.networks = [network("dcos", DCOS, "dni", "dni"), network("dev", BR0, "dni", "dni")]
    api.gone = {DCOS}
    assert [one.name for one in seen(daemon)] == ["dev"]


def test_an_engine_that_says_no_is_quoted(api: DockerApi, daemon: DockerDaemon, path: Path) -> None:
    api.broken = "cannot access the store"
    with pytest.raises(Unavailable, match=f"dockerd does not answer at {path}: .*cannot access the store"):
        seen(daemon)


@pytest.mark.parametrize("answer", [{"message": "odd"}, [{"Name": 7, "Id": DCOS}], None])
def test_an_answer_in_another_shape_is_no_view(api: DockerApi, daemon: DockerDaemon, answer: Any) -> None:
    api.networks = [network("dcos", DCOS, "dni", "dni")]
    api.answer = lambda path: (200, {"ApiVersion": "1.51"} if path == "/version" else answer)  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="dockerd answered something that dni cannot read"):
        seen(daemon)


def test_a_socket_that_is_not_there_or_dead_is_explained_in_a_few_words(daemon: DockerDaemon, path: Path) -> None:
    with pytest.raises(Unavailable, match=f"^dockerd does not answer at {path}: No such file or directory$"):
        daemon.version()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(Unavailable, match=f"^dockerd does not answer at {path}: Connection refused$"):
        daemon.events()


def test_an_engine_that_hangs_is_given_up(daemon: DockerDaemon, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that accepts and never answers, as dockerd's does while it starts."""
    monkeypatch.setattr("dni_driver.agent.docker.ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(Unavailable, match=r"no answer within 0\.2 s$"):
            daemon.version()


def test_an_engine_that_comes_back_is_asked_anew(daemon: DockerDaemon, path: Path) -> None:
    with DockerApi(path):
        assert daemon.version() == "28.5.2"
    with pytest.raises(Unavailable):
        daemon.version()
    path.unlink()
    with DockerApi(path):
        assert daemon.version() == "28.5.2"


def test_events_are_told_as_they_happen_until_the_engine_ends(api: DockerApi, daemon: DockerDaemon) -> None:
    api.events = [
        {"Type": "network", "Action": "connect", "Actor": {"ID": DCOS}},
        {"Type": "daemon", "Action": "reload"},
    ]
    events = daemon.events()
    assert next(events) == DockerEvent("network", "connect")
    assert next(events) == DockerEvent("daemon", "reload")
    assert api.filters["type"] == ["network", "daemon"]
    assert "connect" in api.filters["event"]
    api.ends.set()
    assert list(events) == []


def test_who_comes_and_goes_on_other_networks_is_no_news(api: DockerApi, daemon: DockerDaemon) -> None:
    api.networks = [network("bridge", BR0, "bridge", "default"), network("dcos", DCOS, "dni", "dni")]
    daemon.view(NOTHING)
    api.events = [
        {"Type": "network", "Action": "connect", "Actor": {"ID": BR0}},
        {"Type": "network", "Action": "disconnect", "Actor": {"ID": BR0}},
        {"Type": "network", "Action": "destroy", "Actor": {"ID": BR0}},
        {"Type": "network", "Action": "disconnect", "Actor": {"ID": DCOS}},
    ]
    api.ends.set()
    assert list(daemon.events()) == [DockerEvent("network", "destroy"), DockerEvent("network", "disconnect")]


def test_waiting_for_events_ends_when_the_agent_does(api: DockerApi, daemon: DockerDaemon) -> None:
    api.events = [{"Type": "container", "Action": "start"}]
    events, first, ended = daemon.events(), threading.Event(), threading.Event()

    def follow() -> None:
        for _ in events:
            first.set()
        ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert first.wait(60)
    daemon.close()
    assert ended.wait(60)
    thread.join(60)


@pytest.mark.usefixtures("api")
def test_events_that_are_asked_for_when_the_agent_has_ended_end_at_once(daemon: DockerDaemon) -> None:
    daemon.close()
    late = threading.Thread(target=lambda: list(daemon.events()), daemon=True)
    late.start()
    late.join(20)
    assert not late.is_alive()


WITHOUT_DOCKERD = """
import sys
from contextlib import suppress
from pathlib import Path
from dni_driver.agent.agent import Agent
from dni_driver.agent import docker
from dni_driver.agent.docker import DockerDaemon
from dni_driver.core.errors import Unavailable
with suppress(Unavailable):
    DockerDaemon(Path("/nowhere/docker.sock")).version()
print("docker" in sys.modules, "requests" in sys.modules)
"""


def test_docker_py_is_not_loaded_where_no_dockerd_runs() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT_DOCKERD], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["False", "False"]


def test_a_thread_that_waits_too_long_for_another_to_ask_is_told(
    daemon: DockerDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "TURN_SECONDS", 0.01)
    with daemon._lock, pytest.raises(Unavailable, match="is being asked already"):  # noqa: SLF001
        daemon.version()
