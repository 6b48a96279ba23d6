# SPDX-License-Identifier: Apache-2.0
"""DC/OS's values as protobuf, by the names and numbers of its published fields.

The descriptors are built here: there is no generated code. Imported by the first who asks: the library is large.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from dni_driver.core.mesos import dcos

_PACKAGE = "mesos.modules.overlay"
_STATUS = "Status"
_STATUSES = ("STATUS_INVALID", "STATUS_OK", "STATUS_FAILED", "STATUS_CONFIGURING")
_REPEATED = "*"

_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "BridgeInfo": {1: ("name", "string"), 2: ("ip", "string"), 3: ("ip6", "string")},
    "VxLANInfo": {
        1: ("vni", "uint32"),
        2: ("vtep_name", "string"),
        3: ("vtep_ip", "string"),
        4: ("vtep_mac", "string"),
        5: ("vtep_ip6", "string"),
        6: ("vtep_mtu", "uint32"),
    },
    "BackendInfo": {1: ("vxlan", "VxLANInfo")},
    "OverlayInfo": {
        1: ("name", "string"),
        2: ("subnet", "string"),
        3: ("prefix", "uint32"),
        4: ("subnet6", "string"),
        5: ("prefix6", "uint32"),
        6: ("enabled", "bool"),
    },
    "State": {1: ("status", _STATUS), 2: ("error", "string")},
    "AgentOverlayInfo": {
        1: ("info", "OverlayInfo"),
        2: ("subnet", "string"),
        3: ("mesos_bridge", "BridgeInfo"),
        4: ("docker_bridge", "BridgeInfo"),
        5: ("backend", "BackendInfo"),
        6: ("state", "State"),
        7: ("subnet6", "string"),
    },
    "AgentInfo": {
        1: ("ip", "string"),
        2: ("overlays", f"{_REPEATED}AgentOverlayInfo"),
        3: ("configuration_attempts", "uint32"),
    },
}
"""Fields by number: name, and type. What type a message has is not on the wire, so State is not within another."""

_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "bool": FieldDescriptorProto.TYPE_BOOL,
}


def write(agent: dcos.Agent) -> bytes:
    """Answer the bytes, fields in the order of their numbers."""
    message = json_format.ParseDict(msgspec.to_builtins(agent), message_class()())
    return bytes(message.SerializeToString(deterministic=True))


@cache
def message_class() -> Any:
    """Answer the class of AgentInfo, which `/overlay-agent/overlay` answers."""
    pool = DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.AgentInfo"))


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="overlay.proto", package=_PACKAGE, syntax="proto2")
    status = file.enum_type.add(name=_STATUS)
    for number, name in enumerate(_STATUSES):
        status.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            _add_field(message, number, field, kind)
    return file


def _add_field(message: DescriptorProto, number: int, name: str, kind: str) -> None:
    label = FieldDescriptorProto.LABEL_REPEATED if kind.startswith(_REPEATED) else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    word = kind.removeprefix(_REPEATED)
    if word in _SCALARS:
        field.type = _SCALARS[word]
    else:
        field.type_name = f".{_PACKAGE}.{word}"
