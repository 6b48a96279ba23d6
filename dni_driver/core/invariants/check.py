# SPDX-License-Identifier: Apache-2.0
"""What must be true of this host: of the store in itself, of the kernel by it, and of Docker beside it."""

from __future__ import annotations

from dni_driver.core.invariants.docker import beside_docker
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.invariants.kernel import in_the_kernel
from dni_driver.core.invariants.store import in_the_store
from dni_driver.core.records import Records
from dni_driver.core.views import DockerView, KernelView
from dni_driver.core.wanted import Wanted


def findings(
    records: Records, kernel: KernelView | None, docker: DockerView | None, wanted: Wanted, now: float
) -> list[Finding]:
    """Answer everything that is wrong; kernel and Docker, where given, must have been read after the records.

    `now` is in seconds since 1970: what changed less than a minute ago may still be on its way to kernel and Docker.
    """
    found = list(in_the_store(records))
    if kernel is not None:
        found += in_the_kernel(records, kernel, wanted, now)
    if docker is not None:
        found += beside_docker(records, docker, now)
    return found
