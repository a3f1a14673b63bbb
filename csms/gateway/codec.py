"""PURE: what each version lets a message say, and the error code for what it may not.

Validators are compiled from the schema files of the `ocpp` package, each when it is first needed:
a fleet speaks a few of almost 400 messages, and all of them would hold 20 MiB. The keyword that
failed chooses the CALLERROR code. Where stations are known to differ from the letter of a schema
without losing meaning, the schema is loosened here, in one table, and nowhere else.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from functools import cache, cached_property, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import orjson
from jsonschema_rs import Draft6Validator, ValidationError

from csms.core.model import OcppVersion


class Code(StrEnum):
    """Why a call cannot be answered with a result, in the words of no version."""

    UNKNOWN_ACTION = "unknown_action"
    NOT_SERVED = "not_served"
    FORMAT = "format"
    OCCURRENCE = "occurrence"
    TYPE = "type"
    PROPERTY = "property"
    FRAME = "frame"
    MESSAGE_TYPE = "message_type"
    SECURITY = "security"
    INTERNAL = "internal"


_CODES_V2: dict[Code, str] = {
    Code.UNKNOWN_ACTION: "NotImplemented",
    Code.NOT_SERVED: "NotSupported",
    Code.FORMAT: "FormatViolation",
    Code.OCCURRENCE: "OccurrenceConstraintViolation",
    Code.TYPE: "TypeConstraintViolation",
    Code.PROPERTY: "PropertyConstraintViolation",
    Code.FRAME: "RpcFrameworkError",
    Code.MESSAGE_TYPE: "MessageTypeNotSupported",
    Code.SECURITY: "SecurityError",
    Code.INTERNAL: "InternalError",
}
# 1.6 has no code for a broken frame, and spells two of the others its own way.
_CODES_V16 = _CODES_V2 | {
    Code.FORMAT: "FormationViolation",
    Code.OCCURRENCE: "OccurenceConstraintViolation",
    Code.FRAME: "FormationViolation",
    Code.MESSAGE_TYPE: "FormationViolation",
}

_BY_KEYWORD: dict[str, Code] = {
    "required": Code.OCCURRENCE,
    "minItems": Code.OCCURRENCE,
    "maxItems": Code.OCCURRENCE,
    "minProperties": Code.OCCURRENCE,
    "maxProperties": Code.OCCURRENCE,
    "additionalProperties": Code.FORMAT,
    "additionalItems": Code.FORMAT,
    "falseSchema": Code.FORMAT,
    "type": Code.TYPE,
    "maxLength": Code.TYPE,
    "minLength": Code.TYPE,
}
"""Every keyword that is not here (enum, format, range, pattern...) is about the value: PROPERTY."""


class Problem(NamedTuple):
    """What is wrong with a payload. `why` names place and rule, never the value."""

    code: Code
    why: str


class Refused(Exception):
    """A call that is answered with a CALLERROR; raised by adapters for values they cannot read."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


_FROM_STATION: dict[OcppVersion, frozenset[str]] = {
    OcppVersion.V16: frozenset(
        "Authorize BootNotification DataTransfer DiagnosticsStatusNotification "
        "FirmwareStatusNotification Heartbeat LogStatusNotification MeterValues "
        "SecurityEventNotification SignCertificate SignedFirmwareStatusNotification "
        "StartTransaction StatusNotification StopTransaction".split()
    ),
    OcppVersion.V201: frozenset(
        "Authorize BootNotification ClearedChargingLimit DataTransfer FirmwareStatusNotification "
        "Get15118EVCertificate GetCertificateStatus Heartbeat LogStatusNotification MeterValues "
        "NotifyChargingLimit NotifyCustomerInformation NotifyDisplayMessages "
        "NotifyEVChargingNeeds NotifyEVChargingSchedule NotifyEvent NotifyMonitoringReport "
        "NotifyReport PublishFirmwareStatusNotification ReportChargingProfiles "
        "ReservationStatusUpdate SecurityEventNotification SignCertificate StatusNotification "
        "TransactionEvent".split()
    ),
}
_FROM_STATION[OcppVersion.V21] = _FROM_STATION[OcppVersion.V201] | frozenset(
    "BatterySwap ClosePeriodicEventStream GetCertificateChainStatus NotifyDERAlarm "
    "NotifyDERStartStop NotifyPriorityCharging NotifySettlement OpenPeriodicEventStream "
    "PullDynamicScheduleUpdate ReportDERControl VatNumberValidation".split()
)
_SENT: dict[OcppVersion, frozenset[str]] = {
    OcppVersion.V21: frozenset({"NotifyPeriodicEventStream"})
}
"""What a station says in a SEND, which is never answered (OCPP 2.1 part 4, 4.2.5)."""

_FOLDER = {OcppVersion.V16: "v16", OcppVersion.V201: "v201", OcppVersion.V21: "v21"}
_REQUEST_ENDING = {OcppVersion.V16: "", OcppVersion.V201: "Request", OcppVersion.V21: "Request"}


def _loosen_configuration(schema: dict[str, Any]) -> None:
    # Stations write readonly as text, and values longer than the 500 characters of 1.6.
    entry = schema["properties"]["configurationKey"]["items"]
    entry["properties"]["readonly"]["type"] = ["boolean", "string"]
    entry["properties"]["value"].pop("maxLength")
    entry["required"] = ["key"]


def _loosen_samples(schema: dict[str, Any]) -> None:
    # A meter that has nothing to say sends an empty list; the stop it rides on must not be lost.
    where = schema.get("definitions", {}).get("MeterValueType")
    if where is None:
        name = "meterValue" if "meterValue" in schema["properties"] else "transactionData"
        where = schema["properties"][name]["items"]
        units = where["properties"]["sampledValue"]["items"]["properties"]["unit"]["enum"]
        units.extend(u for u in ("Celsius", "Hertz", "Hz") if u not in units)
    where["properties"]["sampledValue"].pop("minItems", None)


def _loosen_event(schema: dict[str, Any]) -> None:
    # The file knows the idle time of a cost period only as "IdleTIme"; the letter of the standard's
    # text is "IdleTime", and a session's end must not be lost over it.
    _loosen_samples(schema)
    schema["definitions"]["CostDimensionEnumType"]["enum"].append("IdleTime")


_INTEGER_BOUND = 2**31
"""Integers of OCPP have 32 bits (2.0.1 part 2, 2.1.1); the schemas say nothing of it."""
_REGISTER_BOUND = 2**53
"""1.6 stations count Wh past 32 bits in meterStart and meterStop."""
_REGISTERS = frozenset({"meterStart", "meterStop"})


def _bound_integers(schema: dict[str, Any], name: str = "") -> None:
    """Give each integer a station says the bounds that no schema file states."""
    if schema.get("type") == "integer":
        bound = _REGISTER_BOUND if name in _REGISTERS else _INTEGER_BOUND
        schema.setdefault("minimum", -bound)
        schema.setdefault("maximum", bound - 1)
    for member, part in schema.get("properties", {}).items():
        _bound_integers(part, member)
    for part in schema.get("definitions", {}).values():
        _bound_integers(part)
    if isinstance(schema.get("items"), dict):
        _bound_integers(schema["items"])


_LOOSENED: dict[tuple[OcppVersion, str], Callable[[dict[str, Any]], None]] = {
    (OcppVersion.V16, "GetConfigurationResponse"): _loosen_configuration,
    (OcppVersion.V16, "MeterValues"): _loosen_samples,
    (OcppVersion.V16, "StopTransaction"): _loosen_samples,
    (OcppVersion.V201, "MeterValuesRequest"): _loosen_samples,
    (OcppVersion.V201, "TransactionEventRequest"): _loosen_samples,
    (OcppVersion.V21, "MeterValuesRequest"): _loosen_samples,
    (OcppVersion.V21, "TransactionEventRequest"): _loosen_event,
}

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


def is_instant(text: str) -> bool:
    """Return whether `text` is a date and time we read: RFC 3339, or the same without a zone."""
    return _INSTANT.fullmatch(text) is not None


class _Checker:
    """One schema. The strict validator decides; times it refuses get a second, looser look."""

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read

    @cached_property
    def _strict(self) -> Draft6Validator:
        return self._compiled()

    @cached_property
    def _lenient(self) -> Draft6Validator:
        return self._compiled(formats={"date-time": is_instant})

    def _compiled(self, **formats: Any) -> Draft6Validator:
        # Draft 6 whatever the file says: the 1.6 files claim draft 4, in which 1.0 is no integer.
        schema = {k: v for k, v in self._read().items() if k not in ("$schema", "$id", "id")}
        return Draft6Validator(schema, validate_formats=True, **formats)

    def problem(self, payload: Any) -> Problem | None:
        # Not `validate`: building its error costs more than the whole check of a good payload.
        if self._strict.is_valid(payload):
            return None
        try:
            self._lenient.validate(payload)
        except ValidationError as error:
            return _problem(error)
        except ValueError as error:
            # A value that the validator cannot even represent.
            return Problem(Code.PROPERTY, type(error).__name__)
        return None


def _problem(error: ValidationError) -> Problem:
    keyword = error.kind.name
    place = ".".join(str(step) for step in error.instance_path) or "payload"
    rule = keyword
    if keyword == "required":
        rule = f"{error.kind.as_dict()['property']} is required"
    return Problem(_BY_KEYWORD.get(keyword, Code.PROPERTY), f"{place}: {rule}"[:200])


class Codec:
    """The messages of one version."""

    def __init__(self, version: OcppVersion) -> None:
        self.version = version
        self._codes = _CODES_V16 if version is OcppVersion.V16 else _CODES_V2
        ending = _REQUEST_ENDING[version]
        self._answers: dict[str, _Checker] = {}
        self._calls: dict[str, _Checker] = {}
        for name, file in _files(version).items():
            checker = _Checker(partial(_schema, version, name, file))
            if name.endswith("Response"):
                self._answers[name.removesuffix("Response")] = checker
            else:
                self._calls[name.removesuffix(ending)] = checker
        self.actions = frozenset(self._calls)
        self.from_station = _FROM_STATION[version]
        self.sent_by_station = _SENT.get(version, frozenset())
        self.to_station = (self.actions - self.from_station - self.sent_by_station) | {
            "DataTransfer"
        }

    def code(self, code: Code) -> str:
        """Return this version's spelling of `code`."""
        return self._codes[code]

    def check_call(self, action: str, payload: Any) -> Problem | None:
        """Return what is wrong with a station's call, None if it can be served."""
        if action not in self.from_station:
            if action in self.sent_by_station:
                return Problem(Code.NOT_SERVED, "this action is sent, it asks for no answer")
            if action in self.actions:
                return Problem(Code.NOT_SERVED, "this action goes from the centre to the station")
            return Problem(Code.UNKNOWN_ACTION, "this version has no such action")
        return self._calls[action].problem(payload)

    def check_sent(self, action: str, payload: Any) -> Problem | None:
        """Return what is wrong with a station's SEND, None if it can be taken."""
        if action not in self.sent_by_station:
            return Problem(Code.NOT_SERVED, "this action cannot be sent without an answer")
        return self._calls[action].problem(payload)

    def check_answer(self, action: str, payload: Any) -> Problem | None:
        """Return what is wrong with the answer to `action`, in either direction."""
        return self._answers[action].problem(payload)

    def check_command(self, action: str, payload: Any) -> Problem | None:
        """Return what is wrong with a call of ours, None if it may be sent."""
        if action not in self.to_station:
            return Problem(Code.UNKNOWN_ACTION, f"{self.version} has no such action of the centre")
        return self._calls[action].problem(payload)


@cache
def codec(version: OcppVersion) -> Codec:
    """Return the codec of `version`."""
    return Codec(version)


def _is_said_by_station(version: OcppVersion, name: str) -> bool:
    said = _FROM_STATION[version] | _SENT.get(version, frozenset())
    if name.endswith("Response"):
        action = name.removesuffix("Response")
        return action not in said or action == "DataTransfer"
    return name.removesuffix(_REQUEST_ENDING[version]) in said


def schemas(version: OcppVersion) -> dict[str, dict[str, Any]]:
    """Return the schema of each message by file name, loosened where stations need it."""
    return {name: _schema(version, name, file) for name, file in _files(version).items()}


def _files(version: OcppVersion) -> dict[str, Traversable]:
    # The data files only: importing the package's version modules would load its own validator.
    folder = files("ocpp") / _FOLDER[version] / "schemas"
    return {
        entry.name.removesuffix(".json"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    }


def _schema(version: OcppVersion, name: str, file: Traversable) -> dict[str, Any]:
    schema: dict[str, Any] = orjson.loads(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    if loosen := _LOOSENED.get((version, name)):
        loosen(schema)
    if _is_said_by_station(version, name):
        _bound_integers(schema)
    return schema
