# SPDX-License-Identifier: Apache-2.0
"""Tests: unit, simulation, contract, root, lab, e2e; and the demo and the benchmarks."""
