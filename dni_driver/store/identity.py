# SPDX-License-Identifier: Apache-2.0
"""By what this store is told from every other: a number made by chance, with the store."""

from __future__ import annotations

from uuid import uuid4

from dni_driver.store import meta
from dni_driver.store.database import Store

_KEY = "identity"


def of_store(store: Store) -> str:
    """Answer the identity, made now where there is none."""
    with store.read() as tx:
        known = meta.find(tx, _KEY)
    if known is not None:
        return known
    with store.write() as tx:
        known = meta.find(tx, _KEY)
        if known is None:
            known = uuid4().hex
            meta.put(tx, _KEY, known)
    return known
