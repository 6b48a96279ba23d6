# SPDX-License-Identifier: Apache-2.0
"""What every registry promises of overlays: they are defined once for all, and little about them can change."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import Overlay, define
from dni_driver.registry import Lease, Registry
from tests.members import joined
from tests.unit.every_registry import DUAL, ME, OpenRegistry, again, held, overlay, registry, url

__all__ = ["again", "registry", "url"]


def test_a_new_registry_holds_nothing(registry: Registry) -> None:
    assert registry.overlays() == []
    assert registry.leases() == []


def test_a_defined_overlay_is_there_for_every_agent_and_after_a_restart(again: OpenRegistry) -> None:
    dual = define("dual", [ip_network("10.1.0.0/16"), ip_network("fd01:b::/64")], (None, None), "auto")
    again().define(dual)
    again().define(overlay())
    assert again().overlays() == [overlay(), dual]


def test_defining_the_same_overlay_again_is_no_error(registry: Registry) -> None:
    registry.define(overlay())
    registry.define(overlay())
    assert registry.overlays() == [overlay()]


def test_a_missing_prefix_means_the_default_one(registry: Registry) -> None:
    registry.define(overlay(prefix=24))
    registry.define(Overlay(name="dcos", subnet=overlay().subnet))
    assert registry.overlays() == [overlay()]


@pytest.mark.parametrize(
    "other",
    [
        overlay(subnet="10.0.0.0/8"),
        overlay(prefix=25),
        define("dcos", [ip_network("9.0.0.0/8")], (None, None), "direct"),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")]),
    ],
)
def test_a_name_cannot_stand_for_two_overlays(registry: Registry, other: Overlay) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"'dcos' exists already, with 9\.0\.0\.0/8 in agent subnets of /24"):
        registry.define(other)
    assert registry.overlays() == [overlay()]


def test_overlays_that_share_addresses_are_refused_naming_the_other(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"'dev' overlaps 9\.0\.0\.0/8 of overlay 'dcos'"):
        registry.define(overlay("dev", "9.7.0.0/16"))


def test_an_overlay_is_given_the_family_it_lacks_and_keeps_its_leases(registry: Registry) -> None:
    registry.define(overlay())
    mine = joined(registry, ME).lease("dcos", 4, ME)
    for _ in range(2):
        registry.widen(DUAL)
        assert registry.overlays() == [DUAL]
    assert registry.leases() == [Lease(agent_ip=ME, held=mine)]
    assert registry.lease("dcos", 6, ME) == held("fd01:b::/80")


@pytest.mark.parametrize(
    "other",
    [
        define("dcos", [ip_network("10.0.0.0/8"), ip_network("fd01:b::/64")]),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")], (25, None)),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")], (None, None), "direct"),
        define("dcos", [ip_network("fd01:b::/64")]),
    ],
)
def test_nothing_else_about_it_can_change(registry: Registry, other: Overlay) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match="'dcos' exists already"):
        registry.widen(other)
    assert registry.overlays() == [overlay()]


def test_what_it_is_given_must_be_nobody_elses(registry: Registry) -> None:
    registry.define(overlay())
    registry.define(define("six", [ip_network("fd01::/16")]))
    with pytest.raises(InUse, match="overlaps fd01::/16 of overlay 'six'"):
        registry.widen(DUAL)
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.widen(define("dev", [ip_network("10.0.0.0/8")]))


def test_the_backend_of_an_overlay_can_change(again: OpenRegistry) -> None:
    registry = again()
    registry.define(overlay())
    joined(registry, ME).lease("dcos", 4, ME)
    for _ in range(2):
        registry.set_backend("dcos", "direct")
        assert again().overlays() == [define("dcos", [ip_network("9.0.0.0/8")], (None, None), "direct")]
    assert len(registry.leases()) == 1
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.set_backend("dev", "direct")
