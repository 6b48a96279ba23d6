# SPDX-License-Identifier: Apache-2.0
"""Loads the settings: from /etc/dni/dni.toml, and from a variable DNI_SECTION_KEY for every key, which wins.

As a program it says what is wrong with them, if anything.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Meta

from dni_driver.cli.settings import CniSettings, OverlaySettings, RegistrySettings, Section, Settings
from dni_driver.core.data_plane.vteps import check_subnet
from dni_driver.core.errors import Refused, SettingsError
from dni_driver.core.mesos.address import MesosAddress
from dni_driver.core.names import check_overlay_name
from dni_driver.core.overlays import Network, define
from dni_driver.core.registry_address import ZooKeeperAddress, read_address

DEFAULT_FILE = Path("/etc/dni/dni.toml")
VARIABLE_PREFIX = "DNI_"


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
    if isinstance(read_address(settings.registry.url), MesosAddress):
        _check_left_to_mesos(settings.cni, values)
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
            raise SettingsError(f"{path}: {_stray(section, table)}")
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {section} = {_shown(table)}: must be a table, written [{section}]")
        for key, value in table.items():
            place = f"{path}: {section}.{key}"
            if key not in _keys(section):
                raise SettingsError(f"{place} is no setting: {_suggest(key, _keys(section), 'allowed are')}")
            yield _Given(section=section, key=key, value=value, place=place, text=False)


def _stray(name: str, value: Any) -> str:
    """Say what is wrong with what no section is called; its value may be a secret."""
    homes = [f"[{section}]" for section in _kinds() if name in _keys(section)]
    if isinstance(value, dict) or not homes:
        return f"[{name}] is no section: {_suggest(name, _kinds(), 'use')}"
    return f"{name} stands in no section: write it below {' or '.join(homes)}"


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
        refused = given.refused_unseen if "secret" in extra else given.refused
        raise refused(f"must be {meta.description}") from None
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
    for key in ("user", "password"):
        if not isinstance(address, ZooKeeperAddress) and getattr(registry, key):
            raise values["registry", key].refused_unseen("is for a registry in ZooKeeper: set registry.url to it")
    for key in ("tls", "ca", "certificate", "key"):
        if address is None and getattr(registry, key):
            raise values["registry", key].refused_unseen(
                "is for ZooKeeper, or a Mesos agent: set registry.url to where it is"
            )
    for key, other in (("user", "password"), ("password", "user"), ("certificate", "key"), ("key", "certificate")):
        if getattr(registry, key) is not None and getattr(registry, other) is None:
            raise values["registry", key].refused_unseen(f"needs registry.{other} beside it")
    for key in ("ca", "certificate"):
        if getattr(registry, key) is not None and not registry.tls:
            raise values["registry", key].refused_unseen("needs registry.tls = true beside it")


def _check_left_to_mesos(cni: CniSettings, values: Values) -> None:
    """Raise SettingsError where dni would hand out the Mesos half beside a Mesos agent that does so itself."""
    url = values["registry", "url"].value
    if cni.directory is not None:
        raise values["cni", "directory"].refused(
            f"Mesos writes its configurations of CNI itself where registry.url = {_shown(url)}: leave the key out"
        )
    if cni.ipam != CniSettings().ipam:
        raise values["cni", "ipam"].refused(
            f'must be "{CniSettings().ipam}" where registry.url = {_shown(url)}: Mesos hands out its half itself, '
            f"and two would give one address twice"
        )


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


if __name__ == "__main__":
    try:
        load(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    except SettingsError as error:
        sys.exit(str(error))
