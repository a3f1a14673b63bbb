"""Readings of meters, their quarter hours, and forecasts of load and own generation."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import delete, or_, select

from csms.core.metering import Expected, Quarter, Reading
from csms.core.units import SLOT_S, slot_start
from csms.store import metering_tables as tables
from csms.store.purging import purge
from csms.store.statements import Tx

_R = tables.meter_reading
_Q = tables.meter_quarter
_E = tables.expected_load
_QUARTER = timedelta(seconds=SLOT_S)


# --- readings ------------------------------------------------------------------------------------


def add_readings(tx: Tx, site_id: str, meter: str, readings: Sequence[Reading]) -> None:
    """Store readings, replacing those of the same instants, and fold the quarter hours they touch.

    The last reading of a quarter hour also counts at the beginning of the next one.
    """
    key = {"site_id": site_id, "meter": meter}
    tx.upsert_all(_R, ["site_id", "meter", "at"], [{**key, **asdict(r)} for r in readings])
    touched = {slot_start(r.at) for r in readings}
    later = {start + _QUARTER for start in touched} - touched
    starts = sorted(touched | {start for start in later if _is_folded(tx, site_id, meter, start)})
    folded = [_folded(tx, site_id, meter, start) for start in starts]
    tx.upsert_all(_Q, ["site_id", "meter", "starts_at"], [{**key, **asdict(q)} for q in folded])


def _is_folded(tx: Tx, site_id: str, meter: str, start: datetime) -> bool:
    found = select(_Q.c.starts_at).where(
        _Q.c.site_id == site_id, _Q.c.meter == meter, _Q.c.starts_at == start
    )
    return tx.execute(found).first() is not None


def _folded(tx: Tx, site_id: str, meter: str, start: datetime) -> Quarter:
    """Return a quarter hour of readings, each value holding until the next."""
    end = start + _QUARTER
    inside = readings_between(tx, site_id, meter, start, end)
    before = newest_reading(tx, site_id, meter, before=start)
    if before is not None and before.at >= start - _QUARTER:
        held = [(start, before.power_kw), *((r.at, r.power_kw) for r in inside)]
    else:
        held = [(start, inside[0].power_kw), *((r.at, r.power_kw) for r in inside[1:])]
    total = sum(
        kw * ((until - since) / _QUARTER) for (since, kw), (until, _) in pairwise([*held, (end, 0)])
    )
    phases = [r.current_a for r in inside if r.current_a]
    return Quarter(
        starts_at=start,
        mean_kw=total,
        most_kw=max(r.power_kw for r in inside),
        most_a=tuple(map(max, zip(*phases, strict=True))),
    )


def newest_reading(
    tx: Tx, site_id: str, meter: str, *, before: datetime | None = None
) -> Reading | None:
    """Return a meter's newest reading, of those from before `before` where that is given."""
    statement = select(_R.c.at, _R.c.power_kw, _R.c.current_a).where(
        _R.c.site_id == site_id, _R.c.meter == meter
    )
    if before is not None:
        statement = statement.where(_R.c.at < before)
    row = tx.execute(statement.order_by(_R.c.at.desc()).limit(1)).first()
    return None if row is None else Reading(**row._mapping)


def readings_between(
    tx: Tx, site_id: str, meter: str, since: datetime, until: datetime
) -> list[Reading]:
    """Return a meter's readings in [since, until), oldest first."""
    found = tx.execute(
        select(_R.c.at, _R.c.power_kw, _R.c.current_a)
        .where(_R.c.site_id == site_id, _R.c.meter == meter, _R.c.at >= since, _R.c.at < until)
        .order_by(_R.c.at)
    )
    return [Reading(**row._mapping) for row in found]


def quarters(
    tx: Tx, site_id: str, meter: str, ranges: Iterable[tuple[datetime, datetime]]
) -> list[Quarter]:
    """Return a meter's quarter hours that start in any of `ranges`, [since, until) each."""
    within = [(_Q.c.starts_at >= since) & (_Q.c.starts_at < until) for since, until in ranges]
    found = tx.execute(
        select(_Q.c.starts_at, _Q.c.mean_kw, _Q.c.most_kw, _Q.c.most_a)
        .where(_Q.c.site_id == site_id, _Q.c.meter == meter, or_(*within))
        .order_by(_Q.c.starts_at)
    )
    return [Quarter(**row._mapping) for row in found]


def purge_readings(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of readings from before `before`, not their quarter hours; return how many."""
    return purge(tx, _R, _R.c.at < before)


def purge_quarters(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of quarter hours and forecasts that start before `before`; return how many."""
    return sum(purge(tx, table, table.c.starts_at < before) for table in (_Q, _E))


# --- forecasts -----------------------------------------------------------------------------------


def put_expected(
    tx: Tx, site_id: str, circuit_id: str, kind: str, points: Sequence[Expected]
) -> None:
    """Store a forecast, replacing all that was expected in the time it spans.

    What was expected of a time that reaches into it ends where it begins. `points` are in order
    and do not overlap.
    """
    if not points:
        return
    first, last = points[0].starts_at, points[-1].until
    own = (_E.c.site_id == site_id, _E.c.circuit_id == circuit_id, _E.c.kind == kind)
    tx.execute(delete(_E).where(*own, _E.c.starts_at >= first, _E.c.starts_at < last))
    tx.execute(
        _E.update().where(*own, _E.c.starts_at < first, _E.c.until > first).values(until=first)
    )
    key = {"site_id": site_id, "circuit_id": circuit_id, "kind": kind}
    tx.execute(_E.insert(), [{**key, **asdict(point)} for point in points])


def expected(
    tx: Tx, site_id: str, since: datetime, until: datetime
) -> dict[tuple[str, str], tuple[Expected, ...]]:
    """Return what is expected at some time in [since, until), by circuit and kind, in order."""
    rows = tx.execute(
        select(_E)
        .where(_E.c.site_id == site_id, _E.c.until > since, _E.c.starts_at < until)
        .order_by(_E.c.starts_at)
    )
    found: dict[tuple[str, str], list[Expected]] = {}
    for row in rows:
        values = dict(row._mapping)
        del values["site_id"]
        key = values.pop("circuit_id"), values.pop("kind")
        found.setdefault(key, []).append(Expected(**values))
    return {key: tuple(points) for key, points in found.items()}
