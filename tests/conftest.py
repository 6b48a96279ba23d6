# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: Hypothesis sets no time limits, and says how to repeat a failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dni", deadline=None, print_blob=True)
settings.load_profile("dni")
