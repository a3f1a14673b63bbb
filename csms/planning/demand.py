"""What a vehicle still has to get, in kWh at the meter, and by when.

`efficiency` (meter to battery) and the first concept's 0.85 are two things: the latter derates a
charger's nameplate to the power it gives on average, and belongs to `concept_plan` alone.
Nobody's silence stops a car from being charged: what is not stated is taken from the holder's
past stays, else from the defaults below, and marked assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from statistics import median
from typing import Protocol

from csms.core.model import Need, Session, Trip, Vehicle

DEFAULT_STAY = timedelta(hours=8)
DEFAULT_REQUIRED_KWH = 8.0
"""At the meter: about 40 km, a usual day. The rest of the wish is preferred, not required."""
DEFAULT_PREFERRED_SOC = 0.8
ASSUMED_SOC = 0.5
"""Where a car without a reading is taken to stand when it is only about its wish."""
LEAST_STAYS = 3
"""Fewer past stays than this say nothing about the next one."""
PUT_OFF = timedelta(hours=1)
"""An assumed departure that has passed was wrong: the car is taken to stay this much longer."""


class PastStay(Protocol):
    """A stay of the holder that is over; a Session is one."""

    @property
    def started_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def energy_kwh(self) -> float: ...


def need(
    session: Session,
    trip: Trip | None,
    vehicle: Vehicle | None,
    *,
    now: datetime,
    habits: Sequence[PastStay] = (),
    max_kw: float | None = None,
    zone: tzinfo = UTC,
) -> Need:
    """Return what `session` still needs at `now`.

    A trip decides; without one the wish kept in the session (stated by the car, or assumed when
    it began), then `habits`, the holder's past stays, told apart by working day and weekend in
    `zone`. `max_kw` keeps an assumed need to what the stay can hold at all.
    """
    car = vehicle or Vehicle(vehicle_id="")
    if trip is not None:
        return _of_trip(session, trip, car, is_assumed=vehicle is None or trip.source == "assumed")
    if session.need_wh is not None:
        return _of_wish(session, now=now)
    return _of_habits(session, car, now=now, habits=habits, max_kw=max_kw, zone=zone)


def trip_kwh(trip: Trip, vehicle: Vehicle) -> float:
    """Return what the battery must hold for `trip`, kWh.

    The reserve is added to a distance only: whoever states an energy has counted it in.
    """
    if trip.energy_kwh is not None:
        return max(trip.energy_kwh, 0.0)
    distance_km = max(trip.distance_km or 0.0, 0.0)
    return distance_km * vehicle.consumption_wh_per_km / 1000.0 * (1.0 + trip.reserve_share)


def held_kwh(session: Session, vehicle: Vehicle) -> float | None:
    """Return what the battery holds now, kWh, None if nobody ever said.

    A reading, by the station or from before the plug-in, grows with what the meter shows since.
    """
    if session.soc is not None:
        since_kwh = max(session.energy_wh - session.soc_wh, 0.0) / 1000.0
        held = session.soc * vehicle.battery_kwh + since_kwh * vehicle.efficiency
        return min(held, vehicle.battery_kwh)
    if vehicle.soc is None:
        return None
    held = vehicle.soc * vehicle.battery_kwh
    if vehicle.soc_at is None or vehicle.soc_at <= session.started_at:
        held += session.energy_kwh * vehicle.efficiency
    return min(held, vehicle.battery_kwh)


def _of_trip(session: Session, trip: Trip, vehicle: Vehicle, *, is_assumed: bool) -> Need:
    wanted = trip_kwh(trip, vehicle)
    most = vehicle.battery_kwh * vehicle.max_soc
    capped = "battery" if wanted > most + 1e-9 else ""
    held = held_kwh(session, vehicle)
    taken = session.energy_kwh * vehicle.efficiency
    if held is None:
        # Without a reading the battery may be empty: the whole trip has to be charged.
        required = max(min(wanted, most) - taken, 0.0)
        held = min(ASSUMED_SOC * vehicle.battery_kwh + taken, most)
        is_assumed = True
    else:
        required = max(min(wanted, most) - held, 0.0)
    preferred = min(trip.preferred_soc or 0.0, vehicle.max_soc) * vehicle.battery_kwh - held
    return Need(
        required_kwh=required / vehicle.efficiency,
        preferred_kwh=max(required, preferred) / vehicle.efficiency,
        departs_at=trip.departs_at,
        is_assumed=is_assumed,
        limit=capped,
    )


def _of_wish(session: Session, *, now: datetime) -> Need:
    required = max((session.need_wh or 0.0) / 1000.0 - session.energy_kwh, 0.0)
    preferred = max((session.preferred_wh or 0.0) / 1000.0 - session.energy_kwh, required)
    # A car may state its energy and not when it leaves.
    is_assumed = session.need_source == "assumed" or session.departs_at is None
    departs_at = session.departs_at or session.started_at + DEFAULT_STAY
    return Need(
        required_kwh=required,
        preferred_kwh=preferred,
        departs_at=max(departs_at, now + PUT_OFF) if is_assumed else departs_at,
        is_assumed=is_assumed,
    )


def _of_habits(
    session: Session,
    vehicle: Vehicle,
    *,
    now: datetime,
    habits: Sequence[PastStay],
    max_kw: float | None,
    zone: tzinfo,
) -> Need:
    is_weekend = session.started_at.astimezone(zone).weekday() >= 5
    over = [(h, h.ended_at - h.started_at) for h in habits if h.ended_at is not None]
    alike = [h for h in over if (h[0].started_at.astimezone(zone).weekday() >= 5) == is_weekend]
    stays = alike if len(alike) >= LEAST_STAYS else over
    stay, usual_kwh = DEFAULT_STAY, DEFAULT_REQUIRED_KWH
    if len(stays) >= LEAST_STAYS:
        stay = timedelta(seconds=median(length.total_seconds() for _, length in stays))
        usual_kwh = median(h.energy_kwh for h, _ in stays)
    if max_kw is not None:
        usual_kwh = min(usual_kwh, max_kw * (stay / timedelta(hours=1)))
    held = held_kwh(session, vehicle)
    if held is None:
        taken = session.energy_kwh * vehicle.efficiency
        held = min(ASSUMED_SOC * vehicle.battery_kwh + taken, vehicle.battery_kwh)
    full = max(vehicle.battery_kwh * vehicle.max_soc - held, 0.0) / vehicle.efficiency
    required = min(max(usual_kwh - session.energy_kwh, 0.0), full)
    wish = min(DEFAULT_PREFERRED_SOC, vehicle.max_soc) * vehicle.battery_kwh - held
    return Need(
        required_kwh=required,
        preferred_kwh=max(required, wish / vehicle.efficiency),
        departs_at=max(session.started_at + stay, now + PUT_OFF),
        is_assumed=True,
    )


DERATE_SHARE = 0.85
"""Average power over nameplate in the first concept."""
C_RATE_PER_H = 2.0
"""Most power per battery capacity in the first concept: 150 kW for 75 kWh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptPlan:
    """The single-car plan of the first concept, field for field (api.md 3).

    Energies are in the battery; the cost is energy x tariff, the efficiency being 1 there.
    `plan_type` is "GREEN" for a carbon-conscious driver, "ECONOMY" where the tariff is above the
    driver's limit, "STANDARD" otherwise.
    """

    needed_trip_energy_kwh: float
    current_energy_kwh: float
    extra_energy_needed_kwh: float
    target_soc_percent: float
    planned_duration_hours: float
    planned_finish_time: datetime
    is_feasible: bool
    feasibility_warning: str | None
    planned_cost_eur: float
    effective_charge_power_kw: float
    plan_type: str


def concept_plan(
    trip: Trip,
    vehicle: Vehicle,
    *,
    now: datetime,
    charger_kw: float,
    tariff_eur_per_kwh: float,
    carbon_conscious: bool = False,
    max_price_per_kwh: float | None = None,
    efficiency: float = 1.0,
) -> ConceptPlan:
    """Return the first concept's plan for one car that charges from now on without interruption.

    The vehicle's SoC counts as 0 if unknown; its DC power applies where the charger is stronger
    than its AC power. A duration of 0 is feasible whatever the departure.
    """
    needed = trip_kwh(trip, vehicle)
    current = vehicle.battery_kwh * (vehicle.soc or 0.0)
    room = max(vehicle.battery_kwh - current, 0.0)
    missing = max(needed - current, 0.0)
    extra = min(missing, room) / efficiency
    own_kw = vehicle.max_kw if charger_kw <= 22.0 + 1e-9 else vehicle.max_dc_kw
    power = min(charger_kw, own_kw, C_RATE_PER_H * vehicle.battery_kwh) * DERATE_SHARE
    hours = extra / power if power > 0 else 0.0
    can_charge = power > 0 or extra == 0.0
    finish = now + timedelta(hours=hours)
    warnings = []
    if missing > room + 1e-9:
        warnings.append(
            f"trip exceeds battery: {needed:.1f} kWh needed, {vehicle.battery_kwh:.1f} kWh capacity"
        )
    if not can_charge:
        warnings.append("no power available")
    elif extra > 0 and finish > trip.departs_at:
        late_min = (finish - trip.departs_at) / timedelta(minutes=1)
        warnings.append(f"charging ends {late_min:.0f} min after departure")
    held = current + extra * efficiency
    is_dear = max_price_per_kwh is not None and tariff_eur_per_kwh > max_price_per_kwh
    return ConceptPlan(
        needed_trip_energy_kwh=needed,
        current_energy_kwh=current,
        extra_energy_needed_kwh=extra,
        target_soc_percent=min(100.0 * held / vehicle.battery_kwh, 100.0),
        planned_duration_hours=hours,
        planned_finish_time=finish,
        is_feasible=not warnings,
        feasibility_warning="; ".join(warnings) or None,
        planned_cost_eur=extra * tariff_eur_per_kwh,
        effective_charge_power_kw=power,
        plan_type="GREEN" if carbon_conscious else "ECONOMY" if is_dear else "STANDARD",
    )
