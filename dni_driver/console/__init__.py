# SPDX-License-Identifier: Apache-2.0
"""The operator API: `app` answers it, `server` serves it on a Unix socket, `client` asks it.

The client alone is for every command, so it is imported from its own module, without Flask.
"""
