"""Energy per quarter hour: meter samples folded into what the forecast and the analytics read.

A register counts up between two readings at an unknown pace; the fold lets it rise evenly. A
session whose station sends no register is integrated from its power, each value held until the
next, for a quarter of an hour at most.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import delete, func, select

from csms.core.model import MeterSample, Session
from csms.core.units import SLOT_S, slot_start
from csms.store import filing, tables
from csms.store.columns import us_from
from csms.store.samples import samples
from csms.store.sessions import overlapping_sessions
from csms.store.statements import Hot, Tx, parameters

_Q = tables.quarter_energy
_QUARTER = timedelta(seconds=SLOT_S)
_COLUMNS = ("site_id", "starts_at", "session_number", "energy_kwh")
_INSERT = Hot(lambda insert: insert(_Q).values(parameters(_Q, _COLUMNS)), _COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarterEnergy:
    """Energy in the quarter hour from `starts_at` on, and the number of cars that took it."""

    starts_at: datetime
    energy_kwh: float
    sessions: int


def fold_energy(tx: Tx, site_id: str, since: datetime, until: datetime) -> int:
    """Fold the samples of every quarter hour that starts in [since, until); return rows written.

    What was folded there before is replaced, so it may run again, and has to after a station
    brought events it had kept offline.
    """
    first, last = _up(since), _up(until)
    if last <= first:
        return 0
    if tx.dialect == "sqlite":
        # Every session's samples are read below: from one place then instead of two.
        filing.file_samples(tx)
    tx.execute(
        delete(_Q).where(_Q.c.site_id == site_id, _Q.c.starts_at >= first, _Q.c.starts_at < last)
    )
    rows = [
        (site_id, us_from(starts_at), session.number, energy_kwh)
        for session in overlapping_sessions(tx, site_id, first, last)
        for starts_at, energy_kwh in sorted(_of_session(tx, session).items())
        if first <= starts_at < last
    ]
    if rows:
        tx.run_all(_INSERT, rows)
    return len(rows)


def energy_by_quarter(
    tx: Tx, site_id: str, since: datetime, until: datetime
) -> list[QuarterEnergy]:
    """Return a site's folded energy per quarter hour in [since, until); empty ones are left out."""
    found = tx.execute(
        select(
            _Q.c.starts_at,
            func.sum(_Q.c.energy_kwh).label("energy_kwh"),
            func.count().label("sessions"),
        )
        .where(_Q.c.site_id == site_id, _Q.c.starts_at >= since, _Q.c.starts_at < until)
        .group_by(_Q.c.starts_at)
        .order_by(_Q.c.starts_at)
    )
    return [QuarterEnergy(**row._mapping) for row in found]


def energy_of_session(tx: Tx, session: Session) -> list[tuple[datetime, float]]:
    """Return a session's folded quarter hours as (start, kWh), oldest first."""
    found = tx.execute(
        select(_Q.c.starts_at, _Q.c.energy_kwh)
        .where(_Q.c.session_number == session.number)
        .order_by(_Q.c.starts_at)
    )
    return [(row.starts_at, row.energy_kwh) for row in found]


def quarters_of(tx: Tx, session: Session) -> list[tuple[datetime, float]]:
    """Return a session's quarter hours as (start, kWh) from its samples as they are now."""
    return sorted(_of_session(tx, session).items())


def _up(at: datetime) -> datetime:
    start = slot_start(at)
    return start if start == at else start + _QUARTER


def _of_session(tx: Tx, session: Session) -> dict[datetime, float]:
    found = samples(tx, session.session_id)
    register = _register(session, found)
    pieces = _rises(register) if len(register) > 1 else _integrals(session, found)
    quarters: defaultdict[datetime, float] = defaultdict(float)
    for start, end, energy_wh in pieces:
        for quarter, share in _split(start, end):
            quarters[quarter] += energy_wh * share / 1000.0
    return {start: kwh for start, kwh in quarters.items() if kwh > 0.0}


def _register(session: Session, found: Iterable[MeterSample]) -> list[tuple[datetime, float]]:
    """Return the register's readings by time; one below its predecessor is no reading."""
    points = [
        (s.at, s.energy_wh)
        for s in found
        if s.energy_wh is not None and "register_jump" not in s.flags
    ]
    if session.meter_start_wh is not None:
        points.append((session.started_at, session.meter_start_wh))
    if session.meter_last_wh is not None and session.ended_at is not None:
        points.append((session.ended_at, session.meter_last_wh))
    rising: list[tuple[datetime, float]] = []
    for point in sorted(points):
        if not rising or point[1] >= rising[-1][1]:
            rising.append(point)
    return rising


def _rises(
    points: Sequence[tuple[datetime, float]],
) -> Iterator[tuple[datetime, datetime, float]]:
    for (start, before), (end, after) in pairwise(points):
        yield start, end, after - before


def _integrals(
    session: Session, found: Sequence[MeterSample]
) -> Iterator[tuple[datetime, datetime, float]]:
    powers = [(s.at, s.power_w) for s in found if s.power_w is not None]
    ends = [at for at, _ in powers[1:]]
    if powers:
        ends.append(session.ended_at or powers[-1][0])
    for (start, power_w), end in zip(powers, ends, strict=True):
        until = min(max(end, start), start + _QUARTER)
        yield start, until, power_w * ((until - start) / timedelta(hours=1))


def _split(start: datetime, end: datetime) -> Iterator[tuple[datetime, float]]:
    """Yield each quarter hour that [start, end] touches, with its share of the interval."""
    quarter = slot_start(start)
    if end <= start:
        yield quarter, 1.0
        return
    while quarter < end:
        inside = min(end, quarter + _QUARTER) - max(start, quarter)
        yield quarter, inside / (end - start)
        quarter += _QUARTER
