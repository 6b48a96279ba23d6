# SPDX-License-Identifier: Apache-2.0
"""A CNI runtime on a lab host: containers are named network namespaces, plugins are called as `cnitool` does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e import host_state
from tests.lab import Host
from tests.lab.node import REPOSITORY

DIRECTORY = "/etc/cni/net.d"
DEBIANS = "/usr/lib/cni"
OWN = "/run/cni-plugins"
_PROGRAMS = {
    "mesos-cni-port-mapper": f"exec {REPOSITORY}/tests/e2e/port_mapper.py",
    "dni-cni": "exec python3 -c 'from dni_driver.mesos.cni_plugin import main; main()'",
}


class Runtime:
    """Starts and stops containers of CNI."""

    def __init__(self, host: Host) -> None:
        """Put the plugins where it looks for them."""
        self.host = host
        self._containers: dict[str, dict[str, Any]] = {}
        host.run("mkdir", "-p", OWN)
        for name, line in _PROGRAMS.items():
            host.run("sh", "-c", f"cat > {OWN}/{name}; chmod +x {OWN}/{name}", stdin=f"#!/bin/sh\n{line}\n")

    def configuration(self, overlay: str = "dcos", *words: str) -> dict[str, Any]:
        """Answer the file that the agent wrote, or what `dni cni show` writes with further words."""
        if words:
            return dict(json.loads(self.host.dni("cni", "show", overlay, *words)))
        path = f"{DIRECTORY}/{overlay}.conf"
        text = host_state.eventually(lambda: self.host.try_run("cat", path).stdout, 20, f"there is no {path}")
        return dict(json.loads(text))

    def files(self) -> dict[str, str]:
        """Answer what is in the directory of configurations."""
        listed = self.host.run("ls", "-A", DIRECTORY).split()
        return {name: self.host.try_run("cat", f"{DIRECTORY}/{name}").stdout for name in listed}

    def start(self, name: str, configuration: dict[str, Any], **info: Any) -> str:
        """Start a container, with `info` as what Mesos asks of its network; answer its address."""
        if info:
            configuration = {**configuration, "args": {"org.apache.mesos": {"network_info": info}}}
        self.prepare(name, configuration)
        status, answer = self.call("ADD", name)
        assert status == 0, answer
        found = answer["ip4"]["ip"] if "ip4" in answer else answer["ips"][0]["address"]
        return str(found).partition("/")[0]

    def prepare(self, name: str, configuration: dict[str, Any]) -> None:
        """Make a container that is on no network yet; its loopback is the runtime's to see to."""
        self.host.run("ip", "netns", "add", name)
        self.host.run("ip", "-n", name, "link", "set", "lo", "up")
        self._containers[name] = configuration

    def call(self, command: str, name: str, **more: Any) -> tuple[int, Any]:
        """Call the plugin for a container, with `more` in its configuration; answer its status, and what it wrote."""
        configuration = {**self._containers[name], **more}
        path = f"{OWN}:{DEBIANS}"
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"id-of-{name}",
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": path,
        }
        plugin = configuration["type"]
        line = f"for at in {OWN} {DEBIANS}; do [ ! -x $at/{plugin} ] || exec $at/{plugin}; done"
        done = self.host.try_run("sh", "-c", line, stdin=json.dumps(configuration), env=environment)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr

    def stop(self, name: str) -> None:
        """Stop a container as a runtime does."""
        status, answer = self.call("DEL", name)
        assert status == 0, answer
        del self._containers[name]
        self.host.run("ip", "netns", "del", name)

    def forget_all(self) -> None:
        """Know of no containers any more, nor have their files, which are in memory where a host is not the lab's."""
        for name in self._containers:
            self.host.run("ip", "netns", "del", name)
        self._containers.clear()

    def stop_all(self) -> None:
        """Stop what is left."""
        for name in list(self._containers):
            self.stop(name)

    def inside(self, name: str, *argv: str) -> str:
        """Run a command in a container; answer its output."""
        return self.host.run("ip", "netns", "exec", name, *argv)

    def reaches(self, name: str, target: str) -> bool:
        """Tell whether a container gets an answer to ping."""
        ping = ("ping", "-c", "1", "-W", "2", target)
        return self.host.try_run("ip", "netns", "exec", name, *ping).returncode == 0


@contextmanager
def runtime(host: Host, ipam: str) -> Iterator[Runtime]:
    """Have dni write configurations on a host, and a runtime that uses them; then dni as it was before."""
    restart(host, ipam)
    made = Runtime(host)
    try:
        yield made
        made.stop_all()
    finally:
        made.forget_all()
        host.stop_dni()
        host.run("sh", "-c", f"rm -rf {OWN} /run/dcos")
        host_state.make_ready(host)
    path = Path(DIRECTORY, "dcos.conf")
    host_state.eventually(lambda: host.try_run("test", "!", "-e", str(path)).returncode == 0, 20, f"{path} is left")


def restart(host: Host, ipam: str) -> None:
    """Start dni anew, with CNI."""
    host.stop_dni()
    host.start_dni(**host_state.SETTINGS, cni_directory=DIRECTORY, cni_ipam=ipam)
    host_state.overlays(host)
