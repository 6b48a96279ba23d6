# SPDX-License-Identifier: Apache-2.0
"""Addresses: which pool is meant, which one comes next, for whom, and how many are left."""
