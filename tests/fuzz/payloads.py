"""Strategies for payloads of every message, and for what can go wrong with them.

Values come from small sets, so that messages of one run meet: the same transactions, tokens, EVSEs.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from csms.core.model import OcppVersion
from csms.gateway.codec import codec, schemas

Draw = Callable[[st.SearchStrategy[Any]], Any]

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
