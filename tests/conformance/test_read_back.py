"""What stations say they hold is read back, compared with what they were given, and mended."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import CallError, RawStation, number_of
from tests.conformance.test_smart_charging import answers, charging, tx_profile, variables
from tests.scenarios.world import card_of, eventually

GUARDS = {900_000, 900_001}
PLAN = 1_000_001


async def holding(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = await lab.get("stations/CS-1/profiles")
    return found


async def read(lab: Lab) -> None:
    """Read CS-1 back by the API, and wait until its report is compared."""
    before = (await holding(lab))["read_at"]
    answer = await lab.api.post("/api/v1/stations/CS-1/profiles/read", json={})
    assert answer.is_success, answer.text

    async def is_compared() -> bool:
        return bool((await holding(lab))["read_at"] != before)

    await eventually(is_compared, "no report was compared")


async def quiet(station: RawStation) -> None:
    """Wait until nothing has been sent for a second."""
    while True:
        before = len(station.calls)
        await asyncio.sleep(1.0)
        if len(station.calls) == before:
            return


def ids(station: RawStation) -> set[int]:
    return {number_of(profile) for _, profile in station.profiles}


@pytest.mark.case("K30")
async def test_k30_after_a_reboot_guards_and_running_plan_are_sent_again_and_verified(
    reading_lab: Lab,
) -> None:
    lab = reading_lab
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        await eventually(lambda: ids(station) == GUARDS | {PLAN})
        await quiet(station)
        station.profiles.clear()
        began = asyncio.get_running_loop().time()
        await station.boot(reason="RemoteReset")
        await eventually(lambda: ids(station) == GUARDS | {PLAN}, "not all was sent again")

        async def is_verified() -> bool:
            found = await holding(lab)
            return bool(found["read_at"]) and found["differences"] == []

        await eventually(is_verified, "what was sent is not verified", within_s=60)
        assert asyncio.get_running_loop().time() - began < 60


async def test_what_a_station_lost_without_a_boot_is_found_and_sent_again(
    reading_lab: Lab,
) -> None:
    lab = reading_lab
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        await eventually(lambda: ids(station) == GUARDS | {PLAN})
        await quiet(station)
        station.profiles = [p for p in station.profiles if number_of(p[1]) == 900_000]
        await read(lab)
        await eventually(lambda: ids(station) == GUARDS | {PLAN}, "not all was sent again")
        (event, *_) = await lab.world.events("profiles differ")
        told = {(p["profile_id"], p["is"]) for p in event.event.detail["profiles"]}
        assert told == {(900_001, "missing"), (PLAN, "missing")}


async def test_another_limit_than_ours_is_replaced_by_ours(reading_lab: Lab) -> None:
    lab = reading_lab
    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        await quiet(station)
        ((evse_id, held),) = [p for p in station.profiles if number_of(p[1]) == PLAN]
        (schedule,) = held["chargingSchedule"]
        more = [{**p, "limit": p["limit"] + 5} for p in schedule["chargingSchedulePeriod"]]
        altered = {**held, "chargingSchedule": [{**schedule, "chargingSchedulePeriod": more}]}
        station.profiles = [p for p in station.profiles if number_of(p[1]) != PLAN]
        station.profiles.append((evse_id, altered))
        await read(lab)

        def is_ours_again() -> bool:
            ((_, now),) = [p for p in station.profiles if number_of(p[1]) == PLAN]
            return now is not altered

        await eventually(is_ours_again, "the station's limit stayed")
        (event, *_) = await lab.world.events("profiles differ")
        assert "allows more" in event.event.detail["profiles"][0]["why"]


async def test_ours_that_nobody_charges_by_is_cleared_and_mending_comes_to_an_end(
    reading_lab: Lab,
) -> None:
    lab = reading_lab
    # This one never lets go of a profile, whatever it says.
    keeps = answers(ClearChargingProfile={"status": "Accepted"})
    async with lab.station("2.0.1", answers=keeps) as station:
        await eventually(lambda: ids(station) == GUARDS)
        await quiet(station)
        ((evse_id, guard),) = [p for p in station.profiles if number_of(p[1]) == 900_001]
        stray = {**guard, "id": PLAN, "chargingProfilePurpose": "TxProfile"}
        theirs = {**guard, "id": 7, "stackLevel": 1}
        station.profiles += [(evse_id, stray), (evse_id, theirs)]
        await read(lab)
        await eventually(lambda: bool(station.seen("ClearChargingProfile")))
        await eventually(lambda: lab.world.events("profiles differ still"), within_s=30)
        await quiet(station)
        cleared = [c.payload for c in station.seen("ClearChargingProfile")]
        assert cleared == [{"chargingProfileId": PLAN}] * len(cleared)
        assert len(cleared) == 2
        owners = {p["profile_id"]: p["owner"] for p in (await holding(lab))["reported"]}
        assert owners[7] == "other"
        assert owners[900_001] == "tasco"


@pytest.mark.case("K18")
async def test_k18_external_constraints_read_back_are_kept_apart_and_never_cleared(
    reading_lab: Lab,
) -> None:
    lab = reading_lab
    theirs = {
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

    async with lab.station("2.0.1", answers=answers()) as station:
        await charging(lab, station)
        await tx_profile(station)
        await quiet(station)
        station.profiles.append((1, theirs))
        await read(lab)
        question = station.seen("GetChargingProfiles")[-1].payload
        assert "evseId" not in question
        assert set(question["chargingProfile"]) == {"chargingLimitSource"}

        async def is_capped() -> bool:
            known = await lab.world.plan()
            return known is not None and known[0].sessions[0].max_kw == 7.0

        await eventually(is_capped, "the limit of others is not in the plan")
        found = await holding(lab)
        (outside,) = [p for p in found["reported"] if p["owner"] == "outside"]
        assert (outside["profile_id"], outside["evse_id"]) == (3, 1)
        assert found["differences"] == []
        assert not station.seen("ClearChargingProfile")
        # Lifted by whoever set it, it is gone from the plan with the next report.
        station.profiles = [p for p in station.profiles if p[1] is not theirs]
        await read(lab)

        async def is_lifted() -> bool:
            known = await lab.world.plan()
            return known is not None and known[0].sessions[0].max_kw == 11.0

        await eventually(is_lifted, "the limit of others is still in the plan")


def composite_16(limit: float, *, unit: str = "A", starts_in_s: int = 0) -> dict[str, Any]:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=starts_in_s)
    return {
        "status": "Accepted",
        "connectorId": 1,
        "scheduleStart": start.isoformat().replace("+00:00", "Z"),
        "chargingSchedule": {
            "duration": 3600,
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
        },
    }


async def on_16(lab: Lab, station: RawStation) -> None:
    """Begin a session on a 1.6 station, and wait until all is sent."""
    await lab.world.driver(1, departs_in=timedelta(hours=6), energy_kwh=20.0)
    start = {
        "connectorId": 1,
        "idTag": card_of(1),
        "meterStart": 0,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    await station.call("StartTransaction", start)
    await eventually(lambda: PLAN in ids(station))
    await quiet(station)


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        ({"status": "Accepted"}, "tells nothing"),
        ({**composite_16(0), "chargingSchedule": {}}, "tells nothing"),
        (composite_16(-1), "tells nothing"),
        (composite_16(48), "allows more"),
        ({"status": "Rejected"}, "tells nothing"),
    ],
)
async def test_odd_composite_schedules_are_shown_and_do_no_harm(
    reading_lab: Lab, answer: dict[str, Any], finding: str
) -> None:
    lab = reading_lab
    if answer.get("chargingSchedule") == {}:
        # With an empty list of periods, which the schema allows.
        answer["chargingSchedule"] = {"chargingRateUnit": "A", "chargingSchedulePeriod": []}
    async with lab.station("1.6", answers={"GetCompositeSchedule": answer}) as station:
        await on_16(lab, station)
        await lab.api.post("/api/v1/stations/CS-1/profiles/read", json={})
        found = await holding(lab)
        (composite,) = found["composites"]
        assert composite["finding"].startswith(finding)
        await quiet(station)
        # A default told whatever is in force is not believed for ever.
        sent = len(station.seen("SetChargingProfile"))
        await lab.api.post("/api/v1/stations/CS-1/profiles/read", json={})
        await quiet(station)
        assert len(station.seen("SetChargingProfile")) == sent
        assert PLAN in ids(station)


async def test_a_composite_schedule_above_ours_brings_the_plan_again(reading_lab: Lab) -> None:
    lab = reading_lab
    told = {"answer": composite_16(6)}

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        return told["answer"]

    async with lab.station("1.6", answers={"GetCompositeSchedule": answer}) as station:
        await on_16(lab, station)
        sent = len(station.seen("SetChargingProfile"))
        told["answer"] = composite_16(32)
        await lab.api.post("/api/v1/stations/CS-1/profiles/read", json={})
        told["answer"] = {"status": "Accepted"}

        def is_again() -> bool:
            again = [c.payload["csChargingProfiles"] for c in station.seen("SetChargingProfile")]
            return any(number_of(p) == PLAN for p in again[sent:])

        await eventually(is_again, "the plan was not sent again")


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_station_that_cannot_be_read_is_asked_once_on_a_link(
    reading_lab: Lab, version: str
) -> None:
    lab = reading_lab
    refuses = {
        "GetChargingProfiles": CallError("NotSupported"),
        "GetCompositeSchedule": CallError("NotSupported"),
    }
    if version == "2.0.1":
        refuses["GetVariables"] = variables(RateUnit="A")
    async with lab.station(version, answers=refuses) as station:
        await eventually(lambda: bool(station.seen("GetCompositeSchedule")))
        await lab.world.system.central.read_back.look("CS-1", asked_by="tasco")
        assert len(station.seen("GetCompositeSchedule")) == 1
        assert len(station.seen("GetChargingProfiles")) == (0 if version == "1.6" else 1)
