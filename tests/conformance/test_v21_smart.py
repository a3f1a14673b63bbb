"""Block V of the conformance cases: smart charging on OCPP 2.1 (V25-V34)."""

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csms.planning.dynamic import limit_at
from csms.store import plans, sessions
from csms.store.statements import Tx as Unit
from tests.conformance.conftest import Lab
from tests.conformance.journey21 import Tx, energy, told
from tests.conformance.raw import CallError, RawStation
from tests.conformance.test_v21_sessions import able, profiles, terms_of
from tests.scenarios.world import eventually
from tests.service.field import accepted

DYNAMIC = told(SmartChargingCtrlr__SupportsDynamicProfiles="true")
PRIORITY = told(SmartChargingCtrlr__SupportedAdditionalPurposes="PriorityCharging")


async def site_limit(lab: Lab, limit_kw: float) -> None:
    found = await lab.api.patch("/api/v1/sites/main", json={"limit_kw": limit_kw})
    assert found.is_success, found.text


async def charging(lab: Lab, station: RawStation, number: int = 1, **tx: Any) -> Tx:
    """Let a driver begin who stays for hours; return the transaction once it has a profile."""
    card = await lab.world.driver(number, departs_in=timedelta(hours=8), energy_kwh=30.0)
    found = Tx(station, card, **tx)
    await found.started()
    return found


async def test_v25_every_live_plan_says_how_long_it_holds_without_a_link(lab: Lab) -> None:
    async with lab.station("2.1") as station:
        await lab.world.guarded("CS-1")
        await charging(lab, station)
        await eventually(lambda: profiles(station), "no profile")
        head = await lab.world.plan()
        assert head is not None
        case, _ = head
        horizon_s = (case.edges_at[-1] - case.now_at).total_seconds()
        for profile in profiles(station):
            assert profile["invalidAfterOfflineDuration"] is True
            assert profile["maxOfflineDuration"] == pytest.approx(horizon_s, abs=30)
        for call in station.seen("SetChargingProfile"):
            if call.payload["chargingProfile"]["chargingProfilePurpose"] != "TxProfile":
                # What has to hold without us must not lapse without us.
                assert "maxOfflineDuration" not in call.payload["chargingProfile"]


async def test_v26_the_operation_mode_of_a_session_is_tracked(lab: Lab) -> None:
    async with lab.station("2.1") as station:
        tx = await charging(lab, station)
        for mode in ("ChargingOnly", "CentralSetpoint", "Idle"):
            info = {"operationMode": mode}
            assert await tx.say("Updated", "OperationModeChanged", info=info) is not None
            assert (await terms_of(lab, tx))["operation_mode"] == mode


async def test_v27_the_priority_profile_has_no_end_and_only_charges(lab: Lab) -> None:
    async with lab.station("2.1", evses=2, answers={"GetVariables": PRIORITY}) as station:

        def found() -> list[dict[str, Any]]:
            sent = [c.payload for c in station.seen("SetChargingProfile")]
            purpose = "PriorityCharging"
            return [p for p in sent if p["chargingProfile"]["chargingProfilePurpose"] == purpose]

        await eventually(lambda: len(found()) == 2, "no priority profiles")
        assert {p["evseId"] for p in found()} == {1, 2}
        for payload in found():
            (schedule,) = payload["chargingProfile"]["chargingSchedule"]
            assert "duration" not in schedule
            assert "transactionId" not in payload["chargingProfile"]
            (period,) = schedule["chargingSchedulePeriod"]
            assert period["operationMode"] == "ChargingOnly"
            # 11 kW on three phases of 230 V.
            assert period["limit"] == pytest.approx(15.9, abs=0.1)


async def test_v28_our_profile_ids_are_above_those_of_external_constraints(lab: Lab) -> None:
    known = told(
        SmartChargingCtrlr__MaxExternalConstraintsId="100",
        SmartChargingCtrlr__SupportedAdditionalPurposes="PriorityCharging",
    )
    async with lab.station("2.1", answers={"GetVariables": known}) as station:
        await lab.world.guarded("CS-1")
        await able(lab, "max_external_constraints_id")
        await charging(lab, station)
        await eventually(lambda: profiles(station), "no profile")
        ids = [c.payload["chargingProfile"]["id"] for c in station.seen("SetChargingProfile")]
        assert ids
        assert min(ids) > 100


NEEDS: dict[str, Any] = {
    "evseId": 1,
    "chargingNeeds": {
        "requestedEnergyTransfer": "AC_three_phase",
        "acChargingParameters": {
            "energyAmount": 12500.5,
            "evMinCurrent": 6,
            "evMaxCurrent": 16.5,
            "evMaxVoltage": 230,
        },
        "v2xChargingParameters": {"maxChargePower": 11000.0, "evTargetEnergyRequest": 9000.0},
        "controlMode": "ScheduledControl",
    },
}


async def test_v29_needs_with_v2x_parameters_are_followed_by_a_profile_that_only_charges(
    lab: Lab,
) -> None:
    async with lab.station("2.1") as station:
        await lab.world.guarded("CS-1")
        card = await lab.world.driver(1)
        tx = Tx(station, card)
        await tx.started()
        began = time.monotonic()
        assert (await station.call("NotifyEVChargingNeeds", NEEDS))["status"] == "Accepted"
        await eventually(lambda: profiles(station), "no profile", within_s=60)
        assert time.monotonic() - began < 60
        await eventually(lambda: in_force(lab), "its profile is not in force")
        (schedule,) = profiles(station)[-1]["chargingSchedule"]
        modes = {p.get("operationMode", "ChargingOnly") for p in schedule["chargingSchedulePeriod"]}
        assert modes == {"ChargingOnly"}
        proposal = {
            "timeBase": schedule["startSchedule"],
            "evseId": 1,
            "chargingSchedule": {
                "id": 1,
                "chargingRateUnit": schedule["chargingRateUnit"],
                "chargingSchedulePeriod": [
                    {"startPeriod": p["startPeriod"], "limit": min(p["limit"], 6.0)}
                    for p in schedule["chargingSchedulePeriod"]
                ],
            },
        }
        answer = await station.call("NotifyEVChargingSchedule", proposal)
        assert answer["status"] == "Accepted"


async def test_v30_priority_charging_leaves_the_others_what_the_site_has_left(lab: Lab) -> None:
    await site_limit(lab, 15.0)
    async with lab.station("2.1", evses=2, answers={"GetVariables": PRIORITY}) as station:
        await lab.world.guarded("CS-1")
        hurried = await charging(lab, station, 1)
        other = await charging(lab, station, 2, evse_id=2)

        def least() -> float:
            mine = [p for p in profiles(station) if p["transactionId"] == other.transaction_id]
            if not mine:
                return 99.0
            periods = mine[-1]["chargingSchedule"][0]["chargingSchedulePeriod"]
            # The last one is the guard behind the horizon.
            return max(float(p["limit"]) for p in periods[:-1] or periods)

        await eventually(lambda: least() < 99.0, "the other has no profile")
        at_start: list[float] = []

        def take(_: dict[str, Any]) -> dict[str, str]:
            at_start.append(least())
            return {"status": "Accepted"}

        station.answers["UsePriorityCharging"] = take
        outcome = await lab.command(
            "UsePriorityCharging", {"transactionId": hurried.transaction_id, "activate": True}
        )
        assert outcome["outcome"] == "accepted"
        # 15 kW less the 11 kW of the one in a hurry are 4 kW: 5.7 A, less than a car takes. The
        # other was lowered to that before the first one was let go.
        assert len(at_start) == 1
        assert at_start[0] < 5.8
        told_on = {"transactionId": hurried.transaction_id, "activated": True}
        assert await station.call("NotifyPriorityCharging", told_on) == {}
        assert (await terms_of(lab, hurried))["is_prioritised"] is True

        assert least() < 5.8
        told_off = {"transactionId": hurried.transaction_id, "activated": False}
        assert await station.call("NotifyPriorityCharging", told_off) == {}
        assert (await terms_of(lab, hurried))["is_prioritised"] is False
        await eventually(lambda: least() > 5.9, "the other got nothing back")


@pytest.mark.case("V30")
async def test_priority_is_not_begun_where_the_others_do_not_make_room(lab: Lab) -> None:
    await site_limit(lab, 15.0)
    async with lab.station("2.1", evses=2, answers={"GetVariables": PRIORITY}) as station:
        await lab.world.guarded("CS-1")
        hurried = await charging(lab, station, 1)
        await charging(lab, station, 2, evse_id=2)
        await eventually(lambda: len({p["transactionId"] for p in profiles(station)}) == 2)
        use = {"transactionId": hurried.transaction_id, "activate": True}
        station.answers["SetChargingProfile"] = {"status": "Rejected"}
        body = {"action": "UsePriorityCharging", "payload": use, "wait_s": 10}
        found = await lab.api.post("/api/v1/stations/CS-1/commands", json=body)
        assert found.status_code == 409
        assert "others not lowered" in found.text
        assert station.seen("UsePriorityCharging") == []
        assert (await terms_of(lab, hurried))["is_prioritised"] is False


@contextlib.asynccontextmanager
async def asking(lab: Lab, **options: Any) -> Any:
    """A station that takes dynamic profiles, with one transaction that has its profile."""
    async with lab.station("2.1", answers={"GetVariables": DYNAMIC}, **options) as station:
        await lab.world.guarded("CS-1")
        await able(lab, "dynamic_profiles")
        found = await lab.api.put("/api/v1/stations/CS-1/dynamic", params={"every_s": 60})
        assert found.is_success, found.text
        tx = await charging(lab, station)
        await eventually(lambda: profiles(station), "no profile")
        yield station, tx


async def in_force(lab: Lab) -> float | None:
    """The limit of now of the only session, as it was accepted; None before it was."""
    session = await lab.world.session()
    number = session.session_id
    found = (await lab.world.store.read(lambda tx: accepted(tx, [number]))).get(number)
    return None if found is None else limit_at(found.schedule, lab.world.clock.now()).limit


async def test_v31_a_pull_is_answered_with_the_limit_of_the_plan_in_force(lab: Lab) -> None:
    async with asking(lab) as (station, tx):
        profile = profiles(station)[-1]
        assert profile["chargingProfileKind"] == "Dynamic"
        assert profile["dynUpdateInterval"] == 60
        assert profile["transactionId"] == tx.transaction_id
        (schedule,) = profile["chargingSchedule"]
        (period,) = schedule["chargingSchedulePeriod"]
        assert period["startPeriod"] == 0
        assert "duration" not in schedule

        async def answered() -> bool:
            ask = {"chargingProfileId": profile["id"]}
            answer = await station.call("PullDynamicScheduleUpdate", ask)
            limit = await in_force(lab)
            expected = {"status": "Accepted", "scheduleUpdate": {"limit": limit}}
            return limit is not None and bool(answer == expected)

        await eventually(answered, "no limit")
        for other in (profile["id"] + 1, 900_001, 5):
            answer = await station.call("PullDynamicScheduleUpdate", {"chargingProfileId": other})
            assert answer["status"] == "Rejected"
        await tx.say("Ended", "EVDeparted", meterValue=energy(100))
        ask = {"chargingProfileId": profile["id"]}
        assert (await station.call("PullDynamicScheduleUpdate", ask))["status"] == "Rejected"


async def test_v31_a_profile_of_another_kind_is_not_pulled(lab: Lab) -> None:
    async with lab.station("2.1") as station:
        await lab.world.guarded("CS-1")
        await charging(lab, station)
        await eventually(lambda: profiles(station), "no profile")
        ask = {"chargingProfileId": profiles(station)[-1]["id"]}
        assert (await station.call("PullDynamicScheduleUpdate", ask))["status"] == "Rejected"
        found = await lab.api.put("/api/v1/stations/CS-1/dynamic", params={"every_s": 60})
        assert found.status_code == 409


async def test_v32_a_car_that_gets_no_profile_is_told_so_and_charges_within_the_guard(
    lab: Lab,
) -> None:
    async with lab.station("2.1") as station:
        await lab.world.guarded("CS-1")
        guards = [
            c.payload["chargingProfile"]["chargingProfilePurpose"]
            for c in station.seen("SetChargingProfile")
        ]
        assert {"ChargingStationMaxProfile", "TxDefaultProfile"} <= set(guards)
        await lab.world.system.enrolment.change_station("CS-1", {"automation": False}, by="test")
        card = await lab.world.driver(1)
        await Tx(station, card).started()
        needs = {
            **NEEDS,
            "chargingNeeds": {**NEEDS["chargingNeeds"], "controlMode": "DynamicControl"},
        }  # type: ignore[dict-item]
        answer = await station.call("NotifyEVChargingNeeds", needs)
        assert answer["status"] == "NoChargingProfile"
        head = await lab.world.newest_plan()
        lab.world.system.replanner.touch("main", "test")

        async def is_planned() -> bool:
            newest = await lab.world.newest_plan()
            return newest is not None and (head is None or newest.plan_id > head.plan_id)

        await eventually(is_planned, "no plan")
        assert profiles(station) == []


async def test_v33_the_plan_moves_by_update_and_the_newest_wins(lab: Lab) -> None:
    async with asking(lab) as (station, _):
        profile = profiles(station)[-1]
        before = len(profiles(station))
        for limit_kw in (8.0, 5.0, 7.0):
            await site_limit(lab, limit_kw)
        # 7 kW are 10.1 A on three phases.
        await eventually(
            lambda: (
                station.seen("UpdateDynamicSchedule")
                and station.seen("UpdateDynamicSchedule")[-1].payload["scheduleUpdate"]["limit"]
                <= 10.2
            ),
            "no update",
        )
        for call in station.seen("UpdateDynamicSchedule"):
            assert call.payload["chargingProfileId"] == profile["id"]
        assert len(profiles(station)) == before
        last = station.seen("UpdateDynamicSchedule")[-1].payload["scheduleUpdate"]["limit"]
        await eventually(lambda: _is(lab, last), "the newest is not in force")


async def _is(lab: Lab, limit: float) -> bool:
    return await in_force(lab) == limit


async def test_v33_a_station_that_lost_its_profile_is_given_it_once_more(lab: Lab) -> None:
    async with asking(lab) as (station, _):
        station.answers["UpdateDynamicSchedule"] = {"status": "Rejected"}
        before = len(profiles(station))
        await site_limit(lab, 6.0)
        await eventually(lambda: len(profiles(station)) > before, "profile not given again")
        assert profiles(station)[-1]["chargingProfileKind"] == "Dynamic"


async def test_v33_stations_without_dynamic_profiles_are_never_sent_an_update(lab: Lab) -> None:
    refused = CallError("NotSupported")
    async with lab.station("2.1", answers={"UpdateDynamicSchedule": refused}) as station:
        await lab.world.guarded("CS-1")
        await charging(lab, station)
        await eventually(lambda: profiles(station), "no profile")
        before = len(profiles(station))
        await site_limit(lab, 6.0)
        await eventually(lambda: len(profiles(station)) > before, "plan not moved")
        assert station.seen("UpdateDynamicSchedule") == []


async def test_v34_a_storm_of_pulls_is_answered_without_planning(lab: Lab) -> None:
    # Enough for every station's guard: the one car keeps its power while the others register.
    await site_limit(lab, 20_000.0)
    async with asking(lab) as (station, _), contextlib.AsyncExitStack() as stack:
        others = []
        for number in range(500):
            other = await stack.enter_async_context(lab.station("2.1", f"S-{number}", boots=False))
            others.append(other)
        await eventually(lambda: in_force(lab), "no limit")
        own_id, limit = profiles(station)[-1]["id"], await in_force(lab)
        # Each of the others has a dynamic profile of its own, as the first one's is.
        await lab.world.store.write(lambda tx: _live_profiles(tx, own_id, len(others)))
        newest = (await lab.world.newest_plan()).plan_id

        async def pull(asked: RawStation, profile_id: int) -> dict[str, Any]:
            ask = {"chargingProfileId": profile_id}
            return await asked.call("PullDynamicScheduleUpdate", ask)

        found = await asyncio.gather(
            pull(station, own_id), *(pull(s, own_id + 1 + n) for n, s in enumerate(others))
        )
        assert found == [{"status": "Accepted", "scheduleUpdate": {"limit": limit}}] * 501
        assert (await lab.world.newest_plan()).plan_id <= newest + 1


def _live_profiles(tx: Unit, own_id: int, count: int) -> None:
    """Give stations S-0 and on an open session each, with the dynamic profile of the first one."""
    (model,) = sessions.open_sessions_of_site(tx, "main")
    installed = accepted(tx, [model.session_id])[model.session_id]
    for number in range(count):
        session = sessions.open_session(
            tx,
            replace(
                model,
                session_id=f"storm-{number}",
                station_id=f"S-{number}",
                transaction_id=f"storm-tx-{number}",
            ),
        )
        profile_id = own_id + 1 + number
        schedule = replace(installed.schedule, profile_id=profile_id)
        mine = replace(
            installed,
            session_id=session.session_id,
            profile_id=profile_id,
            schedule=schedule,
            command_id=None,
        )
        plans.insert_installed(tx, mine)
