# SPDX-License-Identifier: Apache-2.0
"""The kernel follows the records, whatever somebody did to it by hand."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

from dni_driver.core.errors import KernelError
from dni_driver.core.names import egress_link
from dni_driver.core.wanted import Wanted
from dni_driver.kernel import Kernel, snapshot
from tests.root.packets import call
from tests.root.town import DCOS, DEV, FOUR, MTU, Host, Overlay, link, overlay

pytestmark = pytest.mark.root


@pytest.fixture
def dcos(host: Host) -> Host:
    host.want(DCOS)
    host.reconcile()
    return host


def everything(host: Host) -> str:
    listed = [host.sh(command) for command in ("ip -d -o link", "ip -o addr", "nft -s list ruleset")]
    return "\n".join(
        line.partition("valid_lft")[0] for text in listed for line in text.splitlines() if "_timer" not in line
    )


def test_bridges_are_made_as_wanted(dcos: Host) -> None:
    made = dcos.sh("ip -d link show d-dcos")
    assert f"mtu {MTU}" in made
    assert ",UP" in made
    assert "stp_state 0" in made
    assert "forward_delay 0" in made
    assert "02:42:09:00:00:81" in made
    assert "alias dni overlay dcos" in made
    addresses = dcos.sh("ip addr show d-dcos")
    assert "9.0.0.129/25" in addresses
    assert "fd01:b::8000:0:1/81" in addresses
    assert dcos.setting("ipv6/conf/d-dcos/accept_ra") == "0"


def test_a_bridge_without_ipv6_is_silent_there(host: Host) -> None:
    host.want(FOUR)
    host.reconcile()
    assert host.setting("ipv6/conf/d-four/disable_ipv6") == "1"


def test_when_all_agrees_nothing_is_written(dcos: Host) -> None:
    dcos.container(DCOS)
    dcos.reconcile()
    before, fingerprint = everything(dcos), (dcos.run_dir / "firewall.json").stat()
    assert dcos.reconcile() == []
    assert dcos.run(Kernel(dcos.run_dir).reconcile, lambda: dcos.wanted) == [], "nor by another process"
    assert everything(dcos) == before
    assert (dcos.run_dir / "firewall.json").stat() == fingerprint


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("ip link set d-dcos down", "bridge d-dcos: set up"),
        ("ip link set d-dcos mtu 1400", "bridge d-dcos: MTU 1450 instead of 1400"),
        ("ip link set d-dcos type bridge stp_state 1", "spanning tree off"),
        ("ip addr del 9.0.0.129/25 dev d-dcos", "bridge d-dcos: address 9.0.0.129/25 added"),
        ("ip addr del fd01:b::8000:0:1/81 dev d-dcos", "bridge d-dcos: address fd01:b::8000:0:1/81 added"),
        ("ip addr add 192.0.2.9/24 dev d-dcos", "bridge d-dcos: address 192.0.2.9/24 removed"),
        ("ip addr add 9.0.0.129/24 dev d-dcos", "bridge d-dcos: address 9.0.0.129/24 removed"),
        ("ip addr flush dev d-dcos", "bridge d-dcos: address 9.0.0.129/25 added"),
        ("ip link set {host} down", "mended link {host} on d-dcos: was down"),
        ("ip link set {host} mtu 1400", "had MTU 1400, now 1450"),
        ("ip link set {host} nomaster", "was on no bridge"),
        ("ip link set {host} type bridge_slave hairpin off", "had no hairpin"),
        ("ip link del d-dcos", "made bridge d-dcos"),
        ("nft flush ruleset", "nft table inet dni is missing"),
        ("nft delete table inet dni", "nft table inet dni is missing"),
        ("nft flush chain inet dni to-dcos", "nft table inet dni was changed by another program"),
        ("nft insert rule inet dni forward accept", "nft table inet dni was changed by another program"),
        ("nft delete table bridge dni", "nft table bridge dni is missing"),
        ("nft insert rule bridge dni prerouting accept", "nft table bridge dni was changed by another program"),
        ("nft add set bridge dni more '{{ type ifname; }}'", "nft table bridge dni was changed by another program"),
        ("nft add table bridge dni '{{ flags dormant; }}'", "nft table bridge dni was changed by another program"),
        ("nft flush set bridge dni macs", "link {host} may not send as all that is its own"),
        ("nft flush set bridge dni targets", "link {host} may not send as all that is its own"),
        ("nft add element bridge dni free '{{ {host} }}'", "link {host} may send as more than its own"),
        (
            "nft add element bridge dni ipv4 '{{ {host} . 02:42:09:00:00:82 . 9.0.0.9 }}'",
            "link {host} may send as more than its own",
        ),
        ("ip link set d-dcos type bridge group_fwd_mask 0", "frames to link-local groups treated as others"),
        ("ip link set d-dcos type bridge forward_delay 400", "spanning tree off, no forward delay"),
        ("iptables -F", "chain DNI-FORWARD"),
        ("iptables -F DNI-FORWARD", "chain DNI-FORWARD has other rules"),
        ("iptables -I DNI-FORWARD -j DROP", "chain DNI-FORWARD has other rules"),
        ("iptables -D FORWARD -j DNI-FORWARD", "is not what FORWARD jumps to once"),
        ("iptables -A FORWARD -j DNI-FORWARD", "is not what FORWARD jumps to once"),
        ("sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward switched on"),
        ("ip6tables -F DNI-FORWARD", "ip6tables: chain DNI-FORWARD has other rules"),
    ],
)
def test_damage_by_hand_is_mended_once(dcos: Host, damage: str, said: str) -> None:
    one, two = dcos.container(DCOS, 0), dcos.container(DCOS, 1)
    dcos.reconcile()
    dcos.sh(damage.format(host=one.link.host))
    assert any(said.format(host=one.link.host) in change for change in dcos.reconcile())
    assert dcos.reconcile() == []
    assert dcos.run(dcos.kernel.observe, dcos.wanted).firewall == ()
    assert call(one.sandbox, two.address.ip) == str(one.address.ip)
    assert call(dcos, one.address6.ip) == "fd01:b::8000:0:1"


def test_a_bridge_made_again_has_the_same_mac(dcos: Host) -> None:
    def mac() -> str:
        return dcos.sh("ip -br link show d-dcos").split()[2]

    before = mac()
    dcos.sh("ip link del d-dcos")
    dcos.reconcile()
    assert mac() == before == "02:42:09:00:00:81"


def test_what_is_no_longer_wanted_goes(dcos: Host) -> None:
    dcos.want(DCOS, DEV)
    dcos.reconcile()
    dcos.container(DEV)
    dcos.want(DCOS)
    changes = dcos.reconcile()
    assert "deleted bridge d-dev" in changes
    assert any(change.startswith("deleted dead links: dni") for change in changes)
    assert "d-dev" not in everything(dcos)


def test_without_networks_nothing_of_ours_is_left(dcos: Host) -> None:
    dcos.container(DCOS)
    dcos.want()
    dcos.reconcile()
    assert "dni" not in everything(dcos).lower()
    assert "DNI" not in dcos.sh("iptables -S") + dcos.sh("ip6tables -S")
    assert dcos.reconcile() == []


def test_addresses_follow_the_records(dcos: Host) -> None:
    second = overlay("dcos", "9.0.0.129/25", "9.0.7.129/25", subnets=("9.0.0.0/8",))
    dcos.want(second)
    dcos.reconcile()
    listed = dcos.sh("ip addr show d-dcos")
    assert "9.0.7.129/25" in listed
    assert "fd01" not in listed


def test_an_address_of_somebody_else_takes_none_of_ours_along(dcos: Host) -> None:
    """The kernel deletes with an address those of its subnet that came later, where it was not told otherwise."""
    dcos.sysctl("ipv4/conf/d-dcos/promote_secondaries", 0)
    before = dcos.sh("ip -o addr show d-dcos"), dcos.sh("ip route")
    dcos.sh("ip addr del 9.0.0.129/25 dev d-dcos", "ip addr add 9.0.0.200/25 dev d-dcos")
    dcos.reconcile()
    assert (dcos.sh("ip -o addr show d-dcos"), dcos.sh("ip route")) == before
    assert dcos.reconcile() == []


def test_a_bridge_of_somebody_else_is_left_alone_and_the_rest_is_done(host: Host) -> None:
    host.sh("ip link add d-dcos type bridge", "ip addr add 9.0.0.129/25 dev d-dcos")
    host.want(DCOS, DEV)
    with pytest.raises(
        KernelError, match=r"d-dcos exists and dni did not make it.*9\.0\.0\.129/25.*ip link del d-dcos"
    ):
        host.reconcile()
    assert "alias" not in host.sh("ip -d link show d-dcos")
    assert "10.64.0.129/25" in host.sh("ip addr show d-dev")
    host.want()
    host.reconcile()
    assert "9.0.0.129" in host.sh("ip addr show d-dcos"), "not ours to delete"


@pytest.mark.parametrize("places", [(DCOS,), (DCOS, DEV)], ids=["as it is", "with a bridge to be made"])
def test_the_links_are_read_before_the_records(dcos: Host, places: tuple[Overlay, ...]) -> None:
    """A link made while the records are read, or after, is not taken for a dead one."""
    late = link(DCOS)
    dcos.want(*places)

    def read() -> Wanted:
        dcos.kernel.attach(late)
        return dcos.wanted

    dcos.run(dcos.kernel.reconcile, read)
    assert dcos.sh(f"ip link show {late.host}")


def test_what_a_crash_left_of_a_deletion_is_deleted(dcos: Host) -> None:
    one, two = dcos.container(DCOS, 0), dcos.container(DCOS, 1)
    dcos.sh(f"ip link set {one.link.host} group 6581865")
    changes = dcos.reconcile()
    assert f"deleted dead links: {one.link.host}" in changes
    assert call(dcos, two.address.ip)


def test_a_bridge_that_was_never_finished_is_made_again(host: Host) -> None:
    """A crash came between making it and marking it as ours."""
    host.sh("ip link add d-dcos group 6581866 type bridge")
    host.want(DCOS)
    changes = host.reconcile()
    assert "deleted dead links: d-dcos" in changes
    assert "made bridge d-dcos" in changes
    assert "alias dni overlay dcos" in host.sh("ip -d link show d-dcos")
    assert "group default" in host.sh("ip link show d-dcos")


def test_a_bridge_that_the_kernel_would_not_finish_is_no_strangers(host: Host) -> None:
    place = msgspec.structs.replace(DCOS, bridge=msgspec.structs.replace(DCOS.bridge, mtu=70000))
    host.want(place)
    with pytest.raises(KernelError, match="bridge d-dcos: mtu greater than device maximum"):
        host.reconcile()
    host.want(DCOS)
    host.reconcile()
    assert "alias dni overlay dcos" in host.sh("ip link show d-dcos")
    assert host.reconcile() == []


def test_a_stranger_called_like_a_link_is_left_alone(dcos: Host) -> None:
    alone, port, holding_back = link(DCOS, 0).host, link(DCOS, 1).host, egress_link(link(DCOS, 2).endpoint)
    dcos.sh(f"ip link add {alone} type bridge", f"ip link add {port} type vxlan id 7 dstport 64000")
    dcos.sh(f"ip link add {holding_back} type bridge")
    dcos.sh(f"ip link set {port} master d-dcos")
    assert dcos.reconcile() == []
    assert dcos.run(dcos.kernel.observe, dcos.wanted).links == ()
    assert dcos.sh(f"ip link show {alone}")
    assert dcos.sh(f"ip link show {port}")
    assert dcos.sh(f"ip link show {holding_back}")


def logged(host: Host) -> list[tuple[object, object]]:
    """Reconcile; answer the level and subject of each line that the log got."""
    with capture_logs() as lines, suppress(KernelError):
        host.reconcile()
    return [(line["log_level"], line.get("subject") or line.get("change")) for line in lines]


def test_what_cannot_be_mended_is_warned_of_once(host: Host) -> None:
    host.sh("ip link add d-dcos type bridge")
    host.want(DCOS)
    assert ("warning", "bridge d-dcos") in logged(host)
    assert logged(host) == [("debug", "bridge d-dcos")]
    host.sh("ip addr add 192.0.2.9/24 dev d-dcos")
    assert logged(host) == [("warning", "bridge d-dcos")], "it has changed"
    host.sh("ip link del d-dcos")
    host.reconcile()
    host.sh("ip link set d-dcos alias other")
    assert logged(host) == [("warning", "bridge d-dcos")], "it is new again"


def test_a_container_that_has_left_is_nothing_to_tell(dcos: Host) -> None:
    """Between Leave and DeleteEndpoint its link is there without a record."""
    left = link(DCOS)
    dcos.run(dcos.kernel.attach, left)
    assert logged(dcos) == [("debug", f"deleted dead links: {left.host}")]


def test_while_the_kernel_tells_nothing_new_no_link_is_read(dcos: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    dcos.container(DCOS)
    dcos.reconcile()
    dcos.reconcile()
    monkeypatch.setattr(snapshot, "names", lambda: pytest.fail("it was read"))
    assert dcos.reconcile() == []


def test_more_news_than_the_kernel_keeps_is_news(dcos: Host) -> None:
    assert dcos.reconcile() == []
    for number in range(100):
        dcos.run(dcos.kernel.attach, link(DCOS, number))
    assert len(dcos.run(dcos.kernel.observe, dcos.wanted).links) == 100
    dcos.reconcile()
    assert dcos.run(dcos.kernel.observe, dcos.wanted).links == ()


def test_after_a_minute_without_news_the_links_are_read_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    kernel = Kernel(host.run_dir, lambda: now)
    host.run(kernel.reconcile, lambda: host.wanted)
    host.run(kernel.reconcile, lambda: host.wanted)
    read = Mock(side_effect=snapshot.names)
    monkeypatch.setattr(snapshot, "names", read)
    host.run(kernel.reconcile, lambda: host.wanted)
    assert read.call_count == 0
    now = 61.0
    host.run(kernel.reconcile, lambda: host.wanted)
    assert read.call_count == 1


def test_many_dead_links_go_at_once(dcos: Host) -> None:
    for number in range(50):
        dcos.run(dcos.kernel.attach, link(DCOS, number))
    (change,) = dcos.reconcile()
    assert change.endswith(" and 45 more")
    assert "dni" not in dcos.sh("ip -o link show type veth")


def test_processes_take_turns(dcos: Host) -> None:
    inside = threading.Event()
    order: list[str] = []

    def slowly() -> Wanted:
        inside.set()
        time.sleep(0.2)
        order.append("first")
        return dcos.wanted

    def then() -> Wanted:
        order.append("second")
        return dcos.wanted

    def both() -> None:
        other = threading.Thread(target=dcos.kernel.reconcile, args=(slowly,))
        other.start()
        inside.wait()
        Kernel(dcos.run_dir).reconcile(then)
        other.join()

    dcos.run(both)
    assert order == ["first", "second"]


def test_a_missing_nft_is_named_with_its_package(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.reconcile() == [], "nothing wanted, nothing needed"
    host.want(DCOS)
    said = "nft table {} dni: nft is not installed on this host: install the package nftables"
    for family in ("inet", "bridge", "inet", "bridge"):
        with pytest.raises(KernelError, match=said.format(family)):
            host.reconcile()


def test_one_broken_link_does_not_keep_the_others_broken(dcos: Host) -> None:
    good, bad = dcos.container(DCOS, 0), link(DCOS, 1)
    dcos.run(dcos.kernel.attach, bad)
    oversized = msgspec.structs.replace(bad, mtu=70000)
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(oversized, good.link))
    dcos.sh(f"ip link set {good.link.host} nomaster")
    with pytest.raises(KernelError, match=f"link {bad.host}: "):
        dcos.reconcile()
    assert call(dcos, good.address.ip)


def test_observe_tells_what_there_is(dcos: Host) -> None:
    container = dcos.container(DCOS)
    dcos.sh("ip link add d-other type bridge", f"ip link set {container.link.host} nomaster")
    view = dcos.run(dcos.kernel.observe, dcos.wanted)
    assert [bridge.name for bridge in view.bridges] == ["d-dcos"]
    assert set(view.bridges[0].addresses) == set(DCOS.bridge.addresses)
    assert [(each.name, each.bridge, each.up, each.mtu) for each in view.links] == [
        (container.link.host, None, True, MTU)
    ]
    assert view.firewall == ()


def test_observe_tells_how_the_firewall_differs(dcos: Host) -> None:
    dcos.sh("nft flush ruleset")
    said = dcos.run(dcos.kernel.observe, dcos.wanted).firewall
    assert said == (
        "nft table inet dni is missing",
        "iptables: chain DNI-FORWARD is missing",
        "ip6tables: chain DNI-FORWARD is missing",
        "nft table bridge dni is missing",
    )
