# SPDX-License-Identifier: Apache-2.0
"""What a CNI runtime asks of `dni-cni`: variables, and a network configuration on standard input.

Only what starts fast is imported here and in what `dni-cni` is made of: a container waits for it.
"""

from __future__ import annotations

import json
import re

from dni_driver.mesos.cni_errors import (
    BAD_ENVIRONMENT,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    UNREADABLE,
    UNSUPPORTED_FIELD,
    CniError,
)
from dni_driver.mesos.cni_fields import family, invalid, kind, object_of, objects, text
from dni_driver.mesos.cni_network_info import NetworkInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")
OLDEST = VERSIONS[0]
"""What a configuration without a version means; Mesos writes and reads such."""
FIRST_WITH_CHECK = VERSIONS.index("0.4.0")

_COMMANDS = ("ADD", "DEL", "CHECK", "VERSION")
_LONGEST_IFNAME = 15
_OTHERS = ("ipam", "bridge", "delegate", "ipMasq", "isGateway")
"""Keys of other plugins that mean something dni decides by itself."""

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
"""CNI's rule; Mesos and others have UUIDs or digits."""


class Call:
    """One call, checked: what to do, for which container on which overlay, and where the agent is.

    `previous` are the addresses that ADD has answered, as CHECK is told of them.
    """

    def __init__(self, environment: Mapping[str, str], configuration: dict[str, Any]) -> None:
        """Read it; raise CniError."""
        self.version = _version(configuration)
        self.command = _command(environment, self.version)
        self.overlay = text(configuration, "overlay" if "overlay" in configuration else "name")
        self.socket = text(configuration, "socket") if "socket" in configuration else "/run/dni/dni.sock"
        self.container = _container(environment)
        self.ifname = _ifname(environment)
        self.sandbox = environment.get("CNI_NETNS", "")
        self.previous: set[str] = set()
        self.addresses: list[str] = []
        self.groups: list[str] = []
        self.labels: dict[str, str] = {}
        if self.command == "DEL":
            return
        self.sandbox = _variable(environment, "CNI_NETNS")
        _check_fields(configuration)
        info = NetworkInfo(configuration)
        self.addresses = _addresses(environment, info.addresses)
        self.groups, self.labels = info.groups, info.labels
        if self.command == "CHECK":
            self.previous = _told(object_of(configuration, "prevResult"))


def configuration(given: bytes) -> dict[str, Any]:
    """Read standard input; raise CniError where it is no JSON object."""
    try:
        found = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise CniError(UNREADABLE, "the network configuration is no JSON", str(error)) from None
    if not isinstance(found, dict):
        raise CniError(UNREADABLE, "the network configuration is no JSON object")
    return found


def _version(configuration: dict[str, Any]) -> str:
    version = configuration.get("cniVersion", OLDEST)
    if version in (None, ""):
        return OLDEST
    if version not in VERSIONS:
        told = f"dni-cni speaks {', '.join(VERSIONS)}"
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {kind(version)} is not known to dni-cni", told)
    return str(version)


def command_of(environment: Mapping[str, str]) -> str:
    """Answer what is to be done; raise CniError, for people too, where that is nothing that runtimes ask for."""
    command = environment.get("CNI_COMMAND", "")
    if command not in _COMMANDS:
        raise CniError(
            BAD_ENVIRONMENT,
            f"CNI_COMMAND is {command[:20]!r}, not one of {', '.join(_COMMANDS)}: dni-cni is for CNI runtimes; "
            f"`dni cni show NAME` writes the configuration that they need",
        )
    return command


def _command(environment: Mapping[str, str], version: str) -> str:
    command = command_of(environment)
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


def _container(environment: Mapping[str, str]) -> str:
    name = _variable(environment, "CNI_CONTAINERID")
    if not _CONTAINER.fullmatch(name):
        raise CniError(
            BAD_ENVIRONMENT,
            f"CNI_CONTAINERID {name[:40]!r} is no id of a container: it begins with a letter or digit, and goes on "
            f"with these, '_', '.' and '-'",
        )
    return name


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


def _addresses(environment: Mapping[str, str], asked: Sequence[str]) -> list[str]:
    """Answer the addresses asked for, by Mesos and by `IP` in CNI_ARGS: one of a family."""
    found: dict[int | None, str] = {}
    for code, address in (
        *((INVALID_CONFIGURATION, one) for one in asked),
        *((BAD_ENVIRONMENT, one) for one in _of_arguments(environment.get("CNI_ARGS", ""))),
    ):
        other = found.setdefault(family(address), address)
        if other is not address:
            raise CniError(code, f"{other} and {address} are asked for: a container has one of a family")
    return list(found.values())


def _of_arguments(arguments: str) -> list[str]:
    """Read CNI_ARGS: pairs `KEY=VALUE`, between semicolons."""
    found = []
    for pair in filter(None, arguments.split(";")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise CniError(BAD_ENVIRONMENT, f"CNI_ARGS has {pair[:40]!r} in it, which is no KEY=VALUE")
        if key == "IP":
            if family(value) is None:
                raise CniError(BAD_ENVIRONMENT, f"CNI_ARGS asks for IP={value[:60]!r}, which is not an IP address")
            found.append(value)
    return found


def _told(previous: dict[str, Any]) -> set[str]:
    """Answer the addresses that a result of ADD tells of."""
    where = "prevResult"
    found = {text(ip, "address", where) for ip in objects(previous, "ips", where)}
    for address in found:
        if family(address.partition("/")[0]) is None:
            invalid(f"'address' in {where} is {kind(address)}, which is not an IP address")
    return found
