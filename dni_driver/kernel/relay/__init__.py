# SPDX-License-Identifier: Apache-2.0
"""Carries those callers of published ports to containers that the kernel cannot lead there itself."""
