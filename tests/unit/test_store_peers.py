# SPDX-License-Identifier: Apache-2.0
"""What the store keeps of other agents."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, ip_network

from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.peers import Peer, Vtep
from dni_driver.store import Store, identity, peers
from dni_driver.store.records import read_all

ONE, TWO = IPv4Address("192.0.2.21"), IPv4Address("192.0.2.22")


def peer(agent_ip: Address, *subnets: str) -> Peer:
    held = tuple(AgentSubnet(overlay="dcos", subnet=ip_network(subnet)) for subnet in subnets)
    return Peer(agent_ip=agent_ip, vtep=Vtep(IPv4Interface((f"44.128.0.{int(agent_ip) & 15}", 20))), subnets=held)


def test_peers_are_kept_changed_and_forgotten_and_it_is_told_whether_that_changed_anything(store: Store) -> None:
    with store.write() as tx:
        assert peers.put(tx, [peer(ONE), peer(TWO, "9.0.1.0/24", "fd01:b::/80")])
        assert not peers.put(tx, [peer(ONE)])
        assert peers.put(tx, [peer(ONE, "9.0.2.0/24")])
    assert read_all(store).peers == [peer(ONE, "9.0.2.0/24"), peer(TWO, "9.0.1.0/24", "fd01:b::/80")]
    with store.write() as tx:
        assert peers.number(tx) == 2
        assert peers.drop(tx, [ONE])
        assert not peers.drop(tx, [ONE])
        assert not peers.keep_only(tx, [TWO])
        assert peers.keep_only(tx, [ONE])
    assert read_all(store).peers == []


def test_peers_that_did_not_change_are_not_read_again(store: Store) -> None:
    with store.write() as tx:
        peers.put(tx, [peer(ONE), peer(TWO)])
    first = read_all(store).peers
    assert read_all(store).peers is first
    with store.write() as tx:
        peers.put(tx, [peer(ONE, "9.0.2.0/24")])
    later = read_all(store).peers
    assert later == [peer(ONE, "9.0.2.0/24"), peer(TWO)]
    assert later[1] is first[1]


def test_changes_of_another_process_are_seen_and_such_as_did_not_come_to_be_are_not(store: Store) -> None:
    other = Store(store.path)
    with store.write() as tx:
        peers.put(tx, [peer(ONE)])
    assert read_all(other).peers == [peer(ONE)]
    with suppress(ZeroDivisionError), store.write() as tx:
        peers.put(tx, [peer(TWO)])
        assert len(peers.every(tx)) == 2
        raise ZeroDivisionError
    assert read_all(store).peers == read_all(other).peers == [peer(ONE)]
    with other.write() as tx:
        peers.drop(tx, [ONE])
        peers.put(tx, [peer(TWO)])
    assert read_all(store).peers == [peer(TWO)]
    other.close()


def test_two_stores_are_not_taken_for_each_other(store: Store) -> None:
    other = Store(store.path.with_name("other.db"))
    for one, agent in ((store, ONE), (other, TWO)):
        with one.write() as tx:
            peers.put(tx, [peer(agent)])
    for _ in range(2):
        assert [read_all(one).peers for one in (store, other)] == [[peer(ONE)], [peer(TWO)]]
    other.close()


def test_peers_may_be_named_by_ipv6_addresses(store: Store) -> None:
    six = peer(IPv6Address("fd00::5"), "fd01:b::/80")
    with store.write() as tx:
        assert peers.put(tx, [six])
        assert not peers.keep_only(tx, [six.agent_ip])
    assert read_all(store).peers == [six]
    with store.write() as tx:
        assert peers.drop(tx, [six.agent_ip])


def test_a_host_that_is_alone_has_no_vtep_in_the_kernel(store: Store) -> None:
    own = Vtep(IPv4Interface("44.128.0.1/20"))
    with store.write() as tx:
        peers.set_vtep(tx, own)
    assert read_all(store).vtep is None
    with store.write() as tx:
        peers.put(tx, [peer(ONE)])
        assert peers.vtep(tx) == own
    assert read_all(store).vtep == own


def test_a_store_has_one_identity_for_ever_and_another_store_another(store: Store) -> None:
    other = Store(store.path.with_name("other.db"))
    assert identity.of_store(store) == identity.of_store(store) != identity.of_store(other)
    other.close()
