"""A garage in the public simulator acnportal: sessions in, what a scheduler made of them out.

The rules are those of the published experiments (Lee et al., "Adaptive Charging Networks",
IEEE TSG 12(5) 2021): Caltech's 54 EVSEs and three-phase network, steps of 5 minutes, 208 V, 32 A,
stays of at most 12 hours, requests cut to what full power could deliver. Scenario II has ideal
batteries and continuous pilots, III adds the whole amperes of the real stations, V adds batteries
whose power falls above 80 %.
"""

import contextlib
import csv
import gzip
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from acnportal import acnsim
from acnportal.acnsim.models.battery import Linear2StageBattery, batt_cap_fn
from acnportal.signals.tariffs import TimeOfUseTariff
from numpy.typing import NDArray

PERIOD_MIN = 5
VOLTAGE_V = 208.0
MOST_A = 32.0
MOST_KW = MOST_A * VOLTAGE_V / 1000
LONGEST_STAY = 144
ZONE = ZoneInfo("America/Los_Angeles")
TARIFF = "sce_tou_ev_4_march_2019"
REVENUE_PER_KWH = 0.30
PAUSE_KWH = 0.15
"""A pilot that falls to 0 A while more than this is missing counts as a pause."""
DATA = Path(__file__).parent / "data" / "acn_sessions.csv.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One session: from step `arrival` to before step `departure` at `station_id`."""

    session_id: str
    station_id: str
    arrival: int
    departure: int
    energy_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The sessions of one month, and the instant of step 0."""

    name: str
    start: datetime
    stays: tuple[Stay, ...]

    @property
    def requested_kwh(self) -> float:
        """Energy of all sessions."""
        return sum(s.energy_kwh for s in self.stays)

    def days(self, first: int, count: int) -> "Month":
        """Return the sessions that arrive on `count` days from day `first` (0: the month's 1st)."""
        zero, end = first * 288, (first + count) * 288
        stays = tuple(
            Stay(
                session_id=s.session_id,
                station_id=s.station_id,
                arrival=s.arrival - zero,
                departure=s.departure - zero,
                energy_kwh=s.energy_kwh,
            )
            for s in self.stays
            if zero <= s.arrival < end
        )
        return Month(
            name=f"{self.name}+{first}d", start=self.start + timedelta(days=first), stays=stays
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Which of the real world's nuisances are simulated."""

    name: str
    is_integer: bool
    has_tail: bool


SCENARIOS = {
    "II": Scenario(name="II", is_integer=False, has_tail=False),
    "III": Scenario(name="III", is_integer=True, has_tail=False),
    "V": Scenario(name="V", is_integer=True, has_tail=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What became of a month under one scheduler.

    `delivered` is a share of the energy asked for, each session counted up to its own;
    `violations` the steps in which pilots passed a limit; `cpu_ms` what decisions with more than
    25 cars took on average, `cpu_p99_ms` what all but 1 % stayed below.
    """

    delivered: float
    pauses: float
    violations: int
    peak_kw: float
    energy_cost: float
    demand_charge: float
    profit: float
    cpu_ms: float
    cpu_p99_ms: float
    decisions: int


def bundled(site: str, month: str) -> Month:
    """Return the bundled sessions of `site` ("caltech", "jpl") in `month` ("2019-09").

    The cars of JPL are placed on Caltech's network, each of its stations on one of Caltech's.
    """
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=ZONE)
    rows = []
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if (row["site"], row["month"]) == (site, month):
                minutes = int(row["arrival_min"]), int(row["departure_min"])
                rows.append((*minutes, row["station_id"], float(row["energy_kwh"])))
    return _month(f"{site} {month}", start, rows)


def from_acn_data(path: Path, month: str) -> Month:
    """Return the sessions of `month` in a JSON file as ACN-Data's web interface gives it."""
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=ZONE)
    end = (start + timedelta(days=32)).replace(day=1)
    raw = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for item in raw["_items"] if isinstance(raw, dict) else raw:
        arrives = parsedate_to_datetime(item["connectionTime"])
        leaves = parsedate_to_datetime(item["disconnectTime"])
        if start <= arrives < end:
            minutes = [int((at - start).total_seconds() // 60) for at in (arrives, leaves)]
            rows.append((minutes[0], minutes[1], item["spaceID"], float(item["kWhDelivered"])))
    return _month(f"{path.stem} {month}", start, sorted(rows))


def _month(name: str, start: datetime, rows: Iterable[tuple[int, int, str, float]]) -> Month:
    rows = list(rows)
    theirs = sorted({station for _, _, station, _ in rows})
    ours = list(network(150, is_integer=True).station_ids)
    known = set(ours)
    is_foreign = sum(s in known for s in theirs) * 2 < len(theirs)
    home = dict(zip(theirs, ours, strict=False)) if is_foreign else {s: s for s in known}
    free_at: dict[str, int] = defaultdict(int)
    stays = []
    for number, (arrives_min, leaves_min, station, energy_kwh) in enumerate(rows):
        arrival, departure = arrives_min // PERIOD_MIN, leaves_min // PERIOD_MIN
        departure = min(departure, arrival + LONGEST_STAY)
        if station not in home or departure <= arrival or arrival < free_at[station]:
            continue
        free_at[station] = departure
        most_kwh = MOST_KW * (departure - arrival) * PERIOD_MIN / 60
        stays.append(
            Stay(
                session_id=f"s{number}",
                station_id=home[station],
                arrival=arrival,
                departure=departure,
                energy_kwh=min(energy_kwh, most_kwh),
            )
        )
    return Month(name=name, start=start, stays=tuple(stays))


def network(cap_kw: float, *, is_integer: bool) -> Any:
    """Return Caltech's network behind a transformer of `cap_kw`."""
    return acnsim.sites.caltech_acn(
        basic_evse=not is_integer, voltage=VOLTAGE_V, transformer_cap=cap_kw
    )


def tariff() -> Any:
    """Return the tariff of the published experiments."""
    return TimeOfUseTariff(TARIFF)


def simulator(month: Month, scheduler: Any, *, cap_kw: float, scenario: Scenario) -> Any:
    """Return an acnportal Simulator of `month`, not yet run."""
    events = acnsim.EventQueue()
    for stay in month.stays:
        events.add_event(acnsim.PluginEvent(stay.arrival, _car(stay, scenario)))
    return acnsim.Simulator(
        network(cap_kw, is_integer=scenario.is_integer),
        scheduler,
        events,
        month.start.replace(tzinfo=None),
        period=PERIOD_MIN,
        signals={"tariff": tariff()},
        verbose=False,
    )


def _car(stay: Stay, scenario: Scenario) -> Any:
    length = stay.departure - stay.arrival
    battery = acnsim.Battery(stay.energy_kwh, 0, MOST_KW)
    if scenario.has_tail:
        # A car that took more than any of the simulator's batteries could in its stay has no tail.
        with contextlib.suppress(ValueError):
            capacity, charge = batt_cap_fn(stay.energy_kwh, length, VOLTAGE_V, PERIOD_MIN)
            battery = Linear2StageBattery(capacity, charge, MOST_KW)
    return acnsim.EV(
        stay.arrival, stay.departure, stay.energy_kwh, stay.station_id, stay.session_id, battery
    )


class Timed:
    """A scheduler of acnportal that also notes the CPU time of each decision."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.max_recompute = 1
        self.took: list[tuple[int, float]] = []

    def register_interface(self, interface: Any) -> None:
        """Hand the simulator's interface on."""
        self.scheduler.register_interface(interface)
        self.interface = interface

    def run(self) -> dict[str, list[float]]:
        """Return the scheduler's decision for now."""
        sessions = self.interface.active_sessions()
        start = time.process_time()
        schedule: dict[str, list[float]] = self.scheduler.schedule(sessions)
        self.took.append((len(sessions), (time.process_time() - start) * 1e3))
        return schedule


def run(month: Month, scheduler: Any, *, cap_kw: float, scenario: Scenario) -> Score:
    """Simulate `month` under `scheduler` and return its score."""
    timed = Timed(scheduler)
    sim = simulator(month, timed, cap_kw=cap_kw, scenario=scenario)
    with warnings.catch_warnings():
        # A schedule that passes a limit is counted, not warned of.
        warnings.simplefilter("ignore")
        sim.run()
    return score(month, sim, timed.took)


def score(month: Month, sim: Any, took: list[tuple[int, float]]) -> Score:
    """Return what the finished simulation `sim` is worth."""
    steps = max(s.departure for s in month.stays)
    rates, pilots = sim.charging_rates[:, :steps], sim.pilot_signals[:, :steps]
    at = {station: i for i, station in enumerate(sim.network.station_ids)}
    kwh_per_a = VOLTAGE_V / 1000 * PERIOD_MIN / 60
    delivered, pauses = 0.0, 0
    for stay in month.stays:
        inside = (at[stay.station_id], slice(stay.arrival, stay.departure))
        given = np.cumsum(rates[inside]) * kwh_per_a
        delivered += min(float(given[-1]), stay.energy_kwh)
        on = pilots[inside] > 0
        is_short = stay.energy_kwh - given > PAUSE_KWH
        pauses += int(np.sum(on[:-1] & ~on[1:] & is_short[:-1]))
    load_kw = rates.sum(axis=0) * VOLTAGE_V / 1000
    money = tariff()
    prices = np.array(money.get_tariffs(sim.start, steps, PERIOD_MIN))
    energy_cost = float(prices @ load_kw) * PERIOD_MIN / 60
    peak_kw = float(load_kw.max())
    demand_charge = peak_kw * float(money.get_demand_charge(sim.start))
    busy = [ms for cars, ms in took if cars > 25] or [ms for _, ms in took]
    return Score(
        delivered=delivered / month.requested_kwh,
        pauses=pauses / len(month.stays),
        violations=int((over_a(sim.network, pilots) > 1e-4).sum()),
        peak_kw=peak_kw,
        energy_cost=energy_cost,
        demand_charge=demand_charge,
        profit=REVENUE_PER_KWH * float(load_kw.sum()) * PERIOD_MIN / 60
        - energy_cost
        - demand_charge,
        cpu_ms=float(np.mean(busy)),
        cpu_p99_ms=float(np.percentile(busy, 99)),
        decisions=len(took),
    )


def over_a(net: Any, pilots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much `pilots` (stations, steps) pass the worst limit in each step, A."""
    turn = np.exp(1j * np.deg2rad(net._phase_angles))
    flow = np.abs((net.constraint_matrix * turn) @ pilots)
    return np.asarray((flow - net.magnitudes[:, None]).max(axis=0))
