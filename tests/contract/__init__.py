# SPDX-License-Identifier: Apache-2.0
"""The wire between dockerd and the plugin: a real socket, the real server, and dockerd played by a few rules."""
