# SPDX-License-Identifier: Apache-2.0
"""Every write to the kernel: bridges, container links, forwarding, firewall."""

from dni_driver.core.errors import BridgeMissing
from dni_driver.kernel import front_door  # noqa: F401 - shuts it before pyroute2 is imported
from dni_driver.kernel.kernel import Kernel

__all__ = ["BridgeMissing", "Kernel"]
