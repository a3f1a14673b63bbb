"""Deleting what is no longer needed, a little at a time.

One statement that deletes a year of rows would keep every station waiting for its answer: a purge
deletes at most BATCH rows, and is called again for as long as it found any.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from csms.store.statements import Tx

BATCH: Final = 500


def purge(tx: Tx, table: Table, *conditions: ColumnElement[bool]) -> int:
    """Delete at most BATCH rows that meet all `conditions`; return how many."""
    key: list[Any] = list(table.primary_key)
    some = select(*key).where(*conditions).limit(BATCH)
    name = key[0] if len(key) == 1 else tuple_(*key)
    return int(tx.execute(delete(table).where(name.in_(some))).rowcount)
