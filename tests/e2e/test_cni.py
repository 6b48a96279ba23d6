# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI and of Docker on one overlay of one host."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e import cni, host_state
from tests.e2e.containers import create, reaches, refused, start
from tests.lab import Host, image
from tests.lab.addresses import OUTSIDE


def create_networks(host: Host) -> None:
    host.docker("network", "create", "-d", "dni", "--ipam-driver", "dni", "dcos")
    host.docker(
        *("network", "create", "-d", "dni", "--ipam-driver", "dni", "--subnet", "10.64.0.0/16"),
        *("--ipam-opt", "overlay=dev", "dev"),
    )


def test_containers_by_the_written_file_and_dockers_reach_each_other_and_no_other_overlay(fresh_host: Host) -> None:
    """Debian's bridge and host-local make the container's link: by the port mapper as for Mesos, and without."""
    host = fresh_host
    with cni.runtime(host, "host-local") as runtime:
        create_networks(host)
        told = runtime.configuration()
        assert told["delegate"]["ipam"]["subnet"] == "9.0.0.0/25"
        mapped = runtime.start("mapped", told, port_mappings=[{"host_port": 8070, "container_port": 9000}])
        plain = runtime.start("plain", runtime.configuration("dcos", "--plain"))
        strange = runtime.start("strange", runtime.configuration("dev", "--plain"))
        docker = start(host, "web")
        assert (mapped, plain, docker) == ("9.0.0.2", "9.0.0.3", "9.0.0.130")
        for name in ("mapped", "plain"):
            assert runtime.reaches(name, docker)
            assert not runtime.reaches(name, strange)
            assert runtime.reaches(name, str(OUTSIDE))
        for address in (mapped, plain):
            assert reaches(host, "web", address)
            assert not runtime.reaches("strange", address)
        assert not reaches(host, "web", strange)
        assert not runtime.reaches("strange", docker)
        assert "9.0.0.2:9000" in host.run("iptables", "-t", "nat", "-S", "M-DCOS")
        assert host_state.findings(host) == []
        host.run("ip", "link", "set", "m-dcos", "mtu", "1300")
        host_state.eventually(
            lambda: "mtu 1450" in host.run("ip", "link", "show", "m-dcos"), 20, "the MTU is not put right"
        )
        _remove_an_overlay_beside_files_of_others(runtime)


def _remove_an_overlay_beside_files_of_others(runtime: cni.Runtime) -> None:
    """It goes when its last container is gone, and its file with it, and no other file."""
    host, others = runtime.host, {"dev.conflist": "a list of dev\n", "site.conf": "another network\n"}
    host.docker("network", "rm", "dev")
    held = host.try_dni("overlay", "rm", "dev").stderr
    assert "addresses of overlay 'dev' are held by containers of CNI's host-local (1, such as " in held
    runtime.stop("strange")
    before = runtime.files()
    assert {"dcos.conf", "dev.conf"} <= before.keys()
    for name, text in others.items():
        host.run("sh", "-c", f"cat > {cni.DIRECTORY}/{name}", stdin=text)
    host.dni("overlay", "rm", "dev")
    host_state.eventually(
        lambda: "dev.conf" not in runtime.files(), 20, "the file of an overlay that is gone is left"
    )
    assert runtime.files() == {**{name: text for name, text in before.items() if name != "dev.conf"}, **others}
    host.run("rm", *(f"{cni.DIRECTORY}/{name}" for name in others))


def test_dni_cni_gives_mesos_what_docker_has(fresh_host: Host) -> None:
    """Recorded, listed, counted apart, reserved, never twice, last in line when freed, and mended."""
    host = fresh_host
    with cni.runtime(host, "dni") as runtime:
        create_networks(host)
        host.dni("address", "reserve", "dcos", "9.0.0.2")
        one = runtime.start("one", runtime.configuration())
        asked = runtime.start("asked", runtime.configuration(), ip_addresses=[{"ip_address": "9.0.0.77"}])
        docker = start(host, "web")
        assert (one, asked, docker) == ("9.0.0.3", "9.0.0.77", "9.0.0.130")
        assert runtime.call("ADD", "one")[1]["ip4"]["ip"] == "9.0.0.3/25"
        who = {row["address"]: row["container"] for row in host_state.held(host)}
        assert who == {"9.0.0.2": None, "9.0.0.3": "id-of-one", "9.0.0.77": "id-of-asked", docker: "web"}
        assert runtime.reaches("one", docker)
        assert reaches(host, "web", one)
        assert runtime.reaches("one", asked)
        assert runtime.reaches("one", str(OUTSIDE))
        runtime.stop("asked")
        assert runtime.start("next", runtime.configuration()) == "9.0.0.4"
        assert host_state.findings(host) == []
        _check_as_a_runtime_does(runtime)
        host.run("ip", "link", "del", "m-dcos")
        host.run("nft", "flush", "ruleset")
        _await_reached(runtime, "one", docker)
        host_state.eventually(lambda: host_state.findings(host) == [] or None, 30, "dni check finds something")
        host.dni("address", "release", "dcos", "9.0.0.2")
        runtime.stop_all()
        assert [row["container"] for row in host_state.held(host)] == ["web"]
        host_state.clear(host)  # Docker, whose chains went with the ruleset, would wait for dni with its networks


def _await_reached(runtime: cni.Runtime, name: str, target: str) -> None:
    """Wait until what was deleted is made again; where it is not, tell what the kernel has instead."""
    try:
        host_state.eventually(lambda: runtime.reaches(name, target), 30, "what was deleted is not made again")
    except AssertionError as error:
        looks = (
            "ip -d address",
            "ip neigh",
            "ip route",
            "bridge -d link",
            "bridge fdb",
            "nft list ruleset",
            "ip rule",
        )
        inside = [runtime.inside(name, "ip", what) for what in ("address", "route", "neigh")]
        there = [runtime.host.try_run(*look.split()).stdout for look in looks]
        raise AssertionError("\n".join([str(error), *inside, *there])) from None


def _check_as_a_runtime_does(runtime: cni.Runtime) -> None:
    """What ADD has answered is handed back; then the link goes, and is made again in the running container."""
    runtime.prepare("checked", runtime.configuration("dcos", "--plain"))
    status, added = runtime.call("ADD", "checked")
    assert (status, added["cniVersion"]) == (0, "1.0.0")
    assert runtime.call("CHECK", "checked", prevResult=added) == (0, "")
    strange = {**added, "ips": [{**added["ips"][0], "address": "9.0.0.99/25"}]}
    status, error = runtime.call("CHECK", "checked", prevResult=strange)
    assert (status, error["code"]) == (1, 100)
    assert "has 9.0.0.5/25, and prevResult tells of 9.0.0.99/25" in error["msg"]
    runtime.inside("checked", "ip", "link", "del", "eth0")
    status, error = runtime.call("CHECK", "checked", prevResult=added)
    assert (status, error["code"]) == (1, 100)
    assert "is not as it was made: link dni" in error["msg"]
    again = lambda: runtime.call("CHECK", "checked", prevResult=added)[0] == 0  # noqa: E731
    host_state.eventually(again, 20, "the link is not made again")
    runtime.stop("checked")


TINY = {f"10.80.0.{last}" for last in range(2, 7)}, {f"10.80.0.{last}" for last in range(10, 15)}


def _fill_a_tiny_overlay(runtime: cni.Runtime) -> tuple[set[str], set[str]]:
    """Start five containers of each kind on an overlay of one agent subnet; answer their addresses, Mesos' first.

    The sixth of Docker finds none left.
    """
    host = runtime.host
    create(host, "--subnet", "10.80.0.0/28", "--ipam-opt", "overlay=tiny", "--ipam-opt", "prefix=28", "tiny")
    docker = {start(host, f"d{number}", net="tiny") for number in range(5)}
    mesos = {runtime.start(f"c{number}", runtime.configuration("tiny", "--plain")) for number in range(5)}
    told = refused(host, "run", "-d", "--net", "tiny", image.NAME, "sleep", "1")
    assert "no free address in the Docker half of overlay 'tiny'" in told
    return mesos, docker


def _mesos_half(host: Host) -> dict[str, Any]:
    """Answer how full the Mesos half of the tiny overlay is, as schedulers are told."""
    ((subnet,),) = (
        [*agent["subnets"]] for agent in json.loads(host.dni("overlay", "usage", "tiny", "--json"))["agents"]
    )
    return dict(subnet["mesos"])


def test_both_halves_full_have_no_address_in_common(fresh_host: Host) -> None:
    host = fresh_host
    with cni.runtime(host, "dni") as runtime:
        assert _fill_a_tiny_overlay(runtime) == TINY
        runtime.prepare("late", runtime.configuration("tiny"))
        status, error = runtime.call("ADD", "late")
        assert (status, error["code"]) == (1, 101)
        assert "no free address in the Mesos half of overlay 'tiny'" in error["msg"]
        assert runtime.reaches("c0", "10.80.0.10")


def test_host_local_full_has_no_address_of_dockers(fresh_host: Host) -> None:
    """Debian's host-local fills it; dni counts by the files that it writes, and the sixth gets its own refusal."""
    host = fresh_host
    with cni.runtime(host, "host-local") as runtime:
        assert _fill_a_tiny_overlay(runtime) == TINY
        half = _mesos_half(host)
        assert (half["half"], half["size"], half["used"], half["free"]) == ("10.80.0.0/29", 5, 5, 0)
        runtime.prepare("late", runtime.configuration("tiny", "--plain"))
        status, error = runtime.call("ADD", "late")
        assert status == 1
        assert "no IP addresses available in range set: 10.80.0.1-10.80.0.6" in error["msg"]
        for target in ("10.80.0.6", "10.80.0.10", "10.80.0.14"):
            assert runtime.reaches("c0", target)
        runtime.stop("c4")
        assert (_mesos_half(host)["used"], _mesos_half(host)["free"]) == (4, 1)
        assert [runtime.call(command, "late")[0] for command in ("DEL", "ADD")] == [0, 0], "as a runtime tries again"
        assert _mesos_half(host)["free"] == 0


def test_a_mesos_half_that_is_full_gets_another(fresh_host: Host) -> None:
    """The eighth container is in the Mesos half of the second agent subnet, whose gateway is on the same bridge."""
    host = fresh_host
    with cni.runtime(host, "dni") as runtime:
        create(host, "--subnet", "10.81.0.0/27", "--ipam-opt", "overlay=more", "--ipam-opt", "prefix=28", "more")
        docker = start(host, "web", net="more")
        mesos = [runtime.start(f"c{number}", runtime.configuration("more")) for number in range(1, 9)]
        assert mesos == [*(f"10.81.0.{last}" for last in range(2, 7)), "10.81.0.18", "10.81.0.19", "10.81.0.20"]
        bridge = host.run("ip", "-4", "addr", "show", "m-more")
        assert [f"inet {gateway} " in bridge for gateway in ("10.81.0.1/29", "10.81.0.17/29")] == [True, True]
        assert "default via 10.81.0.17 " in runtime.inside("c8", "ip", "route")
        for target in (mesos[0], docker, str(OUTSIDE)):
            assert runtime.reaches("c8", target)
        assert runtime.reaches("c1", mesos[7])
        assert reaches(host, "web", mesos[7])
        assert host_state.findings(host) == []


def test_what_is_left_after_a_loss_of_power_is_collected_and_all_is_made_again(fresh_host: Host) -> None:
    host = fresh_host
    with cni.runtime(host, "dni") as runtime:
        create_networks(host)
        runtime.start("one", runtime.configuration())
        host.switch_off()
        runtime.forget_all()
        host.start_dni(**host_state.SETTINGS, cni_directory=cni.DIRECTORY, cni_ipam="dni")
        host.start_dockerd()
        host_state.eventually(lambda: host_state.held(host) == [] or None, 60, "what was lost is still held")
        again = cni.Runtime(host)
        assert again.start("two", again.configuration()) == "9.0.0.3"
        docker = start(host, "web")
        assert again.reaches("two", docker)
        host_state.eventually(lambda: host_state.findings(host) == [] or None, 30, "dni check finds something")
        again.stop_all()
