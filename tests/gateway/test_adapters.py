"""What the two versions' messages become, and how replies and commands are spelled."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.commands import (
    Configure,
    Outcome,
    RawCall,
    ReadLimits,
    Schedule,
    SchedulePeriod,
    SetSchedule,
    StartCharging,
    StopCharging,
)
from csms.core.messages import (
    MeterReported,
    NeedReported,
    RecordReceived,
    Report,
    SessionEnded,
    SessionReply,
    SessionStarted,
    SessionUpdated,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TokenReply,
    VendorMessage,
    VendorReply,
)
from csms.core.model import Authorization, AuthorizationStatus, IdToken, OcppVersion
from csms.gateway.adapter import Adapter, Exchange, Origin, Unsendable, outcome_of
from csms.gateway.codec import codec, schemas
from csms.gateway.frames import Call
from csms.gateway.limits import CONFIGURATION_KEYS
from csms.gateway.v16 import V16
from csms.gateway.v21 import V21
from csms.gateway.v201 import V201
from tests.gateway.centre import NOW
from tests.gateway.conftest import World
from tests.gateway.test_codec import example

ORIGIN = Origin("CS 1", 7, NOW)
V16_ADAPTER, V201_ADAPTER, V21_ADAPTER = V16(), V201(), V21()
ADAPTERS: dict[OcppVersion, Adapter] = {
    adapter.version: adapter for adapter in (V16_ADAPTER, V201_ADAPTER, V21_ADAPTER)
}
AT = "2026-03-02T11:59:00Z"


def exchange(adapter: Adapter, action: str, payload: dict[str, Any]) -> Exchange:
    """Translate one call that fits its schema."""
    assert adapter.codec.check_call(action, payload) is None
    return adapter.exchange(Call("1", action, payload, json.dumps(payload)), ORIGIN)


def v16(action: str, payload: dict[str, Any]) -> Report[Any]:
    return exchange(V16_ADAPTER, action, payload).report


def v201(action: str, payload: dict[str, Any]) -> Report[Any]:
    return exchange(V201_ADAPTER, action, payload).report


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": AT,
        "triggerReason": "CablePluggedIn",
        "seqNo": 3,
        "transactionInfo": {"transactionId": "tx-1"},
    } | more


def test_a_1_6_boot_names_vendor_model_and_either_serial_number() -> None:
    payload = {"chargePointVendor": "V", "chargePointModel": "M", "chargeBoxSerialNumber": "S"}
    report = v16("BootNotification", payload)
    assert isinstance(report, StationBooted)
    assert (report.vendor, report.model, report.serial_number) == ("V", "M", "S")
    assert (report.station_id, report.link_id, report.received_at) == ORIGIN[:3]


def test_a_1_6_status_without_a_time_is_of_now() -> None:
    payload = {"connectorId": 0, "errorCode": "OtherError", "status": "Faulted", "info": "x"}
    report = v16("StatusNotification", payload)
    assert isinstance(report, StatusChanged)
    assert (report.at, report.evse_id, report.status, report.error_code, report.info) == (
        NOW,
        0,
        "Faulted",
        "OtherError",
        "x",
    )


def test_a_1_6_start_without_a_zone_is_utc_and_flagged() -> None:
    payload = {"connectorId": 2, "idTag": "T", "meterStart": 9, "timestamp": "2026-03-02T11:59:00"}
    report = v16("StartTransaction", payload | {"reservationId": 4})
    assert isinstance(report, SessionStarted)
    assert report.at == datetime(2026, 3, 2, 11, 59, tzinfo=UTC)
    assert report.flags == ("time_without_zone",)
    assert (report.transaction_id, report.seq_no, report.evse_id) == ("", None, 2)
    assert (report.meter_start_wh, report.reservation_id) == (9.0, 4)
    assert report.id_token == IdToken(value="T")


def test_1_6_meter_values_are_an_update_with_a_transaction_and_a_reading_without() -> None:
    values = [{"timestamp": AT, "sampledValue": [{"value": "5"}]}]
    inside = v16("MeterValues", {"connectorId": 1, "transactionId": 101, "meterValue": values})
    assert isinstance(inside, SessionUpdated)
    assert (inside.transaction_id, inside.samples[0].energy_wh) == ("101", 5)
    assert inside.at == datetime(2026, 3, 2, 11, 59, tzinfo=UTC)
    outside = v16("MeterValues", {"connectorId": 0, "meterValue": values})
    assert isinstance(outside, MeterReported)
    assert outside.evse_id == 0


def test_a_1_6_stop_carries_its_samples_and_survives_an_unreadable_one() -> None:
    data = [{"timestamp": AT, "sampledValue": [{"value": "12,5"}, {"value": "7"}]}]
    payload = {"transactionId": -1, "meterStop": 7, "timestamp": AT, "transactionData": data}
    report = v16("StopTransaction", payload)
    assert isinstance(report, SessionEnded)
    assert (report.transaction_id, report.meter_stop_wh, report.id_token) == ("-1", 7.0, None)
    assert report.samples[0].energy_wh == 7
    assert report.flags == ("value_unreadable",)


def test_the_digest_is_of_the_content_and_not_of_its_order() -> None:
    one = v201("TransactionEvent", event("Updated"))
    other = v201("TransactionEvent", dict(reversed(event("Updated").items())))
    different = v201("TransactionEvent", event("Updated", seqNo=4))
    assert isinstance(one, SessionUpdated)
    assert isinstance(other, SessionUpdated)
    assert isinstance(different, SessionUpdated)
    assert one.digest == other.digest != different.digest
    assert len(one.digest) == 32
    assert json.loads(one.payload) == event("Updated")


def test_a_2_0_1_start_names_everything_it_was_told() -> None:
    values = [{"timestamp": AT, "sampledValue": [{"value": 5.5, "context": "Transaction.Begin"}]}]
    report = v201(
        "TransactionEvent",
        event(
            "Started",
            offline=True,
            evse={"id": 2, "connectorId": 1},
            idToken={"idToken": "abc", "type": "ISO14443"},
            meterValue=values,
            transactionInfo={
                "transactionId": "tx-1",
                "chargingState": "EVConnected",
                "remoteStartId": 8,
            },
        ),
    )
    assert isinstance(report, SessionStarted)
    assert (report.evse_id, report.connector_id, report.seq_no) == (2, 1, 3)
    assert report.id_token == IdToken(value="abc", kind="ISO14443")
    assert (report.meter_start_wh, report.remote_start_id) == (5.5, 8)
    assert (report.is_offline, report.charging_state) == (True, "EVConnected")


def test_a_2_0_1_event_may_say_next_to_nothing() -> None:
    report = v201("TransactionEvent", event("Ended"))
    assert isinstance(report, SessionEnded)
    assert (report.evse_id, report.connector_id, report.id_token) == (0, 0, None)
    assert (report.samples, report.meter_stop_wh, report.stop_reason) == ((), None, "")


def test_an_empty_token_without_authorization_is_taken_as_it_is() -> None:
    token = {"idToken": "", "type": "NoAuthorization"}
    report = v201("TransactionEvent", event("Started", idToken=token))
    assert isinstance(report, SessionStarted)
    assert report.id_token == IdToken(value="", kind="NoAuthorization")
    presented = v201("Authorize", {"idToken": token})
    assert isinstance(presented, TokenPresented)


def test_needs_of_an_ac_car_and_of_a_dc_car_are_read() -> None:
    ac = {"energyAmount": 20000, "evMinCurrent": 6, "evMaxCurrent": 16, "evMaxVoltage": 230}
    needs = {"requestedEnergyTransfer": "AC_three_phase", "acChargingParameters": ac}
    report = v201("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs})
    assert isinstance(report, NeedReported)
    assert (report.energy_wh, report.min_current_a, report.max_current_a) == (20000, 6, 16)
    dc = {"evMaxCurrent": 200, "evMaxVoltage": 800, "stateOfCharge": 40, "evMaxPower": 100000}
    needs = {
        "requestedEnergyTransfer": "DC",
        "dcChargingParameters": dc,
        "departureTime": "2026-03-02T18:00:00Z",
    }
    report = v201("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs})
    assert isinstance(report, NeedReported)
    assert (report.soc, report.max_power_w) == (0.4, 100000)
    assert report.departs_at == datetime(2026, 3, 2, 18, tzinfo=UTC)


@pytest.mark.parametrize(("data", "text"), [("abc", "abc"), ({"a": [1]}, '{"a":[1]}'), (5, "5")])
def test_vendor_data_is_text_whatever_the_version_allows(data: Any, text: str) -> None:
    report = v201("DataTransfer", {"vendorId": "v", "messageId": "m", "data": data})
    assert isinstance(report, VendorMessage)
    assert report.data == text


@pytest.mark.parametrize("adapter", list(ADAPTERS.values()), ids=list(ADAPTERS))
def test_every_message_of_a_station_becomes_a_report_and_gets_an_answer_that_fits(
    adapter: Adapter,
) -> None:
    files = schemas(adapter.version)
    kinds = set()
    for action in sorted(codec(adapter.version).from_station - {"Heartbeat"}):
        schema = files.get(f"{action}Request") or files[action]
        payload = example(schema, schema)
        for where in payload.get("meterValue") or payload.get("transactionData") or ():
            for sampled in where["sampledValue"]:
                sampled["value"] = "5" if adapter.version is OcppVersion.V16 else 5
        found = exchange(adapter, action, payload)
        kinds.add(type(found.report))
        if isinstance(found.report, RecordReceived):
            answer = found.answer(None)
            assert found.report.action == action
            assert json.loads(found.report.payload) == payload
            assert adapter.codec.check_answer(action, answer) is None, action
    # In 1.6 every message means something to us; later versions have some that are kept only.
    assert (RecordReceived in kinds) is (adapter.version is not OcppVersion.V16)


@pytest.mark.parametrize("status", list(AuthorizationStatus))
def test_every_decision_has_a_word_in_both_versions(status: AuthorizationStatus) -> None:
    decision = Authorization(
        status=status,
        reason="r",
        priority=20,
        group="g" * 30,
        expires_at=NOW + timedelta(days=1),
        evse_ids=(1, 2),
    )
    tag = exchange(V16_ADAPTER, "Authorize", {"idTag": "T"}).answer(
        TokenReply(authorization=decision)
    )
    assert V16_ADAPTER.codec.check_answer("Authorize", tag) is None
    assert tag["idTagInfo"]["expiryDate"] == "2026-03-03T12:00:00.000Z"
    # Too long for 1.6; a cut group would be another group.
    assert "parentIdTag" not in tag["idTagInfo"]
    token = {"idToken": {"idToken": "T", "type": "Central"}}
    full = exchange(V201_ADAPTER, "Authorize", token).answer(TokenReply(authorization=decision))
    assert V201_ADAPTER.codec.check_answer("Authorize", full) is None
    info = full["idTokenInfo"]
    assert (info["status"], info["chargingPriority"], info["evseId"]) == (status.value, 9, [1, 2])
    assert info["groupIdToken"]["idToken"] == "g" * 30


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("NoCredit", "Blocked"),
        ("NotAtThisTime", "Blocked"),
        ("NotAtThisLocation", "Blocked"),
        ("NotAllowedTypeEVSE", "Blocked"),
        ("Unknown", "Invalid"),
        ("ConcurrentTx", "ConcurrentTx"),
    ],
)
def test_1_6_says_what_it_has_words_for(status: str, word: str) -> None:
    decision = Authorization(status=AuthorizationStatus(status), reason="r")
    reply = TokenReply(authorization=decision)
    answer = exchange(V16_ADAPTER, "Authorize", {"idTag": "T"}).answer(reply)
    assert answer == {"idTagInfo": {"status": word}}


def test_s59_a_refused_start_still_gets_its_transaction_id() -> None:
    payload = {"connectorId": 1, "idTag": "T", "meterStart": 1, "timestamp": AT}
    decision = Authorization(status=AuthorizationStatus.BLOCKED, reason="r")
    answer = exchange(V16_ADAPTER, "StartTransaction", payload).answer(
        SessionReply(transaction_id="55", authorization=decision)
    )
    assert answer == {"idTagInfo": {"status": "Blocked"}, "transactionId": 55}


def test_a_2_0_1_answer_carries_the_priority_of_the_session() -> None:
    answer = exchange(V201_ADAPTER, "TransactionEvent", event("Updated")).answer(
        SessionReply(transaction_id="tx-1", priority=-12)
    )
    assert answer == {"chargingPriority": -9}


def test_vendor_replies_are_spelled_alike() -> None:
    reply = VendorReply(status="Accepted", data="d")
    for adapter in ADAPTERS.values():
        found = exchange(adapter, "DataTransfer", {"vendorId": "v"})
        assert found.answer(reply) == {"status": "Accepted", "data": "d"}


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("", Outcome.ACCEPTED),
        ("Accepted", Outcome.ACCEPTED),
        ("RebootRequired", Outcome.ACCEPTED),
        ("NotSupported", Outcome.NOT_SUPPORTED),
        ("NotImplemented", Outcome.NOT_SUPPORTED),
        ("Rejected", Outcome.REJECTED),
        ("UnlockFailed", Outcome.REJECTED),
    ],
)
def test_a_status_is_an_outcome(word: str, outcome: Outcome) -> None:
    assert outcome_of(word) is outcome


def _configuration(**values: str) -> list[dict[str, Any]]:
    return [{"key": key, "readonly": True, "value": value} for key, value in values.items()]


def test_s72_limits_of_a_1_6_station_are_read_from_what_it_says() -> None:
    step = V16_ADAPTER.steps(ReadLimits(station_id="CS 1"))[0]
    assert step.payload == {"key": list(CONFIGURATION_KEYS)}
    entries = _configuration(
        ChargeProfileMaxStackLevel="3",
        ChargingScheduleAllowedChargingRateUnit="Power, Current",
        chargingschedulemaxperiods=" 24 ",
        NumberOfConnectors="2",
        ConnectorPhaseRotation="0.RST, 1.RST, 2.R",
    )
    answer = {
        "configurationKey": [*entries, {"key": "MaxChargingProfilesInstalled", "readonly": "true"}],
        "unknownKey": ["SupportedFeatureProfiles"],
    }
    result = step.read(answer)
    assert result.limits is not None
    assert (result.limits.units, result.limits.max_periods) == (("W", "A"), 24)
    assert (result.limits.max_stack_level, result.limits.max_profiles) == (3, 10)
    assert result.limits.source == "asked"
    assert [(evse.evse_id, evse.phases) for evse in result.evses] == [(1, 3), (2, 1)]


@pytest.mark.parametrize("answer", [{}, {"unknownKey": list(CONFIGURATION_KEYS)}])
def test_limits_of_a_station_that_says_nothing_stay_assumed(answer: dict[str, Any]) -> None:
    limits = V16_ADAPTER.steps(ReadLimits(station_id="CS 1"))[0].read(answer).limits
    assert limits is not None
    assert (limits.source, limits.max_periods, limits.units) == ("assumed", 16, ("A",))


@pytest.mark.parametrize("value", ["", "abc", "-1", "0", "99999999999", "1.5", "٣"])
def test_a_limit_that_is_no_number_keeps_its_default(value: str) -> None:
    answer = {"configurationKey": _configuration(ChargingScheduleMaxPeriods=value)}
    limits = V16_ADAPTER.steps(ReadLimits(station_id="CS 1"))[0].read(answer).limits
    assert limits is not None
    assert limits.max_periods == 16


def _variables(*values: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "getVariableResult": [
            {
                "attributeStatus": status,
                "attributeValue": value,
                "component": {"name": "SmartChargingCtrlr"},
                "variable": {"name": name},
            }
            for name, status, value in values
        ]
    }


def test_limits_of_a_2_0_1_station_are_read_from_its_variables() -> None:
    read = V201_ADAPTER.steps(ReadLimits(station_id="CS 1"))[0].read
    limits = read(
        _variables(
            ("RateUnit", "Accepted", "W"),
            ("PeriodsPerSchedule", "Accepted", "2"),
            ("Entries", "UnknownVariable", ""),
        )
    ).limits
    assert limits is not None
    assert (limits.units, limits.max_periods, limits.max_profiles) == (("W",), 2, 10)
    assert limits.source == "asked"
    unknown = read(_variables(("RateUnit", "UnknownComponent", ""))).limits
    assert unknown is not None
    assert not unknown.supports_profiles


def test_s71_an_alias_that_does_not_fit_1_6_never_reaches_the_wire() -> None:
    start = StartCharging(
        station_id="CS 1", evse_id=1, id_token=IdToken(value="x" * 21), remote_start_id=1
    )
    step = V16_ADAPTER.steps(start)[0]
    assert V16_ADAPTER.codec.check_command(step.action, step.payload) is not None


@pytest.mark.parametrize("transaction_id", ["", "tx", "-1", "4294967296", "1.0"])
def test_a_1_6_transaction_id_is_a_number(transaction_id: str) -> None:
    with pytest.raises(Unsendable):
        V16_ADAPTER.steps(StopCharging(station_id="CS 1", transaction_id=transaction_id))


def test_a_variable_needs_its_component() -> None:
    with pytest.raises(Unsendable):
        V201_ADAPTER.steps(Configure(station_id="CS 1", values=(("HeartbeatInterval", "1"),)))


async def test_several_keys_are_set_one_by_one_until_one_is_refused(world: World) -> None:
    async with world.station() as station:
        values = (("A", "1"), ("B", "2"), ("C", "3"))
        result = world.command(Configure(station_id="CS 1", values=values))
        assert (await station.answer({"status": "Accepted"}))[3]["key"] == "A"
        assert (await station.answer({"status": "Rejected"}))[3]["key"] == "B"
        assert (await result).outcome is Outcome.REJECTED
        assert "currentTime" in await station.ask("Heartbeat", {})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (
            '{ "connectorId": 1, "csChargingProfiles": {"stackLevel": 0, "chargingProfileId": 9,\n'
            '"chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative",'
            ' "chargingSchedule": {"chargingSchedulePeriod": [{"limit": 16.10, "startPeriod": 0}],'
            ' "chargingRateUnit": "A"}}}',
            '{"connectorId":1,"csChargingProfiles":{"stackLevel":0,"chargingProfileId":9,'
            '"chargingProfilePurpose":"TxDefaultProfile","chargingProfileKind":"Relative",'
            '"chargingSchedule":{"chargingSchedulePeriod":[{"limit":16.10,"startPeriod":0}],'
            '"chargingRateUnit":"A"}}}',
        ),
    ],
)
async def test_k1_a_raw_call_goes_out_as_it_was_given(world: World, given: str, sent: str) -> None:
    async with world.station() as station:
        command = RawCall(station_id="CS 1", action="SetChargingProfile", payload_json=given)
        result = world.command(command)
        call = await station.answer({"status": "Accepted"})
        assert (await result).is_accepted
        written = [text for _, way, text in world.seen if way == "out"]
        assert written == [f'[2,"{call[1]}","SetChargingProfile",{sent}]']


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("Reset", '{"type":"Sideways"}'),
        ("Reset", "{}"),
        ("Reset", "nonsense"),
        ("Reset", '{"type":"Hard","type":"Soft"}'),
        ("Dance", "{}"),
        ("Heartbeat", "{}"),
        ("TransactionEvent", "{}"),
    ],
)
async def test_a_raw_call_that_breaks_the_schema_is_not_sent(
    world: World, action: str, payload: str
) -> None:
    async with world.station() as station:
        await station.ask("Heartbeat", {})
        result = await world.bus.command(
            RawCall(station_id="CS 1", action=action, payload_json=payload)
        )
        assert result.outcome is Outcome.NOT_SENT
        assert result.why_not_sent.startswith("not valid")


def every_command_of(version: OcppVersion) -> Sequence[str]:
    return sorted(codec(version).to_station)


@pytest.mark.parametrize("version", list(OcppVersion))
def test_every_action_of_the_centre_can_be_called_raw(version: OcppVersion) -> None:
    adapter = ADAPTERS[version]
    files = schemas(version)
    for action in every_command_of(version):
        schema = files.get(f"{action}Request") or files[action]
        payload = example(schema, schema)
        command = RawCall(station_id="x", action=action, payload_json=json.dumps(payload))
        step = adapter.steps(command)[0]
        assert adapter.codec.check_command(step.action, step.payload) is None, action
        assert json.loads(step.payload_json) == payload


@pytest.mark.parametrize(
    ("purpose", "evse_id", "word_16"),
    [
        ("TxProfile", 2, "TxProfile"),
        ("TxDefaultProfile", 2, "TxDefaultProfile"),
        ("ChargingStationMaxProfile", 0, "ChargePointMaxProfile"),
    ],
)
@pytest.mark.parametrize("adapter", list(ADAPTERS.values()), ids=list(ADAPTERS))
def test_a_plan_goes_out_as_what_its_schedule_says(
    adapter: Adapter, purpose: str, evse_id: int, word_16: str
) -> None:
    schedule = Schedule(
        profile_id=1_000_002,
        stack_level=1,
        unit="A",
        starts_at=datetime(2026, 3, 2, 12, tzinfo=UTC),
        duration_s=900,
        periods=(SchedulePeriod(start_s=0, limit=10.0),),
        purpose=purpose,
    )
    command = SetSchedule(station_id="x", evse_id=2, transaction_id="7", schedule=schedule)
    (step,) = adapter.steps(command)
    assert adapter.codec.check_command(step.action, step.payload) is None
    is_16 = adapter.version is OcppVersion.V16
    profile = step.payload["csChargingProfiles" if is_16 else "chargingProfile"]
    assert step.payload["connectorId" if is_16 else "evseId"] == evse_id
    assert profile["chargingProfilePurpose"] == (word_16 if is_16 else purpose)
    # Only a TxProfile names its transaction (1.6 §3.13.1, 2.0.1 K01.FR.03).
    assert ("transactionId" in profile) == (purpose == "TxProfile")
