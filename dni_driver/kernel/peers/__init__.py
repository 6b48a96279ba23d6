# SPDX-License-Identifier: Apache-2.0
"""Other agents: the VTEP, and what the kernel knows of each peer."""
