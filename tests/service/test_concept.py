"""Reading the concept's JSON, and the first profile beside other cars.

The paths through HTTP, with the four scenarios, are in tests/api/test_concept_paths.py.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.circuit import Circuit, Place, Wiring
from csms.core.errors import DidSyntaxError, InvalidInput
from csms.core.model import Evse, Holder, Site, Station, StationLimits, Trip, Vehicle
from csms.core.plan import PlanningCase, PlanningSession
from csms.planning.profile import STACK_LEVEL, plan_profile_id
from csms.service import concept_input, concept_plan
from csms.service.concept_plan import Planned, Request

NOW = datetime(2026, 3, 2, 16, tzinfo=UTC)
SLOTS = 8
SHORT: dict[str, object] = {
    "driver_did": "did:denso:driver:a",
    "vehicle_did": "did:denso:vehicle:v",
    "charger_did": "did:denso:charger:CP1",
    "trip": {"distance_km": 120, "departure_time": "2026-03-03T07:00:00+01:00"},
}


def request(*, km: float = 200.0, soc: float = 0.2, **station: object) -> Request:
    return Request(
        holder=Holder(did="did:denso:driver:a"),
        vehicle=Vehicle(vehicle_id="v", battery_kwh=75, max_kw=22, soc=soc),
        site=Site(site_id="depot", limit_kw=100),
        station=Station(station_id="CP1", site_id="depot", **station),  # type: ignore[arg-type]
        evse=Evse(station_id="CP1", evse_id=1, max_kw=22, guard_kw=4.2),
        trip=Trip(trip_id="t", holder_did="d", departs_at=NOW + timedelta(hours=2), distance_km=km),
        charger_did="did:denso:charger:CP1",
        tariff_eur_per_kwh=0.3,
    )


def other(n: int, **values: object) -> PlanningSession:
    base = PlanningSession(
        session_id=f"o-{n}", station_id=f"X{n}", evse_id=1, available_at=NOW,
        departs_at=NOW + timedelta(hours=2), required_kwh=20.0, preferred_kwh=20.0,
        max_kw=22.0, min_kw=4.14, guard_kw=4.2,
    )  # fmt: skip
    return replace(base, **values)  # type: ignore[arg-type]


def case(*others: PlanningSession, limit_kw: float = 100.0, base_kw: float = 10.0) -> PlanningCase:
    return PlanningCase(
        site_id="depot", now_at=NOW,
        edges_at=tuple(NOW + timedelta(minutes=15 * k) for k in range(SLOTS + 1)),
        limit_kw=(limit_kw,) * SLOTS, base_load_kw=(base_kw,) * SLOTS, reserved_kw=(0.0,) * SLOTS,
        idle_guard_kw=4.2, price_eur_per_kwh=(0.3,) * SLOTS, co2_kg_per_kwh=(0.0,) * SLOTS,
        sessions=others,
    )  # fmt: skip


def planned(asked: Request, known: PlanningCase) -> Planned:
    concept = concept_plan.alone(asked, now=NOW)
    return concept_plan.beside_others(asked, concept, known, session_id="s-new")


POWER = st.floats(0, 22).map(lambda kw: round(kw, 2))


@given(
    in_force=st.lists(st.none() | POWER, max_size=4),
    limit_kw=st.floats(5, 120).map(lambda kw: round(kw, 1)),
)
@settings(max_examples=25, deadline=None)
def test_the_first_profile_fits_beside_what_the_others_may_draw_now(
    in_force: list[float | None], limit_kw: float
) -> None:
    others = [other(n, current_kw=kw) for n, kw in enumerate(in_force)]
    made = planned(request(), case(*others, limit_kw=limit_kw))
    row = concept_plan.first_row_kw(made)
    now_kw = sum(4.2 if kw is None else kw for kw in in_force)
    for kw in row:
        assert kw == 0 or kw >= made.case.sessions[-1].min_kw - 1e-9
        assert kw == 0 or kw + now_kw + 10.0 <= limit_kw + 1e-6


def test_a_station_without_profiles_is_started_without_one() -> None:
    asked = request(limits=StationLimits(supports_profiles=False))
    assert concept_plan.first_schedule(asked, planned(asked, case()), now=NOW) is None


def test_the_first_schedule_is_replaced_by_the_plans_own() -> None:
    asked = request()
    first = concept_plan.first_schedule(asked, planned(asked, case()), now=NOW)
    assert first is not None
    assert first.profile_id == plan_profile_id(asked.evse.evse_id)
    assert first.stack_level == STACK_LEVEL
    assert max(p.limit for p in first.periods) > 6


def test_the_guard_of_the_cars_own_evse_is_not_counted_twice() -> None:
    made = planned(request(), case(limit_kw=10.0 + 22.0))
    assert made.case.idle_guard_kw == 0
    assert max(concept_plan.first_row_kw(made)) == pytest.approx(22.0)


@given(
    in_force=st.lists(POWER, max_size=3),
    limit_a=st.floats(0, 63).map(lambda a: round(a, 1)),
    is_wired=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_first_profile_fits_every_fuse_above_its_evse(
    in_force: list[float], limit_a: float, is_wired: bool
) -> None:
    others = [other(n, current_kw=kw, circuit_id="row") for n, kw in enumerate(in_force)]
    guard_a = 4.2 / 0.69
    fuse = Circuit(
        circuit_id="row",
        limit_a=((limit_a,),),
        # Of our EVSE, and of one more without a car.
        idle_guard_a=(guard_a + 6.0,) * 3,
    )
    at = Place(circuit_id="row", phases=(1, 2, 3)) if is_wired else Place(circuit_id="row")
    wiring = Wiring(circuits=(fuse,), places={("CP1", 1): at})
    known = replace(case(*others), circuits=(fuse,))
    made = planned(replace(request(), wiring=wiring), known)
    assert made.case.circuits[0].idle_guard_a == pytest.approx((6.0,) * 3)
    for kw in concept_plan.first_row_kw(made):
        assert kw == 0 or (kw + sum(in_force)) / 0.69 + 6.0 <= limit_a + 1e-6


def test_a_fuse_with_room_gives_the_first_profile_all_of_it() -> None:
    fuse = Circuit(circuit_id="row", limit_a=((26.0,),), idle_guard_a=(4.2 / 0.69 + 6.0,) * 3)
    wiring = Wiring(circuits=(fuse,), places={("CP1", 1): Place(circuit_id="row")})
    made = planned(replace(request(), wiring=wiring), replace(case(), circuits=(fuse,)))
    assert max(concept_plan.first_row_kw(made)) == pytest.approx(20.0 * 0.69)


def test_what_others_follow_later_counts_before_they_know_of_us() -> None:
    rising = other(0, current_kw=0.0, in_force_kw=(0.0, *[22.0] * 3))
    rising = replace(rising, required_kwh=0.0, preferred_kwh=0.0)
    made = planned(request(), case(rising, limit_kw=10.0 + 22.0 + 6.0))
    row = concept_plan.first_row_kw(made)
    assert row[0] == pytest.approx(22.0)
    assert row[1:4] == pytest.approx((6.0,) * 3)


def test_hours_are_the_runs_of_the_row() -> None:
    made = planned(request(soc=0.5), case())
    hours = concept_plan.hours(made)
    energy = sum(
        float(str(h["power_kw"]))
        * (
            datetime.fromisoformat(str(h["until"])) - datetime.fromisoformat(str(h["starts_at"]))
        ).total_seconds()
        / 3600
        for h in hours
    )
    assert energy == pytest.approx(made.row.energy_kwh, abs=0.01)


def test_the_concepts_numbers_are_those_of_the_single_car() -> None:
    view = concept_plan.view(planned(request(km=120, soc=0.35), case()))
    assert view["needed_trip_energy_kwh"] == pytest.approx(25.92)
    assert view["extra_energy_needed_kwh"] == 0
    assert view["charging_hours"] == []


# --- reading -------------------------------------------------------------------------------------


def test_a_did_may_be_given_alone_or_inside_its_object() -> None:
    given_ = concept_input.read({**SHORT, "driver": {"did": "did:denso:driver:b"}})
    assert (given_.driver_did, given_.driver) == ("did:denso:driver:b", {"did": given_.driver_did})
    assert (given_.vehicle_did, given_.vehicle) == ("did:denso:vehicle:v", None)
    plain = concept_input.read({**SHORT, "driver": "did:denso:driver:c", "driver_did": None})
    assert plain.driver_did == "did:denso:driver:c"


def test_a_departure_without_an_offset_is_meant_in_the_sites_time() -> None:
    trip = {"distance_km": 1, "departure_time": "2026-07-03T07:00:00"}
    given_ = concept_input.read({**SHORT, "trip": trip})
    assert given_.departure("Europe/Berlin") == datetime(2026, 7, 3, 5, tzinfo=UTC)
    exact = concept_input.read(SHORT)
    assert exact.departure("Asia/Tokyo") == datetime(2026, 3, 3, 6, tzinfo=UTC)


def test_a_charger_is_known_by_the_last_part_of_its_did() -> None:
    assert concept_input.station_id_of("did:denso:charger:CP1") == "CP1"


@pytest.mark.parametrize(
    "change",
    [
        {"trip": None},
        {"trip": {}},
        {"trip": {"distance_km": "far", "departure_time": "2026-03-03T07:00:00Z"}},
        {"trip": {"distance_km": -1, "departure_time": "2026-03-03T07:00:00Z"}},
        {"trip": {"distance_km": True, "departure_time": "2026-03-03T07:00:00Z"}},
        {"trip": {"distance_km": 1, "departure_time": 5}},
        {"trip": {"distance_km": 1, "departure_time": "2026-03-03T07:00:00Z", "mood": 1}},
        {"driver_did": None},
        {"driver_did": "did:denso:vehicle:v"},
        {"charger_did": 5},
        {"extra": 1},
    ],
)
def test_what_cannot_be_read_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        concept_input.read({**SHORT, **change})


def test_what_is_no_did_is_refused() -> None:
    with pytest.raises(DidSyntaxError):
        concept_input.read({**SHORT, "driver_did": "anna"})
