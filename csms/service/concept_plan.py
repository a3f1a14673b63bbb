"""What a session of the first concept is planned to do: alone by its formula, and beside others.

The concept's numbers are its single-car reference. What the charger is told comes from the site's
joint plan with this car in it, cut to what the other cars leave at this very moment: their
schedules are in force until they have accepted new ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from csms.core.circuit import Circuit, Wiring
from csms.core.commands import Schedule
from csms.core.model import Evse, Holder, Offer, Site, Station, Trip, Vehicle
from csms.core.plan import Plan, PlannedSession, PlanningCase, PlanningSession
from csms.core.units import MIN_CURRENT_A
from csms.planning import incentives, planner
from csms.planning.demand import ConceptPlan, concept_plan
from csms.planning.in_flight import InFlight
from csms.planning.profile import plan_profile_id, schedule
from csms.service.cases import CARBON_EUR_PER_KG
from csms.service.reports import max_power_kw
from csms.service.wiring import IdleGuards, idle_guards, step_a, step_w

_PAST = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to charge what, where, for which trip."""

    holder: Holder
    vehicle: Vehicle
    site: Site
    station: Station
    evse: Evse
    trip: Trip
    charger_did: str
    tariff_eur_per_kwh: float
    wiring: Wiring = field(default_factory=Wiring)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The concept's plan, and the site's case and plan with this car in it."""

    concept: ConceptPlan
    case: PlanningCase
    plan: Plan
    session_id: str

    @property
    def row(self) -> PlannedSession:
        """The car's row of the joint plan."""
        return next(s for s in self.plan.sessions if s.session_id == self.session_id)


def alone(request: Request, *, now: datetime) -> ConceptPlan:
    """Return the concept's single-car plan."""
    return concept_plan(
        request.trip,
        request.vehicle,
        now=now,
        charger_kw=request.evse.max_kw,
        tariff_eur_per_kwh=request.tariff_eur_per_kwh,
        carbon_conscious=request.holder.carbon_conscious,
        max_price_per_kwh=request.holder.max_price_per_kwh,
    )


def beside_others(
    request: Request, concept: ConceptPlan, case: PlanningCase, *, session_id: str
) -> Planned:
    """Return the plan of the site as in `case` with this car as well; CPU work."""
    evse, vehicle, holder = request.evse, request.vehicle, request.holder
    most_kw = max_power_kw(evse, vehicle)
    phases = min(evse.phases, vehicle.phases) if evse.current_type == "AC" else evse.phases
    least_a = max(vehicle.min_current_a, MIN_CURRENT_A)
    required_kwh = concept.extra_energy_needed_kwh / vehicle.efficiency
    guard_kw = evse.guard_kw if evse.guard_kw is not None else 0.0
    ours = PlanningSession(
        session_id=session_id,
        station_id=evse.station_id,
        evse_id=evse.evse_id,
        available_at=case.now_at,
        departs_at=request.trip.departs_at,
        required_kwh=required_kwh,
        preferred_kwh=required_kwh,
        max_kw=most_kw,
        min_kw=min(least_a * phases * request.site.voltage_v / 1000.0, most_kw),
        guard_kw=guard_kw,
        phases=phases,
        priority=holder.priority,
        max_price_per_kwh=holder.max_price_per_kwh,
        carbon_weight_eur_per_kg=CARBON_EUR_PER_KG if holder.carbon_conscious else 0.0,
        circuit_id=request.wiring.of(evse.station_id, evse.evse_id).circuit_id,
        # How many phases a car uses is not known before it charges; one that uses all is on all.
        phases_used=(1, 2, 3) if phases >= 3 else (),
        voltage_v=request.site.voltage_v,
        step_a=step_a(request.station, evse),
        step_w=step_w(request.station, evse),
    )
    # The guard of this EVSE was counted among those of the idle ones.
    own = idle_guards(
        request.wiring,
        (evse,),
        {(evse.station_id, evse.evse_id): guard_kw},
        voltage_v=request.site.voltage_v,
    )
    with_ours = replace(
        case,
        sessions=(*case.sessions, ours),
        idle_guard_kw=max(case.idle_guard_kw - guard_kw, 0.0),
        idle_guard_a=_less(case.idle_guard_a, own.of_site_a),
        circuits=tuple(_without(circuit, own) for circuit in case.circuits),
    )
    return Planned(
        concept=concept, case=with_ours, plan=planner.plan(with_ours), session_id=session_id
    )


def _without(circuit: Circuit, own: IdleGuards) -> Circuit:
    """Return `circuit` without the guard of an EVSE that is planned now."""
    if circuit.circuit_id not in own.kw:
        return circuit
    return replace(
        circuit,
        idle_guard_kw=max(circuit.idle_guard_kw - own.kw[circuit.circuit_id], 0.0),
        idle_guard_a=_less(circuit.idle_guard_a, own.current_a[circuit.circuit_id]),
    )


def _less(these_a: Sequence[float], those_a: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(a - b, 0.0) for a, b in zip(these_a, those_a, strict=False))


def first_row_kw(planned: Planned) -> tuple[float, ...]:
    """Return what the car may be given before the others know of it, (slots,) kW."""
    case, plan = planned.case, planned.plan
    ours = case.sessions[-1]
    others = {
        session.session_id: _most_kw(session, row.power_kw)
        for session, row in zip(case.sessions[:-1], plan.sessions, strict=False)
    }
    counted = InFlight(case, {**others, ours.session_id: (0.0,) * case.slots})
    free = counted.free_kw(ours.session_id)
    given = [min(kw, room) for kw, room in zip(planned.row.power_kw, free, strict=True)]
    return tuple(kw if kw >= ours.min_kw - 1e-9 else 0.0 for kw in given)


def _most_kw(session: PlanningSession, row_kw: Sequence[float]) -> tuple[float, ...]:
    """Return the most a car may draw by its row, by what it has now, or by what it follows."""
    now_kw = session.guard_kw if session.current_kw is None else session.current_kw
    followed = (*session.in_force_kw, *row_kw[len(session.in_force_kw) :])
    return tuple(max(a, b, now_kw) for a, b in zip(row_kw, followed, strict=False))


def first_schedule(request: Request, planned: Planned, *, now: datetime) -> Schedule | None:
    """Return the schedule to start with, None for a station that takes none."""
    limits = request.station.limits
    if not limits.supports_profiles:
        return None
    # The id of every later plan on this EVSE: the first update replaces it.
    return schedule(
        first_row_kw(planned),
        planned.case.edges_at,
        limits=limits,
        profile_id=plan_profile_id(request.evse.evse_id),
        phases=planned.case.sessions[-1].phases,
        voltage_v=request.site.voltage_v,
        starts_at=(now - _PAST).replace(microsecond=0),
        tail_kw=planned.case.sessions[-1].guard_kw,
        prefers_w=request.evse.current_type == "DC",
    )


def offers(request: Request, planned: Planned) -> tuple[Offer, ...]:
    """Return what may be offered for this car's flexibility; CPU work."""
    return incentives.offers(
        planned.case, planned.plan, planned.session_id, holder_did=request.holder.did
    )


def hours(planned: Planned) -> list[dict[str, object]]:
    """Return when the car charges in the joint plan: runs of equal power."""
    edges, row = planned.case.edges_at, planned.row.power_kw
    return _runs(edges, row)


def _runs(edges: Sequence[datetime], row: Sequence[float]) -> list[dict[str, object]]:
    runs: list[dict[str, object]] = []
    last_kw = 0.0
    for start, end, kw in zip(edges, edges[1:], row, strict=False):
        if kw > 0 and runs and abs(kw - last_kw) < 1e-6 and runs[-1]["until"] == _text(start):
            runs[-1]["until"] = _text(end)
        elif kw > 0:
            runs.append({"starts_at": _text(start), "until": _text(end), "power_kw": round(kw, 3)})
        last_kw = kw
    return runs


def view(planned: Planned) -> dict[str, object]:
    """Return the plan with the concept's fields, and what the joint plan adds to them."""
    shown = {
        k: _text(v) if isinstance(v, datetime) else v for k, v in asdict(planned.concept).items()
    }
    return {
        **shown,
        "charging_hours": hours(planned),
        "joint_cost_eur": planned.row.cost_eur,
        "joint_co2_kg": planned.row.co2_kg,
        "joint_reason": planned.row.reason,
        "shortfall_kwh": planned.row.shortfall_kwh,
    }


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
