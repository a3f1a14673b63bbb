"""Numbers and times that no column holds: refused where they come in, and the link goes on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import Answer
from tests.scenarios.world import eventually, living, settings

HUGE = (2**31, 2**40, 2**63, -(2**31) - 1)
VERSIONS = ("1.6", "2.0.1")
COMPONENT = {"component": {"name": "C"}, "variable": {"name": "V"}}


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Lab]:
    async with living(settings(database_url)) as world, world.operator() as api:
        yield Lab(world, api)


def composite(version: str, **given: Any) -> dict[str, Any]:
    """Return the answer to GetCompositeSchedule with some members replaced."""
    start = given.pop("scheduleStart", "2026-01-01T00:00:00Z")
    period = {"startPeriod": given.pop("startPeriod", 0), "limit": 16.0}
    told = {"duration": 60, "chargingRateUnit": "A", "chargingSchedulePeriod": [period], **given}
    if version == "1.6":
        found = {"connectorId": 1, "scheduleStart": start, "chargingSchedule": told}
        return {"status": "Accepted", **found}
    return {"status": "Accepted", "schedule": {"evseId": 1, "scheduleStart": start, **told}}


def about_monitors(huge: int) -> list[tuple[str, dict[str, Any], Answer]]:
    """Return calls about monitors and answers to them that hold `huge`."""
    wanted = {**COMPONENT, "value": 1.0, "type": "UpperThreshold", "severity": 3}
    kept = {**COMPONENT, "id": 1, "status": "Accepted", "type": "UpperThreshold", "severity": 3}
    asked = {"setMonitoringData": [wanted]}
    cleared = {"id": huge, "status": "Accepted"}
    return [
        ("SetVariableMonitoring", asked, {"setMonitoringResult": [kept | {"id": huge}]}),
        ("SetVariableMonitoring", asked, {"setMonitoringResult": [kept | {"severity": huge}]}),
        ("ClearVariableMonitoring", {"id": [1]}, {"clearMonitoringResult": [cleared]}),
    ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_answer_with_a_number_beyond_32_bits_is_no_answer(lab: Lab, version: str) -> None:
    number = "listVersion" if version == "1.6" else "versionNumber"
    place = {"connectorId" if version == "1.6" else "evseId": 1, "duration": 60}
    async with lab.station(version, automation=False) as station:
        for huge in HUGE:
            asked: list[tuple[str, dict[str, Any], Answer]] = [
                ("GetLocalListVersion", {}, {number: huge}),
                ("GetCompositeSchedule", place, composite(version, duration=huge)),
                ("GetCompositeSchedule", place, composite(version, startPeriod=huge)),
            ]
            for action, payload, answer in asked + (
                about_monitors(huge) if version == "2.0.1" else []
            ):
                station.answers[action] = answer
                outcome = await lab.command(action, payload)
                assert outcome["outcome"] == "invalid_answer", (action, huge, outcome)
        await station.call("Heartbeat", {})


async def test_a_schedule_that_cannot_be_meant_is_no_answer(lab: Lab) -> None:
    odd: tuple[dict[str, Any], ...] = (
        {"startPeriod": -1},
        {"duration": -1},
        {"scheduleStart": "0000-01-01T00:00:00Z"},
        {"scheduleStart": "0001-01-01T00:00:00+14:00"},
        {"scheduleStart": "9999-12-31T23:59:59-14:00"},
    )
    async with lab.station("1.6") as station:
        # The guards: schedules are read of EVSEs that were given one.
        await eventually(lambda: len(station.seen("SetChargingProfile")) > 1)
        for told in odd:
            station.answers["GetCompositeSchedule"] = composite("1.6", **told)
            read = await lab.api.post("/api/v1/stations/CS-1/profiles/read")
            assert read.is_success, read.text
            given = await lab.get("stations/CS-1/commands")
            outcomes = [c["outcome"] for c in given["items"] if c["kind"] == "ReadComposite"]
            assert outcomes[0] == "invalid_answer", told
        await station.call("Heartbeat", {})
        assert (await lab.command("ClearCache", {}))["outcome"] == "accepted"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_limit_of_a_local_list_that_is_no_count_keeps_no_list_away(
    lab: Lab, version: str
) -> None:
    card = await lab.world.driver(1)
    text = ""

    def configuration(payload: dict[str, Any]) -> dict[str, Any]:
        known = [{"key": key, "readonly": True, "value": text} for key in payload["key"]]
        return {"configurationKey": known}

    def variables(payload: dict[str, Any]) -> dict[str, Any]:
        told = {"attributeStatus": "Accepted", "attributeValue": text[:2500]}
        return {"getVariableResult": [item | told for item in payload["getVariableData"]]}

    answers: dict[str, Answer] = {"GetConfiguration": configuration, "GetVariables": variables}
    for text in ("2147483648", "9" * 30, "9" * 5000, "\u0663", "-5", "1e9"):
        # Limits are asked for once on each link.
        async with lab.station(version, answers=answers):
            found = await lab.api.post("/api/v1/stations/CS-1/local-list/sync?full=true")
            assert found.is_success, (text, found.text)
            assert found.json()["state"] == "in step", text
            held = await lab.get("stations/CS-1/local-list")
            assert card in [e["value"] for e in held["entries"]], text
