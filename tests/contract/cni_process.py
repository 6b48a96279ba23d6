# SPDX-License-Identifier: Apache-2.0
"""Does for containers of CNI what the agent does, each time in a process of its own, which a fuse may end.

usage: python -m tests.contract.cni_process FOLDER; each line `attach SANDBOX` or `detach` is answered by how that
process ended. This one has no thread: so it may be forked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dni_driver.agent.cni import Cni, CniOptions
from dni_driver.agent.ports import Time
from dni_driver.core.mesos.cni_wish import CniKey, CniWish
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.kernel import Kernel
from dni_driver.store import Store
from tests.contract.fuse import Fuse

KEY = CniKey(overlay="dcos", container="c1", ifname="eth0")
OPTIONS = EndpointOptions(egress=4_000_000, ingress=2_000_000, groups=("web",))


def wish(sandbox: str) -> CniWish:
    """Answer what is asked for: with all that there is to be made."""
    return CniWish(overlay="dcos", container="c1", ifname="eth0", sandbox=sandbox, options=OPTIONS)


def settings(folder: Path) -> CniOptions:
    """Answer what dni is told: bridge and rules of the Mesos half are there before a container comes."""
    return CniOptions(directory=folder / "net.d", ipam="dni", held=(folder / "networks",))


def _work(folder: Path, words: list[str]) -> None:
    fuse = Fuse(folder)
    fuse.lay()
    kernel = Kernel(folder / "run")
    cni = Cni(Store(folder / "dni.db", fuse.after_commit), kernel, settings(folder), Time(), lambda: None)
    if words[0] == "attach":
        cni.attach(wish(words[1]))
    else:
        cni.detach(KEY)
    kernel.drain()


def main() -> None:
    """Do what each line says."""
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            try:
                _work(folder, line.split())
            except BaseException as error:  # noqa: BLE001 - nothing may go on in a fork
                print(repr(error), file=sys.stderr)  # noqa: T201
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
