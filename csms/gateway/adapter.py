"""What an adapter is: the words of one OCPP version, to and from ours, without any I/O.

An incoming call becomes an Exchange, the report to ask the centre and how to spell its reply; a
command becomes Steps, the calls that carry it out and how to read their answers. Business rules
never live here: an adapter renames, converts units, maps enums and fills the specification's
defaults.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import orjson

from csms.core.commands import Command, CommandResult, Outcome, RawCall
from csms.core.messages import BootReply, Noted, Report, VendorReply
from csms.core.model import OcppVersion
from csms.gateway.codec import Codec
from csms.gateway.facts import FACTS
from csms.gateway.frames import Call, compact_object
from csms.gateway.values import utc_text

Payload = dict[str, Any]
Reader = Callable[[Payload], CommandResult]


class Origin(NamedTuple):
    """Whose call it is and when it came: what every report begins with."""

    station_id: str
    link_id: int
    received_at: datetime


class Exchange(NamedTuple):
    """A call as the centre's question, and how its reply is spelled."""

    report: Report[Any]
    answer: Callable[[Any], Payload]


class Step(NamedTuple):
    """One call of ours. `payload_json` is the payload's spelling on the wire.

    `read` turns the station's answer, already checked, into the command's result.
    """

    action: str
    payload: Payload
    payload_json: str
    read: Callable[[Payload], CommandResult]
    is_alone: bool = False
    """Whether the steps after it go out though the station refuses this one."""


class Unsendable(Exception):
    """A command that cannot be said in this version; the text says why."""


class Adapter(Protocol):
    """One OCPP version."""

    @property
    def version(self) -> OcppVersion:
        """The version this adapter speaks."""
        ...

    @property
    def codec(self) -> Codec:
        """The version's messages."""
        ...

    def exchange(self, call: Call, origin: Origin) -> Exchange:
        """Return `call`, whose payload fits its schema, as a question to the centre.

        Raises Refused for a value the schema lets through and that cannot be meant.
        """
        ...

    def steps(self, command: Command) -> Sequence[Step]:
        """Return the calls that carry out `command`; raises Unsendable if there are none."""
        ...


_ACCEPTED = frozenset(
    {"Accepted", "RebootRequired", "Scheduled", "Unlocked", "AcceptedCanceled", "Downloading"}
)
_NOT_SUPPORTED = frozenset({"NotSupported", "NotImplemented"})


def outcome_of(status: str) -> Outcome:
    """Return how a command ended whose answer carries `status`; an answer without one is a yes."""
    if not status or status in _ACCEPTED:
        return Outcome.ACCEPTED
    return Outcome.NOT_SUPPORTED if status in _NOT_SUPPORTED else Outcome.REJECTED


def read_status(answer: Payload) -> CommandResult:
    """Return the result that most answers spell: one status."""
    status = answer.get("status", "")
    status = status if isinstance(status, str) else ""
    info = answer.get("statusInfo")
    reason = info.get("reasonCode", "") if isinstance(info, dict) else ""
    return CommandResult(outcome=outcome_of(status), status=status, reason=reason, answer=answer)


_ITEMS: Mapping[str, tuple[str, str]] = {
    "GetVariables": ("getVariableResult", "attributeStatus"),
    "SetVariables": ("setVariableResult", "attributeStatus"),
    "SetVariableMonitoring": ("setMonitoringResult", "status"),
    "ClearVariableMonitoring": ("clearMonitoringResult", "status"),
}
"""Actions answered with one status per item: the list, and its status member."""


def _read_items(answer: Payload, items: str, member: str) -> CommandResult:
    statuses = [item[member] for item in answer[items]]
    refused = [s for s in statuses if outcome_of(s) is not Outcome.ACCEPTED]
    rebooting = [s for s in statuses if s != "Accepted"]
    status = (refused or rebooting or statuses)[0]
    return CommandResult(outcome=outcome_of(status), status=status, answer=answer)


def reader(action: str, payload: Payload, read: Reader) -> Reader:
    """Return `read` with what call and answer say together about the device (facts.py).

    An action that is answered item by item is accepted when every item is; its status is that of
    the first item that is not.
    """
    items = _ITEMS.get(action)
    if items is not None and read is read_status:

        def by_item(answer: Payload) -> CommandResult:
            return _read_items(answer, *items)

        read = by_item
    find = FACTS.get(action)
    if find is None:
        return read

    def with_facts(answer: Payload) -> CommandResult:
        return replace(read(answer), facts=find(payload, answer))

    return with_facts


def read_cleared(answer: Payload) -> CommandResult:
    """Return the result of clearing a profile: "Unknown" says that it is gone as well."""
    result = read_status(answer)
    if result.status == "Unknown":
        return CommandResult(outcome=Outcome.ACCEPTED, status="Unknown", answer=answer)
    return result


def step(
    action: str, payload: Payload, read: Reader = read_status, *, is_alone: bool = False
) -> Step:
    """Return one call of our own making."""
    text = orjson.dumps(payload).decode()
    return Step(action, payload, text, reader(action, payload, read), is_alone)


def raw_steps(command: RawCall, version: OcppVersion) -> Sequence[Step]:
    """Return the one call of a raw command, spelled as the caller spelled it."""
    if command.version is not None and command.version is not version:
        raise Unsendable("wrong version")
    try:
        payload, text = compact_object(command.payload_json)
    except ValueError as error:
        raise Unsendable(f"not valid: {error}") from error
    return (Step(command.action, payload, text, reader(command.action, payload, read_status)),)


def listed(text: str) -> tuple[str, ...]:
    """Return the members of a comma-separated list as stations write it."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(
    values: Mapping[str, str], names: Mapping[str, str], *, least: int = 1
) -> dict[str, int]:
    """Return field name -> number for each setting in `names` that holds one from `least` on."""
    found: dict[str, int] = {}
    for setting, field in names.items():
        text = values.get(setting, "").strip()
        if text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= least:
            found[field] = int(text)
    return found


def boot_answer(reply: BootReply) -> Payload:
    """Return the BootNotification answer, which both versions spell alike."""
    return {
        "currentTime": utc_text(reply.at),
        "interval": reply.interval_s,
        "status": reply.status,
    }


def nothing(reply: Noted) -> Payload:
    """Return the empty answer."""
    return {}


def vendor_answer(reply: VendorReply) -> Payload:
    """Return the DataTransfer answer, which both versions spell alike."""
    answer: Payload = {"status": reply.status}
    if reply.data is not None:
        answer["data"] = reply.data
    return answer
