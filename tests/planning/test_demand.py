"""What a car needs, from trips, readings and habits; the first concept's numbers."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.model import OcppVersion, Session, Trip, Vehicle
from csms.planning.demand import DEFAULT_REQUIRED_KWH, concept_plan, held_kwh, need
from tests.planning.cases import NOW, at

STAY = Session(
    session_id="s",
    number=1,
    site_id="site",
    station_id="st",
    evse_id=1,
    version=OcppVersion.V16,
    transaction_id="1",
    started_at=NOW,
    received_at=NOW,
)
EXACT = Vehicle(vehicle_id="v", battery_kwh=60.0, soc=0.2, efficiency=1.0, max_dc_kw=150.0)


def trip(km: float | None = 120.0, **more: object) -> Trip:
    return Trip(trip_id="t", holder_did="did:key:z", departs_at=at(8), distance_km=km, **more)  # type: ignore[arg-type]


def test_a_full_enough_battery_needs_nothing() -> None:
    full = replace(EXACT, battery_kwh=75.0, soc=0.35)
    plan = concept_plan(trip(), full, now=NOW, charger_kw=150.0, tariff_eur_per_kwh=0.25)
    assert plan.needed_trip_energy_kwh == pytest.approx(25.92)
    assert plan.current_energy_kwh == pytest.approx(26.25)
    assert plan.extra_energy_needed_kwh == 0.0
    assert plan.planned_duration_hours == 0.0
    assert plan.planned_cost_eur == 0.0
    assert plan.effective_charge_power_kw == pytest.approx(127.5)
    assert plan.is_feasible
    assert plan.feasibility_warning is None
    assert need(STAY, trip(), full, now=NOW).required_kwh == 0.0


def test_time_and_cost_of_one_car_are_the_first_concepts() -> None:
    plan = concept_plan(trip(), EXACT, now=NOW, charger_kw=7.4, tariff_eur_per_kwh=0.25)
    assert plan.extra_energy_needed_kwh == pytest.approx(13.92)
    assert plan.effective_charge_power_kw == pytest.approx(6.29)
    assert plan.planned_duration_hours == pytest.approx(2.213037, abs=1e-6)
    assert plan.planned_finish_time - NOW == pytest.approx(
        timedelta(minutes=132.78), abs=timedelta(seconds=1)
    )
    assert plan.planned_cost_eur == pytest.approx(3.48)
    assert plan.target_soc_percent == pytest.approx(43.2)
    lossy = concept_plan(
        trip(), EXACT, now=NOW, charger_kw=7.4, tariff_eur_per_kwh=0.25, efficiency=0.85
    )
    assert lossy.extra_energy_needed_kwh == pytest.approx(16.3765, abs=1e-4)
    assert lossy.planned_cost_eur == pytest.approx(4.0941, abs=1e-4)


def test_a_trip_longer_than_the_battery_is_capped_and_flagged() -> None:
    half = replace(EXACT, soc=0.5, consumption_wh_per_km=200.0)
    plan = concept_plan(trip(300.0), half, now=NOW, charger_kw=11.0, tariff_eur_per_kwh=0.25)
    assert plan.needed_trip_energy_kwh == pytest.approx(72.0)
    assert plan.extra_energy_needed_kwh == pytest.approx(30.0)
    assert not plan.is_feasible
    assert "trip exceeds battery" in (plan.feasibility_warning or "")
    wanted = need(STAY, trip(300.0), half, now=NOW)
    assert wanted.required_kwh == pytest.approx(30.0)
    assert wanted.limit == "battery"


def test_a_departure_too_close_is_a_warning() -> None:
    soon = replace(trip(250.0), departs_at=at(1))
    plan = concept_plan(soon, EXACT, now=NOW, charger_kw=11.0, tariff_eur_per_kwh=0.25)
    assert not plan.is_feasible
    assert "after departure" in (plan.feasibility_warning or "")
    assert (
        concept_plan(
            soon, EXACT, now=NOW, charger_kw=0.0, tariff_eur_per_kwh=0.25
        ).feasibility_warning
        == "no power available"
    )


def test_losses_are_counted_once_between_meter_and_battery() -> None:
    lossy = replace(EXACT, efficiency=0.9)
    wanted = need(STAY, trip(), lossy, now=NOW)
    assert wanted.required_kwh == pytest.approx(13.92 / 0.9)
    half = replace(STAY, energy_wh=5000.0)
    assert need(half, trip(), lossy, now=NOW).required_kwh == pytest.approx(13.92 / 0.9 - 5.0)


def test_a_reading_of_the_station_beats_counting() -> None:
    seen = replace(STAY, energy_wh=5000.0, soc=0.4, soc_wh=5000.0)
    assert need(seen, trip(), EXACT, now=NOW).required_kwh == pytest.approx(25.92 - 24.0)


def test_a_battery_nobody_read_gets_the_whole_trip() -> None:
    blind = replace(EXACT, soc=None)
    wanted = need(replace(STAY, energy_wh=4000.0), trip(), blind, now=NOW)
    assert wanted.required_kwh == pytest.approx(25.92 - 4.0)
    assert wanted.is_assumed


def test_a_wish_beyond_the_trip_is_preferred_only() -> None:
    wanted = need(STAY, trip(preferred_soc=0.8), EXACT, now=NOW)
    assert wanted.required_kwh == pytest.approx(13.92)
    assert wanted.preferred_kwh == pytest.approx(36.0)
    careful = replace(EXACT, max_soc=0.7)
    assert need(STAY, trip(preferred_soc=0.8), careful, now=NOW).preferred_kwh == pytest.approx(
        30.0
    )


def test_energy_may_be_stated_instead_of_a_distance() -> None:
    assert need(STAY, trip(None, energy_kwh=20.0), EXACT, now=NOW).required_kwh == pytest.approx(
        8.0
    )


def test_what_the_session_keeps_holds_where_there_is_no_trip() -> None:
    told = replace(
        STAY, need_wh=20e3, preferred_wh=30e3, departs_at=at(5), need_source="car", energy_wh=4e3
    )
    wanted = need(told, None, EXACT, now=at(6))
    assert (wanted.required_kwh, wanted.preferred_kwh) == (16.0, 26.0)
    assert wanted.departs_at == at(5)
    assert not wanted.is_assumed
    guessed = need(replace(told, need_source="assumed"), None, EXACT, now=at(6))
    assert guessed.departs_at == at(7)
    assert guessed.is_assumed


def past(days: int, hours: float, kwh: float) -> Session:
    start = NOW - timedelta(days=days)
    return replace(
        STAY, started_at=start, ended_at=start + timedelta(hours=hours), energy_wh=kwh * 1e3
    )


def test_past_stays_of_the_same_kind_of_day_stand_in_for_a_trip() -> None:
    # NOW is a Monday; 1 and 2 days before are the weekend.
    weekdays = [past(7, 9.0, 12.0), past(14, 10.0, 14.0), past(5, 11.0, 30.0)]
    weekend = [past(1, 2.0, 3.0), past(2, 2.0, 3.0), past(8, 2.0, 3.0)]
    wanted = need(STAY, None, EXACT, now=NOW, habits=weekdays + weekend)
    assert wanted.departs_at == at(10.0)
    assert wanted.required_kwh == pytest.approx(14.0)
    assert wanted.preferred_kwh == pytest.approx(36.0)
    assert wanted.is_assumed


def test_an_unknown_holder_gets_a_usual_day_and_a_wish() -> None:
    wanted = need(STAY, None, None, now=NOW)
    assert wanted.departs_at == at(8.0)
    assert wanted.required_kwh == DEFAULT_REQUIRED_KWH
    assert wanted.preferred_kwh > wanted.required_kwh
    assert wanted.is_assumed
    assert need(STAY, None, None, now=NOW, max_kw=0.5).required_kwh == pytest.approx(4.0)


@given(
    km=st.floats(0, 2000),
    soc=st.none() | st.floats(0, 1),
    taken_wh=st.floats(0, 2e5),
    battery_kwh=st.floats(10, 120),
)
def test_a_need_never_exceeds_what_the_battery_can_take(
    km: float, soc: float | None, taken_wh: float, battery_kwh: float
) -> None:
    vehicle = Vehicle(vehicle_id="v", battery_kwh=battery_kwh, soc=soc)
    wanted = need(replace(STAY, energy_wh=taken_wh), trip(km), vehicle, now=NOW)
    assert 0.0 <= wanted.required_kwh <= wanted.preferred_kwh + 1e-9
    assert wanted.required_kwh <= battery_kwh / vehicle.efficiency + 1e-9


def test_energy_that_a_car_states_counts_though_it_does_not_say_when_it_leaves() -> None:
    stated = replace(STAY, need_wh=15_000.0, preferred_wh=15_000.0, need_source="car")
    wanted = need(stated, None, None, now=NOW)
    assert wanted.required_kwh == 15.0
    assert wanted.is_assumed
    assert wanted.departs_at > NOW


def test_a_state_of_charge_that_was_read_once_grows_with_the_meter() -> None:
    car = replace(EXACT, soc=None, battery_kwh=50.0)
    once = replace(STAY, soc=0.4, energy_wh=10_000.0)
    assert held_kwh(once, car) == pytest.approx(30.0)
    again = replace(once, soc=0.7, soc_wh=10_000.0)
    assert held_kwh(again, car) == pytest.approx(35.0)
