# SPDX-License-Identifier: Apache-2.0
"""Who may use a registry in ZooKeeper, and whom agents believe: passwords, and TLS both ways."""

from __future__ import annotations

import gc
from pathlib import Path

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import SettingsError, Unavailable
from dni_driver.registry import Access, open_registry
from tests import certificates as made
from tests.lab.zookeeper import ZooKeeper
from tests.scratch import fast_directory
from tests.unit.registries import DCOS, FIRST, Open, audit, host, life, nodes, opening

pytestmark = pytest.mark.zookeeper


def test_a_registry_with_a_password_is_for_those_who_have_it(connect: Open) -> None:
    mine = Access(user="dni", password="secret")  # noqa: S106 - of this test
    connect(mine).define(DCOS)
    assert connect(mine).overlays() == [DCOS]
    for other in (Access(), Access(user="dni", password="guessed")):  # noqa: S106 - of this test
        with pytest.raises(Unavailable, match=r"registry\.user and registry\.password must be those"):
            connect(other).overlays()


def test_a_password_that_is_set_later_closes_what_was_there_and_what_is_made_by_then(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    mine, place = Access(user="dni", password="secret"), f"/{zookeeper_url.rpartition('/')[2]}"  # noqa: S106 - of this test
    before = connect()
    before.define(DCOS)
    before.register(host(3))
    held = before.lease("dcos", 4, FIRST + 3)
    raw.create(f"{place}/anothers", b"left alone")
    after = connect(mine)
    assert after.news(0).whole
    life(after)
    assert held in [one.held for one in after.leases(FIRST + 3)]
    with pytest.raises(Unavailable, match=r"registry\.user and registry\.password must be those"):
        before.lease("dcos", 4, FIRST + 3)
    raw.add_auth("digest", "dni:secret")
    open_to_all = [
        node for node in nodes(raw, place) if any(one.id.scheme != "digest" for one in raw.get_acls(node)[0])
    ]
    assert open_to_all == [f"{place}/anothers"]
    audit(connect(mine))


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with what a server and an agent show each other."""
    return made.make(tmp_path)


def test_over_tls_server_and_agent_show_each_other_who_they_are(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a server is to be who it is called, and vouched for by the authority that is named and no other."""
    mine = Access(
        tls=True,
        ca=certificates / "ca.pem",
        certificate=certificates / "certificate.pem",
        key=certificates / "key.pem",
    )
    with fast_directory() as directory:
        server = ZooKeeper(Path(directory) / "tls")
        url = f"zookeeper://{server.speak_tls(certificates)}"
        try:
            server.start()
            with opening(url) as connect:
                connect(mine).define(DCOS)
                monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
                assert connect(msgspec.structs.replace(mine, ca=None)).overlays() == [DCOS]
                believes_another = connect(msgspec.structs.replace(mine, ca=certificates / "other.pem"))
                said = r"ZooKeeper at 127\.0\.0\.1:\d+ is not believed: .*: registry\.ca names"
                with deadline(1.5), pytest.raises(Unavailable, match=said):
                    believes_another.overlays()
            with opening(url.replace("127.0.0.1", "localhost")) as connect:
                named_otherwise = connect(mine)
                said = (
                    r"ZooKeeper at localhost:\d+ is not believed: Hostname mismatch, .* valid for 'localhost': regist"
                )
                with deadline(1.5), pytest.raises(Unavailable, match=said):
                    named_otherwise.overlays()
        finally:
            server.kill()
            gc.collect()


def test_what_tls_needs_is_named_where_it_cannot_be_used(certificates: Path, tmp_path: Path) -> None:
    def refused(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> str:
        with pytest.raises(SettingsError) as raised:
            open_registry(
                "zookeeper://127.0.0.1:1", tmp_path, Access(tls=True, ca=ca, certificate=certificate, key=key)
            )
        return str(raised.value)

    gone, certificate = certificates / "gone.pem", certificates / "certificate.pem"
    assert refused(ca=gone) == f"registry.ca = '{gone}': cannot be read: No such file or directory"
    assert refused(ca=certificates / "key.pem").endswith("is no ca in PEM, or none that fits the other")
    assert refused(certificate=certificate, key=gone).startswith(f"registry.key = '{gone}': cannot be read")
    other = certificates / "other.key"
    assert refused(certificate=certificate, key=other).startswith(f"registry.certificate = '{certificate}': is no")
