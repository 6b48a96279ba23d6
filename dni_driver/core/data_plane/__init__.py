# SPDX-License-Identifier: Apache-2.0
"""How packets get to other agents: VTEPs, paths, and the entries these need."""
