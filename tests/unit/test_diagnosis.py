# SPDX-License-Identifier: Apache-2.0
"""From what was seen of a host to what is wrong with it: one thing ill at a time, and exactly that is found."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dni_driver.core.doctor.ailments import Ailment, Severity
from dni_driver.core.doctor.diagnosis import KINDS, Unseen, diagnose, report
from dni_driver.core.doctor.facts import (
    ContainerEnd,
    DiskFacts,
    DockerFacts,
    Facts,
    FirewallFacts,
    ForwardChain,
    KernelFacts,
    Lack,
    ManagedPlugin,
    PluginFacts,
    PluginSocket,
    Program,
    RuleSet,
    Spec,
    StoreFacts,
    Underlay,
)
from dni_driver.core.engines import DIFFERENCES, parsed, that_apply
from dni_driver.core.overlays import define
from tests.unit import scene

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"

NOW = 1_800_000_000.0
SOCKET, API, STORE = "/run/docker/plugins/dni.sock", "/run/dni/dni.sock", "/var/lib/dni/dni.db"
AGENT = IPv4Address("192.0.2.11")
SIX = IPv6Address("fd00::11")

DOCKERS = RuleSet(
    command="iptables", family=4, is_dockers=True, policy="DROP", forward=("-A FORWARD -j DOCKER-USER",)
)
OTHERS = RuleSet(command="iptables-legacy", family=4, is_dockers=False, policy="ACCEPT")
OWN_SOCKET = PluginSocket(
    path=SOCKET, state="answers", mode=0o660, listener=7, program="python -P -m dni_driver.cli.holding"
)

HEALTHY = Facts(
    now=NOW,
    lacks=(),
    kernel=KernelFacts(
        release="6.1.0-18-amd64",
        forwarding={4: True, 6: True},
        ipv6_is_off=False,
        bridged_are_filtered=True,
        rp_filter={"all": 0, "d-dcos": 0},
        has_vtep=False,
        underlay=Underlay(agent=AGENT, link="eth0", mtu=1500),
        ends=(ContainerEnd(endpoint=scene.WEB, sandbox="/run/docker/netns/x", name="eth0", mtu=1450),),
        strange_bridges=(),
        offloading=(),
        inside={},
    ),
    firewall=FirewallFacts(rule_sets=(DOCKERS, OTHERS), forward_chains=(), missing_commands=()),
    plugin=PluginFacts(
        socket=SOCKET,
        api=API,
        sockets=(OWN_SOCKET,),
        specs=(),
        programs=(Program(8, ours=True),),
        plugin_runs=True,
        agent_runs=True,
        api_mode=0o660,
    ),
    docker=DockerFacts(version="28.5.2", networks={scene.DCOS: "dcos"}),
    store=StoreFacts(path=STORE, exists=True, size=1 << 16, records=scene.records()),
    disk=DiskFacts(path="/var/lib/dni", mount="/", free=1 << 30, is_out_of_inodes=False, is_read_only=False),
)


def host(**parts: Any) -> Facts:
    """Answer the healthy host, with some things changed: `kernel__release="5.4"` reaches into a part."""
    changed = HEALTHY
    for place, value in parts.items():
        part, _, key = place.partition("__")
        new = msgspec.structs.replace(getattr(changed, part), **{key: value}) if key else value
        changed = msgspec.structs.replace(changed, **{part: new})
    return changed


def two_networks() -> Any:
    dev = msgspec.structs.replace(scene.network(), id="e" * 64, overlay="dev", name="dev")
    overlays = [*scene.records().overlays, define("dev", [ip_network("10.64.0.0/16")])]
    return scene.records(networks=[scene.network(), dev], overlays=overlays)


def sockets(*more: PluginSocket) -> tuple[PluginSocket, ...]:
    return (OWN_SOCKET, *more)


STRANGE = ForwardChain(table="inet filter", name="forward", mentions=frozenset())
DUAL = msgspec.structs.replace(scene.network(), gateway6=ip_interface("fd01:b::8000:0:1/81"))
V6 = scene.endpoint(scene.WEB, "9.0.0.130")

ILL: dict[str, list[Facts]] = {
    "settings": [
        host(settings="/etc/dni/dni.toml: log.level = 7: must be a text"),
        host(settings="DNI_LOG_LEVEL = 7: must be a text"),
    ],
    "store": [host(store__trouble="is damaged (file is not a database): stop dni, ...", store__records=None)],
    "store-lost": [
        host(docker__networks={scene.DCOS: "dcos", "9" * 64: "dev"}),
        host(store=StoreFacts(path=STORE, exists=False)),
    ],
    "disputed": [
        host(store__disputes={"": "agent 192.0.2.11 is another host, seen at 192.0.2.12"}),
        host(store__disputes={"dev": "agent subnet 10.64.0.0/24 of overlay 'dev' is held by agent 192.0.2.12"}),
    ],
    "store-permissions": [host(store__mode=0o644)],
    "store-log": [host(store__log_size=65 << 20)],
    "disk-full": [host(disk__free=1 << 20), host(disk__is_out_of_inodes=True)],
    "disk-read-only": [host(disk__is_read_only=True)],
    "clock": [host(now=1000.0)],
    "clock-set-back": [
        host(store__records=scene.records(addresses=[scene.address("9.0.0.140", since=NOW + 86400)], endpoints=[]))
    ],
    "not-running": [
        host(plugin__plugin_runs=False),
        host(plugin__agent_runs=False),
        host(plugin__plugin_runs=False, store__records=scene.records(networks=[], endpoints=[]), docker__networks={}),
    ],
    "agent-complains": [
        host(complaints=("the registry does not answer (ZooKeeper at zk1:2181)",)),
        host(complaints=("overlay 'dev' is full", "overlay 'dev' has no Docker network")),
    ],
    "docker-away": [host(docker=DockerFacts(trouble="dockerd does not answer at /run/docker.sock: No such file"))],
    "engine-too-old": [host(docker__version="19.03.15")],
    "engine-trap": [host(docker__version="29.0.1")],
    "stale-socket": [
        host(plugin__sockets=sockets(PluginSocket(path="/run/docker/plugins/old.sock", state="dead", mode=0o755)))
    ],
    "socket-path-taken": [host(plugin__sockets=(PluginSocket(path=SOCKET, state="no-socket", mode=0o644),))],
    "socket-of-another": [
        host(
            plugin__sockets=(PluginSocket(path=SOCKET, state="answers", mode=0o660, listener=99, program="nc -l"),),
            plugin__plugin_runs=False,
            store__records=None,
            docker__networks={},
        )
    ],
    "socket-permissions": [
        host(plugin__sockets=(msgspec.structs.replace(OWN_SOCKET, mode=0o777),)),
        host(plugin__api_mode=0o662),
    ],
    "socket-not-found": [host(plugin__socket="/run/dni/plugin.sock")],
    "spec-file": [host(plugin__specs=(Spec("/etc/docker/plugins/dni.spec", "tcp://192.0.2.99:80"),))],
    "second-driver": [host(plugin__programs=(Program(8, ours=True), Program(9, ours=False)))],
    "managed-beside-legacy": [
        host(docker__plugins=(ManagedPlugin("dni:latest", is_enabled=True),)),
        host(docker__plugins=(ManagedPlugin("example.org/x/dni:1", is_enabled=False),)),
    ],
    "no-bridge": [host(lacks=(Lack("bridge", "Unknown device type."),))],
    "no-veth": [host(lacks=(Lack("veth", "Unknown device type."),))],
    "no-vxlan": [host(lacks=(Lack("vxlan", "Unknown device type."),))],
    "no-nftables": [host(lacks=(Lack("nftables", "No such file or directory"),))],
    "no-bridge-nftables": [host(lacks=(Lack("bridge-nftables", "Operation not supported"),))],
    "no-shaping": [host(lacks=(Lack("shaping", "egress=1mbit needs ifb"),))],
    "no-sctp": [host(lacks=(Lack("sctp", "its connections are not followed"),))],
    "forwarding-off": [host(kernel__forwarding={4: False, 6: True})],
    "ipv6-off": [
        host(kernel__ipv6_is_off=True, store__records=scene.records(networks=[DUAL])),
        host(kernel__forwarding={4: True, 6: None}, store__records=scene.records(networks=[DUAL])),
    ],
    "rp-filter-strict": [
        host(kernel__rp_filter={"all": 1, "d-dcos": 0}, store__records=two_networks(), docker__networks={}),
        host(kernel__rp_filter={"all": 0, "d-dcos": 1}, kernel__has_vtep=True),
    ],
    "agent-ip-missing": [host(kernel__underlay=Underlay(agent=AGENT, link=None, mtu=0))],
    "mtu-too-large": [
        host(kernel__underlay=Underlay(agent=AGENT, link="eth0", mtu=1400)),
        host(kernel__underlay=Underlay(agent=SIX, link="eth0", mtu=1519)),
    ],
    "mtu-of-container": [
        host(kernel__ends=(ContainerEnd(endpoint=scene.WEB, sandbox="/run/netns/x", name="eth0", mtu=1500),))
    ],
    "checksum-offload": [host(kernel__release="5.4.0-26-generic", kernel__offloading=("vtep1024",))],
    "inside-overlay": [host(kernel__inside={"dcos": ("name server 9.9.9.9", "9.5.0.0/24 on eth1")})],
    "strange-bridge": [
        host(kernel__strange_bridges=("d-dcos",)),
        host(kernel__strange_bridges=("d-dcos",), docker__bridges={"d-dcos": "dcos"}),
    ],
    "firewall-command-missing": [host(firewall__missing_commands=("nft",))],
    "second-iptables": [
        host(firewall__rule_sets=(DOCKERS, msgspec.structs.replace(OTHERS, policy="DROP"))),
        host(firewall__rule_sets=(DOCKERS, msgspec.structs.replace(OTHERS, forward=("-A FORWARD -j REJECT",)))),
    ],
    "forward-blocked": [
        host(
            firewall__rule_sets=(
                msgspec.structs.replace(DOCKERS, forward=("-A FORWARD -j DROP", "-A FORWARD -j DOCKER-USER")),
            )
        ),
        host(
            firewall__rule_sets=(
                msgspec.structs.replace(
                    DOCKERS,
                    forward=("-A FORWARD -j DOCKER-USER", "-A FORWARD -j DROP", "-A FORWARD -j DNI-FORWARD"),
                ),
            )
        ),
    ],
    "foreign-forward-drop": [
        host(firewall__forward_chains=(STRANGE,)),
        host(
            firewall__forward_chains=(STRANGE,),
            store__records=scene.records(networks=[], endpoints=[]),
            docker__networks={},
        ),
    ],
}


def test_a_healthy_host_has_nothing() -> None:
    assert diagnose(HEALTHY) == []


def test_a_host_of_which_nothing_could_be_seen_has_nothing() -> None:
    assert diagnose(Facts(now=NOW)) == []


@pytest.mark.parametrize(
    ("kind", "facts"), [(kind, facts) for kind, hosts in ILL.items() for facts in hosts if kind != "store-lost"]
)
def test_what_is_ill_is_found_and_nothing_else(kind: str, facts: Facts) -> None:
    assert [ailment.kind for ailment in diagnose(facts)] == [kind]


@pytest.mark.parametrize("facts", ILL["store-lost"])
def test_networks_without_records_are_found(facts: Facts) -> None:
    (found,) = diagnose(facts)
    assert found.kind == "store-lost"
    assert found.mend.startswith("docker network rm d")


def test_every_kind_is_shown_ill_here() -> None:
    assert {kind.name for kind in KINDS} == ILL.keys()


def test_the_page_lists_every_kind_as_it_is() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (error|warning) \| (.*?) \| ", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((kind.name, kind.severity, kind.breaks) for kind in KINDS)


AILMENTS = [one for hosts in ILL.values() for facts in hosts for one in diagnose(facts)]


@pytest.mark.parametrize("ailment", AILMENTS)
def test_every_finding_says_what_breaks_and_what_mends_it_in_one_line_each(ailment: Ailment) -> None:
    texts = (ailment.about, ailment.problem, ailment.breaks, ailment.mend or ailment.otherwise)
    assert all(texts)
    assert not any("\n" in text for text in (*texts, ailment.otherwise))


BY_HAND = {
    "disputed": "who of two hosts is to keep its address or its disk",
    "disk-full": "what may be thrown away",
    "no-bridge-nftables": "another kernel, or networks without this protection",
    "agent-ip-missing": "which address is meant",
    "inside-overlay": "who is to have other addresses",
}
"""What no command mends, because people have to decide that first."""

PROGRAMS = {
    *("apt-get", "chmod", "dni", "docker", "ethtool", "firewall-cmd", "for", "ip", "iptables", "iptables-legacy"),
    *("kill", "mkdir", "modprobe", "mount", "mv", "nft", "nsenter", "rm", "sysctl", "systemctl", "timedatectl"),
    "unset",
}


@pytest.mark.parametrize("ailment", AILMENTS)
def test_every_mend_is_a_command_or_a_named_exception(ailment: Ailment) -> None:
    if not ailment.mend:
        assert ailment.kind in BY_HAND
        return
    read = subprocess.run(["sh", "-n", "-c", ailment.mend], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    assert ailment.mend.split()[0] in PROGRAMS


def test_the_page_marks_what_is_mended_by_hand() -> None:
    assert {one.kind for one in AILMENTS if not one.mend} == BY_HAND.keys()
    marked = re.findall(r"^\| `([a-z0-9-]+)` \| (?:error|warning) \| .*\*by hand\*", PAGE.read_text(), re.MULTILINE)
    assert sorted(marked) == sorted(BY_HAND)


def test_a_dispute_about_an_overlay_is_ended_by_removing_its_network_here() -> None:
    (found,) = diagnose(host(store__disputes={"dcos": "agent subnet 9.0.0.0/24 is held by agent 192.0.2.12"}))
    assert found.mend == "docker ps -q --filter network=dcos | xargs -r docker stop && docker network rm dcos"


FINE: list[Callable[[], Facts]] = [
    lambda: host(kernel__rp_filter={"all": 1, "d-dcos": 1}),
    lambda: host(kernel__rp_filter={"all": 2, "d-dcos": 1}, kernel__has_vtep=True),
    lambda: host(kernel__forwarding={4: False, 6: False}, store__records=scene.records(endpoints=[])),
    lambda: host(kernel__forwarding={4: True, 6: None}),
    lambda: host(kernel__ipv6_is_off=True),
    lambda: host(kernel__release="5.4.0"),
    lambda: host(kernel__release="4.18.0-553.el8_10.x86_64", kernel__offloading=("vtep1024",)),
    lambda: host(kernel__release="6.1.0", kernel__offloading=("vtep1024",)),
    lambda: host(
        firewall__rule_sets=(DOCKERS, msgspec.structs.replace(OTHERS, forward=("-A FORWARD -i eth1 -j DROP",)))
    ),
    lambda: host(
        firewall__rule_sets=(
            msgspec.structs.replace(DOCKERS, forward=("-A FORWARD -j DOCKER-USER", "-A FORWARD -j DROP")),
        )
    ),
    lambda: host(
        firewall__rule_sets=(msgspec.structs.replace(DOCKERS, is_dockers=False, forward=("-A FORWARD -j DROP",)),)
    ),
    lambda: host(
        firewall__rule_sets=(
            msgspec.structs.replace(
                DOCKERS,
                forward=("-A FORWARD -j DROP_INVALID", "-A FORWARD -j REJECT-LOG", "-A FORWARD -j DOCKER-USER"),
            ),
        )
    ),
    lambda: host(firewall__forward_chains=(msgspec.structs.replace(STRANGE, mentions=frozenset({"d-dcos"})),)),
    lambda: host(firewall__forward_chains=(msgspec.structs.replace(STRANGE, mentions=frozenset({"d-*"})),)),
    lambda: host(plugin__sockets=(msgspec.structs.replace(OWN_SOCKET, listener=1, program="/sbin/init"),)),
    lambda: host(plugin__specs=(Spec("/etc/docker/plugins/dni.spec", f"unix://{SOCKET}"),)),
    lambda: host(
        plugin__socket="/run/dni/p.sock", plugin__specs=(Spec("/etc/docker/plugins/dni.spec", "unix:///run/dni/p.sock"),)
    ),
    lambda: host(docker__plugins=(ManagedPlugin("weave:latest", is_enabled=True),)),
    lambda: host(
        docker__plugins=(ManagedPlugin("dni:latest", is_enabled=True),),
        plugin__sockets=(),
    ),
    lambda: host(plugin__plugin_runs=False, plugin__agent_runs=False, store=StoreFacts(path=STORE, exists=False),
                 docker__networks={}),
    lambda: host(docker__version="unknown"),
    lambda: host(kernel__underlay=Underlay(agent=AGENT, link="eth0", mtu=9000)),
    lambda: host(kernel__underlay=Underlay(agent=SIX, link="eth0", mtu=1520)),
    lambda: host(store__records=None),
]  # fmt: skip


@pytest.mark.parametrize("facts", FINE)
def test_what_only_looks_like_an_illness_is_none(facts: Callable[[], Facts]) -> None:
    assert diagnose(facts()) == []


def test_ipv6_forwarding_is_needed_where_a_container_has_ipv6() -> None:
    six = msgspec.structs.replace(V6, address6=ip_interface("fd01:b::8000:0:2/81"))
    records = scene.records(endpoints=[six, scene.endpoint(scene.DB, "9.0.0.131")])
    (found,) = diagnose(host(kernel__forwarding={4: True, 6: False}, store__records=records))
    assert found.mend == "sysctl -w net.ipv6.conf.all.forwarding=1"


def test_errors_come_first() -> None:
    found = diagnose(host(store__mode=0o644, settings="DNI_X = 1: is no setting"))
    assert [one.severity for one in found] == [Severity.ERROR, Severity.WARNING]


def test_firewalld_is_told_in_its_own_language() -> None:
    chain = ForwardChain(table="inet firewalld", name="filter_FORWARD", mentions=frozenset())
    (found,) = diagnose(host(firewall__forward_chains=(chain,)))
    assert found.mend == "firewall-cmd --permanent --zone=trusted --add-interface=d-dcos && firewall-cmd --reload"


@pytest.mark.parametrize(
    ("text", "version"),
    [("20.10.24+dfsg1", (20, 10, 24)), ("28.5", (28, 5, 0)), ("29.0.1-rc.2", (29, 0, 1)), ("dev", None), ("", None)],
)
def test_engine_versions_are_read_as_engines_write_them(text: str, version: tuple[int, ...] | None) -> None:
    assert parsed(text) == version


def test_what_differs_on_an_engine_is_told_by_its_version() -> None:
    told = {version: len(that_apply(version, DIFFERENCES)) for version in ((20, 10, 24), (26, 1, 5), (28, 5, 2))}
    assert told == {(20, 10, 24): 5, (26, 1, 5): 4, (28, 5, 2): 0}
    (since_29,) = that_apply((29, 1, 0), DIFFERENCES)
    assert "container names" in since_29


def test_a_report_tells_what_was_seen_in_passing() -> None:
    found = report(HEALTHY, [Unseen(what="the store", why="it needs root")])
    assert found.host == {
        "Docker Engine": "28.5.2",
        "kernel": "6.1.0-18-amd64",
        "agent": "192.0.2.11 on eth0, MTU 1500",
        "iptables": "iptables (Docker), FORWARD DROP; iptables-legacy, FORWARD ACCEPT",
        "bridged frames": "meet iptables",
        "store": "/var/lib/dni/dni.db, 64 KiB, 1024 MiB free",
    }
    assert (found.findings, [one.what for one in found.unseen]) == ([], ["the store"])
