# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI and of Docker on one overlay of one host."""

from __future__ import annotations

from tests.e2e import cni, host_state
from tests.e2e.containers import reaches, start
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
        host.docker("network", "rm", "dev")
        refused = host.try_dni("overlay", "rm", "dev").stderr
        assert "1 addresses of overlay 'dev' are held by containers of CNI's host-local" in refused


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
        host.run("ip", "link", "del", "m-dcos")
        host.run("nft", "flush", "ruleset")
        host_state.eventually(lambda: runtime.reaches("one", docker), 30, "what was deleted is not made again")
        host_state.eventually(lambda: host_state.findings(host) == [] or None, 30, "dni check finds something")
        host.dni("address", "release", "dcos", "9.0.0.2")
    assert [row["container"] for row in host_state.held(host)] == ["web"]


def test_both_halves_full_have_no_address_in_common(fresh_host: Host) -> None:
    host = fresh_host
    with cni.runtime(host, "dni") as runtime:
        host.docker(
            *("network", "create", "-d", "dni", "--ipam-driver", "dni", "--subnet", "10.80.0.0/28"),
            *("--ipam-opt", "overlay=tiny", "--ipam-opt", "prefix=28", "tiny"),
        )
        docker = {start(host, f"d{number}", net="tiny") for number in range(5)}
        mesos = {runtime.start(f"c{number}", runtime.configuration("tiny")) for number in range(5)}
        assert mesos == {f"10.80.0.{last}" for last in range(2, 7)}
        assert docker == {f"10.80.0.{last}" for last in range(10, 15)}
        runtime.prepare("late", runtime.configuration("tiny"))
        status, error = runtime.call("ADD", "late")
        assert (status, error["code"]) == (1, 101)
        assert "no free address in the Mesos half of overlay 'tiny'" in error["msg"]
        refused = host.try_docker("run", "-d", "--net", "tiny", image.NAME, "sleep", "1")
        assert "no free address in the Docker half of overlay 'tiny'" in refused.stderr
        assert runtime.reaches("c0", "10.80.0.10")


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
