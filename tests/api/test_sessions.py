"""Transactions and stays (api.md K10-K13, K17), sites and plans."""

from dataclasses import replace
from datetime import timedelta

from csms.core.commands import RawCall, StopCharging
from csms.core.model import (
    AuthorizationStatus,
    Holder,
    IdToken,
    MeterSample,
    OcppVersion,
    Price,
    Session,
    Vehicle,
)
from csms.core.plan import PlanningCase
from csms.store import identities, plans, samples, series, sessions
from csms.store.statements import Tx
from tests.api.conftest import START, Operator, link


def stay(n: int = 1, **changes: object) -> Session:
    base = Session(
        session_id=f"s-{n}",
        number=0,
        site_id="depot",
        station_id="CP1",
        evse_id=1,
        version=OcppVersion.V16,
        transaction_id=str(100 + n),
        id_token=IdToken(value="04A1B2C3"),
        holder_did="did:denso:driver:one",
        status=AuthorizationStatus.ACCEPTED,
        reason="accepted",
        started_at=START + timedelta(minutes=n),
        received_at=START + timedelta(minutes=n),
        vehicle_id="van",
        departs_at=START + timedelta(hours=10),
        need_wh=20_000.0,
        preferred_wh=20_000.0,
        need_source="trip",
        meter_start_wh=1000.0,
        energy_wh=1500.0,
        power_w=4200.0,
    )
    return replace(base, **changes)


def enrol(tx: Tx) -> None:
    identities.upsert_vehicle(tx, Vehicle(vehicle_id="van", name="Van 7", soc=0.4))
    identities.upsert_holder(
        tx,
        Holder(
            did="did:denso:driver:one", name="Driver one", allowed_sites=("*",), vehicle_id="van"
        ),
    )


async def _open(operator: Operator, *stays: Session) -> None:
    def work(tx: Tx) -> None:
        enrol(tx)
        for session in stays:
            sessions.open_session(tx, session)

    await operator.store.write(work)


async def test_transactions_are_newest_first_with_the_total(operator: Operator) -> None:
    await _open(operator, stay(1), stay(2, evse_id=2), stay(3, evse_id=3))
    first = (await operator.client.get("/api/v1/transactions?limit=2&station_id=CP1")).json()
    assert [t["transaction_id"] for t in first["items"]] == ["103", "102"]
    assert first["total"] == 3
    rest = await operator.viewer.get(f"/api/v1/transactions?cursor={first['cursor']}")
    assert [t["transaction_id"] for t in rest.json()["items"]] == ["101"]
    item = first["items"][0]
    assert item["id_token"] == "04A1B2C3"
    assert item["stopped_at"] is None
    assert item["energy_wh"] == 1500.0
    assert item["started_at"].endswith("Z")


async def test_transactions_are_filtered_by_state_and_token(operator: Operator) -> None:
    await _open(operator, stay(1), stay(2, id_token=IdToken(value="OTHER"), evse_id=2))
    await operator.store.write(
        lambda tx: sessions.close_session(tx, "s-1", at=operator.clock.now(), reason="Local")
    )
    opened = (await operator.viewer.get("/api/v1/transactions?open=true")).json()
    assert [t["session_id"] for t in opened["items"]] == ["s-2"]
    ended = (await operator.viewer.get("/api/v1/transactions?id_token=04A1B2C3")).json()
    assert ended["items"][0]["stop_reason"] == "Local"


async def test_a_stop_works_by_handle_and_by_wire_id(operator: Operator) -> None:
    await _open(operator, stay(1))
    for path in ("transactions/s-1/stop", "transactions/101/stop?station_id=CP1"):
        answer = await operator.client.post(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["outcome"] == "accepted"
    assert all(isinstance(c, StopCharging) for c in operator.station.seen)
    assert {c.transaction_id for c in operator.station.seen} == {"101"}  # type: ignore[attr-defined]
    unknown = await operator.client.post("/api/v1/transactions/101/stop")
    assert unknown.status_code == 404


async def test_a_wire_id_never_reaches_another_stations_transaction(operator: Operator) -> None:
    await _open(operator, stay(1))
    answer = await operator.client.post("/api/v1/transactions/101/stop?station_id=CP2")
    assert answer.status_code == 404
    assert operator.station.seen == []


async def test_a_profile_goes_as_given_with_the_wire_id_added(operator: Operator) -> None:
    await _open(operator, stay(1))
    await operator.store.write(link)
    profile = '{"chargingProfileId": 7, "stackLevel": 0, "x": 16.10}'
    answer = await operator.client.post(
        "/api/v1/transactions/s-1/profile", content=f'{{"profile": {profile}}}'
    )
    assert answer.status_code == 200, answer.text
    (sent,) = operator.station.seen
    assert isinstance(sent, RawCall)
    assert sent.action == "SetChargingProfile"
    assert sent.payload_json == (
        '{"connectorId":1,"csChargingProfiles":'
        '{"chargingProfileId":7,"stackLevel":0,"x":16.10,"transactionId":101}}'
    )


async def test_a_leftover_is_closed_with_a_reason_and_once(operator: Operator) -> None:
    await _open(operator, stay(1))
    body = {"reason": "station scrapped"}
    closed = await operator.client.post("/api/v1/transactions/s-1/close", json=body)
    assert closed.json()["stop_reason"] == "station scrapped"
    again = await operator.client.post("/api/v1/transactions/s-1/close", json=body)
    assert again.status_code == 409
    assert (await operator.client.post("/api/v1/transactions/s-1/stop")).status_code == 409


async def test_a_story_holds_all_that_explains_a_stay(operator: Operator) -> None:
    await _open(operator, stay(1))

    def sample(tx: Tx) -> None:
        samples.append_samples(
            tx,
            sessions.get(tx, "s-1"),
            [MeterSample(at=START + timedelta(minutes=5), energy_wh=2500.0, power_w=4200.0)],
        )

    await operator.store.write(sample)
    story = (await operator.viewer.get("/api/v1/sessions/s-1/story")).json()
    assert story["session"]["need_kwh"] == 20.0
    assert story["now"]["readiness"] == "waiting"
    assert story["now"]["holder_name"] == "Driver one"
    assert story["samples"][0]["energy_wh"] == 2500.0
    assert story["vehicle"]["name"] == "Van 7"


async def test_a_site_shows_what_was_measured_and_the_worst_case(operator: Operator) -> None:
    await _open(operator, stay(1))
    live = (await operator.viewer.get("/api/v1/sites/depot/live")).json()
    assert live["site"]["limit_kw"] == 100.0
    assert live["site"]["measured_kw"] == 4.2
    assert live["site"]["worst_case_cut_off_kw"] == 4.2
    assert live["sessions"][0]["vehicle_name"] == "Van 7"
    assert live["sessions"][0]["reason"] == "plan pending; station offline"


async def test_a_stored_plan_can_be_read_and_its_case_replayed(operator: Operator) -> None:
    await _open(operator, stay(1))
    await operator.store.write(link)
    case, made = await operator.replanner.preview("depot")
    plan_id = await operator.store.write(
        lambda tx: plans.insert_plan(tx, case, made, why="test", cpu_s=0.01)
    )
    latest = (await operator.viewer.get("/api/v1/sites/depot/plan")).json()
    assert latest["plan_id"] == plan_id
    assert latest["sessions"][0]["session_id"] == "s-1"
    text = (await operator.viewer.get(f"/api/v1/plans/{plan_id}/case")).text
    assert PlanningCase.from_json(text) == case
    live = (await operator.viewer.get("/api/v1/sites/depot/live")).json()
    assert live["plan"]["why"] == "test"
    assert live["sessions"][0]["readiness"] == "on_track"
    assert live["sessions"][0]["ready_share"] == 0.99
    assert live["site"]["planned_kw"] == live["sessions"][0]["allowed_kw"]
    listed = (await operator.viewer.get("/api/v1/plans?site_id=depot")).json()
    assert listed["total"] == 1


async def test_a_preview_plans_and_sends_nothing(operator: Operator) -> None:
    await _open(operator, stay(1))
    preview = (await operator.client.post("/api/v1/sites/depot/plan/preview")).json()
    assert preview["plan"]["sessions"][0]["session_id"] == "s-1"
    assert operator.station.seen == []
    assert (await operator.viewer.get("/api/v1/sites/depot/plan")).status_code == 404


async def test_those_who_will_not_be_ready_come_first(operator: Operator) -> None:
    await _open(
        operator,
        stay(1, energy_wh=20_000.0),
        stay(2, evse_id=2, status=AuthorizationStatus.BLOCKED, reason="token_blocked"),
    )
    live = (await operator.viewer.get("/api/v1/sites/depot/live")).json()
    assert [s["readiness"] for s in live["sessions"]] == ["refused", "ready"]
    assert live["sessions"][0]["reason"] == "token refused: token_blocked"
    assert live["sessions"][1]["ready_share"] == 1.0


async def test_a_changed_limit_is_kept_and_logged(operator: Operator) -> None:
    answer = await operator.client.patch("/api/v1/sites/depot", json={"limit_kw": 60.5})
    assert answer.json()["limit_kw"] == 60.5
    shown = (await operator.viewer.get("/api/v1/sites/depot")).json()
    assert shown["site"]["limit_kw"] == 60.5
    log = (await operator.viewer.get("/api/v1/log?site_id=depot")).json()
    assert log["items"][0]["event"]["detail"]["limit_kw"] == [100.0, 60.5]
    for wrong in (-1, "much", 1e9):
        refused = await operator.client.patch("/api/v1/sites/depot", json={"limit_kw": wrong})
        assert refused.status_code == 422


async def test_prices_of_a_range_are_listed(operator: Operator) -> None:
    price = Price(starts_at=START, until=START + timedelta(hours=1), eur_per_kwh=-0.02)
    await operator.store.write(lambda tx: series.upsert_prices(tx, "default", [price]))
    listed = (await operator.viewer.get("/api/v1/prices")).json()
    assert listed["items"] == [
        {"starts_at": "2026-03-02T16:00:00Z", "until": "2026-03-02T17:00:00Z", "eur_per_kwh": -0.02}
    ]
