"""Block V of the conformance cases: tariffs and costs on OCPP 2.1 (V18-V24)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.model import Price
from csms.store import series, stations
from csms.store.statements import Tx as Unit
from tests.conformance.conftest import Lab
from tests.conformance.journey21 import Tx, energy, instant, told
from tests.conformance.raw import Answer
from tests.scenarios.world import eventually

TARIFFS = told(TariffCostCtrlr__Available="true", TariffCostCtrlr__MaxElements="40")


async def priced(lab: Lab, *eur_per_kwh: float) -> None:
    """Give the site a tariff of its own, a price for each hour from the last full one on."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)

    def work(tx: Unit) -> None:
        site = stations.get_site(tx, "main")
        rows = [
            Price(
                starts_at=start + timedelta(hours=n),
                until=start + timedelta(hours=n + 1),
                eur_per_kwh=price,
            )
            for n, price in enumerate(eur_per_kwh)
        ]
        series.upsert_prices(tx, site.tariff_id, rows)

    await lab.world.store.write(work)


async def give(lab: Lab) -> dict[str, Any]:
    found = await lab.api.post("/api/v1/stations/CS-1/tariff", json={"evse_id": 0})
    assert found.is_success, found.text
    answer: dict[str, Any] = found.json()
    return answer


async def with_tariffs(lab: Lab) -> None:
    async def claim() -> bool:
        return bool((await lab.get("stations/CS-1/abilities"))["tariffs"])

    await eventually(claim, "abilities not told")


async def test_v18_the_default_tariff_holds_prices_by_time_and_new_content_gets_a_new_id(
    lab: Lab,
) -> None:
    await priced(lab, 0.20, 0.30, 0.25)
    async with lab.station("2.1", answers={"GetVariables": TARIFFS}) as station:
        await with_tariffs(lab)
        first = await give(lab)
        assert (first["outcome"], first["status"]) == ("accepted", "Accepted")
        sent = (await station.called("SetDefaultTariff")).payload
        assert sent["evseId"] == 0
        assert sent["tariff"] == first["tariff"]
        prices = sent["tariff"]["energy"]["prices"]
        assert [p["priceKwh"] for p in prices[:3]] == [0.20, 0.30, 0.25]
        assert all(
            "startTimeOfDay" in p["conditions"] or "endTimeOfDay" in p["conditions"]
            for p in prices[:-1]
        )
        assert "conditions" not in prices[-1]
        assert (await give(lab))["tariff"]["tariffId"] == first["tariff"]["tariffId"]
        await priced(lab, 0.20, 0.31, 0.25)
        changed = await give(lab)
        assert changed["tariff"]["tariffId"] != first["tariff"]["tariffId"]


async def test_v19_a_tariff_with_too_many_elements_is_sent_again_as_one_price(lab: Lab) -> None:
    await priced(lab, 0.20, 0.30, 0.25)

    def choosy(payload: dict[str, Any]) -> dict[str, Any]:
        is_long = len(payload["tariff"]["energy"]["prices"]) > 1
        return {"status": "TooManyElements" if is_long else "Accepted"}

    answers: dict[str, Answer] = {"GetVariables": TARIFFS, "SetDefaultTariff": choosy}
    async with lab.station("2.1", answers=answers) as station:
        await with_tariffs(lab)
        outcome = await give(lab)
        assert outcome["outcome"] == "accepted"
        long, short = [c.payload["tariff"] for c in station.seen("SetDefaultTariff")]
        assert len(long["energy"]["prices"]) > 1
        site = await lab.world.store.read(lambda tx: stations.get_site(tx, "main"))
        dearest = max(0.30, site.revenue_per_kwh)
        assert short["energy"]["prices"] == [{"priceKwh": dearest}]
        assert short["tariffId"] != long["tariffId"]


async def test_v19_a_station_is_never_sent_more_elements_than_it_says_it_takes(lab: Lab) -> None:
    await priced(lab, 0.20, 0.30, 0.25)
    few = told(TariffCostCtrlr__Available="true", TariffCostCtrlr__MaxElements="2")
    async with lab.station("2.1", answers={"GetVariables": few}) as station:
        await with_tariffs(lab)
        await give(lab)
        (sent,) = [c.payload["tariff"] for c in station.seen("SetDefaultTariff")]
        assert len(sent["energy"]["prices"]) == 1


async def test_v21_the_answer_to_authorize_carries_the_drivers_tariff(lab: Lab) -> None:
    await priced(lab, 0.20, 0.30)
    card = await lab.world.driver(1)
    token = {"idToken": {"idToken": card, "type": "ISO14443"}}
    async with lab.station("2.1", answers={"GetVariables": TARIFFS}) as station:
        await with_tariffs(lab)
        tariff = (await station.call("Authorize", token))["tariff"]
        assert [p["priceKwh"] for p in tariff["energy"]["prices"][:2]] == [0.20, 0.30]
        assert "validFrom" not in tariff
        unknown = {"idToken": {"idToken": "NOBODY", "type": "Central"}}
        assert "tariff" not in await station.call("Authorize", unknown)
    async with lab.station("2.1", "CS-2") as silent:
        # A station that never said it knows tariffs is told none.
        assert "tariff" not in await silent.call("Authorize", token)


def flat(tariff_id: str, price: float) -> dict[str, Any]:
    return {
        "tariffId": tariff_id,
        "currency": "EUR",
        "energy": {"prices": [{"priceKwh": price}]},
    }


async def change(lab: Lab, tx: Tx, tariff: dict[str, Any]) -> dict[str, Any]:
    payload = {"transactionId": tx.transaction_id, "tariff": tariff}
    return await lab.command("ChangeTransactionTariff", payload)


async def terms_of(lab: Lab, tx: Tx) -> dict[str, Any]:
    found = (await lab.get("sessions"))["items"]
    session = next(s for s in found if s["transaction_id"] == tx.transaction_id)
    return {**await lab.get(f"sessions/{session['session_id']}/terms"), "flags": session["flags"]}


async def test_v22_a_tariff_that_is_refused_leaves_the_old_one(lab: Lab) -> None:
    card = await lab.world.driver(1)
    answers = {"ChangeTransactionTariff": {"status": "ConditionNotSupported"}}
    async with lab.station("2.1", answers=answers) as station:
        tx = Tx(station, card)
        await tx.started(info={"tariffId": "old"})
        outcome = await change(lab, tx, flat("new", 0.5))
        assert (outcome["outcome"], outcome["status"]) == ("rejected", "ConditionNotSupported")
        assert (await terms_of(lab, tx))["tariff_id"] == "old"


def details(total: float, *periods: tuple[str, float], energy_wh: float) -> dict[str, Any]:
    return {
        "chargingPeriods": [
            {
                "startPeriod": instant(n),
                "tariffId": tariff_id,
                "dimensions": [{"type": "Energy", "volume": wh}],
            }
            for n, (tariff_id, wh) in enumerate(periods)
        ],
        "totalCost": {
            "currency": "EUR",
            "typeOfCost": "NormalCost",
            "total": {"exclTax": total},
        },
        "totalUsage": {"energy": energy_wh, "chargingTime": 3600, "idleTime": 0},
    }


async def test_v23_a_changed_tariff_splits_the_costs_at_the_change(lab: Lab) -> None:
    card = await lab.world.driver(1)
    async with lab.station("2.1") as station:
        tx = Tx(station, card)
        await tx.started()
        assert (await change(lab, tx, flat("t-old", 0.20)))["outcome"] == "accepted"
        await tx.say("Updated", "MeterValuePeriodic", meterValue=energy(10_000))
        assert (await change(lab, tx, flat("t-new", 0.40)))["outcome"] == "accepted"
        assert (await terms_of(lab, tx))["tariff_id"] == "t-new"
        # 10 kWh at 0.20 and 5 kWh at 0.40.
        costs = details(4.00, ("t-old", 10_000), ("t-new", 5_000), energy_wh=15_000)
        await tx.say("Ended", "StopAuthorized", meterValue=energy(15_000), costDetails=costs)
        terms = await terms_of(lab, tx)
        assert (terms["costs_verdict"], terms["costs_own"]) == ("equal", "4.00")
        assert terms["costs"] == costs


@pytest.mark.parametrize(
    ("total", "sold", "verdict"),
    [
        (2.5, 10_000.0, "equal"),
        (2.51, 10_000.0, "cost_differs"),
        (2.0, 8_000.0, "energy_differs"),
    ],
)
async def test_v24_costs_are_calculated_once_more_and_flagged_where_a_cent_is_missing(
    lab: Lab, total: float, sold: float, verdict: str
) -> None:
    card = await lab.world.driver(1)
    async with lab.station("2.1") as station:
        tx = Tx(station, card)
        await tx.started()
        await change(lab, tx, flat("t-1", 0.25))
        costs = details(total, ("t-1", sold), energy_wh=sold)
        await tx.say("Ended", "StopAuthorized", meterValue=energy(10_000), costDetails=costs)
        terms = await terms_of(lab, tx)
        assert terms["costs_verdict"] == verdict
        assert ("costs_differ" in terms["flags"]) == (verdict != "equal")
        events = await lab.world.events("costs differ")
        assert len(events) == (verdict != "equal")


async def test_v24_costs_by_a_tariff_that_nobody_gave_are_flagged(lab: Lab) -> None:
    card = await lab.world.driver(1)
    async with lab.station("2.1") as station:
        tx = Tx(station, card)
        await tx.started()
        costs = details(1.0, ("of the station's own", 1_000), energy_wh=1_000)
        await tx.say("Ended", "StopAuthorized", meterValue=energy(1_000), costDetails=costs)
        assert (await terms_of(lab, tx))["costs_verdict"] == "unknown_tariff"


async def test_tariffs_are_read_and_cleared_as_the_operator_says(lab: Lab) -> None:
    held = {"tariffId": "t-1", "tariffKind": "DefaultTariff", "evseIds": [1]}
    answers: dict[str, Answer] = {
        "GetTariffs": {"status": "Accepted", "tariffAssignments": [held]},
        "ClearTariffs": {"clearTariffsResult": [{"tariffId": "t-1", "status": "Accepted"}]},
    }
    async with lab.station("2.1", answers=answers):
        outcome = await lab.command("GetTariffs", {"evseId": 0})
        assert outcome["outcome"] == "accepted"
        assert outcome["answer"]["tariffAssignments"] == [held]
        outcome = await lab.command("ClearTariffs", {"tariffIds": ["t-1"]})
        assert outcome["answer"]["clearTariffsResult"][0]["status"] == "Accepted"


async def test_v20_costs_come_from_the_centre_or_from_the_station_never_from_both(
    lab: Lab,
) -> None:
    card = await lab.world.driver(1, max_open_sessions=2)
    found = await lab.api.put(f"/api/v1/limits/{card}", json={"max_cost": 20})
    assert found.is_success
    answers: dict[str, Answer] = {
        "GetVariables": told(TariffCostCtrlr__Available="true", TxCtrlr__SupportedLimits="MaxCost")
    }
    async with lab.station("2.1", evses=2, answers=answers) as station:
        await with_tariffs(lab)
        # The switch: tariffs at the station and costs of its own, both on, then both off.
        for value in ("false", "true"):
            wanted = [
                {
                    "component": "TariffCostCtrlr",
                    "variable": "Enabled",
                    "variable_instance": part,
                    "value": value,
                }
                for part in ("Tariff", "Cost")
            ]
            body = {"variables": wanted}
            found = await lab.api.put("/api/v1/stations/CS-1/variables", json=body)
            assert found.json()["outcome"] == "accepted", found.text
            sent = station.seen("SetVariables")[-1].payload["setVariableData"]
            told_parts = {i["variable"]["instance"]: i["attributeValue"] for i in sent}
            assert told_parts == {"Tariff": value, "Cost": value}
            shown = (await lab.get("stations/CS-1/variables"))["items"]
            held = {
                (v["variable"], v["variable_instance"]): v["value"]
                for v in shown
                if v["component"] == "TariffCostCtrlr" and v["variable"] == "Enabled"
            }
            assert held == {("Enabled", "Tariff"): value, ("Enabled", "Cost"): value}
        local = Tx(station, card)
        await local.started(info={"tariffId": "t-1"})
        answer = await local.say("Updated", "MeterValuePeriodic", meterValue=energy(2_000))
        assert "totalCost" not in answer
        central = Tx(station, card, evse_id=2)
        await central.started()
        answer = await central.say("Updated", "MeterValuePeriodic", meterValue=energy(2_000))
        assert answer["totalCost"] > 0
