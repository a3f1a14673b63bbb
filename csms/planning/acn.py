"""The planner as a scheduling algorithm of the public simulator acnportal, so anybody can compare.

acnportal asks of a scheduler that it can `register_interface` and `run`; nothing of it has to be
inherited or imported, so neither this package nor who installs it depends on the simulator:

    Simulator(caltech_acn(), AcnScheduler(), events, start, period=5).run()

Every step becomes one PlanningCase: its first slot is the step, later slots grow, and the
network's constraint matrix becomes rows of phasors.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from csms.core.circuit import LimitRow, Term
from csms.core.plan import Plan, PlanningCase, PlanningSession
from csms.planning.planner import plan

Floats = NDArray[np.float64]

EARLY_STEPS = (1, 3, 8, 12, 24, 36, 60)
"""Lengths of the slots in steps where nothing has a price: only what is due first matters."""
PRICED_STEPS = (1, 1, 1, 3, 6, 6, 6, 6, 6, 12, 12, 12, 12, 12, 24, 24)
"""Lengths of the slots in steps where prices matter; they are cut where a price changes."""
UNUSED_A = 0.1
"""A car that draws so much less than its pilot cannot take more."""
PROBE_A = 1.0
"""How much more than its bound a car is tried with once it draws all of that."""


class SessionInfo(Protocol):
    """What acnportal tells of a car that is plugged in and not full; times are steps."""

    station_id: str
    session_id: str
    energy_delivered: float
    arrival: int
    departure: int
    estimated_departure: int

    @property
    def remaining_demand(self) -> float:
        """Energy still missing, kWh."""


class InfrastructureInfo(Protocol):
    """What acnportal tells of the network: M limits on sums of the phasors of N stations."""

    constraint_matrix: Floats
    constraint_limits: Floats
    constraint_ids: Sequence[str]
    phases: Floats
    voltages: Floats
    station_ids: Sequence[str]
    max_pilot: Floats
    min_pilot: Floats
    allowable_pilots: Sequence[Any]
    is_continuous: NDArray[np.bool_]


class Interface(Protocol):
    """The part of acnportal's interface that is used here."""

    current_time: int
    current_datetime: datetime
    period: float

    def active_sessions(self) -> list[Any]:
        """Return the cars that are plugged in and not full."""

    def infrastructure_info(self) -> Any:
        """Return the network."""

    @property
    def last_applied_pilot_signals(self) -> dict[str, float]:
        """The last step's pilots by session, A."""

    @property
    def last_actual_charging_rate(self) -> dict[str, float]:
        """The last step's currents by session, A."""

    def get_prices(self, length: int, start: int | None = None) -> Any:
        """Return the price of each step from `start` on, per kWh."""

    def get_demand_charge(self, start: int | None = None) -> float:
        """Return what a kW of the month's peak costs."""

    def get_prev_peak(self) -> float:
        """Return the highest sum of currents so far, A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcnOptions:
    """How the simulator's world is put to the planner.

    `never_pause`: a car that charges goes on until it is full; without it pauses cost nothing, as
    in the published comparisons. `has_tail`: what a car was seen to draw bounds what it is given;
    limits count its pilot, the peak what it draws. `revenue_per_kwh` None: as much energy as
    possible; a number: the most profit at the simulator's tariff, where a kWh sold earns that much
    and `peak_hint_kw` is a peak that the month has anyhow.
    """

    never_pause: bool = False
    has_tail: bool = True
    revenue_per_kwh: float | None = None
    peak_hint_kw: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """The network as read once: it does not change while a simulation runs."""

    index: dict[str, int]
    kw_per_a: tuple[float, ...]
    least_a: tuple[float, ...]
    most_a: tuple[float, ...]
    levels_a: tuple[tuple[float, ...], ...]
    limits: tuple[tuple[str, float], ...]
    factors: tuple[tuple[tuple[int, float, float], ...], ...]
    """Per station: the limits it counts in, with factor and angle; a current that is subtracted
    is one that flows at the opposite angle."""

    @classmethod
    def of(cls, site: InfrastructureInfo) -> "_Network":
        """Read `site`."""
        stations = range(len(site.station_ids))
        matrix, phases = site.constraint_matrix, site.phases
        return cls(
            index={station: i for i, station in enumerate(site.station_ids)},
            kw_per_a=tuple(float(v) / 1000.0 for v in site.voltages),
            least_a=tuple(float(a) for a in site.min_pilot),
            most_a=tuple(float(a) for a in site.max_pilot),
            levels_a=tuple(
                ()
                if site.is_continuous[i]
                else tuple(sorted(float(a) for a in site.allowable_pilots[i] if a > 0))
                for i in stations
            ),
            limits=tuple(
                (str(name), float(limit))
                for name, limit in zip(site.constraint_ids, site.constraint_limits, strict=True)
            ),
            factors=tuple(
                tuple(
                    (int(j), abs(float(matrix[j, i])), float(phases[i] + 180 * (matrix[j, i] < 0)))
                    for j in np.flatnonzero(matrix[:, i])
                )
                for i in stations
            ),
        )

    def allowed_a(self, at: int, current_a: float) -> float:
        """Return the highest pilot that station `at` knows and that is no more than `current_a`."""
        levels = self.levels_a[at]
        if not levels:
            return min(max(current_a, 0.0), self.most_a[at])
        count = bisect_right(levels, current_a + 1e-6)
        return levels[count - 1] if count else 0.0

    def pilot_for(self, at: int, current_a: float) -> float:
        """Return the lowest pilot of station `at` with which a car may draw `current_a`."""
        levels = self.levels_a[at]
        if not levels:
            return min(max(current_a, 0.0), self.most_a[at])
        return levels[min(bisect_left(levels, current_a - 1e-9), len(levels) - 1)]

    def terms(self, session: SessionInfo) -> list[tuple[int, Term]]:
        """Return in which limits the car of `session` counts, and how."""
        return [
            (j, Term(session_id=session.session_id, factor=factor, angle_deg=angle_deg))
            for j, factor, angle_deg in self.factors[self.index[session.station_id]]
        ]


class AcnScheduler:
    """Decides every step of an acnportal simulation by `plan`."""

    max_recompute = 1

    def __init__(
        self,
        options: AcnOptions | None = None,
        *,
        planner: Callable[[PlanningCase], Plan] | None = None,
    ) -> None:
        self.options = options or AcnOptions()
        # The simulator takes the pilots and asks for no reasons.
        self._planner = planner or partial(plan, with_reasons=False)
        self._interface: Interface | None = None
        self._known: _Network | None = None
        self._most_a: dict[str, float] = {}
        self._since: dict[str, tuple[bool, datetime]] = {}
        self._terms: dict[str, list[tuple[int, Term]]] = {}

    def register_interface(self, interface: Interface) -> None:
        """Remember the simulator's interface, and forget what was learned from another one."""
        self._interface, self._known = interface, None
        self._most_a, self._since, self._terms = {}, {}, {}

    def run(self) -> dict[str, list[float]]:
        """Return the pilots of this step by station, A."""
        return self.schedule(self._world.active_sessions())

    def schedule(self, active_sessions: Sequence[SessionInfo]) -> dict[str, list[float]]:
        """Return the pilots of this step by station, A, for the sessions given."""
        if not active_sessions:
            return {}
        made = self._planner(self.case(active_sessions))
        now, net = _now(self._world), self._network
        pilots: dict[str, list[float]] = {}
        for session, row in zip(active_sessions, made.sessions, strict=True):
            at = net.index[session.station_id]
            current_a = row.power_kw[0] / net.kw_per_a[at]
            most_a = self._most_a.get(session.session_id)
            if most_a is not None and current_a > most_a - 1e-6:
                pilot_a = net.pilot_for(at, most_a)
            else:
                pilot_a = net.allowed_a(at, current_a)
            pilots[session.station_id] = [pilot_a]
            was_on, _ = self._since.get(session.session_id, (None, now))
            if was_on != (pilot_a > 0):
                self._since[session.session_id] = (pilot_a > 0, now)
        return pilots

    def case(self, active_sessions: Sequence[SessionInfo]) -> PlanningCase:
        """Return this step as a planning case."""
        world, options = self._world, self.options
        now, step = _now(world), timedelta(minutes=world.period)
        is_sold = options.revenue_per_kwh is not None
        longest = max(s.estimated_departure - world.current_time for s in active_sessions)
        prices = np.array(world.get_prices(longest) if is_sold else np.zeros(longest))
        edges = _edges(PRICED_STEPS if is_sold else EARLY_STEPS, longest, prices)
        slots = len(edges) - 1
        # Copied by the simulator at every reading, so read once.
        pilots = world.last_applied_pilot_signals
        if options.has_tail:
            self._learn(active_sessions, pilots)
        sessions = tuple(
            self._car(s, pilots.get(s.session_id), now, world.current_time, step)
            for s in active_sessions
        )
        month_end = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0)
        none = (0.0,) * slots
        return PlanningCase(
            site_id="acn",
            now_at=now,
            edges_at=tuple(now + step * e for e in edges),
            limit_kw=(sum(s.max_kw for s in sessions) + 1.0,) * slots,
            base_load_kw=none,
            reserved_kw=none,
            price_eur_per_kwh=tuple(float(prices[e]) for e in edges[:-1]),
            co2_kg_per_kwh=none,
            demand_charge_eur_per_kw=world.get_demand_charge() if is_sold else 0.0,
            billed_peak_kw=world.get_prev_peak() * self._network.kw_per_a[0] if is_sold else 0.0,
            peak_hint_kw=options.peak_hint_kw,
            avoids_pauses=options.never_pause,
            days_left=max((month_end - now) / timedelta(days=1), 1.0),
            sessions=sessions,
            limit_rows=self._limit_rows(active_sessions),
        )

    @property
    def _world(self) -> Interface:
        if self._interface is None:
            raise ValueError("no interface yet; a Simulator registers its own")
        return self._interface

    @property
    def _network(self) -> _Network:
        if self._known is None:
            self._known = _Network.of(self._world.infrastructure_info())
        return self._known

    def _limit_rows(self, sessions: Sequence[SessionInfo]) -> tuple[LimitRow, ...]:
        """Return the limits that the cars of `sessions` count in."""
        terms: list[list[Term]] = [[] for _ in self._network.limits]
        for session in sessions:
            own = self._terms.get(session.session_id)
            if own is None:
                own = self._terms[session.session_id] = self._network.terms(session)
            share = self._pilot_share(session)
            for j, term in own:
                counted = term if share == 1.0 else replace(term, factor=term.factor * share)
                terms[j].append(counted)
        return tuple(
            LimitRow(row_id=name, limit_a=(limit_a,), terms=tuple(own))
            for (name, limit_a), own in zip(self._network.limits, terms, strict=True)
            if own
        )

    def _car(
        self,
        session: SessionInfo,
        pilot_a: float | None,
        now: datetime,
        current_time: int,
        step: timedelta,
    ) -> PlanningSession:
        options, net = self.options, self._network
        at = net.index[session.station_id]
        kw_per_a, levels = net.kw_per_a[at], net.levels_a[at]
        most_a = self._most_a.get(session.session_id, net.most_a[at])
        if levels and most_a < levels[-1]:
            # With the pilot above its bound the car draws the bound: what counts for the peak.
            levels = (*levels[: bisect_left(levels, most_a - 1e-9)], most_a)
        least_a = min(net.least_a[at], most_a)
        need_kwh = max(session.remaining_demand, 0.0)
        is_on, since = self._since.get(session.session_id, (False, None))
        is_sold = options.revenue_per_kwh is not None
        return PlanningSession(
            session_id=session.session_id,
            station_id=session.station_id,
            evse_id=1,
            available_at=now - step * (current_time - session.arrival),
            departs_at=now + step * (session.estimated_departure - current_time),
            required_kwh=0.0 if is_sold else need_kwh,
            preferred_kwh=need_kwh,
            max_price_per_kwh=options.revenue_per_kwh,
            max_kw=most_a * kw_per_a,
            min_kw=least_a * kw_per_a,
            phases=1,
            voltage_v=kw_per_a * 1000.0,
            levels_a=levels,
            current_kw=None if pilot_a is None else pilot_a * kw_per_a,
            delivered_kwh=max(session.energy_delivered, 0.0),
            never_pause=options.never_pause,
            since_on_at=since if is_on else None,
            since_off_at=None if is_on else since,
        )

    def _learn(self, sessions: Sequence[SessionInfo], pilots: dict[str, float]) -> None:
        """Bound each car by what it was seen to draw, and try again when it draws that much."""
        rates, net = self._world.last_actual_charging_rate, self._network
        for session in sessions:
            name, at = session.session_id, net.index[session.station_id]
            pilot_a, bound_a = pilots.get(name, 0.0), self._most_a.get(name)
            if pilot_a <= 0:
                continue
            if pilot_a - rates[name] > UNUSED_A:
                most_a = max(rates[name], UNUSED_A)
            elif bound_a is not None and pilot_a > bound_a - UNUSED_A:
                most_a = min(pilot_a + PROBE_A, net.most_a[at])
            else:
                continue
            # Who must go on keeps its pilot whatever it draws: nobody else can have the rest.
            is_kept = self.options.never_pause
            self._most_a[name] = net.pilot_for(at, most_a) if is_kept else most_a

    def _pilot_share(self, session: SessionInfo) -> float:
        """Return what the limits count for each ampere that the car of `session` draws.

        They count pilots, and a car at its bound has a pilot that is higher.
        """
        most_a = self._most_a.get(session.session_id)
        if most_a is None:
            return 1.0
        net = self._network
        return net.pilot_for(net.index[session.station_id], most_a) / most_a


def _now(world: Interface) -> datetime:
    # The simulator's clock shows local time without saying so; only differences matter here.
    return world.current_datetime.replace(tzinfo=UTC)


def _edges(lengths: Sequence[int], longest: int, prices: Floats) -> list[int]:
    """Return slot edges in steps from now, up to `longest`, with one wherever a price changes."""
    edges = {0, longest}
    edges |= {int(e) for e in np.cumsum(lengths) if e < longest}
    edges |= {int(k) + 1 for k in np.flatnonzero(np.diff(prices))}
    return sorted(edges)
