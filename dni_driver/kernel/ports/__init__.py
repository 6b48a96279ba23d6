# SPDX-License-Identifier: Apache-2.0
"""Published ports: held by sockets, led to containers by a table of their own."""
