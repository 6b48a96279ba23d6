# SPDX-License-Identifier: Apache-2.0
"""A Mesos agent that speaks TLS, as DC/OS Enterprise has them: who is believed, and who is shown what."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dni_driver.core.errors import SettingsError, Unavailable
from dni_driver.registry import Access, open_registry, tls
from tests.mesos_agent import FakeMesosAgent, agent, overlay, serving

_MADE = """
for one in ca other; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \\
        -keyout $one.key -out $one.pem -days 2 -subj /CN=$one
done
for one in agent stranger; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $one.key -out $one.csr -subj /CN=$one
done
for one in agent:127.0.0.1 stranger:192.0.2.99; do
    echo subjectAltName=IP:${one#*:} > names
    one=${one%:*}
    openssl x509 -req -in $one.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $one.pem -days 2 -extfile names
done
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, what it says of the agent, and what it says of a host at another address."""
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["sh", "-ec", _MADE], cwd=folder, check=True, capture_output=True)
    return folder


def served(certificates: Path, name: str = "agent") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


@pytest.fixture
def mesos(certificates: Path) -> Iterator[FakeMesosAgent]:
    with serving(served(certificates)) as answering:
        answering.answer = agent(overlay())
        yield answering


def asked(mesos: FakeMesosAgent, access: Access) -> list[str]:
    return [one.name for one in open_registry(mesos.url, Path("/nonexistent"), access).overlays()]


def test_an_agent_whose_authority_is_named_is_believed_and_shown_the_token(
    mesos: FakeMesosAgent, certificates: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("abc.def")
    assert asked(mesos, Access(tls=True, ca=certificates / "ca.pem", token_file=token)) == ["dcos"]
    ((_, headers),) = mesos.asked
    assert headers["Authorization"] == "token=abc.def"


def test_who_is_not_believed_gets_no_token(mesos: FakeMesosAgent, certificates: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc.def")
    with pytest.raises(Unavailable, match=r"at https://127\.0\.0\.1:\d+ is not believed: .*: registry\.ca names"):
        asked(mesos, Access(tls=True, token_file=token))
    with (
        serving(served(certificates, "stranger")) as other,
        pytest.raises(Unavailable, match=r"is not believed: IP address mismatch.*registry\.url must call it as its"),
    ):
        asked(other, Access(tls=True, ca=certificates / "ca.pem", token_file=token))
    assert mesos.asked == other.asked == []


def test_where_an_authority_is_named_no_other_is_believed(
    mesos: FakeMesosAgent, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    assert asked(mesos, Access(tls=True)) == ["dcos"]
    with pytest.raises(Unavailable, match="is not believed: "):
        asked(mesos, Access(tls=True, ca=certificates / "other.pem"))


def test_an_agent_that_wants_to_know_who_asks_is_shown_a_certificate(certificates: Path) -> None:
    strict = served(certificates)
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(certificates / "ca.pem")
    ca = certificates / "ca.pem"
    with serving(strict) as mesos:
        mesos.answer = agent(overlay())
        mine = Access(tls=True, ca=ca, certificate=certificates / "stranger.pem", key=certificates / "stranger.key")
        assert asked(mesos, mine) == ["dcos"]
        with pytest.raises(
            Unavailable, match=r"(does not agree on TLS: .*registry\.certificate|hangs up|does not answer)"
        ):
            asked(mesos, Access(tls=True, ca=ca))


def test_http_and_https_are_told_apart(mesos: FakeMesosAgent, certificates: Path) -> None:
    with pytest.raises(Unavailable, match=r"http://127.*: where it speaks TLS, set registry\.tls = true"):
        asked(mesos, Access())
    with (
        serving() as plain,
        pytest.raises(
            Unavailable, match=r"https://127.* does not agree on TLS: .*registry\.tls is for those who speak it"
        ),
    ):
        asked(plain, Access(tls=True, ca=certificates / "ca.pem"))


def test_a_file_that_cannot_be_used_is_named(mesos: FakeMesosAgent, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"registry\.ca = '.*gone': cannot be read: No such file or directory"):
        asked(mesos, Access(tls=True, ca=tmp_path / "gone"))


def test_a_context_serves_many_questions_until_a_file_that_it_was_made_of_is_renewed(
    certificates: Path, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes((certificates / "ca.pem").read_bytes())
    kept = tls.KeptContext(Access(tls=True, ca=ca))
    first = kept.get()
    assert kept.get() is first
    ca.unlink()
    with pytest.raises(SettingsError, match=r"registry\.ca = '.*ca\.pem': cannot be read"):
        kept.get()
    ca.write_bytes((certificates / "stranger.pem").read_bytes())
    renewed = kept.get()
    assert renewed is not first
    assert kept.get() is renewed
