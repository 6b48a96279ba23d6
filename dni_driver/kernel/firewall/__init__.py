# SPDX-License-Identifier: Apache-2.0
"""Which packets pass: dni's own nftables tables and iptables chain, kept as wanted."""
