"""A planning case one slot later: its first slot carried out as planned, nobody else come."""

from dataclasses import replace
from datetime import timedelta

from csms.core.plan import Plan, PlanningCase, PlanningSession

HOUR = timedelta(hours=1)


def given_kwh(case: PlanningCase, made: Plan) -> dict[str, float]:
    """Return what each car gets in the first slot."""
    ends_at = case.edges_at[1]
    found = {}
    for session, row in zip(case.sessions, made.sessions, strict=True):
        until, since = min(ends_at, session.departs_at), max(case.now_at, session.available_at)
        kwh = row.power_kw[0] * max((until - since) / HOUR, 0.0)
        found[session.session_id] = min(kwh, session.required_kwh)
    return found


def later(case: PlanningCase, made: Plan) -> PlanningCase:
    """Return `case` one slot later, its first slot carried out as planned."""
    now_at, given = case.edges_at[1], given_kwh(case, made)
    there: list[PlanningSession] = []
    guards_kw = case.idle_guard_kw
    for session, row in zip(case.sessions, made.sessions, strict=True):
        missing = session.required_kwh - given[session.session_id]
        if session.departs_at <= now_at or missing <= 1e-6:
            guards_kw += session.guard_kw
            continue
        is_on, is_here = row.power_kw[0] > 0, session.available_at <= case.now_at
        was_on = bool(session.current_kw)
        turned_at = session.since_on_at if is_on else session.since_off_at
        turned_at = turned_at if is_on == was_on and turned_at else case.now_at
        there.append(
            replace(
                session,
                required_kwh=missing,
                preferred_kwh=missing,
                delivered_kwh=session.delivered_kwh + given[session.session_id],
                current_kw=row.power_kw[0] if is_here else session.current_kw,
                since_on_at=turned_at if is_on else None,
                since_off_at=turned_at if was_on and not is_on else None,
                in_force_kw=row.power_kw[1:],
            )
        )
    return replace(
        case,
        now_at=now_at,
        edges_at=case.edges_at[1:],
        limit_kw=case.limit_kw[1:],
        base_load_kw=case.base_load_kw[1:],
        reserved_kw=case.reserved_kw[1:],
        price_eur_per_kwh=case.price_eur_per_kwh[1:],
        co2_kg_per_kwh=case.co2_kg_per_kwh[1:],
        idle_guard_kw=guards_kw,
        sessions=tuple(there),
        start=made.start,
    )
