# SPDX-License-Identifier: Apache-2.0
"""A simulated dockerd drives the real handlers over the real store, through crashes of either."""
