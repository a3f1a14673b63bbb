"""A row of a plan -> the schedule a station accepts, and back to what the station will do.

Everything is rounded *down* and merged by the minimum: at no instant does a schedule allow more
than the plan. What a station refuses (units, many periods, fractions) is in its StationLimits.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil, floor

from csms.core.commands import Schedule, SchedulePeriod
from csms.core.model import StationLimits
from csms.core.units import MIN_CURRENT_A, a_from_w, floor_to, w_from_a

TAIL_S = 900
"""How long the explicit tail at the guard lasts before the schedule itself ends."""
LEAST_PERIODS_WITH_TAIL = 3
"""With fewer periods they are needed for the row: the guard follows the schedule's end anyway."""
RENEW_BEFORE_S = 1800
"""A schedule that ends this soon is replaced even if nothing else changed."""
OFF_S = 5
"""How long the pilot is off to wake a car; evcc and others do the same."""
RAISE_AFTER_S = 60
"""How much later than a reduction a raise at the same boundary starts: stations' clocks differ."""
STACK_LEVEL = 1
GUARD_PROFILE_ID = 900_000
PLAN_PROFILE_ID = 1_000_000
"""Our profile ids: guards and plans each have a range of their own, and one id per EVSE in it.

A station that keeps a TxProfile after its transaction then never holds two of ours.
"""
_OURS = range(GUARD_PROFILE_ID, 1_100_000)
MATERIAL_A = 1.0
MATERIAL_W = 230.0
_SAME = 0.05


def is_ours(profile_id: int) -> bool:
    """Return whether a profile's id is one that TASCO gives by itself (K13 of api.md)."""
    return profile_id in _OURS


def plan_profile_id(evse_id: int) -> int:
    """Return the id of the plan's profile on an EVSE."""
    return PLAN_PROFILE_ID + evse_id


def schedule(
    row_kw: Sequence[float],
    edges_at: Sequence[datetime],
    *,
    limits: StationLimits,
    profile_id: int,
    phases: int,
    voltage_v: float,
    starts_at: datetime,
    tail_kw: float,
    prefers_w: bool = False,
    raise_after_s: int = 0,
) -> Schedule:
    """Return `row_kw` (slots,) as a station with these `limits` takes it, from `starts_at` on.

    `starts_at` is a whole second slightly in the past, since some stations allow full power for a
    moment when a schedule starts just now. `prefers_w` is for DC, which has no phases to count.
    A raise to come starts `raise_after_s` late: the car that pays for it may stand at a station
    whose clock is slow.
    """
    if limits.max_periods <= 1:
        # One value for the whole horizon would be its least, often nothing at all. So it holds for
        # as long as the row stays the same, and is renewed before that is over.
        same = next((k for k, kw in enumerate(row_kw) if kw != row_kw[0]), len(row_kw))
        row_kw, edges_at = row_kw[:same], edges_at[: same + 1]
    wanted = ("W", "A") if prefers_w else ("A", "W")
    unit = next((u for u in wanted if u in limits.units), "A")
    pieces = periods(
        row_kw,
        edges_at,
        limits=limits,
        unit=unit,
        phases=phases,
        voltage_v=voltage_v,
        starts_at=starts_at,
        tail_kw=tail_kw,
        least_a=0.0 if prefers_w else MIN_CURRENT_A,
        raise_after_s=raise_after_s,
    )
    has_tail = _has_tail(limits)
    horizon_s = max(floor((edges_at[-1] - starts_at).total_seconds()), 1)
    return Schedule(
        profile_id=profile_id,
        stack_level=min(STACK_LEVEL, limits.max_stack_level),
        unit=unit,
        starts_at=starts_at.astimezone(UTC),
        duration_s=horizon_s + (TAIL_S if has_tail else 0),
        periods=pieces,
    )


def periods(
    row_kw: Sequence[float],
    edges_at: Sequence[datetime],
    *,
    limits: StationLimits,
    unit: str,
    phases: int,
    voltage_v: float,
    starts_at: datetime,
    tail_kw: float,
    least_a: float = MIN_CURRENT_A,
    raise_after_s: int = 0,
) -> tuple[SchedulePeriod, ...]:
    """Return the periods of a row, at most `limits.max_periods`, the first at 0 s.

    Starts are whole seconds and increase strictly. Values below `least_a` become 0: a control
    pilot cannot offer them (IEC 61851-1). Where there are too many periods, those are merged by
    their minimum that lose the least energy, energy far ahead counting less: it is planned again
    before it comes.
    """

    def value(kw: float) -> float:
        return _limit(
            kw, unit=unit, limits=limits, phases=phases, voltage_v=voltage_v, least_a=least_a
        )

    runs = _runs([value(kw) for kw in row_kw], edges_at, starts_at, raise_after_s)
    most = max(limits.max_periods, 1)
    has_tail = _has_tail(limits)
    horizon_s = max(floor((edges_at[-1] - starts_at).total_seconds()), 1)
    tail = value(tail_kw)
    merged = _merged(runs, most, horizon_s)
    if has_tail and merged[-1][1] != tail:
        merged = _merged(runs, most - 1, horizon_s)
        if merged[-1][1] != tail:
            merged.append((max(horizon_s, merged[-1][0] + 1), tail))
    in_watts = phases if unit == "W" and least_a > 0 else None
    return tuple(SchedulePeriod(start_s=at, limit=limit, phases=in_watts) for at, limit in merged)


def woken(schedule: Schedule, *, now: datetime, max_periods: int) -> Schedule:
    """Return `schedule` with the pilot off for some seconds first: many cars wake at its edge."""
    since_s = max(floor((now - schedule.starts_at).total_seconds()), 0)
    begun = [p for p in schedule.periods if p.start_s <= since_s + OFF_S]
    later = [p for p in schedule.periods if p.start_s > since_s + OFF_S]
    if len(later) + 2 > max_periods or not begun or begun[-1].limit <= 0:
        return schedule
    first = begun[-1]
    return replace(
        schedule,
        periods=(
            replace(first, start_s=0, limit=0.0),
            replace(first, start_s=since_s + OFF_S),
            *later,
        ),
    )


def row_of(
    schedule: Schedule,
    *,
    edges_at: Sequence[datetime],
    phases: int,
    voltage_v: float,
    after_kw: float,
) -> tuple[float, ...]:
    """Return the most `schedule` lets the station draw in each slot, (slots,) kW.

    `after_kw` is what holds outside it. A slot in which the limit changes counts with the larger.
    """
    steps = [
        (
            schedule.starts_at + timedelta(seconds=p.start_s),
            _kw(p.limit, schedule, phases, voltage_v),
        )
        for p in schedule.periods
    ]
    steps.insert(0, (datetime.min.replace(tzinfo=UTC), after_kw))
    until = _end(schedule)
    if until is not None:
        steps = [s for s in steps if s[0] < until] + [(until, after_kw)]
    row = []
    for start, end in pairwise(edges_at):
        first = max(i for i, (at, _) in enumerate(steps) if at <= start)
        row.append(max(kw for at, kw in steps[first:] if at < end))
    return tuple(row)


def same_schedule(old: Schedule, new: Schedule, *, now: datetime) -> bool:
    """Return whether `new` need not be sent because `old`, in force, says the same from now on.

    A lower limit anywhere is a difference; a higher one from 1 A (230 W) on, so that noise does
    not wear out stations, unless it comes within a minute anyhow. What lies behind the end of the
    shorter schedule does not count, but a schedule that ends within half an hour is renewed.
    """
    if (old.unit, old.profile_id, old.stack_level) != (new.unit, new.profile_id, new.stack_level):
        return False
    if old.update_every_s != new.update_every_s:
        return False
    until = min((e for e in (_end(old), _end(new)) if e is not None), default=None)
    if until is not None:
        until -= timedelta(seconds=TAIL_S)
        if until - now < timedelta(seconds=RENEW_BEFORE_S):
            return False
    material = MATERIAL_A if new.unit == "A" else MATERIAL_W
    marks = {now}
    for s in (old, new):
        marks.update(s.starts_at + timedelta(seconds=p.start_s) for p in s.periods)
    for at in sorted(marks):
        if at < now or (until is not None and at >= until):
            continue
        wanted, has = _at(new, at), _at(old, at)
        if wanted < has - _SAME:
            return False
        if wanted - max(has, _at(old, at + timedelta(seconds=RAISE_AFTER_S))) >= material - 1e-9:
            return False
    return True


def _has_tail(limits: StationLimits) -> bool:
    return limits.max_periods >= LEAST_PERIODS_WITH_TAIL


def _limit(
    kw: float,
    *,
    unit: str,
    limits: StationLimits,
    phases: int,
    voltage_v: float,
    least_a: float,
) -> float:
    """Return the limit a station takes for `kw`: rounded down to its step, 0 below the least."""
    watts = max(kw, 0.0) * 1000.0
    current_a = a_from_w(watts, phases=phases, voltage_v=voltage_v)
    if unit == "A":
        limit = floor_to(current_a, max(limits.step_a, 0.1))
        return limit if limit >= least_a else 0.0
    limit = floor_to(watts, max(limits.step_w, 1.0))
    least_w = max(w_from_a(least_a, phases=phases, voltage_v=voltage_v), limits.least_w)
    return limit if limit >= least_w - 1e-6 else 0.0


def _runs(
    values: Sequence[float], edges_at: Sequence[datetime], starts_at: datetime, raise_after_s: int
) -> list[tuple[int, float]]:
    """Return (start in seconds, limit) of each run of equal limits that is not over yet."""
    runs: list[tuple[int, float]] = []
    for k, limit in enumerate(values):
        if edges_at[k + 1] <= starts_at and k < len(values) - 1:
            continue
        offset = (edges_at[k] - starts_at).total_seconds()
        # A fraction of a second goes to whichever of the two limits is lower.
        is_rise = bool(runs) and limit > runs[-1][1]
        length = (edges_at[k + 1] - edges_at[k]).total_seconds()
        late_s = min(raise_after_s, int(length / 4)) if is_rise else 0
        start = max(ceil(offset) + late_s if is_rise else floor(offset), 0) if runs else 0
        if runs and limit == runs[-1][1]:
            continue
        if runs and start <= runs[-1][0]:
            runs[-1] = (runs[-1][0], min(limit, runs[-1][1]))
            continue
        runs.append((start, limit))
    return runs


def _merged(runs: list[tuple[int, float]], most: int, horizon_s: int) -> list[tuple[int, float]]:
    """Return at most `most` runs, never above the ones given."""
    runs = _joined(list(runs))
    while len(runs) > most:
        ends = [*(start for start, _ in runs[1:]), horizon_s]

        def loss(i: int, ends: list[int] = ends, runs: list[tuple[int, float]] = runs) -> float:
            (start, a), (middle, b) = runs[i], runs[i + 1]
            lost = (middle - start) * max(a - b, 0.0) + (ends[i + 1] - middle) * max(b - a, 0.0)
            # What is in force now is what the car feels; tomorrow is planned again many times.
            hours = start / 3600.0
            return lost * (1e3 if i == 0 else 1.0) / (1.0 + hours) ** 2

        i = min(range(len(runs) - 1), key=loss)
        runs[i : i + 2] = [(runs[i][0], min(runs[i][1], runs[i + 1][1]))]
        runs = _joined(runs)
    return runs


def _joined(runs: list[tuple[int, float]]) -> list[tuple[int, float]]:
    joined: list[tuple[int, float]] = []
    for start, limit in runs:
        if not joined or joined[-1][1] != limit:
            joined.append((start, limit))
    return joined


def _kw(limit: float, schedule: Schedule, phases: int, voltage_v: float) -> float:
    watts = limit if schedule.unit == "W" else w_from_a(limit, phases=phases, voltage_v=voltage_v)
    return watts / 1000.0


def _end(schedule: Schedule) -> datetime | None:
    if schedule.duration_s is None:
        return None
    return schedule.starts_at + timedelta(seconds=schedule.duration_s)


def _at(schedule: Schedule, at: datetime) -> float:
    """Return the limit in force at `at`, in the schedule's unit; 0 before it starts."""
    limit = 0.0
    for period in schedule.periods:
        if schedule.starts_at + timedelta(seconds=period.start_s) <= at:
            limit = period.limit
    return limit
