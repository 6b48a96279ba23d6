# SPDX-License-Identifier: Apache-2.0
"""What this kernel can do, found out by doing it: in a network namespace made for the trial, which ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network
from shutil import which

from dni_driver.core.doctor.facts import Lack
from dni_driver.core.errors import DeadlineExceeded, DniError, KernelError
from dni_driver.core.guard import permits
from dni_driver.core.names import container_link, docker_bridge, host_link
from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.wanted import Link, Policy, Wanted
from dni_driver.kernel import namespaces
from dni_driver.kernel.command import run
from dni_driver.kernel.containers import links, shaping
from dni_driver.kernel.firewall import guard_table, nft
from dni_driver.kernel.ledger import in_words
from dni_driver.kernel.netlink.conversation import conversation
from dni_driver.kernel.ports import table as ports_table
from dni_driver.kernel.ports.holds import follows_sctp

_NAME = "trial0"
_SAMPLE = Wanted(
    policies=(
        Policy(
            overlay="trial",
            bridges=("d-trial",),
            subnets=(IPv4Network("192.0.2.0/24"),),
            masquerade=True,
            isolated=True,
            internal=False,
        ),
    )
)

_SAMPLE_LINK = Link(
    endpoint="0" * 64,
    host=host_link("0" * 64),
    container=container_link("0" * 64),
    bridge=docker_bridge("trial"),
    mtu=1400,
    mac="02:42:c0:00:02:02",
    addresses=(),
    gateways=(),
    limits=Limits(egress=1_000_000, ingress=1_000_000),
)

Trial = Callable[[], None]
"""Does something that needs a feature; raises OSError or KernelError where the kernel does not have it."""


def device(kind: str, **settings: str | int) -> Trial:
    """Build the trial of a kind of link."""

    def make() -> None:
        with conversation() as kernel:
            kernel.link("add", ifname=_NAME, kind=kind, **settings)
            kernel.link("del", ifname=_NAME)

    return make


def _shape() -> None:
    with conversation() as kernel:
        kernel.link("add", ifname=_SAMPLE_LINK.bridge, kind="bridge")
    links.attach(_SAMPLE_LINK)
    shaping.apply(_SAMPLE_LINK)


def _filter() -> None:
    """Load tables such as dni's own; where nft itself is missing, that is another matter."""
    if which("nft") is not None:
        run(["nft", "-f", "-"], nft.ruleset(_SAMPLE) + ports_table.structure(()))


def _guard() -> None:
    """As _filter: the table that checks what containers send."""
    if which("nft") is not None:
        run(["nft", "-f", "-"], guard_table.ruleset(permits([_SAMPLE_LINK])))


def _follow_sctp() -> None:
    _filter()
    if which("nft") is not None and not follows_sctp():
        raise KernelError("its connections are not followed (CONFIG_NF_CT_PROTO_SCTP)")


TRIALS: Mapping[str, Trial] = {
    "bridge": device("bridge"),
    "veth": device("veth", peer=f"{_NAME}p"),
    "vxlan": device("vxlan", vxlan_id=1024, vxlan_port=64000),
    "nftables": _filter,
    "bridge-nftables": _guard,
    "shaping": _shape,
    "sctp": _follow_sctp,
}


def lacks(trials: Mapping[str, Trial] = TRIALS) -> tuple[Lack, ...]:
    """Answer what this kernel does not have; raise KernelError where it cannot be tried."""
    try:
        return namespaces.in_a_new_one(lambda: tuple(_lacks(trials)))
    except OSError as error:
        raise KernelError(f"no network namespace can be made to try in: {in_words(error)}") from error


def _lacks(trials: Mapping[str, Trial]) -> Iterator[Lack]:
    for feature, attempt in trials.items():
        try:
            attempt()
        except DeadlineExceeded:
            raise
        except (DniError, OSError) as error:
            yield Lack(feature, in_words(error))
