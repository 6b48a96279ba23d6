# SPDX-License-Identifier: Apache-2.0
"""`python -m dni_driver`, as `dni`."""

from dni_driver.cli import main

main()
