"""Made-up drivers, vehicles, trips and past sessions for a demo, the same for the same seed.

Everything made up says so: holders and stations are named "demo", sessions carry the flag
"generated" and count as estimated.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from csms.core.model import (
    AuthorizationStatus,
    Evse,
    Holder,
    IdToken,
    MeterSample,
    OcppVersion,
    Session,
    SessionState,
    Station,
    Trip,
    Vehicle,
)
from csms.core.units import slot_start
from csms.service.enrolment import Enrolment
from csms.store import energy, identities, samples, sessions, stations, trips
from csms.store.statements import Tx

GENERATED = "generated"
CHARGER_KW = (11.0, 22.0)
_QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How much to make up."""

    site_id: str
    drivers: int = 12
    days: int = 14
    seed: int = 1


def generate(tx: Tx, enrolment: Enrolment, wanted: Wanted, *, now: datetime) -> dict[str, int]:
    """Make up data for a site and return how many of each there are now new.

    Doing it again with the same seed adds nothing that is there already.
    """
    chance = random.Random(wanted.seed)
    site = stations.get_site(tx, wanted.site_id)
    known = stations.evses_of_site(tx, wanted.site_id)
    places = known or _stations(tx, wanted, count=max(wanted.drivers // 2, 1))
    counts = {"drivers": 0, "vehicles": 0, "stations": 0, "trips": 0, "sessions": 0}
    counts["stations"] = 0 if known else len(places)
    first_day = slot_start(now).replace(hour=0, minute=0) - timedelta(days=wanted.days)
    for n in range(1, wanted.drivers + 1):
        vehicle = _vehicle(n, chance)
        holder = Holder(
            did=f"did:denso:driver:demo-{n}",
            name=f"Demo driver {n}",
            organisation="demo",
            allowed_sites=(site.site_id,),
            vehicle_id=vehicle.vehicle_id,
            carbon_conscious=n % 4 == 0,
        )
        if identities.holder_of_did(tx, holder.did) is None:
            counts["drivers"] += 1
        if identities.find_vehicle(tx, vehicle.vehicle_id) is None:
            counts["vehicles"] += 1
        enrolment.keep_holder(tx, holder)
        identities.upsert_vehicle(tx, vehicle)
        for day in range(wanted.days):
            start = first_day + timedelta(days=day, hours=7.5 + chance.random() * 2)
            made = _session(tx, holder, vehicle, chance.choice(places), start, chance, site.site_id)
            counts["sessions"] += made
        counts["trips"] += _trip(tx, holder, vehicle, n, now, chance)
    energy.fold_energy(tx, site.site_id, first_day, now)
    return counts


def _stations(tx: Tx, wanted: Wanted, *, count: int) -> list[Evse]:
    """Make up stations with one EVSE each and return the EVSEs."""
    places = []
    for n in range(1, count + 1):
        station_id = f"demo-{wanted.site_id}-{n}"[:48]
        stations.register_station(
            tx, Station(station_id=station_id, site_id=wanted.site_id, name=f"Demo charger {n}")
        )
        evse = Evse(station_id=station_id, evse_id=1, max_kw=CHARGER_KW[n % 2])
        stations.upsert_evse(tx, evse)
        places.append(evse)
    return places


def _vehicle(n: int, chance: random.Random) -> Vehicle:
    return Vehicle(
        vehicle_id=f"did:denso:vehicle:demo-{n}",
        name=f"Demo car {n}",
        battery_kwh=chance.choice((40.0, 60.0, 75.0)),
        consumption_wh_per_km=chance.choice((150.0, 180.0, 210.0)),
        max_kw=chance.choice((7.4, 11.0, 22.0)),
        soc=round(chance.uniform(0.2, 0.6), 2),
        soc_source="declared",
        owner_did=f"did:denso:driver:demo-{n}",
    )


def _session(
    tx: Tx,
    holder: Holder,
    vehicle: Vehicle,
    place: Evse,
    start: datetime,
    chance: random.Random,
    site_id: str,
) -> int:
    # All chances are taken before anything is looked up: what is there already must not shift
    # what the seed gives to the next.
    wanted_kwh, stay_h = chance.uniform(6.0, 25.0), chance.uniform(4.0, 9.0)
    session_id = f"s-demo-{holder.did.rpartition('-')[2]}-{int(start.timestamp())}"
    if sessions.by_transaction(tx, place.station_id, session_id) is not None:
        return 0
    power_kw = min(vehicle.max_kw, place.max_kw)
    end = start + timedelta(hours=max(wanted_kwh / power_kw + 0.5, stay_h))
    readings = _readings(start, power_kw, wanted_kwh)
    session = sessions.open_session(
        tx,
        Session(
            session_id=session_id,
            number=0,
            site_id=site_id,
            station_id=place.station_id,
            evse_id=place.evse_id,
            version=OcppVersion.V16,
            transaction_id=session_id,
            id_token=IdToken(value=GENERATED),
            holder_did=holder.did,
            status=AuthorizationStatus.ACCEPTED,
            reason=GENERATED,
            state=SessionState.ENDED,
            started_at=start,
            received_at=start,
            ended_at=end,
            stop_reason="EVDisconnected",
            is_estimated=True,
            meter_start_wh=0.0,
            meter_last_wh=wanted_kwh * 1000.0,
            energy_wh=wanted_kwh * 1000.0,
            vehicle_id=vehicle.vehicle_id,
            departs_at=end,
            need_wh=wanted_kwh * 1000.0,
            need_source="trip",
            flags=(GENERATED,),
        ),
    )
    samples.append_samples(tx, session, readings)
    return 1


def _readings(start: datetime, power_kw: float, wanted_kwh: float) -> list[MeterSample]:
    """Return a register that rises at `power_kw` until the energy is there, each quarter hour."""
    readings = [MeterSample(at=start, energy_wh=0.0)]
    at, taken_kwh = start, 0.0
    while taken_kwh < wanted_kwh - 1e-9:
        at += _QUARTER
        taken_kwh = min(taken_kwh + power_kw / 4, wanted_kwh)
        readings.append(MeterSample(at=at, energy_wh=taken_kwh * 1000.0))
    return readings


def _trip(
    tx: Tx, holder: Holder, vehicle: Vehicle, n: int, now: datetime, chance: random.Random
) -> int:
    departs_at = slot_start(now) + timedelta(hours=chance.randint(6, 20))
    trip_id = f"t-demo-{n}"
    is_new = not any(t.trip_id == trip_id for t in trips.list_trips(tx, holder_did=holder.did))
    trips.upsert_trip(
        tx,
        Trip(
            trip_id=trip_id,
            holder_did=holder.did,
            vehicle_id=vehicle.vehicle_id,
            departs_at=departs_at,
            distance_km=float(chance.randint(40, 220)),
        ),
    )
    return int(is_new)
