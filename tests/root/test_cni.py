# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI on the real kernel: plugged by dni, and by CNI's own plugins on the same bridge."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent.cni import Cni, CniOptions
from dni_driver.agent.ports import Time
from dni_driver.core.errors import KernelError, NotMended, Refused
from dni_driver.core.invariants.check import findings
from dni_driver.core.mesos.cni_wish import CniKey, CniReport, CniWish
from dni_driver.core.names import egress_link
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.records import AddressState
from dni_driver.core.wanted import wanted
from dni_driver.kernel import Kernel
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.fakes import AGENT, DCOS, DUAL, lease
from tests.root import town
from tests.root.ground import Namespace
from tests.root.town import Host
from tests.unit.agents import NO_OPTIONS, create_network

pytestmark = pytest.mark.root

PLUGINS = Path("/usr/lib/cni")
MTU = 1450


class Mesos:
    """A host with dni's agent, whose Mesos halves are `9.0.0.0/25` and `10.64.0.0/25`, and containers of CNI."""

    def __init__(self, host: Host, directory: Path, containers: ExitStack) -> None:
        """Give the host an underlay, and the agent its overlays."""
        self.host = host
        host.sh("ip link add eth0 type veth peer name wire", f"ip addr add {AGENT}/24 dev eth0")
        host.sh("ip link set eth0 up", "ip link set wire up")
        self.store = Store(directory / "dni.db")
        lease(self.store, DCOS, "9.0.0.0/24")
        lease(self.store, DUAL, "10.64.0.0/24", "fd01:b::/80")
        self.data = directory / "networks"
        options = CniOptions(directory=directory / "net.d", ipam="dni", held=(self.data,))
        self.cni = Cni(self.store, host.kernel, options, Time(), lambda: None)
        self._containers = containers

    def reconcile(self) -> list[str]:
        """Make the kernel agree with the store."""
        return self.host.run(self.host.kernel.reconcile, lambda: wanted(read_all(self.store)))

    def round(self) -> None:
        """Do as the agent does every few seconds."""
        assert self.host.run(self.cni.round) == []
        self.reconcile()

    def sandbox(self) -> Namespace:
        """Answer the network namespace of a container to be."""
        return self._containers.enter_context(Namespace())

    def attach(
        self, sandbox: Namespace, overlay: str = "dcos", container: str = "c1", ifname: str = "eth0"
    ) -> CniReport:
        """Give a container its place."""
        wish = CniWish(overlay=overlay, container=container, ifname=ifname, sandbox=sandbox.path)
        return self.host.run(self.cni.attach, wish)

    def detach(self, container: str, overlay: str = "dcos") -> None:
        """Take it away."""
        self.host.run(self.cni.detach, CniKey(overlay=overlay, container=container, ifname="eth0"))

    def plug(self, sandbox: Namespace, overlay: str = "dcos", container: str = "h1", **changed: Any) -> Any:
        """Give a container its place by CNI's bridge and host-local, as its configuration says."""
        return json.loads(self.plugin("ADD", sandbox, overlay, container, **changed))

    def plugin(self, command: str, sandbox: Namespace, overlay: str, container: str, **changed: Any) -> str:
        """Call CNI's bridge plugin; answer what it wrote."""
        told = {**self.host.run(self._configuration, overlay), **changed}
        told["ipam"]["dataDir"] = str(self.data)
        environment = {
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": sandbox.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        }
        argv = [str(PLUGINS / told["type"])]
        done = self.host.run(
            subprocess.run, argv, input=json.dumps(told).encode(), env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stdout
        return bytes(done.stdout).decode()

    def _configuration(self, overlay: str) -> dict[str, Any]:
        return self.cni.configuration(overlay, "host-local", "plain")

    def docker_network(self, options: NetworkOptions = NO_OPTIONS) -> None:
        """Have a Docker network on dcos."""
        create_network(self.store, 1.0, options)
        self.reconcile()

    def held(self) -> list[str]:
        """Answer the addresses that are not free."""
        return [str(one.address) for one in read_all(self.store).addresses if one.state is not AddressState.FREE]

    def problems(self) -> list[str]:
        """Answer what a check finds in store and kernel, an hour from now."""
        records = read_all(self.store)
        target = wanted(records)
        view = self.host.run(self.host.kernel.observe, target)
        found = findings(records, view, None, target, time.time() + 3600)
        return [f"{one.about} {one.problem}" for one in found]

    def bridge(self, name: str = "m-dcos") -> dict[str, Any]:
        """Answer a bridge as `ip` shows it."""
        return dict(json.loads(self.host.sh(f"ip -d -j addr show {name}"))[0])


@pytest.fixture
def mesos(host: Host, tmp_path: Path) -> Iterator[Mesos]:
    with ExitStack() as containers:
        made = Mesos(host, tmp_path, containers)
        yield made
        made.store.close()


def reaches(sandbox: Namespace, target: str) -> bool:
    """Tell whether a container gets an answer to one of three pings: the machine may be busy."""
    return any(not is_cut_off(sandbox, target) for _ in range(3))


def is_cut_off(sandbox: Namespace, target: str) -> bool:
    """Tell whether a container gets no answer to a ping."""
    argv = ["ping", "-c", "1", "-W", "1", target]
    return sandbox.run(subprocess.run, argv, capture_output=True, check=False).returncode != 0


def test_a_container_is_plugged_whole(mesos: Mesos) -> None:
    sandbox = mesos.sandbox()
    report = mesos.attach(sandbox)
    (link,) = json.loads(sandbox.sh("ip -j addr show eth0"))
    assert (link["mtu"], link["address"], "UP" in link["flags"]) == (MTU, report.mac, True)
    assert [(one["local"], one["prefixlen"]) for one in link["addr_info"]] == [("9.0.0.2", 25)]
    assert "default via 9.0.0.1 dev eth0" in sandbox.sh("ip route")
    assert "9.0.0.0/8 via 9.0.0.1 dev eth0" in sandbox.sh("ip route")
    port = mesos.host.sh(f"ip -d link show {report.host}")
    assert f"mtu {MTU}" in port
    assert "master m-dcos" in port
    assert "hairpin on" in port
    assert mesos.problems() == []


def test_both_families_work_where_the_overlay_has_both(mesos: Mesos) -> None:
    one, other = mesos.sandbox(), mesos.sandbox()
    mesos.attach(one, "dual", "c1")
    mesos.attach(other, "dual", "c2")
    assert reaches(one, "10.64.0.3")
    assert reaches(one, "fd01:b::3")
    assert reaches(one, "fd01:b::1")
    assert mesos.problems() == []


def test_a_container_is_held_to_the_limits_it_comes_with_until_it_goes(mesos: Mesos) -> None:
    sandbox = mesos.sandbox()
    options = EndpointOptions(egress=4_000_000, ingress=2_000_000, groups=("web",))
    wish = CniWish(overlay="dcos", container="c1", ifname="eth0", sandbox=sandbox.path, options=options)
    report = mesos.host.run(mesos.cni.attach, wish)
    device = egress_link(wish.endpoint)
    assert "qdisc tbf" in mesos.host.sh(f"tc qdisc show dev {report.host} root")
    assert "rate 4Mbit" in mesos.host.sh(f"tc qdisc show dev {device} root")
    assert reaches(sandbox, "9.0.0.1")
    mesos.host.sh(f"tc qdisc del dev {report.host} root")
    mesos.reconcile()
    assert "rate 2Mbit" in mesos.host.sh(f"tc qdisc show dev {report.host} root")
    assert mesos.problems() == []
    mesos.detach("c1")
    assert device not in mesos.host.sh("ip link")
    assert mesos.problems() == []


def test_a_container_may_have_two_interfaces_on_one_overlay(mesos: Mesos) -> None:
    one, other = mesos.sandbox(), mesos.sandbox()
    given = [mesos.attach(one, ifname=ifname) for ifname in ("eth0", "eth1")]
    mesos.attach(other, container="c2")
    assert [one.ifname for one in given] == ["eth0", "eth1"]
    for address in ("9.0.0.2", "9.0.0.3"):
        assert reaches(other, address), "answers may come by either, under the address of the other"
    assert reaches(one, "9.0.0.4")
    assert mesos.problems() == []
    mesos.detach("c1")
    assert "9.0.0.0/8 via 9.0.0.1 dev eth1" in one.sh("ip route"), "the one that stays leads to the whole overlay"


def test_two_overlays_of_one_container_may_answer_for_each_other_from_the_first(mesos: Mesos) -> None:
    one, other = mesos.sandbox(), mesos.sandbox()
    mesos.attach(one)
    mesos.attach(one, "dual", ifname="eth1")
    before = mesos.host.sh("nft list set bridge dni ipv4")
    mesos.reconcile()
    assert mesos.host.sh("nft list set bridge dni ipv4") == before, (
        "who may send as what is known before the next look"
    )
    mesos.attach(other, container="c2")
    assert reaches(other, "9.0.0.2")


def test_the_same_once_more_changes_nothing(mesos: Mesos) -> None:
    def there() -> tuple[int, str, list[str]]:
        (link,) = json.loads(sandbox.sh("ip -j addr show eth0"))
        return link["ifindex"], link["address"], [one["local"] for one in link["addr_info"]]

    sandbox = mesos.sandbox()
    first, before = mesos.attach(sandbox), there()
    assert mesos.attach(sandbox) == first
    assert there() == before


def test_what_is_taken_away_is_gone_at_once(mesos: Mesos) -> None:
    sandbox = mesos.sandbox()
    report = mesos.attach(sandbox)
    mesos.detach("c1")
    assert report.host not in mesos.host.sh("ip link")
    assert "eth0" not in sandbox.sh("ip link")
    assert mesos.held() == []
    assert mesos.problems() == []


def test_an_address_stays_its_containers_where_the_kernel_keeps_its_link(
    mesos: Mesos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Collection[str]) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    sandbox = mesos.sandbox()
    report = mesos.attach(sandbox)
    with monkeypatch.context() as patched:
        patched.setattr("dni_driver.kernel.containers.links.delete", refuse)
        with pytest.raises(KernelError, match=f"link {report.host} cannot be deleted: .*; try again"):
            mesos.detach("c1")
    assert mesos.held() == ["9.0.0.2"]
    assert mesos.problems() == []
    mesos.detach("c1")
    assert mesos.held() == []


def test_a_link_that_an_add_makes_while_its_del_is_under_way_is_none_that_the_kernel_keeps(
    mesos: Mesos, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Kernel.drain

    def drain_and_add(kernel: Kernel) -> None:
        drain(kernel)
        monkeypatch.setattr(Kernel, "drain", drain)
        subprocess.run(["ip", "link", "add", report.host, "type", "veth", "peer", "name", "late"], check=True)

    report = mesos.attach(mesos.sandbox())
    monkeypatch.setattr(Kernel, "drain", drain_and_add)
    mesos.detach("c1")
    assert report.host not in mesos.host.sh("ip link")
    assert mesos.held() == []


def test_a_container_that_comes_back_elsewhere_takes_its_link_along(mesos: Mesos) -> None:
    first, second = mesos.sandbox(), mesos.sandbox()
    mesos.attach(first)
    mesos.attach(second)
    assert "eth0" not in first.sh("ip link")
    assert "9.0.0.2/25" in second.sh("ip addr show eth0")


def test_a_path_that_leads_to_another_container_now_is_that_containers(mesos: Mesos, tmp_path: Path) -> None:
    path, before, now = tmp_path / "netns", mesos.sandbox(), mesos.sandbox()
    for container, sandbox in (("c1", before), ("c2", now)):
        path.unlink(missing_ok=True)
        path.symlink_to(sandbox.path)
        wish = CniWish(overlay="dcos", container=container, ifname="eth0", sandbox=str(path))
        mesos.host.run(mesos.cni.attach, wish)
    assert "9.0.0.3/25" in now.sh("ip addr show eth0")
    assert mesos.held() == ["9.0.0.3"]
    time.sleep(2.1)
    mesos.reconcile()
    assert "eth1" not in now.sh("ip link")
    assert mesos.problems() == []


def test_a_namespace_that_is_none_or_has_such_a_link_is_refused_and_nothing_is_held(mesos: Mesos) -> None:
    taken = mesos.sandbox()
    taken.sh("ip link add eth0 type veth peer name other")
    with pytest.raises(KernelError, match="the container has a link eth0 already"):
        mesos.attach(taken)
    for path in ("/nonexistent", "/dev/null", "/proc/thread-self/ns/net"):
        wish = CniWish(overlay="dcos", container="c1", ifname="eth0", sandbox=path)
        with pytest.raises(KernelError, match=f"{path} is no network namespace of a container"):
            mesos.host.run(mesos.cni.attach, wish)
    assert mesos.held() == []
    assert mesos.problems() == []


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("ip addr flush dev eth0", "link eth0 lacks address 9.0.0.2/25"),
        ("ip link set eth0 mtu 1400", "link eth0 has MTU 1400 instead of 1450"),
        ("ip link set eth0 down", "link eth0 is down"),
        ("ip link set eth0 name eth7", "link eth0 is missing in the container"),
        ("ip link del eth0", "link dni.* on m-dcos is missing"),
    ],
)
def test_a_check_tells_what_is_not_as_it_was_made(mesos: Mesos, harm: str, told: str) -> None:
    sandbox = mesos.sandbox()
    mesos.attach(sandbox)
    where = CniKey(overlay="dcos", container="c1", ifname="eth0")
    assert mesos.host.run(mesos.cni.verify, where).mtu == MTU
    if "name" in harm:
        sandbox.sh("ip link set eth0 down")
    sandbox.sh(harm)
    with pytest.raises(Refused, match=told):
        mesos.host.run(mesos.cni.verify, where)


def test_what_others_delete_is_made_again_in_the_running_container(mesos: Mesos) -> None:
    sandbox = mesos.sandbox()
    report = mesos.attach(sandbox)
    mesos.host.sh("ip link del m-dcos", f"ip link del {report.host}", "nft flush ruleset")
    mesos.reconcile()
    time.sleep(2.1)
    mesos.reconcile()
    assert "9.0.0.2/25" in sandbox.sh("ip addr show eth0")
    assert reaches(sandbox, "9.0.0.1")
    assert mesos.problems() == []


def test_a_container_may_send_under_its_own_address_alone(mesos: Mesos) -> None:
    sandbox = mesos.sandbox()
    mesos.attach(sandbox)
    assert reaches(sandbox, "9.0.0.1")
    sandbox.sh("ip addr add 9.0.0.99/25 dev eth0")
    argv = ["ping", "-c", "1", "-W", "1", "-I", "9.0.0.99", "9.0.0.1"]
    assert sandbox.run(subprocess.run, argv, capture_output=True, check=False).returncode != 0


def test_docker_and_mesos_containers_reach_each_other_and_other_overlays_do_not(mesos: Mesos) -> None:
    mesos.docker_network()
    ours, theirs, strange = mesos.sandbox(), mesos.sandbox(), mesos.sandbox()
    mesos.plug(theirs)
    mesos.attach(ours)
    mesos.attach(strange, "dual", "c3")
    with town.Container(mesos.host, town.overlay("dcos", "9.0.0.129/25", subnets=("9.0.0.0/8",))) as docker:
        for sandbox in (ours, theirs):
            assert reaches(sandbox, str(docker.address.ip))
        for target in ("9.0.0.2", "9.0.0.3"):
            assert reaches(docker.sandbox, target)
        assert reaches(ours, "9.0.0.3")
        assert reaches(theirs, "9.0.0.2")
        for sandbox in (ours, theirs, docker.sandbox):
            assert is_cut_off(sandbox, "10.64.0.2")
        for target in ("9.0.0.2", "9.0.0.3", str(docker.address.ip)):
            assert is_cut_off(strange, target)


def test_cnis_own_bridge_plugin_takes_the_bridge_that_dni_made(mesos: Mesos) -> None:
    mesos.round()
    before = mesos.bridge()
    sandbox = mesos.sandbox()
    result = mesos.plug(sandbox)
    assert result["ips"][0]["address"] == "9.0.0.2/25"
    after = mesos.bridge()
    assert [before[key] for key in ("ifindex", "address", "mtu")] == [
        after[key] for key in ("ifindex", "address", "mtu")
    ]
    assert mesos.reconcile() == []
    assert mesos.problems() == []
    mesos.plugin("DEL", sandbox, "dcos", "h1")


def test_a_bridge_that_cnis_plugin_made_gets_what_dnis_has_and_stays_its_makers(mesos: Mesos) -> None:
    sandbox = mesos.sandbox()
    mesos.plug(sandbox, mtu=1300)
    mesos.round()
    bridge = mesos.bridge()
    assert (bridge["mtu"], bridge.get("ifalias")) == (MTU, None)
    assert bridge["linkinfo"]["info_data"]["forward_delay"] == 0
    assert '"m-dcos"' in mesos.host.sh("nft list chain inet dni forward")
    assert "-i m-dcos -j ACCEPT" in mesos.host.sh("iptables -S DNI-FORWARD")
    assert mesos.problems() == []
    with mesos.store.write() as tx:
        tx.execute("DELETE FROM cni_network")
    mesos.reconcile()
    assert reaches(sandbox, "9.0.0.1")


def test_a_bridge_of_dnis_stays_as_long_as_containers_of_others_are_on_it(mesos: Mesos) -> None:
    mesos.round()
    sandbox = mesos.sandbox()
    mesos.plug(sandbox)
    with mesos.store.write() as tx:
        tx.execute("DELETE FROM cni_network")
    mesos.reconcile()
    assert "m-dcos is a bridge of dni that no network needs" in mesos.problems()
    assert reaches(sandbox, "9.0.0.1")
    sandbox.sh("ip link del eth0")
    mesos.reconcile()
    assert "m-dcos" not in mesos.host.sh("ip link")


def test_a_bridge_with_another_address_is_left_alone_and_told(mesos: Mesos) -> None:
    mesos.host.sh("ip link add m-dcos type bridge", "ip addr add 172.31.0.1/24 dev m-dcos")
    mesos.host.run(mesos.cni.round)
    with pytest.raises(
        NotMended, match=r"m-dcos exists and dni did not make it: a bridge device with 172\.31\.0\.1/24"
    ):
        mesos.reconcile()
    assert [one["local"] for one in mesos.bridge()["addr_info"]] == ["172.31.0.1"]
    with pytest.raises(KernelError, match="m-dcos exists and dni did not make it"):
        mesos.attach(mesos.sandbox())
    assert mesos.held() == []
