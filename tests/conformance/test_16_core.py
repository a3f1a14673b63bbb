"""The core of 1.6: boot and sessions (rows S01 to S27 that other blocks do not share)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.story import CARD, Story, now_text
from tests.scenarios.world import eventually

BAD = "0000000000000A"


@pytest.fixture
async def driven(lab: Lab) -> Lab:
    """A system that knows a driver."""
    await lab.world.driver(1)
    return lab


async def test_s01_a_station_boots_reports_its_connectors_and_beats(lab: Lab) -> None:
    async with lab.station("1.6", evses=2, boots=False) as station:
        story = Story(lab, station)
        boot = {
            "chargePointVendor": "Vendor",
            "chargePointModel": "Model",
            "chargePointSerialNumber": "SN1",
            "firmwareVersion": "2.1",
        }
        answer = await story.say("BootNotification", boot)
        assert answer["status"] == "Accepted"
        assert answer["interval"] > 0
        assert answer["currentTime"].endswith("Z")
        await story.told_again()
        for connector_id in (0, 1, 2):
            payload = {
                "connectorId": connector_id,
                "errorCode": "NoError",
                "status": "Available",
                "timestamp": now_text(),
            }
            assert await story.say("StatusNotification", payload) == {}
            await story.told_again()
        for _ in range(2):
            told = datetime.fromisoformat((await story.say("Heartbeat", {}))["currentTime"])
            assert abs(told - datetime.now(UTC)) < timedelta(seconds=2)
        shown = await lab.get("stations/CS-1")
        assert (shown["vendor"], shown["model"], shown["serial_number"]) == (
            "Vendor",
            "Model",
            "SN1",
        )
        assert (shown["firmware_version"], shown["version"]) == ("2.1", "1.6")
        places = {e["evse_id"]: e["status"] for e in shown["evses"]}
        assert {n: places[n] for n in (1, 2)} == {1: "Available", 2: "Available"}


@pytest.mark.case("S02", "S03")
@pytest.mark.parametrize("order", ["cable first", "card first"])
async def test_cable_and_card_make_one_session_in_either_order(driven: Lab, order: str) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        steps = [story.status("Preparing"), story.authorize()]
        if order == "card first":
            steps.reverse()
        for step in steps:
            info = await step
            assert info is None or info["status"] == "Accepted"
        answer = await story.start_16()
        assert answer["idTagInfo"]["status"] == "Accepted"
        assert 0 < answer["transactionId"] < 2**31
        await story.told_again()
        await story.status("Charging")
        (shown,) = await story.all_shown()
        assert (shown["id_token"], shown["evse_id"]) == (CARD, 1)
        assert (shown["authorization"], shown["meter_start_wh"]) == ("Accepted", 1000.0)
        await story.told_again()


@pytest.mark.case("S04")
async def test_a_card_without_a_vehicle_is_no_session(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        info = await story.authorize()
        assert info["status"] == "Accepted"
        assert datetime.fromisoformat(info["expiryDate"]) > datetime.now(UTC)
        await story.status("Preparing")
        await story.status("Available")
        assert await story.all_shown() == []
        # The authorisation was the card's, not the connector's: nothing is left of it.
        assert (await story.authorize())["status"] == "Accepted"
        await story.told_again()


async def test_s05_a_vehicle_that_leaves_closes_its_session(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.charging_16()
        await story.status("SuspendedEV")
        assert await story.stop_16(1750, reason="EVDisconnected") == {}
        await story.told_again()
        await story.status("Finishing")
        await story.status("Available")
        shown = await story.shown()
        assert (shown["stop_reason"], shown["energy_wh"]) == ("EVDisconnected", 750.0)
        assert (shown["is_final"], shown["stopped_at"] is not None) == (True, True)
        await story.told_again()


async def test_s11_a_station_comes_back_from_a_hard_reset(lab: Lab) -> None:
    async with lab.station("1.6") as station:
        outcome = await lab.command("Reset", {"type": "Hard"})
        assert outcome["outcome"] == "accepted"
        assert (await station.called("Reset")).payload == {"type": "Hard"}
    async with lab.station("1.6") as station:
        story = Story(lab, station)
        await story.status("Available")
        shown = await lab.get("stations/CS-1")
        assert (shown["link_state"], shown["evses"][0]["status"]) == ("online", "Available")
        await story.told_again()


KEYS = [
    {"key": "MeterValueSampleInterval", "readonly": False, "value": "60"},
    {"key": "SupportedFeatureProfiles", "readonly": True, "value": "Core,SmartCharging"},
    {"key": "VendorsOwnKey", "readonly": False},
]


async def test_s14_all_configuration_is_read_and_kept(lab: Lab) -> None:
    answers = {"GetConfiguration": {"configurationKey": KEYS}}
    async with lab.station("1.6", answers=answers) as station:
        outcome = await lab.command("GetConfiguration", {})
        assert outcome["outcome"] == "accepted"
        assert {} in [c.payload for c in station.seen("GetConfiguration")]
        assert outcome["answer"] == {"configurationKey": KEYS}
        kept = (await lab.get("stations/CS-1/commands", action="GetConfiguration"))["items"][0]
        assert kept["answer"] == {"configurationKey": KEYS}


@pytest.mark.case("S16", "S26")
@pytest.mark.parametrize(("value", "status"), [("60", "Accepted"), ("-1", "Rejected")])
async def test_the_outcome_of_a_changed_key_is_shown(lab: Lab, value: str, status: str) -> None:
    answers = {"ChangeConfiguration": {"status": status}}
    async with lab.station("1.6", answers=answers) as station:
        payload = {"key": "MeterValueSampleInterval", "value": value}
        outcome = await lab.command("ChangeConfiguration", payload)
        assert (outcome["outcome"], outcome["status"]) == (status.lower(), status)
        sent = [c.payload for c in station.seen("ChangeConfiguration")]
        assert payload in sent
        assert all(isinstance(c["value"], str) for c in sent)
        kept = (await lab.get("stations/CS-1/commands", action="ChangeConfiguration"))["items"][0]
        assert kept["status"] == status


async def test_s22_a_power_cut_closes_the_session_once(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        await story.charging_16()
        station.socket.transport.abort()
    async with driven.station("1.6") as station:
        story.station = station
        await story.status("Finishing")
        assert (await story.shown())["stopped_at"] is None
        assert await story.stop_16(1400, reason="PowerLoss") == {}
        await story.told_again()
        (shown,) = await story.all_shown()
        assert (shown["stop_reason"], shown["energy_wh"]) == ("PowerLoss", 400.0)


@pytest.mark.case("S23", "S25")
@pytest.mark.parametrize("is_over", [False, True])
async def test_a_session_that_began_offline_keeps_its_own_time(driven: Lab, is_over: bool) -> None:
    begun, ended = now_text(timedelta(hours=2)), now_text(timedelta(hours=1))
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        answer = await story.start_16(meter_wh=0, at=begun)
        assert answer["idTagInfo"]["status"] == "Accepted"
        await story.told_again()
        if is_over:
            assert (await story.stop_16(7000, reason="Local", card=CARD, at=ended))["idTagInfo"][
                "status"
            ] == "Accepted"
        else:
            await story.status("Charging")
        (shown,) = await story.all_shown()
        assert datetime.fromisoformat(shown["started_at"]) == datetime.fromisoformat(begun)
        assert shown["is_offline_start"]
        if is_over:
            assert datetime.fromisoformat(shown["stopped_at"]) == datetime.fromisoformat(ended)
            assert (shown["energy_wh"], shown["is_final"]) == (7000.0, True)
        else:
            assert shown["stopped_at"] is None
        await story.told_again()


async def test_s24_a_bad_card_offline_is_kept_and_marked_refused(driven: Lab) -> None:
    async with driven.station("1.6") as station:
        story = Story(driven, station)
        answer = await story.start_16(BAD, meter_wh=0, at=now_text(timedelta(hours=1)))
        assert answer["idTagInfo"]["status"] == "Invalid"
        assert answer["transactionId"] > 0
        await story.told_again()
        await story.status("Charging")
        assert await story.stop_16(300, reason="DeAuthorized") == {}
        await story.told_again()
        await story.status("Finishing")
        (shown,) = await story.all_shown()
        assert shown["authorization"] != "Accepted"
        assert (shown["stop_reason"], shown["energy_wh"]) == ("DeAuthorized", 300.0)
        assert (shown["id_token"], (await story.stay())["holder_did"]) == (BAD, "")


@pytest.mark.case("S27", "P01")
async def test_a_vendors_data_that_nobody_knows_is_answered_so(lab: Lab, version: str) -> None:
    async with lab.station(version) as station:
        story = Story(lab, station)
        data: dict[str, Any] = {"vendorId": "org.example.unknown", "messageId": "what", "data": "x"}
        answer = await story.say("DataTransfer", data)
        assert answer["status"] in ("UnknownVendorId", "UnknownMessageId", "Rejected")
        (kept,) = (await lab.get("stations/CS-1/vendor-messages"))["items"]
        told = {"vendor_id": "org.example.unknown", "message_id": "what", "data": "x"}
        assert told.items() <= kept.items()
        assert kept["status"] == answer["status"]
        others = await lab.get("stations/CS-1/vendor-messages", vendor_id="org.example.other")
        assert others["items"] == []
        await story.told_again()


@pytest.mark.parametrize(
    ("profiles", "is_smart"), [("Core,SmartCharging", True), ("Core,FirmwareManagement", False)]
)
async def test_s15_the_features_of_a_station_drive_what_it_is_sent(
    driven: Lab, profiles: str, is_smart: bool
) -> None:
    key = {"key": "SupportedFeatureProfiles", "readonly": True, "value": profiles}
    answers = {"GetConfiguration": {"configurationKey": [key]}}
    async with driven.station("1.6", answers=answers) as station:
        outcome = await driven.command("GetConfiguration", {"key": ["SupportedFeatureProfiles"]})
        assert outcome["answer"] == {"configurationKey": [key]}
        assert {"key": ["SupportedFeatureProfiles"]} in [
            c.payload for c in station.seen("GetConfiguration")
        ]
        await eventually(lambda: _has_learned(driven, is_smart), "the features were not learned")
        story = Story(driven, station)
        await story.charging_16()
        await eventually(lambda: _is_planned(driven), "the session was not planned")
        if is_smart:
            await station.called("SetChargingProfile")
        else:
            await driven.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
            assert station.seen("SetChargingProfile") == []


async def _has_learned(lab: Lab, is_smart: bool) -> bool:
    limits = (await lab.get("stations/CS-1"))["limits"]
    return limits["source"] == "asked" or (is_smart and limits["supports_profiles"])


async def _is_planned(lab: Lab) -> bool:
    plans = (await lab.get("plans"))["items"]
    return any("session" in plan["why"] for plan in plans)


@pytest.mark.case("S19")
async def test_a_faulted_connector_is_an_alert(driven: Lab, version: str) -> None:
    async with driven.station(version) as station:
        story = Story(driven, station)
        assert (await story.authorize())["status"] == "Accepted"
        await story.status("Preparing")
        payload: dict[str, Any] = {
            "connectorId": 1,
            "errorCode": "ConnectorLockFailure",
            "status": "Faulted",
        }
        if version != "1.6":
            payload = {
                "evseId": 1,
                "connectorId": 1,
                "connectorStatus": "Faulted",
                "timestamp": now_text(),
            }
        assert await story.say("StatusNotification", payload) == {}
        await story.told_again()
        shown = (await driven.get("stations/CS-1"))["evses"][0]
        assert shown["status"] == "Faulted"
        (alert,) = (await driven.get("alerts", station_id="CS-1"))["items"]
        assert (alert["evse_id"], alert["closed_at"]) == (1, None)
        if version == "1.6":
            assert shown["error_code"] == "ConnectorLockFailure"
            assert "ConnectorLockFailure" in alert["subject"]
        assert await story.all_shown() == []
