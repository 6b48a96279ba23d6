# SPDX-License-Identifier: Apache-2.0
"""What every registry promises of what agents tell of themselves: others hear it, and it goes with its agent."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import msgspec
import pytest

from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts
from dni_driver.core.errors import NotFound
from dni_driver.core.problems import InShort
from dni_driver.registry import Registry
from tests.unit.every_registry import ME, OTHER, OpenRegistry, again, host, registry, url

__all__ = ["again", "registry", "url"]


def counts(used: int, as_of: float = 1.5, subnet: str = "fd01:b::/80") -> Counts:
    mesos, docker = HalfCounts(2**47 - 2, used, 0, 2**47 - 2 - used), "it cannot be read"
    return Counts(
        as_of=as_of, subnets=(SubnetCounts(overlay="dcos", subnet=subnet, since=1.0, mesos=mesos, docker=docker),)
    )


def test_what_an_agent_tells_of_itself_others_hear_until_it_tells_otherwise(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    two.register(host(OTHER, "two"))
    assert two.told([ME, OTHER]) == {}
    one.tell(ME, counts(1))
    two.tell(OTHER, counts(7, subnet="9.0.1.0/24"))
    assert two.told([ME]) == {ME: counts(1)}
    assert one.told([OTHER, ME, IPv4Address("192.0.2.9")]) == {ME: counts(1), OTHER: counts(7, subnet="9.0.1.0/24")}
    one.tell(ME, counts(2, as_of=2.5))
    assert two.told([ME]) == {ME: counts(2, as_of=2.5)}
    assert two.told([]) == {}


def test_problems_are_heard_until_they_are_over(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    ill, well = (
        msgspec.structs.replace(counts(1), problems=of) for of in (InShort(lines=("no dockerd",), more=3), InShort())
    )
    for said in (ill, well, ill):
        one.tell(ME, said)
        assert two.told([ME]) == {ME: said}
    one.tell(ME, msgspec.structs.replace(ill, as_of=9.0))
    assert two.told([ME]) == {ME: ill}, "as of when it began"


def test_what_is_told_already_is_as_of_when_it_was_told_first_after_a_restart_too(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    for as_of in (1.0, 2.0):
        one.tell(ME, counts(1, as_of=as_of))
    one.close()
    one = again()
    one.register(host())
    one.tell(ME, counts(1, as_of=3.0))
    assert two.told([ME]) == {ME: counts(1, as_of=1.0)}
    one.tell(ME, counts(2, as_of=4.0))
    assert two.told([ME]) == {ME: counts(2, as_of=4.0)}


def test_who_is_no_agent_tells_nothing(registry: Registry) -> None:
    with pytest.raises(NotFound, match=r"no agent 192\.0\.2\.1 in the registry"):
        registry.tell(ME, counts(1))
    registry.register(host())
    assert registry.told([ME]) == {}


def test_what_a_forgotten_agent_told_goes_with_it_and_it_tells_anew_when_it_is_back(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host())
    one.tell(ME, counts(1))
    one.close()
    assert two.told([ME]) == {ME: counts(1)}
    two.forget(ME)
    assert two.told([ME]) == {}
    one = again()
    one.register(host())
    one.tell(ME, counts(1, as_of=9.0))
    assert two.told([ME]) == {ME: counts(1, as_of=9.0)}


def test_what_a_reclaimed_agent_told_goes_with_it(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.register(host(reclaim_after=0.2))
    two.register(host(OTHER, "two"))
    one.tell(ME, counts(1))
    one.close()
    time.sleep(0.3)
    assert two.reclaim() == [ME]
    assert two.told([ME]) == {}


def test_what_an_agent_told_under_its_former_address_goes_with_that(again: OpenRegistry) -> None:
    one = again()
    one.register(host())
    one.tell(ME, counts(1))
    one.register(host(OTHER, formerly=ME))
    assert again().told([ME, OTHER]) == {}
    one.tell(OTHER, counts(1))
    assert again().told([ME, OTHER]) == {OTHER: counts(1)}
