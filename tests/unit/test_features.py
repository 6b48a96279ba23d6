# SPDX-License-Identifier: Apache-2.0
"""The table of features is whole and names tests that exist, and who comes from DC/OS finds each of its words."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/features.md").read_text()
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows(text: str) -> list[list[str]]:
    """Answer the cells of every row of tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Feature |")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


COMPARED = {
    "Docker network driver": "+",
    "IPAM driver": "+",
    "Multi-host": "-",
    "Store": "bolt file",
    "Works with store down": "+",
    "IPv6 containers": "+",
    "IPv6 underlay": "n/a",
    "Isolation / policy": "~",
    "DNS": "+",
    "VIP / load balancer": "-",
    "Port publish": "+",
    "Encryption on the wire": "n/a",
    "MTU": "by option, 1500",
    "Masquerade control": "+",
    "Static address": "+",
    "Reservation of ranges": "~",
    "Survives daemon restart": "+",
    "GC of stale addresses": "-",
    "Exhaustion reporting": "~",
    "Metrics": "~",
    "CLI status / diagnostics": "`docker network inspect`",
    "Managed plugin (v2)": "n/a",
    "Web UI": "-",
    "Swarm as plugin": "n/a",
    "Compose": "+",
    "CNI interop": "-",
    "Docs": "+",
    "Unit tests": "+",
    "e2e on real Docker": "+",
    "CI today": "+",
}
"""What network drivers are compared by, and how Docker's bridge does there."""

REFUSED = (
    ("Sticky addresses", "from Engine 29 on"),
    ("Addresses by `--link-local-ip`", "`spoof=allow`"),
)
"""What a cell says of what is not there."""


def test_every_feature_of_the_comparison_is_in_the_table() -> None:
    """Once, in the order of the comparison, with the bridge's mark as it is there."""
    first = PAGE.split("\n## ")[1]
    told = [(feature, bridge) for feature, bridge, _, _ in rows(first)]
    assert [feature for feature, _ in told] == list(COMPARED)
    for (feature, bridge), mark in zip(told, COMPARED.values(), strict=True):
        assert bridge == mark or bridge.startswith(f"{mark} "), feature


def test_every_feature_has_one_row() -> None:
    names = [row[0] for row in rows(PAGE)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("row", rows(PAGE), ids=lambda row: row[0].replace(" ", "-"))
def test_what_we_claim_is_shown_by_a_test_that_exists(row: list[str]) -> None:
    feature, _, ours, shown = row
    assert ours.partition(" ")[0] in ("+", "~", "-"), f"no mark for {feature!r}"
    named = _NAME.findall(shown)
    assert named or ours.startswith("-"), f"nothing shows {feature!r}"
    assert shown.count("::test_") == len(named)
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"


@pytest.mark.parametrize(("feature", "words"), REFUSED)
def test_what_is_there_in_part_says_what_is_not(feature: str, words: str) -> None:
    (ours,) = (row[2] for row in rows(PAGE) if row[0] == feature)
    assert words in ours


def test_ci_runs_every_test() -> None:
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    assert run.read_text().splitlines()[-1] == "exec make test"
    recipe = (ROOT / "Makefile").read_text().partition("\ntest: ")[2].partition("\n\n")[0].splitlines()[1:]
    assert recipe == ["\t$(BIN)/pytest $(SIDE_BY_SIDE)"]


OF_DCOS = (
    "dcos_overlay_enable",
    "dcos_overlay_network",
    "dcos_overlay_mtu",
    "dcos_overlay_config_attempts",
    "dcos_cni_data_dir",
    "dcos_ucr_default_bridge_network_name",
    "dcos_l4lb_min_named_ip",
    "dcos_l4lb_max_named_ip",
    "dcos_l4lb_min_named_ip6",
    "dcos_l4lb_max_named_ip6",
    "enable_ipv6",
    "zk.url",
    "zk.quorum",
    "zk.session_timeout",
    "MESOS_ZK",
    "MESOS_QUORUM",
    "MESOS_MASTER",
    "SERVICE_AUTH_TOKEN",
    "replicated_log_dir",
    "replicated_log_timeout",
    "vtep_subnet",
    "vtep_subnet6",
    "vtep_mac_oui",
    "vtep_mtu",
    "name",
    "subnet",
    "prefix",
    "subnet6",
    "prefix6",
    "enabled: false",
    "master",
    "cni_dir",
    "cni_data_dir",
    "network_config.allocate_subnet",
    "network_config.mesos_bridge",
    "network_config.docker_bridge",
    "overlay_mtu",
    "command_timeout",
    "max_configuration_attempts",
    "rp_filter",
    "master.json",
    "agent-master.json",
    "agent.json",
    "overlay_master_modules.json",
    "overlay_slave_modules.json",
    "mesos-slave-dns.json",
    "liboverlay.so",
    "/opt/mesosphere/etc/dcos/network/cni/NAME.conf",
    "/var/run/dcos/cni/networks/NAME/",
    "/var/lib/dcos/mesos/master/overlay_replicated_log",
    "overlay_log_replicas",
    "/etc/systemd/network/dcos.network",
    "dcos-net.conf",
    "dcos-net.service",
    "dcos-net-setup.py",
    "/var/lib/dcos/navstar/",
    "/overlay-agent/overlay",
    "/overlay-master/state",
    "/overlay-master/agents/delete",
    "/metrics/snapshot",
    "DOCKER-ISOLATION",
    "DOCKER-ISOLATION-STAGE-2",
    "M-DCOS",
)
"""What can be set in DC/OS Overlay, what it keeps in files, and what it is asked."""

_MOVING = ROOT / "docs/moving-from-dcos.md"
_LEFT_CELLS = [line.split("|")[1] for line in _MOVING.read_text().splitlines() if line.startswith("|")]


@pytest.mark.parametrize("word", OF_DCOS)
def test_every_setting_and_file_of_dcos_is_mapped(word: str) -> None:
    begins = r"(?<![\w-])" if word[0].isalnum() else ""
    whole = re.compile(rf"{begins}{re.escape(word)}(?![\w-])")
    codes = [code for cell in _LEFT_CELLS for code in re.findall(r"`([^`]+)`", cell)]
    assert any(whole.search(code) for code in codes), f"no table of the page has {word} on its left"
