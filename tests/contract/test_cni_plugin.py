# SPDX-License-Identifier: Apache-2.0
"""`dni-cni` as a CNI runtime calls it: by variables, with a configuration on standard input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.reports import address_reports
from dni_driver.store import room
from tests.contract.cni_runtime import ADDED, PROGRAM, VERSIONS, Runtime, host, mesos, path, runtime
from tests.unit.cni_host import Host

__all__ = ["host", "mesos", "path", "runtime"]


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_add_answers_in_the_words_of_each_version(mesos: Runtime, host: Host, version: str) -> None:
    status, answer = mesos.call("ADD", cniVersion=version)
    (link,) = host.kernel.links
    family = {} if version == "1.0.0" else {"version": "4"}
    assert status == 0
    assert answer == {
        "cniVersion": version,
        "interfaces": [
            {"name": "m-dcos"},
            {"name": link},
            {"name": "eth0", "mac": "02:42:09:00:00:02", "sandbox": "/run/netns/c1"},
        ],
        "ips": [{**family, "interface": 2, "address": "9.0.0.2/25", "gateway": "9.0.0.1"}],
        "routes": ADDED["routes"],
        "dns": {},
    }


@pytest.mark.parametrize("version", [None, "", *VERSIONS[:2]])
def test_mesos_which_sends_no_version_gets_what_it_reads(mesos: Runtime, version: str | None) -> None:
    """Mesos' spec.proto has `ip4` and `ip6`, as the first two versions have."""
    status, answer = mesos.call("ADD", **({} if version is None else {"cniVersion": version}))
    assert status == 0
    assert answer == {
        "cniVersion": version or "0.1.0",
        "ip4": {"ip": "9.0.0.2/25", "gateway": "9.0.0.1", "routes": ADDED["routes"]},
        "dns": {},
    }


def test_add_repeated_gives_the_same_answer_and_one_address(mesos: Runtime, host: Host) -> None:
    assert mesos.call("ADD") == mesos.call("ADD")
    assert host.held() == {"9.0.0.2": "c1"}


@pytest.mark.parametrize("version", VERSIONS)
def test_del_says_nothing_and_can_be_repeated(mesos: Runtime, host: Host, version: str) -> None:
    mesos.call("ADD", cniVersion=version)
    assert mesos.call("DEL", cniVersion=version) == (0, None)
    assert host.held() == {}
    assert mesos.call("DEL", cniVersion=version) == (0, None)
    assert mesos.call("DEL", cniVersion=version, CNI_NETNS=None) == (0, None)


@pytest.mark.parametrize("version", VERSIONS[4:])
def test_check_is_silent_as_long_as_all_is_as_it_was_made(mesos: Runtime, host: Host, version: str) -> None:
    _, made = mesos.call("ADD", cniVersion=version)
    assert mesos.call("CHECK", cniVersion=version, prevResult=made) == (0, None)
    other = {**made, "ips": [{"address": "9.0.0.9/25"}]}
    status, error = mesos.call("CHECK", cniVersion=version, prevResult=other)
    assert (status, error["code"]) == (1, 100)
    assert error["msg"] == "container c1 has 9.0.0.2/25, and prevResult tells of 9.0.0.9/25"
    _, error = mesos.call("CHECK", cniVersion=version, prevResult=made, CNI_NETNS="/run/netns/other")
    assert error["msg"] == "container c1 is in /run/netns/c1, not in /run/netns/other"
    host.kernel.links.clear()
    _, error = mesos.call("CHECK", cniVersion=version, prevResult=made)
    assert (error["code"], error["cniVersion"]) == (100, version)
    assert "is missing" in error["msg"]


def test_version_needs_neither_agent_nor_configuration(runtime: Runtime) -> None:
    told = {"cniVersion": "1.0.0", "supportedVersions": VERSIONS}
    for text in (b"", b'{"cniVersion": "0.4.0"}', b"\xff"):
        assert runtime.call("VERSION", text) == (0, told)


def network_info(*addresses: dict[str, str], groups: tuple[str, ...] = (), **labels: str) -> dict[str, Any]:
    """Answer what Mesos sends beside the configuration; `_` stands for the dot after `dni` in a label."""
    told = [{"key": key.replace("_", ".", 1), "value": value} for key, value in labels.items()]
    info = {
        "name": "dcos",
        "ip_addresses": list(addresses),
        "groups": list(groups),
        "labels": {"labels": [{"key": "a", "value": "b"}, {"key": "bare"}, *told]},
        "port_mappings": [{"host_port": 1, "container_port": 2}],
    }
    return {"org.apache.mesos": {"network_info": info}}


def test_the_address_that_mesos_asks_for_is_given(mesos: Runtime) -> None:
    asked = network_info({"protocol": "IPv4", "ip_address": "9.0.0.55"})
    _, answer = mesos.call("ADD", args=asked)
    assert answer["ip4"]["ip"] == "9.0.0.55/25"
    status, error = mesos.call("ADD", args=asked, CNI_CONTAINERID="c2")
    assert (status, error["code"]) == (1, 101)
    assert error["msg"].startswith("address 9.0.0.55 is in use by container c1")


def test_groups_and_labels_of_mesos_are_taken_or_told(mesos: Runtime, host: Host) -> None:
    asked = network_info(groups=("web", "public"), dni_egress="10mbit", dni_ingress="none", dni_groups="db,web")
    status, _ = mesos.call("ADD", args=asked)
    assert status == 0
    (report,) = address_reports(host.records(), None, with_free=False)
    assert (report.container, report.groups) == ("c1", ("db", "web", "public"))
    assert (report.egress, report.ingress) == (10_000_000, None)
    (link,) = host.kernel.links.values()
    assert link.limits == Limits(egress=10_000_000)
    for wrong, text in (
        (network_info(groups=("a b",)), "'a b' is no name of a group: use 1 to 63 letters"),
        (network_info(dni_groups="a,,b"), "'' is no name of a group"),
        (network_info(dni_egress="fast"), "option egress='fast' is not a rate from 256kbit to 32gbit"),
        (
            network_info(dni_spoof="allow"),
            "label 'dni.spoof' is not known to dni: use dni.egress, dni.ingress, dni.groups",
        ),
        (network_info(dni_address="9.0.0.9"), "label dni.address comes too late, .*ip_addresses in NetworkInfo"),
    ):
        status, error = mesos.call("ADD", args=wrong, CNI_CONTAINERID="c2")
        assert (status, error["code"]) == (1, 7)
        assert re.search(text, error["msg"])
    assert host.held() == {"9.0.0.2": "c1"}


def test_a_family_alone_asks_for_no_address(mesos: Runtime) -> None:
    _, answer = mesos.call("ADD", args=network_info({"protocol": "IPv4"}))
    assert answer["ip4"]["ip"] == "9.0.0.2/25"


def test_the_address_in_cni_args_is_given(mesos: Runtime) -> None:
    _, answer = mesos.call("ADD", CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=a;IP=9.0.0.66")
    assert answer["ip4"]["ip"] == "9.0.0.66/25"


def test_an_overlay_can_have_another_name_than_the_network(mesos: Runtime) -> None:
    _, answer = mesos.call("ADD", name="something", overlay="dcos")
    assert answer["ip4"]["ip"] == "9.0.0.2/25"


def test_a_full_half_is_told(mesos: Runtime, host: Host) -> None:
    for number in range(125):
        host.attach(f"container-{number}")
    status, error = mesos.call("ADD")
    assert (status, error["code"]) == (1, 11)
    assert "the agent has leased no more yet" in error["msg"]
    with host.store.write() as tx:
        room.set_reason(tx, "dcos", 4, "the overlay is full")
    status, error = mesos.call("ADD")
    assert (status, error["code"]) == (1, 101)
    assert "125 of 125 used" in error["msg"]


def program(runtime: Runtime, command: str, text: bytes | None = None) -> tuple[int, str, str]:
    """Run the plugin as a process; answer status, standard output and standard error."""
    configuration = json.dumps(runtime.configuration).encode() if text is None else text
    environment = {**os.environ, **runtime.environment, "CNI_COMMAND": command}
    done = subprocess.run(PROGRAM, input=configuration, env=environment, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_as_a_process_it_writes_one_object_and_nothing_else(mesos: Runtime, host: Host) -> None:
    status, output, complaint = program(mesos, "ADD")
    assert (status, complaint) == (0, "")
    assert json.loads(output)["ip4"]["ip"] == "9.0.0.2/25"
    status, output, complaint = program(mesos, "ADD", b"{")
    assert (status, complaint) == (1, "")
    assert json.loads(output)["code"] == 6
    assert program(mesos, "DEL") == (0, "", "")
    assert host.held() == {}


def test_it_imports_nothing_that_starts_slowly() -> None:
    """A container waits for it: no package but Python's own, and none of those that take long."""
    script = "import sys; import dni_driver.mesos.cni_plugin; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    imported = {name.partition(".")[0] for name in output.split()}
    slow = {"asyncio", "click", "dataclasses", "email", "flask", "http", "inspect", "ipaddress", "msgspec", "pathlib"}
    slow |= {"pyroute2", "sqlite3", "ssl", "structlog", "subprocess", "typing_extensions", "urllib", "uuid"}
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, check=True)
    assert imported & slow <= {name.partition(".")[0] for name in bare.stdout.decode().split()}
