"""CPU-us to read, bound and check one frame, without socket, adapter or centre.

Run it as `python -m benchmarks.codec_check`. The frames are those of the performance design: four
sampled values each, spelled compact as most stations do, and with spaces as some do.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from csms.core.messages import SessionReply
from csms.core.model import OcppVersion
from csms.gateway import frames
from csms.gateway.adapter import Adapter, Origin
from csms.gateway.codec import codec
from csms.gateway.v16 import V16
from csms.gateway.v201 import V201

ROUNDS, CALLS = 7, 5000
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
READINGS = (
    ("Energy.Active.Import.Register", 12345.6, "Wh"),
    ("Power.Active.Import", 11040.0, "W"),
    ("Current.Import", 16.2, "A"),
    ("Voltage", 230.1, "V"),
)


def transaction_event() -> list[Any]:
    """Return the 2.0.1 frame."""
    sampled = [
        {
            "value": value,
            "context": "Sample.Periodic",
            "measurand": measurand,
            "location": "Outlet",
            "unitOfMeasure": {"unit": unit, "multiplier": 0},
        }
        for measurand, value, unit in READINGS
    ]
    payload = {
        "eventType": "Updated",
        "timestamp": "2026-03-02T12:00:00.000Z",
        "triggerReason": "MeterValuePeriodic",
        "seqNo": 7,
        "transactionInfo": {
            "transactionId": "7d6f0b4e-9c1e-4e53-9d2a-7f0e7c3b1a55",
            "chargingState": "Charging",
        },
        "evse": {"id": 1, "connectorId": 1},
        "meterValue": [{"timestamp": "2026-03-02T12:00:00.000Z", "sampledValue": sampled}],
    }
    return [2, "b3f1c0de-1234-4a5b-8c9d-0123456789ab", "TransactionEvent", payload]


def meter_values() -> list[Any]:
    """Return the 1.6 frame."""
    sampled = [
        {"value": str(value), "context": "Sample.Periodic", "measurand": measurand, "unit": unit}
        for measurand, value, unit in READINGS
    ]
    payload = {
        "connectorId": 1,
        "transactionId": 101,
        "meterValue": [{"timestamp": "2026-03-02T12:00:00Z", "sampledValue": sampled}],
    }
    return [2, "b3f1c0de-1234-4a5b-8c9d-0123456789ab", "MeterValues", payload]


def cost_us(work: Callable[[], object]) -> float:
    """Return the least CPU-us a call took over the rounds: neighbours only ever add to it."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            work()
        best = min(best, time.process_time() - began)
    return best / CALLS * 1e6


def report(name: str, adapter: Adapter, text: str) -> None:
    """Print the steps of one frame."""
    rules = codec(adapter.version)
    call = frames.read(text)
    assert isinstance(call, frames.Call)
    assert rules.check_call(call.action, call.payload) is None
    origin = Origin("CS-1", 1, NOON)
    answer = adapter.exchange(call, origin).answer(SessionReply(transaction_id="101"))
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: frames.read(text),
        "check": lambda: rules.check_call(call.action, call.payload),
        "report": lambda: adapter.exchange(call, origin),
        "answer": lambda: (
            rules.check_answer(call.action, answer),
            frames.answer_text(call.message_id, answer),
        ),
    }
    costs = {step: cost_us(work) for step, work in steps.items()}
    spelled = "  ".join(f"{step} {cost:5.2f}" for step, cost in costs.items())
    total = costs["read"] + costs["check"]
    print(f"{name:34} {len(text):5} B  {spelled}  | read + check {total:5.2f} us")


def main() -> None:
    """Print what each frame costs."""
    found: list[tuple[str, OcppVersion, list[Any]]] = [
        ("2.0.1 TransactionEvent", OcppVersion.V201, transaction_event()),
        ("1.6 MeterValues", OcppVersion.V16, meter_values()),
    ]
    for name, version, frame in found:
        adapter: Adapter = V201() if version is OcppVersion.V201 else V16()
        report(f"{name}, compact", adapter, json.dumps(frame, separators=(",", ":")))
        report(f"{name}, with spaces", adapter, json.dumps(frame))


if __name__ == "__main__":
    main()
