"""Stations, and the commands that people send them (api.md K1-K4, K6, K16)."""

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.api.payload import compact, members
from csms.core.commands import CommandResult, Outcome, RawCall
from csms.core.errors import InvalidInput
from csms.core.model import OcppVersion
from csms.store import links, stations
from tests.api.conftest import Operator, link

COMMANDS = "/api/v1/stations/CP1/commands"


async def _send(operator: Operator, text: str) -> httpx.Response:
    return await operator.client.post(
        COMMANDS, content=text, headers={"Content-Type": "application/json"}
    )


async def test_a_payload_goes_on_as_given_member_by_member(operator: Operator) -> None:
    await operator.store.write(link)
    payload = '{"z": 16.10, "a": 1e1, "text": "a \\u00e9 { ,", "big": 12345678901234567890.5}'
    answer = await operator.client.post(
        COMMANDS, content=f'{{"action":"DataTransfer","payload":{payload},"wait_s":5}}'
    )
    assert answer.status_code == 200, answer.text
    (sent,) = operator.station.seen
    assert isinstance(sent, RawCall)
    assert sent.payload_json == (
        '{"z":16.10,"a":1e1,"text":"a \\u00e9 { ,","big":12345678901234567890.5}'
    )
    assert sent.wait_s == 5.0


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (CommandResult(outcome=Outcome.REJECTED, status="Rejected"), "rejected"),
        (CommandResult(outcome=Outcome.CALL_ERROR, error_code="NotSupported"), "call_error"),
        (CommandResult(outcome=Outcome.NO_ANSWER), "no_answer"),
        (CommandResult(outcome=Outcome.SENT), "sent"),
    ],
)
async def test_what_a_station_says_is_data(
    operator: Operator, result: CommandResult, expected: str
) -> None:
    await operator.store.write(link)
    operator.station.answers = [result]
    answer = await operator.client.post(COMMANDS, json={"action": "Reset", "payload": {}})
    assert answer.status_code == 200
    assert answer.json()["outcome"] == expected
    assert answer.json()["error_code"] == (result.error_code or None)


@pytest.mark.parametrize(
    ("why", "status", "type_"),
    [
        ("offline", 409, "station-offline"),
        ("wrong version", 409, "wrong-version"),
        ("queue full", 503, "queue-full"),
        ("busy", 503, "busy"),
        ("not valid: payload.type is missing", 422, "invalid-command"),
    ],
)
async def test_only_what_was_not_sent_is_an_error(
    operator: Operator, why: str, status: int, type_: str
) -> None:
    await operator.store.write(link)
    operator.station.answers = [CommandResult(outcome=Outcome.NOT_SENT, why_not_sent=why)]
    answer = await operator.client.post(COMMANDS, json={"action": "Reset", "payload": {}})
    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:tasco:problem:{type_}"


async def test_a_station_that_is_away_is_409_and_nothing_is_sent(operator: Operator) -> None:
    answer = await operator.client.post(COMMANDS, json={"action": "Reset", "payload": {}})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:tasco:problem:station-offline"
    assert operator.station.seen == []


async def test_an_unknown_station_is_404(operator: Operator) -> None:
    answer = await operator.client.post(
        "/api/v1/stations/none/commands", json={"action": "Reset", "payload": {}}
    )
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:tasco:problem:unknown-station"


async def test_a_version_is_checked_against_the_link(operator: Operator) -> None:
    await operator.store.write(link)
    body = {"action": "Reset", "payload": {}, "version": "2.0.1"}
    answer = await operator.client.post(COMMANDS, json=body)
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:tasco:problem:wrong-version"
    assert (await operator.client.post(COMMANDS, json={**body, "version": "1.6"})).is_success


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"payload":{}}',
        '{"action":5,"payload":{}}',
        '{"action":"Reset","payload":[]}',
        '{"action":"Reset","payload":{},"wait_s":61}',
        '{"action":"Reset","payload":{},"wait_s":true}',
        '{"action":"Reset","payload":{},"version":"3"}',
        '{"action":"Reset","payload":{"a":NaN}}',
        '{"action":"Reset","payload":{}} x',
        '{"action":"Reset","action":"Reset","payload":{}}',
        '{"action":"Reset","payload":{},"who":1}',
        '{"action":"Reset","payload":' + '{"a":' * 70 + "1" + "}" * 70 + "}",
    ],
)
async def test_a_command_that_cannot_be_read_is_refused(operator: Operator, text: str) -> None:
    await operator.store.write(link)
    answer = await operator.client.post(COMMANDS, content=text)
    assert answer.status_code == 422, answer.text
    assert operator.station.seen == []


async def test_commands_are_listed_with_their_outcome(operator: Operator) -> None:
    await operator.store.write(link)
    for action in ("Reset", "ClearCache", "Reset"):
        await operator.client.post(COMMANDS, json={"action": action, "payload": {"n": 1}})
    listed = (await operator.viewer.get(f"{COMMANDS}?action=Reset&limit=1")).json()
    assert listed["total"] == 2
    assert listed["items"][0]["outcome"] == "accepted"
    assert listed["items"][0]["answer"] == {"status": "Accepted"}
    assert listed["items"][0]["asked_by"] == "operator test operator"
    rest = await operator.viewer.get(f"{COMMANDS}?action=Reset&cursor={listed['cursor']}")
    assert [i["command_id"] for i in rest.json()["items"]] < [listed["items"][0]["command_id"]]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=st.dictionaries(st.text(), JSON, max_size=5), indent=st.none() | st.integers(0, 3))
def test_members_keep_their_meaning_and_their_order(
    value: dict[str, object], indent: int | None
) -> None:
    found = members(json.dumps(value, indent=indent))
    assert list(found) == list(value)
    assert {name: json.loads(text) for name, text in found.items()} == value


@given(value=JSON)
def test_compact_text_is_what_a_compact_encoder_writes(value: object) -> None:
    spread = json.dumps(value, indent=2, ensure_ascii=False)
    assert compact(spread) == json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def test_a_body_of_brackets_is_refused_without_recursion() -> None:
    with pytest.raises(InvalidInput, match="nests deeper"):
        members('{"a":' + "[" * 100_000)


# --- registration --------------------------------------------------------------------------------


async def test_a_station_can_be_registered_before_it_connects(operator: Operator) -> None:
    body = {
        "station_id": "CP-2",
        "site_id": "depot",
        "password": "a-long-enough-secret",
        "evses": [{"evse_id": 1, "max_kw": 11}, {"evse_id": 2, "max_kw": 50, "current_type": "DC"}],
    }
    answer = await operator.client.post("/api/v1/stations", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["registration"] == "Accepted"
    assert [e["max_kw"] for e in answer.json()["evses"]] == [11.0, 50.0]
    assert "secret" not in answer.text
    kept = await operator.store.read(lambda tx: links.get_credential(tx, "CP-2"))
    assert kept.credential_hash.startswith("$argon2id$")
    again = await operator.client.post("/api/v1/stations", json={**body, "station_id": "cp-2"})
    assert again.status_code == 409


@pytest.mark.parametrize("station_id", ["a/b", "a b", "", "x" * 49, "é"])
async def test_an_id_that_no_station_can_have_is_refused(
    operator: Operator, station_id: str
) -> None:
    answer = await operator.client.post(
        "/api/v1/stations", json={"station_id": station_id, "site_id": "depot"}
    )
    assert answer.status_code == 422


async def test_a_pending_station_is_approved_by_an_operator(operator: Operator) -> None:
    body = {"station_id": "CP3", "site_id": "depot", "is_approved": False}
    made = await operator.client.post("/api/v1/stations", json=body)
    assert made.json()["registration"] == "Pending"
    approved = await operator.client.post("/api/v1/stations/CP3/approve")
    assert approved.json()["registration"] == "Accepted"


async def test_hands_off_is_kept_shown_and_logged(operator: Operator) -> None:
    off = await operator.client.put("/api/v1/stations/CP1/automation?on=false")
    assert off.json()["automation"] is False
    live = (await operator.viewer.get("/api/v1/sites/depot/live")).json()
    assert live["stations"][0]["automation"] is False
    log = (await operator.viewer.get("/api/v1/log?station_id=CP1")).json()
    assert log["items"][0]["event"]["kind"] == "station changed"
    assert log["items"][0]["event"]["detail"]["automation"] is False


async def test_a_new_password_is_never_shown_or_logged(operator: Operator) -> None:
    secret = "another-long-secret!"
    changed = await operator.client.patch("/api/v1/stations/CP1", json={"password": secret})
    assert changed.status_code == 200
    log = await operator.viewer.get("/api/v1/log?station_id=CP1")
    assert secret not in changed.text + log.text
    assert "***" in log.text


async def test_a_removed_station_is_gone(operator: Operator) -> None:
    assert (await operator.client.delete("/api/v1/stations/CP1")).status_code == 204
    assert (await operator.client.get("/api/v1/stations/CP1")).status_code == 404


async def test_a_station_that_was_refused_is_listed_until_it_is_registered(
    operator: Operator,
) -> None:
    await operator.store.write(
        lambda tx: links.note_unknown_station(
            tx, "NEW", remote_address="192.0.2.9", at=operator.clock.now()
        )
    )
    listed = (await operator.viewer.get("/api/v1/unknown-stations")).json()
    assert [s["station_id"] for s in listed["items"]] == ["NEW"]
    await operator.client.post("/api/v1/stations", json={"station_id": "NEW", "site_id": "depot"})
    assert (await operator.viewer.get("/api/v1/unknown-stations")).json()["items"] == []


async def test_the_link_version_is_shown(operator: Operator) -> None:
    await operator.store.write(lambda tx: link(tx, OcppVersion.V201))
    shown = (await operator.viewer.get("/api/v1/stations/cp1")).json()
    assert shown["version"] == "2.0.1"
    assert shown["link_state"] == "online"
    assert shown["links"][0]["remote_address"] == "127.0.0.1"
    assert (await operator.store.read(lambda tx: stations.get_station(tx, "CP1"))).link_id == 1


@pytest.mark.parametrize("text", ["\\ud83d", "a\\uDE00b", "\\ud83d\\ud83d"])
async def test_half_of_a_character_is_refused_and_named(operator: Operator, text: str) -> None:
    await operator.store.write(link)
    payload = f'{{"vendorId": "v", "data": "{text}"}}'
    answer = await _send(operator, f'{{"action": "DataTransfer", "payload": {payload}}}')
    assert answer.status_code == 422
    assert "half of a character" in answer.text
    whole = '{"vendorId": "v", "data": "\\ud83d\\ude00"}'
    answer = await _send(operator, f'{{"action": "DataTransfer", "payload": {whole}}}')
    assert answer.status_code == 200, answer.text
