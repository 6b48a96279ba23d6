# SPDX-License-Identifier: Apache-2.0
"""README.md is run: every command in it, in its order, on one lab host."""
