# SPDX-License-Identifier: Apache-2.0
"""The `dni` command: starts the programs, and asks the running agent what people want to know."""

from dni_driver.cli.entry import main

__all__ = ["main"]
