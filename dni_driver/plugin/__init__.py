# SPDX-License-Identifier: Apache-2.0
"""What dockerd talks to: libnetwork's NetworkDriver and IpamDriver over a unix socket."""
