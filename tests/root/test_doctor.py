# SPDX-License-Identifier: Apache-2.0
"""`dni doctor` on a host that is made ill: it finds exactly that, and the command it names mends it.

The host is a network namespace with a network and a container on dni; only its dockerd is a few answers.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Interface
from pathlib import Path
from shutil import which

import pytest

from dni_driver.cli import doctor, locks, surroundings
from dni_driver.cli.loading import variable
from dni_driver.core.doctor.ailments import Ailment
from dni_driver.core.doctor.diagnosis import Report, report
from dni_driver.core.errors import KernelError
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import define
from dni_driver.core.records import AddressState, EndpointRecord, NetworkRecord
from dni_driver.kernel import namespaces
from dni_driver.kernel.doctor import examination, features
from dni_driver.store import Store, addresses, endpoints, networks, overlays, pools
from tests.contract.plugin import underlay
from tests.fakes import DCOS as DCOS_OVERLAY
from tests.fakes import lease
from tests.root import town
from tests.root.town import Container, Host
from tests.unit import docker_api
from tests.unit.docker_api import DockerApi

DEV = define("dev", [IPv4Interface("10.64.0.0/16").network])
OVERLAY = town.overlay("dcos", "9.0.0.129/25", subnets=("9.0.0.0/8",))


class Patient:
    """A host in good order, as far as `dni doctor` can see, and what the tests do to it."""

    def __init__(self, host: Host, container: Container, docker: DockerApi, store: Store) -> None:
        """Take what there is on it."""
        self.store = store
        self.host = host
        self.container = container
        self.docker = docker

    def report(self) -> Report:
        """Ask the doctor."""
        return report(*self.host.run(doctor.examine, None))

    def found(self) -> list[str]:
        """Answer the kinds of what the doctor finds; everything must have been looked at."""
        told = self.report()
        assert told.unseen == []
        return [ailment.kind for ailment in told.findings]

    def ailment(self, kind: str) -> Ailment:
        """Answer the one finding there is."""
        (ailment,) = self.report().findings
        assert ailment.kind == kind
        return ailment

    def mend(self, command: str) -> None:
        """Do as a finding says."""
        self.host.run(subprocess.run, ["sh", "-c", command], check=True, capture_output=True)


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    for section, key, path in (
        ("store", "directory", "store"),
        ("run", "directory", "run"),
        ("plugin", "socket", "dni.sock"),
        ("api", "socket", "run/dni.sock"),
        ("docker", "socket", "docker.sock"),
    ):
        monkeypatch.setenv(variable(section, key), str(tmp_path / path))
    specs = tmp_path / "specs"
    specs.mkdir()
    (specs / "dni.spec").write_text(f"unix://{tmp_path}/dni.sock")
    monkeypatch.setattr(surroundings, "_SPECS", (specs,))
    monkeypatch.setattr(surroundings, "_SOCKETS", tmp_path / "plugins")
    monkeypatch.setattr(doctor, "_complaints", lambda _: ())  # of the agent there is its lock alone
    with ExitStack() as stack:
        host = stack.enter_context(Host(tmp_path / "run"))
        underlay(host)
        host.sh("iptables -N DOCKER-USER", "iptables -A FORWARD -j DOCKER-USER", "iptables -P FORWARD DROP")
        host.want(OVERLAY)
        host.reconcile()
        container = host.container(OVERLAY)
        docker = stack.enter_context(DockerApi(tmp_path / "docker.sock"))
        docker.networks = [docker_api.network("dcos", docker_api.DCOS, "dni", "dni")]
        store = Store(tmp_path / "store" / "dni.db")
        stack.callback(store.close)
        _record(store, container)
        for program in ("plugin", "agent"):
            stack.callback(os.close, locks.take(tmp_path / "run" / f"{program}.lock", program, 0))
        yield Patient(host, container, docker, store)


def _record(store: Store, container: Container) -> None:
    lease(store, DCOS_OVERLAY, "9.0.0.0/24")
    link = container.link
    with store.write() as tx:
        overlays.put(tx, DEV)
        pools.use_overlay(tx, "dcos", 4, None, 1.0)
        network = NetworkRecord(
            id=docker_api.DCOS,
            overlay="dcos",
            name="dcos",
            options=NetworkOptions(),
            mtu=link.mtu,
            gateway=IPv4Interface("9.0.0.129/25"),
            since=1.0,
        )
        networks.add(tx, network)
        endpoint = EndpointRecord(
            id=link.endpoint,
            network=network.id,
            mac=link.mac,
            address=container.address,
            sandbox=link.sandbox,
            since=1.0,
        )
        endpoints.add(tx, endpoint)
        addresses.hold(tx, "dcos/v4", container.address.ip, AddressState.CLAIMED, 1.0)
        addresses.bind(tx, "dcos/v4", container.address.ip, endpoint, 1.0)


def test_a_host_in_good_order_has_no_findings_and_everything_is_looked_at(patient: Patient) -> None:
    assert patient.found() == []
    assert patient.report().host["iptables"].startswith("iptables (Docker), FORWARD DROP")


def _vtep(patient: Patient) -> None:
    patient.host.sh("ip link add vtep1024 type vxlan id 1024 dstport 64000 local 192.0.2.10")


def _stop_forwarding(patient: Patient) -> None:
    patient.host.sysctl("ipv4/ip_forward", 0)


def _switch_ipv6_off(patient: Patient) -> None:
    patient.host.sysctl("ipv6/conf/all/disable_ipv6", 1)
    with patient.store.write() as tx:
        tx.execute("UPDATE network SET gateway6 = 'fd01:b::8000:0:1/81'")


def _filter_strictly_with_other_agents(patient: Patient) -> None:
    _vtep(patient)
    patient.host.sysctl("ipv4/conf/all/rp_filter", 1)


def _filter_strictly_with_two_networks(patient: Patient) -> None:
    patient.host.sysctl("ipv4/conf/d-dcos/rp_filter", 1)
    _vtep(patient)


def _narrow_the_underlay(patient: Patient) -> None:
    patient.host.sh("ip link set up0 mtu 1400")


def _widen_a_container(patient: Patient) -> None:
    patient.container.sandbox.sh("ip link set eth0 mtu 1500")


def _take_the_name_of_a_bridge(patient: Patient) -> None:
    patient.host.sh("ip link add d-dev type bridge")


def _have_the_other_iptables_drop(patient: Patient) -> None:
    patient.host.sh("iptables-legacy -P FORWARD DROP")


def _have_the_other_iptables_reject(patient: Patient) -> None:
    patient.host.sh("iptables-legacy -A FORWARD -j REJECT --reject-with icmp-port-unreachable")


def _reject_first(patient: Patient) -> None:
    patient.host.sh("iptables -I FORWARD 1 -j REJECT")


def _drop_for_all_of_docker(patient: Patient) -> None:
    patient.host.sh("iptables -A DOCKER-USER -j DROP", "iptables -A DOCKER-USER -j RETURN")


def _drop_by_another_table(patient: Patient) -> None:
    hook = "'{ type filter hook forward priority filter; policy drop; }'"
    patient.host.sh("nft add table inet filter", f"nft add chain inet filter forward {hook}")


@pytest.mark.parametrize(
    ("kind", "fall_ill"),
    [
        ("forwarding-off", _stop_forwarding),
        ("ipv6-off", _switch_ipv6_off),
        ("rp-filter-strict", _filter_strictly_with_other_agents),
        ("rp-filter-strict", _filter_strictly_with_two_networks),
        ("mtu-too-large", _narrow_the_underlay),
        ("mtu-of-container", _widen_a_container),
        ("strange-bridge", _take_the_name_of_a_bridge),
        ("second-iptables", _have_the_other_iptables_drop),
        ("second-iptables", _have_the_other_iptables_reject),
        ("forward-blocked", _reject_first),
        ("forward-blocked", _drop_for_all_of_docker),
        ("foreign-forward-drop", _drop_by_another_table),
    ],
)
def test_what_is_ill_is_found_and_its_command_mends_it(
    patient: Patient, kind: str, fall_ill: Callable[[Patient], None]
) -> None:
    fall_ill(patient)
    patient.mend(patient.ailment(kind).mend)
    assert patient.found() == []


def test_checksums_left_to_the_network_card_are_found_on_a_kernel_that_gets_them_wrong(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _vtep(patient)
    assert patient.found() == []
    monkeypatch.setattr(examination, "release", lambda: "5.4.0-26-generic")
    patient.mend(patient.ailment("checksum-offload").mend)
    assert patient.found() == []


def test_an_agent_ip_of_another_host_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNI_AGENT_IP", "192.0.2.99")
    assert "DNI_AGENT_IP" in patient.ailment("agent-ip-missing").otherwise
    monkeypatch.delenv("DNI_AGENT_IP")
    assert patient.found() == []


@pytest.mark.parametrize(("version", "kind"), [("19.03.15", "engine-too-old"), ("29.0.1", "engine-trap")])
def test_an_engine_to_be_avoided_is_found(patient: Patient, version: str, kind: str) -> None:
    patient.docker.version = version
    patient.ailment(kind)
    patient.docker.version = "29.0.2"
    assert patient.found() == []


def test_a_program_that_is_not_installed_is_found(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"):
        (tools / tool).symlink_to(str(which(tool)))
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tools))
    assert patient.ailment("firewall-command-missing").mend == "apt-get install nftables"
    monkeypatch.setenv("PATH", path)
    assert patient.found() == []


def test_a_feature_is_missing_where_the_kernel_itself_says_no(patient: Patient) -> None:
    """A kind of link that no kernel has is refused as one is whose module is missing."""
    before = patient.host.sh("ip -o link")
    (lack,) = patient.host.run(
        features.lacks, {"vxlan": features.device("nonesuch"), "veth": features.TRIALS["veth"]}
    )
    assert lack.feature == "vxlan"
    assert lack.answer.startswith("Unknown device type")
    assert patient.host.sh("ip -o link") == before


def test_a_trial_that_may_not_be_made_is_no_missing_feature(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(namespaces, "in_a_new_one", refuse)
    with pytest.raises(KernelError, match="dni must run as root"):
        features.lacks()
    told = patient.report()
    assert [one.what for one in told.unseen] == ["kernel features"]
    assert told.findings == []
