"""Block I of the conformance cases: tariff and cost."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import Answer
from tests.conformance.story import Story
from tests.scenarios.world import eventually, living, settings

EUR_PER_KWH = 0.4


@contextlib.asynccontextmanager
async def priced(sqlite_url: str) -> AsyncIterator[Lab]:
    """A system whose operator set a tariff."""
    tariff = {"default": {"type": "fixed", "eur_per_kwh": EUR_PER_KWH}}
    async with living(settings(sqlite_url, tariff=tariff)) as world, world.operator() as api:
        await eventually(lambda: _has_prices(Lab(world, api)), "no prices")
        await world.driver(1)
        yield Lab(world, api)


async def _has_prices(lab: Lab) -> bool:
    return bool((await lab.get("prices", site_id="main"))["items"])


def shows_cost(shown: str) -> dict[str, Answer]:
    """Answers of a station whose TariffCostCtrlr says `shown` of costs."""

    def variables(payload: dict[str, list[dict[str, object]]]) -> dict[str, object]:
        results = []
        for item in payload["getVariableData"]:
            is_cost = item["component"] == {"name": "TariffCostCtrlr"}
            results.append(
                {
                    **item,
                    "attributeStatus": "Accepted" if is_cost else "UnknownVariable",
                    **({"attributeValue": shown} if is_cost else {}),
                }
            )
        return {"getVariableResult": results}

    return {"GetVariables": variables}


async def test_i01_the_running_cost_reaches_a_station_that_shows_it(sqlite_url: str) -> None:
    async with (
        priced(sqlite_url) as lab,
        lab.station("2.0.1", answers=shows_cost("true")) as station,
    ):
        story = Story(lab, station)
        await story.charge(1000)
        told = []
        for energy_wh in (2000, 3500):
            await story.event("Updated", "MeterValuePeriodic", energy_wh=energy_wh)
            call = await station.called("CostUpdated")
            assert call.payload["transactionId"] == story.transaction_id
            told.append(call.payload["totalCost"])
        assert told == [pytest.approx(0.4), pytest.approx(1.0)]
        assert len(station.seen("CostUpdated")) == 2, "the same cost was told again"
        await story.told_again()


@pytest.mark.case("I01")
async def test_a_station_that_shows_no_costs_is_told_none(sqlite_url: str) -> None:
    async with (
        priced(sqlite_url) as lab,
        lab.station("2.0.1", answers=shows_cost("false")) as station,
    ):
        story = Story(lab, station)
        await story.charge(1000)
        await story.event("Updated", "MeterValuePeriodic", energy_wh=2000)
        await eventually(lambda: _asked_about_costs(station.calls), "it was not asked")
        await story.event("Updated", "MeterValuePeriodic", energy_wh=3000)
        await lab.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert station.seen("CostUpdated") == []


def _asked_about_costs(calls: list[object]) -> bool:
    return any("TariffCostCtrlr" in str(call) for call in calls)


@pytest.mark.case("I02", "I03")
async def test_the_end_is_answered_with_the_cost_and_so_is_its_repeat(sqlite_url: str) -> None:
    async with priced(sqlite_url) as lab:
        await ended_with_cost(lab)


async def ended_with_cost(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        story = Story(lab, station)
        await story.charge(1000)
        assert "totalCost" not in await story.event("Updated", "MeterValuePeriodic", energy_wh=1500)
        answer = await story.event("Ended", "EVDeparted", reason="EVDisconnected", energy_wh=2000)
        assert answer["totalCost"] == pytest.approx(EUR_PER_KWH)
        # The answer was lost with the link; the station says it again on the next one.
        await story.told_again()
        shown = await story.shown()
        assert shown["total_cost"] == pytest.approx(EUR_PER_KWH)
    async with lab.station("2.0.1", boots=False) as station:
        story.station = station
        await story.told_again()


async def test_i04_without_a_tariff_no_cost_is_told(lab: Lab) -> None:
    await lab.world.driver(1)
    async with lab.station("2.0.1", answers=shows_cost("true")) as station:
        story = Story(lab, station)
        await story.charge(1000)
        await story.event("Updated", "MeterValuePeriodic", energy_wh=2000)
        answer = await story.event("Ended", "EVDeparted", reason="Local", energy_wh=3000)
        assert "totalCost" not in answer
        assert (await story.shown())["total_cost"] is None
        assert station.seen("CostUpdated") == []
        await story.told_again()
