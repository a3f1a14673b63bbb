"""SQLite: rows are appended as they come and filed under their session many at a time.

A message belongs to its transaction and a sample to its session, so that storing them in their
place at once dirties a page of its own for each: two thirds of all that was written. Instead they
go to the end of a table, and after every `MOST` of them their keys (messages) or they themselves
(samples) are filed in order by one statement, in the transaction of the group that brought the last
of them. Both places are durable and both are read; only whoever reads has to know of it, and does
by the functions here. In PostgreSQL, where other nodes write too, everything is filed at once.
"""

from collections.abc import Hashable

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, true, update

from csms.store import filing_tables, tables
from csms.store.statements import Hot, Tx

MOST = 1_000
"""Rows that may wait to be filed; filing so many takes some milliseconds."""

_E = tables.session_event
_M = tables.meter_sample
_K = filing_tables.event_key
_F = filing_tables.filed
_W = filing_tables.sample_tail

_KEY = ("station_id", "transaction_id", "seq_no", "digest", "event_id")
_SAMPLES_WAITING = "samples to file"
_EVENTS_WAITING = "events to file"

_up_to = select(_F.c.up_to).scalar_subquery()

# --- messages ------------------------------------------------------------------------------------

# `WHERE true` lets SQLite's parser tell ON CONFLICT from a join's ON.
_FILE_EVENTS = Hot(
    lambda insert: (
        insert(_K)
        .from_select(
            _KEY,
            select(*(_E.c[name] for name in _KEY))
            .where(_E.c.event_id > _up_to)
            .order_by(*(_E.c[name] for name in _KEY)),
        )
        .on_conflict_do_nothing()
    ),
    (),
)
_EVENTS_FILED = Hot(
    lambda insert: update(_F).values(
        up_to=func.coalesce(select(func.max(_E.c.event_id)).scalar_subquery(), _F.c.up_to)
    ),
    (),
)
_COUNT_EVENTS = Hot(
    lambda insert: select(func.count()).select_from(_E).where(_E.c.event_id > _up_to), ()
)


def file_events(tx: Tx) -> None:
    """File what waits, so that `event_key` knows every message."""
    tx.run(_FILE_EVENTS, ())
    tx.run(_EVENTS_FILED, ())
    tx.memory.put(_EVENTS_WAITING, 0)


def events_came(tx: Tx, rows: int) -> None:
    """Take note of `rows` new messages, and file them once there are many."""
    if _waiting(tx, _EVENTS_WAITING, _COUNT_EVENTS, rows) >= MOST:
        file_events(tx)


def is_of_transaction(tx: Tx, station_id: str, transaction_id: str) -> ColumnElement[bool]:
    """Return what holds for the messages of a transaction, filed or not."""
    named = and_(_E.c.station_id == station_id, _E.c.transaction_id == transaction_id)
    if tx.dialect != "sqlite":
        return named
    keys = select(_K.c.event_id).where(
        _K.c.station_id == station_id, _K.c.transaction_id == transaction_id
    )
    return or_(_E.c.event_id.in_(keys), and_(_E.c.event_id > _up_to, named))


# --- samples -------------------------------------------------------------------------------------

_SAMPLE = tuple(column.name for column in _M.c)
_FILE_SAMPLES = Hot(
    lambda insert: (
        insert(_M)
        .from_select(
            _SAMPLE,
            select(*(_W.c[name] for name in _SAMPLE))
            .where(true())
            .order_by(_W.c.session_number, _W.c.at, _W.c.tail_id),
        )
        .on_conflict_do_nothing()
    ),
    (),
)
_EMPTY = Hot(lambda insert: delete(_W), ())
_COUNT_SAMPLES = Hot(lambda insert: select(func.count()).select_from(_W), ())


def file_samples(tx: Tx) -> None:
    """File what waits; the first of several with the same key stays, as everywhere."""
    tx.run(_FILE_SAMPLES, ())
    tx.run(_EMPTY, ())
    tx.memory.put(_SAMPLES_WAITING, 0)


def samples_came(tx: Tx, rows: int) -> None:
    """Take note of `rows` new samples, and file them once there are many."""
    if _waiting(tx, _SAMPLES_WAITING, _COUNT_SAMPLES, rows) >= MOST:
        file_samples(tx)


def _waiting(tx: Tx, name: Hashable, count: Hot, more: int) -> int:
    """Return how many rows wait, `more` of which are new; counted in the table when not known."""
    known: int | None = tx.memory.get(name)
    if known is None:
        found = tx.row(count, ())
        assert found is not None, "a count returned no row"
        known, more = int(found[0]), 0
    tx.memory.put(name, known + more)
    return known + more
