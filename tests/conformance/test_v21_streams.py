"""Block V of the conformance cases: streams, logs, V2X, DER, battery swap on 2.1 (V35-V42)."""

import json
from typing import Any

import pytest

from csms.settings import TransferSettings
from tests.conformance.conftest import Lab
from tests.conformance.devices import do, job_in, lab_with
from tests.conformance.journey21 import Tx, instant
from tests.conformance.raw import Answer
from tests.conformance.test_v21_payment import records
from tests.conformance.test_v21_sessions import terms_of
from tests.scenarios.world import eventually


async def test_v35_a_log_of_the_data_collector_is_asked_for_and_its_states_are_kept(
    lab: Lab,
) -> None:
    async with lab.station("2.1") as station:
        asked = await do(lab, "POST", "stations/CS-1/logs", log_type="DataCollectorLog")
        assert asked["outcome"] == "accepted"
        payload = (await station.called("GetLog")).payload
        assert payload["logType"] == "DataCollectorLog"
        for status in ("Uploading", "Uploaded"):
            told = {"status": status, "requestId": payload["requestId"]}
            assert await station.call("LogStatusNotification", told) == {}
        job = await job_in(lab, asked["job"]["request_key"], "done")
        assert [s["status"] for s in job["steps"]] == ["Uploading", "Uploaded"]
        assert job["detail"]["log_type"] == "DataCollectorLog"


async def test_v36_credentials_of_an_upload_are_in_the_frame_and_in_no_log(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "s3cretOfTheUpload"
    place = f"https://user:{secret}@logs.example.org/in"
    listed = TransferSettings(allowed_urls=("https://logs.example.org/in",), allow_unresolved=True)
    with caplog.at_level("DEBUG"):
        async with lab_with(sqlite_url, transfers=listed) as lab, lab.station("2.1") as station:
            asked = await do(
                lab, "POST", "stations/CS-1/logs", log_type="SecurityLog", location=place
            )
            assert asked["outcome"] == "accepted"
            payload = (await station.called("GetLog")).payload
            assert payload["log"]["remoteLocation"] == place
            for status in ("Uploading", "Uploaded"):
                told = {"status": status, "requestId": payload["requestId"]}
                assert await station.call("LogStatusNotification", told) == {}
            job = await job_in(lab, asked["job"]["request_key"], "done")
            assert [s["status"] for s in job["steps"]] == ["Uploading", "Uploaded"]
            frames = "stations/CS-1/frames"
            for path in ("jobs", "stations/CS-1/commands", "log", frames, "stations/CS-1/jobs"):
                shown = await lab.api.get(f"/api/v1/{path}")
                assert shown.is_success
                assert secret not in shown.text, path
    assert secret not in caplog.text
    assert secret not in "".join(capsys.readouterr())


def needs(mode: str) -> dict[str, Any]:
    return {
        "evseId": 1,
        "chargingNeeds": {
            "requestedEnergyTransfer": mode,
            "dcChargingParameters": {"evMaxCurrent": 100, "evMaxVoltage": 800},
        },
    }


async def test_v37_a_way_of_charging_that_is_not_allowed_is_rejected(lab: Lab) -> None:
    card = await lab.world.driver(1)
    async with lab.station("2.1") as station:
        await Tx(station, card).started()
        for mode in ("DC_BPT", "AC_BPT", "AC_BPT_DER", "AC_DER", "DC_ACDP_BPT"):
            answer = await station.call("NotifyEVChargingNeeds", needs(mode))
            assert answer["status"] == "Rejected", mode
        answer = await station.call("NotifyEVChargingNeeds", needs("DC"))
        assert answer["status"] == "Accepted"


async def test_v38_discharging_may_be_allowed_once_the_session_runs(lab: Lab) -> None:
    card = await lab.world.driver(1)
    async with lab.station("2.1") as station:
        tx = Tx(station, card)
        await tx.started()
        modes = ["DC", "DC_BPT"]
        payload = {"transactionId": tx.transaction_id, "allowedEnergyTransfer": modes}
        station.answers["NotifyAllowedEnergyTransfer"] = {"status": "Rejected"}
        outcome = await lab.command("NotifyAllowedEnergyTransfer", payload)
        assert outcome["outcome"] == "rejected"
        assert (await terms_of(lab, tx))["allowed_modes"] == []
        station.answers["NotifyAllowedEnergyTransfer"] = {"status": "Accepted"}
        assert (await lab.command("NotifyAllowedEnergyTransfer", payload))["outcome"] == "accepted"
        assert station.seen("NotifyAllowedEnergyTransfer")[-1].payload == payload
        assert (await terms_of(lab, tx))["allowed_modes"] == modes
        for mode, status in (("DC_BPT", "Accepted"), ("AC_BPT", "Rejected")):
            answer = await station.call("NotifyEVChargingNeeds", needs(mode))
            assert answer["status"] == status


def v2x_profile(**period: Any) -> dict[str, Any]:
    return {
        "evseId": 1,
        "chargingProfile": {
            "id": 777,
            "stackLevel": 1,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [
                {
                    "id": 777,
                    "startSchedule": instant(),
                    "chargingRateUnit": "W",
                    "chargingSchedulePeriod": [{"startPeriod": 0, **period}],
                }
            ],
        },
    }


async def test_v39_a_setpoint_is_pushed_phase_by_phase(lab: Lab) -> None:
    update = {"setpoint": -3000.0, "setpoint_L2": -2000.0, "setpoint_L3": 1500.5}
    payload = {"chargingProfileId": 777, "scheduleUpdate": update}
    async with lab.station("2.1") as station:
        assert (await lab.command("UpdateDynamicSchedule", payload))["outcome"] == "accepted"
        assert (await station.called("UpdateDynamicSchedule")).payload == payload


async def test_v40_a_frequency_signal_follows_a_profile_with_its_curve(lab: Lab) -> None:
    curve = [{"signal": -100, "power": -5000.0}, {"signal": 100, "power": 5000.0}]
    wanted = v2x_profile(operationMode="CentralFrequency", v2xSignalWattCurve=curve, setpoint=0.0)
    signal = {"timestamp": instant(), "signal": 40}
    async with lab.station("2.1") as station:
        assert (await lab.command("SetChargingProfile", wanted))["outcome"] == "accepted"
        sent = [c.payload for c in station.seen("SetChargingProfile")]
        assert wanted in sent
        assert (await lab.command("AFRRSignal", signal))["outcome"] == "accepted"
        assert (await station.called("AFRRSignal")).payload == signal


async def test_v41_a_profile_for_local_load_balancing_is_sent_as_given(lab: Lab) -> None:
    wanted = v2x_profile(operationMode="LocalLoadBalancing", limit=7000.0, dischargeLimit=-7000.0)
    async with lab.station("2.1") as station:
        assert (await lab.command("SetChargingProfile", wanted))["outcome"] == "accepted"
        assert wanted in [c.payload for c in station.seen("SetChargingProfile")]


async def test_v42_a_battery_swap_that_is_refused_is_an_outcome(lab: Lab) -> None:
    refusal = {"status": "Rejected", "statusInfo": {"reasonCode": "NoBatteryAvailable"}}
    answers: dict[str, Answer] = {"RequestBatterySwap": refusal}
    async with lab.station("2.1", answers=answers) as station:
        payload = {"requestId": 5, "idToken": {"idToken": "04A1B2C3D4E5F6", "type": "ISO14443"}}
        outcome = await lab.command("RequestBatterySwap", payload)
        assert (outcome["outcome"], outcome["status"]) == ("rejected", "Rejected")
        assert outcome["answer"]["statusInfo"]["reasonCode"] == "NoBatteryAvailable"
        assert (await station.called("RequestBatterySwap")).payload == payload
        (command,) = (await lab.get("stations/CS-1/commands", action="RequestBatterySwap"))["items"]
        assert command["outcome"] == "rejected"


async def test_batteries_der_and_streams_are_answered_and_kept(lab: Lab) -> None:
    token = {"idToken": "04A1B2C3D4E5F6", "type": "ISO14443"}
    battery = {"evseId": 1, "serialNumber": "B1", "soC": 80.5, "soH": 97.0}
    said: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (
            "BatterySwap",
            {"batteryData": [battery], "eventType": "BatteryIn", "idToken": token, "requestId": 5},
            {},
        ),
        ("NotifyDERStartStop", {"controlId": "c", "started": True, "timestamp": instant()}, {}),
        ("NotifyDERAlarm", {"controlType": "FreqDroop", "timestamp": instant()}, {}),
        ("ReportDERControl", {"requestId": 1}, {}),
        (
            "OpenPeriodicEventStream",
            {"constantStreamData": {"id": 1, "variableMonitoringId": 3, "params": {"values": 2}}},
            {"status": "Accepted"},
        ),
        ("ClosePeriodicEventStream", {"id": 1}, {}),
    ]
    async with lab.station("2.1") as station:
        for action, payload, answer in said:
            assert await station.call(action, payload) == answer
            assert await records(lab, action) == [payload]
        stream = {"id": 1, "pending": 0, "basetime": instant(), "data": [{"t": 0.5, "v": "7"}]}
        await station.send([6, "s1", "NotifyPeriodicEventStream", stream])

        async def kept() -> bool:
            return await records(lab, "NotifyPeriodicEventStream") == [stream]

        await eventually(kept, "stream not kept")
        (alarm,) = await lab.world.events("grid alarm")
        assert json.loads(json.dumps(alarm.event.detail)) == {"controlType": "FreqDroop"}
