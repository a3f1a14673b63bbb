"""Rows of power -> a Plan: costs, shortfalls and why, and a word of explanation per car.

The cost of a plan is the cars' energy plus what they add to the demand charge; a peak that the
building alone would reach is not theirs.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from csms.core.model import Strategy
from csms.core.plan import Binding, Plan, PlannedSession
from csms.planning.grid import Flags, Floats, Grid
from csms.planning.ways_out import MOST_CARS, NOBODY, Helps, binding_rows, ways_out
from csms.planning.why import reasons

MISSED_EUR_PER_KWH = 10.0
"""What a missed kWh counts in a plan's limit values, where its true worth is beyond price."""
SHORT_KWH = 1e-6
NEAR_KW = 1e-6
WORTH_EUR = 1e-4
"""A limit that is worth less than this to the cars does not count as binding."""


class _Shortfall(NamedTuple):
    """Why a car misses some of its need, which limit binds, and what would help."""

    reason: str = ""
    limit: str = ""
    ways_out: tuple[str, ...] = ()


_NOTHING_MISSED = _Shortfall()


def explained(
    grid: Grid,
    power_kw: Floats,
    limit_value: Floats,
    *,
    status: str,
    with_reasons: bool = True,
    reached_kwh: Floats | None = None,
) -> Plan:
    """Return the plan that gives `power_kw` (N, K) to the cars of `grid`.

    `reached_kwh` (N,) is what plans to come will have made of it where that is more: what they make
    up is no shortfall. Without `with_reasons`, cars and slots have none, shortfalls no way out, and
    no limit is said to bind.
    """
    case = grid.case
    rows = _drawn(grid, power_kw)
    none = np.zeros(grid.room.shape, dtype=np.bool_)
    energy = rows * grid.inside_h
    given_kwh = np.cumsum(energy, axis=1)
    held = _binding(grid, power_kw, given_kwh) if with_reasons else none
    is_bound = held.any(axis=0)
    why = ((),) * len(rows) if not with_reasons else reasons(grid, rows, held, given_kwh=given_kwh)
    price, co2 = _unit_costs(grid, rows)
    costs, emitted = energy @ price, energy @ co2
    holders = _holders(grid, held) if is_bound.any() else [NOBODY] * len(rows)
    done = energy.sum(axis=1)
    reached = done if reached_kwh is None else np.maximum(done, reached_kwh)
    missing = _missing(grid, reached).tolist()
    finishes = _finishes(grid, rows, energy, given_kwh, missing)
    word = _Words(grid, _Hours.of(grid, rows) if with_reasons else None)
    shortfalls = [
        _Shortfall(*word.why_short(i, kwh)) if kwh else _NOTHING_MISSED
        for i, kwh in enumerate(missing)
    ]
    if with_reasons and any(missing):
        _add_ways_out(grid, shortfalls, missing, power_kw, held, limit_value)
    given = zip(
        case.sessions,
        rows.tolist(),
        done.tolist(),
        costs.tolist(),
        emitted.tolist(),
        holders,
        missing,
        shortfalls,
        finishes,
        why,
        strict=True,
    )
    sessions = tuple(
        PlannedSession(
            session_id=session.session_id,
            power_kw=tuple(row),
            shortfall_kwh=short,
            shortfall_reason=lack.reason,
            shortfall_limit=lack.limit,
            ways_out=lack.ways_out,
            finishes_at=ready_at,
            energy_kwh=kwh,
            cost_eur=cost,
            co2_kg=kg,
            reason=word.of(i, is_on=kwh > 0, lack=lack, holder=holder) if with_reasons else "",
            why=own,
        )
        for i, (session, row, kwh, cost, kg, holder, short, lack, ready_at, own) in enumerate(given)
    )
    peak = float((grid.base_kw + power_kw.sum(axis=0)).max(initial=0.0))
    added = max(peak - grid.billed_peak_kw, 0.0) * grid.demand_charge
    return Plan(
        site_id=case.site_id,
        made_at=case.now_at,
        strategy=case.strategy,
        status=status,
        edges_at=case.edges_at,
        sessions=sessions,
        peak_kw=peak,
        cost_eur=sum(costs.tolist()) + added,
        co2_kg=sum(emitted.tolist()),
        binding_slots=tuple(int(k) for k in np.flatnonzero(is_bound)),
        limit_value_eur_per_kwh=tuple(limit_value[0].tolist()),
        notes=grid.notes,
        bindings=_bindings(grid, held, limit_value) if with_reasons else (),
    )


def _drawn(grid: Grid, power_kw: Floats) -> Floats:
    """Return `power_kw` (N, K) with what cars out of control draw in their rows."""
    if not grid.is_fixed.any():
        return power_kw
    return np.where(grid.is_fixed[:, None], grid.fixed_kw, power_kw)


def _bindings(grid: Grid, held: Flags, value: Floats) -> tuple[Binding, ...]:
    """Return the limits that held a car back or are worth something to one, by whose they are."""
    limits, has_value = grid.limits, bool(value.any())
    binds = held | (value > WORTH_EUR)
    slots, worths = np.nonzero(binds)[1].tolist(), value[binds].tolist()
    counts = np.count_nonzero(binds, axis=1)
    ends = np.cumsum(counts).tolist()
    found = []
    for row, count, end in zip(grid.rows.tolist(), counts.tolist(), ends, strict=True):
        by_source: dict[str, list[int]] = {}
        if limits.caps[row]:
            for at in range(end - count, end):
                by_source.setdefault(limits.source_at(row, slots[at]), []).append(at)
        elif count:
            by_source[limits.source[row]] = list(range(end - count, end))
        found += [
            Binding(
                circuit_id=limits.circuit[row],
                limit=limits.name[row],
                slots=tuple([slots[at] for at in own]),
                value_eur=tuple([worths[at] for at in own]) if has_value else (),
                source=source,
            )
            for source, own in by_source.items()
        ]
    return tuple(found)


def _holders(grid: Grid, held: Flags) -> list[int]:
    """Return which row of the limits held each car back for longest, (N,), or NOBODY."""
    held_h = np.where(grid.use.T > 0, grid.inside_h @ held.T.astype(np.float64), 0.0)
    found: list[int] = np.where(held_h.any(axis=1), held_h.argmax(axis=1), NOBODY).tolist()
    return found


def _add_ways_out(
    grid: Grid,
    found: list[_Shortfall],
    missing: list[float],
    power_kw: Floats,
    held: Flags,
    limit_value: Floats,
) -> None:
    """Say of shortfalls, in place, which limit binds, and of the largest what would help."""
    worst = sorted(range(len(missing)), key=missing.__getitem__, reverse=True)
    worst = [i for i in worst if missing[i]]
    cars = np.array(worst)
    helps = Helps.of(grid, power_kw, cars[:MOST_CARS], np.array(missing)[cars[:MOST_CARS]])
    bound_by = binding_rows(grid, power_kw, held, limit_value, cars).tolist()
    for at, (i, row) in enumerate(zip(worst, bound_by, strict=True)):
        reason, limit, ways = found[i]
        is_held = reason == "site limit"
        if is_held:
            reason, limit = _bound_by(grid, held, i, row)
        if at < MOST_CARS:
            holder = row if is_held else NOBODY
            ways = ways_out(grid, helps, at, missing_kwh=missing[i], holder=holder)
        found[i] = _Shortfall(reason, limit, ways)


def _bound_by(grid: Grid, held: Flags, i: int, row: int) -> tuple[str, str]:
    """Return which kind of limit holds car `i` back, and the name of `row`, with whose it is."""
    number = int(grid.rows[max(row, 0)])
    at = np.zeros_like(held[0]) if row == NOBODY else held[row] & (grid.inside_h[i] > 0)
    is_circuit = row > 0 and bool(grid.limits.circuit[number])
    return "circuit limit" if is_circuit else "site limit", _whose(grid, number, at)


def _whose(grid: Grid, number: int, at: Flags) -> str:
    """Return the name of limit `number`, and whose cap it is where one bounds it `at` (K,)."""
    limits = grid.limits
    label, slots = limits.label(number), np.flatnonzero(at).tolist()
    whose = limits.capped_by(number, slots) if limits.caps[number] else ""
    return f"{label} by {whose}" if whose else label


def _binding(grid: Grid, power_kw: Floats, given_kwh: Floats) -> Flags:
    """Return in which slots each limit held a car back, (R, K).

    `given_kwh` (N, K) is what each car has at the end of each slot.
    """
    held = np.zeros(grid.room.shape, dtype=np.bool_)
    free = np.maximum(grid.room - grid.taken(power_kw), 0.0)
    # To begin a car needs its least power, to go on less than that.
    levels = grid.levels
    apart = np.maximum(np.diff(levels.listed, axis=1).max(axis=1, initial=0.0), levels.step_kw)
    least = np.maximum(np.maximum(grid.least_kw, apart), NEAR_KW)
    most = (grid.use * least).max(axis=1, initial=0.0)
    may_hold = np.flatnonzero(free.min(axis=1) < most)
    if not len(may_hold):
        return held
    # A car is held back where it could take more, and still lacks energy or has to take it later.
    total = given_kwh[:, -1]
    lacks = grid.required_kwh + grid.extra_kwh - total > SHORT_KWH
    has_by_then = np.where(lacks, np.inf, total - SHORT_KWH)
    wants = (grid.cap_kw - power_kw > NEAR_KW) & (given_kwh < has_by_then[:, None])
    step = np.where(power_kw > 0, NEAR_KW, np.maximum(grid.least_kw[:, None], NEAR_KW))
    if levels.is_coarse.any():
        # To have more, one that runs has to have all of its next level.
        more = np.maximum(levels.above_each(power_kw.T).T - power_kw, NEAR_KW)
        step = np.where((power_kw > 0) & levels.is_coarse[:, None], more, step)
    needs = step - np.maximum(grid.guard_kw[:, None] - power_kw, 0.0)
    needs = np.where(wants, needs, -np.inf)
    # Of cars of one kind the one that needs most is held back first.
    for kind, car in enumerate(grid.kind_first.tolist()):
        use = grid.use[may_hold, car, None]
        most = needs[grid.kind == kind].max(axis=0)
        held[may_hold] |= (use > 0) & (free[may_hold] < most * np.maximum(use, 1e-12))
    return held


def _unit_costs(grid: Grid, rows: Floats) -> tuple[Floats, Floats]:
    """Return what a kWh costs and emits per slot, (K,), solar surplus shared by all cars alike."""
    total = rows.sum(axis=0)
    share = np.where(total > 0, np.minimum(grid.surplus_kw / np.maximum(total, 1e-12), 1.0), 0.0)
    price = share * grid.export_price + (1.0 - share) * grid.price
    return price, (1.0 - share) * grid.co2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hours:
    """How each car's hours compare with those it leaves out; every array is (N,)."""

    waits: Flags
    leaves_any: Flags
    is_full: Flags
    is_sunny: Flags
    dearer: Floats
    dirtier: Floats

    @classmethod
    def of(cls, grid: Grid, rows: Floats) -> "_Hours":
        """Compare the slots with power with those a car is there and has none."""
        on = rows > 0
        idle = ~on & (grid.cap_kw > 0) & (grid.inside_h > 0)
        last = rows.shape[1] - 1 - np.argmax(on[:, ::-1], axis=1)
        before = np.arange(rows.shape[1]) < last[:, None]
        sun = grid.surplus_kw > 0
        unit = np.where(sun, grid.export_price, grid.price)
        summed = np.column_stack([np.ones(len(sun)), ~sun, unit, grid.co2])
        used, used_dark, paid, emitted = (on.astype(np.float64) @ summed).T
        left, left_dark, would, dirt = (idle.astype(np.float64) @ summed).T
        used, left_or_one = np.maximum(used, 1.0), np.maximum(left, 1.0)
        return cls(
            waits=(idle & before).any(axis=1),
            leaves_any=left > 0,
            is_full=np.all(~on | (rows >= grid.cap_kw - NEAR_KW), axis=1),
            is_sunny=(used_dark == 0) & (left_dark > 0),
            dearer=would / left_or_one - paid / used,
            dirtier=dirt / left_or_one - emitted / used,
        )


def _missing(grid: Grid, given_kwh: Floats) -> Floats:
    """Return what each car will lack at its departure, (N,) kWh, `given_kwh` (N,) being planned."""
    missing = np.maximum(grid.required_kwh - given_kwh, 0.0)
    # What a car can still get after the horizon is not missed yet.
    missing = np.maximum(missing - grid.later_kwh, 0.0)
    missing = np.where(grid.is_overdue, grid.required_kwh, missing)
    return np.where(missing < SHORT_KWH, 0.0, missing)


def _finishes(
    grid: Grid, rows: Floats, energy: Floats, done: Floats, missing: list[float]
) -> list[datetime | None]:
    """Return when each need is met: inside the slot in which the sum `done` (N, K) reaches it.

    Where it does not and nothing is `missing` (N,), plans to come meet it by the departure.
    """
    need, case = grid.required_kwh, grid.case
    is_reached = done >= need[:, None] - SHORT_KWH
    at, cars = np.argmax(is_reached, axis=1), np.arange(len(need))
    before = done[cars, at] - energy[cars, at]
    hours = np.maximum(need - before, 0.0) / np.maximum(rows[cars, at], 1e-12)
    found: list[datetime | None] = []
    for session, k, took, is_met, kwh, lacks in zip(
        case.sessions,
        at.tolist(),
        hours.tolist(),
        is_reached[:, -1].tolist(),
        need.tolist(),
        missing,
        strict=True,
    ):
        if kwh > SHORT_KWH and not is_met:
            is_later = lacks or session.departs_at > case.edges_at[-1]
            found.append(None if is_later else session.departs_at)
            continue
        begins = session.available_at if session.available_at > case.now_at else case.now_at
        if kwh > SHORT_KWH:
            start = case.edges_at[k]
            begins = start if start > begins else begins
            begins += timedelta(seconds=round(took * 3600))
        found.append(begins)
    return found


def _full_of_load(grid: Grid) -> list[str]:
    """Return for each car which limit is filled by what nobody controls, "" where none is, (N,)."""
    left = grid.limits.left(grid.fixed_kw)
    left[0] += max(np.nan_to_num(grid.case.idle_guard_kw, posinf=0.0), 0.0)
    return _passed(grid, left)


def _full_of_guards(grid: Grid) -> list[str]:
    """Return for each car which limit guards and loads fill, "" where none is, (N,)."""
    return _passed(grid, grid.limits.left(np.maximum(grid.fixed_kw, grid.guard_kw[:, None])))


def _passed(grid: Grid, left: Floats) -> list[str]:
    """Return for each car a limit of which less than nothing is `left` (R, K), "" if none."""
    over = left < -NEAR_KW
    found = [""] * grid.shape[0]
    for row in np.flatnonzero(over.any(axis=1)).tolist():
        inside = (grid.inside_h[:, over[row]] > 0).any(axis=1)
        name = _whose(grid, row, over[row])
        for i in np.flatnonzero(inside & (grid.limits.use[row] > 0)).tolist():
            found[i] = name
    return found


class _Words:
    """A word for people on why each row is as it is."""

    def __init__(self, grid: Grid, hours: _Hours | None) -> None:
        """Without `hours` it knows a word for shortfalls only."""
        self.grid = grid
        sessions = grid.case.sessions
        fixed, overdue = grid.is_fixed.tolist(), grid.is_overdue.tolist()
        most = np.array([s.max_kw for s in sessions], dtype=np.float64)
        self.stay_h: list[float] = grid.inside_h.sum(axis=1).tolist()
        self.due: list[float] = grid.due_kwh.tolist()
        is_blocked: Flags = np.any(grid.is_blocked & (grid.inside_h > 0), axis=1)
        self.is_blocked = is_blocked.tolist()
        self.wants_any = (grid.required_kwh + grid.extra_kwh > SHORT_KWH).tolist()
        self.needs_any = (grid.required_kwh > SHORT_KWH).tolist()
        self.plain = [
            "uncontrolled"
            if fixed[i]
            else "below the least current"
            if s.max_kw < s.min_kw or s.max_kw <= 0
            else "departure passed"
            if overdue[i]
            else ""
            if self.wants_any[i]
            else "nothing needed"
            for i, s in enumerate(sessions)
        ]
        self.full = _full_of_load(grid) if any(self.is_blocked) else []
        self.guarded = _full_of_guards(grid) if any(self.is_blocked) else []
        self.most_kw = np.where(grid.cap_kw.any(axis=1), grid.cap_kw.max(axis=1), most).tolist()
        if hours is None:
            return
        self.has_peak = grid.demand_weight > 0
        self.is_full = hours.is_full.tolist()
        # Who leaves after the horizon is not pressed by its departure.
        until = grid.case.edges_at[-1]
        self.is_patient = [s.departs_at > until for s in sessions]
        self.waits, self.leaves_any = hours.waits.tolist(), hours.leaves_any.tolist()
        self.is_sunny = hours.is_sunny.tolist()
        self.is_dearer = (hours.dearer > 1e-9).tolist()
        self.is_dirtier = (hours.dirtier > 1e-9).tolist()

    def why_short(self, i: int, missing_kwh: float) -> tuple[str, str]:
        """Return why car `i` misses a need, and the limit where that is settled already."""
        if self.plain[i] in ("uncontrolled", "departure passed"):
            return self.plain[i].replace("departure passed", "time"), ""
        session = self.grid.case.sessions[i]
        if session.max_kw < session.min_kw:
            return "least current", ""
        # What even full power would miss; of what is missing beyond, a limit took the most.
        for_time = max(self.due[i] - self.most_kw[i] * self.stay_h[i], 0.0)
        if missing_kwh <= for_time + SHORT_KWH:
            return "time", ""
        if self.is_blocked[i]:
            return ("load", self.full[i]) if self.full[i] else ("guard", self.guarded[i])
        return "site limit", ""

    def of(self, i: int, *, is_on: bool, lack: _Shortfall, holder: int) -> str:
        """Return the word for car `i`; row `holder` of the limits held it back, -1 if none did."""
        if self.plain[i]:
            return self.plain[i]
        shares = self._shares(holder)
        if lack.reason:
            if lack.reason == "load":
                return "other loads take the room"
            if lack.reason == "guard":
                return "guards take the room"
            return shares or "departure near"
        if not is_on:
            return "waits" if self.needs_any[i] else "nothing needed"
        if not self.waits[i]:
            return shares or self._in_one_go(i)
        return self._by_price(i) or shares or ("lower peak" if self.has_peak else "waits its turn")

    def _shares(self, holder: int) -> str:
        grid = self.grid
        if holder < 0:
            return ""
        place = grid.limits.label(int(grid.rows[holder]))
        return f"shares {place}" if holder else "shares the site limit"

    def _in_one_go(self, i: int) -> str:
        """Return why a car charges without a break from the start."""
        if self.leaves_any[i] or self.is_patient[i]:
            return "charges at once"
        return "lower peak" if self.has_peak and not self.is_full[i] else "departure near"

    def _by_price(self, i: int) -> str:
        """Return which hours a car was given; rules look at no price."""
        session = self.grid.case.sessions[i]
        if self.grid.case.strategy is not Strategy.OPTIMAL:
            return ""
        if self.is_sunny[i]:
            return "sunny hours"
        if self.is_dearer[i]:
            return "cheapest hours"
        is_clean = self.is_dirtier[i] and session.carbon_weight_eur_per_kg > 0
        return "clean hours" if is_clean else ""
