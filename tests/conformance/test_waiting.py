"""Commands to stations that are away, late answers, and what is never sent late (X12, R29)."""

from typing import Any

import pytest

from csms.core.commands import Outcome
from csms.core.model import LinkState
from csms.store import stations
from tests.conformance.conftest import Lab
from tests.conformance.raw import SILENCE
from tests.scenarios.world import eventually

PROFILE = {
    "1.6": {
        "connectorId": 1,
        "csChargingProfiles": {
            "chargingProfileId": 7,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": {
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16}],
            },
        },
    },
    "2.0.1": {
        "evseId": 1,
        "chargingProfile": {
            "id": 7,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": [
                {
                    "id": 1,
                    "chargingRateUnit": "A",
                    "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16}],
                }
            ],
        },
    },
}


async def away(lab: Lab, station_id: str = "CS-1") -> None:
    """Wait until the station's link is gone on record."""

    async def gone() -> bool:
        found = await lab.world.store.read(lambda tx: stations.get_station(tx, station_id))
        return found.link_state is LinkState.OFFLINE

    await eventually(gone, "the link is still there")


async def ask(lab: Lab, action: str, payload: Any, **given: Any) -> Any:
    return await lab.api.post(
        "/api/v1/stations/CS-1/commands", json={"action": action, "payload": payload, **given}
    )


async def test_x12_a_command_waits_for_its_station_and_is_sent_once(lab: Lab, version: str) -> None:
    async with lab.station(version):
        pass
    await away(lab)

    refused = await ask(lab, "ClearCache", {})
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (
        409,
        "station-offline",
    )
    kept = await ask(lab, "ClearCache", {}, expires_s=600)
    assert kept.json()["outcome"] == "waiting"
    assert kept.json()["expires_at"]
    taken_back = await ask(lab, "GetLocalListVersion", {}, expires_s=600)
    path = f"/api/v1/stations/CS-1/commands/{taken_back.json()['command_id']}"
    assert (await lab.api.delete(path)).json()["outcome"] == "cancelled"
    assert (await lab.api.delete(path)).status_code == 409

    async with lab.station(version) as station:
        await station.called("ClearCache")
        shown = f"stations/CS-1/commands/{kept.json()['command_id']}"

        async def accepted() -> bool:
            return bool((await lab.get(shown))["outcome"] == "accepted")

        await eventually(accepted, "the outcome is not on record")
        assert (await lab.get(shown))["sent_at"]
        assert not station.seen("GetLocalListVersion")
    await away(lab)
    async with lab.station(version) as station:
        await station.call("Heartbeat", {})
        await lab.command("GetLocalListVersion", {})
        assert not station.seen("ClearCache")


async def test_x12_a_charging_profile_never_waits(lab: Lab, version: str) -> None:
    async with lab.station(version):
        pass
    await away(lab)
    for action, payload in (
        ("SetChargingProfile", PROFILE[version]),
        (
            "RemoteStartTransaction" if version == "1.6" else "RequestStartTransaction",
            {"chargingProfile": {}},
        ),
    ):
        refused = await ask(lab, action, payload, expires_s=600)
        assert refused.status_code == 422
        assert "cannot wait" in refused.json()["detail"]
    for expires_s in (0, -1, 40 * 86400, "soon", True):
        assert (await ask(lab, "ClearCache", {}, expires_s=expires_s)).status_code == 422


async def test_x12_a_command_whose_time_is_over_is_never_sent(lab: Lab) -> None:
    async with lab.station("1.6"):
        pass
    await away(lab)
    kept = await ask(lab, "ClearCache", {}, expires_s=0.05)

    async def over() -> bool:
        await lab.world.system.waiting.expire()
        (record,) = await lab.world.commands("CS-1", "ClearCache")
        return record.outcome is Outcome.EXPIRED

    await eventually(over, "the command does not expire")
    (event,) = await lab.world.events("command expired")
    assert event.event.detail["command_id"] == kept.json()["command_id"]
    async with lab.station("1.6") as station:
        await lab.command("GetLocalListVersion", {})
        assert not station.seen("ClearCache")


@pytest.mark.case("R29")
async def test_r29_an_answer_that_comes_late_is_recorded_as_late(lab: Lab, version: str) -> None:
    async with lab.station(version, answers={"ClearCache": lambda _: SILENCE}) as station:
        outcome = await lab.command("ClearCache", {}, wait_s=0.2)
        assert outcome["outcome"] == "no_answer"
        call = await station.called("ClearCache")
        assert (await lab.command("GetLocalListVersion", {}))["outcome"] == "accepted"
        await station.send([3, call.message_id, {"status": "Rejected"}])
        shown = f"stations/CS-1/commands/{outcome['command_id']}"

        async def late() -> bool:
            return bool((await lab.get(shown))["outcome"] == "late")

        await eventually(late, "the late answer is not on record")
        assert (await lab.get(shown))["answer"] == {"status": "Rejected"}


async def test_what_was_sent_without_waiting_shows_its_answer_later(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        outcome = await lab.command("ClearCache", {}, wait_s=0)
        assert outcome["outcome"] == "sent"
        await station.called("ClearCache")

        async def accepted() -> bool:
            (record,) = await lab.world.commands("CS-1", "ClearCache")
            return record.outcome is Outcome.ACCEPTED

        await eventually(accepted, "the answer is not on record")
