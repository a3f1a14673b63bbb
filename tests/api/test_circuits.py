"""Circuits, places, caps and what holds without us, as operators see and set them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csms.core.model import (
    AuthorizationStatus,
    Evse,
    OcppVersion,
    Session,
    Station,
)
from csms.store import journal, plans, sessions, stations
from csms.store.statements import Tx
from tests.api.conftest import START, Operator
from tests.service.field import taken

SITE = "/api/v1/sites/depot"


def _second(tx: Tx) -> None:
    stations.register_station(tx, Station(station_id="CP2", site_id="depot"))
    stations.upsert_evse(tx, Evse(station_id="CP2", evse_id=1, max_kw=7.36, phases=1))


async def _put(operator: Operator, circuit_id: str, **body: object) -> dict[str, object]:
    answer = await operator.client.put(f"{SITE}/circuits/{circuit_id}", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


async def test_a_tree_is_put_shown_and_removed(operator: Operator) -> None:
    await operator.store.write(_second)
    await _put(operator, "main", limit_a=63, evses=["*"])
    found = await _put(operator, "hall", parent="main", limit_a=[32, 32, 80], evses=["CP2"])
    assert found["remarks"] == [
        "circuit hall L3: 80 A is above the 63 A of main, which holds for it"
    ]
    places = {(e["station_id"], e["evse_id"]): e["circuit_id"] for e in found["evses"]}  # type: ignore[union-attr, index]
    assert places == {("CP1", 1): "main", ("CP2", 1): "hall"}
    shown = (await operator.viewer.get(f"{SITE}/circuits")).json()
    assert shown == found
    refused = await operator.client.delete(f"{SITE}/circuits/main")
    assert refused.status_code == 409
    assert "carries circuit hall" in refused.json()["detail"]
    assert (await operator.client.delete(f"{SITE}/circuits/hall")).status_code == 204
    assert (await operator.client.delete(f"{SITE}/circuits/hall")).status_code == 404
    events = await operator.store.read(lambda tx: journal.list_events(tx, limit=10))
    assert [e.event.kind for e in events.items][:2] == ["circuit removed", "circuit changed"]


@pytest.mark.parametrize(
    ("circuit_id", "body", "word"),
    [
        ("a", {"parent": "b", "limit_a": 10}, "'b', which is no circuit"),
        ("main", {"parent": "main", "limit_a": 10}, "cannot hang on itself"),
        ("main", {"parent": "sub", "limit_a": 10}, "main on sub on main"),
        ("a", {"limit_a": [1, 2]}, ""),
        ("a", {"limit_a": -1}, ""),
        ("a", {"limit": 1}, ""),
    ],
)
async def test_what_is_no_tree_is_refused_with_what_is_wrong(
    operator: Operator, circuit_id: str, body: dict[str, object], word: str
) -> None:
    await _put(operator, "main", limit_a=63)
    await _put(operator, "sub", parent="main", limit_a=32)
    before = (await operator.client.get(f"{SITE}/circuits")).json()
    answer = await operator.client.put(f"{SITE}/circuits/{circuit_id}", json=body)
    assert answer.status_code == 422
    assert word in answer.json()["detail"]
    assert (await operator.client.get(f"{SITE}/circuits")).json() == before


async def test_an_evse_is_placed_by_hand_and_given_back(operator: Operator) -> None:
    await operator.store.write(_second)
    await _put(operator, "main", limit_a=63)
    await _put(operator, "hall", parent="main", limit_a=32, evses=["CP*"])
    path = "/api/v1/stations/CP2/evses/1"
    placed = await operator.client.patch(path, json={"circuit_id": "main", "phase_rotation": "S"})
    (evse,) = placed.json()["evses"]
    assert (evse["circuit_id"], evse["phases"]) == ("main", [2])
    assert (evse["circuit_source"], evse["phases_source"]) == ("operator", "operator")
    refused = await operator.client.delete(f"{SITE}/circuits/main")
    assert refused.status_code == 409
    back = await operator.client.patch(path, json={"circuit_id": None, "phase_rotation": None})
    (evse,) = back.json()["evses"]
    assert (evse["circuit_id"], evse["circuit_source"], evse["phases"]) == ("hall", "pattern", [])
    whole = await operator.client.patch("/api/v1/stations/CP2", json={"circuit_id": "main"})
    assert whole.status_code == 200
    shown = (await operator.client.get(f"{SITE}/circuits")).json()["evses"]
    assert {e["station_id"]: e["circuit_id"] for e in shown} == {"CP1": "hall", "CP2": "main"}


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("CP1/evses/1", {"circuit_id": "attic"}, 422, "'attic', which is no circuit of site depot"),
        ("CP1/evses/1", {"phase_rotation": "XYZ"}, 422, "phase_rotation is 'XYZ'"),
        ("CP1/evses/1", {"phase_rotation": "S"}, 422, "must be one of RST"),
        ("CP1/evses/7", {"circuit_id": "main"}, 404, "no EVSE 7"),
        ("CP9/evses/1", {"circuit_id": "main"}, 404, "no station CP9"),
        ("CP1", {"circuit_id": "attic"}, 422, "'attic'"),
    ],
)
async def test_a_place_that_cannot_be_is_named(
    operator: Operator, path: str, body: dict[str, object], status: int, word: str
) -> None:
    await _put(operator, "main", limit_a=63)
    answer = await operator.client.patch(f"/api/v1/stations/{path}", json=body)
    assert answer.status_code == status
    assert word in answer.json()["detail"]


async def test_a_cap_is_set_planned_with_shown_and_withdrawn(operator: Operator) -> None:
    now = operator.clock.now()
    until = now + timedelta(hours=2)
    body = {
        "source": "grid operator",
        "from": now.isoformat(),
        "until": until.isoformat(),
        "limit_kw": 20.0,
    }
    made = await operator.client.post(f"{SITE}/caps", json=body)
    assert made.status_code == 201, made.text
    assert (made.json()["state"], made.json()["limit_kw"]) == ("in force", 20.0)
    _, case = await operator.replanner.case("depot")
    (cap,) = case.caps
    assert (cap.source, cap.limit_kw, cap.ends_at) == ("grid operator", 20.0, until)
    shown = (await operator.viewer.get(f"{SITE}/caps")).json()
    assert [c["state"] for c in shown["items"]] == ["in force"]
    gone = await operator.client.delete(f"{SITE}/caps/{made.json()['cap_id']}")
    assert gone.json()["state"] == "withdrawn"
    assert (await operator.replanner.case("depot"))[1].caps == ()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"source": "dso", "until": "2026-03-02T20:00:00Z"}, "both missing"),
        ({"source": " ", "until": "2026-03-02T20:00:00Z", "limit_kw": 1}, "source is empty"),
        (
            {
                "source": "dso",
                "from": "2026-03-02T21:00:00Z",
                "until": "2026-03-02T20:00:00Z",
                "limit_kw": 1,
            },
            "must be after starts_at",
        ),
        (
            {
                "source": "dso",
                "from": "2026-02-02T21:00:00Z",
                "until": "2026-02-03T20:00:00Z",
                "limit_kw": 1,
            },
            "which is over",
        ),
        (
            {
                "source": "dso",
                "until": "2026-03-02T20:00:00Z",
                "limit_a": 1,
                "circuit_id": "attic",
            },
            "no circuit of site depot",
        ),
        ({"source": "dso", "until": "2026-03-02T20:00:00Z", "limit_kw": -1}, ""),
    ],
)
async def test_a_cap_that_says_nothing_is_refused(
    operator: Operator, body: dict[str, object], word: str
) -> None:
    answer = await operator.client.post(f"{SITE}/caps", json=body)
    assert answer.status_code == 422
    assert word in answer.json()["detail"]


async def test_the_worst_case_of_every_limit_is_shown(operator: Operator) -> None:
    await operator.store.write(_second)
    await _put(operator, "hall", limit_a=30, load_a=[5, 0, 0], evses=["CP*"])
    found = (await operator.viewer.get(f"{SITE}/fail-safe")).json()
    limits = {(r["circuit_id"], r["limit"]): r for r in found["limits"]}
    # CP1 took 4.2 kW on three phases; CP2 was never here.
    assert limits["", "kW"]["guards"] == pytest.approx(4.2)
    first = limits["hall", "L1"]
    assert first["guards"] == first["highest"] == pytest.approx(5 + 4.2 / 0.69)
    assert first["left"] == pytest.approx(30 - first["highest"])
    assert limits["hall", "L2"]["guards"] == pytest.approx(4.2 / 0.69)
    assert found["is_kept"]
    await _put(operator, "hall", limit_a=6, evses=["CP*"])
    found = (await operator.viewer.get(f"{SITE}/fail-safe")).json()
    assert not found["is_kept"]
    lefts = {r["limit"]: r["left"] for r in found["limits"] if r["circuit_id"] == "hall"}
    assert lefts["L1"] == pytest.approx(6 - 4.2 / 0.69)
    assert {e["station_id"]: e["wanted_a"] for e in found["evses"]} == {"CP1": 0.0, "CP2": 0.0}
    assert found["without_guard"] == ["CP1/1", "CP2/1"]


async def test_a_site_shows_what_each_of_its_limits_carries(operator: Operator) -> None:
    await _put(operator, "hall", limit_a=[32, 32, 16], load_a=2, evses=["CP*"], name="Hall")
    found = (await operator.viewer.get(SITE)).json()["circuits"]
    assert [c["circuit_id"] for c in found] == ["", "hall"]
    third = found[1]["limits"][2]
    assert (third["limit"], third["most"], third["load"]) == ("L3", 16.0, 2.0)
    assert third["planned"] is None
    assert (third["unmanaged"], third["drawn"], third["left"]) == (2.0, 2.0, 14.0)
    # A circuit without a limit is a part of the tree all the same.
    await _put(operator, "row", parent="hall", name="Row")
    row = (await operator.viewer.get(f"{SITE}/live")).json()["circuits"][2]
    assert (row["circuit_id"], row["parent_id"], row["limits"]) == ("row", "hall", [])


async def _arrives(operator: Operator, *, power_w: float | None = None) -> Session:
    session = Session(
        session_id="s1",
        number=1,
        site_id="depot",
        station_id="CP1",
        evse_id=1,
        version=OcppVersion.V16,
        transaction_id="1",
        status=AuthorizationStatus.ACCEPTED,
        reason="allowed",
        started_at=START,
        received_at=START,
        departs_at=START + timedelta(hours=4),
        need_wh=20_000.0,
        need_source="trip",
        power_w=power_w,
        sample_at=None if power_w is None else START,
    )
    await operator.store.write(lambda tx: sessions.open_session(tx, session))
    return session


async def _limits(operator: Operator) -> dict[tuple[str, str], dict[str, Any]]:
    found = (await operator.viewer.get(f"{SITE}/live")).json()["circuits"]
    return {(c["circuit_id"], row["limit"]): row for c in found for row in c["limits"]}


async def test_a_plan_is_shown_under_the_caps_that_hold_for_the_site(operator: Operator) -> None:
    await _put(operator, "hall", limit_a=32, evses=["CP*"])
    await _arrives(operator)
    until = (operator.clock.now() + timedelta(hours=2)).isoformat()
    for body in ({"limit_kw": 20.0}, {"limit_kw": 5.0, "circuit_id": "hall"}):
        told = {"source": "dso", "until": until, **body}
        made = await operator.client.post(f"{SITE}/caps", json=told)
        assert made.status_code == 201, made.text
    case, plan = await operator.replanner.preview("depot")
    await operator.store.write(lambda tx: plans.insert_plan(tx, case, plan, why="test", cpu_s=0.0))
    shown = (await operator.viewer.get(f"{SITE}/live")).json()["plan"]["limit_kw"]
    assert len(shown) == case.slots
    assert (shown[0], shown[7], shown[9]) == (20.0, 20.0, 100.0)


async def test_a_limit_is_made_up_of_loads_the_plan_guards_and_what_is_left(
    operator: Operator,
) -> None:
    def guarded(tx: Tx) -> None:
        _second(tx)
        evse = Evse(station_id="CP2", evse_id=1, max_kw=7.36, phases=1, guard_kw=1.38)
        stations.upsert_evse(tx, evse)

    await operator.store.write(guarded)
    await _put(operator, "hall", limit_a=32, load_a=[5, 2, 2], evses=["CP*"])
    await _arrives(operator)
    case, made = await operator.replanner.preview("depot")
    await operator.store.write(lambda tx: plans.insert_plan(tx, case, made, why="test", cpu_s=0.0))
    limits = await _limits(operator)
    hall = limits["hall", "L1"]
    assert hall["planned"] > 6.0
    # The guard of CP2, where no car is, on whichever phase; that of CP1 is within its plan.
    assert hall["reserved"] == pytest.approx(6.0)
    assert hall["left"] >= -1e-6
    for row in limits.values():
        parts = row["unmanaged"] + row["planned"] + row["reserved"] + row["left"]
        assert parts == pytest.approx(row["most"])
    assert (limits["", "kW"]["drawn"], hall["drawn"]) == (None, None)


async def test_what_draws_now_is_what_the_meters_say(operator: Operator) -> None:
    await _put(operator, "hall", limit_a=63, load_a=20, meter="hall", evses=["CP*"])
    await _arrives(operator, power_w=6900.0)
    assert (await _limits(operator))["hall", "L2"]["unmanaged"] == 20.0

    async def told(*currents_a: float) -> dict[str, Any]:
        body = {"readings": [{"at": operator.clock.now().isoformat(), "current_a": currents_a}]}
        answer = await operator.client.post(f"{SITE}/meters/hall/readings", json=body)
        assert answer.status_code == 200, answer.text
        return (await _limits(operator))["hall", "L2"]

    second = await told(5.0, 8.0, 0.0)
    assert second["unmanaged"] == pytest.approx(8.0)
    assert second["drawn"] == pytest.approx(18.0)
    assert not second["is_passed"]
    second = await told(5.0, 54.0, 0.0)
    assert second["drawn"] == pytest.approx(64.0)
    assert second["is_passed"]


async def test_currents_of_an_earlier_sample_than_the_power_are_not_drawn(
    operator: Operator,
) -> None:
    await _put(operator, "hall", limit_a=20, evses=["CP*"])
    session = await _arrives(operator, power_w=0.0)
    left = replace(session, current_a=(25.0, 25.0, 25.0))
    await operator.store.write(lambda tx: sessions.save(tx, left))
    assert (await _limits(operator))["hall", "L1"]["drawn"] == 0.0
    unequal = replace(session, power_w=4600.0, current_a=(16.0, 4.0, 0.0))
    await operator.store.write(lambda tx: sessions.save(tx, unequal))
    limits = await _limits(operator)
    assert [limits["hall", p]["drawn"] for p in ("L1", "L2", "L3")] == [16.0, 4.0, 0.0]


async def test_a_sample_from_before_a_lower_schedule_counts_as_no_more_than_that_allows(
    operator: Operator,
) -> None:
    await _put(operator, "hall", limit_a=20, evses=["CP*"])
    session = await _arrives(operator, power_w=22 * 690.0)
    assert (await _limits(operator))["hall", "L1"]["is_passed"]
    accepted = taken("s1", 6.9, 6.9, begins_at=START, sent_at=START + timedelta(seconds=1))
    await operator.store.write(lambda tx: plans.insert_installed(tx, accepted))
    row = (await _limits(operator))["hall", "L1"]
    assert row["measured"] == pytest.approx(22.0)
    assert row["drawn"] == pytest.approx(10.0)
    assert not row["is_passed"]
    # A car that goes on all the same shows with its next sample.
    after = replace(session, sample_at=START + timedelta(seconds=2))
    await operator.store.write(lambda tx: sessions.save(tx, after))
    row = (await _limits(operator))["hall", "L1"]
    assert (row["drawn"], row["is_passed"]) == (pytest.approx(22.0), True)
