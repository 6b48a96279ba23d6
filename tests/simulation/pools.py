# SPDX-License-Identifier: Apache-2.0
"""How a simulated dockerd has the pools of a network from their IPAM driver, and gives them and addresses back."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from tests.fakes import FakeKernel
from tests.simulation.model import Call, CallFailed, Network, Pool, Steps, Subnet

GATEWAY_REQUEST = {"RequestAddressType": "com.docker.network.gateway"}


def allocate(network: Network, version: int, kernel: FakeKernel) -> Steps:
    """Ask for each pool that a network is to have, with its gateway and auxiliary addresses."""
    for subnet in network.plan.subnets:
        try:
            yield from _allocate_pool(network, subnet, version, kernel)
        except CallFailed:
            yield from release_pools(network)
            raise


def _allocate_pool(network: Network, typed: Subnet, version: int, kernel: FakeKernel) -> Steps:
    """Fill one pool; where that fails, libnetwork releases the pool but no address of it."""
    if not network.has_ipam:
        network.pools.append(_null_pool(network, typed, version))
        return
    if version >= 27:
        yield Call("IpamDriver.GetDefaultAddressSpaces", {})
    answer = yield Call(
        "IpamDriver.RequestPool",
        {
            "AddressSpace": "dni-local",
            "Pool": typed.subnet,
            "SubPool": typed.ip_range,
            "Options": dict(network.plan.ipam_options),
            "V6": typed.family == 6,
        },
    )
    pool = Pool(answer["PoolID"], answer["Pool"], typed)
    assert typed.subnet or not kernel.overlapping_routes(ip_network(pool.subnet)), "dockerd loops for ever"
    try:
        yield from _fill(pool)
    except CallFailed:
        yield from quietly("IpamDriver.ReleasePool", {"PoolID": pool.id})
        raise
    network.pools.append(pool)


def _null_pool(network: Network, typed: Subnet, version: int) -> Pool:
    """Answer what the null IPAM driver answers, under the name that dni has for it."""
    if typed.family == 6 and version < 28:
        raise CallFailed("null ipam driver does not handle IPv6 address pool requests")
    overlay = dict(network.plan.options).get("overlay", "none")
    return Pool(f"{overlay}/v{typed.family}", "0.0.0.0/0" if typed.family == 4 else "::/0", typed)


def _fill(pool: Pool) -> Steps:
    request: dict[str, Any] = {"PoolID": pool.id, "Address": pool.typed.gateway, "Options": GATEWAY_REQUEST}
    pool.gateway = (yield Call("IpamDriver.RequestAddress", request))["Address"]
    for address in pool.typed.auxiliary:
        if ip_address(address) not in ip_network(pool.subnet):
            raise CallFailed("auxiliary address must belong to the master pool")
        request = {"PoolID": pool.id, "Address": address, "Options": None}
        pool.auxiliary.append((yield Call("IpamDriver.RequestAddress", request))["Address"])


def release_pools(network: Network) -> Steps:
    """Give back all pools of a network, whatever is answered."""
    if not network.has_ipam:
        network.pools.clear()
    for pool in list(network.pools):
        for address in (pool.gateway, *pool.auxiliary):
            yield from release_address(pool.id, address)
        yield from quietly("IpamDriver.ReleasePool", {"PoolID": pool.id})
        network.pools.remove(pool)


def release_address(pool: str, address: str) -> Steps:
    """Give back an address, a CIDR text, whatever is answered."""
    bare = str(ip_interface(address).ip)
    yield from quietly("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": bare})


def quietly(method: str, body: dict[str, Any]) -> Steps:
    """Make a call whose failure changes nothing."""
    try:
        yield Call(method, body)
    except CallFailed:
        return
