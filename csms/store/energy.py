"""Energy per quarter hour: meter samples folded into what the forecast and the analytics read.

A register counts up between two readings at an unknown pace; the fold lets it rise evenly. A
session whose station sends no register is integrated from its power, each value held until the
next, for a quarter of an hour at most.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import and_, delete, func, select

from csms.core.model import MeterSample, Session
from csms.core.units import SLOT_S, slot_start
from csms.store import filing, tables
from csms.store.columns import us_from
from csms.store.samples import samples
from csms.store.sessions import overlapping_sessions
from csms.store.statements import Hot, Tx, parameter, parameters

_Q = tables.quarter_energy
_M = tables.meter_sample
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """How far a session is folded: all that lies before `from_at` stays as it is.

    `from_at` starts the quarter of the last point that counted, which was at `last_at`; `before` is
    the last such point ahead of it. A point is an instant with Wh, or W where `is_register` is
    false.
    """

    from_at: datetime
    last_at: datetime
    before: tuple[datetime, float] | None
    is_register: bool
    start: tuple[datetime, float | None]
    end: tuple[datetime | None, float | None]
    samples_until_last: int
    samples: int


_COUNT = Hot(
    lambda insert: select(func.count(), func.count().filter(_M.c.at <= parameter(_M.c.at))).where(
        _M.c.session_number == parameter(_M.c.session_number)
    ),
    ("at", "session_number"),
)


def fold_new(
    tx: Tx, site_id: str, since: datetime, until: datetime, known: Mapping[int, Folded]
) -> dict[int, Folded]:
    """Fold what is new of each session open at some time in [since, until), all of it.

    `known` is what the call before returned, by session; a session that is not in it is folded
    from its beginning, and so is one of which something older than its last point came. The sums
    are those of `fold_energy`.
    """
    if tx.dialect == "sqlite":
        filing.file_samples(tx)
    found = {
        session.number: _folded(tx, session, known.get(session.number))
        for session in overlapping_sessions(tx, site_id, since, until)
    }
    return {number: folded for number, folded in found.items() if folded is not None}


def _folded(tx: Tx, session: Session, done: Folded | None) -> Folded | None:
    """Fold one session; return how far it is, None while nothing of it counts."""
    at = session.started_at if done is None else done.last_at
    row = tx.row(_COUNT, (us_from(at), session.number))
    assert row is not None, "a count returned no row"
    start = (session.started_at, session.meter_start_wh)
    end = (session.ended_at, session.meter_last_wh if session.ended_at else None)
    if done is not None:
        if (row[0], start, end) == (done.samples, done.start, done.end):
            return done
        is_later = row[1] == done.samples_until_last and start == done.start
        ended_at = session.ended_at
        if end != done.end:
            is_end = done.end[0] is None and ended_at is not None and ended_at >= done.last_at
            is_later = is_later and is_end
        if not is_later:
            done = None
    taken = samples(tx, session.session_id, since=None if done is None else done.from_at)
    if done is not None and not done.is_register and _register(session, taken, None, done):
        # A register now tells what was integrated from power until here.
        return _folded(tx, session, None)
    before = None if done is None else done.before
    register = _register(session, taken, before if done and done.is_register else None, done)
    is_register = done.is_register if done is not None else len(register) > 1
    points = register if is_register else _powers(taken, before)
    pieces = _rises(points) if is_register else _integrals(session, points)
    from_at = None if done is None else done.from_at
    _replace(tx, session, _quarters(pieces), from_at)
    if not points:
        return None
    last_at = points[-1][0]
    from_at = slot_start(last_at)
    row = tx.row(_COUNT, (us_from(last_at), session.number))
    assert row is not None, "a count returned no row"
    return Folded(
        from_at=from_at,
        last_at=last_at,
        before=next((p for p in reversed(points) if p[0] < from_at), None),
        is_register=is_register,
        start=start,
        end=end,
        samples_until_last=row[1],
        samples=row[0],
    )


def _replace(
    tx: Tx, session: Session, quarters: Mapping[datetime, float], from_at: datetime | None
) -> None:
    """Store a session's quarter hours from `from_at` on, or all, in place of what was there."""
    old = _Q.c.session_number == session.number
    tx.execute(delete(_Q).where(old if from_at is None else and_(old, _Q.c.starts_at >= from_at)))
    rows = [
        (session.site_id, us_from(starts_at), session.number, kwh)
        for starts_at, kwh in sorted(quarters.items())
        if from_at is None or starts_at >= from_at
    ]
    if rows:
        tx.run_all(_INSERT, rows)


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
    return _quarters(_rises(register) if len(register) > 1 else _integrals(session, _powers(found)))


def _quarters(pieces: Iterable[tuple[datetime, datetime, float]]) -> dict[datetime, float]:
    """Return quarter hour -> kWh of intervals with their Wh."""
    quarters: defaultdict[datetime, float] = defaultdict(float)
    for start, end, energy_wh in pieces:
        for quarter, share in _split(start, end):
            quarters[quarter] += energy_wh * share / 1000.0
    return {start: kwh for start, kwh in quarters.items() if kwh > 0.0}


def _register(
    session: Session,
    found: Iterable[MeterSample],
    before: tuple[datetime, float] | None = None,
    done: Folded | None = None,
) -> list[tuple[datetime, float]]:
    """Return the register's readings by time; one below its predecessor is no reading.

    With `done` those from there on, behind the last one `before`.
    """
    points = [
        (s.at, s.energy_wh)
        for s in found
        if s.energy_wh is not None and "register_jump" not in s.flags
    ]
    edges = [(session.started_at, session.meter_start_wh)]
    if session.ended_at is not None:
        edges.append((session.ended_at, session.meter_last_wh))
    points += [
        (at, wh) for at, wh in edges if wh is not None and (done is None or at >= done.from_at)
    ]
    rising = [] if before is None else [before]
    for point in sorted(points):
        if not rising or point[1] >= rising[-1][1]:
            rising.append(point)
    return rising


def _powers(
    found: Iterable[MeterSample], before: tuple[datetime, float] | None = None
) -> list[tuple[datetime, float]]:
    """Return the values of power by time, behind the last one `before`."""
    powers = [(s.at, s.power_w) for s in found if s.power_w is not None]
    return powers if before is None else [before, *powers]


def _rises(
    points: Sequence[tuple[datetime, float]],
) -> Iterator[tuple[datetime, datetime, float]]:
    for (start, before), (end, after) in pairwise(points):
        yield start, end, after - before


def _integrals(
    session: Session, powers: Sequence[tuple[datetime, float]]
) -> Iterator[tuple[datetime, datetime, float]]:
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
