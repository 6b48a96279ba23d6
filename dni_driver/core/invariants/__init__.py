# SPDX-License-Identifier: Apache-2.0
"""What must be true of this host; what has leaked of it, and when that may be freed."""
