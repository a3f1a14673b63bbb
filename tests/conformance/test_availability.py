"""Block G of the conformance cases: what may be used, what is said of it, and who is silent."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.clock import Clock
from tests.conformance.conftest import Lab
from tests.conformance.devices import (
    charge,
    do,
    end,
    evse,
    lab_with,
    status,
    variable,
    when,
)
from tests.scenarios.world import eventually


async def device(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = await lab.get("stations/CS-1/device")
    return found


async def make(lab: Lab, *, is_operative: bool, **where: int) -> dict[str, Any]:
    return await do(lab, "PUT", "stations/CS-1/availability", is_operative=is_operative, **where)


@pytest.mark.case("G01", "G02")
async def test_g01_an_evse_is_taken_out_of_use_and_back_and_both_states_are_kept(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, automation=False, evses=2) as station:
        for is_operative, word in ((False, "Unavailable"), (True, "Available")):
            outcome = await make(lab, is_operative=is_operative, evse_id=1)
            assert (outcome["outcome"], outcome["status"]) == ("accepted", "Accepted")
            call = await station.called("ChangeAvailability")
            said = "Operative" if is_operative else "Inoperative"
            if version == "1.6":
                assert call.payload == {"connectorId": 1, "type": said}
            else:
                assert call.payload == {"operationalStatus": said, "evse": {"id": 1}}
            shown = await device(lab)
            (asked,) = shown["availability"]
            assert (asked["evse_id"], asked["is_operative"]) == (1, is_operative)
            assert (asked["status"], asked["asked_by"]) == ("Accepted", "operator test")
            await status(station, word)
            assert (await evse(lab, 1))["status"] == word
            (reported,) = (await device(lab))["connectors"]
            assert (reported["evse_id"], reported["status"]) == (1, word)


@pytest.mark.case("G03", "G04")
async def test_g03_a_whole_station_is_taken_out_of_use_and_back(lab: Lab, version: str) -> None:
    async with lab.station(version, automation=False, evses=2) as station:
        await make(lab, is_operative=False, evse_id=2)
        await station.called("ChangeAvailability")
        for is_operative, word in ((False, "Unavailable"), (True, "Available")):
            assert (await make(lab, is_operative=is_operative))["outcome"] == "accepted"
            call = await station.called("ChangeAvailability")
            said = "Operative" if is_operative else "Inoperative"
            if version == "1.6":
                assert call.payload == {"connectorId": 0, "type": said}
            else:
                assert call.payload == {"operationalStatus": said}
            for evse_id in (1, 2):
                await status(station, word, evse_id)
            shown = await device(lab)
            assert [c["status"] for c in shown["connectors"]] == [word, word]
            # What was asked of one EVSE is settled by what is asked of all.
            (asked,) = shown["availability"]
            assert (asked["evse_id"], asked["is_operative"]) == (0, is_operative)


async def test_g05_one_connector_is_named_with_its_evse(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        assert (await make(lab, is_operative=True, evse_id=1, connector_id=2))["outcome"]
        call = await station.called("ChangeAvailability")
        assert call.payload == {
            "operationalStatus": "Operative",
            "evse": {"id": 1, "connectorId": 2},
        }
        (asked,) = (await device(lab))["availability"]
    assert (asked["evse_id"], asked["connector_id"]) == (1, 2)


async def test_g06_what_is_scheduled_is_shown_so_until_the_session_ends(lab: Lab) -> None:
    answer = {"status": "Scheduled"}
    async with lab.station(
        "2.0.1", automation=False, answers={"ChangeAvailability": answer}
    ) as station:
        transaction_id = await charge(lab, station)
        outcome = await make(lab, is_operative=False, evse_id=1)
        assert (outcome["outcome"], outcome["status"]) == ("accepted", "Scheduled")
        (asked,) = (await device(lab))["availability"]
        assert (asked["status"], asked["is_operative"]) == ("Scheduled", False)
        assert (await evse(lab))["status"] == "Occupied"
        (session,) = await lab.world.sessions()
        assert session.ended_at is None
        await end(station, transaction_id, "EVDisconnected")
        await status(station, "Unavailable")
        (asked,) = (await device(lab))["availability"]
        assert (asked["status"], asked["is_operative"]) == ("Accepted", False)
        assert (await evse(lab))["status"] == "Unavailable"
        (session,) = await lab.world.sessions()
    assert (session.stop_reason, session.energy_wh) == ("EVDisconnected", 2000.0)


def noticed(name: dict[str, Any], value: str, **more: Any) -> dict[str, Any]:
    given = {
        "eventId": 1,
        "timestamp": when(),
        "trigger": "Delta",
        "actualValue": value,
        "eventNotificationType": "HardWiredNotification",
        **name,
        **more,
    }
    return {"generatedAt": when(), "seqNo": 0, "eventData": [given]}


async def test_g07_a_lock_with_a_problem_is_an_alert_on_its_connector(lab: Lab) -> None:
    lock = variable("ConnectorPlugRetentionLock", "Problem", 1, 2)
    async with lab.station("2.0.1", automation=False) as station:
        assert await station.call("NotifyEvent", noticed(lock, "true")) == {}
        (alert,) = (await lab.get("alerts", is_open=True))["items"]
        assert (alert["station_id"], alert["evse_id"], alert["connector_id"]) == ("CS-1", 1, 2)
        assert alert["subject"] == "ConnectorPlugRetentionLock.Problem"
        # The same once more is no second alert; its end closes it.
        assert await station.call("NotifyEvent", noticed(lock, "true", eventId=2)) == {}
        assert (await lab.get("alerts"))["total"] == 1
        assert await station.call("NotifyEvent", noticed(lock, "false", eventId=3)) == {}
        (alert,) = (await lab.get("alerts"))["items"]
    assert alert["closed_at"] is not None


async def test_g08_a_state_is_one_whatever_message_tells_it_and_the_later_counts(
    lab: Lab,
) -> None:
    state = variable("Connector", "AvailabilityState", 1, 1)
    async with lab.station("2.0.1", automation=False) as station:
        await status(station, "Available", at=when(-30))
        told = noticed(state, "Occupied", timestamp=when(-20))
        assert await station.call("NotifyEvent", told) == {}
        assert (await evse(lab))["status"] == "Occupied"
        (shown,) = (await device(lab))["connectors"]
        assert (shown["status"], shown["source"]) == ("Occupied", "NotifyEvent")
        # An older word by the other message does not win over it, a newer one does.
        await status(station, "Available", at=when(-25))
        assert (await evse(lab))["status"] == "Occupied"
        await status(station, "Faulted", at=when(-10))
        (shown,) = (await device(lab))["connectors"]
        assert (shown["status"], shown["source"]) == ("Faulted", "StatusNotification")
        older = noticed(state, "Available", eventId=2, timestamp=when(-15))
        assert await station.call("NotifyEvent", older) == {}
        assert (await evse(lab))["status"] == "Faulted"


async def test_an_evse_that_only_events_tell_of_is_known(lab: Lab) -> None:
    state = variable("Connector", "AvailabilityState", 3, 1)
    async with lab.station("2.0.1", automation=False) as station:
        assert await station.call("NotifyEvent", noticed(state, "Available")) == {}
        assert (await evse(lab, 3))["status"] == "Available"


async def test_g09_the_newest_state_by_station_time_counts_and_the_later_received_breaks_ties(
    lab: Lab, version: str
) -> None:
    at = when(-30)
    async with lab.station(version, automation=False) as station:
        await status(station, "Unavailable", at=at)
        await status(station, "Available", at=when(-60))
        assert (await evse(lab))["status"] == "Unavailable"
        await status(station, "Available", at=at)
        assert (await evse(lab))["status"] == "Available"
        # A clock that ran ahead for one message hides nothing that follows.
        await status(station, "Faulted", at=when(3600))
        await status(station, "Available", at=when(1))
        assert (await evse(lab))["status"] == "Available"


async def test_a_boot_begins_the_order_of_states_anew(lab: Lab, version: str) -> None:
    async with lab.station(version, automation=False) as station:
        await status(station, "Faulted", at=when(-10))
        await station.boot()
        await status(station, "Available", at=when(-7200))
        assert (await evse(lab))["status"] == "Available"


async def test_g10_a_silent_station_is_offline_and_online_with_its_next_message(
    sqlite_url: str, version: str
) -> None:
    clock = Clock(start=datetime(2026, 3, 2, 16, 0, tzinfo=UTC), speed=60)
    async with lab_with(sqlite_url, clock=clock) as lab:
        began_at = clock.now()
        async with lab.station(version, automation=False) as station:
            await do(lab, "PATCH", "stations/CS-1", heartbeat_interval_s=60)
            central = lab.world.system.central
            await central.look_for_silence()
            assert (await lab.get("stations/CS-1"))["link_state"] == "online"

            async def silent() -> bool:
                await central.look_for_silence()
                return bool((await lab.get("stations/CS-1"))["link_state"] == "offline")

            await eventually(silent, "a silent station is still shown as online")
            assert clock.now() - began_at > timedelta(seconds=3 * 60)
            refused = await lab.api.post(
                "/api/v1/stations/CS-1/commands", json={"action": "ClearCache", "payload": {}}
            )
            assert refused.status_code == 409
            # Any message will do, on the same link.
            at = clock.now().isoformat()
            await status(station, "Available", at=at)
            assert (await lab.get("stations/CS-1"))["link_state"] == "online"
            outcome = await lab.command("ClearCache", {})
            assert outcome["outcome"] == "accepted"
            kinds = [e.event.kind for e in await lab.world.events()]
    assert [k for k in kinds if k.startswith("station silent")] == ["station silent"]
    assert "station heard again" in kinds
