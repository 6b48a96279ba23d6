# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a node: holds its namespaces until standard input closes, which the death of the lab does too.

The kernel ends every other process of the node with it.
"""

from __future__ import annotations

import signal
import sys

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are reaped by the kernel
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.read()
