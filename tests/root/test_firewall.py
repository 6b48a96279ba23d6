# SPDX-License-Identifier: Apache-2.0
"""The firewall beside Docker's: in the same tables, behind what administrators decide, and gone without a trace."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.ports import HostPort, Protocol, Published
from dni_driver.core.wanted import Wanted
from dni_driver.kernel import Kernel
from dni_driver.kernel.command import run
from dni_driver.kernel.firewall import firewall
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.peers.neighbourhood import LeftToTheAgent
from tests.root import docker
from tests.root.ground import Namespace
from tests.root.packets import PORT, call, is_cut_off
from tests.root.town import DCOS, FOUR, OPEN, Container, Host

pytestmark = pytest.mark.root


@pytest.fixture
def dcos(host: Host) -> Host:
    host.want(DCOS)
    host.reconcile()
    return host


def rules(host: Host, chain: str, command: str = "iptables") -> list[str]:
    return host.sh(f"{command} -S {chain}").splitlines()[1:]


def test_overlays_are_opened_behind_docker_user_where_forward_passes_it(host: Host) -> None:
    with docker.docker_on(host):
        host.want(DCOS)
        host.reconcile()
        assert rules(host, "DOCKER-USER") == ["-A DOCKER-USER -j RETURN"]
        assert rules(host, "FORWARD")[:2] == ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j DNI-FORWARD"]


def test_docker_that_comes_later_has_its_chain_before_that(dcos: Host) -> None:
    assert rules(dcos, "FORWARD")[0] == "-A FORWARD -j DNI-FORWARD"
    with docker.docker_on(dcos):
        dcos.reconcile()
        assert rules(dcos, "FORWARD")[:2] == ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j DNI-FORWARD"]


def test_a_jump_that_an_older_dni_put_before_what_administrators_decide_is_moved_once(host: Host) -> None:
    with docker.docker_on(host):
        host.want(DCOS)
        host.reconcile()
        for tool in docker.SUBNETS:
            host.sh(f"{tool} -D FORWARD -j DNI-FORWARD", f"{tool} -A FORWARD -j DNI-FORWARD")
            host.sh(f"{tool} -I DOCKER-USER -i eth0 -j DROP", f"{tool} -I DOCKER-USER -j DNI-FORWARD")
        assert host.reconcile() == [
            f"{tool}: chain DNI-FORWARD is not what FORWARD jumps to once, behind DOCKER-USER: put right"
            for tool in docker.SUBNETS
        ]
        assert host.reconcile() == []
        for tool in docker.SUBNETS:
            assert rules(host, "DOCKER-USER", tool) == ["-A DOCKER-USER -i eth0 -j DROP", "-A DOCKER-USER -j RETURN"]


def test_networks_that_docker_makes_move_nothing(host: Host) -> None:
    """20.10 puts what it has about a bridge, and its own chains once more, at the beginning of FORWARD."""
    with docker.docker_on(host):
        host.want(DCOS)
        host.reconcile()
        one, other = host.container(DCOS), host.container(DCOS, 1)
        host.sh("iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT", "iptables -I FORWARD -o docker0 -j DOCKER")
        host.sh("iptables -D FORWARD -j DOCKER-USER", "iptables -I FORWARD -j DOCKER-USER")
        assert host.reconcile() == []
        assert call(one.sandbox, other.address.ip)
        assert call(one.sandbox, other.address6.ip)


def published(host: Host, container: Container) -> None:
    """Publish a container's server at port 8080 of its host, by both families."""
    host.wanted = msgspec.structs.replace(
        host.wanted,
        ports=tuple(
            Published(
                at=HostPort(Protocol.TCP, ip_address(at), 8080),
                target=target,
                port=PORT,
                bridge=container.link.bridge,
            )
            for at, target in (("0.0.0.0", container.address.ip), ("::", container.address6.ip))
        ),
    )
    host.run(host.kernel.publish, lambda: host.wanted)


DENIED = "DOCKER-USER -i eth0 -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP"


PLAIN, LEGACY = ("iptables", "ip6tables"), ("iptables-legacy", "ip6tables-legacy")


@pytest.mark.parametrize(
    ("tools", "way", "has_return"),
    [(PLAIN, "-I", True), (PLAIN, "-I", False), (PLAIN, "-A", False), (LEGACY, "-I", True), (LEGACY, "-A", False)],
)
def test_what_administrators_drop_in_docker_user_gets_to_no_published_port(
    host: Host,
    outside: Namespace,
    tools: tuple[str, str],
    way: str,
    has_return: bool,  # noqa: FBT001
) -> None:
    """Docker ends that chain with a RETURN, up to 28.2."""
    if tools == LEGACY and not has_legacy(host):
        pytest.skip("this kernel has no legacy iptables")
    with docker.docker_on(host, tools):
        host.want(DCOS)
        host.reconcile()
        published(host, host.container(DCOS))
        for tool, address in zip(tools, ("198.51.100.1", "fd00:5::1"), strict=True):
            if not has_return:
                host.sh(f"{tool} -F DOCKER-USER")
            assert call(outside, address, 8080)
            host.sh(f"{tool} {way} {DENIED}")
            assert is_cut_off(outside, address, 8080)
        assert host.reconcile() == []
        for address in ("198.51.100.1", "fd00:5::1"):
            assert is_cut_off(outside, address, 8080)


def test_where_docker_is_not_what_others_put_before_the_overlays_stays_there(dcos: Host, outside: Namespace) -> None:
    published(dcos, dcos.container(DCOS))
    assert call(outside, "198.51.100.1", 8080)
    dcos.sh("iptables -I FORWARD -i eth0 -j DROP")
    assert dcos.reconcile() == []
    assert is_cut_off(outside, "198.51.100.1", 8080)


def test_overlays_stay_open_while_dockerd_has_its_chain_out_of_forward(host: Host) -> None:
    with docker.docker_on(host):
        host.want(DCOS)
        host.reconcile()
        one, other = host.container(DCOS), host.container(DCOS, 1)
        host.sh("iptables -D FORWARD -j DOCKER-USER")
        assert call(one.sandbox, other.address.ip)


def test_a_docker_user_that_nobody_passes_is_not_used(dcos: Host) -> None:
    """Somebody flushed FORWARD: dockerd puts its jumps back only when it starts."""
    dcos.sh("iptables -N DOCKER-USER", "iptables -F FORWARD")
    dcos.reconcile()
    assert rules(dcos, "FORWARD") == ["-A FORWARD -j DNI-FORWARD"]


def test_the_rules_of_others_stay_as_they_were(host: Host) -> None:
    with docker.docker_on(host):
        host.sh("iptables -I DOCKER-USER -s 203.0.113.0/24 -j DROP", "iptables -A FORWARD -i eth9 -j ACCEPT")
        host.sh("ip6tables -I DOCKER-USER -s 2001:db8::/32 -j DROP")
        before = [host.sh(f"{tool} -t {table} -S") for tool in docker.SUBNETS for table in ("filter", "nat")]
        host.want(DCOS, OPEN)
        host.reconcile()
        host.want()
        host.reconcile()
        assert before == [host.sh(f"{tool} -t {table} -S") for tool in docker.SUBNETS for table in ("filter", "nat")]


def test_a_bridge_that_dockers_rules_guard_under_another_name_is_dockers(host: Host) -> None:
    with docker.docker_on(host):
        host.sh("iptables -A FORWARD -o lan7 -j DOCKER", "iptables -A FORWARD ! -o lan8 -j DOCKER")
        host.want(DCOS)
        host.reconcile()
        assert "-A DNI-FORWARD -o lan7 -j RETURN" in rules(host, "DNI-FORWARD")
        assert not any("lan8" in rule for rule in rules(host, "DNI-FORWARD"))


def test_ipv4_overlays_leave_ip6tables_alone(host: Host) -> None:
    host.want(FOUR)
    host.reconcile()
    assert "DNI" not in host.sh("ip6tables -S")


def has_legacy(host: Host) -> bool:
    return host.run(subprocess.run, ["iptables-legacy", "-S"], capture_output=True, check=False).returncode == 0


def test_where_docker_uses_the_legacy_tables_so_do_we(host: Host) -> None:
    if not has_legacy(host):
        pytest.skip("this kernel has no legacy iptables")
    host.want(DCOS)
    host.reconcile()
    assert rules(host, "FORWARD") == ["-A FORWARD -j DNI-FORWARD"]
    host.sh(*(f"iptables-legacy {rule}" for rule in docker.RULES))
    host.reconcile()
    assert rules(host, "FORWARD", "iptables-legacy")[:2] == [
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DNI-FORWARD",
    ]
    assert "DNI" not in host.sh("iptables -S"), "the plain command's table is cleared"
    assert call(host.container(DCOS).sandbox, host.container(DCOS, 1).address.ip)
    host.sh("iptables-legacy -F DNI-FORWARD")
    assert host.reconcile() == ["iptables-legacy: chain DNI-FORWARD has other rules: put right"]
    assert host.reconcile() == []


def test_while_nothing_changes_nothing_is_listed(dcos: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    dcos.reconcile()

    def never(*_: object) -> None:
        raise AssertionError("no command is needed")

    monkeypatch.setattr(firewall, "attempt", never)
    monkeypatch.setattr(firewall, "run", never)
    assert dcos.reconcile() == []


def test_a_table_that_another_program_changes_meanwhile_is_listed_anew(
    dcos: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beaten(argv: list[str], text: str = "") -> str:
        if argv[0] == "iptables-restore":
            monkeypatch.setattr(firewall, "run", run)
            run(["iptables", "-D", "FORWARD", "-j", "DNI-FORWARD"])
        return run(argv, text)

    dcos.sh("iptables -F DNI-FORWARD")
    monkeypatch.setattr(firewall, "run", beaten)
    assert dcos.reconcile() == ["iptables: chain DNI-FORWARD has other rules: put right"]
    assert dcos.reconcile() == []


def test_what_others_change_while_peers_come_and_go_is_put_right(dcos: Host) -> None:
    class Meddled(LeftToTheAgent):
        """Peers, and somebody who empties a chain while they are looked after, as any firewall's restart may."""

        def settle(self, wanted: Wanted, ledger: Ledger) -> None:
            super().settle(wanted, ledger)
            if meddling:
                subprocess.run(meddling.pop(), check=True)

    meddling: list[list[str]] = []
    kernel = Kernel(dcos.run_dir, peers=Meddled)
    assert dcos.run(kernel.reconcile, lambda: dcos.wanted) == []
    meddling.append(["nft", "flush", "chain", "inet", "dni", "to-dcos"])
    assert dcos.run(kernel.reconcile, lambda: dcos.wanted) == [
        "nft table inet dni was changed by another program: put right"
    ]
    assert dcos.run(kernel.reconcile, lambda: dcos.wanted) == []


def test_two_processes_share_what_they_know(dcos: Host) -> None:
    other = Kernel(dcos.run_dir)
    assert dcos.run(other.reconcile, lambda: dcos.wanted) == []
    dcos.want(DCOS, OPEN)
    dcos.reconcile()
    assert dcos.run(other.reconcile, lambda: dcos.wanted) == []


def test_a_lost_fingerprint_is_made_again(dcos: Host) -> None:
    for damage in ("", "{", '{"fed": 1}'):
        (dcos.run_dir / "firewall.json").write_text(damage)
        other = Kernel(dcos.run_dir)
        assert dcos.run(other.reconcile, lambda: dcos.wanted) == ["nft table inet dni is out of date: put right"]


def test_what_nft_refuses_is_said_and_the_rest_is_done(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\necho 'Error: out of order' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    host.want(DCOS)
    with pytest.raises(KernelError, match="nft table inet dni: nft cannot list its tables: Error: out of order"):
        host.reconcile()
    assert rules(host, "FORWARD") == ["-A FORWARD -j DNI-FORWARD"]


def test_size_does_not_grow_with_containers(dcos: Host) -> None:
    before = dcos.sh("nft -s list table inet dni")
    for number in range(5):
        dcos.container(DCOS, number)
    assert dcos.reconcile() == []
    assert dcos.sh("nft -s list table inet dni") == before


def test_unknown_overlays_are_closed(host: Host) -> None:
    """A network whose overlay is in no record: nobody gets in, nothing is opened."""
    lonely = type(OPEN.policy)(
        overlay="gone", bridges=("d-gone", "m-gone"), subnets=(), masquerade=True, isolated=True, internal=False
    )
    host.wanted = Wanted(policies=(lonely,))
    host.reconcile()
    assert "to-gone" in host.sh("nft list table inet dni")
    assert "DNI" not in host.sh("iptables -S")
