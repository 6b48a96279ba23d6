# SPDX-License-Identifier: Apache-2.0
"""The table of features names tests that exist, and who comes from DC/OS finds each of its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in (ROOT / "docs/features.md").read_text().splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip().replace(" ", "-"))
def test_what_we_claim_is_shown_by_a_test_that_exists(row: str) -> None:
    _, feature, _, ours, shown, _ = (cell.strip() for cell in row.split("|"))
    named = _NAME.findall(shown)
    assert named or ours.startswith("-"), f"nothing shows {feature!r}"
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"


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

_PAGE = ROOT / "docs/moving-from-dcos.md"
_LEFT_CELLS = [line.split("|")[1] for line in _PAGE.read_text().splitlines() if line.startswith("|")]


@pytest.mark.parametrize("word", OF_DCOS)
def test_every_setting_and_file_of_dcos_is_mapped(word: str) -> None:
    begins = r"(?<![\w-])" if word[0].isalnum() else ""
    whole = re.compile(rf"{begins}{re.escape(word)}(?![\w-])")
    codes = [code for cell in _LEFT_CELLS for code in re.findall(r"`([^`]+)`", cell)]
    assert any(whole.search(code) for code in codes), f"no table of the page has {word} on its left"
