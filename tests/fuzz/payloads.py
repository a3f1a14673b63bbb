"""Strategies for payloads of every message, and for what can go wrong with them.

Values come from small sets, so that messages of one run meet: the same transactions, tokens, EVSEs.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from hypothesis import strategies as st

from csms.core.commands import (
    ClearSchedule,
    Command,
    RawCall,
    ReadLimits,
    Schedule,
    SchedulePeriod,
    SetGuard,
    SetSchedule,
    StartCharging,
    StopCharging,
    Trigger,
    Unlock,
)
from csms.core.model import IdToken, OcppVersion
from csms.core.security_messages import ListCertificates
from csms.core.smart import ReadComposite, ReadProfiles
from csms.gateway.adapter import Unsendable
from csms.gateway.codec import codec, schemas
from csms.gateway.server import ADAPTERS as MADE

Draw = Callable[[st.SearchStrategy[Any]], Any]
ADAPTERS = {adapter.version: adapter for adapter in (make() for make in MADE.values())}

INSTANTS = (
    "2026-03-02T12:00:00Z",
    "2026-03-02T12:00:00.1234567+02:00",
    "2026-03-02t12:15:00",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "2026-03-29T02:30:00+14:00",
)
TEXTS = ("", "0", "-1", "1", "x", "Wh", "kWh", "12.5", "0.30007999999999996", "-1e400", "NaN")
ODD_TEXTS = (
    "\x00",
    "\u202e",
    "\ud83d",
    "\U0001f50c" * 5,
    "a" * 5000,
    "'; DROP TABLE session",
    "%s{}",
)
WHOLE = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 10, 2**31 - 1, 2**53, 2**63)
NUMBERS = (-1e308, -1.5, -0.0, 0.0, 0.1, 1.5, 16.1, 1e-300, 1e308)
JUNK: tuple[Any, ...] = (None, True, [], {}, [[]], {"": {}}, *ODD_TEXTS, *WHOLE, *NUMBERS)


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = root["definitions"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _value(draw: Draw, schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
    schema = _resolved(schema, root)
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    match schema.get("type"):
        case "object":
            needed = set(schema.get("required", ()))
            chosen = {
                name: part
                for name, part in schema.get("properties", {}).items()
                if name in needed or (depth < 5 and draw(st.booleans()))
            }
            return {name: _value(draw, p, root, depth + 1) for name, p in chosen.items()}
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            count = draw(st.integers(min(schema.get("minItems", 0), most), most))
            return [_value(draw, schema["items"], root, depth + 1) for _ in range(count)]
        case "string":
            if schema.get("format") == "date-time":
                return draw(st.sampled_from(INSTANTS))
            text = draw(st.sampled_from((*TEXTS, *ODD_TEXTS)))
            return text[: schema.get("maxLength", 5000)]
        case "integer":
            return draw(st.sampled_from(WHOLE))
        case "number":
            return draw(st.sampled_from((*NUMBERS, *WHOLE)))
        case "boolean":
            return draw(st.booleans())
    return draw(st.sampled_from(JUNK))


def _broken(draw: Draw, value: Any) -> Any:
    """Return `value` with one thing in it replaced, taken away or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: _broken(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _broken(draw, value[place]), *value[place + 1 :]]
    if isinstance(value, dict) and value and draw(st.booleans()):
        gone = draw(st.sampled_from(sorted(value)))
        return {name: item for name, item in value.items() if name != gone}
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, "unheardOf": draw(st.sampled_from(JUNK))}
    return draw(st.sampled_from(JUNK))


@cache
def actions(version: OcppVersion) -> list[str]:
    """Return what a station may call in `version`."""
    return sorted(codec(version).from_station)


@cache
def schema_of(version: OcppVersion, action: str) -> dict[str, Any]:
    """Return the schema of a call."""
    found = schemas(version)
    return found.get(f"{action}Request") or found[action]


@st.composite
def calls(draw: Draw, version: OcppVersion) -> tuple[str, dict[str, Any]]:
    """Return an action and a payload that fits its schema more often than not."""
    action = draw(st.sampled_from(actions(version)))
    schema = schema_of(version, action)
    payload = _value(draw, schema, schema, 0)
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)))):
        payload = _broken(draw, payload)
    return action, payload


@st.composite
def odd_frames(draw: Draw) -> str:
    """Return the text of a frame that is no proper call."""
    envelope = draw(
        st.lists(
            st.sampled_from((*JUNK, 2, 3, 4, 5, 6, "Heartbeat", "BootNotification", "-1")),
            max_size=6,
        )
    )
    text = json.dumps(envelope)
    match draw(st.integers(0, 3)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            place = draw(st.integers(0, len(text)))
            return text[:place] + draw(st.sampled_from('[]{}",:0\x00\ufeff ')) + text[place:]
    return text


# --- what a station answers --------------------------------------------------------------------

CODES = (
    *("NotImplemented", "NotSupported", "InternalError", "GenericError", "FormationViolation"),
    *("", "x" * 300, "\x00", "OK", "Occurence\u0000", None, 5, {}, ["NotSupported"]),
)
ANSWERS = (
    *("valid", "valid", "broken", "broken", "broken", "twice", "error", "error", "odd error"),
    *("junk", "stranger first", "stranger", "silence", "cut short"),
)
UNANSWERED = {"stranger", "silence", "cut short", "odd error", "junk"}
"""After these our call may have no answer at all."""
INSTANT = datetime(2026, 3, 2, 12, tzinfo=UTC)
SCHEDULE = Schedule(
    profile_id=1_000_001,
    stack_level=1,
    unit="A",
    starts_at=INSTANT,
    duration_s=3600,
    periods=(SchedulePeriod(start_s=0, limit=16.0), SchedulePeriod(start_s=900, limit=6.0)),
)
TYPED: tuple[Command, ...] = (
    ReadLimits(station_id="F"),
    ReadComposite(station_id="F", evse_id=1, duration_s=3600),
    ReadProfiles(station_id="F", number=7),
    SetSchedule(station_id="F", evse_id=1, transaction_id="1", schedule=SCHEDULE),
    SetGuard(station_id="F", evse_id=1, schedule=SCHEDULE),
    ClearSchedule(station_id="F", profile_id=1_000_001, evse_id=1),
    StartCharging(station_id="F", evse_id=1, id_token=IdToken(value="T1"), remote_start_id=3),
    StopCharging(station_id="F", transaction_id="1"),
    Trigger(station_id="F", message="Heartbeat"),
    Unlock(station_id="F", evse_id=1),
    ListCertificates(station_id="F"),
)


@st.composite
def commands(draw: Draw, version: OcppVersion) -> Command:
    """Return a command of ours: any action as a raw call, or one whose answer is read closely."""
    if draw(st.booleans()):
        return draw(st.sampled_from(TYPED))  # type: ignore[no-any-return]
    action = draw(st.sampled_from(sorted(codec(version).to_station)))
    schema = schema_of(version, action)
    payload = json.dumps(_value(draw, schema, schema, 0), ensure_ascii=False)
    # Half of a character is refused at the API.
    payload = payload.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return RawCall(station_id="F", action=action, payload_json=payload)


@dataclass(frozen=True)
class Reply:
    """What a station sends for a call of ours: texts in which `@` stands for the call's id.

    `payload` is that of a plain answer, whose shape then decides the outcome.
    """

    kind: str
    texts: tuple[str, ...]
    payload: Any = None

    @property
    def is_answer(self) -> bool:
        """Whether it is one answer, right or wrong, to our call."""
        kinds = ("valid", "broken", "twice", "stranger first")
        return self.kind in kinds and self.is_readable

    @property
    def is_readable(self) -> bool:
        """Whether it is JSON: a lone surrogate is none, and its call is then not answered."""
        try:
            for text in self.texts:
                json.dumps(json.loads(text), ensure_ascii=False).encode()
        except ValueError:
            return False
        return True


def _frame(*parts: Any) -> str:
    return json.dumps(parts)


@st.composite
def replies(draw: Draw, version: OcppVersion, action: str) -> Reply:
    """Return what a station may send when it is asked for `action`."""
    kind = draw(st.sampled_from(ANSWERS))
    found = schemas(version)
    schema = found.get(f"{action}Response", {})
    payload = _value(draw, schema, schema, 0)
    if kind in ("broken", "twice") and draw(st.integers(0, 2)):
        payload = _broken(draw, payload)
    answer, stranger = _frame(3, "@", payload), _frame(3, draw(st.sampled_from(TEXTS)), payload)
    junk = draw(st.sampled_from(JUNK))
    code, text = draw(st.sampled_from(CODES)), draw(st.sampled_from((*TEXTS, *ODD_TEXTS)))
    texts: dict[str, tuple[str, ...]] = {
        "twice": (answer, answer),
        "error": (_frame(4, "@", str(code), text, {}),),
        "odd error": (_frame(*[4, "@", code, junk, junk, junk][: draw(st.integers(2, 6))]),),
        "junk": (_frame(*[3, "@", junk, junk][: draw(st.integers(2, 4))]),),
        "stranger first": (stranger, answer),
        "stranger": (stranger,),
        "silence": (),
        "cut short": (answer[: draw(st.integers(0, len(answer) - 1))],),
    }
    return Reply(kind, texts.get(kind, (answer,)), payload)


@st.composite
def exchanges(draw: Draw, version: OcppVersion) -> tuple[Command, Reply]:
    """Return a command and what its station sends for each call of it."""
    command = draw(commands(version))
    try:
        action = ADAPTERS[version].steps(command)[0].action
    except Unsendable:
        action = "Reset"
    return command, draw(replies(version, action))
