# SPDX-License-Identifier: Apache-2.0
"""ZooKeeper servers of Debian's package, on loopback ports or in a node of the lab."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

from tests.lab import procfs
from tests.lab.errors import LabError
from tests.lab.node import Node

_JARS = Path("/usr/share/java")
JAR = _JARS / "zookeeper.jar"
_BESIDE = (_JARS / "netty-codec.jar", _JARS / "slf4j-simple.jar")
"""For TLS, and so that it says what is wrong."""
_PORT, _PEERS, _ELECTIONS = 2181, 2888, 3888
_LOWEST_PORT = 1024
_GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
TICK_SECONDS = 0.5
"""A server gives sessions of 2 to 20 ticks."""

_READY_SECONDS = 30
_STOP_SECONDS = 30
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_SETTINGS = """\
tickTime={tick}
initLimit=20
syncLimit=5
dataDir={directory}
clientPort={port}
clientPortAddress={host}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""
_TLS = """\
secureClientPort={port}
secureClientPortAddress={host}
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
ssl.keyStore.location={certificates}/server.pem
ssl.keyStore.type=PEM
ssl.trustStore.location={certificates}/ca.pem
ssl.trustStore.type=PEM
ssl.clientAuth=need
"""

_ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as connection:
    connection.sendall(sys.argv[3].encode())
    while part := connection.recv(65536):
        sys.stdout.write(part.decode())
"""


class ZooKeeper:
    """One server, alone or of an ensemble; what it has written is in `directory`, and outlasts `stop` and `kill`."""

    def __init__(self, directory: Path, node: Node | None = None, host: str | None = None) -> None:
        """Start nothing yet: on a port of loopback that is free, or on the usual one of a node of the lab.

        There it is at `host`, else at the node's IPv4 address.
        """
        self.host = host or (node.address if node else "127.0.0.1")
        self.port = _PORT if node else free_port()
        self._host = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{self._host}:{self.port}"
        peers, elections = (_PEERS, _ELECTIONS) if node else (free_port(), free_port())
        self.member = f"{self._host}:{peers}:{elections}"
        """Where other servers of an ensemble find it."""
        self._directory = directory
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)
        self._log = directory / "zookeeper.log"
        self._settings = _SETTINGS.format(
            tick=int(TICK_SECONDS * 1000), directory=directory, port=self.port, host=self.host
        )

    def be_one_of(self, number: int, servers: list[ZooKeeper]) -> None:
        """Be server `number` of an ensemble, the first being number 1."""
        (self._directory / "myid").write_text(f"{number}\n")
        for other, server in enumerate(servers, 1):
            self._settings += f"server.{other}={server.member}\n"

    def speak_tls(self, certificates: Path) -> str:
        """Speak TLS as well, to who shows a certificate of `ca.pem`, with `server.pem`; answer where."""
        port = free_port()
        self._settings += _TLS.format(port=port, host=self.host, certificates=certificates)
        return f"{self.host}:{port}"

    def launch(self) -> None:
        """Start the server without waiting for it."""
        if not JAR.exists():
            raise LabError(f"there is no {JAR}: apt-get install zookeeper")
        (self._directory / "zoo.cfg").write_text(self._settings)
        java = ["java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        path = ":".join(map(str, (JAR, *_BESIDE)))
        command = [*java, quiet, "-cp", path, _MAIN, str(self._directory / "zoo.cfg")]
        self._process = self._spawn(["setpriv", "--pdeathsig", "KILL", "--", *command])

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the server answers as one that serves."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self.mode():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"ZooKeeper does not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def mode(self) -> str | None:
        """Answer `standalone`, `leader` or `follower`; None while it does not serve."""
        lines = self.ask("srvr").splitlines()
        return next((line.removeprefix("Mode: ") for line in lines if line.startswith("Mode: ")), None)

    @property
    def pid(self) -> int:
        """Answer the process of a server that runs."""
        if self._process is None:
            raise LabError("ZooKeeper does not run")
        return self._process.pid

    def ask(self, word: str) -> str:
        """Answer what the server says to one of its four letter words; nothing where it does not answer."""
        command = [sys.executable, "-c", _ASK, self.host, str(self.port), word]
        if self._node is not None:
            return self._node.try_run(*command).stdout
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout

    def stop(self) -> None:
        """End the server with SIGTERM; nothing where it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Have the server stand still, with its connections open."""
        procfs.stop(self._running().pid)

    def thaw(self) -> None:
        """Have it go on."""
        self._running().send_signal(signal.SIGCONT)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        if self._node is not None:
            return self._node.spawn(*command, log=self._log)
        with self._log.open("ab") as output:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise LabError("ZooKeeper does not run")
        return self._process

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
            raise LabError("ZooKeeper does not stop") from None


@contextlib.contextmanager
def running(directory: Path) -> Iterator[ZooKeeper]:
    """Give a server that runs, and end it afterwards, whatever state it is in."""
    server = ZooKeeper(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def ensemble(directory: Path, size: int) -> Iterator[list[ZooKeeper]]:
    """Give servers that agree with each other, and end them afterwards."""
    servers = [ZooKeeper(directory / str(number)) for number in range(1, size + 1)]
    try:
        start_together(servers)
        yield servers
    finally:
        for server in servers:
            server.kill()


def start_together(servers: list[ZooKeeper]) -> None:
    """Make an ensemble of servers that have never run, and wait until each serves."""
    for number, server in enumerate(servers, 1):
        server.be_one_of(number, servers)
    start_again(servers)


def start_again(servers: list[ZooKeeper]) -> None:
    """Start servers that were an ensemble before, and wait until each serves."""
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_until_ready()


def url_of(servers: list[ZooKeeper], place: str = "dni") -> str:
    """Answer what `registry.url` is to be."""
    return f"zookeeper://{','.join(server.address for server in servers)}/{place}"


def free_port() -> int:
    """Answer a port on loopback that nobody has at the moment.

    None of those that the kernel gives to who calls: a server that is away would find its own port taken.
    """
    chance, lowest_given = SystemRandom(), int(_GIVEN_PORTS.read_text().split()[0])
    while True:
        port = chance.randrange(_LOWEST_PORT, max(lowest_given, 10 * _LOWEST_PORT))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return port
