"""Leases: who does what only one process may do. Whether one lives shows in its beats moving."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from csms.store.lease_tables import lease
from csms.store.statements import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as it stands."""

    holder: str
    beats: int


def get_lease(tx: Tx, name: str) -> Lease | None:
    """Return the lease `name`, None where nobody holds it."""
    row = tx.execute(select(lease).where(lease.c.name == name)).first()
    return None if row is None else Lease(holder=row.holder, beats=row.beats)


def take_lease(tx: Tx, name: str, holder: str, *, over: Lease | None) -> bool:
    """Make `holder` the one; return False if the lease is not `over` any more (None: free)."""
    if get_lease(tx, name) != over:
        return False
    if over is None:
        tx.execute(insert(lease).values(name=name, holder=holder, beats=1))
        return True
    taken = tx.execute(
        update(lease)
        .where(lease.c.name == name, lease.c.holder == over.holder, lease.c.beats == over.beats)
        .values(holder=holder, beats=over.beats + 1)
    )
    return bool(taken.rowcount)


def renew_lease(tx: Tx, name: str, holder: str) -> bool:
    """Say that `holder` lives; return False if the lease is another's."""
    renewed = tx.execute(
        update(lease)
        .where(lease.c.name == name, lease.c.holder == holder)
        .values(beats=lease.c.beats + 1)
    )
    return bool(renewed.rowcount)


def drop_lease(tx: Tx, name: str, holder: str) -> None:
    """Let the lease go, if `holder` has it."""
    tx.execute(delete(lease).where(lease.c.name == name, lease.c.holder == holder))
