"""What OCPP 2.1 adds on the wire: names, SEND, CALLRESULTERROR."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from csms.core.commands import RawCall
from csms.core.messages import RecordReceived, SessionUpdated
from csms.core.model import OcppVersion
from csms.gateway import frames
from csms.gateway.adapter import Origin
from csms.gateway.codec import codec, schemas
from csms.gateway.v21 import V21
from tests.gateway.centre import NOW
from tests.gateway.conftest import World
from tests.gateway.test_codec import example, resolve

SCHEMAS = schemas(OcppVersion.V21)
CODEC = codec(OcppVersion.V21)
RESPELLED = (
    "limit_L2 limit_L3 setpoint_L2 setpointReactive_L3 dischargeLimit_L2 maxChargePower_L3 soc soC "
    "soH receiptUrl hv10MinMeanValue v2xFreqWattCurve evMaximumLevel1DCInjection "
    "maximumContractCertificateChains limitAtSoC"
).split()
"""Names that a conversion to snake case and back does not return as they were."""


def names(
    schema: dict[str, Any], root: dict[str, Any], seen: tuple[int, ...] = ()
) -> Iterator[str]:
    schema = resolve(schema, root)
    if id(schema) in seen:
        return
    for name, part in schema.get("properties", {}).items():
        if name != "customData":
            yield name
            yield from names(part, root, (*seen, id(schema)))
    if "items" in schema:
        yield from names(schema["items"], root, seen)


def members(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from members(part)
    elif isinstance(value, list):
        for part in value:
            yield from members(part)


def call(action: str, payload: Any) -> frames.Call:
    found = frames.read(json.dumps([2, "1", action, payload]))
    assert isinstance(found, frames.Call)
    return found


def test_no_property_name_of_any_message_is_respelled_on_its_way() -> None:
    adapter, met = V21(), set()
    for name, schema in SCHEMAS.items():
        payload = example(schema, schema)
        assert set(members(payload)) == set(names(schema, schema)), name
        met |= set(members(payload))
        action = name.removesuffix("Request")
        if name.endswith("Response"):
            text = frames.answer_text("1", payload)
            answer = frames.read(text)
            assert isinstance(answer, frames.Answer)
            assert answer.payload == payload
        elif action in CODEC.to_station:
            command = RawCall(station_id="x", action=action, payload_json=json.dumps(payload))
            assert json.loads(adapter.steps(command)[0].payload_json) == payload
        elif action != "Heartbeat":
            report = adapter.exchange(call(action, payload), Origin("CS 1", 1, NOW)).report
            kept = getattr(report, "payload", None)
            assert kept is None or json.loads(kept) == payload, name
    assert met.issuperset(RESPELLED)


def test_every_action_of_the_station_has_an_exchange() -> None:
    adapter = V21()
    for action in (CODEC.from_station | CODEC.sent_by_station) - {"Heartbeat"}:
        schema = SCHEMAS.get(f"{action}Request") or SCHEMAS[action]
        found = adapter.exchange(call(action, example(schema, schema)), Origin("CS 1", 1, NOW))
        assert getattr(found.report, "version", OcppVersion.V21) is OcppVersion.V21, action


STREAM = {
    "id": 1,
    "pending": 0,
    "basetime": "2026-03-02T12:00:00Z",
    "data": [{"t": 0.5, "v": "7"}],
}


async def test_r40_a_send_is_taken_in_order_and_never_answered(world: World) -> None:
    async with world.station("ocpp2.1") as station:
        await station.send(6, "a", "NotifyPeriodicEventStream", STREAM)
        await station.send(6, "b", "NotifyPeriodicEventStream", {**STREAM, "surprise": 1})
        await station.send(6, "c", "NotifyPeriodicEventStream", {"id": 1})
        await station.send(6, "d", "Heartbeat", {})
        await station.send(6, "e", "Dance", {})
        await station.send(6, "f")
        await station.send(6, "", "NotifyPeriodicEventStream", STREAM)
        await station.send(6, "g", "NotifyPeriodicEventStream", [])
        await station.send(6, "h", "NotifyPeriodicEventStream", {**STREAM, "id": 2})
        await station.send(2, "i", "Heartbeat", {})
        assert (await station.read())[:2] == [3, "i"]
        kept = [json.loads(r.payload)["id"] for r in world.centre.of(RecordReceived)]
        assert kept == [1, 2]


async def test_r40_a_send_is_taken_between_the_calls_around_it(world: World) -> None:
    event = {
        "eventType": "Updated",
        "timestamp": "2026-03-02T12:00:00Z",
        "triggerReason": "MeterValuePeriodic",
        "transactionInfo": {"transactionId": "t"},
    }
    async with world.station("ocpp2.1") as station:
        await station.send(2, "a", "TransactionEvent", {**event, "seqNo": 1})
        await station.send(6, "b", "NotifyPeriodicEventStream", STREAM)
        await station.send(2, "c", "TransactionEvent", {**event, "seqNo": 2})
        assert [(await station.read())[:2] for _ in range(2)] == [[3, "a"], [3, "c"]]
        order = [type(r) for r in world.centre.reports if not r.station_id == ""]
        assert order[-3:] == [SessionUpdated, RecordReceived, SessionUpdated]


@pytest.mark.parametrize("frame", [[6, "7", "NotifyPeriodicEventStream", STREAM], [6, "7"]])
async def test_r40_older_versions_do_not_know_a_send(world: World, frame: list[Any]) -> None:
    async with world.station("ocpp2.0.1") as station:
        await station.send(*frame)
        assert (await station.read())[:3] == [4, "7", "MessageTypeNotSupported"]
        assert world.centre.of(RecordReceived) == []
    async with world.station("ocpp1.6") as station:
        await station.send(*frame)
        await station.send(2, "8", "Heartbeat", {})
        assert (await station.read())[:2] == [3, "8"]


async def test_what_is_only_sent_cannot_be_called(world: World) -> None:
    async with world.station("ocpp2.1") as station:
        frame = await station.call("NotifyPeriodicEventStream", STREAM)
        assert (frame[0], frame[2]) == (4, "NotSupported")


@pytest.mark.parametrize(
    "frame", [[5, "1", "FormatViolation", "unread", {}], [5, "nothing we know"], [5]]
)
async def test_r31_a_callresulterror_of_the_station_is_noted_and_the_link_lives(
    world: World, frame: list[Any]
) -> None:
    async with world.station("ocpp2.1") as station:
        await station.send(*frame)
        assert "currentTime" in await station.ask("Heartbeat", {})
    told = [(r.action, json.loads(r.payload)) for r in world.centre.of(RecordReceived)]
    code = frame[2] if len(frame) > 2 else ""
    if len(frame) > 1:
        why = frame[3] if len(frame) > 3 else ""
        complaint = {"messageId": frame[1], "errorCode": code, "errorDescription": why}
        assert told == [("CALLRESULTERROR", complaint)]
    else:
        assert told == []
