# SPDX-License-Identifier: Apache-2.0
"""Running plugins: one for all tests of a kind, made as new between two of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.contract.dockerd import HOST_SINCE_23_0_7, Dockerd
from tests.contract.plugin import Plugin, running, underlay
from tests.root.ground import Namespace


@pytest.fixture(scope="session")
def _in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    with running(tmp_path_factory.mktemp("fake")) as plugin:
        yield plugin


@pytest.fixture(scope="session")
def _in_namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with Namespace() as namespace:
        underlay(namespace)
        with running(tmp_path_factory.mktemp("real"), namespace) as plugin:
            yield plugin


@pytest.fixture(params=["_in_memory", pytest.param("_in_namespace", marks=pytest.mark.root)])
def plugin(request: pytest.FixtureRequest) -> Iterator[Plugin]:
    """Give a plugin as on a new host: once with a kernel in memory, once with the real one in a namespace."""
    yield from _lent(request.getfixturevalue(request.param))


@pytest.fixture
def light(_in_memory: Plugin) -> Iterator[Plugin]:
    """Give a plugin as on a new host, with a kernel in memory: for what never comes near a kernel."""
    yield from _lent(_in_memory)


@pytest.fixture
def real(_in_namespace: Plugin) -> Iterator[Plugin]:
    """Give a plugin as on a new host, with the real kernel."""
    yield from _lent(_in_namespace)


@pytest.fixture(params=["", HOST_SINCE_23_0_7], ids=["no host", "a host"])
def dockerd(plugin: Plugin, request: pytest.FixtureRequest) -> Dockerd:
    """Give a client, one that sends no name of a host and one that does."""
    return plugin.dockerd(request.param)


@pytest.fixture
def calls(light: Plugin) -> Dockerd:
    """Give a client of a plugin whose kernel does not matter."""
    return light.dockerd()


def _lent(plugin: Plugin) -> Iterator[Plugin]:
    """Lend a plugin to a test; whatever it does, an error nobody meant is a failure."""
    plugin.reset()
    before = len(plugin.log())
    yield plugin
    plugin.reset()
    assert "Traceback" not in plugin.log()[before:]
