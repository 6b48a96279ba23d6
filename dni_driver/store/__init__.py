# SPDX-License-Identifier: Apache-2.0
"""This host's SQLite database, the truth about what was handed out. One module for each thing kept.

A function takes the transaction it works in first: `with store.write() as tx: addresses.release(tx, ...)`.
"""

from dni_driver.store.database import Store, Transaction

__all__ = ["Store", "Transaction"]
