"""Block F of the conformance cases, remote control, and the same of 1.6."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import SILENCE, Answer, CallError
from tests.conformance.story import CARD, Story, now_text, register, token
from tests.scenarios.world import eventually


@pytest.fixture
async def driven(lab: Lab) -> Lab:
    """A system that knows a driver."""
    await lab.world.driver(1)
    return lab


async def ask_start(lab: Lab, version: str, *, evse_id: int = 1) -> dict[str, Any]:
    """Ask the station to start for the driver's card."""
    if version == "1.6":
        return await lab.command("RemoteStartTransaction", {"idTag": CARD, "connectorId": evse_id})
    payload = {"remoteStartId": 42, "idToken": token(CARD), "evseId": evse_id}
    return await lab.command("RequestStartTransaction", payload)


async def remote_starts(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await lab.get("remote-starts", station_id="CS-1"))["items"]
    return found


async def is_tied(lab: Lab, story: Story, asked: dict[str, Any]) -> None:
    """Fail unless the transaction is tied to the command, seen from either side."""
    shown = await story.shown()
    assert shown["id_token"] == CARD
    assert shown["remote_start"]["command_id"] == asked["command_id"]
    (start,) = await remote_starts(lab)
    assert (start["state"], start["session_id"]) == ("started", shown["session_id"])


async def test_f01_a_remote_start_goes_on_in_the_transaction_of_the_cable(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        station.answers["RequestStartTransaction"] = {
            "status": "Accepted",
            "transactionId": story.transaction_id,
        }
        await story.plug()
        asked = await ask_start(driven, "2.0.1")
        assert (asked["outcome"], asked["answer"]["transactionId"]) == (
            "accepted",
            story.transaction_id,
        )
        call = await station.called("RequestStartTransaction")
        assert call.payload["idToken"] == token(CARD)
        answer = await story.event("Updated", "RemoteStart", card=CARD, info={"remoteStartId": 42})
        assert answer["idTokenInfo"]["status"] == "Accepted"
        await story.told_again()
        await story.event("Updated", "ChargingStateChanged", state="Charging", energy_wh=1200)
        await is_tied(driven, story, asked)
        assert (await story.shown())["remote_start_id"] == 42
        assert len(await story.all_shown()) == 1
        await story.told_again()


@pytest.mark.case("F02", "S07", "S08")
@pytest.mark.parametrize("order", ["prepared", "asked"])
async def test_a_station_may_ask_about_the_token_it_was_given(
    driven: Lab, version: str, order: str
) -> None:
    async with driven.station(version) as station:
        story = Story(driven, station)
        if order == "prepared":
            await story.status("Preparing")
        asked = await ask_start(driven, version)
        assert asked["outcome"] == "accepted"
        assert [s["state"] for s in await remote_starts(driven)] == ["accepted"]
        assert (await story.authorize())["status"] == "Accepted"
        if order == "asked":
            await story.status("Preparing")
        if version == "1.6":
            call = await station.called("RemoteStartTransaction")
            assert call.payload == {"idTag": CARD, "connectorId": 1}
            assert (await story.start_16())["idTagInfo"]["status"] == "Accepted"
            await story.told_again()
            await story.status("Charging")
        else:
            answer = await story.event(
                "Started", "RemoteStart", card=CARD, info={"remoteStartId": 42}, energy_wh=1000
            )
            assert answer["idTokenInfo"]["status"] == "Accepted"
            await story.told_again()
            await story.event("Updated", "ChargingStateChanged", state="Charging")
        await is_tied(driven, story, asked)
        assert int(story.transaction_id.removeprefix("tx-")) > 0
        await story.told_again()


async def test_f03_a_remote_start_without_a_vehicle_is_shown_as_timed_out(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await ask_start(driven, "2.0.1")
        await story.event("Started", "RemoteStart", card=CARD, info={"remoteStartId": 42})
        await story.event("Updated", "EVConnectTimeout", state="Idle")
        (start,) = await remote_starts(driven)
        assert (start["state"], start["remote_start_id"]) == ("timed_out", 42)
        assert (await story.shown())["energy_wh"] == 0.0
        await story.told_again()


@pytest.mark.case("S09", "S04")
async def test_a_remote_start_that_nobody_takes_up_is_shown_as_timed_out(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await ask_start(driven, "1.6")
        assert (await story.authorize())["status"] == "Accepted"
        await story.status("Preparing")
        assert [s["state"] for s in await remote_starts(driven)] == ["accepted"]
        await story.status("Available")
        assert [s["state"] for s in await remote_starts(driven)] == ["timed_out"]
        assert await story.all_shown() == []
        await story.told_again()
        # What comes later with the same card is nobody's answer to it.
        await story.start_16()
        assert (await story.shown())["remote_start"] is None


@pytest.mark.case("F04", "F13", "S12", "S21")
@pytest.mark.parametrize(
    ("versions", "status", "outcome"),
    [
        (("1.6", "2.0.1"), "Unlocked", "accepted"),
        (("1.6", "2.0.1"), "UnlockFailed", "rejected"),
        (("2.0.1",), "OngoingAuthorizedTransaction", "rejected"),
        (("2.0.1",), "UnknownConnector", "rejected"),
        (("1.6",), "NotSupported", "not_supported"),
    ],
)
async def test_the_outcome_of_unlocking_is_kept(
    lab: Lab, versions: tuple[str, ...], status: str, outcome: str
) -> None:
    for version in versions:
        answers = {"UnlockConnector": {"status": status}}
        payload = {"connectorId": 1} if version == "1.6" else {"evseId": 1, "connectorId": 1}
        async with lab.station(version, answers=answers) as station:
            found = await lab.command("UnlockConnector", payload)
            assert (found["outcome"], found["status"]) == (outcome, status)
            assert (await station.called("UnlockConnector")).payload == payload
            kept = (await lab.get("stations/CS-1/commands", action="UnlockConnector"))["items"][0]
            assert (kept["outcome"], kept["status"]) == (outcome, status)


async def trigger(lab: Lab, **payload: Any) -> dict[str, Any]:
    outcome = await lab.command("TriggerMessage", payload)
    assert outcome["outcome"] == "accepted"
    return outcome


async def test_f05_triggered_meter_values_keep_their_context(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        story = Story(lab, station)
        await trigger(lab, requestedMessage="MeterValues", evse={"id": 1})
        call = await station.called("TriggerMessage")
        assert call.payload == {"requestedMessage": "MeterValues", "evse": {"id": 1}}
        values = {"evseId": 1, "meterValue": [register(1234, context="Trigger")]}
        assert await story.say("MeterValues", values) == {}
        await story.told_again()
        (place,) = (await lab.get("stations/CS-1/readings"))["items"]
        (sample,), (reading,) = place["samples"], place["readings"]
        assert (place["evse_id"], sample["context"], sample["energy_wh"]) == (1, "Trigger", 1234.0)
        assert (reading["context"], reading["value"]) == ("Trigger", 1234)


async def test_f06_meter_values_of_every_evse_are_told_apart(lab: Lab) -> None:
    async with lab.station("2.0.1", evses=2) as station:
        story = Story(lab, station)
        await trigger(lab, requestedMessage="MeterValues")
        assert (await station.called("TriggerMessage")).payload == {
            "requestedMessage": "MeterValues"
        }
        for evse_id in (1, 2):
            values = {
                "evseId": evse_id,
                "meterValue": [register(1000.0 * evse_id, context="Trigger")],
            }
            assert await story.say("MeterValues", values) == {}
            await story.told_again()
        places = (await lab.get("stations/CS-1/readings"))["items"]
        assert [(p["evse_id"], p["samples"][0]["energy_wh"]) for p in places] == [
            (1, 1000.0),
            (2, 2000.0),
        ]


async def test_f07_an_idle_log_status_invents_no_job(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        story = Story(lab, station)
        await trigger(lab, requestedMessage="LogStatusNotification")
        assert await story.say("LogStatusNotification", {"status": "Idle"}) == {}
        commands = (await lab.get("stations/CS-1/commands", action="GetLog"))["items"]
        assert (commands, station.seen("GetLog")) == ([], [])
        await story.told_again()


async def test_f08_a_triggered_heartbeat_is_answered_with_the_right_time(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        await trigger(lab, requestedMessage="Heartbeat")
        call = await station.called("TriggerMessage")
        assert call.payload == {"requestedMessage": "Heartbeat"}
        story = Story(lab, station)
        answer = await story.say("Heartbeat", {})
        told = datetime.fromisoformat(answer["currentTime"])
        assert abs(told - datetime.now(UTC)) < timedelta(seconds=2)
        await story.told_again()


@pytest.mark.case("F09", "F10")
@pytest.mark.parametrize("status", ["Available", "Occupied"])
async def test_a_triggered_status_updates_the_state(lab: Lab, status: str) -> None:
    async with lab.station("2.0.1") as station:
        story = Story(lab, station)
        place = {"id": 1, "connectorId": 1}
        await trigger(lab, requestedMessage="StatusNotification", evse=place)
        call = await station.called("TriggerMessage")
        assert call.payload == {"requestedMessage": "StatusNotification", "evse": place}
        await story.status(status)
        shown = await lab.get("stations/CS-1")
        assert [e["status"] for e in shown["evses"]] == [status]
        await story.told_again()


@pytest.mark.case("F11")
async def test_a_trigger_that_is_not_implemented_is_an_outcome(lab: Lab, version: str) -> None:
    answers = {"TriggerMessage": {"status": "NotImplemented"}}
    async with lab.station(version, answers=answers):
        found = await lab.command("TriggerMessage", {"requestedMessage": "MeterValues"})
        assert (found["outcome"], found["status"]) == ("not_supported", "NotImplemented")


@pytest.mark.case("F12", "S20")
@pytest.mark.parametrize(
    ("answer", "outcome", "state"),
    [
        pytest.param({"status": "Rejected"}, "rejected", "refused", id="rejected"),
        pytest.param(CallError("InternalError", "busy"), "call_error", "refused", id="error"),
        pytest.param(SILENCE, "no_answer", "asked", id="silence"),
    ],
)
async def test_a_start_that_is_not_accepted_has_its_own_outcome(
    driven: Lab, version: str, answer: Any, outcome: str, state: str
) -> None:
    action = "RemoteStartTransaction" if version == "1.6" else "RequestStartTransaction"
    answers: dict[str, Answer] = {action: answer}
    payload: dict[str, Any] = {"idTag": CARD}
    if version != "1.6":
        payload = {"remoteStartId": 1, "idToken": token(CARD), "evseId": 1}
    async with driven.station(version, answers=answers):
        found = await driven.command(action, payload, wait_s=1)
        assert found["outcome"] == outcome
        (kept,) = (await driven.get("stations/CS-1/commands", action=action))["items"]
        assert kept["outcome"] == outcome
        assert [s["state"] for s in await remote_starts(driven)] == [state]


async def test_s10_an_operator_stops_a_transaction(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.charging_16()
        found = await driven.command(
            "RemoteStopTransaction", {"transactionId": int(story.transaction_id)}
        )
        assert found["outcome"] == "accepted"
        call = await station.called("RemoteStopTransaction")
        assert call.payload == {"transactionId": int(story.transaction_id)}
        assert await story.stop_16(1500, reason="Remote") == {}
        await story.told_again()
        await story.status("Finishing")
        await story.status("Available")
        shown = await story.shown()
        assert (shown["stop_reason"], shown["energy_wh"]) == ("Remote", 500.0)
        await story.told_again()


async def test_s13_unlocking_ends_a_transaction(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.charging_16()
        assert (await driven.command("UnlockConnector", {"connectorId": 1}))["status"] == "Unlocked"
        await story.status("Finishing")
        assert await story.stop_16(1500, reason="UnlockCommand") == {}
        await story.told_again()
        await story.status("Available")
        shown = await story.shown()
        assert shown["stop_reason"] == "UnlockCommand"
        assert shown["stopped_at"] is not None
        await story.told_again()


async def test_s42_each_triggered_message_of_1_6_is_answered(lab: Lab) -> None:
    async with lab.station("1.6") as station:
        story = Story(lab, station)
        sampled = {"value": "1234", "context": "Trigger"}
        follow_ups: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
            (
                {"requestedMessage": "MeterValues", "connectorId": 1},
                "MeterValues",
                {
                    "connectorId": 1,
                    "meterValue": [{"timestamp": now_text(), "sampledValue": [sampled]}],
                },
            ),
            ({"requestedMessage": "Heartbeat"}, "Heartbeat", {}),
            (
                {"requestedMessage": "StatusNotification", "connectorId": 1},
                "StatusNotification",
                {"connectorId": 1, "errorCode": "NoError", "status": "Available"},
            ),
            (
                {"requestedMessage": "DiagnosticsStatusNotification"},
                "DiagnosticsStatusNotification",
                {"status": "Idle"},
            ),
            (
                {"requestedMessage": "FirmwareStatusNotification"},
                "FirmwareStatusNotification",
                {"status": "Idle"},
            ),
        ]
        for asked, action, payload in follow_ups:
            await trigger(lab, **asked)
            assert (await station.called("TriggerMessage")).payload == asked
            answer = await story.say(action, payload)
            assert answer == {} or set(answer) == {"currentTime"}
            await story.told_again()
        (place,) = (await lab.get("stations/CS-1/readings"))["items"]
        assert place["samples"][0]["context"] == "Trigger"
        for action in ("GetDiagnostics", "UpdateFirmware"):
            assert (await lab.get("stations/CS-1/commands", action=action))["items"] == []
        await eventually(lambda: _is_available(lab))


async def _is_available(lab: Lab) -> bool:
    shown = await lab.get("stations/CS-1")
    return [e["status"] for e in shown["evses"]] == ["Available"]


@pytest.mark.parametrize("number", [2**31, 2**63, -(2**63)])
async def test_a_number_that_no_station_can_hold_is_answered_and_keeps_nothing(
    driven: Lab, version: str, number: int
) -> None:
    async with driven.station(version):
        for action, payload in (
            ("RemoteStartTransaction", {"idTag": CARD, "connectorId": number}),
            ("RequestStartTransaction", {"remoteStartId": number, "idToken": token(CARD)}),
            ("ClearChargingProfile", {"id": number, "chargingProfileId": number}),
            ("CancelReservation", {"reservationId": number}),
            ("GetLog", {"requestId": number}),
        ):
            body = {"action": action, "payload": payload, "wait_s": 10}
            answer = await driven.api.post("/api/v1/stations/CS-1/commands", json=body)
            assert answer.status_code < 500, answer.text
        starts = await remote_starts(driven)
    assert all(abs(s["evse_id"]) < 2**31 for s in starts)
