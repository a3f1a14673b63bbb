"""What we ask of stations, and what comes of it: plain values, whatever the version."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from csms.core.device import Fact
from csms.core.model import (
    Evse,
    IdToken,
    OcppVersion,
    StationLimits,
)
from csms.core.security import ListedCertificate
from csms.core.terms import Abilities


def integer(value: object) -> int | None:
    """Return `value` if it is an integer that stations and the store can hold, else None.

    OCPP-J names no size; stations and the schemas' tools take 32 bits with a sign.
    """
    is_one = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return value if is_one else None  # type: ignore[return-value]


class Outcome(StrEnum):
    """How a command ended. All but NOT_SENT, WAITING, EXPIRED and CANCELLED reached the wire."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SUPPORTED = "not_supported"
    CALL_ERROR = "call_error"
    NO_ANSWER = "no_answer"
    INVALID_ANSWER = "invalid_answer"
    SENT = "sent"
    """Sent, and the caller chose not to wait."""
    IGNORED = "ignored"
    """Accepted, and found not to be in force afterwards."""
    SUPERSEDED = "superseded"
    """Dropped from the queue because a newer schedule for the same EVSE took its place."""
    NOT_SENT = "not_sent"
    WAITING = "waiting"
    """Kept for a station that is away, until it comes back or the command expires."""
    EXPIRED = "expired"
    """Waited for a station that did not come back in time."""
    CANCELLED = "cancelled"
    """Taken back before it was sent."""
    LATE = "late"
    """Answered after we had stopped waiting; the answer is on record."""


_LINK_GONE = frozenset({"offline", "other link", "link lost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The outcome with the station's own words.

    `status` is the station's status text verbatim; `error_code` and `error_description` are those
    of a CALLERROR, or say what is wrong with an invalid answer; `answer` is the answer's payload,
    `reason` the reason code in it (2.x). `limits`, `told` (item of a dialect -> what the station
    says of it) and `evses` are filled by ReadLimits, `composite` by ReadComposite.
    """

    outcome: Outcome
    status: str = ""
    error_code: str = ""
    error_description: str = ""
    answer: Mapping[str, object] | None = None
    reason: str = ""
    limits: StationLimits | None = None
    told: Mapping[str, object] = field(default_factory=dict)
    evses: tuple[Evse, ...] = ()
    abilities: Abilities | None = None
    """Filled by ReadAbilities."""
    composite: "Schedule | None" = None
    certificates: tuple[ListedCertificate, ...] = ()
    """Filled by ListCertificates."""
    why_not_sent: str = ""
    facts: tuple[Fact, ...] = ()
    """What call and answer say together: one for each variable, monitor or job concerned."""

    @property
    def is_accepted(self) -> bool:
        """Whether the station said yes."""
        return self.outcome is Outcome.ACCEPTED

    @property
    def is_link_gone(self) -> bool:
        """Whether there was no link, or no longer the one meant: it says nothing of the station."""
        return self.why_not_sent in _LINK_GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePeriod:
    """From `start_s` after the schedule's start on, `limit` in the schedule's unit."""

    start_s: int
    limit: float
    phases: int | None = None


TX_PROFILE, TX_DEFAULT = "TxProfile", "TxDefaultProfile"
STATION_MAX = "ChargingStationMaxProfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """An absolute charging schedule as a station takes it. `unit` is "A" (per phase) or "W".

    `max_offline_s` is how long it holds without a link (2.1). With `update_every_s` it is dynamic
    (2.1): the station holds the limit of now and asks for the next one that often. `purpose` is
    what it goes out as, in 2.0.1's words; see csms.planning.cascade.
    """

    profile_id: int
    stack_level: int
    unit: str
    starts_at: datetime
    duration_s: int | None
    periods: tuple[SchedulePeriod, ...]
    min_rate: float | None = None
    max_offline_s: int | None = None
    update_every_s: int | None = None
    purpose: str = TX_PROFILE


DEFAULT_WAIT_S = 30.0
"""Stands for no wait of the command's own: whoever sends it knows how long to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What we ask of a station. `link_id` 0 means whichever link it has now.

    `command_id` is its record, which an answer that comes late is for; 0 while it has none.
    """

    station_id: str
    link_id: int = 0
    wait_s: float = DEFAULT_WAIT_S
    command_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSchedule(Command):
    """The plan of one transaction, as a TxProfile unless its schedule says otherwise.

    `is_update` says that the station holds it as a dynamic profile already: its limit is enough.
    """

    evse_id: int
    transaction_id: str
    schedule: Schedule
    is_update: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSchedule(Command):
    """Take one of our profiles away."""

    profile_id: int
    evse_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetGuard(Command):
    """A limit that holds without us.

    `evse_id` 0 sets the station's physical maximum (ChargePointMaxProfile /
    ChargingStationMaxProfile); an EVSE sets its TxDefaultProfile.
    """

    evse_id: int
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPriority(Command):
    """What an EVSE may draw while its driver charges with priority (2.1)."""

    evse_id: int
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCharging(Command):
    """RemoteStartTransaction / RequestStartTransaction, optionally with its first schedule."""

    evse_id: int
    id_token: IdToken
    remote_start_id: int
    schedule: Schedule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCharging(Command):
    """RemoteStopTransaction / RequestStopTransaction."""

    transaction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits(Command):
    """Ask which schedules the station can take; the answer is CommandResult.limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAbilities(Command):
    """Ask what the station can do beyond 2.0.1; the answer is CommandResult.abilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure(Command):
    """Set configuration: 1.6 keys, or "Component.Variable" in 2.0.1."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Command):
    """`is_hard` maps to Hard / Immediate, otherwise Soft / OnIdle; 1.6 knows no single EVSE."""

    is_hard: bool = False
    evse_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger(Command):
    """Ask for a message: "BootNotification", "StatusNotification", "MeterValues", "Heartbeat"."""

    message: str
    evse_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock(Command):
    """Unlock a connector."""

    evse_id: int
    connector_id: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLink(Command):
    """Close the station's link: the credential that opened it is no longer good."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCall(Command):
    """Any action of the station's version, checked against its schema and sent as given.

    `payload_json` goes on the wire member by member: none added, dropped, retyped or reordered.
    `version` is checked against the link when given.
    """

    action: str
    payload_json: str
    version: OcppVersion | None = None

    def payload(self) -> dict[str, Any]:
        """Return what it says; nothing where it is no JSON object, which no station is sent."""
        try:
            found = json.loads(self.payload_json)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
