"""Both versions' stations on a real websocket, every frame checked against the OCPP schemas."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from simulators.battery import Vehicle
from simulators.clock import SimClock
from simulators.dialect import Dialect
from simulators.faults import FaultPlan
from simulators.link import LinkDown
from simulators.manners import Manners
from simulators.simulated import SimulatedStation
from simulators.variables import Settings
from tests.simulators.centre import Centre, set_profile, tx_profile

VERSIONS = pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
CAR = Vehicle(battery_kwh=60.0, max_ac_kw=11.0)
START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def fast(speed: float = 600.0) -> SimClock:
    return SimClock(start=START, speed=speed)


def starts(centre: Centre, version: str) -> list[dict[str, Any]]:
    if version == "1.6":
        return centre.of("StartTransaction")
    return [e for e in centre.of("TransactionEvent") if e["eventType"] == "Started"]


def stops(centre: Centre, version: str) -> list[dict[str, Any]]:
    if version == "1.6":
        return centre.of("StopTransaction")
    return [e for e in centre.of("TransactionEvent") if e["eventType"] == "Ended"]


def samples(centre: Centre, version: str) -> list[float]:
    """The energy registers reported while a transaction ran, in order."""
    if version == "1.6":
        values = [m for p in centre.of("MeterValues") for m in p["meterValue"]]
    else:
        values = [
            m
            for p in centre.of("TransactionEvent")
            for m in p.get("meterValue", [])
            if p["eventType"] == "Updated"
        ]
    return [float(v["sampledValue"][0]["value"]) for v in values]


@VERSIONS
async def test_a_visit_boots_authorises_charges_samples_and_ends(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP 1", version=version, clock=fast(), password="pa:ss"
        ) as station,
    ):
        assert (await station.boot())["status"] == "Accepted"
        await station.plug_in(1, CAR, soc=0.3)
        assert await station.present("T1") == "Accepted"
        assert station.power_w(1) == pytest.approx(11_000)
        await centre.until(lambda: len(samples(centre, version)) >= 3)
        tx = await station.stop(1, token="T1")
        battery = await station.unplug(1)
        await station.drained()
    assert len(starts(centre, version)) == len(stops(centre, version)) == 1
    registers = samples(centre, version)
    assert all(a <= b for a, b in pairwise(registers))
    assert tx.energy_wh > 0
    assert battery.soc == pytest.approx(0.3 + tx.energy_wh * 0.9 / 60_000)
    assert centre.calls[0][0] == "CP%201"
    assert "Basic" in {k.lower(): v for k, v in centre.headers[0].items()}["authorization"]


@VERSIONS
async def test_a_refused_token_starts_nothing(version: str) -> None:
    async with (
        Centre(token_status={"BAD": "Blocked"}) as centre,
        SimulatedStation(centre.url, "CP1", version=version) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR)
        assert await station.present("BAD") == "Blocked"
        assert station.station.transactions == {}
    assert starts(centre, version) == []


@VERSIONS
async def test_a_transaction_refused_after_its_start_is_stopped(version: str) -> None:
    async with (
        Centre(token_status={"BAD": "Invalid"}) as centre,
        SimulatedStation(centre.url, "CP1", version=version) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR)
        await station.start(1, "BAD")
        await centre.until(lambda: len(stops(centre, version)) == 1)
        assert station.power_w(1) == 0


@VERSIONS
async def test_a_profile_limits_the_draw_at_once_and_zero_suspends(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version=version) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR, soc=0.3)
        await station.present("T1")
        number = station.station.transactions[1]
        assert number is not None
        for limit, power_w in ((10.0, 6900.0), (6.0, 4140.0), (5.9, 0.0), (16.0, 11_000.0)):
            body = set_profile(version, 1, tx_profile(version, number, limit))
            assert await centre.command("CP1", "SetChargingProfile", body) == {"status": "Accepted"}
            assert station.power_w(1) == pytest.approx(power_w, abs=50)
        got = await station.wait_for_command("SetChargingProfile", 5, after=3)
        assert got.payload == set_profile(version, 1, tx_profile(version, number, 16.0))
        evse = "connectorId" if version == "1.6" else "evseId"
        composite = await centre.command("CP1", "GetCompositeSchedule", {evse: 1, "duration": 3600})
        schedule = composite["chargingSchedule" if version == "1.6" else "schedule"]
        assert schedule["chargingSchedulePeriod"][0]["limit"] == pytest.approx(15.9)
        await station.stop(1)
        assert station.station.installed.profiles == []


@VERSIONS
async def test_what_happened_offline_is_replayed_once_with_its_own_times(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", version=version, clock=fast(), settings=Settings()
        ) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR, soc=0.3)
        await station.present("T1")
        await station.stop(1, token="T1")
        station.cut()
        before = station.now()
        assert await station.present("T1") == "Accepted"
        await station.clock.sleep(180)
        await station.stop(1, token="T1")
        assert len(starts(centre, version)) == 1
        between = station.now()
        await station.clock.sleep(600)
        await station.reconnect()
        await station.drained()
        await station.unplug(1)
    assert len(starts(centre, version)) == len(stops(centre, version)) == 2
    for message in (starts(centre, version)[1], stops(centre, version)[1]):
        at = datetime.fromisoformat(message["timestamp"])
        assert before.replace(microsecond=0) <= at <= between
        assert message.get("offline", version == "1.6")
    assert len(centre.of("BootNotification")) == 1
    if version == "1.6":
        assert stops(centre, version)[1]["transactionId"] == 102
    else:
        numbers = [e["seqNo"] for e in centre.of("TransactionEvent") if e.get("offline")]
        assert numbers == list(range(len(numbers)))


@VERSIONS
async def test_an_unknown_token_is_refused_while_offline(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version=version) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR)
        station.cut()
        assert await station.present("STRANGER") == "Invalid"
        await station.reconnect()


@VERSIONS
async def test_one_call_is_outstanding_at_a_time(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", version=version, evses=4, journal=True, clock=fast(2000)
        ) as station,
    ):
        await station.boot()
        for evse in range(1, 5):
            await station.plug_in(evse, CAR, soc=0.3)
            await station.present(f"T{evse}", evse_id=evse)
        await centre.until(lambda: len(samples(centre, version)) >= 12)
        for evse in range(1, 5):
            await station.stop(evse)
    assert station.journal is not None
    waiting = 0
    for line in station.journal.lines:
        if line["dir"] == "sent" and line["frame"][0] == 2:
            waiting += 1
        elif line["dir"] == "got" and line["frame"][0] in (3, 4):
            waiting -= 1
        assert waiting in (0, 1)


async def test_every_command_of_1_6_is_answered_in_shape() -> None:
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version="1.6", evses=2) as station,
    ):
        await station.boot()

        async def ask(action: str, payload: dict[str, Any]) -> Any:
            return await centre.command("CP1", action, payload)

        config = await ask("GetConfiguration", {"key": ["HeartbeatInterval", "Nonsense"]})
        assert config["unknownKey"] == ["Nonsense"]
        assert config["configurationKey"][0]["value"] == "300"
        assert len((await ask("GetConfiguration", {}))["configurationKey"]) > 20
        change = {"key": "MeterValueSampleInterval", "value": "30"}
        assert await ask("ChangeConfiguration", change) == {"status": "Accepted"}
        assert station.settings.sample_interval_s == 30
        for key, value, status in (
            ("MeterValueSampleInterval", "soon", "Rejected"),
            ("NumberOfConnectors", "9", "Rejected"),
            ("Nonsense", "1", "NotSupported"),
        ):
            answer = await ask("ChangeConfiguration", {"key": key, "value": value})
            assert answer == {"status": status}
        entry = {"idTag": "L1", "idTagInfo": {"status": "Accepted"}}
        full = {"listVersion": 3, "updateType": "Full", "localAuthorizationList": [entry]}
        assert await ask("SendLocalList", full) == {"status": "Accepted"}
        assert await ask("GetLocalListVersion", {}) == {"listVersion": 3}
        old = {"listVersion": 2, "updateType": "Differential"}
        assert await ask("SendLocalList", old) == {"status": "VersionMismatch"}
        assert await ask("ClearCache", {}) == {"status": "Accepted"}
        assert await ask("UnlockConnector", {"connectorId": 2}) == {"status": "Unlocked"}
        assert await ask("DataTransfer", {"vendorId": "x"}) == {"status": "UnknownVendorId"}
        assert await ask("ClearChargingProfile", {}) == {"status": "Unknown"}
        assert (await ask("SetChargingProfile", {"connectorId": 1}))[0] == "FormationViolation"
        assert (await ask("GetDiagnostics", {"location": "ftp://x"}))[0] == "NotImplemented"
        away = {"connectorId": 2, "type": "Inoperative"}
        assert await ask("ChangeAvailability", away) == {"status": "Accepted"}
        trigger = {"requestedMessage": "MeterValues", "connectorId": 1}
        assert await ask("TriggerMessage", trigger) == {"status": "Accepted"}
        await centre.until(lambda: len(centre.of("MeterValues")) == 1)
        assert await ask("Reset", {"type": "Hard"}) == {"status": "Accepted"}
        await centre.until(lambda: len(centre.of("BootNotification")) == 2)
        await station.ready()


async def test_every_command_of_2_0_1_is_answered_in_shape() -> None:
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version="2.0.1") as station,
    ):
        await station.boot()

        async def ask(action: str, payload: dict[str, Any]) -> Any:
            return await centre.command("CP1", action, payload)

        def named(component: str, variable: str) -> dict[str, Any]:
            return {"component": {"name": component}, "variable": {"name": variable}}

        asked = [
            named("OCPPCommCtrlr", "HeartbeatInterval"),
            named("SmartChargingCtrlr", "RateUnit"),
            named("Nonsense", "X"),
            named("TxCtrlr", "Nonsense"),
        ]
        found = (await ask("GetVariables", {"getVariableData": asked}))["getVariableResult"]
        assert [f["attributeStatus"] for f in found] == [
            "Accepted",
            "Accepted",
            "UnknownComponent",
            "UnknownVariable",
        ]
        assert [f.get("attributeValue") for f in found[:2]] == ["300", "A,W"]
        data = [named("SampledDataCtrlr", "TxUpdatedInterval") | {"attributeValue": "30"}]
        result = (await ask("SetVariables", {"setVariableData": data}))["setVariableResult"]
        assert result[0]["attributeStatus"] == "Accepted"
        assert station.settings.sample_interval_s == 30
        report = {"requestId": 5, "reportBase": "FullInventory"}
        assert await ask("GetBaseReport", report) == {"status": "Accepted"}
        await centre.until(lambda: any(not r["tbc"] for r in centre.of("NotifyReport")))
        pages = centre.of("NotifyReport")
        assert [p["seqNo"] for p in pages] == list(range(len(pages)))
        assert len(pages) > 1
        entry = {
            "idToken": {"idToken": "L1", "type": "ISO14443"},
            "idTokenInfo": {"status": "Accepted"},
        }
        full = {"versionNumber": 3, "updateType": "Full", "localAuthorizationList": [entry]}
        assert await ask("SendLocalList", full) == {"status": "Accepted"}
        assert await ask("GetLocalListVersion", {}) == {"versionNumber": 3}
        unlock = {"evseId": 1, "connectorId": 1}
        assert await ask("UnlockConnector", unlock) == {"status": "Unlocked"}
        assert await ask("ClearCache", {}) == {"status": "Accepted"}
        assert await ask("GetTransactionStatus", {}) == {"messagesInQueue": False}
        default = tx_profile("2.0.1", "x", 8.0) | {"chargingProfilePurpose": "TxDefaultProfile"}
        default.pop("transactionId")
        body = set_profile("2.0.1", 0, default)
        assert await ask("SetChargingProfile", body) == {"status": "Accepted"}
        query = {"requestId": 9, "chargingProfile": {"chargingProfilePurpose": "TxDefaultProfile"}}
        assert await ask("GetChargingProfiles", query) == {"status": "Accepted"}
        await centre.until(lambda: len(centre.of("ReportChargingProfiles")) == 1)
        rival = await ask("SetChargingProfile", set_profile("2.0.1", 0, default | {"id": 8}))
        assert rival["statusInfo"]["reasonCode"] == "InvalidStackLevel"
        clear = {"chargingProfileId": 7}
        assert await ask("ClearChargingProfile", clear) == {"status": "Accepted"}
        assert (await ask("SetNetworkProfile", {}))[0] == "NotImplemented"
        assert await ask("Reset", {"type": "Immediate"}) == {"status": "Accepted"}
        await centre.until(lambda: len(centre.of("BootNotification")) == 2)
        await station.ready()


@VERSIONS
async def test_a_remote_start_and_stop_run_a_transaction(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version=version) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR)
        if version == "1.6":
            start = ("RemoteStartTransaction", {"connectorId": 1, "idTag": "R1"})
        else:
            token = {"idToken": "R1", "type": "Central"}
            body = {"evseId": 1, "remoteStartId": 4, "idToken": token}
            start = ("RequestStartTransaction", body)
        assert await centre.command("CP1", *start) == {"status": "Accepted"}
        await centre.until(lambda: len(starts(centre, version)) == 1)
        await station.drained()
        number = station.station.transactions[1]
        assert number is not None
        if version == "1.6":
            stop = ("RemoteStopTransaction", {"transactionId": int(number)})
        else:
            stop = ("RequestStopTransaction", {"transactionId": number})
        assert await centre.command("CP1", *stop) == {"status": "Accepted"}
        await centre.until(lambda: len(stops(centre, version)) == 1)


@VERSIONS
async def test_a_dialect_refuses_what_it_cannot_hold(version: str) -> None:
    dialect = Dialect(rate_units=("W",), max_periods=2, max_stack_level=3)
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version=version, dialect=dialect) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR)
        await station.start(1, "T1")
        number = station.station.transactions[1]
        assert number is not None
        amperes = tx_profile(version, number, 10.0)
        watts = tx_profile(version, number, 6900.0, unit="W")
        high = watts | {"stackLevel": 4}
        other = watts | {"transactionId": 5 if version == "1.6" else "other"}
        for profile, status in (
            (amperes, "Rejected"),
            (high, "Rejected"),
            (other, "Rejected"),
            (watts, "Accepted"),
        ):
            body = set_profile(version, 1, profile)
            answer = await centre.command("CP1", "SetChargingProfile", body)
            assert answer["status"] == status
        assert station.power_w(1) == pytest.approx(6900)


async def test_a_station_without_smart_charging_answers_not_implemented() -> None:
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", version="2.0.1", dialect=Dialect(supports_profiles=False)
        ) as station,
    ):
        await station.boot()
        body = set_profile("2.0.1", 1, tx_profile("2.0.1", "x", 10.0))
        assert (await centre.command("CP1", "SetChargingProfile", body))[0] == "NotImplemented"


async def test_faults_refuse_ignore_repeat_and_break_as_planned() -> None:
    async with Centre() as centre:
        body = set_profile("1.6", 0, tx_profile("1.6", "1", 10.0))
        body["csChargingProfiles"] |= {"chargingProfilePurpose": "TxDefaultProfile"}
        body["csChargingProfiles"].pop("transactionId")
        for faults, status in (
            (FaultPlan(refuse_profile_share=1.0), "Rejected"),
            (FaultPlan(ignore_profile_share=1.0), "Accepted"),
        ):
            async with SimulatedStation(centre.url, "CP1", faults=faults) as station:
                await station.boot()
                answer = await centre.command("CP1", "SetChargingProfile", body)
                assert answer == {"status": status}
                assert station.station.installed.profiles == []
        mute = FaultPlan(mute_share=1.0)
        async with SimulatedStation(centre.url, "CP1", faults=mute) as station:
            await station.boot()
            with pytest.raises(TimeoutError):
                await centre.command("CP1", "ClearCache", {}, wait_s=0.3)
        for faults, ids in (
            (FaultPlan(duplicate_share=1.0, malformed_share=1.0), 1),
            (FaultPlan(duplicate_new_id_share=1.0), 2),
        ):
            centre.calls.clear()
            async with SimulatedStation(centre.url, "CP1", faults=faults) as station:
                await station.call("Heartbeat", {})
                await centre.until(lambda: len(centre.of("Heartbeat")) == 2)
                assert station.link.errors == {}
            assert len({message_id for _, message_id, _, _ in centre.calls}) == ids
        assert centre.broken


async def test_a_dropped_link_comes_back_by_itself_and_loses_nothing() -> None:
    faults = FaultPlan(drop_share=0.3, outage_s=1.0)
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", version="2.0.1", faults=faults, seed=5, clock=fast(), boots=True
        ) as station,
    ):
        await station.ready()
        await station.plug_in(1, CAR)
        await station.start(1, "T1")
        await centre.until(lambda: len(samples(centre, "2.0.1")) >= 8)
        await station.stop(1)
        await station.drained()
        assert station.faults.counts["drop"] > 0
    numbers = [e["seqNo"] for e in centre.of("TransactionEvent")]
    assert sorted(set(numbers)) == list(range(max(numbers) + 1))
    assert len(stops(centre, "2.0.1")) == 1


async def test_a_record_nobody_answers_is_given_up_after_its_attempts() -> None:
    settings = Settings(message_attempts=2, message_attempt_interval_s=1)
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", settings=settings, call_timeout_s=0.2, journal=True, clock=fast()
        ) as station,
    ):
        centre.answers["StartTransaction"] = lambda payload: None
        await station.boot()
        await station.plug_in(1, CAR)
        await station.start(1, "T1")
        assert len(centre.of("StartTransaction")) == 2
        assert station.outbox.drops == 1
        assert station.journal is not None
        assert [ln for ln in station.journal.lines if ln["dir"] == "drop"]


async def test_connecting_to_nobody_says_so() -> None:
    station = SimulatedStation("ws://127.0.0.1:9/ocpp", "CP1")
    with pytest.raises(LinkDown):
        await station.link.connect()


async def test_a_clock_that_is_ahead_shows_in_the_times_sent() -> None:
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", clock=fast(1.0), faults=FaultPlan(clock_offset_s=7200)
        ) as station,
    ):
        await station.boot()
        sent = centre.of("StatusNotification")[0]["timestamp"]
    assert (datetime.fromisoformat(sent) - START).total_seconds() == pytest.approx(7200, abs=10)


@VERSIONS
async def test_a_station_asks_again_until_its_boot_is_accepted(version: str) -> None:
    replies: list[Any] = [
        ("InternalError", "not now"),
        {"status": "Pending", "currentTime": "2026-03-01T08:00:00Z", "interval": 30},
        {"status": "Accepted", "currentTime": "2026-03-01T08:00:00Z", "interval": 300},
    ]
    async with Centre() as centre:
        centre.answers["BootNotification"] = lambda payload: replies.pop(0)
        async with SimulatedStation(
            centre.url, "CP1", version=version, clock=fast(), boots=True
        ) as station:
            await station.ready(5)
        assert len(centre.of("BootNotification")) == 3
        assert centre.calls[3][2] == "StatusNotification"


async def test_a_link_is_asked_for_in_the_stations_own_manner() -> None:
    manners = Manners(lower_case=True, deflates=True)
    async with (
        Centre() as centre,
        SimulatedStation(centre.url, "CP1", version="1.6", manners=manners) as station,
    ):
        await station.boot()
    (headers,) = centre.headers
    assert [name for name in headers if name != name.lower()] == []
    assert "permessage-deflate" in headers["sec-websocket-extensions"]


@VERSIONS
async def test_what_waits_may_be_sent_without_waiting_for_answers(version: str) -> None:
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url,
            "CP1",
            version=version,
            journal=True,
            clock=fast(2000),
            manners=Manners(replay="at_once"),
        ) as station,
    ):
        await station.boot()
        await station.plug_in(1, CAR, soc=0.3)
        await station.present("T1")
        await station.drained()
        station.cut()
        while len(station.outbox.waiting) < 8:
            await station.clock.sleep(60)
        await station.reconnect()
        await station.drained()
        await station.stop(1, token="T1")
        await station.drained()
    assert station.journal is not None
    waiting = [0]
    for line in station.journal.lines:
        if line["dir"] == "sent" and line["frame"][0] == 2:
            waiting.append(waiting[-1] + 1)
        elif line["dir"] == "got" and line["frame"][0] in (3, 4):
            waiting.append(waiting[-1] - 1)
    assert max(waiting) >= 8
    energy = samples(centre, version)
    assert energy == sorted(energy)
