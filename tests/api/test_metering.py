"""Meters and forecasts over the API: what is taken, what is refused, what is shown."""

import json
import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from csms.store import journal, metering
from tests.api.conftest import Operator

SITE = "/api/v1/sites/depot"


async def _metered(operator: Operator) -> None:
    body = {"base_load_kw": 40.0, "meter": "main", "solar_meter": "roof"}
    answer = await operator.client.patch(SITE, json=body)
    assert answer.status_code == 200, answer.text
    body = {"limit_a": 63, "load_a": [20, 10, 10], "meter": "hall", "evses": ["CP*"]}
    answer = await operator.client.put(f"{SITE}/circuits/hall", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["circuits"][0]["meter"] == "hall"


async def _post(operator: Operator, meter: str, *readings: dict[str, Any]) -> Any:
    return await operator.client.post(
        f"{SITE}/meters/{meter}/readings", json={"readings": list(readings)}
    )


def _at(operator: Operator, **before: float) -> str:
    return (operator.clock.now() - timedelta(**before)).isoformat()


async def test_readings_are_taken_once_and_shown(operator: Operator) -> None:
    await _metered(operator)
    first = {"at": _at(operator, minutes=2), "power_kw": 12.0}
    second = {"at": _at(operator, minutes=1), "current_a": [20.0, 10.0, 0.0]}
    for _ in range(2):
        answer = await _post(operator, "main", first, second)
        assert answer.status_code == 200, answer.text
        assert answer.json()["taken"] == 2
    shown = {m["meter"]: m for m in (await operator.viewer.get(f"{SITE}/meters")).json()["items"]}
    assert shown["main"]["reading"]["power_kw"] == pytest.approx(6.9)
    assert shown["main"]["counts_kw"] == pytest.approx(6.9 + 0.69)
    assert not shown["main"]["is_silent"]
    # The others never told anything: of a load that is its worst case, of the sun it is nothing.
    assert shown["hall"]["counts_kw"] == pytest.approx(9.2)
    assert (shown["roof"]["is_silent"], shown["roof"]["counts_kw"]) == (True, 0.0)
    since = operator.clock.now() - timedelta(hours=1)
    kept = await operator.store.read(
        lambda tx: metering.readings_between(tx, "depot", "main", since, operator.clock.now())
    )
    assert len(kept) == 2
    live = (await operator.viewer.get(f"{SITE}/live")).json()
    assert {m["meter"] for m in live["meters"]} == {"main", "roof", "hall"}


@pytest.mark.parametrize(
    ("reading", "word"),
    [
        ({"power_kw": -1.0}, "reading 1: power_kw is -1; it must not be negative"),
        ({"current_a": [1.0, -2.0, 3.0]}, "reading 1: current_a is -2"),
        ({"current_a": [1.0, 2.0]}, "reading 1: current_a has 2 numbers; it must have 1 or 3"),
        ({"power_kw": 1e9}, "reading 1: power_kw is 1e+09; it must be a number up to 100000"),
        ({}, "reading 1: has neither power_kw nor current_a"),
        ({"power_kw": math.nan}, ""),
        ({"power_kw": math.inf}, ""),
        ({"power_kw": "much"}, ""),
        ({"power_kw": 1.0, "kw": 2.0}, ""),
        ({"power_kw": 1.0, "days": -1.0}, "which is in the future"),
        ({"power_kw": 1.0, "days": 40.0}, "readings older than 35 days are not kept"),
        ({"power_kw": 1.0, "naive": True}, ""),
    ],
)
async def test_one_wrong_reading_takes_none(
    operator: Operator, reading: dict[str, Any], word: str
) -> None:
    await _metered(operator)
    good = {"at": _at(operator, minutes=1), "power_kw": 5.0}
    given = {k: v for k, v in reading.items() if k not in ("days", "naive")}
    at = operator.clock.now() - timedelta(days=reading.get("days", 0.0), seconds=5)
    wrong = {"at": (at.replace(tzinfo=None) if "naive" in reading else at).isoformat(), **given}
    # json writes NaN and Infinity as no standard knows them, and as some gateways do.
    answer = await operator.client.post(
        f"{SITE}/meters/main/readings",
        content=json.dumps({"readings": [good, wrong]}),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert word in answer.json()["detail"]
    shown = (await operator.viewer.get(f"{SITE}/meters")).json()["items"]
    assert all(m["reading"] is None for m in shown)


async def test_meters_that_measure_nothing_and_contradictions_are_refused(
    operator: Operator,
) -> None:
    await _metered(operator)
    at = _at(operator, minutes=1)
    answer = await _post(operator, "cellar", {"at": at, "power_kw": 1.0})
    assert answer.status_code == 422
    assert "known: hall, main, roof" in answer.json()["detail"]
    answer = await _post(operator, "main", {"at": at, "power_kw": 1.0}, {"at": at, "power_kw": 2.0})
    assert answer.status_code == 422
    assert "says something else" in answer.json()["detail"]
    body = {"at": at, "power_kw": 1.0}
    viewed = await operator.viewer.post(f"{SITE}/meters/main/readings", json={"readings": [body]})
    assert viewed.status_code == 403


async def test_a_meter_without_a_worst_case_is_refused(operator: Operator) -> None:
    answer = await operator.client.patch(SITE, json={"meter": "main"})
    assert answer.status_code == 422
    assert "base_load_kw is 0 and meter is set" in answer.json()["detail"]
    body = {"limit_a": 63, "meter": "hall"}
    answer = await operator.client.put(f"{SITE}/circuits/hall", json=body)
    assert answer.status_code == 422
    assert "load_a and load_kw say nothing" in answer.json()["detail"]


async def test_old_readings_fill_history_and_count_as_silence(operator: Operator) -> None:
    await _metered(operator)
    answer = await _post(operator, "main", {"at": _at(operator, minutes=10), "power_kw": 5.0})
    assert answer.json()["meter"]["is_silent"]
    assert answer.json()["meter"]["counts_kw"] == 40.0


async def test_a_forecast_is_kept_shown_and_reaches_the_case(operator: Operator) -> None:
    await _metered(operator)
    now = operator.clock.now()
    await _post(operator, "main", {"at": now.isoformat(), "power_kw": 4.0})

    def point(start: float, end: float, **values: float) -> dict[str, Any]:
        def at(hours: float) -> str:
            return (now + timedelta(hours=hours)).isoformat()

        return {"starts_at": at(start), "until": at(end), **values}

    body: dict[str, Any] = {
        "kind": "load",
        "points": [point(4, 20, power_kw=8.0), point(-1, 4, power_kw=10.0, high_kw=25.0)],
    }
    assert (await operator.client.put(f"{SITE}/expected", json=body)).json() == {"taken": 2}
    body = {"kind": "solar", "points": [point(-1, 20, power_kw=3.0)]}
    assert (await operator.client.put(f"{SITE}/expected", json=body)).json() == {"taken": 1}
    shown = (await operator.viewer.get(f"{SITE}/expected")).json()["items"]
    assert [(s["kind"], len(s["points"])) for s in shown] == [("load", 2), ("solar", 1)]
    _, case = await operator.replanner.case("depot")
    assert case.base_load_kw[0] == pytest.approx(4.5)
    assert case.base_load_kw[6] == pytest.approx(25.0)
    assert case.base_load_kw[30] == pytest.approx(8.8)
    assert case.solar_kw[:80] == pytest.approx((3.0,) * 80)
    for body, word in (
        ({"kind": "load", "points": [point(2, 1, power_kw=1.0)]}, "until must be after"),
        ({"kind": "load", "points": [point(0, 2, power_kw=1.0)] * 2}, "begins before"),
        ({"kind": "load", "points": [point(0, 2, power_kw=-1.0)]}, "power_kw is -1"),
        ({"kind": "load", "points": [point(0, 2, power_kw=2.0, high_kw=1.0)]}, "below power_kw"),
        ({"kind": "solar", "circuit_id": "hall", "points": [point(0, 1, power_kw=1.0)]}, "whole"),
        ({"kind": "load", "circuit_id": "x", "points": [point(0, 1, power_kw=1.0)]}, "hall"),
    ):
        answer = await operator.client.put(f"{SITE}/expected", json=body)
        assert answer.status_code == 422
        assert word in answer.json()["detail"]
    events = await operator.store.read(lambda tx: journal.list_events(tx, limit=10))
    assert [e.event.kind for e in events.items].count("load expected") == 2
    assert all(isinstance(e.event.at, datetime) for e in events.items)
