#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for Mesos' port mapper, which Debian does not have: maps ports by DNAT, and delegates the rest.

It gives the delegate the network's name, the version and the arguments, as Mesos' does, and has its rules in a chain
that all traffic for the host's own addresses goes through.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Answer one call as a CNI plugin."""
    told = json.loads(sys.stdin.buffer.read())
    delegate = {**told["delegate"], **{key: told[key] for key in ("name", "cniVersion", "args") if key in told}}
    found = [Path(place, delegate["type"]) for place in os.environ["CNI_PATH"].split(":")]
    plugin = next(path for path in found if path.exists())
    done = subprocess.run([str(plugin)], input=json.dumps(delegate).encode(), stdout=subprocess.PIPE, check=False)
    sys.stdout.buffer.write(done.stdout)
    if done.returncode == 0:
        _settle_ports(told, done.stdout)
    return done.returncode


def _settle_ports(told: dict[str, Any], answer: bytes) -> None:
    chain, tag = told["chain"], f"container_id: {os.environ['CNI_CONTAINERID']}"
    if os.environ["CNI_COMMAND"] == "ADD":
        info = told.get("args", {}).get("org.apache.mesos", {}).get("network_info", {})
        address = json.loads(answer)["ip4"]["ip"].partition("/")[0]
        for mapping in info.get("port_mappings", ()):
            _prepare(chain)
            target = f"{address}:{mapping['container_port']}"
            way_in = ["!", "-i", told["excludeDevices"][-1], "-p", "tcp", "-m", "tcp"]
            way_in += ["--dport", str(mapping["host_port"])]
            _nat("-A", chain, *way_in, "-m", "comment", "--comment", tag, "-j", "DNAT", "--to-destination", target)


def _prepare(chain: str) -> None:
    listed = subprocess.run(["iptables", "-w", "-t", "nat", "-S", chain], capture_output=True, check=False)
    if listed.returncode != 0:
        local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", chain]
        _nat("-N", chain)
        _nat("-A", "PREROUTING", *local)
        _nat("-A", "OUTPUT", "!", "-d", "127.0.0.0/8", *local)


def _nat(*words: str) -> None:
    subprocess.run(["iptables", "-w", "-t", "nat", *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
