"""1.6 traps (rows S59 to S72) over the whole system."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import Refused, linked
from tests.conformance.story import CARD, OTHER_CARD, Story, now_text
from tests.conformance.test_authorization import write_token
from tests.scenarios.world import eventually


@pytest.fixture
async def driven(lab: Lab) -> Lab:
    """A system that knows two drivers."""
    await lab.world.driver(1)
    await lab.world.driver(2)
    return lab


def meter_values(transaction_id: str, *sampled: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Return a MeterValues payload of 1.6."""
    return {
        "connectorId": 1,
        "transactionId": int(transaction_id),
        "meterValue": [{"timestamp": at or now_text(), "sampledValue": list(sampled)}],
    }


@pytest.mark.parametrize(("state", "word"), [("unknown", "Invalid"), ("blocked", "Blocked")])
async def test_s59_a_refused_start_has_a_transaction_all_the_same(
    lab: Lab, state: str, word: str
) -> None:
    if state == "blocked":
        await write_token(lab, CARD, state="blocked")
    async with lab.station("1.6") as station:
        story = Story(lab, station)
        answer = await story.start_16()
        assert answer["transactionId"] > 0
        assert answer["idTagInfo"]["status"] == word
        await story.told_again()
        assert await story.stop_16(1000, reason="DeAuthorized") == {}
        await story.told_again()
        (shown,) = await story.all_shown()
        assert shown["authorization"] != "Accepted"
        assert shown["stop_reason"] == "DeAuthorized"


async def test_s60_a_start_said_again_is_the_same_session(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.start_16()
        await story.told_again()
        assert len(await story.all_shown()) == 1


@pytest.mark.parametrize("number", [0, -1, 123456])
async def test_s62_a_stop_that_nobody_knows_is_kept_or_matched(driven: Lab, number: int) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        story.transaction_id = str(number)
        assert await story.stop_16(4000, card=CARD) in ({}, {"idTagInfo": {"status": "Accepted"}})
        await story.told_again()
        (orphan,) = (await driven.get("orphans", station_id="CS-1"))["items"]
        assert (orphan["transaction_id"], orphan["action"]) == (str(number), "StopTransaction")
        # With one session that began offline, a stop without an id means that one.
        await story.start_16(at=now_text(timedelta(hours=1)))
        begun = story.transaction_id
        story.transaction_id = str(number)
        await story.stop_16(5000, at=now_text(timedelta(minutes=1)))
        await story.told_again()
        story.transaction_id = begun
        is_matched = number in (0, -1)
        assert ((await story.shown())["stopped_at"] is not None) is is_matched
        orphans = (await driven.get("orphans", station_id="CS-1"))["items"]
        assert len(orphans) == (1 if is_matched else 2)


async def test_s64_values_after_the_end_are_merged_by_time(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.start_16(at=now_text(timedelta(minutes=9)))
        await story.stop_16(2000, at=now_text(timedelta(minutes=1)))
        before = await story.shown()
        late = meter_values(
            story.transaction_id, {"value": "1500"}, at=now_text(timedelta(minutes=5))
        )
        assert await story.say("MeterValues", late) == {}
        after = await story.shown()
        for name in ("energy_wh", "stopped_at", "meter_last_wh", "stop_reason"):
            assert after[name] == before[name]
        samples = (await driven.get(f"sessions/{after['session_id']}/story"))["samples"]
        assert [s["energy_wh"] for s in samples] == [1500.0]
        await story.told_again()
        async with driven.station("1.6", "CS-2") as other:
            stranger = Story(driven, other)
            foreign = meter_values(story.transaction_id, {"value": "9999"})
            assert await stranger.say("MeterValues", foreign) == {}
            await stranger.told_again()
        assert await story.shown() == after
        (orphan,) = (await driven.get("orphans", station_id="CS-2"))["items"]
        assert orphan["action"] == "MeterValues"
        kinds = [e["event"]["kind"] for e in (await driven.get("log", station_id="CS-2"))["items"]]
        assert "transaction of another station named" in kinds


async def test_s65_a_stop_from_another_station_ends_nothing(driven: Lab) -> None:
    async with driven.station("1.6") as station, driven.station("1.6", "CS-2") as other:
        story, thief = Story(driven, station), Story(driven, other)
        await story.charging_16()
        before = await story.shown()
        thief.transaction_id = story.transaction_id
        await thief.stop_16(9000)
        await thief.told_again()
        assert await story.shown() == before
        (orphan,) = (await driven.get("orphans", station_id="CS-2"))["items"]
        assert orphan["transaction_id"] == story.transaction_id
        (event,) = [
            e["event"]
            for e in (await driven.get("log", station_id="CS-2"))["items"]
            if e["event"]["kind"] == "transaction of another station named"
        ]
        assert (event["level"], event["detail"]["owner"]) == ("warning", "CS-1")


@pytest.mark.parametrize(
    ("start_wh", "samples_wh", "stop_wh", "energy_wh", "flag"),
    [
        pytest.param(1000, [], 400, 0.0, "register_fell", id="below the start"),
        pytest.param(1000, [1500], 0, 500.0, "register_fell", id="zero at the end"),
        pytest.param(1000, [1500, 100, 300], 350, 750.0, "register_fell", id="reset on the way"),
        pytest.param(2**31 + 5, [2**31 + 505], 2**31 + 1005, 1000.0, "", id="beyond 31 bits"),
    ],
)
async def test_s66_registers_that_fall_give_no_negative_energy(
    driven: Lab, start_wh: int, samples_wh: list[int], stop_wh: int, energy_wh: float, flag: str
) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.start_16(meter_wh=start_wh, at=now_text(timedelta(minutes=9)))
        for step, wh in enumerate(samples_wh):
            at = now_text(timedelta(minutes=8 - step))
            values = meter_values(story.transaction_id, {"value": str(wh)}, at=at)
            assert await story.say("MeterValues", values) == {}
        await story.stop_16(stop_wh)
        await story.told_again()
        shown = await story.shown()
        assert shown["stopped_at"] is not None
        assert shown["energy_wh"] == energy_wh
        assert shown["flags"] == ([flag] if flag else [])


async def test_s67_odd_units_have_defaults_and_a_comma_is_refused(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.start_16(meter_wh=0, at=now_text(timedelta(minutes=9)))
        temperature = {"measurand": "Temperature", "value": "21"}
        fine: list[tuple[dict[str, Any], float | None]] = [
            ({**temperature, "unit": "Celcius"}, None),
            ({**temperature, "unit": "Celsius"}, None),
            ({"measurand": "Energy.Active.Import.Register", "value": "1000"}, 1000.0),
            ({"value": "2", "unit": "kWh"}, 2000.0),
            ({"measurand": "Voltage", "value": "230", "phase": "L1-N"}, None),
        ]
        for step, (sampled, energy_wh) in enumerate(fine):
            at = now_text(timedelta(minutes=8 - step))
            payload = meter_values(story.transaction_id, sampled, at=at)
            assert await story.say("MeterValues", payload) == {}, sampled
            if energy_wh is not None:
                assert (await story.shown())["energy_wh"] == energy_wh
            await story.told_again()
        handle = (await story.shown())["session_id"]
        readings = (await driven.get(f"transactions/{handle}/readings"))["items"]
        assert [r["unit"] for r in readings[:2]] == ["Celcius", "Celsius"]
        samples = (await driven.get(f"sessions/{handle}/story"))["samples"]
        assert samples[-1]["voltage_v"] == 230.0
        before = await story.shown()
        with pytest.raises(Refused) as refused:
            await story.say("MeterValues", meter_values(story.transaction_id, {"value": "12,5"}))
        assert refused.value.code == "PropertyConstraintViolation"
        assert await story.shown() == before


async def test_s68_times_are_read_in_each_spelling(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        moment = datetime.fromisoformat(now_text(timedelta(minutes=1))).replace(microsecond=0)
        plain = moment.strftime("%Y-%m-%dT%H:%M:%S")
        ahead = (moment + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")
        spellings = [f"{plain}Z", ahead, plain, f"{plain}.0000000Z", f"{plain}z".replace("T", "t")]
        for number, text in enumerate(spellings):
            story = Story(driven, station)
            await story.start_16(CARD, meter_wh=number, at=text)
            await story.told_again()
            shown = await story.shown()
            assert datetime.fromisoformat(shown["started_at"]) == moment
            assert ("time_without_zone" in shown["flags"]) is (text == plain)
            await story.stop_16(number, at=text)
        with pytest.raises(Refused) as refused:
            await Story(driven, station).start_16(OTHER_CARD, at="1000000")
        assert refused.value.code == "PropertyConstraintViolation"


async def test_s69_a_pending_station_may_be_configured_and_says_nothing(lab: Lab) -> None:
    await lab.world.register("CS-1", registration="Pending")
    async with linked(lab.world.url, "CS-1", "1.6") as station:
        assert (await station.boot())["status"] == "Pending"
        values = {
            "connectorId": 1,
            "meterValue": [{"timestamp": now_text(), "sampledValue": [{"value": "1"}]}],
        }
        with pytest.raises(Refused) as refused:
            await station.call("MeterValues", values)
        assert refused.value.code == "SecurityError"
        assert (await lab.get("stations/CS-1/readings"))["items"] == []
        payload = {"key": "MeterValueSampleInterval", "value": "60"}
        outcome = await lab.command("ChangeConfiguration", payload)
        assert outcome["outcome"] == "accepted"
        assert payload in [c.payload for c in station.seen("ChangeConfiguration")]


async def test_s70_a_station_that_lists_current_only_gets_amperes(driven: Lab) -> None:
    keys = [
        {
            "key": "ChargingScheduleAllowedChargingRateUnit",
            "readonly": True,
            "value": "Current",
        },
        {"key": "ChargingScheduleMaxPeriods", "readonly": True, "value": "24"},
    ]
    answers = {"GetConfiguration": {"configurationKey": keys}}
    async with driven.station("1.6", answers=answers) as station:
        story = Story(driven, station)
        await story.charging_16()

        def planned() -> list[dict[str, Any]]:
            profiles = [c.payload["csChargingProfiles"] for c in station.seen("SetChargingProfile")]
            return [p for p in profiles if p["chargingProfilePurpose"] == "TxProfile"]

        await eventually(planned, "no plan was sent")
        for call in station.seen("SetChargingProfile"):
            schedule = call.payload["csChargingProfiles"]["chargingSchedule"]
            assert schedule["chargingRateUnit"] == "A"
            assert all(0 <= p["limit"] <= 80 for p in schedule["chargingSchedulePeriod"])


async def test_s71_an_alias_that_is_too_long_never_reaches_the_wire(lab: Lab) -> None:
    async with lab.station("1.6") as station:
        body = {"action": "RemoteStartTransaction", "payload": {"idTag": "X" * 21}}
        found = await lab.api.post("/api/v1/stations/CS-1/commands", json=body)
        assert found.status_code == 422
        assert found.json()["type"].endswith("invalid-command")
        await lab.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert station.seen("RemoteStartTransaction") == []


async def test_s72_an_answer_with_odd_keys_is_tolerated(lab: Lab) -> None:
    answer = {
        "configurationKey": [
            {"key": "ChargeProfileMaxStackLevel", "readonly": "true", "value": "3"},
            {"key": "ChargingScheduleMaxPeriods", "readonly": False, "value": "24"},
        ],
        "unknownKey": ["SupportedFeatureProfiles"],
    }
    async with lab.station("1.6", answers={"GetConfiguration": answer}):
        outcome = await lab.command("GetConfiguration", {"key": ["SupportedFeatureProfiles"]})
        assert outcome["outcome"] == "accepted"
        assert outcome["answer"] == answer

        async def learned() -> bool:
            limits = (await lab.get("stations/CS-1"))["limits"]
            return (limits["max_periods"], limits["max_stack_level"]) == (24, 3)

        await eventually(learned, "the limits were not learned")
