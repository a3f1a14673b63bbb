"""What a driver's flexibility is worth: offers from the plan's own marginal costs.

A discount is a share of what the site saves, so an offer never costs more than it brings. What is
saved is measured by planning again with the one thing asked for changed, or against the row the
car would draw at once. Nothing is offered for less than SMALLEST_EUR or SMALLEST_POINTS.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from csms.core.model import Offer
from csms.core.plan import Plan, PlannedSession, PlanningCase, PlanningSession
from csms.planning.explain import MISSED_EUR_PER_KWH
from csms.planning.grid import Floats
from csms.planning.planner import plan

DRIVER_SHARE = 0.5
"""The part of a saving that goes to the driver."""
SMALLEST_EUR = 0.10
SMALLEST_POINTS = 5
POINTS_PER_KG = 10.0
POINTS_PER_SUNNY_KWH = 2.0
LATER = (timedelta(hours=1), timedelta(hours=2))


def offers(
    case: PlanningCase,
    result: Plan,
    session_id: str,
    *,
    holder_did: str = "",
    expected_kw: Sequence[float] = (),
) -> tuple[Offer, ...]:
    """Return what may be offered to the driver of `session_id` under the plan `result` of `case`.

    `expected_kw` (slots,) is the site's forecast load, for naming a predicted peak. A later
    departure takes two more plans, so ask for one car at a time. Offers are valid until the
    moment the flexibility would be used up; the ids are the same for the same case.
    """
    index = next((i for i, s in enumerate(case.sessions) if s.session_id == session_id), None)
    if index is None:
        return ()
    session, row = case.sessions[index], result.sessions[index]
    if session.fixed_kw is not None or session.departs_at <= case.now_at:
        return ()
    found = [
        _later_departure(case, result, index),
        _delayed_start(case, result, session, row, expected_kw),
        _sunny_hours(case, session, row) or _clean_hours(case, session, row),
    ]
    return tuple(replace(o, holder_did=holder_did) for o in found if o is not None)


def _offer(
    case: PlanningCase,
    session: PlanningSession,
    kind: str,
    *,
    starts_at: datetime,
    until: datetime,
    reason: str,
    discount_eur: float = 0.0,
    points: int = 0,
) -> Offer:
    return Offer(
        offer_id=f"{session.session_id}:{kind}:{int(case.now_at.timestamp())}",
        session_id=session.session_id,
        holder_did="",
        site_id=case.site_id,
        kind=kind,
        discount_eur=round(discount_eur, 2),
        points=points,
        starts_at=starts_at,
        until=until,
        reason=reason,
        made_at=case.now_at,
    )


def _later_departure(case: PlanningCase, result: Plan, index: int) -> Offer | None:
    """Offer the departure, one or two hours later, that saves most."""
    session = case.sessions[index]
    best: tuple[float, timedelta, float] | None = None
    for later in LATER:
        departs_at = session.departs_at + later
        if departs_at > case.edges_at[-1] or not _may_gain(case, result, index, departs_at):
            continue
        sessions = list(case.sessions)
        sessions[index] = replace(session, departs_at=departs_at)
        other = plan(replace(case, sessions=tuple(sessions)))
        fewer_kwh = result.shortfall_kwh - other.shortfall_kwh
        saved = _worth(result) - _worth(other)
        if best is None or saved > best[0] + 1e-6:
            best = (saved, later, fewer_kwh)
    if best is None or best[0] * DRIVER_SHARE < SMALLEST_EUR:
        return None
    saved, later, fewer_kwh = best
    hours = int(later / timedelta(hours=1))
    gain = (
        f"{fewer_kwh:.1f} kWh more for the cars of the site"
        if fewer_kwh > 0.05
        else f"the site's energy costs {saved:.2f} EUR less"
    )
    # What is missed is valued, not paid: the discount stays below what the energy itself costs.
    return _offer(
        case,
        session,
        "later_departure",
        starts_at=session.departs_at,
        until=session.departs_at + later,
        discount_eur=min(saved * DRIVER_SHARE, _bill(case, session)),
        reason=f"Leaving {hours} h later makes room: {gain}",
    )


def _may_gain(case: PlanningCase, result: Plan, index: int, departs_at: datetime) -> bool:
    """Return whether planning again is worth the work: a shortfall, or cheaper slots ahead."""
    session, row = case.sessions[index], result.sessions[index]
    if result.shortfall_kwh > 0 or any(v > 0.01 for v in result.limit_value_eur_per_kwh):
        return True
    prices = case.price_eur_per_kwh
    ahead = [
        p
        for p, at in zip(prices, case.edges_at, strict=False)
        if session.departs_at <= at < departs_at
    ]
    paid = [p for p, kw in zip(prices, row.power_kw, strict=True) if kw > 0]
    return bool(ahead and paid) and min(ahead) < max(paid) - 0.005


def _worth(result: Plan) -> float:
    return result.cost_eur + MISSED_EUR_PER_KWH * result.shortfall_kwh


def _bill(case: PlanningCase, session: PlanningSession) -> float:
    known = [p for p in case.price_eur_per_kwh if np.isfinite(p)]
    mean = sum(known) / len(known) if known else 0.0
    return max(mean, 0.0) * max(session.required_kwh, session.preferred_kwh)


def _delayed_start(
    case: PlanningCase,
    result: Plan,
    session: PlanningSession,
    row: PlannedSession,
    expected_kw: Sequence[float],
) -> Offer | None:
    """Offer something for not charging at once, if the plan moves energy out of dear slots."""
    moved = _at_once_kwh(case, session, row) - _energy_kwh(case, session, row)
    first = next((k for k, kw in enumerate(row.power_kw) if kw > 0), None)
    if first is None or case.edges_at[first] < case.now_at + timedelta(minutes=30):
        return None
    value = np.nan_to_num(np.array(case.price_eur_per_kwh))
    value = value + np.array(result.limit_value_eur_per_kwh)
    saved = float(moved @ value)
    if saved * DRIVER_SHARE < SMALLEST_EUR:
        return None
    begins = case.edges_at[first]
    load = np.array(expected_kw) if len(expected_kw) == case.slots else np.array(case.base_load_kw)
    peak_at = case.edges_at[int(np.argmax(load))]
    is_peak = case.now_at <= peak_at < begins and float(load.max()) > 1.2 * float(load.mean())
    why = "the site's predicted peak is over" if is_peak else "energy is cheaper by then"
    return _offer(
        case,
        session,
        "delayed_start",
        starts_at=max(case.now_at, session.available_at),
        until=begins,
        discount_eur=saved * DRIVER_SHARE,
        reason=f"Starting later, {why}: {saved:.2f} EUR saved against charging at once",
    )


def _clean_hours(case: PlanningCase, session: PlanningSession, row: PlannedSession) -> Offer | None:
    """Offer points for the CO2 that the plan avoids against charging at once."""
    own, at_once = _energy_kwh(case, session, row), _at_once_kwh(case, session, row)
    co2 = np.nan_to_num(np.array(case.co2_kg_per_kwh))
    avoided_kg = float((at_once - own) @ co2)
    points = int(avoided_kg * POINTS_PER_KG)
    if points < SMALLEST_POINTS:
        return None
    starts_at, until = _span(case, row)
    return _offer(
        case,
        session,
        "clean_hours",
        starts_at=starts_at,
        until=until,
        points=points,
        reason=f"Charging in clean hours avoids {avoided_kg:.1f} kg of CO2",
    )


def _sunny_hours(case: PlanningCase, session: PlanningSession, row: PlannedSession) -> Offer | None:
    """Offer points for the energy that comes from the site's own surplus."""
    if not case.solar_kw:
        return None
    surplus = np.maximum(np.array(case.solar_kw) - np.maximum(np.array(case.base_load_kw), 0), 0)
    own = _energy_kwh(case, session, row)
    sunny_kwh = float(np.minimum(own, np.nan_to_num(surplus) * np.array(case.hours())).sum())
    points = int(sunny_kwh * POINTS_PER_SUNNY_KWH)
    if points < SMALLEST_POINTS:
        return None
    starts_at, until = _span(case, row)
    return _offer(
        case,
        session,
        "sunny_hours",
        starts_at=starts_at,
        until=until,
        points=points,
        reason=f"Charging while the sun shines takes {sunny_kwh:.1f} kWh from the roof",
    )


def _span(case: PlanningCase, row: PlannedSession) -> tuple[datetime, datetime]:
    on = [k for k, kw in enumerate(row.power_kw) if kw > 0]
    return case.edges_at[on[0]], case.edges_at[on[-1] + 1]


def _inside_h(case: PlanningCase, session: PlanningSession) -> Floats:
    """Return how long the car is there in each slot, (slots,) hours."""
    start = max(session.available_at, case.now_at)
    hours = [
        (min(end, session.departs_at) - max(begin, start)) / timedelta(hours=1)
        for begin, end in zip(case.edges_at, case.edges_at[1:], strict=False)
    ]
    return np.asarray(np.maximum(np.array(hours), 0.0), dtype=np.float64)


def _energy_kwh(case: PlanningCase, session: PlanningSession, row: PlannedSession) -> Floats:
    power_kw = np.array(row.power_kw, dtype=np.float64)
    return np.asarray(power_kw * _inside_h(case, session), dtype=np.float64)


def _at_once_kwh(case: PlanningCase, session: PlanningSession, row: PlannedSession) -> Floats:
    """Return the same energy as the plan's, drawn at full power from now on, (slots,) kWh."""
    full = max(session.max_kw, 0.0) * _inside_h(case, session)
    before = np.cumsum(full) - full
    energy_kwh = float(_energy_kwh(case, session, row).sum())
    return np.asarray(np.clip(energy_kwh - before, 0.0, full), dtype=np.float64)
