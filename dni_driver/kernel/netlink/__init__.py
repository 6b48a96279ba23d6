# SPDX-License-Identifier: Apache-2.0
"""The wire: how the kernel is asked and told, and how it tells its news."""
