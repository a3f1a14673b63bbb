"""Block E of the conformance cases: transactions of 2.0.1."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import linked
from tests.conformance.story import CARD, OTHER_CARD, Story, meaning, now_text, register
from tests.scenarios.world import eventually

DAY = timedelta(days=1)
ABOUT_TRANSACTIONS = {
    "SetChargingProfile",
    "ClearChargingProfile",
    "RequestStartTransaction",
    "RequestStopTransaction",
    "GetTransactionStatus",
    "CostUpdated",
}


@pytest.fixture
async def driven(lab: Lab) -> Lab:
    """A system that knows two drivers."""
    await lab.world.driver(1)
    await lab.world.driver(2)
    return lab


@pytest.mark.case("E01", "E02")
@pytest.mark.parametrize("begins", ["SuspendedEVSE", "Charging"])
async def test_a_transaction_may_begin_with_energy(driven: Lab, begins: str) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        assert (await story.authorize())["status"] == "Accepted"
        await story.status("Occupied")
        started_at = now_text()
        answer = await story.event(
            "Started", "ChargingStateChanged", card=CARD, state=begins, energy_wh=500, at=started_at
        )
        assert answer["idTokenInfo"]["status"] == "Accepted"
        await story.told_again()
        if begins == "SuspendedEVSE":
            await story.event("Updated", "ChargingStateChanged", state="Charging", energy_wh=500)
        (shown,) = await story.all_shown()
        assert (shown["charging_state"], shown["authorization"]) == ("Charging", "Accepted")
        assert datetime.fromisoformat(shown["started_at"]) == datetime.fromisoformat(started_at)
        await story.told_again()


@pytest.mark.case("E03", "E04")
@pytest.mark.parametrize("order", ["cable first", "card first"])
async def test_cable_and_card_make_one_session_in_either_order(driven: Lab, order: str) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        if order == "cable first":
            await story.plug()
            await story.auth()
        else:
            await story.authorize()
            answer = await story.event("Started", "Authorized", card=CARD, has_evse=False)
            assert answer["idTokenInfo"]["status"] == "Accepted"
            await story.status("Occupied")
            await story.event("Updated", "CablePluggedIn", state="EVConnected", energy_wh=1000)
        await story.event("Updated", "ChargingStateChanged", state="Charging", energy_wh=1000)
        (shown,) = await story.all_shown()
        assert (shown["evse_id"], shown["id_token"]) == (1, CARD)
        assert (shown["charging_state"], shown["meter_start_wh"]) == ("Charging", 1000.0)
        triggers = [e["trigger"] for e in (await story.shown())["events"]]
        assert sorted(triggers) == ["Authorized", "CablePluggedIn", "ChargingStateChanged"]
        await story.told_again()


@pytest.mark.parametrize(
    ("trigger", "state", "reason", "wh"),
    [
        pytest.param("ChargingStateChanged", "EVConnected", "Local", 2500, id="E05"),
        pytest.param("EVDeparted", "Idle", "EVDisconnected", 2500, id="E09"),
        pytest.param("StopAuthorized", "EVConnected", "Local", 2500, id="E10"),
        pytest.param("EVDeparted", "Idle", "Local", 2500, id="E12"),
    ],
)
@pytest.mark.case("E05", "E09", "E10", "E12")
async def test_a_session_closes_with_its_end_and_not_before(
    driven: Lab, trigger: str, state: str, reason: str, wh: float
) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        if trigger != "StopAuthorized":
            await story.stop_auth()
            shown = await story.shown()
            assert (shown["stopped_at"], shown["charging_state"]) == (None, "EVConnected")
        ended_at = now_text()
        answer = await story.event(
            "Ended", trigger, state=state, reason=reason, energy_wh=wh, at=ended_at
        )
        assert "idTokenInfo" not in answer
        await story.status("Available")
        shown = await story.shown()
        assert shown["stop_reason"] == reason
        assert datetime.fromisoformat(shown["stopped_at"]) == datetime.fromisoformat(ended_at)
        assert (shown["energy_wh"], shown["is_final"], shown["missing_messages"]) == (1500, True, 0)
        station_now = await driven.get("stations/CS-1")
        assert station_now["evses"][0]["status"] == "Available"
        await story.told_again()


async def test_e06_a_cable_alone_is_a_session_without_a_holder(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        assert await story.plug() == {}
        (shown,) = await story.all_shown()
        assert (shown["id_token"], shown["evse_id"], shown["connector_id"]) == (None, 1, 1)
        assert (await story.stay())["holder_did"] == ""
        await story.told_again()


SIGNED = {
    "signedMeterData": "ZXhhbXBsZSBPQ01GfHsiUEciOiJUMSJ9Cg==",
    "signingMethod": "ECDSA-secp256r1-SHA256",
    "encodingMethod": "OCMF",
    "publicKey": "bm8gcmVhbCBrZXk=",
}


async def test_e07_a_signed_reading_is_kept_byte_for_byte(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.authorize()
        await story.status("Occupied")
        value = register(0, context="Transaction.Begin")
        value["sampledValue"][0]["signedMeterValue"] = SIGNED
        answer = await story.event("Started", "SignedDataReceived", card=CARD, meterValue=[value])
        assert answer["idTokenInfo"]["status"] == "Accepted"
        await story.told_again()
        await story.event("Updated", "ChargingStateChanged", state="Charging")
        shown = await story.shown()
        assert shown["meter_start_wh"] == 0.0
        readings = await driven.get(f"transactions/{shown['session_id']}/readings")
        (reading,) = readings["items"]
        assert (reading["signed"], reading["context"]) == (SIGNED, "Transaction.Begin")


async def test_e08_a_detected_vehicle_is_a_session_without_place_and_holder(driven: Lab) -> None:
    async with driven.station("2.0.1", evses=2) as station:
        story = Story(driven, station)
        assert await story.event("Started", "EVDetected", has_evse=False) == {}
        (shown,) = await story.all_shown()
        assert (shown["evse_id"], shown["connector_id"], shown["id_token"]) == (None, None, None)
        await story.told_again()
        await story.event("Updated", "CablePluggedIn", state="EVConnected")
        (shown,) = await story.all_shown()
        assert (shown["evse_id"], shown["connector_id"]) == (1, 1)


async def test_e11_a_refused_start_is_kept_and_marked(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        answer = await story.event("Started", "Authorized", card="0000000000000A")
        assert answer["idTokenInfo"]["status"] in ("Invalid", "Unknown")
        await story.told_again()
        assert await story.event("Ended", "Deauthorized", reason="DeAuthorized") == {}
        (shown,) = await story.all_shown()
        assert shown["authorization"] in ("Invalid", "Unknown")
        assert (shown["stop_reason"], shown["energy_wh"]) == ("DeAuthorized", 0.0)
        await story.told_again()


async def test_e13_an_operator_stops_a_transaction_by_its_own_id(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station, transaction_id="9f4C-ää"[:5] + "/ 7%20x")
        await story.charge()
        handle = (await story.all_shown())[0]["session_id"]
        found = await driven.api.post(f"/api/v1/transactions/{handle}/stop")
        assert found.json()["outcome"] == "accepted"
        call = await station.called("RequestStopTransaction")
        assert call.payload == {"transactionId": story.transaction_id}
        await story.event("Ended", "RemoteStop", reason="Remote", energy_wh=2000)
        shown = (await story.all_shown())[0]
        assert (shown["stop_reason"], shown["transaction_id"]) == ("Remote", story.transaction_id)
        await story.told_again()


async def test_e14_a_pause_in_communication_is_no_second_session(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        await story.event("Updated", "ChargingStateChanged", state="SuspendedEV", energy_wh=1200)
        await story.event("Updated", "EVCommunicationLost", state="Idle")
        await story.status("Available")
        assert (await story.shown())["stopped_at"] is None
        await story.status("Occupied")
        await story.event("Updated", "CablePluggedIn", state="EVConnected")
        await story.event("Updated", "ChargingStateChanged", state="Charging", energy_wh=1300)
        (shown,) = await story.all_shown()
        assert (shown["charging_state"], shown["energy_wh"]) == ("Charging", 300.0)
        await story.told_again()


def asks(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Answer GetTransactionStatus with each of `answers` in turn, then with the last."""
    return {"GetTransactionStatus": lambda _: answers.pop(0) if len(answers) > 1 else answers[0]}


async def test_e15_a_station_that_comes_back_is_asked_for_what_it_holds(driven: Lab) -> None:
    story_id = "tx-e15"
    async with driven.station("2.0.1") as station:
        story = Story(driven, station, transaction_id=story_id)
        await story.charge(1000)
    away_at = now_text(timedelta(seconds=-1))
    queue = [{"ongoingIndicator": True, "messagesInQueue": True}]
    async with driven.station("2.0.1", boots=False, answers=asks(queue)) as station:
        story.station = station
        await station.call("Heartbeat", {})
        await story.status("Occupied")
        call = await station.called("GetTransactionStatus")
        assert call.payload == {"transactionId": story_id}
        await story.event("Updated", "MeterValuePeriodic", energy_wh=1400, at=away_at, offline=True)
        (shown,) = await story.all_shown()
        assert (shown["energy_wh"], shown["stopped_at"]) == (400.0, None)
        newest = (await story.shown())["events"][-1]
        assert (newest["is_offline"], newest["seq_no"]) == (True, 3)
        assert datetime.fromisoformat(newest["at"]) == datetime.fromisoformat(away_at)
        await story.told_again()


async def test_e16_nothing_changes_for_what_goes_on(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge()
    goes_on = asks([{"ongoingIndicator": True, "messagesInQueue": False}])
    async with driven.station("2.0.1", boots=False, answers=goes_on) as station:
        story.station = station
        before = await story.shown()
        await station.call("Heartbeat", {})
        await story.status("Occupied")
        await station.called("GetTransactionStatus")
        outcome = await driven.command(
            "GetTransactionStatus", {"transactionId": story.transaction_id}
        )
        assert outcome["answer"] == {"ongoingIndicator": True, "messagesInQueue": False}
        assert await story.shown() == before


async def test_e17_a_gap_is_known_and_filled_by_what_comes_late(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        t0 = datetime.now(UTC)
    answer = {"ongoingIndicator": False, "messagesInQueue": True}
    async with driven.station("2.0.1", boots=False, answers=asks([answer])) as station:
        story.station = station
        await station.call("Heartbeat", {})
        await story.status("Available")
        times = [
            (t0 + timedelta(seconds=s)).isoformat().replace("+00:00", "Z") for s in (0.1, 0.2, 0.3)
        ]
        await story.event(
            "Ended",
            "EVDeparted",
            reason="EVDisconnected",
            seq_no=5,
            energy_wh=2000,
            at=times[2],
            offline=True,
        )
        shown = await story.shown()
        assert (shown["missing_messages"], shown["is_final"]) == (2, False)
        assert "messages_missing" in shown["flags"]
        asked = [c.payload for c in station.seen("GetTransactionStatus")] or [
            (await station.called("GetTransactionStatus")).payload
        ]
        assert asked[-1] == {"transactionId": story.transaction_id}
        for number, at, wh in ((4, times[1], 1600), (3, times[0], 1300)):
            await story.event(
                "Updated", "MeterValuePeriodic", seq_no=number, energy_wh=wh, at=at, offline=True
            )
        shown = await story.shown()
        assert [e["seq_no"] for e in shown["events"]] == [0, 1, 2, 3, 4, 5]
        assert (shown["missing_messages"], shown["is_final"]) == (0, True)
        assert (shown["energy_wh"], shown["stop_reason"]) == (1000.0, "EVDisconnected")
        assert "messages_missing" not in shown["flags"]
        await story.told_again()


@pytest.mark.case("E17")
async def test_a_gap_that_will_not_be_filled_is_closed(driven: Lab) -> None:
    nothing = asks([{"ongoingIndicator": False, "messagesInQueue": False}])
    async with driven.station("2.0.1", answers=nothing) as station:
        story = Story(driven, station)
        await story.charge(1000)
        await story.event("Ended", "EVDeparted", reason="Local", seq_no=7, energy_wh=2000)
        await station.called("GetTransactionStatus")
        await eventually(lambda: _is_final(story), "the gap was not closed")
        shown = await story.shown()
        assert "messages_lost" in shown["flags"]
        assert (shown["missing_messages"], shown["energy_wh"]) == (4, 1000.0)


async def _is_final(story: Story) -> bool:
    return bool((await story.shown())["is_final"])


async def test_e18_a_station_without_a_transaction_has_nothing_queued(driven: Lab) -> None:
    quiet = {"GetTransactionStatus": {"messagesInQueue": False}}
    async with driven.station("2.0.1", answers=quiet) as station:
        outcome = await driven.command("GetTransactionStatus", {})
        assert (await station.called("GetTransactionStatus")).payload == {}
        assert outcome["outcome"] == "accepted"
        assert outcome["answer"] == {"messagesInQueue": False}


async def test_e19_a_vehicle_that_takes_nothing_is_shown_as_waiting(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.authorize()
        await story.event("Started", "Authorized", card=CARD)
        await story.event("Updated", "CablePluggedIn", state="EVConnected")
        await story.event("Updated", "ChargingStateChanged", state="SuspendedEV")
        (shown,) = await story.all_shown()
        assert (shown["charging_state"], shown["stopped_at"]) == ("SuspendedEV", None)
        await story.told_again()


async def test_e20_a_vehicle_that_never_comes_ends_without_energy(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.authorize()
        await story.event("Started", "Authorized", card=CARD)
        await story.event("Ended", "EVConnectTimeout", reason="Timeout")
        (shown,) = await story.all_shown()
        assert (shown["stop_reason"], shown["energy_wh"]) == ("Timeout", 0.0)
        assert shown["is_final"]
        await story.told_again()


async def test_e21_numbers_count_per_transaction(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        for card in (CARD, OTHER_CARD):
            story = Story(driven, station)
            await story.charge(1000, card)
            await story.event("Ended", "EVDeparted", reason="Local", energy_wh=2000)
        first, second = await story.all_shown()
        assert first["session_id"] != second["session_id"]
        assert [s["energy_wh"] for s in (first, second)] == [1000.0, 1000.0]
        assert not [f for s in (first, second) for f in s["flags"] if f != "register_jump"]
        await story.told_again()


async def test_e22_each_event_sent_again_has_one_effect(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.plug()
        await story.told_again()
        await story.auth()
        await story.told_again()
        await story.event("Updated", "MeterValuePeriodic", state="Charging", energy_wh=1500)
        await story.told_again()
        await story.event("Ended", "StopAuthorized", reason="Local", card=CARD, energy_wh=2000)
        await story.told_again()
        assert len((await story.shown())["events"]) == 4


@pytest.mark.parametrize("first", ["Updated", "Ended"])
async def test_e23_a_transaction_without_its_start_is_marked_incomplete(
    driven: Lab, first: str
) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        if first == "Updated":
            answer = await story.event(
                "Updated", "MeterValuePeriodic", seq_no=3, state="Charging", energy_wh=1500
            )
            assert answer == {}
        answer = await story.event("Ended", "EVDeparted", seq_no=4, reason="Local", energy_wh=2000)
        assert answer == {}
        (shown,) = await story.all_shown()
        assert "start_missing" in shown["flags"]
        assert (shown["is_final"], shown["stop_reason"]) == (False, "Local")
        assert shown["energy_wh"] == (500.0 if first == "Updated" else 0.0)
        await story.told_again()


async def test_e24_what_comes_after_the_end_is_merged_and_opens_nothing(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        before = now_text()
        await story.event("Ended", "EVDeparted", reason="Local", seq_no=4, energy_wh=2000)
        ended = await story.shown()
        await story.event(
            "Updated", "MeterValuePeriodic", seq_no=3, state="Charging", energy_wh=1500, at=before
        )
        answer = await story.say(
            "MeterValues", {"evseId": 1, "meterValue": [register(1600, at=before)]}
        )
        assert answer == {}
        (shown,) = await story.all_shown()
        for name in ("stopped_at", "stop_reason", "energy_wh", "meter_last_wh"):
            assert shown[name] == ended[name]
        assert [e["seq_no"] for e in (await story.shown())["events"]] == [0, 1, 2, 3, 4]
        await story.told_again()


async def test_e25_a_second_start_on_an_evse_sets_the_first_aside(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        first, second = Story(driven, station), Story(driven, station)
        await first.charge(1000)
        await second.event("Started", "CablePluggedIn", state="EVConnected", energy_wh=3000)
        await second.auth(OTHER_CARD)
        old, new = await first.all_shown()
        assert (old["id_token"], new["id_token"]) == (CARD, OTHER_CARD)
        assert "superseded" in old["flags"]
        assert (old["is_estimated"], old["is_final"]) == (True, False)
        assert (new["stopped_at"], new["meter_start_wh"]) == (None, 3000.0)
        (event,) = [
            e["event"]
            for e in (await driven.get("log", station_id="CS-1"))["items"]
            if "reviewed" in e["event"]["kind"]
        ]
        assert event["session_id"] == old["session_id"]
        await second.told_again()
        # Its own late end still corrects the estimate.
        await first.event("Ended", "EVDeparted", reason="Local", energy_wh=2500)
        old, new = await first.all_shown()
        assert (old["energy_wh"], old["is_estimated"]) == (1500.0, False)
        assert new["stopped_at"] is None


async def test_e26_a_connector_that_nobody_named_stays_unknown(driven: Lab) -> None:
    async with driven.station("2.0.1", evses=2) as station:
        story = Story(driven, station, evse_id=2)
        await story.event("Started", "CablePluggedIn", state="EVConnected", evse={"id": 2})
        (shown,) = await story.all_shown()
        assert (shown["evse_id"], shown["connector_id"]) == (2, None)
        await story.told_again()
        await story.event("Updated", "ChargingStateChanged", evse={"id": 2, "connectorId": 2})
        (shown,) = await story.all_shown()
        assert (shown["evse_id"], shown["connector_id"]) == (2, 2)


async def test_e27_events_of_two_days_ago_are_history(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        await driven.world.guarded("CS-1")
        await eventually(lambda: _planned_for_boot(driven), "no plan")
        calls = len(station.calls)
        story = Story(driven, station)
        old = [now_text(2 * DAY - timedelta(minutes=m)) for m in (0, 30, 60)]
        offline = {"offline": True}
        await story.event("Started", "Authorized", card=CARD, energy_wh=1000, at=old[0], **offline)
        await story.event(
            "Updated", "MeterValuePeriodic", state="Charging", energy_wh=5000, at=old[1], **offline
        )
        await story.event(
            "Ended", "EVDeparted", reason="Local", energy_wh=9000, at=old[2], **offline
        )
        (shown,) = await story.all_shown()
        assert datetime.fromisoformat(shown["started_at"]) == datetime.fromisoformat(old[0])
        assert datetime.fromisoformat(shown["stopped_at"]) == datetime.fromisoformat(old[2])
        assert (shown["energy_wh"], shown["is_offline_start"]) == (8000.0, True)
        await story.told_again()
        # Whatever they had set off would be sent by now: a command of ours passes everything.
        await driven.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        actions = {c.action for c in station.calls[calls:]}
        assert "TriggerMessage" in actions
        assert not actions & ABOUT_TRANSACTIONS
        assert not [p for p in (await driven.get("plans"))["items"] if "session" in p["why"]]
        events = [e["event"] for e in (await driven.get("log", station_id="CS-1"))["items"]]
        assert not [e for e in events if e["session_id"] or e["level"] == "warning"]


async def _planned_for_boot(lab: Lab) -> bool:
    newest = await lab.world.newest_plan()
    return newest is not None and "station booted" in newest.why


async def test_e28_an_answer_that_was_lost_is_given_again(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.plug()
        payload = {
            "eventType": "Updated",
            "timestamp": now_text(),
            "triggerReason": "Authorized",
            "seqNo": 1,
            "transactionInfo": {"transactionId": story.transaction_id},
            "idToken": {"idToken": CARD, "type": "ISO14443"},
            "evse": {"id": 1, "connectorId": 1},
        }
        await station.send([2, "lost", "TransactionEvent", payload])
        station.socket.transport.abort()
        await eventually(lambda: _messages(story, 2), "the event was not stored")
    async with linked(driven.world.url, "CS-1", "2.0.1") as station:
        story.station = station
        answer = await story.say("TransactionEvent", payload)
        assert answer["idTokenInfo"]["status"] == "Accepted"
        shown = await story.shown()
        assert [e["seq_no"] for e in shown["events"]] == [0, 1]
        assert shown["authorization"] == "Accepted"
        await story.told_again()


async def _messages(story: Story, count: int) -> bool:
    return len((await story.shown())["events"]) == count


async def test_e29_what_a_start_says_beside_is_kept(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        outcome = await driven.command(
            "RequestStartTransaction",
            {"remoteStartId": 77, "idToken": {"idToken": CARD, "type": "ISO14443"}, "evseId": 1},
        )
        story = Story(driven, station)
        answer = await story.event(
            "Started",
            "RemoteStart",
            card=CARD,
            energy_wh=100,
            info={"remoteStartId": 77},
            numberOfPhasesUsed=3,
            cableMaxCurrent=32,
            reservationId=5,
        )
        assert answer["idTokenInfo"]["status"] == "Accepted"
        shown = await story.shown()
        assert (shown["phases_used"], shown["cable_max_current_a"]) == (3, 32.0)
        assert (shown["reservation_id"], shown["remote_start_id"]) == (5, 77)
        assert shown["remote_start"]["command_id"] == outcome["command_id"]
        assert shown["remote_start"]["state"] == "started"
        await story.told_again()


async def test_e30_units_and_places_are_told_apart(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.event("Started", "CablePluggedIn", state="EVConnected", energy_wh=1000)

        def values(*sampled: dict[str, Any]) -> list[dict[str, Any]]:
            return [{"timestamp": now_text(), "sampledValue": list(sampled)}]

        register_name = "Energy.Active.Import.Register"
        said = (
            (values({"value": 1.5, "unitOfMeasure": {"unit": "kWh"}}), 500.0),
            (values({"value": 1600, "measurand": register_name}), 600.0),
            (values({"value": 1.7, "unitOfMeasure": {"unit": "Wh", "multiplier": 3}}), 700.0),
            (
                values(
                    {"value": 9000, "location": "Inlet", "measurand": register_name},
                    {"value": 1800, "location": "Outlet", "measurand": register_name},
                ),
                800.0,
            ),
            (values({"value": 77, "measurand": "Energy.Reactive.Import.Register"}), 800.0),
        )
        for meter_value, energy_wh in said:
            await story.event("Updated", "MeterValuePeriodic", meterValue=meter_value)
            assert (await story.shown())["energy_wh"] == pytest.approx(energy_wh)
            await story.told_again()


async def test_a_conflicting_event_is_kept_and_flagged(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        await story.event("Updated", "MeterValuePeriodic", seq_no=2, energy_wh=1400)
        shown = await story.shown()
        assert "seq_no_conflict" in shown["flags"]
        assert [e["is_conflict"] for e in shown["events"]] == [False, False, False, True]
        assert meaning(json.loads(shown["events"][-1]["payload"]))["seqNo"] == 2
