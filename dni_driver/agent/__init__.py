# SPDX-License-Identifier: Apache-2.0
"""What dni does in the background, out of dockerd's way."""
