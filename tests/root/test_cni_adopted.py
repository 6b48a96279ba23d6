# SPDX-License-Identifier: Apache-2.0
"""A bridge `m-NAME` that CNI's own plugin made before dni came: real packets, in and out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dni_driver.core.options.network import NetworkOptions
from tests.root import docker
from tests.root.ground import Namespace, wire
from tests.root.packets import Server, call, is_cut_off
from tests.root.test_cni import Mesos, mesos, reaches

__all__ = ["mesos"]

pytestmark = pytest.mark.root


class Adopted:
    """A container on a bridge that CNI's plugin made and dni has taken over, and who may want to reach it."""

    def __init__(self, mesos: Mesos, dockers: Namespace, options: NetworkOptions) -> None:
        """Have the plugin come first, and only then dni, with the options of the overlay's Docker network."""
        self.dockers, self.outside, self.strange, self.ours = dockers, *(mesos.sandbox() for _ in range(3))
        wire(mesos.host, "out0", self.outside, "eth0")
        mesos.host.sh("ip addr add 198.51.100.1/24 dev out0")
        self.outside.sh("ip addr add 198.51.100.2/24 dev eth0", "ip route add default via 198.51.100.1")
        mesos.plug(self.ours)
        assert "ifalias" not in mesos.bridge()
        mesos.docker_network(options)
        mesos.round()
        mesos.attach(self.strange, "dual", "c3")

    def strangers(self) -> tuple[Namespace, ...]:
        """Answer who is on another overlay, on Docker's own bridge, and outside."""
        return self.strange, self.dockers, self.outside

    def seen_outside(self) -> str | None:
        """Answer as whom the container gets out."""
        with Server(self.outside):
            return call(self.ours, "198.51.100.2")


@contextmanager
def adopted(mesos: Mesos, options: NetworkOptions) -> Iterator[Adopted]:
    """Have it on a host with Docker, whose FORWARD is DROP."""
    with docker.docker_on(mesos.host) as dockers:
        yield Adopted(mesos, dockers, options)


def test_nobody_else_gets_to_a_bridge_that_cnis_plugin_made_and_what_leaves_it_is_masqueraded(mesos: Mesos) -> None:
    with adopted(mesos, NetworkOptions()) as place:
        with Server(place.ours):
            assert all(is_cut_off(one, "9.0.0.2") for one in place.strangers())
            assert call(mesos.host, "9.0.0.2")
        assert place.seen_outside() == "198.51.100.1"


def test_where_the_overlay_is_open_and_unmasked_so_is_a_bridge_that_cnis_plugin_made(mesos: Mesos) -> None:
    with adopted(mesos, NetworkOptions(isolated=False, masquerade=False)) as place:
        with Server(place.ours):
            seen = [call(one, "9.0.0.2") for one in place.strangers()]
        assert seen == ["10.64.0.2", "9.0.0.1", "198.51.100.2"], "Docker itself hides what leaves its bridge"
        assert place.seen_outside() == "9.0.0.2"


def test_a_bridge_that_is_made_anew_is_found_at_once_by_containers_that_know_the_other(mesos: Mesos) -> None:
    """They would send to its link-layer address for half a minute: that of CNI's plugin is one that it found."""
    stranger, ours = mesos.sandbox(), mesos.sandbox()
    mesos.plug(stranger, "dual")
    mesos.round()
    mesos.attach(ours, "dual")
    gateways = "10.64.0.1", "fd01:b::1"
    assert [reaches(ours, one) for one in gateways] == [True, True]
    before = mesos.bridge("m-dual")["address"]
    mesos.host.sh("ip link del m-dual")
    mesos.reconcile()
    assert mesos.bridge("m-dual")["address"] != before
    assert [reaches(ours, one) for one in gateways] == [True, True]
