# SPDX-License-Identifier: Apache-2.0
"""What DC/OS does on a lab host: its Mesos agent answers, its overlay module and dcos-net run their commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import mesos_agent
from tests.e2e import host_state
from tests.lab import Host
from tests.lab.node import REPOSITORY

RESOLVER = "198.51.100.1"
"""Where each host of DC/OS answers names."""

CNI_DIRECTORY = "/opt/mesosphere/etc/dcos/network/cni"
_HELD = "/var/run/dcos/cni/networks"
_OPTIONS = (
    "--opt=com.docker.network.bridge.name=d-dcos",
    "--opt=com.docker.network.bridge.enable_ip_masquerade=false",
    "--opt=com.docker.network.driver.mtu=1420",
)
_NAME_SERVER = REPOSITORY / "tests/lab/name_server.py"
_RETURN_FIRST = "iptables -w -D {0} -j RETURN; iptables -w -I {0} 1 -j RETURN"
_MASQUERADE = "POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE"
_HALVES_OF_THE_WORLD = ("0.0.0.0/1", "128.0.0.0/1", "127.0.0.0/1")
_IPMASQ = (
    "ipset create -exist overlay hash:net counters",
    *(f"ipset add -exist overlay {half}" for half in _HALVES_OF_THE_WORLD),
    "ipset add -exist overlay 9.0.0.0/8 nomatch",
    f"iptables -w -t nat -C {_MASQUERADE} || iptables -w -t nat -A {_MASQUERADE}",
)
_UNDONE = (
    f"iptables -w -t nat -D {_MASQUERADE}",
    "ipset destroy overlay",
    "iptables -w -D DOCKER-ISOLATION-STAGE-2 -j RETURN",
)


class Mesos:
    """The Mesos agent of a host, on the host's own address; `url` is what registry.url says for it."""

    def __init__(self, host: Host) -> None:
        """Be away."""
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"mesos://{host.address}:5051"

    def start(self, *overlays: dict[str, Any]) -> None:
        """Begin anew, and answer with these overlays; with none as long as it has not registered."""
        self.stop()
        answer = mesos_agent.agent(*overlays, ip=self._host.address)
        argv = (sys.executable, "-m", "tests.mesos_agent", self._host.address, "5051", json.dumps(answer))
        self._process = self._host.spawn(*argv, log=self._host.directory / "mesos.log")

    def stop(self) -> None:
        """Be away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None


@contextmanager
def mesos_on(host: Host) -> Iterator[Mesos]:
    """Give a Mesos agent to a host that knows of no overlay; afterwards neither is there."""
    host.stop_dni()
    host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
    mesos = Mesos(host)
    try:
        yield mesos
    finally:
        mesos.stop()
        if host_state.dni_runs(host):
            host_state.clear(host)
        host_state.reset(host)


def make_network(host: Host, subnet: str) -> None:
    """Make the Docker network as the overlay module does with `docker_bridge` on."""
    host.docker("network", "create", "--driver=bridge", *_OPTIONS, f"--subnet={subnet}", "dcos")


def run_module(host: Host) -> None:
    """Run what the overlay module runs with `docker_bridge` on, where a network of the overlay's name is there."""
    host.docker("network", "inspect", "dcos")
    if host.try_run("sh", "-c", _RETURN_FIRST.format("DOCKER-ISOLATION")).returncode != 0:
        host.run("sh", "-c", _RETURN_FIRST.format("DOCKER-ISOLATION-STAGE-2"))
    for line in _IPMASQ:
        host.run("sh", "-c", line)


def undo_module(host: Host) -> None:
    """Take its rules away again, which it never does."""
    for line in _UNDONE:
        host.run("sh", "-c", line)


@contextmanager
def names_on(host: Host, name: str) -> Iterator[None]:
    """Have the host's own name server answer where DC/OS has one, knowing one name: the host's."""
    host.run("ip", "addr", "add", f"{RESOLVER}/32", "dev", "lo")
    argv = (sys.executable, "-I", "-S", str(_NAME_SERVER), RESOLVER, name, host.address)
    process = host.spawn(*argv, log=host.directory / "names.log")
    try:
        yield
    finally:
        process.kill()
        process.wait(60)
        host.run("ip", "addr", "del", f"{RESOLVER}/32", "dev", "lo")


def leave_behind(host: Host, number: int, others: dict[int, str]) -> None:
    """Leave on a host what DC/OS makes there and never removes; it was agent `number`, others at these addresses.

    What an earlier test has left of dni's goes before: it would not have been there.
    """
    for line in ("ip link del vtep1024", "ip link del m-dcos", "ip rule del from 9.0.0.0/8 lookup 42"):
        host.try_run(*line.split())
    make_network(host, f"9.0.{number}.128/25")
    run_module(host)
    own = f"70:b3:d5:80:00:{number:02x}"
    lines = [
        "iptables -w -A FORWARD -j ACCEPT",
        "ip link add vtep1024 type vxlan id 1024 dstport 64000",
        f"ip link set vtep1024 address {own} up",
        f"ip addr replace 44.128.0.{number}/20 dev vtep1024",
        "ip rule add from 9.0.0.0/8 lookup 42",
        "ip link add m-dcos type bridge",
        "ip link set m-dcos mtu 1420 up",
        f"ip addr add 9.0.{number}.1/25 dev m-dcos",
    ]
    for other, address in others.items():
        mac, via = f"70:b3:d5:80:00:{other:02x}", f"44.128.0.{other}"
        lines += [
            f"ip neigh replace {via} lladdr {mac} dev vtep1024 nud permanent",
            f"ip route replace 9.0.{other}.0/24 via {via}",
            f"bridge fdb replace {mac} dev vtep1024 dst {address} self",
            f"ip route replace {address}/32 via {via} table 42",
        ]
    for line in lines:
        host.run(*line.split())
    _leave_files(host, number)


def _leave_files(host: Host, number: int) -> None:
    ipam = {"type": "host-local", "dataDir": _HELD, "subnet": f"9.0.{number}.0/25", "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "m-dcos", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    mapper = {"type": "mesos-cni-port-mapper", "excludeDevices": ["m-dcos"], "chain": "M-DCOS"}
    document = {"name": "dcos", **mapper, "delegate": {**bridge, "mtu": 1420, "ipam": ipam}}
    host.run("mkdir", "-p", CNI_DIRECTORY, f"{_HELD}/dcos")
    host.run("sh", "-c", f"cat > {CNI_DIRECTORY}/dcos.conf", stdin=json.dumps(document))
    host.run("sh", "-c", f"cat > {_HELD}/dcos/9.0.{number}.2", stdin="e790a1a4\r\neth0")
