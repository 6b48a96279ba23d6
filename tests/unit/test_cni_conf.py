# SPDX-License-Identifier: Apache-2.0
"""The CNI network configurations: DC/OS's field for field, and those for others."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from dni_driver.core.cni_records import CniNetworkRecord
from dni_driver.core.errors import Refused
from dni_driver.core.mesos.cni_conf import CniForm, configuration, write
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.records import Records
from tests.fakes import DCOS, SIX


def records(overlay: str, *subnets: str, mtu: int = 1420) -> Records:
    return Records(
        overlays=[DCOS, SIX],
        agent_subnets=[AgentSubnet(overlay=overlay, subnet=ip_network(subnet)) for subnet in subnets],
        pools=[],
        addresses=[],
        networks=[],
        endpoints=[],
        cni_networks=[CniNetworkRecord(overlay=overlay, mtu=mtu)],
    )


HERE = records("dcos", "9.0.2.0/24")
BRIDGE = {
    "type": "bridge",
    "bridge": "m-dcos",
    "isGateway": True,
    "ipMasq": False,
    "hairpinMode": True,
    "mtu": 1420,
    "ipam": {
        "type": "host-local",
        "dataDir": "/var/run/dcos/cni/networks",
        "subnet": "9.0.2.0/25",
        "routes": [{"dst": "0.0.0.0/0"}],
    },
}


def test_mesos_is_told_what_dcos_told_it_in_the_same_order() -> None:
    told = {
        "name": "dcos",
        "type": "mesos-cni-port-mapper",
        "excludeDevices": ["m-dcos"],
        "chain": "M-DCOS",
        "delegate": BRIDGE,
    }
    assert json.dumps(configuration(HERE, "dcos", CniForm())) == json.dumps(told)


def test_plain_it_is_the_bridge_plugins_alone_with_a_version() -> None:
    told = {"cniVersion": "1.0.0", "name": "dcos", **BRIDGE}
    assert configuration(HERE, "dcos", CniForm(shape="plain")) == told


def test_in_a_list_cnis_own_port_mapper_comes_after_it() -> None:
    told = configuration(HERE, "dcos", CniForm(shape="list"))
    bridge, ports = told.pop("plugins")
    assert told == {"cniVersion": "1.0.0", "name": "dcos"}
    assert ports == {"type": "portmap", "capabilities": {"portMappings": True}}
    ipam = bridge.pop("ipam")
    assert (ipam["ranges"], "subnet" in ipam) == ([[{"subnet": "9.0.2.0/25"}]], False)
    assert bridge == {key: value for key, value in BRIDGE.items() if key != "ipam"}
    assert configuration(HERE, "dcos", CniForm(ipam="dni", shape="list"))["plugins"][0] == {"type": "dni-cni"}


@pytest.mark.parametrize(
    ("socket", "plugin"), [(None, {"type": "dni-cni"}), ("/s", {"type": "dni-cni", "socket": "/s"})]
)
def test_dni_cni_needs_no_more_than_its_name(socket: str | None, plugin: dict[str, str]) -> None:
    mapped = configuration(HERE, "dcos", CniForm(ipam="dni", socket=socket))
    assert (mapped["type"], mapped["delegate"]) == ("mesos-cni-port-mapper", plugin)
    plain = configuration(HERE, "dcos", CniForm(ipam="dni", socket=socket, shape="plain"))
    assert plain == {"cniVersion": "1.0.0", "name": "dcos", **plugin}


def test_host_local_has_the_first_of_several_halves_so_the_bridge_plugin_finds_its_own_gateway() -> None:
    several = records("dcos", "9.0.2.0/24", "9.0.7.0/24")
    assert configuration(several, "dcos", CniForm(shape="plain"))["ipam"]["subnet"] == "9.0.2.0/25"


def test_host_local_has_nothing_of_an_overlay_without_ipv4_and_dni_has() -> None:
    six = records("six", "fd06::/80")
    with pytest.raises(Refused, match=r'has no IPv4 on this host.*with cni\.ipam = "dni" its containers have IPv6'):
        configuration(six, "six", CniForm())
    assert configuration(six, "six", CniForm(ipam="dni"))["delegate"] == {"type": "dni-cni"}


def test_a_file_ends_with_its_last_line() -> None:
    text = write(configuration(HERE, "dcos", CniForm()))
    assert text.endswith(b"}\n")
    assert json.loads(text) == configuration(HERE, "dcos", CniForm())
