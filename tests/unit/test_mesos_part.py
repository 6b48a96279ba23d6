# SPDX-License-Identifier: Apache-2.0
"""Whatever a Mesos agent says is understood, or refused in one line: never half, never with a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from dni_driver.core.errors import Unavailable
from dni_driver.core.mesos import dcos
from dni_driver.core.mesos.part import MesosPart, read_part
from tests.mesos_agent import agent, overlay, overlay6

GOOD = agent(
    overlay(docker_bridge={"ip": "9.0.2.128/25", "name": "d-dcos"}),
    overlay6(docker_bridge={"ip6": "fd01:b::2:8000:0:0/81", "name": "d-dcos6"}),
)


def read(answer: Any) -> MesosPart:
    return read_part(msgspec.json.decode(json.dumps(answer), type=dcos.Agent))


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Answer the path to everything in some JSON."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, *path, key)


PLACES = list(places(GOOD))
ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "9.0.2.0/24", "9.0.0.0/0", "::/0", "fd01:b::/129", "1.2.3.4", "STATUS_FAILED", "d-" + "x" * 40, "a\nb"]
    )
    | st.just([])
    | st.just({})
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3))
@example([(("overlays", 0, "docker_bridge", "ip"), "\r")])
def test_an_answer_with_something_odd_in_it_is_used_or_refused_in_one_line(changes: list[tuple[Any, Any]]) -> None:
    answer = copy.deepcopy(GOOD)
    for path, odd in changes:
        _put(answer, path, odd)
    part, refusal = _attempt(answer)
    if part is None:
        assert len(refusal.splitlines()) == 1
        return
    names = {known.name for known in part.overlays}
    assert {held.overlay for held in part.held} == names
    for held in part.held:
        overlay = next(known for known in part.overlays if known.name == held.overlay)
        space = overlay.space(held.family)
        assert space is not None
        assert (held.subnet.prefixlen, held.subnet.overlaps(space[0])) == (space[1], True)
        assert held.docker_half.num_addresses >= 4
    assert all(len(remark.splitlines()) == 1 for remark in part.remarks)


def _attempt(answer: Any) -> tuple[MesosPart | None, str]:
    try:
        return read(answer), ""
    except (msgspec.ValidationError, Unavailable) as error:
        return None, str(error)


def _put(answer: Any, path: tuple[str | int, ...], odd: Any) -> None:
    """Put something at a place, if an earlier change has left that there."""
    for key in path[:-1]:
        if not isinstance(answer, dict | list) or key not in (
            answer if isinstance(answer, dict) else range(len(answer))
        ):
            return
        answer = answer[key]  # type: ignore[index]
    if isinstance(answer, dict | list) and path[-1] in (answer if isinstance(answer, dict) else range(len(answer))):
        answer[path[-1]] = odd  # type: ignore[index]


def test_an_overlay_told_twice_is_used_once() -> None:
    part = read(agent(overlay(), overlay(subnet="9.0.3.0/24")))
    assert [str(held.subnet) for held in part.held] == ["9.0.2.0/24"]


def test_the_order_in_which_overlays_are_told_is_none() -> None:
    assert read(agent(overlay6(), overlay())) == read(agent(overlay(), overlay6()))


def test_an_old_version_that_says_less_is_understood() -> None:
    info = {"name": "dcos", "prefix": 24, "subnet": "44.128.0.0/16"}
    vxlan = {"vni": 1024, "vtep_ip": "198.15.0.1/20", "vtep_mac": "70:b3:d5:0f:00:01", "vtep_name": "vtep1024"}
    part = read(
        {
            "ip": "10.10.0.120",
            "overlays": [
                {
                    "backend": {"vxlan": vxlan},
                    "docker_bridge": {"ip": "44.128.0.128/25", "name": "d-dcos"},
                    "info": info,
                    "state": {"status": "STATUS_OK"},
                    "subnet": "44.128.0.0/24",
                }
            ],
        }
    )
    assert [str(held.docker_half) for held in part.held] == ["44.128.0.128/25"]
    assert part.vtep is not None
    assert part.vtep.mac == "70:b3:d5:0f:00:01"


def test_a_vtep_that_is_none_is_left_out_and_keeps_no_overlay_away() -> None:
    odd = overlay(backend={"vxlan": {"vni": 1, "vtep_ip": "nowhere", "vtep_mac": "", "vtep_name": ""}})
    assert read(agent(odd)).vtep is None
    assert read(agent(overlay(backend={}))).vtep is None
