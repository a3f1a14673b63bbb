"""Schema checks: each mutation of each message gets a permitted code, never an exception."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.core.model import OcppVersion
from csms.gateway.codec import Code, codec, is_instant, schemas

EXAMPLES = {"date-time": "2026-03-02T12:00:00Z", "uri": "https://example.org/f"}


def resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = root["definitions"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Return a value that fits `schema`, with every property it may have."""
    schema = resolve(schema, root)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {
                name: example(part, root)
                for name, part in schema.get("properties", {}).items()
                if name != "customData"
            }
        case "array":
            return [example(schema["items"], root)]
        case "string":
            return EXAMPLES.get(schema.get("format", ""), "x")
        case "integer":
            return max(int(schema.get("minimum", 1)), 1)
        case "number":
            return max(min(1.5, schema.get("maximum", 1.5)), schema.get("minimum", -1.5))
        case "boolean":
            return True
    return "x"


def mutations(
    schema: dict[str, Any], value: Any, root: dict[str, Any]
) -> Iterator[tuple[Any, set[Code]]]:
    """Yield each way to break `value` in one place, with the codes that may be answered."""
    schema = resolve(schema, root)
    kind = schema.get("type")
    if kind is not None and not isinstance(kind, list):
        for wrong in (None, [], {}, "x", 7, 1.25, True):
            if not fits(kind, wrong):
                # A value of another type is outside an enum as well: either may be named.
                enumerated = {Code.PROPERTY} if "enum" in schema else set()
                yield wrong, {Code.TYPE} | enumerated
    if "enum" in schema:
        yield "NotInTheList", {Code.PROPERTY}
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1), {Code.TYPE}
    if schema.get("format") == "date-time":
        for wrong in ("1000000", "yesterday", "", "2026-13-01"):
            yield wrong, {Code.PROPERTY}
    for bound, step in (("minimum", -1), ("maximum", 1)):
        if bound in schema:
            yield schema[bound] + step, {Code.PROPERTY}
    if kind == "object":
        yield from object_mutations(schema, value, root)
    if kind == "array":
        if "minItems" in schema:
            yield value[: schema["minItems"] - 1], {Code.OCCURRENCE}
        if "maxItems" in schema:
            yield value * (schema["maxItems"] + 1), {Code.OCCURRENCE}
        for broken, codes in mutations(schema["items"], value[0], root):
            yield [broken], codes


def object_mutations(
    schema: dict[str, Any], value: Any, root: dict[str, Any]
) -> Iterator[tuple[Any, set[Code]]]:
    if schema.get("additionalProperties") is False:
        yield {**value, "surprise": 1}, {Code.FORMAT}
    for name in schema.get("required", ()):
        yield {k: v for k, v in value.items() if k != name}, {Code.OCCURRENCE}
    for name, part in value.items():
        for broken, codes in mutations(schema["properties"][name], part, root):
            yield {**value, name: broken}, codes


def fits(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    return isinstance(value, types[kind])


def checker(version: OcppVersion, name: str) -> Any:
    found = codec(version)
    if name.endswith("Response"):
        return lambda payload: found.check_answer(name.removesuffix("Response"), payload)
    action = name.removesuffix("Request") if version is not OcppVersion.V16 else name
    if action in found.sent_by_station:
        return lambda payload: found.check_sent(action, payload)
    if action in found.from_station:
        return lambda payload: found.check_call(action, payload)
    return lambda payload: found.check_command(action, payload)


EVERY = [(version, name) for version in OcppVersion for name in sorted(schemas(version))]


@pytest.mark.parametrize(("version", "name"), EVERY)
def test_each_mutation_of_a_message_gets_a_code_of_its_fault(
    version: OcppVersion, name: str
) -> None:
    schema = schemas(version)[name]
    check = checker(version, name)
    whole = example(schema, schema)
    assert check(whole) is None
    tried = 0
    for broken, codes in mutations(schema, whole, schema):
        problem = check(broken)
        assert problem is not None, broken
        assert problem.code in codes, (broken, problem)
        assert len(problem.why) <= 200
        tried += 1
    assert tried >= 1


def test_every_message_of_every_version_was_mutated() -> None:
    assert len([n for v, n in EVERY if v is OcppVersion.V16]) == 78
    assert len([n for v, n in EVERY if v is OcppVersion.V201]) == 128
    assert len([n for v, n in EVERY if v is OcppVersion.V21]) == 181


def test_each_version_spells_its_codes_its_own_way() -> None:
    v16, v201 = codec(OcppVersion.V16), codec(OcppVersion.V201)
    assert v16.code(Code.OCCURRENCE) == "OccurenceConstraintViolation"
    assert v201.code(Code.OCCURRENCE) == "OccurrenceConstraintViolation"
    assert v16.code(Code.FORMAT) == "FormationViolation"
    assert v201.code(Code.FORMAT) == "FormatViolation"
    assert v201.code(Code.MESSAGE_TYPE) == "MessageTypeNotSupported"
    assert {v16.code(code) for code in Code} >= {"SecurityError", "NotSupported"}


@settings(max_examples=300)
@given(tenths=st.integers(-(10**8), 10**8))
def test_one_decimal_is_always_a_multiple_of_a_tenth(tenths: int) -> None:
    payload = {
        "connectorId": 1,
        "csChargingProfiles": {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": {
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": tenths / 10}],
            },
        },
    }
    assert codec(OcppVersion.V16).check_command("SetChargingProfile", payload) is None


def test_a_whole_float_is_an_integer_in_both_versions() -> None:
    beat = {"evseId": 1.0, "connectorId": 1.0, "connectorStatus": "Available"}
    beat["timestamp"] = "2026-03-02T12:00:00Z"
    assert codec(OcppVersion.V201).check_call("StatusNotification", beat) is None
    status = {"connectorId": 1.0, "errorCode": "NoError", "status": "Available"}
    assert codec(OcppVersion.V16).check_call("StatusNotification", status) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T12:00:00Z",
        "2026-03-02T12:00:00",
        "2026-03-02t12:00:00.1234567z",
        "2026-03-02T12:00:00+02:00",
        "2026-03-02 12:00:00+0200",
    ],
)
def test_times_are_read_as_stations_write_them(text: str) -> None:
    assert is_instant(text)
    start = {"connectorId": 1, "idTag": "T", "meterStart": 1, "timestamp": text}
    assert codec(OcppVersion.V16).check_call("StartTransaction", start) is None


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("Reset", Code.NOT_SERVED),
        ("SetChargingProfile", Code.NOT_SERVED),
        ("Dance", Code.UNKNOWN_ACTION),
        ("", Code.UNKNOWN_ACTION),
    ],
)
def test_actions_are_unknown_or_not_served(action: str, code: Code) -> None:
    for version in OcppVersion:
        problem = codec(version).check_call(action, {})
        assert problem is not None
        assert problem.code is code


def test_r21_an_action_of_another_version_is_unknown() -> None:
    for version, action in (
        (OcppVersion.V201, "StartTransaction"),
        (OcppVersion.V16, "TransactionEvent"),
    ):
        problem = codec(version).check_call(action, {})
        assert problem is not None
        assert problem.code is Code.UNKNOWN_ACTION


def test_a_configuration_is_read_whatever_a_station_makes_of_readonly() -> None:
    answer = {
        "configurationKey": [{"key": "A", "readonly": "true", "value": "x" * 900}, {"key": "B"}],
        "unknownKey": ["C"],
    }
    assert codec(OcppVersion.V16).check_answer("GetConfiguration", answer) is None
