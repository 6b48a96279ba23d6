# SPDX-License-Identifier: Apache-2.0
"""Real dockerd, real kernel: what a user types, and what must be true afterwards."""
