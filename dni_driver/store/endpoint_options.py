# SPDX-License-Identifier: Apache-2.0
"""What was said of one endpoint, as the tables have it: JSON."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dni_driver.core.options.endpoint import EndpointOptions


def write_options(options: EndpointOptions) -> str:
    """Answer the text that is kept."""
    return msgspec.json.encode(options, enc_hook=str).decode()


def read_options(text: str) -> EndpointOptions:
    """Answer what a text says."""
    return msgspec.json.decode(text, type=EndpointOptions, dec_hook=_parsed)


def _parsed(kind: Callable[[str], object], text: str) -> object:
    """Make an address again of its text, which is how it is kept."""
    return kind(text)
