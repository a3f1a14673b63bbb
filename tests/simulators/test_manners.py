"""Manners of speaking change the words of a message and not what it is about."""

from typing import Any

import pytest

from simulators.manners import JUMP_WH, PLAIN, Manners, Speaker

REGISTER = "Energy.Active.Import.Register"


def event(number: int, kind: str = "Updated", **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": "2026-03-02T16:00:00.250Z",
        "triggerReason": "MeterValuePeriodic",
        "seqNo": number,
        "transactionInfo": {"transactionId": "tx"},
        "evse": {"id": 1},
        "meterValue": [
            {
                "timestamp": "2026-03-02T16:00:00.250Z",
                "sampledValue": [
                    {"value": 300.08, "measurand": REGISTER, "unitOfMeasure": {"unit": "Wh"}}
                ],
            }
        ],
        **more,
    }


def said(payload: dict[str, Any], **manners: Any) -> list[tuple[str, dict[str, Any]]]:
    speaker = Speaker(manners=Manners(**manners), version="2.0.1")
    return speaker.says("TransactionEvent", payload)


def test_without_manners_nothing_is_changed() -> None:
    speaker = Speaker(manners=PLAIN, version="2.0.1")
    assert speaker.says("TransactionEvent", event(3)) == [("TransactionEvent", event(3))]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [("zero", [0, 0, 0]), ("stuck", [0, 1, 1]), ("from_one", [1, 2, 3]), ("ok", [0, 1, 2])],
)
def test_numbers_go_wrong_in_their_own_way(numbers: str, expected: list[int]) -> None:
    speaker = Speaker(manners=Manners(numbers=numbers), version="2.0.1")
    found = [speaker.says("TransactionEvent", event(n))[0][1]["seqNo"] for n in range(3)]
    assert found == expected


def test_values_of_the_evse_leave_no_gap_in_the_numbers() -> None:
    speaker = Speaker(manners=Manners(updates="by_evse"), version="2.0.1")
    kinds = ["Started", "Updated", "Updated", "Ended"]
    found = [speaker.says("TransactionEvent", event(n, kind))[0] for n, kind in enumerate(kinds)]
    assert [action for action, _ in found] == [
        "TransactionEvent", "MeterValues", "MeterValues", "TransactionEvent",
    ]  # fmt: skip
    assert [payload.get("seqNo") for _, payload in found] == [0, None, None, 1]


@pytest.mark.parametrize(
    ("meter", "values"),
    [
        ("kwh", [0.30008]),
        ("mislabelled", [300.08]),
        ("per_phase", [pytest.approx(0.10002667)] * 3),
    ],
)
def test_energy_is_told_in_other_units(meter: str, values: list[Any]) -> None:
    ((_, payload),) = said(event(1), meter=meter)
    samples = payload["meterValue"][0]["sampledValue"]
    assert [s["value"] for s in samples] == values
    assert {s["unitOfMeasure"]["unit"] for s in samples} == {"kWh"}


def test_a_register_jumps_once_and_stays_up() -> None:
    speaker = Speaker(manners=Manners(meter="jumps"), version="2.0.1")
    found = [speaker.says("TransactionEvent", event(n))[0][1] for n in range(4)]
    told = [p["meterValue"][0]["sampledValue"][0]["value"] for p in found]
    assert told == [300.08] * 2 + [300.08 + JUMP_WH] * 2
    stop = {"transactionId": 1, "timestamp": "2026-03-02T16:00:00Z", "meterStop": 300}
    ((_, ended),) = speaker.says("StopTransaction", stop)
    assert ended["meterStop"] == 300 + JUMP_WH


def test_the_status_of_the_whole_is_told_with_that_of_an_evse() -> None:
    status = {"timestamp": "x", "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1}
    speaker = Speaker(manners=Manners(tells_whole=True), version="2.0.1")
    found = [payload for _, payload in speaker.says("StatusNotification", status)]
    assert found == [status, {**status, "evseId": 0, "connectorId": 0}]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ("seconds", "2026-03-02T16:00:00Z"),
        ("no_zone", "2026-03-02T16:00:00.250"),
        ("unset", "1970-03-02T16:00:00.250Z"),
    ],
)
def test_every_time_of_a_message_is_spelled_alike(times: str, expected: str) -> None:
    ((_, payload),) = said(event(1), times=times)
    assert {payload["timestamp"], payload["meterValue"][0]["timestamp"]} == {expected}


def test_an_end_of_an_outage_may_stay_untold() -> None:
    assert said(event(4, "Ended", offline=True), tells_end=False) == []
    assert len(said(event(4, "Ended"), tells_end=False)) == 1


def test_answers_are_spelled_in_the_stations_own_way() -> None:
    speaker = Speaker(manners=Manners(needs_reboot=True, bare_keys=True), version="1.6")
    changed = speaker.answers("ChangeConfiguration", {"status": "Accepted"})
    assert changed == {"status": "RebootRequired"}
    assert speaker.answers("ChangeConfiguration", {"status": "Rejected"}) == {"status": "Rejected"}
    told = {"configurationKey": [{"key": "A", "readonly": True, "value": "1"}]}
    bare = {"configurationKey": [{"key": "A", "readonly": True}]}
    assert speaker.answers("GetConfiguration", told) == bare


def test_a_manner_that_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match="from_one"):
        Manners(numbers="roman")
