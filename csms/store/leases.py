"""Leases: what must happen once, wherever it happens, is done by whoever holds the row.

`now` is the caller's; nodes whose clocks differ by more than a lease's length could both hold it.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, or_

from csms.store import tables
from csms.store.statements import Tx

_L = tables.lease


def acquire(tx: Tx, name: str, owner: str, *, now: datetime, length: timedelta) -> bool:
    """Take or renew the lease `name` for `owner`; return False while another holds it."""
    statement = tx.insert(_L).values(name=name, owner=owner, until=now + length)
    taken = tx.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": statement.excluded.owner, "until": statement.excluded.until},
            where=or_(_L.c.owner == owner, _L.c.until <= now),
        ).returning(_L.c.name)
    )
    return taken.first() is not None


def renew(tx: Tx, name: str, owner: str, *, now: datetime, length: timedelta) -> bool:
    """Lengthen a lease that `owner` holds; return False if it was lost."""
    changed = tx.execute(
        _L.update()
        .where(_L.c.name == name, _L.c.owner == owner, _L.c.until > now)
        .values(until=now + length)
    ).rowcount
    return bool(changed)


def release(tx: Tx, name: str, owner: str) -> bool:
    """Give up a lease; return False if `owner` did not hold it."""
    return bool(tx.execute(delete(_L).where(_L.c.name == name, _L.c.owner == owner)).rowcount)
