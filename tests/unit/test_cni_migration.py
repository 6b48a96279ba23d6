# SPDX-License-Identifier: Apache-2.0
"""A store from before CNI, or from its beginnings: what containers had they have afterwards."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from dni_driver.core.addresses.allocation import Span
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.records import AddressState
from dni_driver.store import Store, addresses, schema
from dni_driver.store.records import read_all
from tests.fakes import DCOS, lease


def before(path: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Make a store as a dni did that had no migration with these words yet."""
    steps = schema._steps()  # noqa: SLF001 - there is no other way to be an older dni
    ours = next(place for place, step in enumerate(steps) if words in step.read_text(encoding="utf-8"))
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_steps", lambda: steps[:ours])
        return Store(path)


def test_addresses_keep_their_holders_and_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dni.db"
    old = before(path, "CREATE TABLE cni_endpoint", monkeypatch)
    lease(old, DCOS, "9.0.0.0/24")
    with old.write() as tx:
        tx.execute("INSERT INTO pool (id, family, overlay, uses, since) VALUES ('dcos/v4', 4, 'dcos', 1, 5)")
        tx.execute("INSERT INTO network (id, overlay, mtu, options, since) VALUES ('n', 'dcos', 1450, '{}', 5)")
        tx.execute(
            "INSERT INTO endpoint (id, network, mac, address, since) "
            "VALUES ('e', 'n', '02:42:09:00:00:82', '9.0.0.130/25', 5)"
        )
        for last, state, endpoint, network, container, freed in (
            (130, "bound", "e", "n", "web", None),
            (131, "free", None, None, None, 2),
            (132, "free", None, None, None, 1),
            (133, "claimed", None, None, None, None),
        ):
            tx.execute(
                "INSERT INTO address (pool, address, state, endpoint, network, container, since, freed) "
                "VALUES ('dcos/v4', ?, ?, ?, ?, ?, 5, ?)",
                (bytes([9, 0, 0, last]), state, endpoint, network, container, freed),
            )
    old.close()

    new = Store(path)
    found = {str(one.address): (one.state, one.endpoint, one.container) for one in read_all(new).addresses}
    assert found == {
        "9.0.0.130": (AddressState.BOUND, "e", "web"),
        "9.0.0.131": (AddressState.FREE, None, None),
        "9.0.0.132": (AddressState.FREE, None, None),
        "9.0.0.133": (AddressState.CLAIMED, None, None),
    }
    span = Span(ip_address("9.0.0.130"), ip_address("9.0.0.133"))
    with new.read() as tx:
        assert str(addresses.next_free(tx, "dcos/v4", [span])) == "9.0.0.132"
        assert tx.execute("PRAGMA foreign_key_check").fetchall() == []
    new.close()


def test_a_container_of_dni_cni_from_before_groups_and_limits_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dni.db"
    old = before(path, "ALTER TABLE cni_endpoint ADD COLUMN options", monkeypatch)
    lease(old, DCOS, "9.0.0.0/24")
    with old.write() as tx:
        tx.execute("INSERT INTO cni_network VALUES ('dcos', 1450, 5)")
        tx.execute(
            "INSERT INTO cni_endpoint VALUES ('e', 'dcos', 'c1', 'eth0', '/run/netns/c1', '02:42:09:00:00:02', "
            "'9.0.0.2/25', NULL, 5)"
        )
    old.close()
    new = Store(path)
    (endpoint,) = read_all(new).cni_endpoints
    assert (endpoint.container, str(endpoint.address), endpoint.options) == ("c1", "9.0.0.2/25", EndpointOptions())
    new.close()
