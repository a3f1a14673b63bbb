"""What real stations were seen to do in sessions, where certification asks nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.clock import Clock
from tests.conformance.conftest import Lab
from tests.conformance.raw import Refused
from tests.conformance.story import CARD, Story, now_text, register
from tests.scenarios.world import eventually, living, settings


@pytest.fixture
async def driven(lab: Lab) -> Lab:
    """A system that knows a driver."""
    await lab.world.driver(1)
    return lab


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 1, 1)])
async def test_numbers_that_stick_or_begin_at_one_lose_nothing(
    driven: Lab, numbers: tuple[int, ...]
) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        begin, *middle, end = numbers
        answer = await story.event("Started", "Authorized", card=CARD, energy_wh=0, seq_no=begin)
        assert answer["idTokenInfo"]["status"] == "Accepted"
        for step, number in enumerate(middle, start=1):
            await story.event(
                "Updated", "MeterValuePeriodic", energy_wh=100.0 * step, seq_no=number
            )
            await story.told_again()
        await story.event("Ended", "EVDeparted", reason="Local", energy_wh=500, seq_no=end)
        await story.told_again()
        shown = await story.shown()
        assert (shown["energy_wh"], shown["missing_messages"]) == (500.0, 0)
        assert (shown["stop_reason"], shown["is_final"]) == ("Local", True)
        assert len(shown["events"]) == 4


async def test_meter_values_instead_of_updates_move_the_session(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        for wh in (1100, 1250):
            payload = {"evseId": 1, "meterValue": [register(wh)]}
            assert await story.say("MeterValues", payload) == {}
            await story.told_again()
        assert (await story.shown())["energy_wh"] == 250.0


async def test_wh_that_are_called_kwh_are_counted_as_wh(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        begun = datetime.now(UTC) - timedelta(minutes=2)

        def said(count: int) -> dict[str, Any]:
            # 7.2 kW are 30 Wh in 15 s; the station writes 30 kWh.
            at = (begun + timedelta(seconds=15 * count)).isoformat()
            unit = {"unit": "kWh"}
            return {
                "timestamp": at,
                "sampledValue": [
                    {"value": 30.0 * count, "unitOfMeasure": unit},
                    {
                        "value": 7200,
                        "measurand": "Power.Active.Import",
                        "unitOfMeasure": {"unit": "W"},
                    },
                ],
            }

        at = begun.isoformat()
        await story.event("Started", "Authorized", card=CARD, at=at, meterValue=[said(0)])
        for count in (1, 2, 3):
            at = (begun + timedelta(seconds=15 * count)).isoformat()
            await story.event("Updated", "MeterValuePeriodic", at=at, meterValue=[said(count)])
        shown = await story.shown()
        assert shown["energy_wh"] == pytest.approx(90.0)
        assert shown["flags"] == ["unit_thousandfold"]
        at = (begun + timedelta(seconds=60)).isoformat()
        last = said(4)
        last["sampledValue"].pop()
        await story.event("Ended", "EVDeparted", reason="Local", at=at, meterValue=[last])
        assert (await story.shown())["energy_wh"] == pytest.approx(120.0)


async def test_a_message_may_say_next_to_nothing(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.event("Started", "Authorized", card=CARD)
        for kind, trigger in (("Updated", "ChargingRateChanged"), ("Ended", "AbnormalCondition")):
            answer = await story.event(kind, trigger, has_evse=False)
            assert "idTokenInfo" not in answer
        shown = await story.shown()
        assert (shown["evse_id"], shown["energy_wh"], shown["stop_reason"]) == (1, 0.0, None)
        assert shown["stopped_at"] is not None
        await story.told_again()


async def test_a_status_of_evse_0_is_the_stations(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        story = Story(lab, station)
        payload = {
            "evseId": 0,
            "connectorId": 0,
            "connectorStatus": "Available",
            "timestamp": now_text(),
        }
        assert await story.say("StatusNotification", payload) == {}
        await story.told_again()


async def test_a_boot_in_the_words_of_1_6_costs_an_error_and_not_the_link(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        payload = {"chargePointVendor": "V", "chargePointModel": "M"}
        with pytest.raises(Refused) as refused:
            await station.call("BootNotification", payload)
        assert refused.value.code in ("FormatViolation", "OccurrenceConstraintViolation")
        assert (await station.call("Heartbeat", {}))["currentTime"]


async def test_message_ids_that_start_over_are_new_messages(driven: Lab) -> None:
    for wh in (1000, 2000):
        async with driven.station("1.6") as station:
            started = {
                "connectorId": 1,
                "idTag": CARD,
                "meterStart": wh,
                "timestamp": now_text(),
            }
            answer = await station.call("StartTransaction", started, message_id="1")
            stop = {
                "transactionId": answer["transactionId"],
                "meterStop": wh + 500,
                "timestamp": now_text(),
            }
            await station.call("StopTransaction", stop, message_id="2")
    page = await driven.get("transactions", station_id="CS-1")
    assert [t["energy_wh"] for t in page["items"]] == [500.0, 500.0]


async def test_live_samples_overtake_queued_ones(driven: Lab, version: str) -> None:
    async with driven.station(version) as station:
        story = Story(driven, station)
        times = [now_text(timedelta(minutes=m)) for m in (9, 8, 7, 6)]
        if version == "1.6":
            await story.start_16(meter_wh=1000, at=times[0])

            async def sample(wh: float, at: str, seq_no: int) -> None:
                value = {"timestamp": at, "sampledValue": [{"value": f"{wh:g}"}]}
                number = int(story.transaction_id)
                payload = {"connectorId": 1, "transactionId": number, "meterValue": [value]}
                assert await story.say("MeterValues", payload) == {}
        else:
            await story.event("Started", "Authorized", card=CARD, energy_wh=1000, at=times[0])

            async def sample(wh: float, at: str, seq_no: int) -> None:
                await story.event(
                    "Updated", "MeterValuePeriodic", energy_wh=wh, at=at, seq_no=seq_no
                )

        await sample(1300, times[3], 3)
        await sample(1100, times[1], 1)
        await story.told_again()
        await sample(1200, times[2], 2)
        shown = await story.shown()
        assert (shown["energy_wh"], shown["meter_last_wh"]) == (300.0, 1300.0)
        samples = (await driven.get(f"sessions/{shown['session_id']}/story"))["samples"]
        assert [s["energy_wh"] for s in samples][-3:] == [1100.0, 1200.0, 1300.0]


async def test_a_session_whose_end_never_comes_is_closed_from_the_status(
    version: str, sqlite_url: str
) -> None:
    clock = Clock(start=datetime.now(UTC), speed=600)
    async with (
        living(settings(sqlite_url), clock=clock) as world,
        world.operator() as api,
    ):
        lab = Lab(world, api)
        await world.driver(1)

        def at() -> str:
            return clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")

        async with lab.station(version) as station:
            story = Story(lab, station)
            if version == "1.6":
                await story.start_16(at=at())
                number = int(story.transaction_id)
                value = {"timestamp": at(), "sampledValue": [{"value": "1700"}]}
                payload = {"connectorId": 1, "transactionId": number, "meterValue": [value]}
                await story.say("MeterValues", payload)
                free = {
                    "connectorId": 1,
                    "errorCode": "NoError",
                    "status": "Available",
                    "timestamp": at(),
                }
            else:
                await story.event("Started", "Authorized", card=CARD, energy_wh=1000, at=at())
                await story.event("Updated", "MeterValuePeriodic", energy_wh=1700, at=at())
                free = {
                    "evseId": 1,
                    "connectorId": 1,
                    "connectorStatus": "Available",
                    "timestamp": at(),
                }
            await story.say("StatusNotification", free)

            async def closed() -> bool:
                return (await story.shown())["stopped_at"] is not None

            await eventually(closed, "it stays open")
            shown = await story.shown()
            assert (shown["is_estimated"], shown["is_final"]) == (True, False)
            assert shown["energy_wh"] == 700.0
            kinds = [e["event"]["kind"] for e in (await lab.get("log"))["items"]]
            assert "session closed by status" in kinds
            # Should its own end come after all, it counts.
            if version == "1.6":
                await story.stop_16(1900, at=at())
            else:
                await story.event("Ended", "EVDeparted", reason="Local", energy_wh=1900, at=at())
            shown = await story.shown()
            assert (shown["is_estimated"], shown["energy_wh"]) == (False, 900.0)
