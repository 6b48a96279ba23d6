# SPDX-License-Identifier: Apache-2.0
"""IPv6: dual stack, IPv6 alone, and hosts that have it switched off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from tests.e2e import host_state
from tests.e2e.conftest import ENGINE
from tests.e2e.containers import CREATE, create, fetch, inside, place, reaches, refused, serve, start
from tests.lab import Host, Lab, addresses

KNOWS_IPV6_ALONE = tuple(map(int, ENGINE.split("."))) >= (28,)
"""From 28 on `--ipv4=false` makes a network without IPv4."""

DEV = ("--ipv6", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/64", "--ipam-opt", "overlay=dev", "dev")
SIX = ("--ipv6", "--ipam-opt", "overlay=dcos6", "dcos6")
FAULT = "net.ipv6.conf.all.disable_ipv6"


def address6(host: Host, name: str, net: str) -> str:
    """Answer what Mesos reads: NetworkSettings.Networks.NAME.GlobalIPv6Address."""
    return str(place(host, name, net)["GlobalIPv6Address"])


def listed(host: Host, container: str) -> set[str]:
    """Answer the addresses that `dni address ls` shows of a container, once Docker has been asked for its name."""

    def look() -> set[str] | None:
        mine = {str(row["address"]) for row in host_state.addresses(host) if row["container"] == container}
        return mine or None

    return host_state.eventually(look, 15, f"no address of {container} is listed")


def usage(host: Host, overlay: str) -> tuple[int | None, int | None]:
    """Answer how many addresses of each family `dni status` counts as used."""
    (row,) = (row for row in host_state.overlays(host) if row["name"] == overlay)
    four, six = (row["usage"][family] for family in ("v4", "v6"))
    return four and four["used"], six and six["used"]


@pytest.fixture
def closed(host: Host) -> Iterator[Host]:
    """Forward no IPv6 that nobody has allowed, as Docker has it where it looks after ip6tables."""
    host.run("ip6tables", "-P", "FORWARD", "DROP")
    yield host
    host.run("ip6tables", "-P", "FORWARD", "ACCEPT")


@pytest.fixture
def route_back(lab: Lab, host: Host) -> Iterator[None]:
    """The outside knows the way to the overlay, as a neighbour with a static route would."""
    lab.outside.run("ip", "route", "replace", "fd64::/64", "via", host.address6)
    yield
    lab.outside.run("ip", "route", "del", "fd64::/64")


def outside_reaches(lab: Lab, target: str) -> bool:
    return lab.outside.try_run("ping", "-6", "-c", "1", "-W", "2", target).returncode == 0


def test_one_command_defines_a_dual_stack_overlay_and_all_of_it_works(lab: Lab, closed: Host) -> None:
    host = closed
    create(host, *DEV)
    start(host, "one", net="dev")
    start(host, "two", "--ip6", "fd64::8000:0:77", net="dev")
    first, second = address6(host, "one", "dev"), address6(host, "two", "dev")
    assert (first, second) == ("fd64::8000:0:2", "fd64::8000:0:77")
    serve(host, "two")
    assert fetch(host, "one", f"http://[{second}]:9000/") == "two"
    assert fetch(host, "one", "http://two:9000/") == "two"
    assert host.run("curl", "-s", "-m", "30", f"http://[{second}]:9000/") == "two"
    assert reaches(host, "one", host.address6)
    assert reaches(host, "one", "fd64::8000:0:1")
    assert fetch(host, "one", lab.outside.echo_url6) == host.address6
    assert fetch(host, "one", lab.outside.echo_url) == host.address
    assert listed(host, "two") == {"10.64.0.131", second}
    assert usage(host, "dev") == (2, 2)
    host.docker("restart", "-t", "0", "one")
    assert address6(host, "one", "dev") == "fd64::8000:0:3"
    assert reaches(host, "one", second)
    host.docker("rm", "-f", "one", "two")
    assert usage(host, "dev") == (0, 0)


def test_the_link_of_a_container_has_no_surprises(host: Host) -> None:
    create(host, *DEV)
    create(host, "dcos")
    start(host, "both", net="dev")
    start(host, "four")
    settled = host_state.eventually(lambda: _settled(host, "both"), 10, "no link-local address")
    assert "dadfailed" not in settled
    assert settled.count("inet6") == 2, "the one that was asked for, and the link's own"
    assert inside(host, "both", "ip", "-6", "route", "show", "default").split()[2] == "fd64::8000:0:1"
    assert "inet6" not in inside(host, "four", "ip", "address", "show", "eth0")
    assert host.run("sysctl", "-n", "net.ipv6.conf.d-dev.accept_ra", "net.ipv6.conf.d-dcos.disable_ipv6") == "0\n1"


def _settled(host: Host, name: str) -> str | None:
    shown = inside(host, name, "ip", "-6", "address", "show", "eth0")
    return shown if "fe80" in shown and "tentative" not in shown else None


@pytest.mark.usefixtures("route_back")
def test_nobody_from_outside_another_overlay_or_dockers_own_networks_gets_in_by_ipv6(lab: Lab, closed: Host) -> None:
    host = closed
    create(host, *DEV)
    host.dni("overlay", "create", "ops", "--subnet", "10.66.0.0/16", "--subnet6", "fd66::/64")
    host.docker("network", "create", "--ipv6", "--subnet", "fd17::/64", "br6")
    at = started(host, one="dev", other="ops", theirs="br6")
    assert none_gets_in(host, at, ("other", "one"), ("one", "other"), ("theirs", "one"), ("one", "theirs"))
    assert not outside_reaches(lab, at["one"])
    assert reaches(host, "theirs", "fd17::1"), "what is theirs"
    assert host.try_run("ping", "-6", "-c", "1", "-W", "2", at["theirs"]).returncode == 0


@pytest.mark.usefixtures("route_back")
def test_an_internal_network_is_an_island_by_ipv6(lab: Lab, host: Host) -> None:
    create(host, "--internal", *DEV)
    host.dni("overlay", "create", "ops", "--subnet", "10.66.0.0/16", "--subnet6", "fd66::/64")
    at = {**started(host, one="dev", two="dev", other="ops"), "world": lab.outside.world6}
    assert reaches(host, "one", at["two"])
    assert reaches(host, "other", at["world"]), "so it is not the way that is missing"
    assert none_gets_in(host, at, ("other", "one"), ("one", "other"), ("one", "world"))
    assert not outside_reaches(lab, at["one"])


def started(host: Host, **nets: str) -> dict[str, str]:
    """Start containers, each on its network; answer their IPv6 addresses."""
    for name, net in nets.items():
        start(host, name, net=net)
    return {name: address6(host, name, net) for name, net in nets.items()}


def none_gets_in(host: Host, at: dict[str, str], *pairs: tuple[str, str]) -> bool:
    """Tell whether no container of these reaches the other; all at once, for each waits two seconds."""
    with ThreadPoolExecutor(len(pairs)) as pool:
        return not any(pool.map(lambda pair: reaches(host, pair[0], at[pair[1]]), pairs))


@pytest.mark.usefixtures("route_back")
def test_an_open_network_without_masquerade_is_seen_as_it_is_by_ipv6(lab: Lab, host: Host) -> None:
    create(host, "-o", "isolated=false", "-o", "masquerade=false", *DEV)
    start(host, "one", net="dev")
    assert outside_reaches(lab, address6(host, "one", "dev"))
    assert fetch(host, "one", lab.outside.echo_url6) == address6(host, "one", "dev")


def test_an_ipv6_only_overlay_has_this_hosts_ipv4_where_the_engine_wants_some(lab: Lab, closed: Host) -> None:
    """As DC/OS's dcos6 was: the address that counts is IPv6, the other one leads out and nowhere in."""
    host = closed
    host.dni("overlay", "create", "dcos6", "--subnet6", "fd01:b::/64", "--no-network")
    create(host, *SIX)
    assert start(host, "one", net="dcos6") == "198.18.0.2"
    start(host, "two", net="dcos6")
    create(host, "dcos")
    start(host, "elsewhere")
    assert address6(host, "one", "dcos6") == "fd01:b::8000:0:2"
    assert reaches(host, "one", "fd01:b::8000:0:3")
    assert reaches(host, "one", "198.18.0.3")
    assert fetch(host, "one", lab.outside.echo_url6) == host.address6
    assert fetch(host, "one", lab.outside.echo_url) == host.address
    assert not reaches(host, "elsewhere", "198.18.0.2")
    assert not reaches(host, "one", "9.0.0.130")
    assert usage(host, "dcos6") == (2, 2)
    assert "this host's own" in host.dni("status")


def test_a_network_without_ipv4_where_the_engine_knows_such(lab: Lab, host: Host) -> None:
    host.dni("overlay", "create", "dcos6", "--subnet6", "fd01:b::/64", "--no-network")
    if not KNOWS_IPV6_ALONE:
        assert "unknown flag: --ipv4" in refused(host, *CREATE, "--ipv4=false", *SIX)
        return
    create(host, "--ipv4=false", *SIX)
    assert start(host, "one", net="dcos6") == ""
    start(host, "two", net="dcos6")
    assert reaches(host, "one", address6(host, "two", "dcos6"))
    assert fetch(host, "one", lab.outside.echo_url6) == host.address6
    assert usage(host, "dcos6") == (None, 2)
    assert "inet " not in inside(host, "one", "ip", "address", "show", "eth0")
    off = ("--sysctl", "net.ipv6.conf.all.disable_ipv6=1", "busybox", "true")
    assert "leave IPv6 switched on in the container" in refused(host, "run", "--rm", "--net", "dcos6", *off)


def test_a_container_with_ipv6_switched_off_has_its_ipv4(host: Host) -> None:
    create(host, *DEV)
    there = start(host, "four", "--sysctl", "net.ipv6.conf.all.disable_ipv6=1", net="dev")
    start(host, "both", net="dev")
    assert reaches(host, "both", there)
    assert "inet6" not in inside(host, "four", "ip", "address", "show", "eth0")


REFUSALS = {
    "an overlay without IPv6": (("--ipv6", "x"), "'dcos' has no IPv6 subnet, and cannot be given one: leave --ipv6"),
    "a subnet for it": (
        ("--ipv6", "--subnet", "9.0.0.0/8", "--subnet", "fd64::/64", "--ipam-opt", "overlay=dcos", "x"),
        "`dni overlay create NAME --subnet CIDR --subnet6 CIDR`",
    ),
    "IPv6-only overlay by its subnet": (
        ("--ipv6", "--subnet", "fd01:b::/64", "x"),
        "say which, with --ipam-opt overlay=NAME",
    ),
    "IPv6-only overlay without --ipv6": (("--ipam-opt", "overlay=dcos6", "x"), "'dcos6' is IPv6 only: add --ipv6"),
    "too small": (("-o", "mtu=1200", *DEV), "mtu=1200 does not fit: IPv6 needs 1280"),
    "overlapping": (
        ("--ipv6", "--subnet", "10.65.0.0/16", "--subnet", "fd01:b::/64", "--ipam-opt", "overlay=x", "x"),
        "overlaps fd01:b::/64 of overlay 'dcos6'",
    ),
}


def test_what_ipv6_cannot_be_is_refused_and_leaves_nothing(host: Host) -> None:
    host.dni("overlay", "create", "dcos6", "--subnet6", "fd01:b::/64", "--no-network")
    before = (host_state.held(host), [row["name"] for row in host_state.overlays(host)])
    for words, sentence in REFUSALS.values():
        assert sentence in refused(host, *CREATE, *words)
        assert (host_state.held(host), [row["name"] for row in host_state.overlays(host)]) == before
    assert host.run("ip", "-o", "link", "show", "type", "bridge").count(" d-") == 0


def claim(host: Host, address: str) -> None:
    """Request an address that no container will have, as a dockerd that is then killed does."""
    body = json.dumps({"PoolID": f"dev/v{ip_address(address).version}", "Address": address})
    url = "http://dni/IpamDriver.RequestAddress"
    assert address in host.run("curl", "-s", "--unix-socket", "/run/docker/plugins/dni.sock", "-d", body, url)


def looked_at(host: Host) -> set[str]:
    """Answer which addresses are held after the collector has looked."""
    host_state.stir(host)
    return {str(row["address"]) for row in host_state.held(host) if row["overlay"] == "dev"}


ANSWERING = {"10.64.0.240/25", "fd64::8000:0:99/81"}
SILENT = ("10.64.0.241", "fd64::8000:0:98")


def test_a_lost_address_of_either_family_is_freed_unless_it_answers(host: Host) -> None:
    create(host, *DEV)
    words = ("--cap-add", "NET_ADMIN", "--network", "name=dev,driver-opt=spoof=allow")
    host.docker("run", "-d", "--name", "one", *words, "busybox", "sleep", "100000")
    own = {place(host, "one", "dev")["IPAddress"], address6(host, "one", "dev")}
    answering = {one.partition("/")[0] for one in ANSWERING}
    for address in ANSWERING:
        inside(host, "one", "ip", "address", "add", address, "dev", "eth0")
    for lost in (*answering, *SILENT):
        claim(host, lost)
    kept = own | answering
    host_state.eventually(lambda: looked_at(host) == kept or None, 40, "what is lost is not freed")
    for address in ANSWERING:
        inside(host, "one", "ip", "address", "del", address, "dev", "eth0")
    host_state.eventually(lambda: looked_at(host) == own or None, 40, "nor what is lost later")


def test_a_bridge_that_lost_its_ipv6_address_is_mended(host: Host) -> None:
    create(host, *DEV)
    start(host, "one", net="dev")
    host.run("ip", "-6", "address", "flush", "dev", "d-dev", "scope", "global")
    host_state.eventually(lambda: reaches(host, "one", "fd64::8000:0:1") or None, 15, "it was not mended")


@pytest.fixture
def without_ipv6(host: Host) -> Iterator[Host]:
    """Switch IPv6 off on all links of a host, as /etc/sysctl.d would."""
    for links in ("all", "default"):
        host.run("sysctl", "-qw", f"net.ipv6.conf.{links}.disable_ipv6=1")
    yield host
    for links in ("all", "default"):
        host.run("sysctl", "-qw", f"net.ipv6.conf.{links}.disable_ipv6=0")
    host.run("ip", "address", "replace", f"{host.address6}/{addresses.LINK6.prefixlen}", "dev", "eth0", "nodad")
    host.run("ip", "-6", "route", "replace", "default", "via", str(addresses.OUTSIDE6))


def test_where_ipv6_is_off_ipv4_works_and_ipv6_is_refused_with_the_command(lab: Lab, without_ipv6: Host) -> None:
    host = without_ipv6
    assert f"{FAULT} is 1: `sysctl -w {FAULT}=0`; or leave --ipv6 out" in refused(host, *CREATE, *DEV)
    assert [row["name"] for row in host_state.overlays(host)] == ["dcos"]
    create(host, "dcos")
    start(host, "one")
    assert fetch(host, "one", lab.outside.echo_url) == host.address


def test_the_default_overlay_speaks_ipv6_where_the_settings_say_so(lab: Lab, host: Host) -> None:
    host.stop_dni()
    host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
    host.start_dni(**host_state.SETTINGS, overlay_subnet6="fd01:b::/64")
    try:
        create(host, "--ipv6", "dcos")
        assert start(host, "one") == "9.0.0.130"
        assert address6(host, "one", "dcos") == "fd01:b::8000:0:2"
        assert fetch(host, "one", lab.outside.echo_url6) == host.address6
    finally:
        host_state.clear(host)
        host_state.reset(host)
