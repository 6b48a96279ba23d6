# SPDX-License-Identifier: Apache-2.0
"""Settings from a file and from variables, and the one line that each mistake is answered with."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.cli import loading, serve_agent
from dni_driver.cli.loading import load
from dni_driver.cli.settings import RegistrySettings, Settings
from dni_driver.core.errors import SettingsError
from dni_driver.core.registry_address import ALLOWED
from dni_driver.registry import Access

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "dni.toml"
        file.write_text(text)
        return file

    return write


def refusal(file: Path | None, environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(file, environment)
    return str(caught.value)


def test_without_a_file_and_variables_all_is_as_documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "DEFAULT_FILE", tmp_path / "absent.toml")
    found = load(None, {"HOME": "/root"})
    assert found == Settings()
    assert found.agent.ip is None
    assert found.plugin.socket == Path("/run/docker/plugins/dni.sock")
    assert found.plugin.threads == 32
    assert found.plugin.driver == "dni"
    assert found.api.socket == Path("/run/dni/dni.sock")
    assert found.store.directory == Path("/var/lib/dni")
    assert (found.collector.grace, found.collector.claim_grace) == (900, 120)
    overlay = found.overlay.overlay()
    assert (overlay.name, str(overlay.subnet), overlay.prefix) == ("dcos", "9.0.0.0/8", 24)
    assert overlay.subnet6 is None


def test_the_default_file_is_read_where_it_is(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    monkeypatch.setattr(loading, "DEFAULT_FILE", write("[plugin]\nthreads = 7\n"))
    assert load(None, {}).plugin.threads == 7


def test_a_file_sets_every_kind_of_value(write: Write) -> None:
    found = load(
        write(
            """
            [agent]
            ip = "10.0.0.7"
            [overlay]
            name = "net"
            subnet = "10.64.0.0/16"
            prefix = 26
            subnet6 = "fd01:b::/64"
            [collector]
            grace = 2
            claim_grace = 0.5
            [log]
            format = "json"
            """
        ),
        {},
    )
    assert found.agent.ip == IPv4Address("10.0.0.7")
    assert found.overlay.subnet == IPv4Network("10.64.0.0/16")
    assert (found.overlay.overlay().prefix, found.overlay.overlay().prefix6) == (26, 80)
    assert (found.collector.grace, found.collector.claim_grace) == (2.0, 0.5)
    assert found.log.format == "json"


def test_a_variable_wins_over_the_file(write: Write) -> None:
    file = write("[plugin]\nthreads = 7\n[collector]\nclaim_grace = 9\n")
    found = load(file, {"DNI_PLUGIN_THREADS": "8", "DNI_COLLECTOR_CLAIM_GRACE": "1.5"})
    assert found.plugin.threads == 8
    assert found.collector.claim_grace == 1.5


def test_every_key_has_a_variable(write: Write) -> None:
    values = {
        "DNI_AGENT_IP": "10.0.0.1",
        "DNI_OVERLAY_NAME": "24",
        "DNI_OVERLAY_SUBNET": "10.0.0.0/8",
        "DNI_OVERLAY_PREFIX": "25",
        "DNI_OVERLAY_SUBNET6": "fd00::/64",
        "DNI_OVERLAY_PREFIX6": "96",
        "DNI_REGISTRY_URL": "zookeeper://h1,h2/dni",
        "DNI_REGISTRY_TOKEN_FILE": "/t",
        "DNI_REGISTRY_USER": "dni",
        "DNI_REGISTRY_PASSWORD": "secret",
        "DNI_REGISTRY_TLS": "True",
        "DNI_REGISTRY_CA": "/ca.pem",
        "DNI_REGISTRY_CERTIFICATE": "/certificate.pem",
        "DNI_REGISTRY_KEY": "/key.pem",
        "DNI_REGISTRY_RECLAIM_AFTER": "86400.0",
        "DNI_STORE_DIRECTORY": "/s",
        "DNI_RUN_DIRECTORY": "/r",
        "DNI_OVERLAY_VTEP_SUBNET": "44.128.0.0/9",
        "DNI_PLUGIN_SOCKET": "/p.sock",
        "DNI_PLUGIN_THREADS": "3",
        "DNI_PLUGIN_DRIVER": "example.org/dni:1.2",
        "DNI_API_SOCKET": "/a.sock",
        "DNI_API_LISTEN": "[::1]:62090",
        "DNI_DOCKER_SOCKET": "/d.sock",
        "DNI_DOCKER_CREATE_NETWORKS": "True",
        "DNI_COLLECTOR_GRACE": "4",
        "DNI_COLLECTOR_CLAIM_GRACE": "5",
        "DNI_CNI_DIRECTORY": "/c",
        "DNI_CNI_IPAM": "dni",
        "DNI_LOG_LEVEL": "debug",
        "DNI_LOG_FORMAT": "json",
    }
    found = load(write(""), values)
    sections = {name: getattr(found, name) for name in Settings.__struct_fields__}
    shown = {
        loading.variable(name, key): str(getattr(section, key))
        for name, section in sections.items()
        for key in section.__struct_fields__
    }
    shown["DNI_COLLECTOR_GRACE"] = shown["DNI_COLLECTOR_GRACE"].removesuffix(".0")
    shown["DNI_COLLECTOR_CLAIM_GRACE"] = shown["DNI_COLLECTOR_CLAIM_GRACE"].removesuffix(".0")
    assert shown == values


def test_an_empty_text_unsets_what_may_be_absent(write: Write) -> None:
    found = load(write('[overlay]\nsubnet = ""\nsubnet6 = "fd01:b::/64"\n'), {"DNI_AGENT_IP": ""})
    assert found.agent.ip is None
    assert found.overlay.overlay().subnets() == [IPv6Network("fd01:b::/64")]


def test_a_small_subnet_goes_to_one_agent_whole(write: Write) -> None:
    overlay = load(write('[overlay]\nsubnet = "10.0.0.0/26"\n'), {}).overlay.overlay()
    assert overlay.prefix == 26


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[plugin]\nthread = 4", "plugin.thread is no setting: did you mean threads?"),
        ("[plugin]\ncolour = 4", "plugin.colour is no setting: allowed are socket, threads, driver"),
        ("[plugins]\nthreads = 4", "[plugins] is no section: did you mean plugin?"),
        ("plugin = 4", "plugin = 4: must be a table, written [plugin]"),
        ('ip = "10.0.0.1"', "ip stands in no section: write it below [agent]"),
        ('directory = "/s"', "directory stands in no section: write it below [store] or [run] or [cni]"),
        ("[registry]\npassword = 1234", "registry.password must be a text in quotes"),
        ('[plugin]\nthreads = "many"', 'plugin.threads = "many": must be a whole number from 1 to 512'),
        ('[plugin]\nthreads = "4"', 'plugin.threads = "4": must be a whole number from 1 to 512'),
        ("[plugin]\nthreads = 0", "plugin.threads = 0: must be a whole number from 1 to 512"),
        (
            '[plugin]\ndriver = "my dni"',
            'plugin.driver = "my dni": must be the name of a Docker plugin, such as dni or dni:latest',
        ),
        ("[plugin]\nthreads = true", "plugin.threads = true: must be a whole number from 1 to 512"),
        (
            "[collector]\ngrace = nan",
            "collector.grace = NaN: must be a number of seconds from 0.1 to 604800 (a week)",
        ),
        (
            '[agent]\nip = "10.0.0.0/8"',
            'agent.ip = "10.0.0.0/8": must be an address of this host, such as 10.0.0.1 or fd00::11',
        ),
        (
            '[agent]\nip = "fe80::11%eth0"',
            'agent.ip = "fe80::11%eth0": must be an address of this host, such as 10.0.0.1 or fd00::11',
        ),
        (
            "[agent]\nip = 167772161",
            "agent.ip = 167772161: must be an address of this host, such as 10.0.0.1 or fd00::11",
        ),
        ('[overlay]\nsubnet = "9.0.0.1/8"', 'overlay.subnet = "9.0.0.1/8": must be an IPv4 subnet such as 9.0.0.0/8'),
        ('[api]\nsocket = "dni.sock"', 'api.socket = "dni.sock": must be an absolute path of at most 107 bytes'),
        ('[api]\nsocket = "/a\\nb"', 'api.socket = "/a\\nb": must be an absolute path of at most 107 bytes'),
        (
            "[api]\nlisten = 'localhost:0'",
            (
                'api.listen = "localhost:0": must be an address and port such as "127.0.0.1:62090", '
                'or a port alone, "62090", for loopback'
            ),
        ),
        ('[log]\nlevel = "INFO"', 'log.level = "INFO": must be "debug", "info", "warning" or "error"'),
        (
            '[registry]\nurl = "zk://m1"',
            f'registry.url = "zk://m1": must be {ALLOWED}',
        ),
        (
            '[registry]\nurl = "zookeeper://m1:0"',
            "registry.url = \"zookeeper://m1:0\": 'm1:0' has no port from 1 to 65535",
        ),
        (
            '[registry]\npassword = "secret"',
            "registry.password is for a registry in ZooKeeper: set registry.url to it",
        ),
        (
            '[registry]\nurl = "mesos://m1"\nuser = "dni"\npassword = "secret"',
            "registry.user is for a registry in ZooKeeper: set registry.url to it",
        ),
        (
            "[registry]\ntls = true",
            "registry.tls is for ZooKeeper, or a Mesos agent: set registry.url to where it is",
        ),
        (
            '[registry]\nurl = "mesos://m1"\nca = "/ca.pem"',
            "registry.ca needs registry.tls = true beside it",
        ),
        (
            '[registry]\nurl = "zookeeper://m1"\npassword = "secret"',
            "registry.password needs registry.user beside it",
        ),
        ('[registry]\nurl = "zookeeper://m1"\nca = "/ca.pem"', "registry.ca needs registry.tls = true beside it"),
        (
            '[registry]\nurl = "zookeeper://m1"\ntls = true\nkey = "/key.pem"',
            "registry.key needs registry.certificate beside it",
        ),
        ('[registry]\nuser = "a:b"', 'registry.user = "a:b": must be a name without spaces and colons'),
        (
            "[registry]\nreclaim_after = 1",
            "registry.reclaim_after = 1: must be a number of seconds from 60 to 31536000 (a year)",
        ),
        ("[overlay]\nprefix6 = 80", "overlay.prefix6 = 80: needs a subnet of its family in [overlay]"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_what_is_allowed(write: Write, text: str, line: str) -> None:
    file = write(text)
    assert refusal(file, {}) == f"{file}: {line}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[plugin", "is not TOML: "),
        ("[overlay]\nname = 'a.b'", "overlay.name = \"a.b\": overlay name 'a.b' has a dot"),
        ("[overlay]\nname = ''", "must be 1 to 13 characters"),
        (
            "[overlay]\nprefix = 40",
            "overlay.prefix = 40: overlay 'dcos': an agent subnet of /40 does not fit",
        ),
        (
            "[overlay]\nsubnet = '10.0.0.0/30'",
            "overlay.subnet = \"10.0.0.0/30\": overlay 'dcos': subnet 10.0.0.0/30 is too small",
        ),
        ("[overlay]\nsubnet = ''", "overlay 'dcos' needs a subnet"),
    ],
)
def test_a_mistake_of_meaning_blames_the_key_that_was_set(write: Write, text: str, words: str) -> None:
    line = refusal(write(text), {})
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("DNI_PLUGIN_THREADS", "8x", 'DNI_PLUGIN_THREADS = "8x": must be a whole number from 1 to 512'),
        ("DNI_PLUGIN_THREADS", "", 'DNI_PLUGIN_THREADS = "": must be a whole number from 1 to 512'),
        ("DNI_PLUGIN_THREAD", "8", 'DNI_PLUGIN_THREAD = "8": is no setting: did you mean DNI_PLUGIN_THREADS?'),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(write: Write, name: str, value: str, line: str) -> None:
    assert refusal(write(""), {name: value}) == line


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        (
            "directory",
            "/etc/cni/net.d",
            "Mesos writes its configurations of CNI itself where {url}: leave the key out",
        ),
        (
            "ipam",
            "dni",
            'must be "host-local" where {url}: Mesos hands out its half itself, and two would give one address twice',
        ),
    ],
)
def test_beside_mesos_the_mesos_half_is_not_dnis_to_hand_out(
    write: Write, key: str, value: str, allowed: str
) -> None:
    mesos = '[registry]\nurl = "mesos://10.0.0.2"\n'
    told = allowed.format(url='registry.url = "mesos://10.0.0.2"')
    file = write(f'{mesos}[cni]\n{key} = "{value}"')
    assert refusal(file, {}) == f'{file}: cni.{key} = "{value}": {told}'
    variable = f"DNI_CNI_{key.upper()}"
    assert refusal(write(mesos), {variable: value}) == f'{variable} = "{value}": {told}'
    assert load(write(f'{mesos}[cni]\nipam = "host-local"\ndirectory = ""'), {}).cni == Settings().cni
    assert str(getattr(load(write(f'[cni]\n{key} = "{value}"'), {}).cni, key)) == value


def test_a_variable_nobody_knows_is_answered_with_all_there_are(write: Write) -> None:
    line = refusal(write(""), {"DNI_X": "1"})
    assert "DNI_AGENT_IP" in line
    assert "DNI_COLLECTOR_CLAIM_GRACE" in line


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml", {}) == f"{tmp_path / 'no.toml'}: there is no such file"


def test_what_cannot_be_read_as_a_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, {}) == f"{tmp_path}: cannot be read: Is a directory"
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert refusal(tmp_path / "binary.toml", {}).startswith(f"{tmp_path / 'binary.toml'}: is not TOML: ")


@given(st.sampled_from(["DNI_PLUGIN_THREADS", "DNI_AGENT_IP", "DNI_OVERLAY_SUBNET", "DNI_API_SOCKET"]), st.text())
def test_whatever_a_variable_holds_is_taken_or_refused_in_one_line(name: str, value: str) -> None:
    try:
        load(Path("/dev/null"), {name: value})
    except SettingsError as error:
        line = str(error)
    else:
        return
    assert line.startswith(f"{name} = ")
    assert len(line.splitlines()) == 1


def test_all_by_which_dni_makes_itself_known_is_handed_on() -> None:
    given: dict[str, Any] = {name: Path(f"/{name}") for name in ("ca", "certificate", "key", "token_file")}
    given |= {"user": "dni", "password": "secret", "tls": True}
    assert set(given) == set(Access.__struct_fields__)
    assert serve_agent.access(RegistrySettings(url="mesos://127.0.0.1", **given)) == Access(**given)


@pytest.mark.parametrize("ip", ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"])
def test_an_address_that_no_host_has_is_no_agent_ip(write: Write, ip: str) -> None:
    with pytest.raises(SettingsError, match="must be an address of this host, such as"):
        load(write(f"[agent]\nip = '{ip}'\n"), {})


@pytest.mark.parametrize("key", ["plugin.socket", "api.socket", "docker.socket"])
def test_a_path_that_is_too_long_for_a_socket_is_refused(write: Write, key: str) -> None:
    section, _, name = key.partition(".")
    fits = "/" + "é" * 53
    load(write(f"[{section}]\n{name} = '{fits}'\n"), {})
    with pytest.raises(SettingsError, match="must be an absolute path of at most 107 bytes"):
        load(write(f"[{section}]\n{name} = '{fits}x'\n"), {})
