"""Small planning cases to build tests from."""

from cmath import rect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import radians

from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase, PlanningSession

NOW = datetime(2026, 1, 12, 18, 0, tzinfo=UTC)


def at(hours: float) -> datetime:
    """Return the instant `hours` after NOW."""
    return NOW + timedelta(hours=hours)


def car(
    name: str = "a",
    *,
    required_kwh: float = 10.0,
    preferred_kwh: float | None = None,
    leaves_h: float = 8.0,
    arrives_h: float = 0.0,
    max_kw: float = 11.0,
    min_kw: float = 0.0,
    guard_kw: float = 0.0,
    **more: object,
) -> PlanningSession:
    """Return a session with what a test does not care about filled in."""
    return PlanningSession(
        session_id=name,
        station_id=f"station-{name}",
        evse_id=1,
        available_at=at(arrives_h),
        departs_at=at(leaves_h),
        required_kwh=required_kwh,
        preferred_kwh=required_kwh if preferred_kwh is None else preferred_kwh,
        max_kw=max_kw,
        min_kw=min_kw,
        guard_kw=guard_kw,
        **more,  # type: ignore[arg-type]
    )


def case(
    *cars: PlanningSession,
    slots: int = 32,
    slot_h: float = 0.25,
    limit_kw: float | Sequence[float] = 1000.0,
    price: float | Sequence[float] = 0.2,
    co2: float | Sequence[float] = 0.0,
    base_kw: float | Sequence[float] = 0.0,
    reserved_kw: float | Sequence[float] = 0.0,
    strategy: Strategy = Strategy.OPTIMAL,
    **more: object,
) -> PlanningCase:
    """Return a case from NOW on; single numbers are repeated for every slot."""

    def series(value: float | Sequence[float]) -> tuple[float, ...]:
        return (float(value),) * slots if isinstance(value, int | float) else tuple(value)

    return PlanningCase(
        site_id="site",
        now_at=NOW,
        strategy=strategy,
        edges_at=tuple(at(slot_h * k) for k in range(slots + 1)),
        limit_kw=series(limit_kw),
        base_load_kw=series(base_kw),
        reserved_kw=series(reserved_kw),
        price_eur_per_kwh=series(price),
        co2_kg_per_kwh=series(co2),
        sessions=cars,
        **more,  # type: ignore[arg-type]
    )


def from_slot(k: int, whole: PlanningCase) -> PlanningCase:
    """Return `whole` as it is at the start of slot `k`, if nothing has changed."""
    return replace(
        whole,
        now_at=whole.edges_at[k],
        edges_at=whole.edges_at[k:],
        limit_kw=whole.limit_kw[k:],
        base_load_kw=whole.base_load_kw[k:],
        reserved_kw=whole.reserved_kw[k:],
        price_eur_per_kwh=whole.price_eur_per_kwh[k:],
        co2_kg_per_kwh=whole.co2_kg_per_kwh[k:],
    )


def is_on_a_level(session: PlanningSession, kw: float) -> bool:
    """Return whether a station can be told `kw`."""
    current_a = kw * 1000.0 / (session.voltage_v * session.phases)
    if session.levels_a:
        return min(abs(current_a - a) for a in session.levels_a) < 1e-6
    step, value = (session.step_a, current_a) if session.step_a else (session.step_w, kw * 1000.0)
    return step == 0 or abs(value / step - round(value / step)) < 1e-5


def over_the_tree(of: PlanningCase, result: Plan, k: int) -> list[str]:
    """Return which fuses and phasor rows `result` passes in slot `k`, counted one car at a time.

    What guards and loads pass without any planned car is not the plan's doing.
    """
    least = [max(s.guard_kw, s.fixed_kw[k] if s.fixed_kw else 0.0) for s in of.sessions]
    draws = [
        max(row.power_kw[k], s.guard_kw)
        for s, row in zip(of.sessions, result.sessions, strict=True)
    ]
    both = zip(loads_of_the_tree(of, draws, k), loads_of_the_tree(of, least, k), strict=True)
    return [
        f"{name}: {load:.6f} of {limit:.6f}"
        for (name, load, limit), (_, without, _) in both
        if load > limit + 1e-5 and load > without + 1e-9
    ]


def loads_of_the_tree(
    of: PlanningCase, draws_kw: Sequence[float], k: int
) -> Iterator[tuple[str, float, float]]:
    """Yield name, load and limit of every fuse in slot `k` if the cars draw `draws_kw`.

    EVSEs without a planned session draw their guards.
    """
    parents = {c.circuit_id: c.parent_id for c in of.circuits}

    def at(series: tuple[float, ...]) -> float:
        return series[k] if len(series) > 1 else series[0]

    def is_below(place: str, circuit_id: str) -> bool:
        return bool(place) and (place == circuit_id or is_below(parents.get(place, ""), circuit_id))

    def amperes(session: PlanningSession, kw: float) -> float:
        return kw * 1000.0 / (session.voltage_v * session.phases)

    cars = list(zip(of.sessions, draws_kw, strict=True))
    for circuit in of.circuits:
        below = [c for c in of.circuits if is_below(c.circuit_id, circuit.circuit_id)]
        mine = [(s, kw) for s, kw in cars if is_below(s.circuit_id, circuit.circuit_id)]
        for p in (1, 2, 3) if circuit.limit_a else ():
            own = sum(at(c.load_a[p - 1]) for c in below if c.load_a)
            own += sum(c.idle_guard_a[p - 1] for c in below if c.idle_guard_a)
            on = [(s, kw) for s, kw in mine if not s.phases_used or p in s.phases_used]
            limit = at(circuit.limit_a[p - 1 if len(circuit.limit_a) > 1 else 0])
            yield f"{circuit.circuit_id} L{p}", own + sum(amperes(s, kw) for s, kw in on), limit
        if circuit.limit_kw:
            own = sum(at(c.load_kw) for c in below if c.load_kw)
            own += sum(c.idle_guard_kw for c in below)
            limit = at(circuit.limit_kw)
            yield f"{circuit.circuit_id} kW", own + sum(kw for _, kw in mine), limit
    yield from caps_of_the_site(of, cars, k)
    by_name = {s.session_id: (s, kw) for s, kw in cars}
    for row in of.limit_rows:
        total = 0j
        for term in row.terms:
            s, kw = by_name[term.session_id]
            total += rect(term.factor * amperes(s, kw), radians(term.angle_deg))
        yield row.row_id, abs(total), at(row.limit_a)


def caps_of_the_site(
    of: PlanningCase, cars: Sequence[tuple[PlanningSession, float]], k: int
) -> Iterator[tuple[str, float, float]]:
    """Yield name, load and limit of the site's phases under its caps in slot `k`, in amperes."""
    holding = [c for c in of.caps if not c.circuit_id and c.limit_a is not None]
    holding = [c for c in holding if c.starts_at < of.edges_at[k + 1]]
    for cap in [c for c in holding if of.edges_at[k] < c.ends_at]:
        for p in (1, 2, 3):
            own = of.base_load_a[p - 1][k] if of.base_load_a else of.base_load_kw[k] / 0.69
            own += of.idle_guard_a[p - 1] if of.idle_guard_a else of.idle_guard_kw / 0.23
            on = [(s, kw) for s, kw in cars if not s.phases_used or p in s.phases_used]
            cars_a = sum(kw * 1000.0 / (s.voltage_v * s.phases) for s, kw in on)
            yield f"site L{p} by {cap.source}", own + cars_a, cap.limit_a or 0.0


def broken_laws(of: PlanningCase, result: Plan) -> list[str]:
    """Return what `result` does that no plan may do, written from the case alone."""
    broken = []
    for k, start in enumerate(of.edges_at[:-1]):
        guards = of.idle_guard_kw + sum(
            s.guard_kw if s.fixed_kw is None else max(s.fixed_kw[k], s.guard_kw)
            for s in of.sessions
        )
        load, controlled = of.base_load_kw[k] + of.idle_guard_kw, 0.0
        for session, row in zip(of.sessions, result.sessions, strict=True):
            kw = row.power_kw[k]
            load += max(kw, session.guard_kw)
            if session.fixed_kw is not None:
                if kw != session.fixed_kw[k]:
                    broken.append(f"{session.session_id}: {kw} is not what it draws anyway")
                continue
            controlled += kw
            if kw != 0 and not session.min_kw - 1e-6 <= kw <= session.max_kw + 1e-6:
                broken.append(f"{session.session_id}, slot {k}: {kw} kW")
            if kw and not is_on_a_level(session, kw):
                broken.append(f"{session.session_id}, slot {k}: {kw} kW is on no level")
            is_overdue = session.departs_at <= max(of.now_at, session.available_at)
            if kw > 0 and start >= session.departs_at and not is_overdue:
                broken.append(f"{session.session_id}: power after departure in slot {k}")
        if of.base_load_kw[k] + guards > of.limit_kw[k] + 1e-9:
            if controlled:
                broken.append(f"slot {k}: {controlled} kW given where guards fill the site")
        elif load > of.limit_kw[k] + 1e-6:
            broken.append(f"slot {k}: {load} kW of {of.limit_kw[k]}")
    for k in range(of.slots):
        broken += [f"slot {k}: {text}" for text in over_the_tree(of, result, k)]
    for session, row in zip(of.sessions, result.sessions, strict=True):
        if (row.shortfall_kwh > 0) != bool(row.shortfall_reason):
            broken.append(f"{session.session_id}: shortfall without a reason, or the reverse")
    return broken
