# SPDX-License-Identifier: Apache-2.0
"""Docker Compose, on networks that it makes and on others: the example of the docs, and what people forget."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import create, fetch, place, reaches
from tests.lab import Host, compose
from tests.lab.node import REPOSITORY

EXAMPLE = REPOSITORY / "docs" / "examples" / "compose.yaml"
PROJECT = "a-rather-long_name"
SHOP = f"{PROJECT}_shop"
WEB, WORKER = f"{PROJECT}-web-1", f"{PROJECT}-worker-1"


def try_compose(host: Host, file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Compose on a file."""
    program = str(compose.program(ENGINE))
    return host.try_run(program, "--project-name", PROJECT, "--file", str(file), *words)


def run_compose(host: Host, file: Path, *words: str) -> str:
    """Run Compose on a file; answer its output."""
    done = try_compose(host, file, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def prepare(host: Host) -> None:
    """Do what the example says at its top."""
    create(host, "dcos")
    host.dni("overlay", "create", "shop", "--subnet", "10.80.0.0/16", "--no-network")


@pytest.fixture
def example(host: Host) -> Iterator[Host]:
    """A host on which the example is up."""
    prepare(host)
    run_compose(host, EXAMPLE, "up", "--detach")
    yield host
    run_compose(host, EXAMPLE, "down")


def workers(host: Host) -> list[str]:
    """Answer the names of the containers of the service `worker`."""
    return host.docker("ps", "--format", "{{.Names}}", "--filter", f"name={PROJECT}-worker").split()


def addresses(host: Host, network: str) -> set[str]:
    """Answer the addresses that containers have on a network, as Docker tells them."""
    (shown,) = json.loads(host.docker("network", "inspect", network))
    return {endpoint["IPv4Address"].partition("/")[0] for endpoint in shown["Containers"].values()}


def test_the_example_comes_up_with_fixed_addresses_and_names_that_resolve(example: Host) -> None:
    assert place(example, WEB, SHOP)["IPAddress"] == "10.80.0.200"
    assert fetch(example, WORKER, "http://web:8000/") == "hello from web"
    assert reaches(example, WEB, "worker")
    assert example.run("curl", "-s", "-m", "30", f"http://{example.address}:8080/") == "hello from web"
    assert {(row["host_port"], row["container_port"]) for row in host_state.ports(example)} == {(8080, 8000)}
    assert addresses(example, "dcos") == {place(example, WEB)["IPAddress"]}
    limits = {row["egress"] for row in host_state.held(example) if row["network"] == SHOP and row["state"] == "bound"}
    assert limits == {100_000_000}


def test_a_service_is_scaled_up_and_down(example: Host) -> None:
    run_compose(example, EXAMPLE, "up", "--detach", "--scale", "worker=5")
    assert len(workers(example)) == 5
    assert len(addresses(example, SHOP)) == 6
    assert all(fetch(example, worker, "http://10.80.0.200:8000/") == "hello from web" for worker in workers(example))
    run_compose(example, EXAMPLE, "up", "--detach", "--scale", "worker=1")
    assert len(addresses(example, SHOP)) == 2


def test_a_service_that_is_made_anew_keeps_its_fixed_address(example: Host) -> None:
    run_compose(example, EXAMPLE, "up", "--detach", "--force-recreate", "web")
    assert place(example, WEB, SHOP)["IPAddress"] == "10.80.0.200"
    assert fetch(example, WORKER, "http://web:8000/") == "hello from web"


def test_down_leaves_nothing_but_what_was_there_before(host: Host) -> None:
    prepare(host)
    before = host_state.held(host)
    for _ in range(2):
        run_compose(host, EXAMPLE, "up", "--detach", "--scale", "worker=3")
        run_compose(host, EXAMPLE, "down")
        assert host_state.held(host) == before
        assert host_state.findings(host) == []
    assert "d-shop" not in host.run("ip", "-o", "link")


SERVICE = """
services:
  web:
    image: busybox
    command: ["sleep", "100000"]
    stop_signal: SIGKILL
    networks: [net]
networks:
  net:
"""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("{driver: dni}", "in a Compose file `ipam: {driver: dni}`"),
        (
            "{driver: dni, ipam: {driver: dni}}",
            "in a Compose file: `external: true`, or another overlay's subnet",
        ),
        (
            "{driver: dni, ipam: {driver: dni, config: [{subnet: 10.81.0.0/16}]}}",
            "Compose, which passes no --ipam-opt on, needs `dni overlay create NAME --subnet 10.81.0.0/16 --no-",
        ),
    ],
)
def test_what_is_forgotten_in_a_file_is_said_in_the_words_of_the_file(
    host: Host, tmp_path: Path, network: str, words: str
) -> None:
    create(host, "dcos")
    file = tmp_path / "compose.yaml"
    file.write_text(SERVICE.rstrip() + f" {network}\n")
    done = try_compose(host, file, "up", "--detach")
    assert done.returncode != 0
    assert words in done.stderr
    run_compose(host, file, "down")


@pytest.mark.skipif(
    compose.SUITES[ENGINE] == "trixie", reason="Compose 2.26 leaves out what a service says of itself"
)
def test_a_service_has_limits_of_its_own(host: Host, tmp_path: Path) -> None:
    create(host, "dcos")
    file = tmp_path / "compose.yaml"
    own = "networks: {net: {driver_opts: {egress: 10mbit}}}"
    file.write_text(SERVICE.replace("networks: [net]", own).rstrip() + " {external: true, name: dcos}\n")
    run_compose(host, file, "up", "--detach")
    (row,) = (row for row in host_state.held(host) if row["state"] == "bound")
    assert (row["egress"], row["ingress"]) == (10_000_000, None)
    run_compose(host, file, "down")


def test_a_network_of_the_default_overlay_needs_no_more_than_its_drivers(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(SERVICE.rstrip() + " {driver: dni, ipam: {driver: dni}}\n")
    run_compose(host, file, "up", "--detach")
    assert place(host, WEB, f"{PROJECT}_net")["IPAddress"].startswith("9.0.0.")
    run_compose(host, file, "down")
