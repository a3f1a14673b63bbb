"""Block B of the conformance cases, and the boot rows of 1.6: what a station is, how it boots."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conformance.conftest import Lab
from tests.conformance.devices import (
    begin,
    charge,
    do,
    end,
    event,
    status,
    variable,
    when,
)
from tests.conformance.raw import RawStation, Refused
from tests.scenarios.world import eventually

REMOTE = {"component": "AuthCtrlr", "variable": "AuthorizeRemoteStart"}


# --- booting -------------------------------------------------------------------------------------


@pytest.mark.case("B01", "S01")
async def test_b01_a_boot_is_accepted_and_what_the_station_says_of_itself_is_kept(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, boots=False, automation=False) as station:
        serial = "chargePointSerialNumber" if version == "1.6" else "serialNumber"
        answer = await station.boot(**{serial: "SN-7"})
        told = datetime.fromisoformat(answer["currentTime"])
        assert answer["status"] == "Accepted"
        assert answer["interval"] > 0
        assert answer["currentTime"].endswith("Z")
        assert abs(told - datetime.now(UTC)) < timedelta(seconds=2)
        if version == "1.6":
            ready = {"status": "Available", "errorCode": "NoError"}
            assert await station.call("StatusNotification", {"connectorId": 0, **ready}) == {}
        await status(station, "Available")
        beat = await station.call("Heartbeat", {})
        assert abs(datetime.fromisoformat(beat["currentTime"]) - told) < timedelta(seconds=5)
        shown = await lab.get("stations/CS-1")
    assert (shown["vendor"], shown["model"]) == ("Vendor", "Model")
    assert (shown["serial_number"], shown["firmware_version"]) == ("SN-7", "1.0")
    assert shown["evses"][0]["status"] == "Available"


async def test_b02_a_station_waits_for_approval_and_can_be_configured_meanwhile(
    lab: Lab, version: str
) -> None:
    await lab.world.register("CS-1", registration="Pending")
    lab._registered.add("CS-1")
    async with lab.station(version, boots=False) as station:
        first = await station.boot()
        assert first["status"] == "Pending"
        assert first["interval"] > 0
        name = {"component": "OCPPCommCtrlr", "variable": "HeartbeatInterval"}
        set_ = await do(lab, "PUT", "stations/CS-1/variables", variables=[{**name, "value": "60"}])
        assert set_["outcome"] == "accepted"
        read = await do(lab, "POST", "stations/CS-1/variables/read", variables=[name])
        assert read["outcome"] in ("accepted", "rejected")
        await do(lab, "POST", "stations/CS-1/approve")
        asked = await station.called("TriggerMessage")
        assert asked.payload == {"requestedMessage": "BootNotification"}
        assert (await station.boot())["status"] == "Accepted"
        await status(station, "Available")
        assert (await lab.get("stations/CS-1"))["evses"][0]["status"] == "Available"
        statuses = [b["status"] for b in (await lab.get("stations/CS-1/boots"))["items"]]
    assert statuses == ["Accepted", "Pending"]


@pytest.mark.case("B02")
async def test_an_approved_station_is_accepted_when_it_boots_after_its_interval(
    lab: Lab, version: str
) -> None:
    await lab.world.register("CS-1", registration="Pending")
    lab._registered.add("CS-1")
    async with lab.station(version, boots=False, automation=False) as station:
        first = await station.boot()
        assert first["status"] == "Pending"
        await do(lab, "POST", "stations/CS-1/approve")
        lab.world.clock.follow(datetime.now(UTC) + timedelta(seconds=first["interval"]))
        second = await station.boot()
        assert (second["status"], second["interval"] > 0) == ("Accepted", True)
        assert station.calls == [], "it was not asked to"
        await status(station, "Available")
        assert (await lab.get("stations/CS-1"))["evses"][0]["status"] == "Available"
        boots = (await lab.get("stations/CS-1/boots"))["items"]
    assert [b["status"] for b in boots] == ["Accepted", "Pending"]


@pytest.mark.case("B03", "S69")
async def test_b03_nothing_is_taken_from_a_station_that_is_not_accepted(
    lab: Lab, version: str
) -> None:
    await lab.world.register("CS-1", registration="Pending")
    lab._registered.add("CS-1")
    async with lab.station(version, boots=False) as station:
        assert (await station.boot())["status"] == "Pending"
        for word in ("Pending", "Rejected"):
            if word == "Rejected":
                await do(lab, "POST", "stations/CS-1/reject")
                assert (await station.boot())["status"] == "Rejected"
            with pytest.raises(Refused) as refused:
                await status(station, "Available")
            assert refused.value.code == "SecurityError"
            meter: dict[str, Any] = {
                "meterValue": [{"timestamp": when(), "sampledValue": [{"value": "1"}]}]
            }
            if version != "1.6":
                meter["meterValue"][0]["sampledValue"][0]["value"] = 1
            key = "connectorId" if version == "1.6" else "evseId"
            with pytest.raises(Refused) as refused:
                await station.call("MeterValues", {key: 1, **meter})
            assert refused.value.code == "SecurityError"
            if word == "Pending":
                value = [{**REMOTE, "value": "false"}]
                changed = await do(lab, "PUT", "stations/CS-1/variables", variables=value)
                assert changed["outcome"] == "accepted"
        device = await lab.get("stations/CS-1/device")
    assert device["connectors"] == []
    assert (await lab.get("stations/CS-1/records"))["items"] == []


async def test_b04_a_pending_station_that_is_triggered_is_accepted_before_its_interval(
    lab: Lab, version: str
) -> None:
    await lab.world.register("CS-1", registration="Pending")
    lab._registered.add("CS-1")
    async with lab.station(version, boots=False, automation=False) as station:
        assert (await station.boot())["interval"] > 60
        await do(lab, "POST", "stations/CS-1/approve")
        # Hands are off the station: it is not asked unless an operator asks.
        assert station.seen("TriggerMessage") == []
        outcome = await lab.command("TriggerMessage", {"requestedMessage": "BootNotification"})
        assert outcome["outcome"] == "accepted"
        again = {} if version == "1.6" else {"reason": "Triggered"}
        assert (await station.boot(**again))["status"] == "Accepted"


# --- resets --------------------------------------------------------------------------------------


async def test_b11_a_station_that_restarts_replaces_its_link_cleanly(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, automation=False) as station:
        outcome = await do(lab, "POST", "stations/CS-1/reset")
        assert outcome["outcome"] == "accepted"
        kind = "Soft" if version == "1.6" else "OnIdle"
        assert (await station.called("Reset")).payload == {"type": kind}
        async with lab.station(version, automation=False, boots=False) as again:
            reason = {} if version == "1.6" else {"reason": "RemoteReset"}
            assert (await again.boot(**reason))["status"] == "Accepted"
            await station.ended()

            async def one_link_is_open() -> bool:
                shown = await lab.get("stations/CS-1")
                is_open = [link["closed_at"] is None for link in shown["links"]]
                return shown["link_state"] == "online" and is_open == [True, False]

            await eventually(one_link_is_open, "the old link is not closed")
            beat = await lab.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
            assert beat["outcome"] == "accepted"
            await again.called("TriggerMessage")
        if version != "1.6":
            assert (await lab.get("stations/CS-1/boots"))["items"][0]["reason"] == "RemoteReset"


async def test_b12_a_reset_that_waits_is_shown_as_scheduled_and_the_session_ends_by_itself(
    lab: Lab,
) -> None:
    answer = {"status": "Scheduled"}
    async with lab.station("2.0.1", automation=False, answers={"Reset": answer}) as station:
        transaction_id = await charge(lab, station)
        outcome = await do(lab, "POST", "stations/CS-1/reset")
        assert (outcome["outcome"], outcome["status"]) == ("accepted", "Scheduled")
        (session,) = await lab.world.sessions()
        assert session.ended_at is None
        await end(station, transaction_id, "EVDisconnected")
        assert (await station.boot(reason="ScheduledReset"))["status"] == "Accepted"
        (session,) = await lab.world.sessions()
        (command,) = (await lab.get("stations/CS-1/commands", action="Reset"))["items"]
    assert (session.stop_reason, session.energy_wh) == ("EVDisconnected", 2000.0)
    assert not session.is_estimated
    assert command["status"] == "Scheduled"


async def test_b13_a_hard_reset_ends_the_session_once_with_its_energy(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        transaction_id = await charge(lab, station)
        outcome = await do(lab, "POST", "stations/CS-1/reset", is_hard=True)
        assert outcome["outcome"] == "accepted"
        assert (await station.called("Reset")).payload == {"type": "Immediate"}
        await end(station, transaction_id, "ImmediateReset")
        await end(station, transaction_id, "ImmediateReset")
        assert (await station.boot(reason="RemoteReset"))["status"] == "Accepted"
        (session,) = await lab.world.sessions()
    assert (session.stop_reason, session.energy_wh) == ("ImmediateReset", 2000.0)
    assert session.ended_at is not None


@pytest.mark.case("B14", "B15")
async def test_b15_one_evse_restarts_and_only_its_session_ends(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False, evses=2) as station:
        first = await charge(lab, station, evse_id=1, number=1)
        card = await lab.world.driver(2)
        second = await begin(station, card, evse_id=2)
        outcome = await do(lab, "POST", "stations/CS-1/reset", is_hard=True, evse_id=1)
        assert outcome["outcome"] == "accepted"
        assert (await station.called("Reset")).payload == {"type": "Immediate", "evseId": 1}
        await end(station, first, "ImmediateReset", evse_id=1)
        outcome = await do(lab, "POST", "stations/CS-1/reset", evse_id=1)
        assert (await station.called("Reset")).payload == {"type": "OnIdle", "evseId": 1}
        assert (await station.call("Heartbeat", {}))["currentTime"]
        sessions = {s.evse_id: s for s in await lab.world.sessions()}
        shown = await lab.get("stations/CS-1")
    assert sessions[1].ended_at is not None
    assert sessions[2].ended_at is None
    assert sessions[2].transaction_id == second
    assert (shown["link_state"], len(shown["links"])) == ("online", 1)


async def test_one_evse_of_a_1_6_station_cannot_be_reset_alone(lab: Lab) -> None:
    async with lab.station("1.6", automation=False) as station:
        refused = await do(lab, "POST", "stations/CS-1/reset", evse_id=1, status=422)
        assert "1.6 has no word" in refused["detail"]
        assert station.seen("Reset") == []


async def test_b16_a_network_profile_carries_every_field_that_is_required(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        outcome = await do(
            lab,
            "PUT",
            "stations/CS-1/network-profile",
            slot=2,
            url="wss://csms.example/ocpp",
            security_profile=2,
        )
        assert outcome["outcome"] == "accepted"
        call = await station.called("SetNetworkProfile")
    assert call.payload == {
        "configurationSlot": 2,
        "connectionData": {
            "ocppVersion": "OCPP20",
            "ocppTransport": "JSON",
            "ocppCsmsUrl": "wss://csms.example/ocpp",
            "messageTimeout": 30,
            "securityProfile": 2,
            "ocppInterface": "Wired0",
        },
    }


# --- links and clocks ----------------------------------------------------------------------------


@pytest.mark.case("B17", "S58")
async def test_b17_an_unknown_subprotocol_alone_is_refused(lab: Lab, version: str) -> None:
    await lab.world.register("CS-1")
    url = f"{lab.world.url}/CS-1"
    unknown: Any = "ocpp0.1"
    with pytest.raises(InvalidStatus):
        async with connect(url, subprotocols=[unknown]):
            pass
    known: Any = f"ocpp{version}"
    async with connect(url, subprotocols=[unknown, known]) as socket:
        assert socket.subprotocol == known


async def test_b18_boots_without_reboot_leave_one_record_and_a_history_of_firmware(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, automation=False) as station:
        for _ in range(4):
            assert (await station.boot())["status"] == "Accepted"
        for _ in range(8):
            assert (await station.boot(firmwareVersion="1.1"))["status"] == "Accepted"
        device = await lab.get("stations/CS-1/device")
        stations = await lab.get("stations")
        alerts = (await lab.get("alerts", station_id="CS-1", is_open=True))["items"]
        changed = [e.event.detail for e in await lab.world.events("firmware changed")]
    assert stations["total"] == 1
    assert [f["firmware_version"] for f in device["firmware"]] == ["1.1", "1.0"]
    assert changed == [{"from": "1.0", "to": "1.1"}]
    assert len(device["boots"]) == 13
    assert [a["subject"] for a in alerts] == ["Boot.Loop"]
    assert len(await lab.world.events("station registered")) == 1


async def test_b20_a_clock_five_years_behind_is_corrected_and_both_times_kept(
    lab: Lab, version: str
) -> None:
    behind_s = -5 * 365 * 86400.0
    async with lab.station(version, automation=False) as station:
        await status(station, "Available", at=when(behind_s))
        card = await lab.world.driver(1)
        transaction_id = await begin(station, card, at=when(behind_s))
        await _go_on(station, transaction_id, at_s=behind_s)
        device = await lab.get("stations/CS-1/device")
        told = (await lab.get("stations/CS-1/device-events"))["items"]
        (session,) = await lab.world.sessions()
        stored = await lab.get(f"sessions/{session.session_id}")
    now = datetime.now(UTC)

    def age(text: str) -> timedelta:
        return now - datetime.fromisoformat(text)

    assert device["clock_offset_s"] == pytest.approx(-behind_s, abs=30)
    (connector,) = device["connectors"]
    assert age(connector["at"]) > timedelta(days=1800)
    assert age(connector["corrected_at"]) < timedelta(minutes=1)
    assert age(connector["received_at"]) < timedelta(minutes=1)
    assert len(told) == (0 if version == "1.6" else 1)
    for event_told in told:
        assert age(event_told["at"]) > timedelta(days=1800)
        assert age(event_told["corrected_at"]) < timedelta(minutes=1)
    assert now - session.started_at < timedelta(minutes=1)
    assert session.sample_at is not None
    assert now - session.sample_at < timedelta(minutes=1)
    assert session.is_offline_start is False
    assert "clock_corrected" in session.flags
    assert stored["energy_kwh"] == 0.5


async def _go_on(station: RawStation, transaction_id: str, *, at_s: float) -> None:
    """Report half a kWh more, and in 2.x a hot station, all of it at `at_s` from now."""
    if station.version == "1.6":
        sample = {"timestamp": when(at_s + 1), "sampledValue": [{"value": "1500"}]}
        meter = {"connectorId": 1, "transactionId": int(transaction_id), "meterValue": [sample]}
        assert await station.call("MeterValues", meter) == {}
        return
    moved = event("Updated", transaction_id, 1, at=when(at_s + 1), wh=1500)
    await station.call("TransactionEvent", moved)
    noticed = {
        "generatedAt": when(at_s),
        "seqNo": 0,
        "eventData": [
            {
                "eventId": 1,
                "timestamp": when(at_s),
                "trigger": "Alerting",
                "actualValue": "80",
                "eventNotificationType": "HardWiredMonitor",
                **variable("ChargingStation", "Temperature"),
            }
        ],
    }
    assert await station.call("NotifyEvent", noticed) == {}
