"""What came of a demo's day: figures from the store, the stations' meters and their journals."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from csms.assembly import System
from csms.core.commands import Outcome
from csms.core.model import CarbonIntensity, Price, Session
from csms.core.plan import PlanningCase, PlanningSession
from csms.core.units import each_phase, slot_start
from csms.core.wiring import CircuitSetup
from csms.planning.planner import plan
from csms.store import commands, energy, plans, series, sessions
from csms.store.sessions import StoredEvent, events_of
from csms.store.statements import Tx
from simulators import oracle
from simulators.battery import Battery
from simulators.battery import power_w as battery_power_w
from simulators.realday import Place, Stay
from simulators.scenario import Scenario

_QUARTER = timedelta(minutes=15)
_KINDS = {"StartTransaction": "start", "StopTransaction": "stop", "MeterValues": "meter"}
_EVENTS = {"Started": "start", "Updated": "update", "Ended": "stop"}


async def result(
    system: System,
    scenario: Scenario,
    *,
    summary: Mapping[str, Any],
    stays: Sequence[Mapping[str, Any]],
    journals: Path,
    site_id: str,
    building_kw: float,
) -> dict[str, object]:
    """Return the day's figures. Powers are those of the simulated meters, exact in time.

    Costs are energy per quarter hour times its price. Charging at once delivers the same energy
    to each car from its arrival on, at all the power car and EVSE allow.
    """
    start = slot_start(scenario.start)
    until = scenario.day.ends_at + timedelta(hours=1)
    await system.store.write(lambda tx: energy.fold_energy(tx, site_id, start, until))
    found = await system.store.read(
        lambda tx: _stored(tx, site_id, start, until, system.settings.site[site_id].carbon)
    )
    by_quarter = {q.starts_at: q.energy_kwh for q in found.quarters}
    at_once = _at_once(scenario, stays)
    verdict = oracle.check(
        oracle.records(oracle.journal_lines(journals)),
        found.events,
        sessions=[
            {
                "station_id": s.station_id,
                "transaction_id": s.transaction_id,
                "energy_wh": s.energy_wh,
                "ended_at": s.ended_at,
            }
            for s in found.sessions
        ],
    )
    site = system.settings.site[site_id]
    limit_kw = site.limit_kw
    return {
        "sessions": len(found.sessions),
        "by_version": dict(Counter(str(s.version) for s in found.sessions)),
        "energy_kwh": round(sum(s.energy_kwh for s in found.sessions), 3),
        "need_kwh": summary.get("need_kwh"),
        "shortfall_kwh": summary.get("shortfall_kwh"),
        "shortfall_unavoidable_kwh": round(
            _unavoidable_kwh(_told(scenario, found), limit_kw, building_kw), 3
        ),
        "peak_kw": round(summary.get("peak_kw", 0.0) + building_kw, 3),
        "limit_kw": limit_kw,
        "limit_violations_s": summary.get("limit_violations_s"),
        "limit_violations": summary.get("limit_violations"),
        "circuit_limits_a": {c.circuit_id: list(each_phase(c.limit_a)) for c in site.setups()},
        "circuit_peaks_a": {
            c.circuit_id: _peaks_a(c, summary.get("circuit_peaks_a", {})) for c in site.setups()
        },
        "circuit_violations_s": summary.get("circuit_violations_s"),
        "cost_eur": round(_valued(by_quarter, found.prices), 2),
        "cost_uncontrolled_eur": round(_valued(at_once, found.prices), 2),
        "peak_uncontrolled_kw": round(max(at_once.values(), default=0.0) * 4 + building_kw, 3),
        "co2_kg": round(_emitted(by_quarter, found.carbon), 2),
        "co2_uncontrolled_kg": round(_emitted(at_once, found.carbon), 2),
        "profiles_sent": sum(found.profiles.values()),
        "profiles_accepted": found.profiles[Outcome.ACCEPTED],
        "first_plan_delay_s_p50": round(_delay_s(found), 1),
        "plans": len(found.plan_s),
        "plan_seconds_p50": round(statistics.median(found.plan_s), 5) if found.plan_s else None,
        "plan_seconds_p99": _p99(found.plan_s),
        "records_answered": verdict.answered,
        "records_lost": len(verdict.lost),
        "records_doubled": len(verdict.doubled),
        "records_changed": len(verdict.changed),
        "errors": summary.get("errors"),
    }


def _peaks_a(setup: CircuitSetup, metered: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the highest currents of a circuit in L1 to L3, what draws beside stations included."""
    cars_a = metered.get(setup.circuit_id, (0.0,) * 3)
    loads_a = each_phase(setup.load_a or (0.0,))
    return [round(a + load_a, 3) for a, load_a in zip(cars_a, loads_a, strict=True)]


class _Stored:
    """What the store holds of the day."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.events: list[dict[str, Any]] = []
        self.quarters: list[energy.QuarterEnergy] = []
        self.prices: list[Price] = []
        self.carbon: list[CarbonIntensity] = []
        self.profiles: Counter[Outcome | None] = Counter()
        self.plan_s: list[float] = []
        self.first_at: dict[str, datetime] = {}
        """When the first schedule of a session was in force, by session."""


def _stored(tx: Tx, site_id: str, start: datetime, until: datetime, carbon: str) -> _Stored:
    found = _Stored()
    page = sessions.list_sessions(tx, site_id=site_id, limit=200)
    while True:
        found.sessions += [s for s in page.items if "imported" not in s.flags]
        if not page.cursor:
            break
        page = sessions.list_sessions(tx, site_id=site_id, limit=200, cursor=page.cursor)
    for session in found.sessions:
        first = min(
            (
                i
                for i in plans.list_installed(tx, session.session_id, limit=1000)
                if i.outcome is Outcome.ACCEPTED
            ),
            key=lambda i: i.install_id,
            default=None,
        )
        if first is not None:
            answered_at = (
                commands.get_command(tx, first.command_id).finished_at if first.command_id else None
            )
            found.first_at[session.session_id] = answered_at or first.sent_at
        for event in events_of(tx, session.station_id, session.transaction_id):
            found.events.append(_row(event))
    found.quarters = energy.energy_by_quarter(tx, site_id, start, until)
    found.prices = series.prices(tx, "dk1", start, until)
    found.carbon = series.carbon(tx, carbon, start, until)
    cursor = ""
    while True:
        sent = commands.list_commands(tx, kind="SetSchedule", limit=200, cursor=cursor)
        found.profiles.update(c.outcome for c in sent.items)
        cursor = sent.cursor
        if not cursor:
            break
    cursor = ""
    while True:
        made = plans.list_plans(tx, site_id=site_id, limit=200, cursor=cursor)
        found.plan_s += [p.cpu_s for p in made.items if p.made_at >= start]
        cursor = made.cursor
        if not cursor:
            break
    return found


def _row(event: StoredEvent) -> dict[str, Any]:
    """Return a stored event as the oracle compares it: with what its payload says."""
    payload = json.loads(event.payload)
    row: dict[str, Any] = {
        "station_id": event.station_id,
        "transaction_id": event.transaction_id,
        "digest": oracle.digest(event.action, payload),
        "at": event.at,
    }
    if event.action == "TransactionEvent":
        kind = _EVENTS[payload["eventType"]]
        return row | {"kind": kind, "seq_no": event.seq_no}
    if event.action == "MeterValues":
        row["at"] = payload["meterValue"][0]["timestamp"]
    return row | {"kind": _KINDS[event.action], "evse_id": payload.get("connectorId")}


def _at_once(scenario: Scenario, stays: Sequence[Mapping[str, Any]]) -> dict[datetime, float]:
    """Return the energy per quarter hour if each car charged from its arrival on, kWh."""
    got = {str(s["stay_id"]): float(s["energy_kwh"]) for s in stays}
    quarters: defaultdict[datetime, float] = defaultdict(float)
    for assignment in scenario.day.assignments:
        stay = assignment.stay
        power_kw = _most_kw(scenario, stay, assignment.place)
        left_kwh, at = got.get(stay.stay_id, 0.0), stay.arrives_at
        while left_kwh > 1e-9 and at < stay.departs_at:
            quarter = slot_start(at)
            end = min(quarter + _QUARTER, stay.departs_at)
            kwh = min(left_kwh, power_kw * ((end - at) / timedelta(hours=1)))
            quarters[quarter] += kwh
            left_kwh -= kwh
            at = end
    return quarters


def _valued(quarters: Mapping[datetime, float], prices: Sequence[Price]) -> float:
    return sum(kwh * _at(prices, at, "eur_per_kwh") for at, kwh in quarters.items())


def _emitted(quarters: Mapping[datetime, float], carbon: Sequence[CarbonIntensity]) -> float:
    return sum(kwh * _at(carbon, at, "kg_per_kwh") for at, kwh in quarters.items())


def _at(rows: Sequence[Any], at: datetime, name: str) -> float:
    row = next((r for r in rows if r.starts_at <= at < r.until), None)
    return float(getattr(row, name)) if row is not None else 0.0


def _told(scenario: Scenario, found: _Stored) -> Scenario:
    """Return the day as a plan can act on it: each stay from its first schedule on.

    On a day that runs hundreds of times too fast, the milliseconds a station takes to answer are
    minutes; no plan can use them.
    """
    told = []
    for assignment in scenario.day.assignments:
        stay, place = assignment.stay, assignment.place
        at = [
            found.first_at[s.session_id]
            for s in found.sessions
            if (s.station_id, s.evse_id) == (place.station_id, place.evse_id)
            and stay.arrives_at <= s.started_at < stay.departs_at
            and s.session_id in found.first_at
        ]
        arrives_at = min([*at, stay.departs_at]) if at else stay.arrives_at
        told.append(replace(assignment, stay=replace(stay, arrives_at=arrives_at)))
    return replace(scenario, day=replace(scenario.day, assignments=tuple(told)))


def _unavoidable_kwh(scenario: Scenario, limit_kw: float, building_kw: float) -> float:
    """Return a bound on what no plan could avoid missing, the larger of two.

    One is the planner's own shortfall if it knew the whole day beforehand, without guards, minimum
    currents or delay; it leaves the batteries' tails aside. The other is what each car alone,
    with its tail, could not take even at full power from the first to the last second.
    """
    start = slot_start(scenario.start)
    count = int((scenario.day.ends_at - start) / _QUARTER) + 2
    case = PlanningCase(
        site_id="ideal",
        now_at=start,
        edges_at=tuple(start + _QUARTER * k for k in range(count + 1)),
        limit_kw=(limit_kw,) * count,
        base_load_kw=(building_kw,) * count,
        reserved_kw=(0.0,) * count,
        price_eur_per_kwh=(0.0,) * count,
        co2_kg_per_kwh=(0.0,) * count,
        sessions=tuple(_ideal(scenario, a.stay, a.place) for a in scenario.day.assignments),
    )
    alone = sum(
        max(a.stay.need_kwh - _alone_kwh(scenario, a.stay, a.place), 0.0)
        for a in scenario.day.assignments
    )
    return max(plan(case).shortfall_kwh, alone)


def _alone_kwh(scenario: Scenario, stay: Stay, place: Place) -> float:
    """Return what a car takes at the full power of its EVSE during its whole stay, kWh."""
    station = next(s for s in scenario.stations if s.station_id == place.station_id)
    evse = next(e for e in station.evses if e.evse_id == place.evse_id)
    battery, energy_wh = Battery(vehicle=stay.vehicle, soc=stay.soc), 0.0
    left_s = (stay.departs_at - stay.arrives_at).total_seconds()
    while left_s > 0:
        # Power falls within a step; at two seconds that is under a watt-hour a stay.
        step_s = min(2.0, left_s)
        power_w = battery_power_w(
            battery,
            limit_a=evse.max_limit,
            phases=evse.phases,
            voltage_v=evse.voltage_v,
            dt_s=step_s,
        )
        energy_wh += power_w * step_s / 3600.0
        battery = battery.charged(power_w, step_s)
        left_s -= step_s
    return energy_wh / 1000.0


def _ideal(scenario: Scenario, stay: Stay, place: Place) -> PlanningSession:
    return PlanningSession(
        session_id=stay.stay_id,
        station_id=place.station_id,
        evse_id=place.evse_id,
        available_at=stay.arrives_at,
        departs_at=stay.departs_at,
        required_kwh=stay.need_kwh,
        preferred_kwh=stay.need_kwh,
        max_kw=_most_kw(scenario, stay, place),
        min_kw=0.0,
    )


def _most_kw(scenario: Scenario, stay: Stay, place: Place) -> float:
    """Return what EVSE and car allow; on one phase of three an EVSE gives a third."""
    station = next(s for s in scenario.stations if s.station_id == place.station_id)
    evse = next(e for e in station.evses if e.evse_id == place.evse_id)
    share = min(stay.vehicle.phases, evse.phases) / evse.phases
    return min(evse.max_kw * share, stay.vehicle.max_ac_kw)


def _delay_s(found: _Stored) -> float:
    """Return the median time from a session's start to its first schedule, clock seconds."""
    delays = [
        (found.first_at[s.session_id] - s.started_at).total_seconds()
        for s in found.sessions
        if s.session_id in found.first_at
    ]
    return statistics.median(delays) if delays else 0.0


def _p99(values: Sequence[float]) -> float | None:
    if not values:
        return None
    return round(sorted(values)[min(int(len(values) * 0.99), len(values) - 1)], 5)
