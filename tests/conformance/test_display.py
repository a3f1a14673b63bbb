"""Blocks O and P of the conformance cases: display messages, data transfer, custom data."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation
from tests.scenarios.world import eventually

PATH = "/api/v1/stations/CS-1/display-messages"
NOW = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def show(lab: Lab, number: int, **given: Any) -> dict[str, Any]:
    body = {"content": "Hello", **given}
    found = await lab.api.put(f"{PATH}/{number}", json=body)
    assert found.is_success, found.text
    answer: dict[str, Any] = found.json()
    return answer


async def shown(lab: Lab) -> dict[int, Any]:
    found = await lab.get("stations/CS-1/display-messages")
    return {m["message_id"]: m["payload"] for m in found["items"]}


async def transaction(station: RawStation, kind: str, number: int, **given: Any) -> None:
    await station.call(
        "TransactionEvent",
        {
            "eventType": kind,
            "timestamp": NOW,
            "triggerReason": "CablePluggedIn",
            "seqNo": number,
            "transactionInfo": {"transactionId": "T-1", "chargingState": "EVConnected"},
            "evse": {"id": 1, "connectorId": 1},
            **given,
        },
    )


@pytest.mark.case("O01", "O08")
async def test_o01_o08_a_message_is_installed_and_replaced_by_its_id(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        assert (await show(lab, 7, priority="AlwaysFront", state="Idle"))["outcome"] == "accepted"
        call = (await station.called("SetDisplayMessage")).payload
        message = {
            "id": 7,
            "priority": "AlwaysFront",
            "state": "Idle",
            "message": {"format": "UTF8", "content": "Hello"},
        }
        assert call == {"message": message}
        assert await shown(lab) == {7: message}
        await show(lab, 7, content="Welcome back")
        (only,) = (await shown(lab)).values()
        assert only["message"]["content"] == "Welcome back"
        assert "state" not in only


@pytest.mark.case("O02", "O06")
async def test_o02_o06_messages_are_asked_for_and_reported(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        await show(lab, 1)
        assert (await lab.api.post(f"{PATH}/refresh")).json()["outcome"] == "accepted"
        call = (await station.called("GetDisplayMessages")).payload
        assert call.keys() == {"requestId"}, "no filters"
        parts = [
            {"id": n, "priority": "InFront", "message": {"format": "ASCII", "content": str(n)}}
            for n in (2, 3)
        ]
        for part, tbc in zip(parts, (True, False), strict=True):
            report = {"requestId": call["requestId"], "tbc": tbc, "messageInfo": [part]}
            assert await station.call("NotifyDisplayMessages", report) == {}
        assert (await shown(lab)).keys() == {2, 3}, "what the station does not have is gone"
        await lab.api.post(f"{PATH}/refresh", params={"priority": "InFront"})
        call = (await station.called("GetDisplayMessages")).payload
        assert call.keys() == {"requestId", "priority"}
        report = {"requestId": call["requestId"], "messageInfo": [parts[0]]}
        await station.call("NotifyDisplayMessages", report)
        assert (await shown(lab)).keys() == {2, 3}, "a filtered report takes nothing away"


@pytest.mark.parametrize("word", ["Accepted", "Unknown"])
@pytest.mark.case("O03", "O04")
async def test_o03_o04_a_cleared_message_is_gone(lab: Lab, word: str) -> None:
    async with lab.station("2.0.1", answers={"ClearDisplayMessage": {"status": word}}) as station:
        await show(lab, 1)
        done = (await lab.api.delete(f"{PATH}/1")).json()
        assert done["status"] == word
        assert (await station.called("ClearDisplayMessage")).payload == {"id": 1}
        assert await shown(lab) == {}


@pytest.mark.case("O05", "O12")
async def test_o05_o12_a_message_of_a_transaction_goes_with_it(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        await transaction(station, "Started", 0)
        await show(lab, 1)
        await show(lab, 2, transaction_id="T-1", starts_at=NOW)
        calls = [(await station.called("SetDisplayMessage")).payload for _ in range(2)]
        assert calls[1]["message"] == {
            "id": 2,
            "priority": "NormalCycle",
            "startDateTime": NOW,
            "transactionId": "T-1",
            "message": {"format": "UTF8", "content": "Hello"},
        }
        assert (await shown(lab)).keys() == {1, 2}
        await transaction(station, "Ended", 1, triggerReason="EVDeparted")
        assert (await shown(lab)).keys() == {1}


async def test_o07_nothing_is_known_when_the_station_knows_nothing(lab: Lab) -> None:
    async with lab.station("2.0.1", answers={"GetDisplayMessages": {"status": "Unknown"}}):
        outcome = await lab.command("GetDisplayMessages", {"requestId": 5, "id": [99]})
        assert (outcome["outcome"], outcome["status"]) == ("rejected", "Unknown")
        assert await shown(lab) == {}


@pytest.mark.case("O09", "O11")
async def test_o09_o11_an_end_and_a_state_are_sent(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        await show(lab, 1, until=NOW, state="Charging")
        message = (await station.called("SetDisplayMessage")).payload["message"]
        assert (message["endDateTime"], message["state"]) == (NOW, "Charging")
        assert "startDateTime" not in message


async def test_o10_a_priority_that_is_not_supported_is_an_outcome(lab: Lab) -> None:
    refusal = {"SetDisplayMessage": {"status": "NotSupportedPriority"}}
    async with lab.station("2.0.1", answers=refusal):
        answer = await show(lab, 1, priority="InFront")
        assert (answer["outcome"], answer["status"]) == ("rejected", "NotSupportedPriority")
        assert await shown(lab) == {}


async def test_p01_a_vendor_that_nobody_knows_is_told_so(lab: Lab, version: str) -> None:
    async with lab.station(version) as station:
        answer = await station.call(
            "DataTransfer", {"vendorId": "com.example", "messageId": "M", "data": "x"}
        )
        assert answer["status"] in ("UnknownVendorId", "UnknownMessageId", "Rejected")


async def test_p02_custom_data_is_no_error(lab: Lab) -> None:
    custom = {"vendorId": "com.example", "colour": "blue"}
    async with lab.station("2.0.1") as station:
        status = {
            "timestamp": NOW,
            "connectorStatus": "Occupied",
            "evseId": 1,
            "connectorId": 1,
            "customData": custom,
        }
        assert await station.call("StatusNotification", status) == {}
        await transaction(station, "Started", 0, customData=custom)

        async def seen() -> bool:
            return bool(await lab.world.sessions())

        await eventually(seen, "no session")


async def test_p03_an_answer_to_our_data_transfer_is_an_outcome(lab: Lab, version: str) -> None:
    answers = {"DataTransfer": {"status": "UnknownVendorId"}}
    async with lab.station(version, answers=answers):
        outcome = await lab.command("DataTransfer", {"vendorId": "com.example"})
        assert (outcome["outcome"], outcome["status"]) == ("rejected", "UnknownVendorId")
