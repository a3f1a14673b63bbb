"""Block K of the conformance cases, and 1.6's smart charging: frames on a real link."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.commands import Outcome
from tests.conformance.conftest import Lab
from tests.conformance.raw import CallError, RawStation
from tests.scenarios.world import card_of, eventually

UNITS_201 = {"RateUnit": "A", "PeriodsPerSchedule": "24", "ProfileStackLevel": "8"}


def variables(**values: str) -> Any:
    """Return what answers GetVariables with these values and knows no others."""

    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        results = []
        for item in payload["getVariableData"]:
            value = values.get(item["variable"]["name"])
            result = {"component": item["component"], "variable": item["variable"]}
            status = "UnknownVariable" if value is None else "Accepted"
            result |= {"attributeStatus": status}
            results.append(result if value is None else {**result, "attributeValue": value})
        return {"getVariableResult": results}

    return answer


def answers(**given: Any) -> dict[str, Any]:
    return {"GetVariables": variables(**UNITS_201), **given}


async def charging(lab: Lab, station: RawStation, transaction: str = "TX-1") -> None:
    """Bring a car of driver 1 to EVSE 1 and start its transaction (2.0.1)."""
    await lab.world.driver(1, departs_in=timedelta(hours=6), energy_kwh=20.0)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    await station.call(
        "StatusNotification",
        {"timestamp": now, "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1},
    )
    answer = await station.call(
        "TransactionEvent",
        {
            "eventType": "Started",
            "timestamp": now,
            "triggerReason": "Authorized",
            "seqNo": 0,
            "transactionInfo": {"transactionId": transaction, "chargingState": "Charging"},
            "evse": {"id": 1, "connectorId": 1},
            "idToken": {"idToken": card_of(1), "type": "ISO14443"},
        },
    )
    assert answer["idTokenInfo"]["status"] == "Accepted"


async def tx_profile(station: RawStation) -> dict[str, Any]:
    """Return the next TxProfile that is set."""
    while True:
        call = await station.called("SetChargingProfile")
        profile: dict[str, Any] = call.payload["chargingProfile"]
        if profile["chargingProfilePurpose"] == "TxProfile":
            assert call.payload["evseId"] == 1
            return profile


def ac_needs(**given: Any) -> dict[str, Any]:
    return {
        "evseId": 1,
        "chargingNeeds": {
            "requestedEnergyTransfer": "AC_three_phase",
            "departureTime": (datetime.now(UTC) + timedelta(hours=6)).isoformat(timespec="seconds"),
            "acChargingParameters": {
                "energyAmount": 20_000,
                "evMinCurrent": 6,
                "evMaxCurrent": 16,
                "evMaxVoltage": 400,
            },
        },
        **given,
    }


def proposal(profile: dict[str, Any], more_a: float = 0.0) -> dict[str, Any]:
    """Return what the car makes of its profile: all that it allows from its start on, or more."""
    (schedule,) = profile["chargingSchedule"]
    periods = [{**p, "limit": p["limit"] + more_a} for p in schedule["chargingSchedulePeriod"]]
    return {
        "timeBase": schedule["startSchedule"],
        "evseId": 1,
        "chargingSchedule": {
            "id": 1,
            "duration": schedule["duration"],
            "chargingRateUnit": schedule["chargingRateUnit"],
            "chargingSchedulePeriod": periods,
        },
    }


async def test_k08_a_station_without_smart_charging_is_counted_as_uncontrolled(lab: Lab) -> None:
    refuses = {"SetChargingProfile": CallError("NotSupported")}
    async with lab.station("2.0.1", answers=answers(**refuses)) as station:
        await eventually(lambda: _supports(lab, expected=False), "still taken to know profiles")
        await charging(lab, station)

        async def uncontrolled() -> bool:
            known = await lab.world.plan()
            return bool(known and known[0].sessions and known[0].sessions[0].fixed_kw)

        await eventually(uncontrolled, "the car is not counted as uncontrolled")
        known = await lab.world.plan()
        assert known is not None
        assert known[0].sessions[0].fixed_kw is not None
        assert min(known[0].sessions[0].fixed_kw) == 11.0


async def _supports(lab: Lab, *, expected: bool) -> bool:
    found = await lab.get("stations/CS-1")
    return bool(found["limits"]["supports_profiles"] is expected)


async def test_k16_k17_a_limit_of_an_energy_manager_caps_the_plan_until_it_is_lifted(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)

        async def most_kw() -> float:
            known = await lab.world.plan()
            return known[0].sessions[0].max_kw if known and known[0].sessions else 0.0

        limit = {
            "evseId": 1,
            "chargingLimit": {"chargingLimitSource": "EMS", "isGridCritical": True},
            "chargingSchedule": [
                {
                    "id": 1,
                    "chargingRateUnit": "W",
                    "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 5000}],
                }
            ],
        }
        assert await station.call("NotifyChargingLimit", limit) == {}

        async def is_capped() -> bool:
            return await most_kw() == 5.0

        await eventually(is_capped, "the limit is not in the plan")
        cleared = {"chargingLimitSource": "EMS", "evseId": 1}
        assert await station.call("ClearedChargingLimit", cleared) == {}

        async def is_lifted() -> bool:
            return await most_kw() == 11.0

        await eventually(is_lifted, "the limit is not lifted")


async def test_k19_needs_are_followed_by_one_profile_and_a_schedule_within_it_is_accepted(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        asked_at = asyncio.get_running_loop().time()
        assert (await station.call("NotifyEVChargingNeeds", ac_needs()))["status"] == "Accepted"
        profile = await tx_profile(station)
        assert asyncio.get_running_loop().time() - asked_at < 60
        assert profile["transactionId"] == "TX-1"
        sent = len(station.seen("SetChargingProfile"))
        answer = await station.call("NotifyEVChargingSchedule", proposal(profile))
        assert answer["status"] == "Accepted"
        lab.world.system.replanner.touch("main", "nothing has changed")
        before = (await lab.world.newest_plan()).plan_id

        async def planned_again() -> bool:
            return bool((await lab.world.newest_plan()).plan_id > before)

        await eventually(planned_again)
        await asyncio.sleep(0.3)
        assert len(station.seen("SetChargingProfile")) == sent


async def test_k20_a_schedule_above_the_profile_is_refused_and_a_new_profile_follows(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        await station.call("NotifyEVChargingNeeds", ac_needs())
        profile = await tx_profile(station)
        answer = await station.call("NotifyEVChargingSchedule", proposal(profile, 40.0))
        assert answer["status"] == "Rejected"
        second = await tx_profile(station)
        assert second["id"] == profile["id"]
        answer = await station.call("NotifyEVChargingSchedule", proposal(second))
        assert answer["status"] == "Accepted"


async def test_k21_needs_told_again_get_a_profile_again(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        for _ in range(2):
            assert (await station.call("NotifyEVChargingNeeds", ac_needs()))["status"] == "Accepted"
            profile = await tx_profile(station)
        answer = await station.call("NotifyEVChargingSchedule", proposal(profile))
        assert answer["status"] == "Accepted"


@pytest.mark.parametrize("unit", ["A", "W"])
async def test_k27_a_car_gets_no_more_periods_than_it_can_hold(lab: Lab, unit: str) -> None:
    units = {"GetVariables": variables(**{**UNITS_201, "RateUnit": unit})}
    async with lab.station("2.0.1", answers=answers(**units)) as station:
        await charging(lab, station)
        await tx_profile(station)
        needs = ac_needs(maxScheduleTuples=3)
        assert (await station.call("NotifyEVChargingNeeds", needs))["status"] == "Accepted"
        (schedule,) = (await tx_profile(station))["chargingSchedule"]
        assert 1 <= len(schedule["chargingSchedulePeriod"]) <= 3
        assert isinstance(schedule["duration"], int)
        assert schedule["chargingRateUnit"] == unit


async def test_k27_direct_current_is_told_in_watts(lab: Lab) -> None:
    units = {"GetVariables": variables(**{**UNITS_201, "RateUnit": "A,W"})}
    async with lab.station("2.0.1", answers=answers(**units)) as station:
        await charging(lab, station)
        await tx_profile(station)
        needs = {
            "evseId": 1,
            "maxScheduleTuples": 3,
            "chargingNeeds": {
                "requestedEnergyTransfer": "DC",
                "dcChargingParameters": {
                    "evMaxCurrent": 200,
                    "evMaxVoltage": 450,
                    "energyAmount": 20_000,
                    "evMaxPower": 50_000,
                },
            },
        }
        assert (await station.call("NotifyEVChargingNeeds", needs))["status"] == "Accepted"
        (schedule,) = (await tx_profile(station))["chargingSchedule"]
        assert schedule["chargingRateUnit"] == "W"
        assert len(schedule["chargingSchedulePeriod"]) <= 3


async def test_needs_where_no_car_stands_are_rejected(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        assert (await station.call("NotifyEVChargingNeeds", ac_needs()))["status"] == "Rejected"


async def test_k18_a_profile_of_others_is_kept_apart_and_never_cleared(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        report = {
            "requestId": 7,
            "chargingLimitSource": "EMS",
            "evseId": 1,
            "chargingProfile": [
                {
                    "id": 3,
                    "stackLevel": 0,
                    "chargingProfilePurpose": "ChargingStationExternalConstraints",
                    "chargingProfileKind": "Absolute",
                    "chargingSchedule": [
                        {
                            "id": 1,
                            "chargingRateUnit": "W",
                            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 7000}],
                        }
                    ],
                }
            ],
        }
        assert await station.call("ReportChargingProfiles", report) == {}
        await charging(lab, station)
        await tx_profile(station)
        known = await lab.world.plan()
        assert known is not None
        assert known[0].sessions[0].max_kw == 7.0
        assert not station.seen("ClearChargingProfile")
        purposes = {
            c.payload["chargingProfile"]["chargingProfilePurpose"]
            for c in station.seen("SetChargingProfile")
        }
        assert "ChargingStationExternalConstraints" not in purposes


async def test_s70_a_station_that_lists_current_only_is_told_amperes(lab: Lab) -> None:
    keys = [
        {"key": "ChargingScheduleAllowedChargingRateUnit", "readonly": True, "value": "Current"}
    ]
    given = {"GetConfiguration": {"configurationKey": keys}}
    async with lab.station("1.6", answers=given) as station:
        await lab.world.driver(1, departs_in=timedelta(hours=6), energy_kwh=20.0)
        start = {
            "connectorId": 1,
            "idTag": card_of(1),
            "meterStart": 0,
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        number = (await station.call("StartTransaction", start))["transactionId"]
        while True:
            call = await station.called("SetChargingProfile")
            profile = call.payload["csChargingProfiles"]
            assert profile["chargingSchedule"]["chargingRateUnit"] == "A"
            if profile["chargingProfilePurpose"] == "TxProfile":
                break
        assert profile["transactionId"] == number
        assert {c.outcome for c in await lab.world.commands("CS-1", "SetSchedule")} <= {
            Outcome.ACCEPTED,
            None,
        }
