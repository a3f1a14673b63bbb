"""Block J of the conformance cases: meter values."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.story import CARD, Story, now_text, register

SIGNED = {
    "signedMeterData": "T0NNRnx7fXx7IlNEIjoiMzA0NCJ9",
    "signingMethod": "ECDSA-brainpoolP256r1-SHA256",
    "encodingMethod": "OCMF",
    "publicKey": "cHVibGljIGtleQ==",
}


@pytest.fixture
async def driven(lab: Lab) -> Lab:
    """A system that knows a driver."""
    await lab.world.driver(1)
    return lab


def values_201(evse_id: int, wh: float, at: str, context: str = "Sample.Clock") -> dict[str, Any]:
    return {"evseId": evse_id, "meterValue": [register(wh, context=context, at=at)]}


def values_16(connector_id: int, wh: float, at: str) -> dict[str, Any]:
    sampled = [{"value": f"{wh:g}", "context": "Sample.Clock"}]
    return {
        "connectorId": connector_id,
        "meterValue": [{"timestamp": at, "sampledValue": sampled}],
    }


@pytest.mark.case("J01", "S63")
async def test_values_outside_transactions_become_series_of_station_and_evse(
    lab: Lab, version: str
) -> None:
    values = values_16 if version == "1.6" else values_201
    async with lab.station(version, evses=2) as station:
        story = Story(lab, station)
        times = [now_text(timedelta(minutes=m)) for m in (30, 15, 0)]
        for step, at in enumerate(times):
            for evse_id in (0, 1, 2):
                payload = values(evse_id, 1000.0 * evse_id + step, at)
                assert await story.say("MeterValues", payload) == {}
            await story.told_again()
        places = (await lab.get("stations/CS-1/readings"))["items"]
        assert [p["evse_id"] for p in places] == [0, 1, 2]
        for place in places:
            found = [s["energy_wh"] for s in place["samples"]]
            assert found == [1000.0 * place["evse_id"] + step for step in range(3)]
            assert {s["context"] for s in place["samples"]} == {"Sample.Clock"}
            assert [datetime.fromisoformat(s["at"]) for s in place["samples"]] == [
                datetime.fromisoformat(at) for at in times
            ]
            assert len(place["readings"]) == 3, "a repeat was kept twice"
        assert await story.all_shown() == []


async def test_j02_clock_values_on_both_paths_count_once(driven: Lab) -> None:
    async with driven.station("2.0.1", evses=2) as station:
        story = Story(driven, station)
        await story.charge(1000)
        for wh in (1200, 1400):
            at = now_text()
            answer = await story.say("MeterValues", values_201(2, 5000, at))
            assert answer == {}
            value = register(wh, context="Sample.Clock", at=at)
            await story.event("Updated", "MeterValueClock", meterValue=[value])
            # Some stations send the running EVSE's clock values on this path as well.
            assert await story.say("MeterValues", values_201(1, wh, at)) == {}
            await story.told_again()
        shown = await story.shown()
        assert (shown["energy_wh"], shown["meter_last_wh"]) == (400.0, 1400.0)
        handle = shown["session_id"]
        samples = (await driven.get(f"sessions/{handle}/story"))["samples"]
        clocked = [s["energy_wh"] for s in samples if s["context"] == "Sample.Clock"]
        assert clocked == [1200.0, 1400.0]


@pytest.mark.case("J03", "J07")
@pytest.mark.parametrize("kind", ["Ended", "Updated"])
async def test_signed_values_are_kept_unchanged(driven: Lab, kind: str) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        signed = []
        for n in range(3):
            value = register(1100 + n, context="Sample.Clock" if kind == "Ended" else "")
            if kind == "Updated":
                value["sampledValue"][0]["context"] = "Sample.Periodic"
            value["timestamp"] = (datetime.now(UTC) + timedelta(seconds=n)).isoformat()
            value["sampledValue"][0]["signedMeterValue"] = {
                **SIGNED,
                "signedMeterData": f"{SIGNED['signedMeterData']}{n}==",
            }
            signed.append(value)
        if kind == "Ended":
            await story.event("Ended", "EVDeparted", reason="Local", meterValue=signed)
        else:
            for value in signed:
                await story.event("Updated", "MeterValuePeriodic", meterValue=[value])
        handle = (await story.shown())["session_id"]
        found = (await driven.get(f"transactions/{handle}/readings"))["items"]
        assert [r["signed"] for r in found if r["signed"]] == [
            v["sampledValue"][0]["signedMeterValue"] for v in signed
        ]
        assert (await story.shown())["meter_last_wh"] == 1102.0
        await story.told_again()


@pytest.mark.case("J03")
async def test_signed_values_of_1_6_are_kept_as_their_text(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.charging_16()
        text = 'OCMF|{"FV":"1.0","GI":"Gateway 1","PG":"T1"}|{"SD":"3044"}'
        sampled = [{"value": text, "format": "SignedData", "context": "Transaction.End"}]
        data = [{"timestamp": now_text(), "sampledValue": sampled}]
        assert await story.stop_16(1900, transactionData=data) == {}
        shown = await story.shown()
        assert shown["energy_wh"] == 900.0
        found = await driven.get(f"transactions/{shown['session_id']}/readings")
        assert [(r["signed"], r["context"]) for r in found["items"]] == [(text, "Transaction.End")]
        await story.told_again()


@pytest.mark.case("J04", "J05")
@pytest.mark.parametrize("order", ["cable first", "card first"])
async def test_the_register_at_the_beginning_is_the_start(driven: Lab, order: str) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        if order == "cable first":
            await story.plug(1234)
        else:
            await story.authorize()
            await story.event("Started", "Authorized", card=CARD, has_evse=False)
            value = register(1234, context="Transaction.Begin")
            await story.event("Updated", "CablePluggedIn", state="EVConnected", meterValue=[value])
        shown = await story.shown()
        assert (shown["meter_start_wh"], shown["energy_wh"], shown["flags"]) == (1234.0, 0.0, [])
        await story.told_again()
        await story.event("Updated", "MeterValuePeriodic", energy_wh=1334)
        assert (await story.shown())["energy_wh"] == 100.0


async def test_j06_three_periodic_values_are_three_points(driven: Lab) -> None:
    async with driven.station("2.0.1") as station:
        story = Story(driven, station)
        await story.charge(1000)
        for wh in (1100, 1200, 1300):
            await story.event("Updated", "MeterValuePeriodic", energy_wh=wh)
            await story.told_again()
        handle = (await story.shown())["session_id"]
        samples = (await driven.get(f"sessions/{handle}/story"))["samples"]
        assert [s["energy_wh"] for s in samples][-3:] == [1100.0, 1200.0, 1300.0]


PHASES = ("L1", "L2", "L3")
MEASURED = (
    ("Energy.Active.Import.Register", "Wh", 400.0),
    ("Power.Active.Import", "W", 2300.0),
    ("Power.Reactive.Import", "var", 20.0),
    ("Current.Import", "A", 10.0),
    ("Voltage", "V", 230.0),
    ("Power.Factor", "", 0.98),
)


@pytest.mark.parametrize("has_total", [False, True])
async def test_j08_phases_are_series_of_their_own(lab: Lab, has_total: bool) -> None:
    async with lab.station("2.0.1") as station:
        story = Story(lab, station)
        sampled: list[dict[str, Any]] = [
            {
                "value": value + number,
                "measurand": measurand,
                "phase": phase,
                **({"unitOfMeasure": {"unit": unit}} if unit else {}),
            }
            for measurand, unit, value in MEASURED
            for number, phase in enumerate(PHASES)
        ]
        if has_total:
            unit = {"unit": "W"}
            sampled.append(
                {"value": 6900, "measurand": "Power.Active.Import", "unitOfMeasure": unit}
            )
        payload = {"evseId": 1, "meterValue": [{"timestamp": now_text(), "sampledValue": sampled}]}
        assert await story.say("MeterValues", payload) == {}
        await story.told_again()
        (place,) = (await lab.get("stations/CS-1/readings", evse_id=1))["items"]
        (sample,) = place["samples"]
        assert sample["power_w"] == (6900.0 if has_total else 2300.0 * 3 + 3)
        assert sample["current_a"] == [10.0, 11.0, 12.0]
        series: dict[tuple[str, str], list[float]] = {}
        for reading in place["readings"]:
            series.setdefault((reading["measurand"], reading["phase"]), []).append(reading["value"])
        for measurand, _, value in MEASURED:
            for number, phase in enumerate(PHASES):
                assert series[measurand, phase] == [value + number]
