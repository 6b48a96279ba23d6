# SPDX-License-Identifier: Apache-2.0
"""The kernel room on a real kernel, in network namespaces made for each test."""
