# SPDX-License-Identifier: Apache-2.0
"""What a container hangs by: its link, the end of it inside the sandbox, and its limits."""
