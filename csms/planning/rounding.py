"""Block powers -> rows a station can follow: slots, minimum currents, left-over room used.

Rounding never takes from the guards and never passes a limit: every step moves energy of one car
into room that is free at that moment. What the solver put below a car's minimum is gathered in
fewer slots; a need may be overshot by less than one slot at minimum power, since a need is a least.
"""

import numpy as np

from csms.planning.blocks import Blocks
from csms.planning.carried import carried
from csms.planning.exchange import Worths
from csms.planning.grid import Flags, Floats, Grid
from csms.planning.placing import Places
from csms.planning.room import ENERGY_KWH, EPSILON_KW, Room
from csms.planning.rules import missed_kwh
from csms.planning.solver import Solution
from csms.planning.whole import made_whole, serve_whole

FULL_SHARE = 0.99
FITS_SHARE = 1.0 - 1e-6
"""Which part of the solver's powers fits for certain: it passes limits by its tolerance."""
WORTH_EUR = 1e-6
"""A limit binds where a unit more of it would be worth as much, EUR per hour."""


def rows_of(grid: Grid, blocks: Blocks, solution: Solution) -> Floats:
    """Return rows (N, K) that deliver what `solution` asks for on levels stations take, kW.

    Energy is gathered within hours of equal price. Where cars compete for all there is, or that
    misses what could be met, each slot is rounded in turn.
    """
    kept = np.clip(
        grid.reserved_kw - np.repeat(solution.reserve_kw, blocks.lengths), 0.0, grid.reserved_kw
    )
    peak = solution.peak_kw if grid.demand_weight > 0 else np.inf
    room = grid.room.copy()
    room[0] -= kept
    inside = blocks.sums(grid.inside_h)
    energy = solution.power_kw * inside
    is_bound = _is_bound(grid, solution)
    is_scarce = _is_scarce(grid, is_bound, inside)
    smooth = None
    if not is_scarce:
        smooth = _smooth(grid, blocks, solution.power_kw, inside, (room, peak))
        # What the optimum misses as well, such as too short a stay, no other rows could give.
        least = np.maximum(grid.due_kwh - energy.sum(axis=1), 0.0)
        lost = missed_kwh(grid, smooth) - least
        if (lost <= 10 * ENERGY_KWH).all() and not _breaks_floor(grid, smooth):
            return smooth
    aimed = np.repeat(solution.power_kw, blocks.lengths, axis=1)
    # Headroom is worth less than any need: what competes for power may have it at once.
    limit = grid.room if is_scarce else room
    is_bound = np.repeat(is_bound, blocks.lengths, axis=1)
    worths = _worths(grid, solution)
    power = carried(grid, aimed, is_bound, limit=limit, peak_kw=peak, worths=worths)
    power = made_whole(grid, power, limit=limit, peak_kw=peak, is_on_levels=True)
    power = _served(grid, power, limit=limit, peak_kw=peak, is_on_levels=True)
    if smooth is None or _breaks_floor(grid, smooth) or _misses_less(grid, power, smooth):
        return power
    return smooth


def _worths(grid: Grid, solution: Solution) -> Worths | None:
    """Return what the first slot is worth, None where the solver does not tell."""
    if solution.worth is None or not np.isfinite(solution.worth).all():
        return None
    return Worths(
        car=(solution.worth - grid.cost[:, 0]) * grid.inside_h[:, 0],
        limit=solution.limit_value[:, 0] * grid.hours[0],
    )


def _is_bound(grid: Grid, solution: Solution) -> Flags:
    """Return in which blocks a limit binds that a car is under, (N, B)."""
    is_dear = (solution.limit_value > WORTH_EUR).astype(np.float64)
    return np.asarray((grid.use > 0).T.astype(np.float64) @ is_dear > 0, dtype=np.bool_)


def _is_scarce(grid: Grid, is_bound: Flags, inside: Floats) -> bool:
    """Return whether the limits bind during nearly the whole stay of some car.

    What rounding loses of its energy has no slot then in which it could be made up.
    """
    bound_h = (is_bound * inside).sum(axis=1)
    is_full = bound_h >= FULL_SHARE * np.maximum(inside.sum(axis=1), ENERGY_KWH)
    return bool((is_full & (grid.due_kwh > ENERGY_KWH) & ~grid.is_fixed).any())


def _breaks_floor(grid: Grid, power: Floats) -> bool:
    """Return whether a car that must go on, or was guaranteed its minimum, has less now."""
    return bool((power[:, 0] < grid.floor_kw[:, 0] - EPSILON_KW).any())


def _smooth(
    grid: Grid, blocks: Blocks, aimed_kw: Floats, inside: Floats, limits: tuple[Floats, float]
) -> Floats:
    """Return rows (N, K) that give each car the energy of `aimed_kw` in few pieces, on levels, kW.

    A car has `aimed_kw` (N, B) during the hours it is `inside` (N, B) a block.
    """
    power = _gathered(grid, blocks, aimed_kw, inside, limits)
    trim(grid, power)
    room, peak = limits
    _lift(grid, power, limit=room, peak_kw=peak)
    power = _served(grid, power, limit=room, peak_kw=peak, is_on_levels=False)
    return made_whole(grid, power, limit=np.maximum(room, grid.taken(power)), peak_kw=peak)


def _served(
    grid: Grid, power: Floats, *, limit: Floats, peak_kw: float, is_on_levels: bool
) -> Floats:
    """Return `power` with left-over room given to cars that miss a need; rows stay on levels.

    Headroom, then the peak, is given up only as far as somebody would miss a need for it.
    """
    step = float(grid.least_kw.max(initial=0.0)) or 1.0
    stages = [(limit, peak_kw)]
    if peak_kw < np.inf:
        stages += [(grid.room, peak_kw + above) for above in (0.0, step, 2 * step, 4 * step)]
    if limit is not grid.room or peak_kw < np.inf:
        stages.append((grid.room, np.inf))
    for most, below_kw in stages:
        if not missed_kwh(grid, power).any():
            break
        room = Room(grid, power, limit=most, peak_kw=below_kw, may_stay=True)
        _serve(grid, power, room, is_on_levels)
    return power


def _misses_less(grid: Grid, power: Floats, than: Floats) -> bool:
    """Return whether `power` misses less than `than`, the highest priority class deciding first."""
    change = missed_kwh(grid, power) - missed_kwh(grid, than)
    for rank in sorted(set(grid.rank.tolist()), reverse=True):
        more = float(change[grid.rank == rank].sum())
        if abs(more) > 10 * ENERGY_KWH:
            return more < 0
    return False


def _bands(grid: Grid, blocks: Blocks) -> Blocks:
    """Return blocks joined where energy costs the same: within one it may move freely."""
    price = blocks.sums(grid.price * grid.hours) / blocks.sums(grid.hours)
    first = blocks.first[:-1]
    if any(s.carbon_weight_eur_per_kg > 0 for s in grid.case.sessions):
        # Slots that differ in carbon are not alike for those who weigh it.
        carbon = blocks.sums(grid.co2 * grid.hours) / blocks.sums(grid.hours)
        price = price + carbon * (1.0 + 1e-3 * np.pi)
    is_sunny = blocks.sums(grid.surplus_kw) > 0
    is_new = np.ones(len(first), dtype=np.bool_)
    # Energy from the roof follows the sun, so its blocks stay as the solver filled them.
    is_new[1:] = (
        (np.abs(np.diff(price)) > 1e-9) | is_sunny[1:] | is_sunny[:-1] | grid.is_turn[first][1:]
    )
    return Blocks(first=np.append(first[is_new], blocks.first[-1]))


def trim(grid: Grid, power: Floats) -> None:
    """Take from rows, in place, what passes a bound or the limits by a block's mean.

    Who can wait longest gives first, so that few cars lack anything afterwards. Where a peak costs
    or limits overlap all give their part: what a car alone lacks would have to go elsewhere.
    """
    np.clip(power, 0.0, grid.cap_kw, out=power)
    np.putmask(power, power < ENERGY_KWH, 0.0)
    shared = grid.shared_kw(power)
    total = grid.use @ shared
    over = total > grid.room
    if not over.any():
        return
    if grid.demand_weight > 0 or len(total) > 1:
        _scale(grid, power, shared, total)
        return
    order = np.lexsort((-grid.laxity_h, grid.rank))
    at = np.ix_(order, np.flatnonzero(over[0]))
    passed, own = (total - grid.room)[0, over[0]], shared[at]
    # A kW of any car is one of the site's.
    before = np.cumsum(own, axis=0) - own
    power[at] -= np.minimum(np.maximum(passed - before, 0.0), own)


def _scale(grid: Grid, power: Floats, shared: Floats, total: Floats) -> None:
    """Scale down, in place, what rows take beyond their guards where a limit is passed."""
    over = total > grid.room
    scale = np.ones(power.shape)
    for row in np.flatnonzero(over.any(axis=1)).tolist():
        fits = np.where(over[row], grid.room[row] / np.maximum(total[row], EPSILON_KW), 1.0)
        np.minimum(scale, fits, out=scale, where=(grid.use[row] > 0)[:, None])
    np.copyto(power, power - shared * (1.0 - scale))


def _gathered(
    grid: Grid, blocks: Blocks, aimed_kw: Floats, inside: Floats, limits: tuple[Floats, float]
) -> Floats:
    """Return rows (N, K) that give the energy of `aimed_kw`, each car's at once within a band, kW.

    In bands in which not all cars find room that way, a single block keeps the solver's powers;
    which of many equal blocks a car is put in by the solver means nothing, so those are shared out.
    Only where limits overlap its powers tell who fits beside whom.
    """
    limit, peak_kw = limits
    bands = _bands(grid, blocks)
    band = np.repeat(np.arange(len(bands.lengths)), bands.lengths)
    full_kwh = grid.cap_kw * grid.inside_h
    energy = bands.of(blocks, aimed_kw * inside)
    if grid.floor_kw.any():
        held_kwh = grid.floor_kw * grid.inside_h
        full_kwh -= held_kwh
        energy -= bands.sums(held_kwh)
    energy = np.maximum(energy, 0.0)
    before = np.cumsum(full_kwh, axis=1) - full_kwh
    before -= before[:, bands.first[:-1]][:, band]
    given = np.minimum(np.maximum(energy[:, band] - before, 0.0), full_kwh)
    power = grid.floor_kw + given / np.maximum(grid.inside_h, 1e-12)
    over = (grid.taken(power) > limit).any(axis=0)
    if peak_kw < np.inf:
        over |= power.sum(axis=0) + grid.base_kw > peak_kw
    if not over.any():
        return power
    is_over = np.zeros(len(bands.lengths), dtype=np.bool_)
    is_over[band[over]] = True
    is_alone = bands.of(blocks, np.ones(len(blocks.lengths))) == 1
    stays = np.flatnonzero((is_over & is_alone)[band])
    block = np.repeat(np.arange(len(blocks.lengths)), blocks.lengths)
    even = np.where(inside > 0, aimed_kw, 0.0)
    power[:, stays] = np.maximum(even[:, block[stays]], grid.floor_kw[:, stays])
    shared = np.flatnonzero(is_over & ~is_alone).tolist()
    if shared:
        beside = None
        if len(limit) > 1 and not grid.case.avoids_pauses:
            beside = even[:, block]
            is_full = (grid.taken(beside) >= FULL_SHARE * limit).any(axis=0)
            beside = np.where(is_full, beside * FITS_SHARE, 0.0)
        contested = _Contested(grid, limits, full_kwh, beside)
        for b in shared:
            slots = range(int(bands.first[b]), int(bands.first[b + 1]))
            contested.share(power, slots, energy[:, b])
    return power


class _Contested:
    """Shares out slots in which not all cars find room that could use them.

    Who leaves first comes first. Where a pause is to be avoided, those that run come before them,
    and all at their minimum before anyone has more; where it costs nothing, that would only put off
    who cannot wait from one plan to the next, and cars first have what they can have `beside` each
    other (N, K), kW.
    """

    def __init__(
        self,
        grid: Grid,
        limits: tuple[Floats, float],
        full_kwh: Floats,
        beside: Floats | None,
    ) -> None:
        sessions = grid.case.sessions
        departs = np.argsort([s.departs_at.timestamp() for s in sessions], kind="stable")
        self.turn = np.empty(len(sessions))
        self.turn[departs] = np.arange(len(sessions))
        self.current = np.array([bool(s.current_kw) for s in sessions], dtype=np.bool_)
        self.has_floor = bool(grid.floor_kw.any())
        self.avoids_pauses = grid.case.avoids_pauses
        self.grid, self.full_kwh, self.beside = grid, full_kwh, beside
        self.limit, self.peak_kw = limits

    def share(self, power: Floats, slots: range, energy_kwh: Floats) -> None:
        """Fill `slots` of `power` (N, K), in place: `energy_kwh` (N,) in all, above the floors."""
        grid, n = self.grid, len(self.turn)
        cars = np.flatnonzero(energy_kwh > 0)
        left, own, use = energy_kwh[cars], grid.guard_kw[cars], grid.use[:, cars]
        turn, least_kw = self.turn[cars], grid.least_kw[cars]
        running = (power[:, slots[0] - 1] > 0 if slots[0] else self.current)[cars]
        full_kwh, hours = self.full_kwh[cars, slots[0] :].T, grid.inside_h[cars, slots[0] :].T
        ahead = full_kwh[: len(slots)].sum(axis=0)
        floor = np.zeros(len(cars))
        for k, full, inside in zip(slots, full_kwh, hours, strict=False):
            ahead = ahead - full
            want = np.minimum(full, left) / np.maximum(inside, 1e-12)
            if self.has_floor:
                floor = grid.floor_kw[cars, k]
                want = want + floor
            room, below_kw = self.limit[:, k], self.peak_kw - float(grid.base_kw[k])
            row = want
            if float(want.sum()) > below_kw or (use @ np.maximum(want - own, 0.0) > room).any():
                must = left - ahead > ENERGY_KWH
                key, least = turn - 2.0 * n * must, np.where(must, want, floor)
                if self.avoids_pauses:
                    key = key - n * running
                    least = np.maximum(least, np.minimum(want, least_kw))
                elif self.beside is not None:
                    least = np.maximum(least, np.minimum(want, self.beside[cars, k]))
                order = np.argsort(key - 4.0 * n * (floor > 0) if self.has_floor else key)
                row = np.zeros(len(cars))
                row[order] = _filled(
                    want[order],
                    own[order],
                    least[order],
                    use=use[:, order],
                    room=room,
                    peak_kw=below_kw,
                )
            power[cars, k] = row
            left = np.maximum(left - (row - floor) * inside, 0.0)
            running = row > 0


def _filled(
    want: Floats, guard: Floats, least: Floats, *, use: Floats, room: Floats, peak_kw: float
) -> Floats:
    """Return what cars get, kW: in their order first `least` each, then what they want.

    Many cars at their minimum draw more together than few at full power, since each one's guard
    is free to it, and a car that runs slowly need not pause.
    """
    need = np.maximum(least - guard, 0.0)
    fits = (np.cumsum(use * need, axis=1) <= room[:, None] + EPSILON_KW).all(axis=0)
    # Who does not get its minimum leaves its part to the others first.
    row = np.where(fits | (need <= 0), least, 0.0)
    has_peak = peak_kw < np.inf
    if has_peak:
        row = np.where(np.cumsum(row) <= peak_kw + EPSILON_KW, row, 0.0)
    is_free, per_kw = use <= 0, np.maximum(use, 1e-12)
    # What one limit cuts, another one counted as used: a second turn hands that out.
    for _ in range(min(len(room), 2)):
        from_kw = np.maximum(row, guard)
        step = use * np.maximum(want - from_kw, 0.0)
        left = np.maximum(room - use @ np.maximum(row - guard, 0.0), 0.0)[:, None]
        given = np.minimum(np.maximum(left - (np.cumsum(step, axis=1) - step), 0.0), step)
        if len(room) > 1:
            given = np.where(is_free, np.inf, given / per_kw)
        after = np.maximum(row, np.minimum(want, from_kw + given.min(axis=0)))
        if has_peak:
            rise = after - row
            above = np.cumsum(rise) + float(row.sum()) - peak_kw
            row = row + np.maximum(rise - np.maximum(above, 0.0), 0.0)
            if above[-1] >= 0:
                break
        else:
            row = after
    return row


def _lift(grid: Grid, power: Floats, *, limit: Floats, peak_kw: float) -> None:
    """Gather what lies below minimum currents in fewer slots, in place."""
    is_low = (power > 0) & (power < grid.least_kw[:, None] - EPSILON_KW)
    cars = np.flatnonzero(is_low.any(axis=1))
    if not len(cars):
        return
    room = Room(grid, power, limit=limit, peak_kw=peak_kw)
    cars = cars[np.argsort(grid.laxity_h[cars], kind="stable")]
    before = power[cars]
    # All at once, so that what several cars had too little of becomes enough for one.
    power[cars] = np.where(is_low[cars], 0.0, before)
    room.book_all(cars, before, power[cars])
    energy = ((before - power[cars]) * grid.inside_h[cars]).sum(axis=1)
    # No dearer than what the solver chose: wishes must not end up in dear hours.
    dearest = np.where(before > 0, grid.cost[cars], -np.inf).max(axis=1, initial=-np.inf)
    places = Places(grid, power, room, cars)
    for at, (kwh, most) in enumerate(zip(energy.tolist(), dearest.tolist(), strict=True)):
        places.place(at, kwh, dearest=most + EPSILON_KW)


def _serve(grid: Grid, power: Floats, room: Room, is_on_levels: bool) -> None:
    """Give cars that miss a need whatever `room` is left, most important first, in place."""
    short = missed_kwh(grid, power)
    cars = np.flatnonzero(short > 0)
    # Less than its next level is of no use to a car.
    step = grid.levels.smallest_kw[cars, None] * is_on_levels
    least = np.maximum(power[cars] + step, grid.least_kw[cars, None])
    upper = room.upper_all(power, cars)
    could = (upper > np.maximum(power[cars], least - 2e-9)) & (grid.inside_h[cars] > 0)
    cars = cars[could.any(axis=1)]
    if not len(cars):
        return
    is_whole = grid.levels.is_coarse[cars] & is_on_levels
    order = np.lexsort((grid.laxity_h[cars], -grid.rank[cars]))
    freely = cars[order][~is_whole[order]]
    places = Places(grid, power, room, freely)
    for at, kwh in enumerate(short[freely].tolist()):
        places.place(at, kwh, may_overshoot=True)
    serve_whole(grid, power, room, cars[order][is_whole[order]])
