# SPDX-License-Identifier: Apache-2.0
"""`docker network create`: what works, and what is refused with the sentence that helps."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e import host_state
from tests.e2e.containers import CREATE, address, create, place, reaches, refused, start
from tests.e2e.host_state import nothing_left
from tests.lab import Host


def _pool(host: Host, name: str) -> str:
    config = json.loads(host.docker("network", "inspect", "--format", "{{json .IPAM.Config}}", name))
    return str(config[0]["Subnet"])


def _bridge_mtu(host: Host, bridge: str) -> int:
    (link,) = json.loads(host.run("ip", "-j", "link", "show", bridge))
    return int(link["mtu"])


def test_the_default_overlay_needs_no_further_word(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "dcos")
    assert _pool(host, "dcos") == "9.0.0.128/25"
    assert start(host, "c1") == "9.0.0.130"
    assert "9.0.0.129/25" in host.run("ip", "-4", "address", "show", "d-dcos")


@pytest.mark.parametrize(
    "words",
    [
        ("--subnet", "9.0.0.0/8"),
        ("--ipam-opt", "overlay=dcos"),
        ("--subnet", "9.0.0.128/25"),
        ("--subnet", "9.0.0.0/8", "--ipam-opt", "overlay=dcos"),
    ],
    ids=["overlay subnet", "name", "docker half", "both"],
)
def test_an_overlay_is_found_by_subnet_by_half_and_by_name(host: Host, words: tuple[str, ...]) -> None:
    create(host, *words, "dcos")
    assert start(host, "c1").startswith("9.0.0.")


def test_subnet_and_name_define_a_new_overlay(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    assert {row["name"] for row in host_state.overlays(host)} == {"dcos", "dev"}
    assert start(host, "c1", net="dev") == "10.64.0.130"


def test_a_new_overlay_can_have_another_prefix(fresh_host: Host) -> None:
    host = fresh_host
    create(host, "--subnet", "10.65.0.0/16", "--ipam-opt", "overlay=small", "--ipam-opt", "prefix=28", "small")
    assert start(host, "c1", net="small") == "10.65.0.10"


def test_an_overlay_made_with_the_dni_command_is_used_by_name(fresh_host: Host) -> None:
    host = fresh_host
    host.dni("overlay", "create", "ops", "--subnet", "10.66.0.0/16")
    assert start(host, "c1", net="ops") == "10.66.0.130"


def test_ip_range_aux_address_and_gateway_are_kept(fresh_host: Host) -> None:
    host = fresh_host
    create(
        host,
        "--subnet",
        "9.0.0.0/8",
        "--ip-range",
        "9.0.0.192/27",
        "--gateway",
        "9.0.0.200",
        "--aux-address",
        "printer=9.0.0.193",
        "dcos",
    )
    first, second = start(host, "c1"), start(host, "c2")
    assert (first, second) == ("9.0.0.192", "9.0.0.194")
    assert place(host, "c1")["Gateway"] == "9.0.0.200"
    assert "9.0.0.200/25" in host.run("ip", "-4", "address", "show", "d-dcos")
    assert host.docker("exec", "c1", "ping", "-c", "1", "-W", "2", "9.0.0.200")
    assert "in use" in refused(host, "run", "--rm", "--net", "dcos", "--ip", "9.0.0.193", "busybox", "true")


@pytest.mark.parametrize("key", ["mtu", "com.docker.network.driver.mtu"])
def test_the_mtu_option_holds_for_bridge_and_container(host: Host, key: str) -> None:
    create(host, "-o", f"{key}=1300", "dcos")
    start(host, "c1")
    assert _bridge_mtu(host, "d-dcos") == 1300
    assert "mtu 1300" in host.docker("exec", "c1", "ip", "link", "show", "eth0")


def test_without_the_option_the_mtu_is_the_underlays_less_vxlan(host: Host) -> None:
    create(host, "dcos")
    start(host, "c1")
    assert _bridge_mtu(host, "d-dcos") == 1450
    assert "mtu 1450" in host.docker("exec", "c1", "ip", "link", "show", "eth0")


def test_removing_a_network_takes_its_bridge_and_rules_away(host: Host) -> None:
    create(host, "dcos")
    host.docker("network", "rm", "dcos")
    assert host.try_run("ip", "link", "show", "d-dcos").returncode != 0
    assert "dni" not in host.run("nft", "list", "tables")
    assert "DNI" not in host.run("iptables", "-S")


def test_prune_removes_an_unused_network_and_keeps_a_used_one(host: Host) -> None:
    create(host, "dcos")
    create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
    start(host, "c1")
    host.docker("network", "prune", "-f")
    assert host.try_docker("network", "inspect", "dev").returncode != 0
    assert address(host, "c1").startswith("9.0.0.")


def test_a_network_can_be_made_again_at_once(host: Host) -> None:
    for _ in range(3):
        create(host, "dcos")
        host.docker("network", "rm", "dcos")


REFUSALS = {
    "reserved name": (("--subnet", "10.70.0.0/16", "--ipam-opt", "overlay=bridge", "x"), "reserved"),
    "14 characters": (("--subnet", "10.70.0.0/16", "--ipam-opt", "overlay=abcdefghijklmn", "x"), "at most 13"),
    "dot": (("--subnet", "10.70.0.0/16", "--ipam-opt", "overlay=a.b", "x"), "dot"),
    "overlap": (("--subnet", "9.4.0.0/16", "--ipam-opt", "overlay=dev", "x"), "overlaps 9.0.0.0/8 of overlay 'dcos'"),
    "unknown overlay": (("--ipam-opt", "overlay=nix", "x"), "no overlay 'nix' (known: dcos)"),
    "part of an overlay": (("--subnet", "9.0.1.0/24", "x"), "9.0.0.128/25"),
    "range outside the half": (("--subnet", "9.0.0.0/8", "--ip-range", "9.0.0.0/26", "x"), "inside 9.0.0.128/25"),
    "gateway outside the half": (("--subnet", "9.0.0.0/8", "--gateway", "9.0.0.5", "x"), "9.0.0.130 to 9.0.0.254"),
    "aux outside the half": (("--subnet", "9.0.0.0/8", "--aux-address", "a=9.3.0.1", "x"), "9.0.0.128/25"),
    "plain pool": (("--subnet", "10.71.0.0/16", "x"), "--ipam-opt overlay=NAME"),
    "unknown option": (("-o", "masquarade=false", "x"), "masquerade"),
    "bad option": (("-o", "isolated=perhaps", "x"), "neither true nor false"),
    "bad mtu": (("-o", "mtu=12", "x"), "552"),
    "unknown ipam option": (("--ipam-opt", "overlai=dcos", "x"), "overlay"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_and_leaves_nothing(host: Host, case: str) -> None:
    words, sentence = REFUSALS[case]
    with nothing_left(host):
        text = refused(host, *CREATE, *words)
    assert sentence in text
    assert "Traceback" not in text


def test_a_second_network_on_one_overlay_is_refused_naming_the_first(host: Host) -> None:
    create(host, "dcos")
    start(host, "one")
    with nothing_left(host):
        host_state.eventually(
            lambda: "Docker network 'dcos'" in refused(host, *CREATE, "other") or None, 10, "the first is not named"
        )
    assert reaches(host, "one", start(host, "two"))


@pytest.mark.parametrize("words", [(), ("--subnet", "10.72.0.0/16"), ("--subnet", "9.0.0.128/25")])
def test_the_driver_without_its_ipam_driver_is_refused(host: Host, words: tuple[str, ...]) -> None:
    with nothing_left(host):
        text = refused(host, "network", "create", "-d", "dni", *words, "x")
    assert "docker network create -d dni --ipam-driver dni" in text


def test_an_overlay_pool_under_another_driver_gives_no_address(host: Host) -> None:
    host.docker("network", "create", "-d", "bridge", "--ipam-driver", "dni", "mistake")
    with nothing_left(host):
        text = refused(host, "run", "--rm", "--net", "mistake", "busybox", "true")
    assert "docker network create -d dni --ipam-driver dni dcos" in text


def test_a_pool_that_the_host_reaches_already_is_refused(host: Host) -> None:
    host.run("ip", "link", "add", "clash0", "type", "bridge")
    try:
        host.run("ip", "address", "add", "9.0.0.140/28", "dev", "clash0")
        host.run("ip", "link", "set", "clash0", "up")
        with nothing_left(host):
            text = refused(host, *CREATE, "dcos")
        assert re.search(r"9\.0\.0\.128/28.*clash0", text)
    finally:
        host.run("ip", "link", "del", "clash0")


def test_a_network_is_made_although_another_has_lost_its_bridge_to_a_stranger(host: Host) -> None:
    create(host, "dcos")
    host_state.leave_to_a_stranger(host, "d-dcos")
    try:
        create(host, "--subnet", "10.64.0.0/16", "--ipam-opt", "overlay=dev", "dev")
        assert start(host, "c1", net="dev").startswith("10.64.")
        host_state.eventually(
            lambda: any("ip link del d-dcos" in problem for problem in host_state.problems(host)),
            10,
            "status is silent",
        )
    finally:
        host.run("ip", "link", "del", "d-dcos")
