"""PURE: the text of a websocket message -> call, answer, error answer or fault.

Bounds hold before anything is looked at: size, nesting, number length, no duplicate member, no
lone surrogate, no NaN (OCPP-J part 4; the table in the conformance cases says what each fault is
answered with). The usual compact frame is proved to keep them by writing it again and comparing,
which costs a microsecond; only other spellings are walked.
"""

import json
import re
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

MAX_FRAME_CHARACTERS = 1 << 20
MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 40
MAX_CONTAINERS = 1 << 16
"""Objects and lists in one frame: the longest legal report stays below the half of it, while a
megabyte of empty lists would hold the process for longer than all stations' calls of a second."""
MAX_ID_CHARACTERS = 36
UNREADABLE_ID = "-1"
"""Message id of an answer to a frame whose own id could not be read (OCPP 2.0.1 part 4, 4.2.3)."""

_RUN = f"[-+.0-9eE]{{{MAX_NUMBER_CHARACTERS + 1},}}"
_LONG_RUN = re.compile(_RUN)
_LONG_NUMBER = re.compile(rf'"(?:[^"\\]|\\.)*"|({_RUN})', re.DOTALL)
_SPACE_OUTSIDE_TEXT = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', re.DOTALL)


class FaultKind(StrEnum):
    """What is wrong with a frame, in the words of no version."""

    UNREADABLE = "unreadable"
    """Not JSON, out of bounds, or no list that begins with a message type."""
    ENVELOPE = "envelope"
    """A call with the wrong number or kind of elements."""
    PAYLOAD = "payload"
    """A call whose payload is no object."""
    MESSAGE_TYPE = "message_type"
    """A message type that OCPP-J does not know."""
    ANSWER = "answer"
    """An answer that cannot be read; it is never answered itself."""


# Tuples rather than frozen dataclasses: one is made for every frame, and they cost a third.
class Call(NamedTuple):
    """A request of the station. `payload_json` is the payload as compact JSON, in its order."""

    message_id: str
    action: str
    payload: dict[str, Any]
    payload_json: str


class Sent(NamedTuple):
    """A SEND of the station (2.1): the shape of a call that no one answers."""

    message_id: str
    action: str
    payload: dict[str, Any]
    payload_json: str


class Answer(NamedTuple):
    """The answer to one of our calls; `payload` has not been looked at."""

    message_id: str
    payload: Any


class ErrorAnswer(NamedTuple):
    """A CALLERROR to one of our calls, as far as it could be read."""

    message_id: str
    code: str
    description: str


class ResultError(NamedTuple):
    """A CALLRESULTERROR (2.1): the station cannot read our answer to one of its calls."""

    message_id: str
    code: str
    description: str


class Fault(NamedTuple):
    """A frame that is none of these. `why` never repeats what the frame held.

    `is_sent` marks a broken SEND, which is not answered either.
    """

    message_id: str
    kind: FaultKind
    why: str
    is_sent: bool = False


Frame = Call | Sent | Answer | ErrorAnswer | ResultError | Fault


def read(text: str) -> Frame:
    """Return what `text` is; never raises, whatever it holds."""
    if len(text) > MAX_FRAME_CHARACTERS:
        return Fault(UNREADABLE_ID, FaultKind.UNREADABLE, "longer than 1 MiB")
    containers = text.count("{") + text.count("[")
    if containers > MAX_CONTAINERS:
        return Fault(UNREADABLE_ID, FaultKind.UNREADABLE, "too many objects and lists")
    try:
        parts = orjson.loads(text)
    except ValueError:
        return Fault(UNREADABLE_ID, FaultKind.UNREADABLE, "not JSON")
    if type(parts) is not list or not parts:
        return Fault(UNREADABLE_ID, FaultKind.UNREADABLE, "not a list with a message type")
    kind = parts[0]
    # `type` and not `isinstance`, nor `==` alone: true and 2.0 are not message type 2.
    if type(kind) is not int or kind not in (2, 3, 4, 5, 6):
        return Fault(_readable_id(parts), FaultKind.MESSAGE_TYPE, "message type is not 2 to 6")
    if kind == 2:
        return _call(text, parts, containers)
    if kind == 6:
        return _sent(text, parts, containers)
    why = _out_of_bounds(text, parts)
    if why or len(parts) < 2 or not isinstance(parts[1], str):
        return Fault(UNREADABLE_ID, FaultKind.ANSWER, why or "answer without a message id")
    if kind != 3:
        words = [p if isinstance(p, str) else "" for p in (*parts[2:4], "", "")]
        kinds = ErrorAnswer if kind == 4 else ResultError
        return kinds(parts[1], words[0], words[1])
    if len(parts) != 3:
        return Fault(parts[1], FaultKind.ANSWER, "answer does not have three elements")
    return Answer(parts[1], parts[2])


def _sent(text: str, parts: list[Any], containers: int) -> Frame:
    # The rules of a call hold for it, down to its spelling.
    frame = _call(text, parts, containers)
    if isinstance(frame, Call):
        return Sent(*frame)
    return frame._replace(is_sent=True)


def _call(text: str, parts: list[Any], containers: int) -> Call | Fault:
    message_id = _readable_id(parts)
    if len(parts) != 4:
        return Fault(message_id, FaultKind.ENVELOPE, "a call has four elements")
    if message_id == UNREADABLE_ID and parts[1] != UNREADABLE_ID:
        return Fault(message_id, FaultKind.ENVELOPE, "message id is not text of 1 to 36 characters")
    kind, _, action, payload = parts
    if type(action) is not str:
        return Fault(message_id, FaultKind.ENVELOPE, "action is not text")
    if type(payload) is not dict:
        return Fault(message_id, FaultKind.PAYLOAD, "payload is not an object")
    payload_json = orjson.dumps(payload).decode()
    written = f'[{kind},"{message_id}","{action}",{payload_json}]'
    # Equal spelling proves the bounds: what we write has no member twice and no long number. The
    # second try is for stations that put a space behind each comma and colon.
    if containers > MAX_DEPTH or (
        written != text and written != text.replace(": ", ":").replace(", ", ",")
    ):
        why = _out_of_bounds(text, parts)
        if why:
            return Fault(message_id, FaultKind.ENVELOPE, why)
    return Call(message_id, action, payload, payload_json)


def _readable_id(parts: list[Any]) -> str:
    if len(parts) > 1 and type(parts[1]) is str and 0 < len(parts[1]) <= MAX_ID_CHARACTERS:
        return parts[1]
    return UNREADABLE_ID


def _out_of_bounds(text: str, parts: Any) -> str:
    """Return which bound `text`, already parsed to `parts`, breaks; "" if none."""
    if _depth(parts) > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH}"
    # The cheap search first; what it finds may be digits within text.
    if _LONG_RUN.search(text) and any(found.group(1) for found in _LONG_NUMBER.finditer(text)):
        return f"a number is longer than {MAX_NUMBER_CHARACTERS} characters"
    if _has_duplicate_member(text, parts):
        return "a member appears twice"
    return ""


def _depth(value: Any) -> int:
    # Level by level instead of recursion: the parser lets 1,024 levels through.
    level = [value]
    depth = 0
    while level:
        depth += 1
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) in (dict, list)
        ]
    return depth


def _has_duplicate_member(text: str, parts: Any) -> bool:
    # A dropped member takes at least one colon with it, so equal counts prove that none was
    # dropped, unless a colon is hidden in an escape.
    if "\\u00" not in text and text.count(":") == orjson.dumps(parts).count(b":"):
        return False
    found = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        values = dict(pairs)
        found = found or len(values) != len(pairs)
        return values

    json.loads(text, object_pairs_hook=members, parse_int=str, parse_float=str)
    return found


def compact_object(text: str) -> tuple[dict[str, Any], str]:
    """Return the JSON object in `text` and its spelling without spaces, otherwise unchanged.

    Raises ValueError if `text` is no object or breaks a bound. Numbers keep their spelling.
    """
    if len(text) > MAX_FRAME_CHARACTERS:
        raise ValueError("longer than 1 MiB")
    value = orjson.loads(text)
    if type(value) is not dict:
        raise ValueError("the payload is not an object")
    why = _out_of_bounds(text, value)
    if why:
        raise ValueError(why)
    return value, _SPACE_OUTSIDE_TEXT.sub(r"\1", text)


def call_text(message_id: str, action: str, payload_json: str) -> str:
    """Return the frame of our own call."""
    return f'[2,"{message_id}","{action}",{payload_json}]'


def answer_text(message_id: str, payload: dict[str, Any]) -> str:
    """Return the frame that answers the call `message_id`."""
    return orjson.dumps([3, message_id, payload]).decode()


def result_error_text(message_id: str, code: str, description: str) -> str:
    """Return a CALLRESULTERROR frame (2.1): the answer to our call cannot be read."""
    return orjson.dumps([5, message_id, code, description[:255], {}]).decode()


def error_text(message_id: str, code: str, description: str) -> str:
    """Return a CALLERROR frame: five elements, at most 255 characters of description."""
    return orjson.dumps([4, message_id, code, description[:255], {}]).decode()
