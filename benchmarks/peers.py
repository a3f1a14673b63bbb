"""What the planner is compared with: convex MPC as published, and the optimum with foresight.

`ConvexMpc` is the method of the Adaptive Charging Network (Lee et al., IEEE TSG 12(5) 2021),
written anew from its published formulation: at every step maximise earliness-weighted current with
a trace of equal sharing, over whole 5-minute steps until the last departure, with one second-order
cone per limit and step; then floor to the pilots the station knows and hand the rest out again.
`Offline` knows every session in advance.
"""

import bisect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cvxpy as cp
import numpy as np
from acn_world import MOST_A, PERIOD_MIN, VOLTAGE_V, Month, network, tariff
from acnportal.algorithms import (
    BaseAlgorithm,
    RoundRobin,
    SimpleRampdown,
    SortedSchedulingAlgo,
    earliest_deadline_first,
    least_laxity_first,
)
from acnportal.algorithms.preprocessing import (
    apply_minimum_charging_rate,
    apply_upper_bound_estimate,
    enforce_pilot_limit,
    remove_finished_sessions,
)
from acnportal.algorithms.uncontrolled_charging import UncontrolledCharging
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
EQUAL_SHARE = 1e-12
FLOOR_A = 0.05
KWH_PER_A = VOLTAGE_V / 1000 * PERIOD_MIN / 60


class ByStation(SimpleRampdown):
    """The simulator's own estimator with its defect repaired: bounds found where they are sought.

    acnportal 0.3.3 returns them by session but looks them up by station, so they never act.
    """

    def get_maximum_rates(self, sessions: list[Any]) -> dict[str, float]:
        """Return the bounds by station."""
        bounds = super().get_maximum_rates(sessions)
        return {s.station_id: bounds[s.session_id] for s in sessions}


def sorted_peer(name: str, *, is_integer: bool) -> Any:
    """Return acnportal's own "LLF", "EDF" or "RR", as in the published runs."""
    if name == "RR":
        return RoundRobin(least_laxity_first, uninterrupted_charging=is_integer, continuous_inc=1.0)
    order = {"LLF": least_laxity_first, "EDF": earliest_deadline_first}[name]
    return SortedSchedulingAlgo(order, uninterrupted_charging=is_integer)


def uncontrolled() -> Any:
    """Return charging at once, whatever the limits."""
    return UncontrolledCharging()


class ConvexMpc(BaseAlgorithm):
    """Receding-horizon convex optimisation over every 5-minute step.

    In cost mode the objective is profit with the demand charge above the peak so far (or
    `peak_hint_kw`), otherwise energy as early as possible. `has_estimator` bounds cars by what
    they were seen to draw.
    """

    def __init__(
        self,
        *,
        is_integer: bool,
        has_estimator: bool = False,
        is_cost: bool = False,
        peak_hint_kw: float = 0.0,
        solver: str = "CLARABEL",
    ) -> None:
        super().__init__()
        self.max_recompute = 1
        self.is_integer = is_integer
        self.is_cost = is_cost
        self.peak_hint_kw = peak_hint_kw
        self.solver = solver
        self.estimator = ByStation() if has_estimator else None
        self.failures = 0

    def register_interface(self, interface: Any) -> None:
        """Remember the simulator's interface."""
        super().register_interface(interface)
        if self.estimator is not None:
            self.estimator.register_interface(interface)

    def schedule(self, active_sessions: list[Any]) -> dict[str, list[float]]:
        """Return the pilots of this step, A."""
        site = self.interface.infrastructure_info()
        sessions = enforce_pilot_limit(active_sessions, site)
        if self.estimator is not None:
            sessions = apply_upper_bound_estimate(self.estimator, sessions)
        if self.is_integer:
            sessions = remove_finished_sessions(sessions, site, PERIOD_MIN)
            sessions = apply_minimum_charging_rate(sessions, site, PERIOD_MIN)
        if not sessions:
            return {}
        rates = self.solved(sessions, site)
        if rates is None:
            # A solver that gives up leaves what the published code would: nothing new.
            self.failures += 1
            rates = np.zeros((len(sessions), 1))
            rates[:, 0] = [s.min_rates[0] for s in sessions]
        now = np.clip(rates[:, 0], 0.0, [s.max_rates[0] for s in sessions])
        if self.is_integer:
            now = self._quantised(now, sessions, site)
        else:
            now = _inside(now, sessions, site)
        return {s.station_id: [float(a)] for s, a in zip(sessions, now, strict=True)}

    def solved(self, sessions: Sequence[Any], site: Any) -> Floats | None:
        """Return rates (sessions, steps), A; None if the solver failed."""
        steps = max(s.remaining_time for s in sessions)
        rows = [site.get_station_index(s.station_id) for s in sessions]
        rates = cp.Variable((len(sessions), steps))
        low, high = np.zeros(rates.shape), np.zeros(rates.shape)
        for i, s in enumerate(sessions):
            low[i, : s.remaining_time] = s.min_rates
            high[i, : s.remaining_time] = s.max_rates
        high = np.maximum(high, low)
        need = np.array([max(s.remaining_demand, 0.0) for s in sessions]) / KWH_PER_A
        # A minimum that a car is forced to take may exceed the last of its need.
        need = np.maximum(need, low.sum(axis=1))
        constraints = [rates >= low, rates <= high, cp.sum(rates, axis=1) <= need]
        turn = np.deg2rad(site.phases[rows])
        for j, coefficients in enumerate(site.constraint_matrix[:, rows]):
            flow = np.stack([coefficients * np.cos(turn), coefficients * np.sin(turn)])
            constraints.append(cp.norm(flow @ rates, axis=0) <= site.constraint_limits[j])
        problem = cp.Problem(cp.Maximize(self._objective(rates, steps)), constraints)
        try:
            problem.solve(solver=self.solver)
        except cp.SolverError:
            return None
        if rates.value is None:
            return None
        return np.asarray(rates.value, dtype=np.float64)

    def _objective(self, rates: Any, steps: int) -> Any:
        early = (steps - np.arange(steps)) / steps
        soon = early @ cp.sum(rates, axis=0)
        share = EQUAL_SHARE * cp.sum_squares(rates)
        if not self.is_cost:
            return soon - share
        load_kw = cp.sum(rates, axis=0) * VOLTAGE_V / 1000
        prices = np.array(self.interface.get_prices(steps))
        hours = PERIOD_MIN / 60
        before_kw = max(self.interface.get_prev_peak() * VOLTAGE_V / 1000, self.peak_hint_kw)
        charge = self.interface.get_demand_charge()
        profit = (0.30 - prices) @ load_kw * hours
        peak = cp.maximum(cp.max(load_kw), before_kw)
        return profit - charge * peak + 1e-6 * soon - share

    def _quantised(self, rates: Floats, sessions: Sequence[Any], site: Any) -> Floats:
        """Floor to known pilots, then raise in turn (least slack first) up to the sum planned."""
        rows = [site.get_station_index(s.station_id) for s in sessions]
        known = [np.unique(np.append(site.allowable_pilots[r], 0.0)) for r in rows]
        flow = _Flow(site, rows)
        target = float(rates.sum())
        # Nearly a level counts as that level, as published, unless together they pass a limit.
        for nearly_a in (FLOOR_A, 0.0):
            now = np.array(
                [
                    k[max(bisect.bisect_right(k, a + nearly_a) - 1, 0)]
                    for a, k in zip(rates, known, strict=True)
                ]
            )
            if flow.fits(now):
                break
        low = np.array([s.min_rates[0] for s in sessions])
        now = np.maximum(now, low)
        most = np.minimum(
            [s.remaining_demand / KWH_PER_A for s in sessions], [s.max_rates[0] for s in sessions]
        )
        order = np.argsort(
            [s.remaining_time - s.remaining_demand / KWH_PER_A / MOST_A for s in sessions]
        )
        active = dict.fromkeys(order.tolist())
        while active:
            for i in list(active):
                at = bisect.bisect_right(known[i], now[i])
                raised = now.copy()
                raised[i] = known[i][at] if at < len(known[i]) else np.inf
                if raised[i] > most[i] or raised.sum() > target or not flow.fits(raised):
                    del active[i]
                else:
                    now = raised
        return now


class _Flow:
    """The limits as seen by some stations."""

    def __init__(self, site: Any, rows: Sequence[int]) -> None:
        turn = np.exp(1j * np.deg2rad(site.phases[list(rows)]))
        self.matrix = site.constraint_matrix[:, list(rows)] * turn
        self.limits = site.constraint_limits

    def fits(self, rates: Floats) -> bool:
        """Return whether no limit is passed."""
        return bool((np.abs(self.matrix @ rates) <= self.limits + 1e-7).all())


def _inside(rates: Floats, sessions: Sequence[Any], site: Any) -> Floats:
    """Return `rates` scaled into the limits that a solver's tolerance passed."""
    flow = _Flow(site, [site.get_station_index(s.station_id) for s in sessions])
    over = float((np.abs(flow.matrix @ rates) / flow.limits).max(initial=0.0))
    return rates / over if over > 1.0 else rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """The best that could be done with ideal cars: share delivered, or profit and its peak."""

    delivered: float
    profit: float
    peak_kw: float


def offline(month: Month, *, cap_kw: float, is_cost: bool = False) -> Offline:
    """Return the optimum of `month` with foresight, ideal batteries and continuous pilots.

    Between two arrivals or departures (and price steps, in cost mode) nothing changes, so such a
    stretch is one block: with constant rates inside it nothing is lost.
    """
    net = network(cap_kw, is_integer=False)
    at = {station: i for i, station in enumerate(net.station_ids)}
    edges = {s.arrival for s in month.stays} | {s.departure for s in month.stays}
    steps = max(edges)
    prices = np.array(tariff().get_tariffs(month.start.replace(tzinfo=None), steps, PERIOD_MIN))
    if is_cost:
        edges |= {int(k) + 1 for k in np.flatnonzero(np.diff(prices))}
    blocks = [(a, b) for a, b in pairwise(sorted(edges))]
    cells = [
        (i, b)
        for i, s in enumerate(month.stays)
        for b, (start, _) in enumerate(blocks)
        if s.arrival <= start < s.departure
    ]
    stay, block = np.array(cells).T
    length = np.array([end - start for start, end in blocks])
    rates = cp.Variable(len(cells))
    one = np.arange(len(cells))
    energy = sparse.csr_array(
        (length[block] * KWH_PER_A, (stay, one)), shape=(len(month.stays), len(cells))
    )
    asked = np.array([s.energy_kwh for s in month.stays])
    bounds = [rates >= 0, rates <= MOST_A, energy @ rates <= asked]
    circles = []
    station = np.array([at[month.stays[i].station_id] for i in stay])
    turn = np.deg2rad(net._phase_angles)
    for j, row in enumerate(net.constraint_matrix):
        parts = []
        for wave in (np.cos(turn), np.sin(turn)):
            values = (row * wave)[station]
            on = values != 0
            parts.append(
                sparse.csr_array(
                    (values[on], (block[on], one[on])), shape=(len(blocks), len(cells))
                )
            )
        circles.append((parts[0], parts[1], float(net.magnitudes[j])))
    given = cp.sum(energy @ rates)
    load = sparse.csr_array(
        (np.full(len(cells), VOLTAGE_V / 1000), (block, one)), shape=(len(blocks), len(cells))
    )
    if not is_cost:
        _maximise(given, rates, bounds, circles)
        return Offline(
            delivered=float(given.value) / float(asked.sum()), profit=np.nan, peak_kw=np.nan
        )
    charge = float(tariff().get_demand_charge(month.start.replace(tzinfo=None)))
    block_price = np.array([prices[start] for start, _ in blocks])
    peak = cp.max(load @ rates)
    cost = (block_price * length * PERIOD_MIN / 60) @ (load @ rates)
    profit = 0.30 * given - cost - charge * peak
    _maximise(profit, rates, bounds, circles)
    return Offline(
        delivered=float(given.value) / float(asked.sum()),
        profit=float(profit.value),
        peak_kw=float(peak.value),
    )


_ALONE = {"solver": "ipm", "threads": 1, "output_flag": False}
"""HiGHS keeps the number of threads it was first given, and the planner gives it one."""


def _maximise(
    objective: Any,
    rates: Any,
    bounds: list[Any],
    circles: list[tuple[sparse.csr_array, sparse.csr_array, float]],
) -> None:
    """Set `rates` so that `objective` is greatest within `bounds` and `circles`.

    A circle is two parts of a current per block and how large it may be. Where Clarabel gives up
    (some months do that), tangents are drawn where a circle is passed until none is: the optimum is
    then at most a ten-thousandth too high, never too low.
    """
    inside = [
        cp.norm(cp.vstack([cos @ rates, sin @ rates]), axis=0) <= most for cos, sin, most in circles
    ]
    try:
        cp.Problem(cp.Maximize(objective), bounds + inside).solve(solver="CLARABEL")
        return
    except cp.SolverError:
        print("(Clarabel gave up: tangents instead)", file=sys.stderr)
    cuts: list[Any] = []
    for turn in np.linspace(0.0, 2 * np.pi, 12, endpoint=False):
        cuts += [(np.cos(turn) * cos + np.sin(turn) * sin) @ rates <= m for cos, sin, m in circles]
    while True:
        cp.Problem(cp.Maximize(objective), bounds + cuts).solve(
            solver="HIGHS", highs_options=_ALONE
        )
        found = len(cuts)
        for cos, sin, most in circles:
            x, y = cos @ rates.value, sin @ rates.value
            size = np.hypot(x, y)
            over = np.flatnonzero(size > most * (1 + 1e-4))
            if len(over):
                along = sparse.diags_array(x[over] / size[over]) @ cos[over]
                cuts.append(
                    (along + sparse.diags_array(y[over] / size[over]) @ sin[over]) @ rates <= most
                )
        if len(cuts) == found:
            return
