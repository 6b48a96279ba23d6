# SPDX-License-Identifier: Apache-2.0
"""What dni decides, and nothing it does: no I/O, no clock, no import of any other room."""
