# SPDX-License-Identifier: Apache-2.0
"""DC/OS's values as protobuf: every field under its published number, and nothing lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from dni_driver.core.mesos import dcos
from dni_driver.mesos.dcos_protobuf import message_class, write
from tests.unit.test_dcos_json import RECORDED_AGENT, RECORDED_FAILURE, RECORDED_UNREGISTERED

Fields = dict[int, list[Any]]

WHOLE: dict[str, Any] = {
    "ip": "10.0.0.2",
    "configuration_attempts": 300,
    "overlays": [
        {
            "info": {
                "name": "dual",
                "subnet": "9.0.0.0/8",
                "prefix": 24,
                "subnet6": "fd01:b::/64",
                "prefix6": 80,
                "enabled": True,
            },
            "subnet": "9.0.2.0/24",
            "mesos_bridge": {"name": "m-dual", "ip": "9.0.2.0/25", "ip6": "fd01:b:0:0:2::/81"},
            "docker_bridge": {"name": "d-dual", "ip": "9.0.2.128/25", "ip6": "fd01:b::2:8000:0:0/81"},
            "backend": {
                "vxlan": {
                    "vni": 1024,
                    "vtep_name": "vtep1024",
                    "vtep_ip": "44.128.0.2/20",
                    "vtep_mac": "70:b3:d5:80:00:02",
                    "vtep_ip6": "fd01:a::2/64",
                    "vtep_mtu": 1400,
                }
            },
            "state": {"status": "STATUS_FAILED", "error": "no such thing"},
            "subnet6": "fd01:b:0:0:2::/80",
        }
    ],
}
BY_NUMBER: Fields = {
    1: ["10.0.0.2"],
    2: [
        {
            1: [{1: ["dual"], 2: ["9.0.0.0/8"], 3: [24], 4: ["fd01:b::/64"], 5: [80], 6: [1]}],
            2: ["9.0.2.0/24"],
            3: [{1: ["m-dual"], 2: ["9.0.2.0/25"], 3: ["fd01:b:0:0:2::/81"]}],
            4: [{1: ["d-dual"], 2: ["9.0.2.128/25"], 3: ["fd01:b::2:8000:0:0/81"]}],
            5: [
                {
                    1: [
                        {
                            1: [1024],
                            2: ["vtep1024"],
                            3: ["44.128.0.2/20"],
                            4: ["70:b3:d5:80:00:02"],
                            5: ["fd01:a::2/64"],
                            6: [1400],
                        }
                    ]
                }
            ],
            6: [{1: [2], 2: ["no such thing"]}],
            7: ["fd01:b:0:0:2::/80"],
        }
    ],
    3: [300],
}


def agent(document: dict[str, Any]) -> dcos.Agent:
    return msgspec.convert(document, dcos.Agent)


def read(content: bytes, like: Fields) -> Fields:
    """Read the wire's two forms that these messages have, texts and messages told apart by what is expected."""
    found: Fields = {}
    while content:
        key, content = _number(content)
        value, content = _number(content)
        number, form = key >> 3, key & 7
        assert form in (0, 2)
        if form == 0:
            found.setdefault(number, []).append(value)
            continue
        piece, content = content[:value], content[value:]
        (inner,) = like.get(number, [None])
        found.setdefault(number, []).append(read(piece, inner) if isinstance(inner, dict) else piece.decode())
    return found


def _number(content: bytes) -> tuple[int, bytes]:
    """Read a number of seven bits a byte, the lowest first."""
    number = 0
    for place, byte in enumerate(content):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, content[place + 1 :]
    pytest.fail("a number without end")


def test_every_field_has_its_published_number() -> None:
    assert read(write(agent(WHOLE)), BY_NUMBER) == BY_NUMBER


def test_an_agent_before_its_registration_is_a_few_known_bytes() -> None:
    assert write(agent(RECORDED_UNREGISTERED)) == b"\x0a\x0810.0.0.2\x18\x00"


@pytest.mark.parametrize("document", [RECORDED_AGENT, RECORDED_FAILURE, RECORDED_UNREGISTERED, WHOLE])
def test_what_dcos_recorded_reads_back_equal(document: dict[str, Any]) -> None:
    message = message_class().FromString(write(agent(document)))
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == document


@pytest.mark.parametrize(
    ("status", "number"), [("STATUS_INVALID", 0), ("STATUS_OK", 1), ("STATUS_FAILED", 2), ("STATUS_CONFIGURING", 3)]
)
def test_states_have_their_published_numbers(status: dcos.Status, number: int) -> None:
    overlay = dcos.AgentOverlay(
        info=dcos.OverlayInfo(name="dcos"), backend=dcos.Backend(), state=dcos.State(status=status)
    )
    found = read(write(dcos.Agent(ip="10.0.0.2", overlays=[overlay])), {2: [{6: [{}]}]})
    assert found[2][0][6] == [{1: [number]}]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AgentInfo", dcos.Agent),
        ("AgentOverlayInfo", dcos.AgentOverlay),
        ("BackendInfo", dcos.Backend),
        ("BridgeInfo", dcos.Bridge),
        ("OverlayInfo", dcos.OverlayInfo),
        ("State", dcos.State),
        ("VxLANInfo", dcos.Vxlan),
    ],
)
def test_no_field_is_in_json_alone(name: str, kind: type[msgspec.Struct]) -> None:
    message = message_class().DESCRIPTOR.file.message_types_by_name[name]
    assert set(message.fields_by_name) == set(kind.__struct_fields__)
