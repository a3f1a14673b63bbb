"""Holders, vehicles, trips, tokens, files: by the API (K15)."""

from urllib.parse import quote

import pytest

from csms.core.model import IdToken, OcppVersion
from csms.identity import alias
from csms.store import identities, sessions
from tests.api.conftest import Operator
from tests.api.test_sessions import enrol, stay

DRIVER = "did:denso:driver:one"


async def _holder(operator: Operator, **more: object) -> None:
    body = {"did": DRIVER, "name": "Driver one", "allowed_sites": ["depot"], **more}
    answer = await operator.client.post("/api/v1/holders", json=body)
    assert answer.status_code == 201, answer.text


async def test_a_holder_is_enrolled_with_its_names_on_the_wire(operator: Operator) -> None:
    await _holder(operator)
    shown = (await operator.client.get(f"/api/v1/holders/{DRIVER}")).json()
    kinds = {t["kind"]: t["value"] for t in shown["tokens"]}
    assert set(kinds) == {"fingerprint", "did"}
    assert len(kinds["fingerprint"]) == 20
    for value in kinds.values():
        looked_up = alias.normalise(IdToken(value=value))
        found = await operator.store.read(
            lambda tx, pairs=looked_up: [identities.find_token(tx, k, v) for k, v in pairs]  # type: ignore[misc]
        )
        assert any(t is not None and t.did == DRIVER for t in found)


async def test_a_holder_is_added_once_and_replaced_by_put(operator: Operator) -> None:
    await _holder(operator)
    again = await operator.client.post("/api/v1/holders", json={"did": DRIVER})
    assert again.status_code == 409
    put = await operator.client.put(f"/api/v1/holders/{DRIVER}", json={"did": DRIVER, "name": "N"})
    assert put.json()["name"] == "N"
    other = await operator.client.post(
        "/api/v1/holders", json={"did": DRIVER.replace("one", "ONE")}
    )
    assert other.status_code == 409


@pytest.mark.parametrize("did", ["", "driver", "did:denso:charger:1", "did:x", "did:denso:none:1"])
async def test_what_is_no_holders_did_is_refused(operator: Operator, did: str) -> None:
    assert (await operator.client.post("/api/v1/holders", json={"did": did})).status_code == 422


async def test_a_removed_holder_leaves_no_token(operator: Operator) -> None:
    await _holder(operator)
    assert (await operator.client.delete(f"/api/v1/holders/{DRIVER}")).status_code == 204
    assert (await operator.client.get(f"/api/v1/holders/{DRIVER}")).status_code == 404
    assert (await operator.client.get("/api/v1/tokens")).json()["items"] == []


async def test_a_claim_is_entered_suspended_and_removed(operator: Operator) -> None:
    await _holder(operator)
    claim = "https://fleet.example/claims/1#a"
    body = {
        "credential_id": claim,
        "subject": DRIVER,
        "kind": "EmployeeCredential",
        "sites": ["*"],
        "hours": [[360, 1320]],
        "allowance_kwh": 25,
    }
    put = await operator.client.put("/api/v1/credentials", json=body)
    assert put.status_code == 200, put.text
    assert (put.json()["status"], put.json()["used_kwh"]) == ("valid", 0.0)
    shown = (await operator.viewer.get(f"/api/v1/holders/{DRIVER}")).json()
    assert [c["credential_id"] for c in shown["credentials"]] == [claim]
    path = f"/api/v1/credentials/{quote(claim, safe='')}"
    assert (await operator.viewer.patch(path, json={"status": "valid"})).status_code == 403
    changed = await operator.client.patch(path, json={"status": "suspended"})
    assert changed.json()["status"] == "suspended"
    assert (await operator.client.patch(path, json={"status": "lost"})).status_code == 422
    listed = (await operator.viewer.get("/api/v1/credentials", params={"did": DRIVER})).json()
    assert [c["status"] for c in listed["items"]] == ["suspended"]
    assert (await operator.client.delete(path)).status_code == 204
    assert (await operator.client.delete(path)).status_code == 404
    assert (await operator.viewer.get("/api/v1/credentials")).json()["items"] == []


@pytest.mark.parametrize(
    "change",
    [{"subject": "did:denso:driver:none"}, {"hours": [[0, 1441]]}, {"used_kwh": 3}, {"sites": "*"}],
)
async def test_a_claim_that_cannot_be_is_refused(
    operator: Operator, change: dict[str, object]
) -> None:
    await _holder(operator)
    body = {"credential_id": "c", "subject": DRIVER, "kind": "Employee", **change}
    answer = await operator.client.put("/api/v1/credentials", json=body)
    assert answer.status_code in (404, 422)


async def test_lists_are_paged_by_an_opaque_cursor(operator: Operator) -> None:
    for n in range(5):
        body = {"vehicle_id": f"van-{n}"}
        assert (await operator.client.post("/api/v1/vehicles", json=body)).status_code == 201
    seen, cursor = [], ""
    while True:
        page = (await operator.viewer.get(f"/api/v1/vehicles?limit=2&cursor={cursor}")).json()
        assert page["total"] == 5
        seen += [v["vehicle_id"] for v in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == [f"van-{n}" for n in range(5)]


async def test_writing_a_vehicle_again_keeps_the_reading_of_its_battery(operator: Operator) -> None:
    body = {"vehicle_id": "van", "battery_kwh": 75, "soc": 0.35}
    made = (await operator.client.post("/api/v1/vehicles", json=body)).json()
    assert made["soc_source"] == "declared"
    put = await operator.client.put(
        "/api/v1/vehicles/van", json={"vehicle_id": "van", "battery_kwh": 60}
    )
    assert put.json()["battery_kwh"] == 60
    assert put.json()["soc"] == 0.35


async def test_a_trip_declared_during_a_stay_becomes_its_need(operator: Operator) -> None:
    await operator.store.write(
        lambda tx: (enrol(tx), sessions.open_session(tx, stay(1, need_source="assumed")))
    )
    body = {
        "holder_did": DRIVER,
        "vehicle_id": "van",
        "distance_km": 200,
        "departs_at": "2026-03-03T07:00:00+01:00",
    }
    made = (await operator.client.post("/api/v1/trips", json=body)).json()
    assert made["departs_at"] == "2026-03-03T06:00:00Z"
    session = await operator.store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.trip_id == made["trip_id"]
    assert session.need_source == "trip"
    # 200 km x 180 Wh/km x 1.2 = 43.2 kWh; the battery holds 0.4 x 60 + 1.5 x 0.9 = 25.35 kWh.
    assert session.need_wh == pytest.approx(1500 + (43.2 - 25.35) / 0.9 * 1000)
    gone = await operator.client.delete(f"/api/v1/trips/{made['trip_id']}")
    assert gone.status_code == 204
    session = await operator.store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.need_source == "assumed"
    assert session.trip_id == ""


@pytest.mark.parametrize(
    "change",
    [
        {"departs_at": "2026-03-03T07:00:00"},
        {"distance_km": None},
        {"distance_km": -1},
        {"holder_did": "did:denso:driver:none"},
        {"vehicle_id": "none"},
        {"speed": 5},
    ],
)
async def test_a_trip_that_cannot_be_is_refused(
    operator: Operator, change: dict[str, object]
) -> None:
    await operator.store.write(enrol)
    body = {"holder_did": DRIVER, "departs_at": "2026-03-03T07:00:00+01:00", "distance_km": 10}
    answer = await operator.client.post("/api/v1/trips", json={**body, **change})
    assert answer.status_code in (404, 422)


async def test_a_token_is_kept_in_its_normal_form_and_can_be_blocked(operator: Operator) -> None:
    body = {"value": "04:a1:b2:c3", "kind": "ISO14443"}
    kept = (await operator.client.put("/api/v1/tokens", json=body)).json()
    assert (kept["kind"], kept["value"], kept["did"]) == ("rfid", "04A1B2C3", "")
    blocked = await operator.client.put("/api/v1/tokens", json={**body, "state": "blocked"})
    assert blocked.json()["state"] == "blocked"
    listed = (await operator.client.get("/api/v1/tokens")).json()
    assert listed["total"] == 1
    assert (await operator.client.delete("/api/v1/tokens/04a1b2c3")).status_code == 204
    assert (await operator.client.get("/api/v1/tokens")).json()["total"] == 0


async def test_a_blocked_name_stays_blocked_when_its_holder_is_written_again(
    operator: Operator,
) -> None:
    await _holder(operator)
    shown = (await operator.client.get(f"/api/v1/holders/{DRIVER}")).json()
    name = next(t for t in shown["tokens"] if t["kind"] == "fingerprint")
    body = {"value": name["value"], "did": DRIVER, "state": "blocked"}
    await operator.client.put("/api/v1/tokens", json=body)
    await operator.client.put(f"/api/v1/holders/{DRIVER}", json={"did": DRIVER})
    shown = (await operator.client.get(f"/api/v1/holders/{DRIVER}")).json()
    assert {t["state"] for t in shown["tokens"] if t["kind"] == "fingerprint"} == {"blocked"}


async def test_a_csv_file_is_taken_whole_or_not_at_all(operator: Operator) -> None:
    good = "\ufeffdid;name;allowed_sites\ndid:denso:driver:a;A;depot|yard\ndid:denso:driver:b;B;*\n"
    path = "/api/v1/imports/csv?kind=holders"
    answer = await operator.client.post(path, content=good.encode())
    assert answer.json() == {"kind": "holders", "imported": 2}
    shown = (await operator.viewer.get("/api/v1/holders/did:denso:driver:a")).json()
    assert shown["allowed_sites"] == ["depot", "yard"]
    bad = "did,priority\ndid:denso:driver:c,1\ndid:denso:driver:d,high\n"
    refused = await operator.client.post(path, content=bad.encode())
    assert refused.status_code == 422
    assert "line 3, priority" in refused.json()["detail"]
    assert (await operator.viewer.get("/api/v1/holders")).json()["total"] == 2


async def test_the_first_concepts_json_is_loaded(operator: Operator) -> None:
    body = {
        "drivers": [{
            "did": "did:denso:driver:x", "credentials": ["Employee:TechCorp"],
            "preferences": {"carbon_conscious": True}, "allowed_sites": [],
        }],
        "vehicles": [{
            "did": "did:denso:vehicle:x", "owner_did": "did:denso:driver:x",
            "battery_capacity_kwh": 75, "nominal_consumption_wh_per_km": 180,
            "max_charge_power_kw": 150, "current_soc_percent": 35,
        }],
        "chargers": [{
            "did": "did:denso:charger:CP9", "site_id": "depot", "max_power_kw": 150,
            "location": "North", "availability": True, "tariff": {"eur_per_kwh": 0.3},
        }],
    }  # fmt: skip
    answer = await operator.client.post("/api/v1/imports/concept", json=body)
    assert answer.json() == {"imported": {"drivers": 1, "vehicles": 1, "chargers": 1}}
    holder = (await operator.viewer.get("/api/v1/holders/did:denso:driver:x")).json()
    # An empty list of sites is no site, unless the operator says so.
    assert holder["allowed_sites"] == []
    assert holder["vehicle_id"] == "did:denso:vehicle:x"
    everywhere = await operator.client.post(
        "/api/v1/imports/concept?empty_sites=all", json={"drivers": body["drivers"]}
    )
    assert everywhere.is_success
    holder = (await operator.viewer.get("/api/v1/holders/did:denso:driver:x")).json()
    assert holder["allowed_sites"] == ["*"]
    chargers = (await operator.viewer.get("/api/v1/chargers")).json()["items"]
    assert {c["did"] for c in chargers} == {"did:denso:charger:CP1", "did:denso:charger:CP9"}


async def test_a_station_keeps_the_version_it_spoke_when_a_charger_is_imported(
    operator: Operator,
) -> None:
    body = {"chargers": [{"did": "did:denso:charger:CP1", "site_id": "depot", "max_power_kw": 50}]}
    await operator.client.post("/api/v1/imports/concept", json=body)
    shown = (await operator.viewer.get("/api/v1/stations/CP1")).json()
    assert shown["evses"][0]["max_kw"] == 50
    assert shown["evses"][0]["guard_kw"] == 4.2
    assert shown["version"] in (None, OcppVersion.V16)
