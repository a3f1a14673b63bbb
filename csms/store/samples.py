"""Meter samples: append-only, one wide row per instant and reading context.

SQLite files those of sessions late (filing.py), so that there are two places to read.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, select

from csms.core.model import MeterSample, Session
from csms.store import filing, tables
from csms.store.columns import text_from, us_from
from csms.store.filing_tables import sample_tail
from csms.store.purging import purge
from csms.store.statements import Hot, Tx, parameters

_M = tables.meter_sample
_W = sample_tail
_S = tables.station_sample

_VALUES = (
    "at",
    "context",
    "energy_wh",
    "power_w",
    "current_a",
    "voltage_v",
    "soc",
    "power_offered_w",
    "current_offered_a",
    "flags",
)
_OF_SESSION = ("session_number", *_VALUES)
_OF_EVSE = ("station_id", "evse_id", *_VALUES)
_INSERT = Hot(
    lambda insert: insert(_M).values(parameters(_M, _OF_SESSION)).on_conflict_do_nothing(),
    _OF_SESSION,
)
_APPEND = Hot(
    lambda insert: insert(_W).values(parameters(_W, _OF_SESSION)),
    _OF_SESSION,
    then=filing.samples_came,
)
_INSERT_STATION = Hot(
    lambda insert: insert(_S).values(parameters(_S, _OF_EVSE)).on_conflict_do_nothing(),
    _OF_EVSE,
)


def append_samples(tx: Tx, session: Session, samples: Sequence[MeterSample]) -> None:
    """Store the samples of a session; one with the same instant and context is kept as it is."""
    statement = _APPEND if tx.dialect == "sqlite" else _INSERT
    for sample in samples:
        tx.later(statement, (session.number, *_stored(sample)))


def append_meter(tx: Tx, station_id: str, evse_id: int, samples: Sequence[MeterSample]) -> None:
    """Store samples outside transactions; EVSE 0 is the station's main meter."""
    if samples:
        tx.run_all(_INSERT_STATION, [(station_id, evse_id, *_stored(sample)) for sample in samples])


def samples(
    tx: Tx,
    session_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100_000,
) -> list[MeterSample]:
    """Return a session's samples in [since, until), oldest first."""
    number = (
        select(tables.session.c.number)
        .where(tables.session.c.session_id == session_id)
        .scalar_subquery()
    )

    def within(table: Table) -> Select[Any]:
        statement = select(*(table.c[name] for name in _VALUES))
        statement = statement.where(table.c.session_number == number)
        if since is not None:
            statement = statement.where(table.c.at >= since)
        return statement if until is None else statement.where(table.c.at < until)

    found = tx.execute(within(_M).order_by(_M.c.at, _M.c.context).limit(limit))
    kept = [MeterSample(**row._mapping) for row in found]
    if tx.dialect == "sqlite":
        filed = {(sample.at, sample.context): sample for sample in kept}
        for row in tx.execute(within(_W).order_by(_W.c.tail_id)):
            sample = MeterSample(**row._mapping)
            filed.setdefault((sample.at, sample.context), sample)
        if len(filed) > len(kept):
            kept = [filed[key] for key in sorted(filed)[:limit]]
    return kept


def meter_readings(
    tx: Tx,
    station_id: str,
    evse_id: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100_000,
) -> list[MeterSample]:
    """Return the samples outside transactions in [since, until), oldest first."""
    statement = select(*(_S.c[name] for name in _VALUES)).where(
        _S.c.station_id == station_id, _S.c.evse_id == evse_id
    )
    if since is not None:
        statement = statement.where(_S.c.at >= since)
    if until is not None:
        statement = statement.where(_S.c.at < until)
    found = tx.execute(statement.order_by(_S.c.at, _S.c.context).limit(limit))
    return [MeterSample(**row._mapping) for row in found]


def purge_meter(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of samples outside transactions from before `before`; return how many."""
    return purge(tx, _S, _S.c.at < before)


def _stored(sample: MeterSample) -> tuple[Any, ...]:
    return (
        us_from(sample.at),
        sample.context,
        sample.energy_wh,
        sample.power_w,
        text_from(sample.current_a),
        sample.voltage_v,
        sample.soc,
        sample.power_offered_w,
        sample.current_offered_a,
        text_from(sample.flags),
    )
