# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.demo.mesos`: two agents, four tasks on one port, two by Docker and two by CNI; all reach all.

The plan is that of the demo of Calico on Mesos, of 2015: tasks that all listen on port 9000.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import click

from tests.demo import asking, telling
from tests.demo.__main__ import map_of
from tests.demo.asking import Answers
from tests.demo.telling import dni, docker, lines, step, told
from tests.e2e import cni
from tests.e2e.cni import Runtime
from tests.e2e.containers import fetch
from tests.e2e.host_state import eventually
from tests.lab import Host, Lab, LabError
from tests.lab.zookeeper import ZooKeeper

PORT = 9000
_WAIT_SECONDS = 60
_ANSWER_SECONDS = 20
_HTTPD = ("httpd", "-f", "-p", str(PORT), "-h")
_FORMAT = "{{.Names}}\t{{.Status}}"

_INTRODUCTION = f"""\
Two Mesos agents: lab hosts with a Docker Engine and dni each, and a ZooKeeper that both know.
Mesos is not here. Its tasks are started in its way: by `docker run --net NAME`, and by calls of the CNI plugin that
{cni.DIRECTORY}/dcos.conf names. In place of Mesos' port mapper, which Debian does not have, is one of the tests."""


class Task(NamedTuple):
    """A probe: it serves its own name on port 9000."""

    name: str
    host: Host
    runtime: Runtime | None
    """Whose container it is; None for Docker's."""

    @property
    def kind(self) -> str:
        """Who started it."""
        return "CNI" if self.runtime else "Docker"

    def start(self) -> str:
        """Start it, and show how; answer its address."""
        return self._by_cni(self.runtime) if self.runtime else self._by_docker()

    def ask(self, address: str) -> str | None:
        """Answer what another serves, None where nothing comes."""
        url = f"http://{address}:{PORT}/"
        if not self.runtime:
            return fetch(self.host, self.name, url)
        done = self.host.try_run("ip", "netns", "exec", self.name, "curl", "-sS", "-m", "4", url)
        return done.stdout.strip() if done.returncode == 0 else None

    def _by_docker(self) -> str:
        script = f"mkdir /www; echo {self.name} > /www/index.html; exec {' '.join(_HTTPD)} /www"
        docker(self.host, "run", "-d", "--name", self.name, "--net", "dcos", "busybox", "sh", "-c", script)
        path = "{{.NetworkSettings.Networks.dcos.IPAddress}}"
        return self.host.docker("inspect", "--format", path, self.name)

    def _by_cni(self, runtime: Runtime) -> str:
        configuration = runtime.configuration()
        runtime.prepare(self.name, configuration)
        status, answer = runtime.call("ADD", self.name)
        call = ("CNI_COMMAND=ADD", f"CNI_CONTAINERID=id-of-{self.name}", configuration["type"])
        told(self.host, (*call, f"{cni.DIRECTORY}/dcos.conf"), json.dumps(answer))
        if status != 0:
            raise LabError(f"{self.name} is not on the network")
        site = f"{self.host.directory}/{self.name}"
        self.host.run("sh", "-c", f"mkdir {site}; echo {self.name} > {site}/index.html")
        self.host.spawn("ip", "netns", "exec", self.name, "busybox", *_HTTPD, site)
        return str(answer["ip4"]["ip"]).partition("/")[0]


def show(lab: Lab) -> bool:
    """Run the demo on the two hosts of a lab; tell whether all reached all."""
    _start_agents(lab)
    step(f"Without an overlay: four tasks on the hosts' own network, all of which want port {PORT}.")
    for host, pair in zip(lab.hosts, (("old-a", "old-b"), ("old-c", "old-d")), strict=True):
        _without_overlay(host, *pair)

    step(f"On overlay dcos: four tasks, all of which listen on port {PORT}.")
    tasks = _tasks(lab)
    addresses = {task.name: task.start() for task in tasks}

    step("Each asks each, itself too, for its name:")
    answers = _ask_all(tasks, addresses)
    names = [task.name for task in tasks]
    lines(*(f"{task.name}  {task.host.name}  {task.kind:<6}  {addresses[task.name]}" for task in tasks), "")
    lines(*asking.draw(names, answers))
    answered = asking.count(names, answers)
    questions = len(names) ** 2
    lines("", f"{answered} of {questions} were answered by whom they asked.")

    step("What dni has recorded:")
    dni(lab.hosts[0], "agent", "ls")
    for host in lab.hosts:
        dni(host, "address", "ls")
        lines(*map_of(host), "")
    return answered == questions


def _start_agents(lab: Lab) -> None:
    server = ZooKeeper(lab.outside.directory / "zookeeper", lab.outside)
    server.start()
    url = f"zookeeper://{server.address}/dni"
    for host in lab.hosts:
        host.start_dni(registry_url=url, cni_directory=cni.DIRECTORY, cni_ipam="dni")
    for host in lab.hosts:
        made = lambda: host.try_docker("network", "inspect", "dcos").returncode == 0  # noqa: B023, E731
        eventually(made, _WAIT_SECONDS, f"{host.name} has no Docker network dcos")


def _without_overlay(host: Host, *names: str) -> None:
    for name in names:
        docker(host, "run", "-d", "--name", name, "--net", "host", "busybox", *_HTTPD, "/etc")
        eventually(lambda: _settled(host, name), _ANSWER_SECONDS, f"{name} neither listens nor ends")  # noqa: B023
    docker(host, "ps", "-a", "--format", _FORMAT)
    said = host.try_docker("logs", names[-1])
    told(host, ("docker", "logs", names[-1]), said.stdout + said.stderr)
    host.docker("rm", "-f", *names)


def _settled(host: Host, name: str) -> bool:
    """Tell whether a task has ended, or listens as the first that came."""
    state = host.docker("inspect", "--format", "{{.State.Status}} {{.State.Pid}}", name).split()
    return state[0] == "exited" or f"pid={state[1]}," in host.run("ss", "-Hltnp", f"sport = :{PORT}")


def _tasks(lab: Lab) -> list[Task]:
    """Have one of each kind on each host."""
    one, two = lab.hosts
    return [
        Task("probe-a", one, None),
        Task("probe-b", one, Runtime(one)),
        Task("probe-c", two, None),
        Task("probe-d", two, Runtime(two)),
    ]


def _ask_all(tasks: list[Task], addresses: dict[str, str]) -> Answers:
    """Have each ask each; who has just been started is given a while to be there."""
    found: dict[tuple[str, str], str | None] = {}
    for asker in tasks:
        for asked, address in addresses.items():
            found[asker.name, asked] = _ask(asker, address)
    return found


def _ask(asker: Task, address: str) -> str | None:
    try:
        return eventually(lambda: asker.ask(address), _ANSWER_SECONDS, "no answer")
    except AssertionError:
        return None


def _demo() -> None:
    step(_INTRODUCTION)
    with Lab(hosts=2) as lab:
        if not show(lab):
            raise LabError("not all were reached")


def main() -> None:
    """Show it all and leave nothing behind, on Ctrl-C too."""
    telling.run(_demo)
    click.echo("\ndocs/mesos.md tells the rest.")


if __name__ == "__main__":
    main()
