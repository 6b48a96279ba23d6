# SPDX-License-Identifier: Apache-2.0
"""What a CNI runtime asks of `dni-cni`: variables, and a network configuration on standard input.

Only what starts fast is imported here and in what `dni-cni` is made of: a container waits for it.
"""

from __future__ import annotations

import json

from dni_driver.mesos.cni_errors import (
    BAD_ENVIRONMENT,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    UNREADABLE,
    UNSUPPORTED_FIELD,
    CniError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")
OLDEST = VERSIONS[0]
"""What a configuration without a version means; Mesos writes and reads such."""
FIRST_WITH_CHECK = VERSIONS.index("0.4.0")

_COMMANDS = ("ADD", "DEL", "CHECK", "VERSION")
_LONGEST_IFNAME = 15
_OTHERS = ("ipam", "bridge", "delegate", "ipMasq", "isGateway")
"""Keys of other plugins that mean something dni decides by itself."""

_MESOS = "org.apache.mesos"


class Call:
    """One call, checked: what to do, for which container on which overlay, and where the agent is."""

    def __init__(self, environment: Mapping[str, str], configuration: dict[str, Any]) -> None:
        """Read it; raise CniError."""
        self.version = _version(configuration)
        self.command = _command(environment, self.version)
        self.overlay = _text(configuration, "overlay" if "overlay" in configuration else "name")
        self.socket = _text(configuration, "socket") if "socket" in configuration else "/run/dni/dni.sock"
        self.container = _variable(environment, "CNI_CONTAINERID")
        self.ifname = _ifname(environment)
        self.sandbox = environment.get("CNI_NETNS", "")
        self.previous: dict[str, Any] = {}
        self.addresses: list[str] = []
        if self.command == "DEL":
            return
        self.sandbox = _variable(environment, "CNI_NETNS")
        _check_fields(configuration)
        self.addresses = _addresses(environment, configuration)
        if self.command == "CHECK":
            self.previous = _object(configuration, "prevResult")


def configuration(text: bytes) -> dict[str, Any]:
    """Read standard input; raise CniError where it is no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CniError(UNREADABLE, "the network configuration is no JSON", str(error)) from None
    if not isinstance(found, dict):
        raise CniError(UNREADABLE, "the network configuration is no JSON object")
    return found


def _version(configuration: dict[str, Any]) -> str:
    version = configuration.get("cniVersion") or OLDEST
    if version not in VERSIONS:
        told = f"dni-cni speaks {', '.join(VERSIONS)}"
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {str(version)[:20]!r} is not known to dni-cni", told)
    return str(version)


def _command(environment: Mapping[str, str], version: str) -> str:
    command = environment.get("CNI_COMMAND", "")
    if command not in _COMMANDS:
        raise CniError(
            BAD_ENVIRONMENT,
            f"CNI_COMMAND is {command[:20]!r}, not one of {', '.join(_COMMANDS)}: dni-cni is for CNI runtimes; "
            f"`dni cni show NAME` writes the configuration that they need",
        )
    if command == "CHECK" and VERSIONS.index(version) < FIRST_WITH_CHECK:
        raise CniError(INCOMPATIBLE_VERSION, f"CHECK came with cniVersion 0.4.0, and this is {version}")
    return command


def _variable(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise CniError(BAD_ENVIRONMENT, f"{name} is not set")
    if not value.isprintable():
        raise CniError(BAD_ENVIRONMENT, f"{name} has characters that cannot be printed")
    return value


def _ifname(environment: Mapping[str, str]) -> str:
    name = _variable(environment, "CNI_IFNAME")
    if (
        len(name.encode()) > _LONGEST_IFNAME
        or name in (".", "..")
        or any(one in "/:" or one.isspace() for one in name)
    ):
        raise CniError(BAD_ENVIRONMENT, f"CNI_IFNAME {name[:40]!r} cannot be the name of a link")
    return name


def _check_fields(configuration: dict[str, Any]) -> None:
    for key in _OTHERS:
        if key in configuration:
            raise CniError(
                UNSUPPORTED_FIELD,
                f"{key!r} is not for dni-cni, which has bridge and addresses from dni: leave it out",
                f"unsupported field: {key}",
            )


def _text(configuration: dict[str, Any], key: str) -> str:
    value = configuration.get(key)
    if not isinstance(value, str) or not value:
        raise CniError(
            INVALID_CONFIGURATION, f"{key!r} in the network configuration must be a text, not {_kind(value)}"
        )
    return value


def _object(configuration: dict[str, Any], key: str) -> dict[str, Any]:
    value = configuration.get(key)
    if not isinstance(value, dict):
        raise CniError(
            INVALID_CONFIGURATION, f"{key!r} in the network configuration must be an object, not {_kind(value)}"
        )
    return value


def _kind(value: object) -> str:
    return "missing" if value is None else json.dumps(value)[:40]


def _addresses(environment: Mapping[str, str], configuration: dict[str, Any]) -> list[str]:
    """Answer the addresses asked for: by Mesos' NetworkInfo, and by `IP` in CNI_ARGS."""
    return [*_of_mesos(configuration), *_of_arguments(environment.get("CNI_ARGS", ""))]


def _of_mesos(configuration: dict[str, Any]) -> list[str]:
    """Read `args["org.apache.mesos"]["network_info"]`; each entry may name an address, or only a family."""
    found = configuration
    for key in ("args", _MESOS, "network_info"):
        if found.get(key) is None:
            return []
        found = _object(found, key)
    asked = found.get("ip_addresses") or []
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise CniError(INVALID_CONFIGURATION, "'ip_addresses' in Mesos' network_info must be a list of objects")
    return [_text(one, "ip_address") for one in asked if one.get("ip_address") is not None]


def _of_arguments(arguments: str) -> list[str]:
    """Read CNI_ARGS: pairs `KEY=VALUE`, between semicolons."""
    found = []
    for pair in filter(None, arguments.split(";")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise CniError(BAD_ENVIRONMENT, f"CNI_ARGS has {pair[:40]!r} in it, which is no KEY=VALUE")
        if key == "IP":
            found.append(value)
    return found
