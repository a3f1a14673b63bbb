"""Reading frames: bounds, faults, and that nothing whatsoever makes the reader raise."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.gateway import frames
from csms.gateway.frames import Answer, Call, ErrorAnswer, Fault, FaultKind, ResultError, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
PAYLOAD = st.dictionaries(st.text(max_size=8), JSON, max_size=5)


def call(payload: str) -> str:
    return f'[2,"1","Heartbeat",{payload}]'


@settings(max_examples=150)
@given(text=st.text(max_size=200))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    assert isinstance(read(text), Call | Answer | ErrorAnswer | ResultError | Fault)


@settings(max_examples=150)
@given(value=st.lists(JSON, max_size=6), kind=st.sampled_from([2, 3, 4, 5, 2.0, True, "2", None]))
def test_no_json_makes_the_reader_raise(value: list[Any], kind: Any) -> None:
    found = read(json.dumps([kind, *value]))
    assert isinstance(found, Call | Answer | ErrorAnswer | ResultError | Fault)
    if isinstance(found, Fault) and found.kind is not FaultKind.ANSWER:
        # It will be answered under this id.
        assert 0 < len(found.message_id) <= 36


@settings(max_examples=150)
@given(
    payload=st.dictionaries(
        st.text(max_size=8),
        st.integers(-(2**60), 2**60) | st.text(max_size=20) | st.booleans(),
        max_size=5,
    ),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
def test_a_call_reads_the_same_however_it_is_spelled(
    payload: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps([2, "id-1", "Heartbeat", payload], indent=indent, ensure_ascii=ascii_only)
    found = read(text)
    assert isinstance(found, Call)
    assert found.payload == payload
    assert json.loads(found.payload_json) == payload


@settings(max_examples=100)
@given(payload=PAYLOAD, key=st.text(max_size=8), values=st.tuples(JSON, JSON))
def test_a_member_that_appears_twice_is_always_refused(
    payload: dict[str, Any], key: str, values: tuple[Any, Any]
) -> None:
    def plain(value: Any) -> str:
        return (
            json.dumps(value).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0")
        )

    twice = ",".join(f"{json.dumps(key)}:{plain(value)}" for value in values)
    rest = "".join(f",{json.dumps(k)}:{plain(v)}" for k, v in payload.items() if k != key)
    assert isinstance(read(call("{" + twice + rest + "}")), Fault)


@pytest.mark.parametrize(
    "payload",
    [
        '{"a":1,"a":1}',
        '{"a" : 1, "a" : 2}',
        '{"a":{"b":1,"b":":"}}',
        '{"a":1,"\\u0061":2}',
        '{"a":1,"a":"\\u003a"}',
        '{"a":"x","b":[{"c":1,\n"c":2}]}',
    ],
)
def test_duplicates_hide_behind_no_spelling(payload: str) -> None:
    found = read(call(payload))
    assert isinstance(found, Fault)
    assert found.why == "a member appears twice"


@pytest.mark.parametrize("payload", ['{"a":":","b":"\\":"}', '{"a" : "x:y", "b":"\\u003a"}'])
def test_colons_in_text_are_no_duplicates(payload: str) -> None:
    assert isinstance(read(call(payload)), Call)


@pytest.mark.parametrize(
    "payload",
    [
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":1e400}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":' + "9" * 41 + "}",
        '{"a":0.' + "1" * 60 + "}",
        '{"a":"\\ud800"}',
    ],
)
def test_r15_numbers_and_text_that_no_double_or_utf8_holds_are_refused(payload: str) -> None:
    assert isinstance(read(call(payload)), Fault)


def test_40_digits_and_32_levels_are_the_last_to_pass() -> None:
    assert isinstance(read(call('{"a":' + "9" * 40 + "}")), Call)
    # The frame's own list and the payload are two of the levels.
    for inner, kind in ((30, Call), (31, Fault)):
        assert isinstance(read(call('{"a":' + "[" * inner + "]" * inner + "}")), kind)


def test_long_digits_within_text_are_no_number() -> None:
    assert isinstance(read(call('{"a" : "' + "9" * 5000 + '"}')), Call)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        " " * (1 << 20),
        "\ufeff" + call("{}"),
        "[" + "[],[[]]," * 100_000 + "1]",
        '"' * (1 << 20),
        "9" * (1 << 20),
        call('{"a":"' + "x" * (1 << 20) + '"}'),
        '[2,"1","A",' + '{"a":' * 100_000,
    ],
)
def test_r16_no_monster_takes_longer_than_it_should(text: str) -> None:
    began = time.process_time()
    assert isinstance(read(text), Fault)
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize(
    ("text", "message_id", "kind"),
    [
        ("", "-1", FaultKind.UNREADABLE),
        ("{}", "-1", FaultKind.UNREADABLE),
        ("[]", "-1", FaultKind.UNREADABLE),
        ("null", "-1", FaultKind.UNREADABLE),
        ("[2]", "-1", FaultKind.ENVELOPE),
        ('[2,"1"]', "1", FaultKind.ENVELOPE),
        ('[2,"1","Heartbeat"]', "1", FaultKind.ENVELOPE),
        ('[2,"1","Heartbeat",{},5]', "1", FaultKind.ENVELOPE),
        ('[2,"","Heartbeat",{}]', "-1", FaultKind.ENVELOPE),
        ('[2,5,"Heartbeat",{}]', "-1", FaultKind.ENVELOPE),
        ('[2,"' + "x" * 37 + '","Heartbeat",{}]', "-1", FaultKind.ENVELOPE),
        ('[2,"1",["Heartbeat"],{}]', "1", FaultKind.ENVELOPE),
        ('[2,"1",null,{}]', "1", FaultKind.ENVELOPE),
        ('[2,"1","Heartbeat",null]', "1", FaultKind.PAYLOAD),
        ('[2,"1","Heartbeat",[]]', "1", FaultKind.PAYLOAD),
        ('["2","1","Heartbeat",{}]', "1", FaultKind.MESSAGE_TYPE),
        ('[2.0,"1","Heartbeat",{}]', "1", FaultKind.MESSAGE_TYPE),
        ('[true,"1","Heartbeat",{}]', "1", FaultKind.MESSAGE_TYPE),
        ('[7,"1","Heartbeat",{}]', "1", FaultKind.MESSAGE_TYPE),
        ('[3,"1"]', "1", FaultKind.ANSWER),
        ("[3,[],{}]", "-1", FaultKind.ANSWER),
        ("[4]", "-1", FaultKind.ANSWER),
    ],
)
def test_faults_carry_the_id_where_it_can_be_read(
    text: str, message_id: str, kind: FaultKind
) -> None:
    found = read(text)
    assert isinstance(found, Fault)
    assert (found.message_id, found.kind) == (message_id, kind)


def test_the_compact_spelling_of_a_raw_payload_keeps_numbers_and_order() -> None:
    _, text = frames.compact_object('{ "b" : 16.10 ,\n "a": [1E2, -0.0, " x : y "], "c\\"": {} }')
    assert text == '{"b":16.10,"a":[1E2,-0.0," x : y "],"c\\"":{}}'


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1,"a":2}', '{"a":' + "1" * 60 + "}"])
def test_a_raw_payload_has_to_be_one_object_within_bounds(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        frames.compact_object(text)


@given(description=st.text(max_size=400))
def test_r24_an_error_has_five_elements_and_a_short_description(description: str) -> None:
    sent = json.loads(frames.error_text("7", "InternalError", description))
    assert sent[:3] == [4, "7", "InternalError"]
    assert len(sent) == 5
    assert len(sent[3]) <= 255
    assert sent[4] == {}
