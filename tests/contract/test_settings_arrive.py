# SPDX-License-Identifier: Apache-2.0
"""What is set for the registry reaches the agent that `dni up` runs: from a file that is named, or from variables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dni_driver.cli.loading import VARIABLE_PREFIX, variable
from dni_driver.core.deadline import deadline
from dni_driver.core.errors import Unavailable
from dni_driver.core.registry_address import ZooKeeperAddress, read_address
from dni_driver.registry import Access
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from dni_driver.registry.zookeeper.layout import AGENTS, Record, of_agent
from tests import certificates
from tests.contract.plugin import underlay
from tests.contract.test_serving import await_true
from tests.contract.test_serving_up import Host
from tests.fakes import AGENT
from tests.lab.zookeeper import ZooKeeper
from tests.root.ground import Namespace
from tests.scratch import fast_directory

pytestmark = [
    pytest.mark.root,
    pytest.mark.zookeeper,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made:
        underlay(made)
        yield made


@pytest.fixture
def settings(namespace: Namespace, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """All that can be set for a registry in ZooKeeper: one that wants every bit of it runs."""
    certificates.make(tmp_path)
    with fast_directory() as directory:
        server = namespace.run(ZooKeeper, Path(directory) / "zookeeper")
        address = namespace.run(server.speak_tls, tmp_path)
        try:
            namespace.run(server.start)
            yield {
                "url": f"zookeeper://{address}/dni",
                "user": "dni",
                "password": "a secret: with a colon",
                "tls": True,
                "ca": str(tmp_path / "ca.pem"),
                "certificate": str(tmp_path / "certificate.pem"),
                "key": str(tmp_path / "key.pem"),
            }
        finally:
            namespace.run(server.kill)


class _BySettings(Host):
    """A host on which `dni up` is told in a file, or by variables alone."""

    def __init__(self, namespace: Namespace, directory: Path, settings: dict[str, Any], file: Path | None) -> None:
        super().__init__(namespace, directory)
        self._settings = settings
        self._file = file
        if file is not None:
            file.write_text(self._written())
            self.options = ("--config", str(file))

    def environment(self) -> dict[str, str]:
        """Answer the variables: all of the settings, or none."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE_PREFIX)}
        if self._file is not None:
            return others
        registry = {variable("registry", key): _text(value) for key, value in self._settings.items()}
        return {**others, **self.paths(), **registry}

    def _written(self) -> str:
        sections: dict[str, dict[str, Any]] = {"registry": self._settings}
        for name, value in self.paths().items():
            section, _, key = name.removeprefix(VARIABLE_PREFIX).lower().partition("_")
            sections.setdefault(section, {})[key] = value
        lines = (
            "\n".join([f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""])
            for section, keys in sections.items()
        )
        return "\n".join(lines)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_of_the_registry_reaches_the_agent_from_a_file_and_from_variables(
    namespace: Namespace, settings: dict[str, Any], tmp_path: Path
) -> None:
    """With anything missing it would not get in: the server wants TLS both ways, what is there one user."""
    for term, file in ((7200.0, None), (3600.0, tmp_path / "dni.toml")):
        host = _BySettings(namespace, tmp_path, settings | {"reclaim_after": term}, file)
        try:
            host.up()
            await_true(lambda host=host: _lives(host))  # type: ignore[misc]
            assert host.shown("status")["problems"] == []
            assert namespace.run(_recorded, settings).reclaim_after == term
        finally:
            host.kill_all()
    with pytest.raises(Unavailable, match=r"registry\.user and registry\.password must be"):
        namespace.run(_recorded, settings | {"password": "another"})


def _lives(host: Host) -> bool:
    return [agent["alive"] for agent in host.shown("agent", "ls")] == [True]


def _recorded(settings: dict[str, Any]) -> Record:
    """Answer what the registry has of the agent, for who comes with these settings."""
    given = {key: value for key, value in settings.items() if key != "url"}
    address = read_address(settings["url"])
    assert isinstance(address, ZooKeeperAddress)
    registry = ZooKeeperRegistry(address, msgspec.convert(given, Access, dec_hook=lambda kind, text: kind(text)))
    try:
        with deadline(20.0):
            found = registry.link.get(of_agent(AGENTS, AGENT))
        assert found is not None
        return msgspec.json.decode(found.data, type=Record)
    finally:
        registry.close()
