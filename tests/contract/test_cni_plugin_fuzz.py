# SPDX-License-Identifier: Apache-2.0
"""Whatever a runtime sends to `dni-cni`, it is answered as CNI has it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dni_driver.mesos.cni_plugin import respond
from tests.contract.cni_runtime import VERSIONS, Runtime, host, mesos, path, runtime
from tests.unit.cni_host import Host

__all__ = ["host", "mesos", "path", "runtime"]


ANY = st.sampled_from("\ud800\x00\n/.-\u00e9") | st.characters(exclude_categories=())
"""Every character, and often those that cannot be printed, sent, or stand in a path."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY) | st.just("9.0.0.9"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("cniVersion", "name", "overlay", "args", "prevResult", "ipam")
INFO_KEYS = ("ip_addresses", "groups", "labels", "name")
VARIABLES = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")


@st.composite
def inputs(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Draw a call that is right but for some places, with anything there."""
    command = draw(st.sampled_from(["ADD", "DEL", "CHECK"]))
    more: dict[str, Any] = {"cniVersion": draw(st.sampled_from(VERSIONS[4:])), "prevResult": {"ips": draw(JSON)}}
    more["args"] = {"org.apache.mesos": {"network_info": draw(st.dictionaries(st.sampled_from(INFO_KEYS), JSON))}}
    wrong = st.dictionaries(st.sampled_from(KEYS), JSON | st.text(ANY, min_size=1, max_size=2), max_size=2)
    variables = st.dictionaries(st.sampled_from(VARIABLES), st.text(ANY), max_size=1)
    return command, {**more, **draw(wrong)}, draw(variables)


def test_no_input_is_unexpected(mesos: Runtime, host: Host) -> None:
    """Whatever it is called with, it does that, or says with a code of CNI what is wrong with the call."""

    @settings(deadline=None, max_examples=300)
    @given(inputs())
    def called(call: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
        command, more, variables = call
        environment = {**mesos.environment, "CNI_COMMAND": command, **variables}
        status, answer = respond(environment, json.dumps({**mesos.configuration, **more}).encode())
        if status:
            assert answer is not None
            assert not answer["msg"].startswith("unexpected")
            assert answer["code"] in {1, 2, 3, 4, 6, 7, 100, 101}

    called()
    assert host.problems() == []


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_are_unexpected(text: bytes) -> None:
    status, answer = respond({"CNI_COMMAND": "ADD"}, text)
    assert status == 1
    assert answer is not None
    assert answer["code"] in {1, 4, 6, 7}
