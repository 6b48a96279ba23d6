# SPDX-License-Identifier: Apache-2.0
"""README.md and docs/networks.md are run: every command in them, in their order, on one lab host."""
