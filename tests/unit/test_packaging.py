# SPDX-License-Identifier: Apache-2.0
"""What dni comes in: the files of an installation, and the managed plugin's config.json."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from dni_driver.cli.loading import load, variable
from dni_driver.cli.settings import Settings
from dni_driver.core.names import VTEP_LINK, container_link, docker_bridge, egress_link, host_link, mesos_bridge

REPOSITORY = Path(__file__).parents[2]
PACKAGING = REPOSITORY / "packaging"
ENDPOINT = "0123456789abcdef" * 4
OF_AN_ENDPOINT = [name(ENDPOINT) for name in (host_link, container_link, egress_link)]
LINKS = [docker_bridge("dcos"), mesos_bridge("dcos"), *OF_AN_ENDPOINT, VTEP_LINK]
OTHERS = ["eth0", "docker0", "docker_gwbridge", "br-0123456789ab", "veth0a1b2c3", "dummy0", "wlan0"]


@pytest.fixture(scope="module")
def plugin() -> Any:
    return json.loads((REPOSITORY / "plugin/config.json").read_text())


def _networkd() -> list[str]:
    return _ini("networkd.network")["Match"]["Name"].split()


def _network_manager() -> list[str]:
    matches = _ini("NetworkManager.conf")["device-dni"]["match-device"].split(",")
    return [match.removeprefix("interface-name:") for match in matches]


def _ini(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PACKAGING / "network" / name)
    return parser


@pytest.mark.parametrize("patterns", [_networkd(), _network_manager()], ids=["networkd", "NetworkManager"])
def test_other_network_software_is_told_of_every_link_of_dni_and_of_no_other(patterns: list[str]) -> None:
    told = [link for link in (*LINKS, *OTHERS) if any(fnmatch(link, pattern) for pattern in patterns)]
    assert told == LINKS


def test_every_file_of_an_installation_has_a_place() -> None:
    there = {str(path.relative_to(PACKAGING)) for path in PACKAGING.glob("*/**/*") if path.is_file()}
    placed = [line.split('"')[1].split()[0] for line in _placing_lines()]
    assert sorted(placed) == sorted(there)


def _placing_lines() -> list[str]:
    return [line for line in (PACKAGING / "places").read_text().splitlines() if line.strip().startswith("echo ")]


def test_the_managed_plugin_is_both_drivers_behind_one_socket(plugin: Any) -> None:
    assert plugin["interface"] == {
        "types": ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"],
        "socket": Settings().plugin.socket.name,
    }


def test_the_managed_plugin_mounts_what_the_settings_name(plugin: Any) -> None:
    mounts = {mount["destination"]: mount for mount in plugin["mounts"]}
    settings = Settings()
    assert Path("/run") in settings.run.directory.parents
    assert Path("/run") in settings.docker.socket.parents
    assert str(settings.store.directory) in mounts
    # Sandboxes are mounted there after the plugin has started.
    assert "rslave" in mounts["/run"]["options"]


def test_the_managed_plugin_offers_settings_that_there_are_with_their_defaults(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dni_driver.cli.loading.DEFAULT_FILE", tmp_path / "absent.toml")
    values = {variable["name"]: variable["value"] for variable in plugin["env"]}
    assert values.pop("DNI_PLUGIN_DRIVER") == "@name@"
    assert load(None, values) == Settings()
    assert all(variable["settable"] == ["value"] for variable in plugin["env"])


def test_the_managed_plugin_offers_every_setting_but_the_places_that_its_mounts_decide(plugin: Any) -> None:
    """Docker lets nobody set another one: without DNI_REGISTRY_URL a host would be alone."""
    places = {("store", "directory"), ("run", "directory"), ("cni", "directory")}
    places |= {(section, "socket") for section in ("plugin", "api", "docker")}
    known = {
        (section, key)
        for section in Settings.__struct_fields__
        for key in getattr(Settings(), section).__struct_fields__
    }
    assert {one["name"] for one in plugin["env"]} == {variable(*one) for one in known - places}


def test_uninstalling_once_more_takes_what_the_first_time_kept_and_leaves_what_others_put_there(
    tmp_path: Path,
) -> None:
    """The first time says so: `kept: …/var/lib/dni (PURGE=1 removes it too)`."""
    drop_ins, records = tmp_path / "usr/lib/systemd/system/dni-.service.d", tmp_path / "var/lib/dni"
    for directory in (drop_ins, records, tmp_path / "usr/lib/dni/bin"):
        directory.mkdir(parents=True)
    for name in ("confined.conf", "of-somebody-else.conf"):
        (drop_ins / name).touch()
    environment = {**os.environ, "DESTDIR": str(tmp_path), "PREFIX": "/usr"}
    uninstall = [PACKAGING / "uninstall"]
    told = subprocess.run(uninstall, env=environment, check=True, capture_output=True, text=True).stdout
    assert f"kept: {records} (PURGE=1 removes it too)" in told
    assert [path.name for path in drop_ins.iterdir()] == ["of-somebody-else.conf"]
    assert not (tmp_path / "usr/lib/dni").exists()
    (drop_ins / "of-somebody-else.conf").unlink()
    for _ in range(2):
        subprocess.run(uninstall, env={**environment, "PURGE": "1"}, check=True)
    assert not records.exists()
    assert not drop_ins.exists()
