"""A planning case as arrays, with faults in the data repaired and named.

Two rules decide what a row may hold. *Guards first*: at any moment every station may be cut off,
so each car counts with the larger of its row and its guard, and only what the guards leave
(`room`) is shared out; the part of a row below the car's own guard is free. *Nobody is
dropped*: a car that should have left, or that leaves after the horizon, keeps a window and asks
for its energy as `later_kwh`, which never takes anything from a need that is due.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from csms.core.errors import InvalidInput
from csms.core.plan import PlanningCase, PlanningSession
from csms.planning.binding import kinds_of, that_bind
from csms.planning.levels import Levels
from csms.planning.limits import Limits, limits_of
from csms.planning.odd_input import odd_input

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TOLERANCE_KW = 1e-9
READY_BEFORE = timedelta(minutes=10)
"""A car should be ready this long before it leaves, where that costs next to nothing."""
LATE_EUR_PER_KWH = 0.002
"""What energy within READY_BEFORE of the departure is made to cost extra while planning."""
STAY_EUR_PER_KWH = 0.0005
"""By so much a slot is made cheaper in which a car charges by the row in force: of many equal
plans the one that changes least is the best."""
HEADROOM_FROM, HEADROOM_WHOLE = 0.3, 0.6
"""Demand as a share of the power there is: up to the first nothing is kept for arrivals, since they
find room anyhow, from the second on all that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Arrays of one case: N sessions by K slots.

    `inside_h` (N, K) is how long a car is there in a slot, `cap_kw` (N, K) what it may draw then
    (0 outside its window, for uncontrolled cars, and where the guards fill a limit of its own,
    which `is_blocked` (N, K) says). `base_kw` (K,) is the building with the uncontrolled cars, less
    own generation: what a peak is counted from, below 0 where there is a surplus.

    `use` (R, N) and `room` (R, K) are the rows of `limits` that can bind (`rows` are their numbers
    there, the first always the site's): what a kW of a car takes, and what the guards leave. Cars
    of one `kind` (N,) take the same from all of them, as its first car does, `kind_first` (M,).
    `is_turn` (K,) marks slots in which other rows are blocked than in the one before. `reserved_kw`
    (K,) is the part of the site's room kept for cars to come. A peak up to `first_peak_kw` is free
    while planning, one up to `billed_peak_kw` is paid for already; `demand_weight` is the share of
    the charge that a day has to carry. `floor_kw` (N, K) is what a car must
    have, because it was guaranteed or must not pause. `cost` (N, K) orders the slots
    for a car, EUR per kWh. `due_kwh` is missed if it is not given, `later_kwh` is wanted whatever
    it costs, `extra_kwh` only where it costs `extra_value` or less. `laxity_h` (N,) is how long a
    car could wait, `visit_laxity_h` (N,) how long it could have when it came.
    """

    case: PlanningCase
    hours: Floats
    inside_h: Floats
    cap_kw: Floats
    least_kw: Floats
    guard_kw: Floats
    fixed_kw: Floats
    is_fixed: Flags
    is_overdue: Flags
    limit_kw: Floats
    base_kw: Floats
    limits: Limits
    rows: NDArray[np.int64]
    use: Floats
    room: Floats
    kind: NDArray[np.int64]
    kind_first: NDArray[np.int64]
    is_blocked: Flags
    is_turn: Flags
    floor_kw: Floats
    levels: Levels
    reserved_kw: Floats
    price: Floats
    co2: Floats
    surplus_kw: Floats
    export_price: Floats
    cost: Floats
    required_kwh: Floats
    due_kwh: Floats
    later_kwh: Floats
    extra_kwh: Floats
    extra_value: Floats
    laxity_h: Floats
    visit_laxity_h: Floats
    rank: NDArray[np.int64]
    delivered_kwh: Floats
    first_peak_kw: float
    billed_peak_kw: float
    demand_charge: float
    demand_weight: float
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of sessions and of slots."""
        return (len(self.least_kw), len(self.hours))

    def shared_kw(self, power_kw: Floats) -> Floats:
        """Return what rows take beyond their own guards, (N, K); all of it where there are none."""
        if not self.guard_kw.any():
            return power_kw
        return np.maximum(power_kw - self.guard_kw[:, None], 0.0)

    def taken(self, power_kw: Floats) -> Floats:
        """Return what rows take of each limit's room, (R, K)."""
        return np.asarray(self.use @ self.shared_kw(power_kw), dtype=np.float64)

    def usable_kw(self) -> Floats:
        """Return `cap_kw` (N, K) without slots in which the guards leave a car less than its least.

        What is free there is for cars that can use it.
        """
        least = np.maximum(self.least_kw - self.guard_kw, 0.0)
        if (self.room >= (self.use * least).max(axis=1, initial=0.0)[:, None]).all():
            return self.cap_kw
        fits = self._spare_kw() >= least[:, None] - TOLERANCE_KW
        return np.where(fits, self.cap_kw, 0.0)

    def alone_kw(self) -> Floats:
        """Return the highest level of each car for which there is room if it has all, (N, K)."""
        if not self.levels.is_coarse.any():
            return self.usable_kw()
        most = np.minimum(self.usable_kw(), self.guard_kw[:, None] + self._spare_kw())
        return self.levels.floor_each(most.T).T

    def _spare_kw(self) -> Floats:
        """Return what the guards leave to each car if it has all of it, (N, K)."""
        use = self.use[:, self.kind_first, None]
        spare = np.where(use > 0, self.room[:, None] / np.where(use > 0, use, 1.0), np.inf)
        return np.asarray(spare.min(axis=0)[self.kind], dtype=np.float64)

    def careful_room(self) -> Floats:
        """Return the room without what is kept for cars to come, (R, K)."""
        room = self.room.copy()
        room[0] -= self.reserved_kw
        return room


def grid_of(case: PlanningCase) -> Grid:
    """Return the arrays of `case`.

    Raises InvalidInput for what cannot be read at all (series of different lengths, edges out of
    order); wrong numbers are replaced by careful ones and named in `notes`.
    """
    hours, starts_h = _slots(case)
    notes = [*case.notes, *odd_input(case)]
    limit = _series(case, "limit_kw", notes, careful=0.0, least=0.0)
    base = _series(case, "base_load_kw", notes, least=0.0)
    reserved = _series(case, "reserved_kw", notes, careful=0.0, least=0.0)
    price = _series(case, "price_eur_per_kwh", notes)
    co2 = _series(case, "co2_kg_per_kwh", notes)
    solar, export_price = _solar(case, price, notes)
    cars = _Cars.of(case, notes)
    fixed = _fixed(case, cars.most, notes)
    cars_h = _windows(case, starts_h, hours)
    inside = cars_h.inside
    limits = limits_of(case, limit, base, notes)
    left, guards = limits.limit - limits.load, cars.guard
    if cars.is_fixed.any():
        base = base + fixed.sum(axis=0)
        left = left - limits.use @ np.where(
            cars.is_fixed[:, None], np.maximum(guards[:, None], fixed), 0.0
        )
        guards = np.where(cars.is_fixed, 0.0, guards)
    room = left - (limits.use @ guards)[:, None]
    row_blocked = room < -TOLERANCE_KW
    is_blocked = np.zeros(inside.shape, dtype=np.bool_)
    if row_blocked.any():
        left = limits.left(fixed)
        left[0] += _number(case.idle_guard_kw, 0.0)
        _name_blocked(limits, left, row_blocked, notes)
        is_blocked = (limits.use > 0).T.astype(np.float64) @ row_blocked > 0
    is_turn = np.zeros(len(hours), dtype=np.bool_)
    is_turn[1:] = (row_blocked[:, 1:] != row_blocked[:, :-1]).any(axis=0)
    can_draw = (inside > 0) & ~is_blocked & ~cars.is_fixed[:, None] & cars.is_usable[:, None]
    cap = np.where(can_draw, cars.most[:, None], 0.0)
    rows = np.zeros(1, dtype=np.int64)
    if len(room) > 1:
        most = np.maximum(cap - cars.guard[:, None], 0.0)
        rows = that_bind(limits.use, room, most)
    use, room = limits.use[rows], np.maximum(room[rows], 0.0)
    # Where there is no limit, one that cannot be reached does as well, and is a number.
    has_limit = np.isfinite(room)
    if not has_limit.all():
        room = np.where(has_limit, room, (use @ cap).max(initial=0.0) + 1.0)
    kind, kind_first = kinds_of(use)
    later = np.where(
        cars_h.is_overdue,
        cars.required,
        np.minimum(cars.required, cars.most * cars_h.beyond_h),
    )
    surplus = np.maximum(solar - np.maximum(base, 0.0), 0.0)
    own_price = np.where(surplus > 0, export_price, price)
    cost, value = _costs(case, cars_h, own_price, co2, starts_h)
    if any([s.in_force_kw for s in case.sessions]):
        cost = cost - STAY_EUR_PER_KWH * _is_followed(case)
    # A cloud may pass a limit; the charge is for a quarter hour's mean, and that is expected.
    base = base - solar
    billed = max(_number(case.billed_peak_kw, 0.0), float(base.max(initial=0.0)))
    charge = _number(case.demand_charge_eur_per_kw, 0.0)
    due = cars.required - later
    most = np.maximum(cars.most, TOLERANCE_KW)
    laxity = cars_h.stay_h - due / most
    return Grid(
        case=case,
        hours=hours,
        inside_h=inside,
        cap_kw=cap,
        least_kw=cars.least,
        guard_kw=cars.guard,
        fixed_kw=fixed,
        is_fixed=cars.is_fixed,
        is_overdue=cars_h.is_overdue,
        limit_kw=limit,
        base_kw=base,
        limits=limits,
        rows=rows,
        use=use,
        room=room,
        kind=kind,
        kind_first=kind_first,
        is_blocked=is_blocked,
        is_turn=is_turn,
        floor_kw=np.zeros(inside.shape),
        levels=cars.levels,
        reserved_kw=_kept(reserved, room[0], hours, float(due[~cars.is_fixed].sum())),
        price=price,
        co2=co2,
        surplus_kw=surplus,
        export_price=export_price,
        cost=cost,
        required_kwh=cars.required,
        due_kwh=due,
        later_kwh=later,
        extra_kwh=cars.preferred - cars.required,
        extra_value=value,
        laxity_h=laxity,
        visit_laxity_h=cars_h.visit_h - (cars.delivered + due) / most,
        rank=cars.rank,
        delivered_kwh=cars.delivered,
        first_peak_kw=max(billed, _number(case.peak_hint_kw, 0.0)),
        billed_peak_kw=billed,
        demand_charge=charge,
        demand_weight=charge / max(_number(case.days_left, 1.0), 1.0),
        notes=tuple(notes),
    )


def _kept(reserved: Floats, room: Floats, hours: Floats, due_kwh: float) -> Floats:
    """Return which part of the headroom asked for is worth its price, (K,) kW.

    Cars to come can wait as well: where all demand is a small part of what the hours in which some
    is expected can give, they need no room of their own, and keeping it makes energy dearer.
    """
    most_kwh = float((room * hours)[reserved > TOLERANCE_KW].sum())
    share = (due_kwh + float((reserved * hours).sum())) / max(most_kwh, TOLERANCE_KW)
    part = (share - HEADROOM_FROM) / (HEADROOM_WHOLE - HEADROOM_FROM)
    return np.minimum(reserved * min(max(part, 0.0), 1.0), room)


def _is_followed(case: PlanningCase) -> Flags:
    """Return in which slots cars charge if their rows in force stay, (N, K)."""
    found = np.zeros((len(case.sessions), case.slots), dtype=np.bool_)
    for i, session in enumerate(case.sessions):
        if session.in_force_kw:
            row = np.array(session.in_force_kw[: case.slots])
            found[i, : len(row)] = row > 0
    return found


_COLUMNS = (
    "required_kwh",
    "min_kw",
    "max_kw",
    "preferred_kwh",
    "guard_kw",
    "delivered_kwh",
)
_NUMBERS = attrgetter(*_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cars:
    """The numbers of the sessions, repaired; every array is (N,)."""

    required: Floats
    preferred: Floats
    most: Floats
    least: Floats
    guard: Floats
    delivered: Floats
    is_fixed: Flags
    is_usable: Flags
    rank: NDArray[np.int64]
    levels: Levels

    @classmethod
    def of(cls, case: PlanningCase, notes: list[str]) -> "_Cars":
        """Read the sessions of `case`."""
        sessions = case.sessions

        raw = np.array(list(map(_NUMBERS, sessions)), dtype=np.float64).reshape(-1, len(_COLUMNS))
        wrong = ~np.isfinite(raw) | (raw < 0)
        for at, i in np.argwhere(wrong.T).tolist() if wrong.any() else ():
            value = f"{_COLUMNS[at]} of {sessions[i].session_id} is {raw[i, at]:g}"
            notes.append(f"{value}: taken as 0")
        required, low, high, preferred, guard, delivered = np.where(wrong, 0.0, raw).T.copy()
        levels = Levels.of(sessions)
        least, most = levels.bounds(low, high)
        steps = sorted({s.priority for s in sessions})
        return cls(
            required=required,
            preferred=np.maximum(preferred, required),
            most=most,
            least=least,
            guard=guard,
            delivered=delivered,
            is_fixed=np.array([s.fixed_kw is not None for s in sessions], dtype=np.bool_),
            is_usable=(most >= least) & (most > 0),
            rank=np.array([steps.index(s.priority) for s in sessions], dtype=np.int64),
            levels=levels,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """When cars are there: hours per slot (N, K), in all and beyond the horizon (N,).

    `visit_h` (N,) is from when a car came to when it leaves, `stay_h` (N,) what is ahead of that.
    """

    inside: Floats
    visit_h: Floats
    stay_h: Floats
    leaves_h: Floats
    is_overdue: Flags
    beyond_h: Floats


def _slots(case: PlanningCase) -> tuple[Floats, Floats]:
    """Return the length of each slot and its start after now, hours."""
    if len(case.edges_at) < 2:
        raise InvalidInput(f"edges_at has {len(case.edges_at)} entries; it needs at least 2")
    for at in (case.now_at, *case.edges_at):
        if at.tzinfo is None:
            name = "now_at" if at is case.now_at else "edges_at"
            raise InvalidInput(f"{name} {at.isoformat()} has no offset; it must be an instant")
    edges_h = _hours_after(case.now_at, case.edges_at)
    hours = edges_h[1:] - edges_h[:-1]
    if (hours <= 0).any():
        k = int(np.argmax(hours <= 0))
        raise InvalidInput(f"edges_at[{k + 1}] is not after edges_at[{k}]; edges must increase")
    return hours, edges_h[:-1]


def _hours_after(zero: datetime, instants: tuple[datetime, ...] | list[datetime]) -> Floats:
    # Whole seconds divided once keep equal slots equal to the last bit.
    at_s = np.array(list(map(datetime.timestamp, instants)), dtype=np.float64)
    return (at_s - zero.timestamp()) / 3600.0


def _number(value: float, careful: float) -> float:
    return float(value) if np.isfinite(value) and value >= 0 else careful


def _series(
    case: PlanningCase,
    name: str,
    notes: list[str],
    *,
    careful: float | None = None,
    least: float | None = None,
) -> Floats:
    """Return a series of the case; numbers that are none become `careful`, or the rest's mean."""
    raw = np.array(getattr(case, name), dtype=np.float64)
    if len(raw) != case.slots:
        raise InvalidInput(f"{name} has {len(raw)} entries; it must have {case.slots}, as slots")
    known = np.isfinite(raw)
    if not known.all():
        mean = float(raw[known].mean()) if known.any() else 0.0
        # A load that is not known may be as high as any that is; a price is as likely the mean.
        if name == "base_load_kw" and known.any():
            mean = float(raw[known].max())
        fill = mean if careful is None else careful
        notes.append(f"{name} is missing in {int((~known).sum())} slots: {fill:.4g} used")
        raw = np.where(known, raw, fill)
    if least is not None and (raw < least).any():
        notes.append(f"{name} is below {least:g} in {int((raw < least).sum())} slots: raised")
        raw = np.maximum(raw, least)
    return raw


def _solar(case: PlanningCase, price: Floats, notes: list[str]) -> tuple[Floats, Floats]:
    if not case.solar_kw:
        return np.zeros_like(price), price
    solar = _series(case, "solar_kw", notes, careful=0.0, least=0.0)
    if not case.export_eur_per_kwh:
        return solar, np.minimum(price, 0.0)
    # Exporting for more than importing costs would make a planner buy in order to sell.
    return solar, np.minimum(_series(case, "export_eur_per_kwh", notes), price)


def _fixed(case: PlanningCase, most: Floats, notes: list[str]) -> Floats:
    rows = np.zeros((len(case.sessions), case.slots))
    for i, session in enumerate(case.sessions):
        if session.fixed_kw is None:
            continue
        row = np.array(session.fixed_kw, dtype=np.float64)
        if len(row) != case.slots:
            raise InvalidInput(
                f"sessions[{i}].fixed_kw has {len(row)} entries; it must have {case.slots}"
            )
        wrong = ~np.isfinite(row) | (row < 0)
        if wrong.any():
            notes.append(f"fixed_kw of {session.session_id} is wrong in {int(wrong.sum())} slots")
        rows[i] = np.where(wrong, most[i], row)
    return rows


def _windows(case: PlanningCase, starts_h: Floats, hours: Floats) -> _Windows:
    sessions: tuple[PlanningSession, ...] = case.sessions
    came = _hours_after(case.now_at, [s.available_at for s in sessions])
    arrives = np.maximum(came, 0.0)
    leaves = _hours_after(case.now_at, [s.departs_at for s in sessions])
    ends_h = starts_h + hours
    until = float(ends_h[-1])
    is_overdue = leaves <= arrives
    leaves = np.where(is_overdue, until, leaves)
    inside = np.minimum(ends_h, leaves[:, None]) - np.maximum(starts_h, arrives[:, None])
    inside = np.minimum(np.maximum(inside, 0.0), hours)
    # A sliver shorter than a second is an artefact of subtracting instants.
    inside = np.where(inside < 1.0 / 3600.0, 0.0, inside)
    inside = np.where(inside > hours - 1e-9, hours, inside)
    return _Windows(
        inside=inside,
        visit_h=np.maximum(leaves - came, 0.0),
        stay_h=inside.sum(axis=1),
        leaves_h=leaves,
        is_overdue=is_overdue,
        beyond_h=np.where(is_overdue, 0.0, np.maximum(leaves - np.maximum(until, arrives), 0.0)),
    )


def _costs(
    case: PlanningCase, windows: _Windows, price: Floats, co2: Floats, starts_h: Floats
) -> tuple[Floats, Floats]:
    """Return what a kWh costs each car in each slot (N, K) and what extra energy is worth (N,).

    The driver's own limit is on price and carbon together; without one, extra energy is wanted
    where it is no dearer than the mean of the stay. A front-load below the smallest price step
    breaks ties.
    """
    carbon = np.array([s.carbon_weight_eur_per_kg for s in case.sessions], dtype=np.float64)
    carbon = np.where(np.isfinite(carbon), np.maximum(carbon, 0.0), 0.0)
    # Where nobody weighs carbon, energy costs all the same.
    eur = price + carbon[:, None] * co2 if carbon.any() else price[None]
    inside, is_there = windows.inside, windows.inside > 0
    early = front_load(price) * starts_h / max(float(starts_h[-1]), 1.0)
    ready_h = windows.leaves_h - READY_BEFORE / timedelta(hours=1)
    ends_h = np.append(starts_h[1:], np.inf)
    is_last = ends_h > ready_h[:, None] + 1e-9
    is_last &= ((windows.beyond_h == 0) & ~windows.is_overdue)[:, None]
    cost = eur + early + LATE_EUR_PER_KWH * is_last
    if windows.is_overdue.any():
        # The driver of an overdue car may come any moment: as early as the others leave room for.
        hurry = float(price.min()) + 0.01 * np.maximum(starts_h, 0.0)
        cost = np.where(windows.is_overdue[:, None], hurry, cost)
    asked = np.array(
        [np.nan if s.max_price_per_kwh is None else s.max_price_per_kwh for s in case.sessions],
        dtype=np.float64,
    )
    mean = (eur * inside).sum(axis=1) / np.maximum(windows.stay_h, TOLERANCE_KW)
    worth = np.where(np.isfinite(asked), asked, mean)[:, None] + 1e-9
    fits = (eur <= worth) & is_there
    dearest = np.where(fits, cost, -np.inf).max(axis=1, initial=-np.inf)
    refused = np.where(is_there & ~fits, cost, np.inf).min(axis=1, initial=np.inf)
    return cost, np.minimum(dearest + 1e-7, refused - 1e-7)


def front_load(price: Floats) -> float:
    """Return what a whole horizon's delay costs, EUR per kWh: less than any price step."""
    prices = np.sort(np.round(price, 9))
    steps = prices[1:] - prices[:-1]
    smallest = float(np.where(steps > 0, steps, 1.0).min(initial=1.0))
    return min(1e-4, 0.25 * smallest)


def _name_blocked(limits: Limits, left: Floats, blocked: Flags, notes: list[str]) -> None:
    for row in np.flatnonzero(blocked.any(axis=1)).tolist():
        place = "limit" if not row else f"limit of {limits.label(row)}"
        over = blocked[row] & (left[row] < -TOLERANCE_KW)
        if over.any():
            notes.append(
                f"load that cannot be controlled exceeds the {place} in {int(over.sum())} slots"
            )
        only = blocked[row] & ~over
        if only.any():
            notes.append(
                f"guards alone exceed the {place} in {int(only.sum())} slots: "
                f"{'all cars are' if not row else 'its cars are'} planned at 0 there"
            )
