"""Planning cases with their plans, and the schedules that stations hold.

A case is kept next to its plan, so that every plan can be made again from what it was made of.
"""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, update

from csms.core.commands import Outcome, Schedule, SchedulePeriod
from csms.core.errors import NotFound
from csms.core.model import SessionState
from csms.core.plan import Plan, PlanningCase
from csms.store import plan_tables as tables
from csms.store import tables as session_tables
from csms.store.columns import at_from, us_from
from csms.store.pages import Page, newest_first
from csms.store.purging import purge
from csms.store.statements import Tx

_P = tables.plan
_I = tables.installed_schedule
_SESSION = session_tables.session


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHead:
    """A plan as a list shows it; `cpu_s` is what planning took."""

    plan_id: int
    site_id: str
    made_at: datetime
    why: str
    status: str
    strategy: str
    shortfall_kwh: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan with the case it was made of."""

    head: PlanHead
    case: PlanningCase
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledSchedule:
    """A schedule that was sent for a session, and what became of it.

    `row_kw` is (slots,) of the plan it was cut from, slot k being [edges_at[k], edges_at[k+1]).
    """

    install_id: int = 0
    session_id: str
    profile_id: int
    schedule: Schedule
    edges_at: tuple[datetime, ...]
    row_kw: tuple[float, ...]
    sent_at: datetime
    outcome: Outcome
    command_id: int | None = None
    plan_id: int | None = None


# --- plans ---------------------------------------------------------------------------------------

_HEAD_COLUMNS = [_P.c[name] for name in PlanHead.__dataclass_fields__]


def insert_plan(tx: Tx, case: PlanningCase, plan: Plan, *, why: str, cpu_s: float) -> int:
    """Store a plan with its case and return its id."""
    # The bodies are worth compressing: a case of 50 cars and two days is 150 kB of digits.
    statement = _P.insert().values(
        site_id=plan.site_id,
        made_at=plan.made_at,
        why=why,
        status=plan.status,
        strategy=str(plan.strategy),
        shortfall_kwh=plan.shortfall_kwh,
        cpu_s=cpu_s,
        case_z=zlib.compress(case.to_json().encode(), 6),
        plan_z=zlib.compress(plan.to_json().encode(), 6),
    )
    return int(tx.execute(statement.returning(_P.c.plan_id)).scalar_one())


def latest_plan(tx: Tx, site_id: str) -> StoredPlan | None:
    """Return a site's newest plan."""
    row = tx.execute(
        select(_P).where(_P.c.site_id == site_id).order_by(_P.c.plan_id.desc()).limit(1)
    ).first()
    return None if row is None else _plan_from(row)


def get_plan(tx: Tx, plan_id: int) -> StoredPlan:
    """Return a plan with its case; raise NotFound."""
    row = tx.execute(select(_P).where(_P.c.plan_id == plan_id)).first()
    if row is None:
        raise NotFound(f"no plan {plan_id}")
    return _plan_from(row)


def list_plans(tx: Tx, *, site_id: str = "", limit: int = 50, cursor: str = "") -> Page[PlanHead]:
    """Return plans without their bodies, newest first."""
    filters = [_P.c.site_id == site_id] if site_id else []
    page = newest_first(
        tx,
        select(*_HEAD_COLUMNS),
        key=_P.c.plan_id,
        filters=filters,
        limit=limit,
        cursor=cursor,
    )
    found = tuple(PlanHead(**row._mapping) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)


def purge_plans(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of plans made before `before`, no site's newest; return how many."""
    newest = select(func.max(_P.c.plan_id)).group_by(_P.c.site_id)
    return purge(tx, _P, _P.c.made_at < before, _P.c.plan_id.not_in(newest))


def _plan_from(row: Any) -> StoredPlan:
    head = PlanHead(**{name: row._mapping[name] for name in PlanHead.__dataclass_fields__})
    return StoredPlan(
        head=head,
        case=PlanningCase.from_json(zlib.decompress(row.case_z).decode()),
        plan=Plan.from_json(zlib.decompress(row.plan_z).decode()),
    )


# --- installed schedules -------------------------------------------------------------------------

_INSTALLED = (
    "session_id",
    "profile_id",
    "schedule",
    "edges_us",
    "row_kw",
    "sent_at",
    "outcome",
    "command_id",
    "plan_id",
)


def insert_installed(tx: Tx, installed: InstalledSchedule) -> int:
    """Store a schedule that was sent, with its outcome, and return its id."""
    schedule = asdict(installed.schedule)
    schedule["starts_at"] = us_from(installed.schedule.starts_at)
    statement = _I.insert().values(
        session_id=installed.session_id,
        profile_id=installed.profile_id,
        schedule=schedule,
        edges_us=tuple(us_from(edge) for edge in installed.edges_at),
        row_kw=installed.row_kw,
        sent_at=installed.sent_at,
        outcome=installed.outcome,
        command_id=installed.command_id,
        plan_id=installed.plan_id,
    )
    return int(tx.execute(statement.returning(_I.c.install_id)).scalar_one())


def schedules_since(
    tx: Tx, session_ids: Sequence[str], since: datetime
) -> dict[str, tuple[InstalledSchedule, ...]]:
    """Return the schedules in force at each of the sessions at some time from `since` on, in order.

    Those are what its station accepted since then, and the last that it accepted before.
    """
    if not session_ids:
        return {}
    accepted = (_I.c.session_id.in_(session_ids), _I.c.outcome == Outcome.ACCEPTED)
    before = (
        select(func.max(_I.c.install_id))
        .where(*accepted, _I.c.sent_at < since)
        .group_by(_I.c.session_id)
    )
    rows = tx.execute(
        select(_I)
        .where(*accepted, or_(_I.c.sent_at >= since, _I.c.install_id.in_(before)))
        .order_by(_I.c.install_id)
    )
    found: dict[str, tuple[InstalledSchedule, ...]] = {}
    for row in rows:
        found[row.session_id] = (*found.get(row.session_id, ()), _installed_from(row))
    return found


DOUBTFUL = (
    Outcome.SENT,
    Outcome.NO_ANSWER,
    Outcome.INVALID_ANSWER,
    Outcome.CALL_ERROR,
    Outcome.IGNORED,
)
"""Outcomes after which a station may hold a schedule without having said so."""


REFUSED = (Outcome.REJECTED, Outcome.CALL_ERROR, Outcome.NOT_SUPPORTED)
_REFUSALS_KEPT = 8


def refused_schedules(tx: Tx, session_ids: Sequence[str]) -> dict[str, tuple[Schedule, ...]]:
    """Return, for each session, the newest schedules its station refused since it took one."""
    found = _since_accepted(tx, session_ids, REFUSED)
    return {
        i: tuple(kept.schedule for kept in those[-_REFUSALS_KEPT:]) for i, those in found.items()
    }


def doubtful_schedules(
    tx: Tx, session_ids: Sequence[str]
) -> dict[str, tuple[InstalledSchedule, ...]]:
    """Return, for each session, what was sent after its last accepted schedule and may be held."""
    return _since_accepted(tx, session_ids, DOUBTFUL)


def _since_accepted(
    tx: Tx, session_ids: Sequence[str], outcomes: Sequence[Outcome]
) -> dict[str, tuple[InstalledSchedule, ...]]:
    if not session_ids:
        return {}
    accepted = (
        select(_I.c.session_id, func.max(_I.c.install_id).label("newest"))
        .where(_I.c.session_id.in_(session_ids), _I.c.outcome == Outcome.ACCEPTED)
        .group_by(_I.c.session_id)
        .subquery()
    )
    found = tx.execute(
        select(_I)
        .outerjoin(accepted, accepted.c.session_id == _I.c.session_id)
        .where(
            _I.c.session_id.in_(session_ids),
            _I.c.outcome.in_(outcomes),
            _I.c.install_id > func.coalesce(accepted.c.newest, 0),
        )
        .order_by(_I.c.install_id)
    )
    since: dict[str, tuple[InstalledSchedule, ...]] = {}
    for row in found:
        since[row.session_id] = (*since.get(row.session_id, ()), _installed_from(row))
    return since


def taken_by(tx: Tx, station_id: str, *, limit: int = 10) -> tuple[Schedule, ...]:
    """Return the schedules a station accepted last, for whatever session, newest first."""
    found = tx.execute(
        select(_I)
        .join(_SESSION, _SESSION.c.session_id == _I.c.session_id)
        .where(_SESSION.c.station_id == station_id, _I.c.outcome == Outcome.ACCEPTED)
        .order_by(_I.c.install_id.desc())
        .limit(limit)
    )
    return tuple(_installed_from(row).schedule for row in found)


def running_schedule(tx: Tx, station_id: str, profile_id: int) -> InstalledSchedule | None:
    """Return what a station accepted last under a profile id for a session that is still open."""
    row = tx.execute(
        select(_I)
        .join(_SESSION, _SESSION.c.session_id == _I.c.session_id)
        .where(
            _SESSION.c.station_id == station_id,
            _SESSION.c.state == SessionState.OPEN,
            _I.c.profile_id == profile_id,
            _I.c.outcome == Outcome.ACCEPTED,
        )
        .order_by(_I.c.install_id.desc())
        .limit(1)
    ).first()
    return None if row is None else _installed_from(row)


def finish_installed(
    tx: Tx, install_id: int, outcome: Outcome, *, command_id: int | None = None
) -> None:
    """Store what became of a schedule that was kept as sent before it went out."""
    tx.execute(
        update(_I)
        .where(_I.c.install_id == install_id)
        .values(outcome=outcome, command_id=command_id)
    )


def ignored(tx: Tx, install_id: int) -> None:
    """Store that a schedule was accepted and found not to be in force."""
    tx.execute(update(_I).where(_I.c.install_id == install_id).values(outcome=Outcome.IGNORED))


def list_installed(tx: Tx, session_id: str, *, limit: int = 100) -> list[InstalledSchedule]:
    """Return the schedules sent for a session, newest first, whatever became of them."""
    found = tx.execute(
        select(_I)
        .where(_I.c.session_id == session_id)
        .order_by(_I.c.install_id.desc())
        .limit(limit)
    )
    return [_installed_from(row) for row in found]


def purge_installed(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of schedules sent before `before`; return how many."""
    return purge(tx, _I, _I.c.sent_at < before)


def _installed_from(row: Any) -> InstalledSchedule:
    values = {name: row._mapping[name] for name in _INSTALLED}
    schedule = values.pop("schedule")
    schedule["starts_at"] = at_from(schedule["starts_at"])
    schedule["periods"] = tuple(SchedulePeriod(**period) for period in schedule["periods"])
    edges = tuple(at_from(us) for us in values.pop("edges_us"))
    return InstalledSchedule(
        install_id=row.install_id, schedule=Schedule(**schedule), edges_at=edges, **values
    )
