# SPDX-License-Identifier: Apache-2.0
"""What every registry promises of VTEPs: each agent keeps one, from a subnet that the first has settled."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from dni_driver.core.errors import InUse, Refused
from dni_driver.core.peers import Vtep
from dni_driver.registry import Registry
from tests.unit.every_registry import OTHER, OpenRegistry, again, host, overlay, registry, url, vtep

__all__ = ["again", "registry", "url"]


def test_agents_have_vteps_lowest_first_and_keep_them(again: OpenRegistry) -> None:
    one, two = again(), again()
    assert one.register(host()) == vtep("44.128.0.1")
    assert two.register(host(OTHER, "two")) == vtep("44.128.0.2")
    assert one.register(host()) == vtep("44.128.0.1")
    one.close()
    assert again().register(host()) == vtep("44.128.0.1")


def test_a_vtep_that_the_registry_lost_is_given_again_unless_it_is_anothers(again: OpenRegistry) -> None:
    assert again().register(host(vtep=vtep("44.128.0.9"))) == vtep("44.128.0.9")
    assert again().register(host(OTHER, "two", vtep=vtep("44.128.0.9"))) == vtep("44.128.0.1")


def test_the_first_agent_settles_where_all_vteps_come_from(again: OpenRegistry) -> None:
    wanted, other = IPv4Network("10.96.0.0/12"), IPv4Network("10.0.0.0/16")
    assert again().register(host(vtep_subnet=wanted)) == Vtep(IPv4Interface("10.96.0.1/12"))
    assert again().register(host(OTHER, "two", vtep_subnet=other)) == Vtep(IPv4Interface("10.96.0.2/12"))
    with pytest.raises(Refused, match=r"come from 10\.96\.0\.0/12, and the settings of this host say 10\.0\.0\.0/16"):
        again().widen_vteps(other)
    again().widen_vteps(wanted)


def test_vteps_come_from_a_wider_subnet_later_and_all_keep_theirs(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    two.widen_vteps(IPv4Network("44.128.0.0/16"))
    assert one.register(host()) == Vtep(IPv4Interface("44.128.0.1/16"))
    assert two.register(host(OTHER, "two")) == Vtep(IPv4Interface("44.128.0.2/16"))
    with pytest.raises(Refused, match="leave that out"):
        one.widen_vteps(IPv4Network("44.128.0.0/20"))


def test_no_overlay_has_addresses_of_the_vteps(again: OpenRegistry) -> None:
    registry = again()
    with pytest.raises(InUse, match=r"cannot have 44\.128\.0\.0/24 while the agents' VTEPs come from"):
        registry.define(overlay("dev", "44.128.0.0/24"))
    registry.define(overlay("dev", "44.128.64.0/20"))
    registry.register(host())
    with pytest.raises(InUse, match=r"overlay 'dev' cannot have 44\.128\.64\.0/20 while"):
        registry.widen_vteps(IPv4Network("44.128.0.0/16"))
    assert again().register(host(OTHER, "two")) == vtep("44.128.0.2")


def test_an_overlay_in_the_way_keeps_the_first_agent_out_in_words(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"overlay 'dcos' cannot have 9\.0\.0\.0/8 while the agents' VTEPs come from 9\."):
        registry.register(host(vtep_subnet=IPv4Network("9.7.0.0/16")))
    assert registry.register(host()) == vtep("44.128.0.1")
