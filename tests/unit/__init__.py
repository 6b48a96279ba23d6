# SPDX-License-Identifier: Apache-2.0
"""What each part decides and keeps: no root, no Docker, no network."""
