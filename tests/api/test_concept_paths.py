"""The first concept's paths (api.md 3) with its four scenarios."""

from dataclasses import replace
from datetime import timedelta

import pytest

from csms.core.commands import CommandResult, Outcome, StartCharging
from csms.core.metering import LOAD, Expected
from csms.core.model import CarbonIntensity, IdToken, Price, Site
from csms.store import identities, metering, series, sessions, stations, trips
from csms.store.series import ForecastScore
from csms.store.statements import Tx
from tests.api.conftest import START, Operator, link
from tests.api.test_sessions import stay

PLAN_FIELDS = {
    "needed_trip_energy_kwh", "current_energy_kwh", "extra_energy_needed_kwh",
    "target_soc_percent", "planned_duration_hours", "planned_finish_time", "is_feasible",
    "feasibility_warning", "planned_cost_eur", "effective_charge_power_kw", "plan_type",
    "incentive_offers",
}  # fmt: skip


def request(
    *, km: float = 120, soc: float = 35, hours: float = 10, green: bool = False, kw: float = 150
) -> dict[str, object]:
    return {
        "driver": {
            "did": "did:denso:driver:anna", "credentials": ["Employee:TechCorp"],
            "allowed_sites": ["depot"], "preferences": {"carbon_conscious": green},
        },
        "vehicle": {
            "did": "did:denso:vehicle:v1", "battery_capacity_kwh": 75,
            "nominal_consumption_wh_per_km": 180, "max_charge_power_kw": 150,
            "current_soc_percent": soc,
        },
        "charger": {
            "did": "did:denso:charger:CP1", "site_id": "depot", "max_power_kw": kw,
            "location": "North", "availability": True,
        },
        "trip": {
            "distance_km": km, "departure_time": (START + timedelta(hours=hours)).isoformat()
        },
    }  # fmt: skip


async def start(operator: Operator, body: dict[str, object]) -> dict[str, object]:
    answer = await operator.client.post("/api/v1/sessions/start", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def market(tx: Tx, *, cheap_from_h: int, carbon: bool = False) -> None:
    """Dear (and dirty) hours first, cheap (and clean) ones from `cheap_from_h` on."""
    hours = [START + timedelta(hours=h) for h in range(36)]
    step = timedelta(hours=1)
    late = START + timedelta(hours=cheap_from_h)
    series.upsert_prices(
        tx, "",
        [Price(starts_at=h, until=h + step, eur_per_kwh=0.1 if h >= late else 0.5) for h in hours],
    )  # fmt: skip
    if carbon:
        rows = [
            CarbonIntensity(starts_at=h, until=h + step, kg_per_kwh=0.05 if h >= late else 0.6)
            for h in hours
        ]
        series.upsert_carbon(tx, "default", rows)


async def test_a_car_that_holds_enough_is_already_charged(operator: Operator) -> None:
    started = await start(operator, request())
    plan = started["plan"]
    assert isinstance(plan, dict)
    assert set(plan) >= PLAN_FIELDS
    # api.md 3, worked: 120 km at 180 Wh/km need 25.92 kWh; 75 kWh at 35 % hold 26.25 kWh.
    assert plan["needed_trip_energy_kwh"] == pytest.approx(25.92)
    assert plan["current_energy_kwh"] == pytest.approx(26.25)
    assert plan["extra_energy_needed_kwh"] == 0
    assert plan["planned_duration_hours"] == 0
    assert plan["planned_cost_eur"] == 0
    assert plan["effective_charge_power_kw"] == pytest.approx(127.5)
    assert plan["is_feasible"] is True
    assert "already holds" in str(started["message"])


async def test_too_little_time_is_told_and_charged_all_the_same(operator: Operator) -> None:
    started = await start(operator, request(km=250, soc=10, hours=1, kw=11))
    plan = started["plan"]
    assert isinstance(plan, dict)
    # 54 kWh needed, 7.5 held; 46.5 kWh at 11 kW x 0.85 take almost five hours.
    assert plan["is_feasible"] is False
    assert "after departure" in plan["feasibility_warning"]
    assert plan["planned_duration_hours"] == pytest.approx(46.5 / 9.35)
    assert plan["shortfall_kwh"] > 30
    assert "not feasible" in str(started["message"])
    shown = (await operator.viewer.get(f"/api/v1/sessions/{started['session_id']}")).json()
    assert shown["status"] == "active"


async def test_a_driver_who_waits_out_the_peak_is_offered_something(operator: Operator) -> None:
    def peak(tx: Tx) -> None:
        market(tx, cheap_from_h=3)
        load = [
            Expected(
                starts_at=START + timedelta(hours=begins),
                until=START + timedelta(hours=ends),
                power_kw=kw,
                high_kw=kw,
            )
            for begins, ends, kw in ((0, 3, 80.0), (3, 27, 10.0), (27, 30, 10.0))
        ]
        metering.put_expected(tx, "depot", "", LOAD, load)

    await operator.store.write(peak)
    started = await start(operator, request(km=200, soc=20, kw=22))
    plan = started["plan"]
    assert isinstance(plan, dict)
    offers = {o["kind"]: o for o in plan["incentive_offers"]}
    assert offers["delayed_start"]["discount_eur"] > 0
    assert "predicted peak" in offers["delayed_start"]["reason"]
    assert plan["charging_hours"][0]["starts_at"] >= "2026-03-02T19:00:00Z"
    listed = (await operator.viewer.get("/api/v1/offers?site_id=depot&state=open")).json()
    offer_id = offers["delayed_start"]["offer_id"]
    assert offer_id in [o["offer_id"] for o in listed["items"]]
    accepted = await operator.client.post(f"/api/v1/offers/{offer_id}/accept")
    assert accepted.json()["state"] == "accepted"
    declined = await operator.client.post(f"/api/v1/offers/{offer_id}/decline")
    assert declined.status_code == 409


async def test_a_carbon_conscious_driver_gets_a_green_plan_in_clean_hours(
    operator: Operator,
) -> None:
    await operator.store.write(lambda tx: market(tx, cheap_from_h=5, carbon=True))
    started = await start(operator, request(km=200, soc=20, kw=22, green=True))
    plan = started["plan"]
    assert isinstance(plan, dict)
    assert plan["plan_type"] == "GREEN"
    assert all(h["starts_at"] >= "2026-03-02T21:00:00Z" for h in plan["charging_hours"])
    assert plan["joint_co2_kg"] == pytest.approx(0.05 * plan["extra_energy_needed_kwh"] / 0.9)
    assert "clean_hours" in {o["kind"] for o in plan["incentive_offers"]}


async def test_a_linked_charger_is_started_with_a_token_and_the_plan_as_its_profile(
    operator: Operator,
) -> None:
    await operator.store.write(link)
    started = await start(operator, request(km=200, soc=20, kw=22))
    command = operator.station.seen[-1]
    assert isinstance(command, StartCharging)
    assert len(command.id_token.value) == 20
    assert command.schedule is not None
    assert max(p.limit for p in command.schedule.periods) <= 22_000 / 3 / 230
    assert max(p.limit for p in command.schedule.periods) > 6
    waiting = (await operator.viewer.get(f"/api/v1/sessions/{started['session_id']}")).json()
    assert waiting["status"] == "waiting"
    token = await operator.store.read(
        lambda tx: identities.find_token(tx, "session", command.id_token.value)
    )
    assert token is not None
    assert token.station_id == "CP1"
    # The car plugs in: the station's own transaction is known by the token it was given.
    await operator.store.write(
        lambda tx: sessions.open_session(
            tx, stay(1, id_token=IdToken(value=command.id_token.value))
        )
    )
    path = f"/api/v1/sessions/{started['session_id']}"
    found = (await operator.viewer.get(path)).json()
    assert found["status"] == "active"
    assert found["session_id"] == started["session_id"]
    assert found["stay_id"] == "s-1"
    assert found["plan"]["plan_type"] == "STANDARD"
    done = await operator.client.post(f"{path}/complete")
    assert "asked to stop" in done.json()["message"]


async def test_a_charger_that_refuses_is_told_in_the_message(operator: Operator) -> None:
    await operator.store.write(link)
    operator.station.answers = [CommandResult(outcome=Outcome.REJECTED, status="Rejected")]
    started = await start(operator, request(km=200, soc=20, kw=22))
    assert "not started: rejected Rejected" in str(started["message"])
    shown = (await operator.viewer.get(f"/api/v1/sessions/{started['session_id']}")).json()
    assert shown["status"] == "not_started"


async def test_the_first_profile_stays_within_what_the_others_leave(operator: Operator) -> None:
    def tight(tx: Tx) -> None:
        site = stations.get_site(tx, "depot")
        stations.upsert_site(tx, Site(site_id="depot", limit_kw=10.0, time_zone=site.time_zone))
        link(tx)

    await operator.store.write(tight)
    await start(operator, request(km=200, soc=20, kw=22))
    command = operator.station.seen[-1]
    assert isinstance(command, StartCharging)
    assert command.schedule is not None
    assert max(p.limit for p in command.schedule.periods) * 3 * 230 <= 10_000


async def test_a_declared_session_is_completed_with_its_energy(operator: Operator) -> None:
    started = await start(operator, request(km=200, soc=20, kw=22))
    path = f"/api/v1/sessions/{started['session_id']}"
    done = await operator.client.post(f"{path}/complete", json={"energy_kwh": 12.5})
    assert done.json()["status"] == "completed"
    assert done.json()["energy_kwh"] == 12.5
    assert done.json()["is_estimated"] is True
    again = await operator.client.post(f"{path}/complete", json={"energy_kwh": 99})
    assert again.json()["message"] == "completed before"
    assert (await operator.viewer.get(path)).json()["energy_kwh"] == 12.5
    now = operator.clock.now() + timedelta(minutes=1)
    figures = await operator.viewer.get(
        "/api/v1/sites/depot/analytics", params={"until": now.isoformat()}
    )
    assert figures.json()["sessions"] == 1
    assert figures.json()["energy_kwh"] == 12.5


async def test_a_charger_is_not_given_twice(operator: Operator) -> None:
    await start(operator, request(km=200, soc=20, kw=22))
    body = request(km=200, soc=20, kw=22)
    body["driver"] = {"did": "did:denso:driver:ben", "allowed_sites": ["depot"]}
    answer = await operator.client.post("/api/v1/sessions/start", json=body)
    assert answer.status_code == 409
    assert "taken" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"driver": {"did": "did:denso:driver:zoe", "allowed_sites": []}}, 422),
        ({"driver": None, "driver_did": "did:denso:driver:unknown"}, 404),
        ({"driver": {"did": "did:denso:vehicle:v1"}}, 422),
        ({"driver": {"did": "anna"}}, 422),
        ({"vehicle": None}, 422),
        ({"charger": None, "charger_did": "did:denso:charger:none"}, 404),
        ({"trip": {"distance_km": 10}}, 422),
        ({"trip": {"distance_km": 10, "departure_time": "soon"}}, 422),
        ({"mood": "good"}, 422),
    ],
)
async def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    operator: Operator, change: dict[str, object], status: int
) -> None:
    body = {k: v for k, v in {**request(), **change}.items() if v is not None}
    answer = await operator.client.post("/api/v1/sessions/start", json=body)
    assert answer.status_code == status, answer.text
    assert await operator.store.read(lambda tx: trips.list_trips(tx)) == []
    assert (await operator.viewer.get("/api/v1/sessions")).json()["total"] == 0


async def test_dids_alone_suffice_once_all_are_enrolled(operator: Operator) -> None:
    body = request(km=200, soc=20, kw=22)
    lists = {"drivers": "driver", "vehicles": "vehicle", "chargers": "charger"}
    await operator.client.post(
        "/api/v1/imports/concept", json={many: [body[one]] for many, one in lists.items()}
    )
    short = {
        "driver_did": "did:denso:driver:anna", "vehicle_did": "did:denso:vehicle:v1",
        "charger_did": "did:denso:charger:CP1",
        # Without an offset the departure is meant in the site's own time, here Berlin's.
        "trip": {"distance_km": 200, "departure_time": "2026-03-03T07:00:00"},
    }  # fmt: skip
    started = await start(operator, short)
    plan = started["plan"]
    assert isinstance(plan, dict)
    assert plan["extra_energy_needed_kwh"] == pytest.approx(43.2 - 15.0)
    (trip,) = await operator.store.read(lambda tx: trips.list_trips(tx))
    assert trip.departs_at.isoformat() == "2026-03-03T06:00:00+00:00"


async def test_the_demo_makes_the_same_data_for_the_same_seed(operator: Operator) -> None:
    made = await operator.client.post(
        "/api/v1/demo/generate-data", json={"drivers": 3, "days": 4, "seed": 7}
    )
    assert made.json()["generated"] == {
        "drivers": 3, "vehicles": 3, "stations": 0, "trips": 3, "sessions": 12
    }  # fmt: skip
    again = await operator.client.post(
        "/api/v1/demo/generate-data", json={"drivers": 3, "days": 4, "seed": 7}
    )
    assert again.json()["generated"]["sessions"] == 0
    listed = (await operator.viewer.get("/api/v1/sessions")).json()
    assert all(s["flags"] == ["generated"] for s in listed["items"])
    dids = (await operator.viewer.get("/api/v1/demo/sample-dids")).json()
    assert len(dids["drivers"]) == len(dids["vehicles"]) == 3
    assert dids["chargers"] == ["did:denso:charger:CP1"]
    figures = (await operator.viewer.get("/api/v1/sites/depot/analytics")).json()
    assert figures["sessions"] == 12
    assert figures["peak_demand_kw"] > 0


async def test_without_the_demo_its_paths_do_not_exist(operator: Operator) -> None:
    parts = operator.app.state.parts
    operator.app.state.parts = type(parts)(
        **{f: getattr(parts, f) for f in parts.__dataclass_fields__} | {"demo": False}
    )
    assert (await operator.viewer.get("/api/v1/demo/sample-dids")).status_code == 404
    assert (await operator.client.post("/api/v1/demo/generate-data")).status_code == 404


async def test_a_forecast_that_was_never_made_is_not_found(operator: Operator) -> None:
    assert (await operator.viewer.get("/api/v1/forecasts/site/depot")).status_code == 404
    assert (await operator.viewer.get("/api/v1/forecasts/site/none")).status_code == 404
    unknown = await operator.client.post("/api/v1/forecasts/train", json={"site_id": "none"})
    assert unknown.status_code == 404


async def test_how_forecasts_scored_is_listed_from_then_on(operator: Operator) -> None:
    score = ForecastScore(
        site_id="depot", kind="load", measure="mae_kw", starts_at=START, value=3.0
    )
    old = replace(score, starts_at=START - timedelta(days=100))
    await operator.store.write(lambda tx: series.upsert_scores(tx, [score, old]))
    path = "/api/v1/forecasts/site/depot/scores"
    shown = (await operator.viewer.get(path)).json()["items"]
    assert [(s["measure"], s["value"]) for s in shown] == [("mae_kw", 3.0)]
    assert len((await operator.viewer.get(f"{path}?days=200")).json()["items"]) == 2
    assert (await operator.viewer.get("/api/v1/forecasts/site/nowhere/scores")).status_code == 404
