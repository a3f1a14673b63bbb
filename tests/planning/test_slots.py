"""Slots of a case, and what series and records say in them: one bad number stops no site."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.messages import StatusChanged
from csms.core.model import MeterSample, Price, Vehicle
from csms.planning.planner import plan
from csms.planning.slots import edges, highest, price_series
from csms.service.cases import SiteTerms, Surroundings, planning_case, snapshot
from csms.store import energy, identities, sessions, stations
from csms.store.database import Store
from csms.store.samples import append_samples
from csms.store.statements import Tx
from tests.service.field import NOW, SITE, Depot, Field, HandClock

HOUR = NOW.replace(minute=0)


@given(passed_s=st.integers(0, 7200), slot_s=st.sampled_from([300, 900, 1800]))
def test_slots_begin_now_or_at_a_boundary_and_none_is_shorter_than_a_minute(
    passed_s: int, slot_s: int
) -> None:
    now = HOUR + timedelta(seconds=passed_s)
    found = edges(now, horizon_h=6.0, slot_s=slot_s)
    lengths = [(b - a).total_seconds() for a, b in pairwise(found)]
    assert 0 <= (found[0] - now).total_seconds() < 60
    assert min(lengths) >= 60
    assert max(lengths) <= slot_s
    assert all(at.timestamp() % slot_s == 0 for at in found[1:])


def test_a_slot_counts_with_the_highest_load_it_touches() -> None:
    load = {HOUR + timedelta(minutes=15 * k): float(k) for k in range(8)}
    assert highest(load, edges(HOUR, horizon_h=1.0, slot_s=1800), otherwise=9.0) == (1.0, 3.0)
    before = HOUR + timedelta(minutes=14, seconds=40)
    assert highest(load, edges(before, horizon_h=0.5, slot_s=900), otherwise=9.0) == (1.0, 2.0)
    assert highest({HOUR: nan}, (HOUR, HOUR + timedelta(minutes=15)), otherwise=9.0) == (9.0,)


def test_a_price_that_is_no_number_is_a_missing_one() -> None:
    end = HOUR + timedelta(minutes=30)
    half = HOUR + timedelta(minutes=15)
    notes: list[str] = []
    known = [
        Price(starts_at=HOUR, until=half, eur_per_kwh=0.2),
        Price(starts_at=half, until=end, eur_per_kwh=nan),
    ]
    assert price_series(known, (HOUR, half, end), notes) == (0.2, 0.2)
    assert notes


@pytest.mark.parametrize(
    "wrong", [{"battery_kwh": 0.0}, {"efficiency": 0.0}, {"max_kw": inf}, {"phases": 0}]
)
async def test_one_impossible_vehicle_leaves_no_car_without_a_plan(
    store: Store, wrong: dict[str, float]
) -> None:
    place = Depot(store, Field(guards_kw={"c0": 4.14, "c1": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    vehicle = Vehicle(vehicle_id="v", soc=0.5, **wrong)  # type: ignore[arg-type]
    await store.write(lambda tx: identities.upsert_vehicle(tx, vehicle))
    await place.arrive("c0", vehicle_id="v")
    await place.arrive("c1")
    known = await store.read(lambda tx: snapshot(tx, SITE, now=NOW, horizon_h=6.0, carbon_id=""))
    case = planning_case(known, Surroundings(), now=NOW, horizon_h=6.0, slot_s=900)
    assert any("impossible" in note for note in case.notes)
    assert all(s.energy_kwh > 1.0 for s in plan(case).sessions)
    assert len(case.to_json()) > 0


async def test_a_demand_charge_counts_from_the_months_highest_quarter_hour(store: Store) -> None:
    place = Depot(store, Field(guards_kw={"c0": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    car = await place.arrive("c0")
    quarter, later = HOUR + timedelta(hours=1), NOW + timedelta(hours=3)

    def charged(tx: Tx) -> None:
        session = sessions.get(tx, car.session_id)
        append_samples(
            tx,
            session,
            [
                MeterSample(at=quarter, energy_wh=0.0),
                MeterSample(at=quarter + timedelta(minutes=15), energy_wh=2000.0),
            ],
        )
        energy.fold_energy(tx, SITE, quarter, later)

    await store.write(charged)

    without = await store.read(
        lambda tx: snapshot(tx, SITE, now=later, horizon_h=6.0, carbon_id="")
    )
    assert without.billed_peak_kw == 0.0
    known = await store.read(
        lambda tx: snapshot(
            tx,
            SITE,
            now=later,
            horizon_h=6.0,
            carbon_id="",
            site_terms=SiteTerms(demand_charge_eur_per_kw=10.0),
        )
    )
    case = planning_case(known, Surroundings(), now=later, horizon_h=6.0, slot_s=900)
    assert case.demand_charge_eur_per_kw == 10.0
    assert case.billed_peak_kw == pytest.approx(8.0 + known.site.base_load_kw)


async def test_an_evse_that_its_station_never_reported_holds_no_room(store: Store) -> None:
    place = Depot(store, Field(guards_kw={"c0": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    await place.arrive("c0")
    told = StatusChanged(
        station_id="c0", received_at=NOW, at=NOW, evse_id=1, connector_id=1, status="Charging"
    )

    def seen(tx: Tx) -> None:
        one = stations.evses_of_station(tx, "c0")[0]
        stations.set_status(tx, told, default=one)
        stations.upsert_evse(tx, replace(one, evse_id=2, guard_kw=None, status_at=None))

    await store.write(seen)
    known = await store.read(lambda tx: snapshot(tx, SITE, now=NOW, horizon_h=6.0, carbon_id=""))
    case = planning_case(known, Surroundings(), now=NOW, horizon_h=6.0, slot_s=900)
    assert case.idle_guard_kw < 20.0
    assert any("EVSE 2 of c0 never reported" in note for note in case.notes)
    assert plan(case).sessions[0].energy_kwh > 1.0


async def test_guards_of_evses_without_a_session_count_in_their_phases(store: Store) -> None:
    place = Depot(store, Field(guards_kw={"c0": 4.14, "c1": 4.14}), HandClock())
    await place.build(limit_kw=30.0)
    await place.arrive("c0")
    known = await store.read(lambda tx: snapshot(tx, SITE, now=NOW, horizon_h=6.0, carbon_id=""))
    case = planning_case(known, Surroundings(), now=NOW, horizon_h=6.0, slot_s=900)
    assert case.idle_guard_kw == pytest.approx(4.14)
    assert case.idle_guard_a == pytest.approx((6.0, 6.0, 6.0))
