"""A whole scenario in one event loop: stations, drivers, and what the site drew."""

import asyncio
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from simulators.circuits import CircuitCourse, courses
from simulators.clock import SimClock, iso
from simulators.link import CallRefused, LinkDown, NoAnswer, Tasks
from simulators.power import Step, peak_w, seconds_above, steps, times_above
from simulators.realday import Assignment, Stay
from simulators.scenario import Scenario, StationSpec
from simulators.simulated import SimulatedStation
from simulators.station import EvseSpec, NotPossible, Segment, Station
from simulators.variables import Settings

log = logging.getLogger(__name__)

PRESENT_ATTEMPTS = 3
PRESENT_PAUSE_S = 30.0
DRAIN_REAL_S = 30.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a stay. `status` is the last decision on its token."""

    assignment: Assignment
    version: str
    feasible_kwh: float = 0.0
    status: str = ""
    energy_kwh: float = 0.0
    soc: float = 0.0
    is_over: bool = False

    @property
    def shortfall_kwh(self) -> float:
        """The part of the need that was not met."""
        return max(self.assignment.stay.need_kwh - self.energy_kwh, 0.0)

    @property
    def infeasible_kwh(self) -> float:
        """The part of the need that charging at full power for the whole stay would not meet."""
        return max(self.assignment.stay.need_kwh - self.feasible_kwh, 0.0)


def feasible_kwh(stay: Stay, spec: EvseSpec) -> float:
    """Return what a stay's vehicle takes from an EVSE that nothing limits."""
    alone = Station([spec], now=stay.arrives_at)
    alone.plug_in(spec.evse_id, stay.vehicle, soc=stay.soc, now=stay.arrives_at)
    alone.begin(spec.evse_id, stay.token, stay.token_kind, now=stay.arrives_at)
    alone.advance(stay.departs_at)
    return alone.evse(spec.evse_id).register_wh / 1000


@dataclass(slots=True)
class Fleet:
    """Runs a scenario against a central system."""

    scenario: Scenario
    url: str
    clock: SimClock
    journals: Path | None = None
    fsync: bool = True
    stations: dict[str, SimulatedStation] = field(init=False)
    outcomes: list[Outcome] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.stations = {s.station_id: self._station(s) for s in self.scenario.stations}

    def _station(self, spec: StationSpec) -> SimulatedStation:
        scenario = self.scenario
        journal = self.journals / f"{spec.station_id}.journal" if self.journals else False
        return SimulatedStation(
            self.url,
            spec.station_id,
            version=spec.version,
            password=spec.password,
            evses=spec.evses,
            clock=self.clock,
            dialect=spec.dialect,
            faults=spec.faults,
            settings=Settings(sample_interval_s=scenario.sample_interval_s),
            heartbeat_s=scenario.heartbeat_s,
            journal=journal,
            fsync=self.fsync,
            seed=scenario.seed,
            call_timeout_s=scenario.call_timeout_s,
            boots=True,
        )

    async def run(
        self,
        *,
        stop: asyncio.Event | None = None,
        progress: Callable[[str], None] | None = None,
        progress_s: float = 5.0,
    ) -> dict[str, Any]:
        """Run to the last departure, or until `stop` is set, and return the summary."""
        stop = stop or asyncio.Event()
        tasks = Tasks("fleet")
        for station in self.stations.values():
            await station.power_up()
        ending = tasks.start(self._stays(), "stays")
        if progress is not None:
            tasks.start(self._progress(progress, progress_s), "progress")
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await tasks.stop()
        await self._finish()
        for failure in tasks.failures:
            log.error("%s", failure)
            self.notes["failures"] += 1
        return self.summary()

    async def _stays(self) -> None:
        async with asyncio.TaskGroup() as group:
            for assignment in self.scenario.day.assignments:
                station = self.stations[assignment.place.station_id]
                spec = station.station.evse(assignment.place.evse_id).spec
                outcome = Outcome(
                    assignment=assignment,
                    version=station.client.version,
                    feasible_kwh=feasible_kwh(assignment.stay, spec),
                )
                self.outcomes.append(outcome)
                group.create_task(self._stay(outcome))

    async def _stay(self, outcome: Outcome) -> None:
        stay, place = outcome.assignment.stay, outcome.assignment.place
        station, evse_id = self.stations[place.station_id], place.evse_id
        await self.clock.sleep_until(stay.arrives_at)
        try:
            await station.plug_in(evse_id, stay.vehicle, soc=stay.soc)
        except NotPossible as exc:
            log.warning("stay %s: %s", stay.stay_id, exc)
            self.notes["no_place"] += 1
            return
        before_wh = station.station.evse(evse_id).register_wh
        try:
            await self._present(outcome, station)
            await self.clock.sleep_until(stay.departs_at)
        finally:
            # Also when the run is stopped: what was drawn until then counts.
            station.station.advance(station.now())
            evse = station.station.evse(evse_id)
            outcome.energy_kwh = (evse.register_wh - before_wh) / 1000
            outcome.soc = evse.battery.soc if evse.battery else stay.soc
        await self._leave(outcome, station)
        outcome.energy_kwh = (station.station.evse(evse_id).register_wh - before_wh) / 1000
        outcome.is_over = True

    async def _present(self, outcome: Outcome, station: SimulatedStation) -> None:
        stay, evse_id = outcome.assignment.stay, outcome.assignment.place.evse_id
        for attempt in range(PRESENT_ATTEMPTS):
            if attempt:
                await self.clock.sleep(PRESENT_PAUSE_S)
            if station.station.evse(evse_id).transaction is not None:
                return
            try:
                outcome.status = await station.present(
                    stay.token, evse_id=evse_id, kind=stay.token_kind
                )
            except (NoAnswer, CallRefused, LinkDown, NotPossible) as exc:
                outcome.status = type(exc).__name__
            if outcome.status == "Accepted":
                return
        self.notes["refused"] += 1

    async def _leave(self, outcome: Outcome, station: SimulatedStation) -> None:
        stay, evse_id = outcome.assignment.stay, outcome.assignment.place.evse_id
        try:
            if station.station.evse(evse_id).transaction is not None:
                await station.stop(evse_id, token=stay.token)
            outcome.soc = (await station.unplug(evse_id)).soc
        except NotPossible as exc:
            log.warning("stay %s: %s", stay.stay_id, exc)

    async def _finish(self) -> None:
        """End what still runs, let the queues empty, and close every link."""
        for station in self.stations.values():
            for evse_id in list(station.station.transactions):
                station.tasks.start(station.remote_stop(evse_id, reason="Local"), "last stop")
        waiting = [s.drained(DRAIN_REAL_S) for s in self.stations.values()]
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(result, TimeoutError):
                self.notes["undelivered_queues"] += 1
        for station in self.stations.values():
            station.station.advance(station.now())
        closing = [s.close() for s in self.stations.values()]
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("%s", result)
                self.notes["failures"] += 1

    async def _progress(self, say: Callable[[str], None], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            power_kw = sum(s.station.power_w for s in self.stations.values()) / 1000
            running = sum(len(s.station.transactions) for s in self.stations.values())
            online = sum(s.is_online for s in self.stations.values())
            waiting = sum(len(s.outbox.waiting) for s in self.stations.values())
            over = sum(o.is_over for o in self.outcomes)
            say(
                f"{self.clock.now():%Y-%m-%d %H:%M} {online}/{len(self.stations)} online, "
                f"{running} charging, {power_kw:.1f} kW, {over}/{len(self.outcomes)} stays over, "
                f"{waiting} messages waiting"
            )

    def _segments(self) -> Iterator[Segment]:
        for station in self.stations.values():
            # A station whose clock is wrong draws at the true time all the same.
            offset = timedelta(seconds=station.faults.plan.clock_offset_s)
            for evse in station.station.evses.values():
                for segment in evse.segments:
                    yield replace(
                        segment, start_at=segment.start_at - offset, until=segment.until - offset
                    )

    def currents(self) -> list[CircuitCourse]:
        """Return what each phase of each circuit of the scenario carried over time."""
        drawn = [
            (station_id, evse.spec, replace(s, start_at=s.start_at - by, until=s.until - by))
            for station_id, station in self.stations.items()
            for by in (timedelta(seconds=station.faults.plan.clock_offset_s),)
            for evse in station.station.evses.values()
            for s in evse.segments
        ]
        return courses(self.scenario.circuits, drawn)

    def course(self) -> list[Step]:
        """Return the site's power over time."""
        return steps(self._segments())

    @property
    def errors(self) -> dict[str, int]:
        """What should not have happened, counted by kind."""
        found: Counter[str] = Counter(self.notes)
        for station in self.stations.values():
            found.update(station.link.errors)
            if station.outbox.drops:
                found["dropped_records"] += station.outbox.drops
        return dict(found)

    def summary(self) -> dict[str, Any]:
        """Return the run's figures. Powers and violations are exact to the microsecond."""
        course = self.course()
        limit_kw = self.scenario.limit_kw
        stations = self.stations.values()
        faults: Counter[str] = Counter()
        for station in stations:
            faults.update(station.faults.counts)
        by_version: dict[str, dict[str, float]] = {}
        for version in sorted({o.version for o in self.outcomes}):
            by_version[version] = _totals([o for o in self.outcomes if o.version == version])
        return {
            "scenario": self.scenario.name,
            "seed": self.scenario.seed,
            "stations": len(self.stations),
            **_totals(self.outcomes),
            "unserved": len(self.scenario.day.unserved),
            "by_version": by_version,
            "peak_kw": round(peak_w(course) / 1000, 3),
            "limit_kw": limit_kw,
            "limit_violations_s": (
                None if limit_kw is None else round(seconds_above(course, limit_kw * 1000), 3)
            ),
            "limit_violations": [
                {
                    "at": iso(step.start_at),
                    "seconds": round(step.seconds, 3),
                    "peak_kw": round(step.power_w / 1000, 3),
                }
                for step in times_above(course, (limit_kw or math.inf) * 1000)[:20]
            ],
            **_judged(self.currents()),
            "profiles_set": sum(
                r.action == "SetChargingProfile" for s in stations for r in s.received
            ),
            "frames": {
                "sent": sum(s.link.frames_sent for s in stations),
                "received": sum(s.link.frames_got for s in stations),
            },
            "faults": dict(faults),
            "errors": self.errors,
        }

    def stays(self) -> list[dict[str, Any]]:
        """Return each stay with what it got."""
        return [
            {
                "stay_id": o.assignment.stay.stay_id,
                "user": o.assignment.stay.user,
                "station_id": o.assignment.place.station_id,
                "evse_id": o.assignment.place.evse_id,
                "version": o.version,
                "arrives_at": iso(o.assignment.stay.arrives_at),
                "departs_at": iso(o.assignment.stay.departs_at),
                "status": o.status,
                "need_kwh": round(o.assignment.stay.need_kwh, 3),
                "energy_kwh": round(o.energy_kwh, 3),
                "shortfall_kwh": round(o.shortfall_kwh, 3),
                "infeasible_kwh": round(o.infeasible_kwh, 3),
                "soc": round(o.soc, 4),
            }
            for o in self.outcomes
        ]


def _judged(found: list[CircuitCourse]) -> dict[str, Any]:
    """Return each circuit's highest currents in L1, L2 and L3, and the seconds above its limits."""
    if not found:
        return {}
    peaks_a: defaultdict[str, list[float]] = defaultdict(list)
    above_s: defaultdict[str, float] = defaultdict(float)
    for course in found:
        peaks_a[course.circuit_id].append(round(course.peak_a, 3))
        above_s[course.circuit_id] += course.seconds_above
    return {
        "circuit_peaks_a": dict(peaks_a),
        "circuit_violations_s": {name: round(s, 3) for name, s in above_s.items()},
    }


def _totals(outcomes: list[Outcome]) -> dict[str, float]:
    return {
        "sessions": sum(bool(o.status == "Accepted" or o.energy_kwh) for o in outcomes),
        "energy_kwh": round(sum(o.energy_kwh for o in outcomes), 3),
        "need_kwh": round(sum(o.assignment.stay.need_kwh for o in outcomes), 3),
        "shortfall_kwh": round(sum(o.shortfall_kwh for o in outcomes), 3),
        "infeasible_kwh": round(sum(o.infeasible_kwh for o in outcomes), 3),
    }
