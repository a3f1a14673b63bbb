"""Real instants of a real garage as planning cases, without any simulator.

Caltech's 54 EVSEs behind their transformer (network and tariff as acnportal, MIT licence, has
them) with the sessions of benchmarks/data: a month is lived through in steps of 5 minutes, each
decided by the planner, and every few steps what is there becomes a case. Batteries are ideal.
"""

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from csms.core.plan import PlanningCase
from csms.planning.acn import AcnOptions, AcnScheduler

DATA = Path(__file__).parent / "data" / "acn_sessions.csv.gz"
PERIOD_MIN = 5
VOLTAGE_V = 208.0
LONGEST_STAY = 144
QUARTER = timedelta(minutes=15)
AV_POD = tuple(range(324, 328)) + tuple(range(489, 493))
CC_POD = (322, 493, 496, 320, 495, 321, 323, 494)
AB = (308, 508, 303, 513, 310, 506, 316, 500, 318, 498, *AV_POD, *CC_POD)
BC = (304, 512, 305, 511, 313, 503, 311, 505, 317, 499, 148, 149, 212, 213)
CA = (307, 509, 309, 507, 306, 510, 315, 501, 319, 497, 312, 504, 314, 502)
BUSY_FROM = ((0, 0.05623), (8, 0.0925), (12, 0.26668), (18, 0.0925), (23, 0.05623))
"""SCE TOU-EV-4, March 2019, a summer weekday: from which hour on which price, $ per kWh."""
WEEKEND = 0.05623
DEMAND_CHARGE = 15.51
REVENUE = 0.30


@dataclass(kw_only=True, slots=True)
class Car:
    """A session as acnportal shows it to schedulers; times are steps."""

    session_id: str
    station_id: str
    arrival: int
    departure: int
    requested_kwh: float
    energy_delivered: float = 0.0

    @property
    def estimated_departure(self) -> int:
        """When it leaves; statements are true here."""
        return self.departure

    @property
    def remaining_demand(self) -> float:
        """Energy still missing, kWh."""
        return max(self.requested_kwh - self.energy_delivered, 0.0)


class Network:
    """Caltech's network behind a transformer of `cap_kw`, as acnportal describes networks."""

    def __init__(self, cap_kw: float) -> None:
        numbers = (*AB, *BC, *CA)
        self.station_ids = tuple(f"CA-{n}" for n in numbers)
        ab, bc, ca, cc, av = (np.isin(numbers, g) * 1.0 for g in (AB, BC, CA, CC_POD, AV_POD))
        a, b, c = ab - ca, bc - ab, ca - bc
        primary = ((a - c) / 4, (b - a) / 4, (c - b) / 4)
        self.constraint_matrix = np.array([cc, av, a, b, c, *primary])
        line_a = [cap_kw * 1000 / 3 / volts for volts in (120, 277)]
        self.constraint_limits = np.repeat([80.0, *line_a], [2, 3, 3])
        self.constraint_ids = ("CC pod", "AV pod", *"abcABC")
        self.phases = 30.0 * ab - 90.0 * bc + 150.0 * ca
        self.voltages = np.full(len(numbers), VOLTAGE_V)
        self.max_pilot = np.full(len(numbers), 32.0)
        self.allowable_pilots = [
            [0, 8, 16, 24, 32] if n in CC_POD else [0, *range(6, 33)] for n in numbers
        ]
        self.min_pilot = np.array([levels[1] for levels in self.allowable_pilots], dtype=float)
        self.is_continuous = np.zeros(len(numbers), dtype=np.bool_)


@dataclass(kw_only=True)
class Garage:
    """One step after the other, as schedulers see it through acnportal's interface."""

    site: Network
    start: datetime
    current_time: int = 0
    period: float = PERIOD_MIN
    cars: list[Car] = field(default_factory=list)
    last_applied_pilot_signals: dict[str, float] = field(default_factory=dict)
    last_actual_charging_rate: dict[str, float] = field(default_factory=dict)
    peak_a: float = 0.0

    @property
    def current_datetime(self) -> datetime:
        """Local time, as the simulator has it: without a zone."""
        return self.start + timedelta(minutes=PERIOD_MIN * self.current_time)

    def active_sessions(self) -> list[Car]:
        """Return the cars that are there and not full."""
        now = self.current_time
        return [c for c in self.cars if c.departure > now and c.remaining_demand > 1e-3]

    def infrastructure_info(self) -> Network:
        """Return the network."""
        return self.site

    def get_prices(self, length: int, start: int | None = None) -> Any:
        """Return the price of each step from now on."""
        at = [self.current_datetime + timedelta(minutes=PERIOD_MIN * k) for k in range(length)]
        return np.array([_price(instant) for instant in at])

    def get_demand_charge(self, start: int | None = None) -> float:
        """Return what a kW of the month's peak costs."""
        return DEMAND_CHARGE

    def get_prev_peak(self) -> float:
        """Return the highest sum of currents so far, A."""
        return self.peak_a

    def live_through(self, pilots: dict[str, list[float]], sessions: Sequence[Car]) -> None:
        """Let the cars draw what they are given for one step."""
        per_a = VOLTAGE_V / 1000 * PERIOD_MIN / 60
        given = {c.session_id: min(pilots[c.station_id][0], 32.0) for c in sessions}
        for car in sessions:
            car.energy_delivered += min(given[car.session_id] * per_a, car.remaining_demand)
        self.peak_a = max(self.peak_a, sum(given.values()))
        self.last_applied_pilot_signals, self.last_actual_charging_rate = given, dict(given)
        self.current_time += 1


def _price(at: datetime) -> float:
    if at.weekday() >= 5:
        return WEEKEND
    return next(price for hour, price in reversed(BUSY_FROM) if at.hour >= hour)


def stays(site: str, month: str) -> list[Car]:
    """Return the sessions of `site` ("caltech", "jpl") in `month` ("2019-07") as they arrive.

    An EVSE has one at a time. Those of JPL, a larger site, are placed on Caltech's network.
    """
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [r for r in csv.DictReader(lines) if (r["site"], r["month"]) == (site, month)]
    ours = Network(150).station_ids
    theirs = sorted({row["station_id"] for row in rows})
    home = dict(zip(theirs, ours, strict=False)) if site != "caltech" else {s: s for s in ours}
    free_at: dict[str, int] = {}
    found = []
    for number, row in enumerate(rows):
        arrival, leaves = (int(row[f"{w}_min"]) // PERIOD_MIN for w in ("arrival", "departure"))
        station, departure = home.get(row["station_id"], ""), min(leaves, arrival + LONGEST_STAY)
        if not station or departure <= arrival or arrival < free_at.get(station, 0):
            continue
        free_at[station] = departure
        most_kwh = 32 * VOLTAGE_V / 1000 * (departure - arrival) * PERIOD_MIN / 60
        found.append(
            Car(
                session_id=f"s{number}",
                station_id=station,
                arrival=arrival,
                departure=departure,
                requested_kwh=min(float(row["energy_kwh"]), most_kwh),
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One instant as three cases: all there is, at a price, and in quarter hours at a price."""

    throughput: PlanningCase
    priced: PlanningCase
    quarters: PlanningCase


def snapshots(
    site: str, month: str, *, cap_kw: float, days: int, every: int = 1, at_least: int = 15
) -> Iterator[Snapshot]:
    """Yield every `every`-th instant of the first `days` with `at_least` cars that want energy."""
    garage = Garage(site=Network(cap_kw), start=datetime.fromisoformat(f"{month}-01"))
    decides, sells = AcnScheduler(), AcnScheduler(AcnOptions(revenue_per_kwh=REVENUE))
    for scheduler in (decides, sells):
        scheduler.register_interface(garage)
    coming = stays(site, month)
    coming.reverse()
    while garage.current_time < days * 24 * 60 // PERIOD_MIN:
        while coming and coming[-1].arrival <= garage.current_time:
            garage.cars.append(coming.pop())
        garage.cars = garage.active_sessions()
        sessions = garage.active_sessions()
        if len(sessions) >= at_least and garage.current_time % every == 0:
            priced = sells.case(sessions)
            yield Snapshot(
                throughput=decides.case(sessions), priced=priced, quarters=_in_quarters(priced)
            )
        garage.live_through(decides.schedule(sessions), sessions)


def _in_quarters(case: PlanningCase) -> PlanningCase:
    """Return `case` as a site is planned: 96 quarter hours, needs that are due, no peak."""
    edges = tuple(case.now_at + QUARTER * k for k in range(97))
    none = (0.0,) * 96
    return replace(
        case,
        edges_at=edges,
        limit_kw=case.limit_kw[:1] * 96,
        base_load_kw=none,
        reserved_kw=none,
        price_eur_per_kwh=tuple(_price(at) for at in edges[:-1]),
        co2_kg_per_kwh=none,
        demand_charge_eur_per_kw=0.0,
        avoids_pauses=True,
        sessions=tuple(replace(s, required_kwh=s.preferred_kwh) for s in case.sessions),
    )
