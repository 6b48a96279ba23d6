# SPDX-License-Identifier: Apache-2.0
"""Settings: /etc/dni/dni.toml, and a variable DNI_SECTION_KEY for every key, which wins."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from dni_driver.core import agent_ip
from dni_driver.core.cni_conf import Ipam
from dni_driver.core.driver_name import PLAIN
from dni_driver.core.errors import Refused, SettingsError
from dni_driver.core.host_port import HostPort
from dni_driver.core.mesos_address import MesosAddress
from dni_driver.core.names import check_overlay_name
from dni_driver.core.overlays import LONGEST_PREFIX, VTEP_SUBNET, Address, Network, Overlay, define
from dni_driver.core.registry_address import ALLOWED, LOCAL, ZooKeeperAddress, read_address
from dni_driver.core.vteps import LONGEST, WIDEST, check_subnet

DEFAULT_FILE = Path("/etc/dni/dni.toml")
VARIABLE_PREFIX = "DNI_"

_WEEK = 7 * 24 * 3600.0
_YEAR = 365 * 24 * 3600.0
_LONGEST_SOCKET_PATH = 107
"""unix(7): sun_path has 108 bytes, one ends it."""

SocketPath = Annotated[
    Path,
    Meta(
        description=f"an absolute path of at most {_LONGEST_SOCKET_PATH} bytes",
        extra={"longest": _LONGEST_SOCKET_PATH},
    ),
]
DriverName = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9_.:/-]+\Z", description="the name of a Docker plugin, such as dni or dni:latest")
]
Directory = Annotated[Path, Meta(description="an absolute path")]
Seconds = Annotated[float, Meta(ge=0.1, le=_WEEK, description="a number of seconds from 0.1 to 604800 (a week)")]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every table of the file. A key's description says what is allowed there."""


class AgentSettings(Section, frozen=True):
    """`[agent]`: `ip` names this host in the cluster; None: the address of the default route's interface.

    An IPv6 one only where all agents have one.
    """

    ip: Annotated[
        Address | None,
        Meta(
            description="an address of this host, such as 10.0.0.1 or fd00::11",
            extra={"reader": agent_ip.read},
        ),
    ] = None


class OverlaySettings(Section, frozen=True):
    """`[overlay]`: the default overlay. A prefix of None is 24 (IPv6: 80), or the subnet's own where longer.

    `vtep_subnet` is where the agents of the cluster have their VTEPs from; None: where the registry says.
    """

    name: Annotated[str, Meta(description="1 to 13 characters of a-z, 0-9, '-' and '_'")] = "dcos"
    subnet: Annotated[IPv4Network | None, Meta(description="an IPv4 subnet such as 9.0.0.0/8")] = IPv4Network(
        "9.0.0.0/8"
    )
    prefix: Annotated[int | None, Meta(description=f"a number of bits up to {LONGEST_PREFIX[4]}")] = None
    subnet6: Annotated[IPv6Network | None, Meta(description="an IPv6 subnet such as fd01:b::/64")] = None
    prefix6: Annotated[int | None, Meta(description=f"a number of bits up to {LONGEST_PREFIX[6]}")] = None

    vtep_subnet: Annotated[
        IPv4Network | None,
        Meta(description=f"an IPv4 subnet of /{WIDEST} to /{LONGEST}, such as {VTEP_SUBNET}"),
    ] = None

    def overlay(self) -> Overlay:
        """Answer the default overlay; raise Refused where the keys do not fit together."""
        subnets: list[Network] = [subnet for subnet in (self.subnet, self.subnet6) if subnet is not None]
        return define(self.name, subnets, (self.prefix, self.prefix6))


class RegistrySettings(Section, frozen=True):
    """`[registry]`: where the cluster records who holds what; `local` is a database on this host alone.

    `token_file` is for a Mesos agent, and holds what it wants to see. The other keys are for ZooKeeper. With `user`
    and `password` nobody else may read or write what dni keeps there. `ca` is whose certificates are believed,
    `certificate` and `key` are shown of this host. `reclaim_after`: an agent that was not seen for so many seconds
    may lose its agent subnets to others; None: never.
    """

    url: Annotated[str, Meta(description=ALLOWED)] = LOCAL
    token_file: Annotated[Path | None, Meta(description="an absolute path")] = None
    user: Annotated[
        Annotated[str, Meta(pattern=r"\A[^:\s]+\Z")] | None, Meta(description="a name without spaces and colons")
    ] = None
    password: Annotated[str | None, Meta(description="a text")] = None
    tls: Annotated[bool, Meta(description="true or false")] = False
    ca: Annotated[Path | None, Meta(description="an absolute path")] = None
    certificate: Annotated[Path | None, Meta(description="an absolute path")] = None
    key: Annotated[Path | None, Meta(description="an absolute path")] = None
    reclaim_after: Annotated[
        Annotated[float, Meta(ge=60.0, le=_YEAR)] | None,
        Meta(description="a number of seconds from 60 to 31536000 (a year)"),
    ] = None

    def default_overlay(self, overlay: Overlay) -> Overlay | None:
        """Answer the overlay that is there without anybody defining it: with Mesos those that Mesos has."""
        return None if isinstance(read_address(self.url), MesosAddress) else overlay


class StoreSettings(Section, frozen=True):
    """`[store]`: `directory` holds `dni.db` and `registry.db`."""

    directory: Directory = Path("/var/lib/dni")


class RunSettings(Section, frozen=True):
    """`[run]`: `directory` holds locks and what need not survive a reboot."""

    directory: Directory = Path("/run/dni")


class PluginSettings(Section, frozen=True):
    """`[plugin]`: the socket that dockerd finds, and how many of its calls are answered at a time.

    `driver` is what users type after `-d`: `dni`, or the name and tag of a managed plugin.
    """

    socket: SocketPath = Path("/run/docker/plugins/dni.sock")
    threads: Annotated[int, Meta(ge=1, le=512, description="a whole number from 1 to 512")] = 32
    driver: DriverName = PLAIN


class ApiSettings(Section, frozen=True):
    """`[api]`: the socket of the operator API, which `dni status` and its like ask.

    `listen`: where what changes nothing is answered over TCP too; None: nowhere.
    """

    socket: SocketPath = Path("/run/dni/dni.sock")
    listen: Annotated[
        HostPort | None,
        Meta(description='an address and port such as "127.0.0.1:62090", or a port alone, "62090", for loopback'),
    ] = None


class DockerSettings(Section, frozen=True):
    """`[docker]`: the socket of the Docker API.

    `create_networks`: whether dni makes the Docker networks of overlays; "auto" leaves the default overlay's to the
    user where the registry is local.
    """

    socket: SocketPath = Path("/run/docker.sock")
    create_networks: Annotated[bool | Literal["auto"], Meta(description='true, false or "auto"')] = "auto"


class CollectorSettings(Section, frozen=True):
    """`[collector]`: for how long something must have leaked before it is freed, in seconds.

    `claim_grace` is for an address that never got an endpoint.
    """

    grace: Seconds = 900.0
    claim_grace: Seconds = 120.0


class CniSettings(Section, frozen=True):
    """`[cni]`: where a CNI runtime finds the overlays, and who hands out the addresses of their Mesos halves.

    `directory` of None: nothing is written.
    """

    directory: Annotated[
        Path | None, Meta(description="an absolute path, such as /opt/mesosphere/etc/dcos/network/cni")
    ] = None
    ipam: Annotated[Ipam, Meta(description='"host-local" or "dni"')] = "host-local"


class LogSettings(Section, frozen=True):
    """`[log]`: from which level on, and in which form, lines go to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description='"debug", "info", "warning" or "error"'),
    ] = "info"
    format: Annotated[Literal["console", "json"], Meta(description='"console" or "json"')] = "console"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, checked."""

    agent: AgentSettings = AgentSettings()
    overlay: OverlaySettings = OverlaySettings()
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()
    run: RunSettings = RunSettings()
    plugin: PluginSettings = PluginSettings()
    api: ApiSettings = ApiSettings()
    docker: DockerSettings = DockerSettings()
    collector: CollectorSettings = CollectorSettings()
    cni: CniSettings = CniSettings()
    log: LogSettings = LogSettings()


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """One value somebody set. `place` names it as its owner knows it; `text`: it came as a bare string."""

    section: str
    key: str
    value: Any
    place: str
    text: bool

    def refused(self, allowed: str) -> SettingsError:
        return SettingsError(f"{self.place} = {_shown(self.value)}: {allowed}")

    def refused_unseen(self, allowed: str) -> SettingsError:
        """Build the error without the value, which may be a secret."""
        return SettingsError(f"{self.place} {allowed}")


Values = dict[tuple[str, str], _Given]


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: from `file` (which must be there), else from DEFAULT_FILE where it is.

    Raises SettingsError: one line with file or variable, key, value and what is allowed.
    """
    values: Values = {}
    for given in (*_from_file(file), *_from_environment(environment)):
        values[given.section, given.key] = given
    sections: dict[str, dict[str, Any]] = {}
    for (section, key), given in values.items():
        sections.setdefault(section, {})[key] = _convert(given)
    built: dict[str, Any] = {name: _kinds()[name](**keys) for name, keys in sections.items()}
    settings = Settings(**built)
    _check_overlay(settings.overlay, values)
    _check_registry(settings.registry, values)
    return settings


@cache
def _kinds() -> dict[str, type[Section]]:
    """Answer the sections' types by name."""
    return get_type_hints(Settings)


@cache
def _keys(section: str) -> dict[str, Any]:
    """Answer the annotated types of a section's keys by name."""
    return get_type_hints(_kinds()[section], include_extras=True)


def _from_file(file: Path | None) -> Iterator[_Given]:
    path = file or DEFAULT_FILE
    for section, table in _parse(path, optional=file is None).items():
        if section not in _kinds():
            raise SettingsError(f"{path}: [{section}] is no section: {_suggest(section, _kinds(), 'use')}")
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {section} = {_shown(table)}: must be a table, written [{section}]")
        for key, value in table.items():
            place = f"{path}: {section}.{key}"
            if key not in _keys(section):
                raise SettingsError(f"{place} is no setting: {_suggest(key, _keys(section), 'allowed are')}")
            yield _Given(section=section, key=key, value=value, place=place, text=False)


def _parse(path: Path, *, optional: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise SettingsError(f"{path}: there is no such file") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    known = {variable(section, key): (section, key) for section in _kinds() for key in _keys(section)}
    for name in sorted(environment):
        if name in known:
            section, key = known[name]
            yield _Given(section=section, key=key, value=environment[name], place=name, text=True)
        elif name.startswith(VARIABLE_PREFIX):
            raise SettingsError(
                f"{name} = {_shown(environment[name])}: is no setting: {_suggest(name, known, 'use')}"
            )


def variable(section: str, key: str) -> str:
    """Name the environment variable of a key: `DNI_PLUGIN_THREADS`."""
    return f"{VARIABLE_PREFIX}{section}_{key}".upper()


def _suggest(word: str, known: Mapping[str, object], verb: str) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"{verb} {', '.join(known)}"


def _convert(given: _Given) -> Any:
    """Answer a value in its key's type. An empty text unsets a key that may be absent."""
    kind = _keys(given.section)[given.key]
    meta = next(part for part in kind.__metadata__ if isinstance(part, Meta))
    extra = meta.extra or {}
    raw = None if given.value == "" else given.value
    try:
        value = _read(raw, extra["reader"]) if "reader" in extra else _converted(raw, kind, given)
    except (msgspec.ValidationError, ValueError, TypeError):
        raise given.refused(f"must be {meta.description}") from None
    if "longest" in extra and len(os.fsencode(value)) > extra["longest"]:
        raise given.refused(f"must be {meta.description}")
    return value


def _converted(raw: Any, kind: Any, given: _Given) -> Any:
    return msgspec.convert(raw, kind, strict=not given.text, dec_hook=_decode)


def _read(raw: Any, reader: Callable[[str], Any]) -> Any:
    """Read what msgspec cannot: it knows no union of two types of addresses."""
    if raw is not None and not isinstance(raw, str):
        raise TypeError(raw)
    return None if raw is None else reader(raw)


def _decode(kind: type, value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError(value)
    decoded = kind(value)
    if isinstance(decoded, Path) and (not decoded.is_absolute() or not value.isprintable()):
        raise ValueError(value)
    return decoded


def _check_overlay(overlay: OverlaySettings, values: Values) -> None:
    """Raise SettingsError, naming the key to blame, where there could be no such default overlay."""
    with _blaming(values, "overlay", "name"):
        check_overlay_name(overlay.name)
    with _blaming(values, "overlay", "prefix", "subnet"):
        _check_space(overlay.name, overlay.subnet, overlay.prefix)
    with _blaming(values, "overlay", "prefix6", "subnet6"):
        _check_space(overlay.name, overlay.subnet6, overlay.prefix6)
    with _blaming(values, "overlay", "subnet"):
        overlay.overlay()
    with _blaming(values, "overlay", "vtep_subnet"):
        check_subnet(overlay.vtep_subnet, overlay.overlay())


def _check_space(name: str, subnet: Network | None, prefix: int | None) -> None:
    if subnet is not None:
        define(name, [subnet], (prefix, prefix))
    elif prefix is not None:
        raise Refused("needs a subnet of its family in [overlay]")


def _check_registry(registry: RegistrySettings, values: Values) -> None:
    """Raise SettingsError, naming the key to blame, where the registry could not be used so."""
    with _blaming(values, "registry", "url"):
        address = read_address(registry.url)
    for key in ("user", "password", "tls", "ca", "certificate", "key"):
        if not isinstance(address, ZooKeeperAddress) and getattr(registry, key):
            raise values["registry", key].refused_unseen("is for a registry in ZooKeeper: set registry.url to it")
    for key, other in (("user", "password"), ("password", "user"), ("certificate", "key"), ("key", "certificate")):
        if getattr(registry, key) is not None and getattr(registry, other) is None:
            raise values["registry", key].refused_unseen(f"needs registry.{other} beside it")
    for key in ("ca", "certificate"):
        if getattr(registry, key) is not None and not registry.tls:
            raise values["registry", key].refused_unseen("needs registry.tls = true beside it")


@contextmanager
def _blaming(values: Values, section: str, *keys: str) -> Iterator[None]:
    """Turn Refused into a SettingsError about the first of these keys that somebody set."""
    try:
        yield
    except Refused as error:
        blamed = next(given for key in keys if (given := values.get((section, key))))
        raise blamed.refused(str(error)) from None


def _shown(value: Any) -> str:
    """Write a value much as TOML would, on one line."""
    return json.dumps(value, default=str)
