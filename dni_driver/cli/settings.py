# SPDX-License-Identifier: Apache-2.0
"""What can be set: the sections of /etc/dni/dni.toml, their keys, and what is allowed for each."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dni_driver.core import agent_ip
from dni_driver.core.data_plane.vteps import LONGEST, WIDEST
from dni_driver.core.driver_name import PLAIN
from dni_driver.core.listen_address import ListenAddress
from dni_driver.core.mesos.address import MesosAddress
from dni_driver.core.mesos.cni_conf import Ipam
from dni_driver.core.overlays import LONGEST_PREFIX, VTEP_SUBNET, Address, Network, Overlay, define
from dni_driver.core.registry_address import ALLOWED, LOCAL, read_address

_WEEK = 7 * 24 * 3600.0
_YEAR = 365 * 24 * 3600.0
_LONGEST_SOCKET_PATH = 107
"""unix(7): sun_path has 108 bytes, one ends it."""

SocketPath = Annotated[
    Path,
    Meta(
        description=f"an absolute path of at most {_LONGEST_SOCKET_PATH} bytes",
        extra={"longest": _LONGEST_SOCKET_PATH},
    ),
]
DriverName = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9_.:/-]+\Z", description="the name of a Docker plugin, such as dni or dni:latest")
]
Directory = Annotated[Path, Meta(description="an absolute path")]
Seconds = Annotated[float, Meta(ge=0.1, le=_WEEK, description="a number of seconds from 0.1 to 604800 (a week)")]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every table of the file. A key's description says what is allowed there."""


class AgentSettings(Section, frozen=True):
    """`[agent]`: `ip` names this host in the cluster; None: the address of the default route's interface.

    An IPv6 one only where all agents have one.
    """

    ip: Annotated[
        Address | None,
        Meta(
            description="an address of this host, such as 10.0.0.1 or fd00::11",
            extra={"reader": agent_ip.read_own},
        ),
    ] = None


class OverlaySettings(Section, frozen=True):
    """`[overlay]`: the default overlay. A prefix of None is 24 (IPv6: 80), or the subnet's own where longer.

    `vtep_subnet` is where the agents of the cluster have their VTEPs from; None: where the registry says.
    """

    name: Annotated[str, Meta(description="1 to 13 characters of a-z, 0-9, '-' and '_'")] = "dcos"
    subnet: Annotated[IPv4Network | None, Meta(description="an IPv4 subnet such as 9.0.0.0/8")] = IPv4Network(
        "9.0.0.0/8"
    )
    prefix: Annotated[int | None, Meta(description=f"a number of bits up to {LONGEST_PREFIX[4]}")] = None
    subnet6: Annotated[IPv6Network | None, Meta(description="an IPv6 subnet such as fd01:b::/64")] = None
    prefix6: Annotated[int | None, Meta(description=f"a number of bits up to {LONGEST_PREFIX[6]}")] = None

    vtep_subnet: Annotated[
        IPv4Network | None,
        Meta(description=f"an IPv4 subnet of /{WIDEST} to /{LONGEST}, such as {VTEP_SUBNET}"),
    ] = None

    def overlay(self) -> Overlay:
        """Answer the default overlay; raise Refused where the keys do not fit together."""
        subnets: list[Network] = [subnet for subnet in (self.subnet, self.subnet6) if subnet is not None]
        return define(self.name, subnets, (self.prefix, self.prefix6))


class RegistrySettings(Section, frozen=True):
    """`[registry]`: where the cluster records who holds what; `local` is a database on this host alone.

    `token_file` is for a Mesos agent, and holds what it wants to see. With `user` and `password`, which are for
    ZooKeeper, nobody else may read or write what dni keeps there. Either is asked over TLS with `tls`: `ca` is whose
    certificates are believed, `certificate` and `key` are shown of this host. `reclaim_after`: an agent that was not
    seen for so many seconds may lose its agent subnets to others; None: never.
    """

    url: Annotated[str, Meta(description=ALLOWED)] = LOCAL
    token_file: Annotated[Path | None, Meta(description="an absolute path")] = None
    user: Annotated[
        Annotated[str, Meta(pattern=r"\A[^:\s]+\Z")] | None, Meta(description="a name without spaces and colons")
    ] = None
    password: Annotated[str | None, Meta(description="a text in quotes", extra={"secret": True})] = None
    tls: Annotated[bool, Meta(description="true or false")] = False
    ca: Annotated[Path | None, Meta(description="an absolute path")] = None
    certificate: Annotated[Path | None, Meta(description="an absolute path")] = None
    key: Annotated[Path | None, Meta(description="an absolute path")] = None
    reclaim_after: Annotated[
        Annotated[float, Meta(ge=60.0, le=_YEAR)] | None,
        Meta(description="a number of seconds from 60 to 31536000 (a year)"),
    ] = None

    def default_overlay(self, overlay: Overlay) -> Overlay | None:
        """Answer the overlay that is there without anybody defining it: with Mesos those that Mesos has."""
        return None if isinstance(read_address(self.url), MesosAddress) else overlay


class StoreSettings(Section, frozen=True):
    """`[store]`: `directory` holds `dni.db` and `registry.db`."""

    directory: Directory = Path("/var/lib/dni")


class RunSettings(Section, frozen=True):
    """`[run]`: `directory` holds locks and what need not survive a reboot."""

    directory: Directory = Path("/run/dni")


class PluginSettings(Section, frozen=True):
    """`[plugin]`: the socket that dockerd finds, and how many of its calls are answered at a time.

    `driver` is what users type after `-d`: `dni`, or the name and tag of a managed plugin.
    """

    socket: SocketPath = Path("/run/docker/plugins/dni.sock")
    threads: Annotated[int, Meta(ge=1, le=512, description="a whole number from 1 to 512")] = 32
    driver: DriverName = PLAIN


class ApiSettings(Section, frozen=True):
    """`[api]`: the socket of the operator API, which `dni status` and its like ask.

    `listen`: where what changes nothing is answered over TCP too; None: nowhere.
    """

    socket: SocketPath = Path("/run/dni/dni.sock")
    listen: Annotated[
        ListenAddress | None,
        Meta(description='an address and port such as "127.0.0.1:62090", or a port alone, "62090", for loopback'),
    ] = None


class DockerSettings(Section, frozen=True):
    """`[docker]`: the socket of the Docker API.

    `create_networks`: whether dni makes the Docker networks of overlays; "auto" leaves the default overlay's to the
    user where the registry is local.
    """

    socket: SocketPath = Path("/run/docker.sock")
    create_networks: Annotated[bool | Literal["auto"], Meta(description='true, false or "auto"')] = "auto"


class CollectorSettings(Section, frozen=True):
    """`[collector]`: for how long something must have leaked before it is freed, in seconds.

    `claim_grace` is for an address that never got an endpoint.
    """

    grace: Seconds = 900.0
    claim_grace: Seconds = 120.0


class CniSettings(Section, frozen=True):
    """`[cni]`: where a CNI runtime finds the overlays, and who hands out the addresses of their Mesos halves.

    `directory` of None: nothing is written.
    """

    directory: Annotated[
        Path | None, Meta(description="an absolute path, such as /opt/mesosphere/etc/dcos/network/cni")
    ] = None
    ipam: Annotated[Ipam, Meta(description='"host-local" or "dni"')] = "host-local"


class LogSettings(Section, frozen=True):
    """`[log]`: from which level on, and in which form, lines go to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description='"debug", "info", "warning" or "error"'),
    ] = "info"
    format: Annotated[Literal["console", "json"], Meta(description='"console" or "json"')] = "console"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, checked."""

    agent: AgentSettings = AgentSettings()
    overlay: OverlaySettings = OverlaySettings()
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()
    run: RunSettings = RunSettings()
    plugin: PluginSettings = PluginSettings()
    api: ApiSettings = ApiSettings()
    docker: DockerSettings = DockerSettings()
    collector: CollectorSettings = CollectorSettings()
    cni: CniSettings = CniSettings()
    log: LogSettings = LogSettings()
