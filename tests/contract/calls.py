# SPDX-License-Identifier: Apache-2.0
"""Short ways to what most calls need first: a network, an endpoint, a join."""

from __future__ import annotations

import secrets
from typing import Any

from tests.contract.dockerd import Dockerd

GENERIC = "com.docker.network.generic"
GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}


def create_network(dockerd: Dockerd, **options: str) -> dict[str, Any]:
    """Create a network on the default overlay, and answer the request that did it."""
    pool = dockerd.call("IpamDriver.RequestPool", {"AddressSpace": "dni-local"})
    gateway = dockerd.call("IpamDriver.RequestAddress", {"PoolID": pool["PoolID"], "Options": GATEWAY})["Address"]
    creation = {
        "NetworkID": secrets.token_hex(32),
        "Options": {GENERIC: options},
        "IPv4Data": [{"AddressSpace": "", "Gateway": gateway, "Pool": pool["Pool"]}],
        "IPv6Data": [],
    }
    assert dockerd.call("NetworkDriver.CreateNetwork", creation) == {}
    return creation


def create_endpoint(dockerd: Dockerd, network: str, **given: str) -> dict[str, str]:
    """Create an endpoint with an address from IPAM, and answer its ids."""
    address = dockerd.call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    both = {"NetworkID": network, "EndpointID": secrets.token_hex(32)}
    interface = {"Address": address, "AddressIPv6": "", "MacAddress": "", **given}
    dockerd.call("NetworkDriver.CreateEndpoint", {**both, "Interface": interface, "Options": {}})
    return both


def join(dockerd: Dockerd, endpoint: dict[str, str], sandbox: str = "/var/run/docker/netns/7541c34f2dc7") -> Any:
    """Join an endpoint."""
    return dockerd.call("NetworkDriver.Join", {**endpoint, "SandboxKey": sandbox, "Options": {}})


def unknown() -> dict[str, str]:
    """Answer the ids of an endpoint that nobody created."""
    return {"NetworkID": secrets.token_hex(32), "EndpointID": secrets.token_hex(32)}
