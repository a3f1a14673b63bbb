"""Block K and 1.6's smart charging: profiles set, reported, cleared and told as one schedule."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.commands import Schedule, SchedulePeriod, StartCharging
from csms.core.model import IdToken
from csms.settings import GatewaySettings, PlannerSettings
from tests.conformance.conftest import Lab
from tests.conformance.raw import SILENCE, RawStation, number_of
from tests.conformance.story import now_text
from tests.conformance.test_read_back import GUARDS, PLAN, holding, ids, quiet, read
from tests.conformance.test_smart_charging import ac_needs, answers, charging, tx_profile
from tests.scenarios.world import card_of, eventually, living, settings

START = "2026-03-02T16:00:00Z"


def profile(version: str, number: int, purpose: str, limit: float, **given: Any) -> dict[str, Any]:
    """Return an absolute profile of one period in a version's spelling."""
    schedule = {
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
        **({} if given.get("chargingProfileKind") == "Relative" else {"startSchedule": START}),
    }
    name = "chargingProfileId" if version == "1.6" else "id"
    return {
        name: number,
        "stackLevel": 0,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": schedule if version == "1.6" else [{"id": 1, **schedule}],
        **given,
    }


def to_set(version: str, evse_id: int, given: dict[str, Any]) -> dict[str, Any]:
    if version == "1.6":
        return {"connectorId": evse_id, "csChargingProfiles": given}
    return {"evseId": evse_id, "chargingProfile": given}


def ours(version: str) -> Any:
    return answers() if version == "2.0.1" else {}


async def settled(station: RawStation) -> None:
    """Wait until a station has its guards and nothing more comes."""
    await eventually(lambda: ids(station) >= GUARDS, "the station has no guards")
    await quiet(station)


def last_set(station: RawStation) -> dict[str, Any]:
    return station.seen("SetChargingProfile")[-1].payload


def set_by_us(station: RawStation) -> list[tuple[int, dict[str, Any]]]:
    """Return EVSE and profile of everything that was set, in either spelling."""
    found = []
    for call in station.seen("SetChargingProfile"):
        payload = call.payload
        evse_id = int(payload["connectorId"] if "connectorId" in payload else payload["evseId"])
        found.append((evse_id, payload.get("csChargingProfiles") or payload["chargingProfile"]))
    return found


def schedules_of(given: dict[str, Any]) -> list[dict[str, Any]]:
    told = given["chargingSchedule"]
    return told if isinstance(told, list) else [told]


@pytest.mark.case("K01", "K03", "S43")
async def test_k01_k03_s43_defaults_and_maximum_go_out_field_by_field(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, answers=ours(version)) as station:
        await settled(station)
        # What TASCO sets of its own accord: the station's maximum, and the EVSE's default.
        guards = {evse_id: given for evse_id, given in set_by_us(station)}
        whole = "ChargePointMaxProfile" if version == "1.6" else "ChargingStationMaxProfile"
        assert set(guards) == {0, 1}
        assert guards[0]["chargingProfilePurpose"] == whole
        assert guards[1]["chargingProfilePurpose"] == "TxDefaultProfile"
        for given in guards.values():
            assert given["chargingProfileKind"] == "Absolute"
            assert "transactionId" not in given
            (schedule,) = schedules_of(given)
            assert schedule["startSchedule"].endswith("Z")
            (period,) = schedule["chargingSchedulePeriod"]
            assert period["startPeriod"] == 0
            assert period.get("numberPhases", 3) == 3
            assert round(period["limit"], 1) == period["limit"]
        # What an operator sets goes out as it is, validity and all.
        valid = {"validFrom": START, "validTo": "2026-03-03T16:00:00Z"}
        given = profile(version, 11, "TxDefaultProfile", 6.0, stackLevel=1, **valid)
        result = await lab.command("SetChargingProfile", to_set(version, 1, given))
        assert result["outcome"] == "accepted"
        assert last_set(station) == to_set(version, 1, given)


async def test_k02_a_profile_without_its_transaction_is_refused_and_that_is_kept(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await settled(station)
        refusal = {"status": "Rejected", "statusInfo": {"reasonCode": "TxNotFound"}}
        station.answers["SetChargingProfile"] = refusal
        given = profile("2.0.1", 12, "TxProfile", 6.0, transactionId="none")
        result = await lab.command("SetChargingProfile", to_set("2.0.1", 1, given))
        assert (result["outcome"], result["status"]) == ("rejected", "Rejected")
        page = await lab.get("stations/CS-1/commands")
        (kept,) = [c for c in page["items"] if c["kind"] == "SetChargingProfile"]
        assert (kept["outcome"], kept["status"]) == ("rejected", "Rejected")


async def test_k04_a_limit_is_replaced_under_the_same_id(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await settled(station)
        for limit in (8.0, 6.0):
            given = profile("2.0.1", 11, "TxDefaultProfile", limit, stackLevel=1)
            result = await lab.command("SetChargingProfile", to_set("2.0.1", 1, given))
            assert result["outcome"] == "accepted"
        ((_, held),) = [p for p in station.profiles if number_of(p[1]) == 11]
        assert held["chargingSchedule"][0]["chargingSchedulePeriod"][0]["limit"] == 6.0
        # Our own plans are renewed likewise.
        await charging(lab, station)
        first = await tx_profile(station)
        await station.call("NotifyEVChargingNeeds", ac_needs())
        second = await tx_profile(station)
        same = ("id", "chargingProfilePurpose", "stackLevel")
        assert [first[name] for name in same] == [second[name] for name in same]
        await quiet(station)
        await read(lab)
        shown = [p for p in (await holding(lab))["reported"] if p["profile_id"] == first["id"]]
        assert len(shown) == 1


async def stray(lab: Lab, station: RawStation) -> None:
    """Leave a plan of ours at a station where nobody charges, and read it back."""
    await settled(station)
    given = profile("2.0.1", PLAN, "TxProfile", 6.0, stackLevel=1)
    station.profiles.append((1, given))
    await read(lab)
    await eventually(lambda: bool(station.seen("ClearChargingProfile")))
    (cleared,) = station.seen("ClearChargingProfile")
    assert cleared.payload == {"chargingProfileId": PLAN}


async def test_k05_what_is_reported_and_not_to_stay_is_cleared_by_its_id_alone(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await stray(lab, station)
        assert ids(station) == GUARDS
        await read(lab)
        found = await holding(lab)
        assert {p["profile_id"] for p in found["reported"]} == GUARDS
        assert found["differences"] == []


async def test_k06_a_profile_that_is_unknown_is_gone_and_no_error(lab: Lab) -> None:
    unknown = answers(ClearChargingProfile={"status": "Unknown"})
    async with lab.station("2.0.1", answers=unknown) as station:
        await stray(lab, station)

        async def is_dropped() -> bool:
            found = await holding(lab)
            return PLAN not in {p["profile_id"] for p in found["reported"]}

        await eventually(is_dropped, "our copy is still there")
        page = await lab.get("stations/CS-1/commands")
        (kept,) = [c for c in page["items"] if c["kind"] == "ClearSchedule"]
        assert (kept["outcome"], kept["status"]) == ("accepted", "Unknown")


async def test_k07_a_default_for_every_evse_names_evse_0(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await settled(station)
        given = profile("2.0.1", 13, "TxDefaultProfile", 6.0)
        result = await lab.command("SetChargingProfile", to_set("2.0.1", 0, given))
        assert result["outcome"] == "accepted"
        assert last_set(station)["evseId"] == 0


@pytest.mark.parametrize(
    ("case", "question", "found"),
    [
        ("K09", {"evseId": 0, "chargingProfile": {"chargingProfilePurpose": ""}}, {900_000}),
        ("K10", {"chargingProfile": {"stackLevel": 0}}, GUARDS | {900_002}),
        ("K11", {"chargingProfile": {"chargingProfileId": [900_001]}}, {900_001}),
        ("K12", {"evseId": 1, "chargingProfile": {"chargingLimitSource": ["CSO"]}}, {900_001}),
    ],
)
@pytest.mark.case("K09", "K10", "K11", "K12")
async def test_k09_k10_k11_k12_profiles_are_asked_for_by_one_criterion_and_reports_are_merged(
    lab: Lab, case: str, question: dict[str, Any], found: set[int]
) -> None:
    async with lab.station("2.0.1", evses=2, answers=answers()) as station:
        await eventually(lambda: ids(station) == GUARDS | {900_002})
        await quiet(station)
        if case == "K09":
            question["chargingProfile"]["chargingProfilePurpose"] = "ChargingStationMaxProfile"
        asked = {"requestId": 4711, **question}
        assert (await lab.command("GetChargingProfiles", asked))["outcome"] == "accepted"
        assert station.seen("GetChargingProfiles")[-1].payload == asked

        async def reported() -> set[int]:
            shown = (await holding(lab))["reported"]
            return {p["profile_id"] for p in shown if p["request_id"] == 4711}

        async def is_all() -> bool:
            return await reported() == found

        await eventually(is_all, f"{case}: not all that was reported is kept")


async def test_k10_our_own_question_names_no_evse_and_one_criterion(lab: Lab) -> None:
    async with lab.station("2.0.1", evses=2, answers=answers()) as station:
        await eventually(lambda: ids(station) == GUARDS | {900_002})
        await quiet(station)
        await read(lab)
        (asked,) = station.seen("GetChargingProfiles")
        assert "evseId" not in asked.payload
        assert len(asked.payload["chargingProfile"]) == 1
        shown = (await holding(lab))["reported"]
        assert {(p["evse_id"], p["profile_id"]) for p in shown} == {
            (0, 900_000),
            (1, 900_001),
            (2, 900_002),
        }
        assert {p["request_id"] for p in shown} == {asked.payload["requestId"]}


@pytest.mark.case("K13", "S45")
async def test_k13_s45_a_remote_start_brings_its_profile_without_a_transaction(
    lab: Lab, version: str
) -> None:
    action = "RemoteStartTransaction" if version == "1.6" else "RequestStartTransaction"
    async with lab.station(version, answers=ours(version)) as station:
        await settled(station)
        await lab.world.driver(1, departs_in=timedelta(hours=6), energy_kwh=20.0)
        given = profile(version, 14, "TxProfile", 8.0, chargingProfileKind="Relative")
        token: Any = card_of(1)
        asked: dict[str, Any] = {"idTag": token, "connectorId": 1, "chargingProfile": given}
        if version != "1.6":
            token = {"idToken": card_of(1), "type": "ISO14443"}
            asked = {"idToken": token, "remoteStartId": 5, "evseId": 1, "chargingProfile": given}
        assert (await lab.command(action, asked))["outcome"] == "accepted"
        assert station.seen(action)[-1].payload == asked
        # A start of our own making carries no transaction either.
        schedule = Schedule(
            profile_id=PLAN,
            stack_level=1,
            unit="A",
            starts_at=datetime.now(UTC).replace(microsecond=0),
            duration_s=3600,
            periods=(SchedulePeriod(start_s=0, limit=8.0),),
        )
        command = StartCharging(
            station_id="CS-1",
            evse_id=1,
            id_token=IdToken(value=card_of(1), kind="ISO14443"),
            remote_start_id=6,
            schedule=schedule,
        )
        _, result = await lab.world.system.care.asking.devices.run(command, asked_by="test")
        assert result.is_accepted
        sent = station.seen(action)[-1].payload["chargingProfile"]
        assert sent["chargingProfilePurpose"] == "TxProfile"
        assert "transactionId" not in sent
        (told,) = schedules_of(sent)
        assert told["chargingSchedulePeriod"][0]["startPeriod"] == 0
        # The session that follows is the one that was asked for.
        await begin(lab, station, version, remote_start_id=6)
        session = await lab.world.session()
        assert session.is_authorized
        assert version == "1.6" or session.remote_start_id == 6


async def begin(
    lab: Lab, station: RawStation, version: str, *, remote_start_id: int | None = None
) -> str:
    """Start a transaction of driver 1 on EVSE 1; return its id as the station spells it."""
    if version == "1.6":
        answer = await station.call(
            "StartTransaction",
            {"connectorId": 1, "idTag": card_of(1), "meterStart": 0, "timestamp": now_text()},
        )
        return str(answer["transactionId"])
    info: dict[str, Any] = {"transactionId": "TX-1", "chargingState": "Charging"}
    if remote_start_id is not None:
        info["remoteStartId"] = remote_start_id
    await station.call(
        "TransactionEvent",
        {
            "eventType": "Started",
            "timestamp": now_text(),
            "triggerReason": "Authorized" if remote_start_id is None else "RemoteStart",
            "seqNo": 0,
            "transactionInfo": info,
            "evse": {"id": 1, "connectorId": 1},
            "idToken": {"idToken": card_of(1), "type": "ISO14443"},
        },
    )
    return "TX-1"


def composite(version: str, evse_id: int, limit: float) -> dict[str, Any]:
    told = {
        "duration": 3600,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
    }
    if version == "1.6":
        head = {"status": "Accepted", "connectorId": evse_id, "scheduleStart": now_text()}
        return {**head, "chargingSchedule": told}
    schedule = {"evseId": evse_id, "scheduleStart": now_text(), **told}
    return {"status": "Accepted", "schedule": schedule}


@pytest.mark.parametrize("evse_id", [0, 1])
@pytest.mark.case("K14", "K15", "S46")
async def test_k14_k15_s46_the_composite_schedule_is_shown_next_to_the_plan(
    lab: Lab, version: str, evse_id: int
) -> None:
    async with lab.station(version, answers=ours(version)) as station:
        await settled(station)
        await lab.world.driver(1, departs_in=timedelta(hours=6), energy_kwh=20.0)
        await begin(lab, station, version)
        await eventually(lambda: PLAN in ids(station))
        await quiet(station)
        station.answers["GetCompositeSchedule"] = composite(version, evse_id, 6.0)
        answer = await lab.api.post(
            "/api/v1/stations/CS-1/composite-schedules",
            json={"evse_id": evse_id, "duration_s": 3600, "unit": "A"},
        )
        assert answer.json()["outcome"] == "accepted", answer.text
        place = "connectorId" if version == "1.6" else "evseId"
        asked = station.seen("GetCompositeSchedule")[-1].payload
        assert asked == {place: evse_id, "duration": 3600, "chargingRateUnit": "A"}
        found = await holding(lab)
        (shown,) = found["composites"]
        assert shown["evse_id"] == evse_id
        assert shown["schedule"]["periods"][0]["limit"] == 6.0
        assert shown["finding"]
        # Next to it stands what we gave: guards and the running plan.
        beside = {(g["evse_id"], g["profile_id"]) for g in found["given"]}
        assert beside == {(0, 900_000), (1, 900_001), (1, PLAN)}


@pytest.mark.case("K22", "S44")
async def test_k22_s44_a_plan_names_transaction_and_evse(lab: Lab, version: str) -> None:
    async with lab.station(version, answers=ours(version)) as station:
        await settled(station)
        await lab.world.driver(1, departs_in=timedelta(hours=6), energy_kwh=20.0)
        number = await begin(lab, station, version)
        await eventually(lambda: PLAN in ids(station))
        plans = [
            (e, p) for e, p in set_by_us(station) if p["chargingProfilePurpose"] == "TxProfile"
        ]
        assert plans
        for evse_id, given in plans:
            assert evse_id == 1
            assert str(given["transactionId"]) == number


async def test_k23_default_maximum_and_plan_have_ids_of_their_own(lab: Lab) -> None:
    async with lab.station("2.0.1", answers=answers()) as station:
        await settled(station)
        await charging(lab, station)
        await tx_profile(station)
        before = len(station.seen("SetChargingProfile"))
        # While the car charges, both limits are set again.
        await lab.world.system.central.devices.settle("CS-1", is_new=True)
        again = set_by_us(station)[before:]
        purposes = {p["chargingProfilePurpose"] for _, p in again}
        assert purposes >= {"TxDefaultProfile", "ChargingStationMaxProfile"}
        by_purpose: dict[str, set[int]] = {}
        for _, given in set_by_us(station):
            by_purpose.setdefault(given["chargingProfilePurpose"], set()).add(given["id"])
        assert len(by_purpose) == 3
        everything = [number for found in by_purpose.values() for number in found]
        assert len(everything) == len(set(everything))


async def test_k29_without_an_answer_the_newest_plan_follows_and_the_state_is_open_until_read_back(
    sqlite_url: str,
) -> None:
    quick = settings(
        sqlite_url,
        gateway=GatewaySettings(port=0, command_timeout_s=2.0),
        planner=PlannerSettings(collect_s=0.1, read_back_after_s=3600.0),
    )
    async with living(quick) as world, world.operator() as api:
        lab = Lab(world, api)
        async with lab.station("2.0.1", answers=answers()) as station:
            await settled(station)
            station.answers["SetChargingProfile"] = lambda _: SILENCE
            await charging(lab, station)
            first = await tx_profile(station)

            async def plan_given() -> dict[str, Any]:
                (found,) = [g for g in (await holding(lab))["given"] if g["profile_id"] == PLAN]
                return dict(found)

            assert (await plan_given())["taken_at"] is None
            # A newer wish, while the first waits for its answer.
            await world.trip(1, departs_in=timedelta(hours=1), energy_kwh=9.0)
            del station.answers["SetChargingProfile"]
            second = await tx_profile(station)
            assert second["id"] == first["id"]
            assert second["chargingSchedule"] != first["chargingSchedule"]
            newest = (await world.newest_plan()).plan_id
            installed = await eventually(plan_given)
            assert (
                installed["schedule"]["periods"][0]["limit"]
                == second["chargingSchedule"][0]["chargingSchedulePeriod"][0]["limit"]
            )
            assert newest

            async def is_taken() -> bool:
                return (await plan_given())["taken_at"] is not None

            await eventually(is_taken, "the newest plan was never taken")
            await quiet(station)
            await read(lab)
            assert (await holding(lab))["differences"] == []
            sent = [p for _, p in set_by_us(station) if p["chargingProfilePurpose"] == "TxProfile"]
            assert [p["chargingSchedule"] for p in sent].count(first["chargingSchedule"]) == 1


async def test_s47_profiles_are_cleared_by_id_by_criteria_and_all_together(lab: Lab) -> None:
    async with lab.station("1.6") as station:
        await settled(station)
        for level in (1, 2, 3):
            given = profile("1.6", 20 + level, "TxDefaultProfile", 6.0, stackLevel=level)
            result = await lab.command("SetChargingProfile", to_set("1.6", 1, given))
            assert result["outcome"] == "accepted"
        assert ids(station) == GUARDS | {21, 22, 23}
        for asked, left in (
            ({"id": 21}, GUARDS | {22, 23}),
            (
                {"connectorId": 1, "chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 2},
                GUARDS | {23},
            ),
            ({}, set()),
        ):
            result = await lab.command("ClearChargingProfile", asked)
            assert (result["outcome"], result["status"]) == ("accepted", "Accepted")
            assert station.seen("ClearChargingProfile")[-1].payload == asked
            assert ids(station) == left
