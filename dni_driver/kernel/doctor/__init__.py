# SPDX-License-Identifier: Apache-2.0
"""What `dni doctor` wants to know of the kernel: read only."""
