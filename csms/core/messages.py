"""Reports (what a station says), replies, and commands (what we ask of it), free of any version.

A report is answered by exactly one reply, whose type is the report's parameter. Reports carry two
instants: `at`, by the station, and `received_at`, by us. Order comes from `at` and the sequence
number, never from arrival; validity is judged at `received_at`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from csms.core.commands import Command, CommandResult
from csms.core.model import (
    Authorization,
    IdToken,
    MeterSample,
    OcppVersion,
)
from csms.core.security import OcspQuestion
from csms.core.terms import Particulars, TransactionLimit

R = TypeVar("R", covariant=True)


# No slots in what every message makes, so that `made` can.
@dataclass(frozen=True, kw_only=True)
class Report(Generic[R]):
    """What a station says. `station_id` is always the link's own, never one from the payload."""

    station_id: str
    received_at: datetime
    link_id: int = 0


# --- replies -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """The report is on record; there is nothing else to say."""


class LinkRefusal(StrEnum):
    """Why a station may not connect."""

    UNKNOWN_STATION = "unknown_station"
    BAD_CREDENTIAL = "bad_credential"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    PROFILE_TOO_LOW = "profile_too_low"
    BAD_CERTIFICATE = "bad_certificate"
    NOT_ASKED_FOR = "profile_not_asked_for"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReply:
    """Whether a station may connect. `station_id` is the registered spelling of its identity."""

    refusal: LinkRefusal | None = None
    station_id: str = ""
    link_id: int = 0
    heartbeat_interval_s: int = 300
    is_registered: bool = True
    """False while the operator has not approved the station: its boot is answered Pending."""
    returns_after_close: bool = True
    """False for a station that does not come back after a close frame: its link is cut instead."""


CENTRE_STOPS, CENTRE_OUT = "centre stops", "try again later"
"""Why a link was closed by us, with a frame, though its station is to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootReply:
    """`status` is "Accepted", "Pending" or "Rejected" (the same words in all versions).

    `ends_link` says why the link has to be closed instead of answering; "" answers.
    """

    status: str
    at: datetime
    interval_s: int
    ends_link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReply:
    """The decision on a presented token; `tariff` is what charging costs, in 2.1's words."""

    authorization: Authorization
    tariff: Mapping[str, object] | None = None
    certificate_status: str = ""
    """What holds of the contract certificate that was shown, "" where none was."""
    allowed_modes: tuple[str, ...] = ()
    """Energy transfer modes the driver may use, empty where nothing is said (2.1)."""


@dataclass(frozen=True, kw_only=True)
class SessionReply:
    """`authorization` is None when the report carried no token.

    `transaction_id` is the id the station has to use from now on (1.6 start only). `limit` is what
    ends the transaction by itself, said once; `total_cost` what it costs, None without a tariff:
    said with its end, in 2.1 also while it runs.
    """

    transaction_id: str
    authorization: Authorization | None = None
    priority: int | None = None
    limit: TransactionLimit | None = None
    total_cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedReply:
    """`status` is "Accepted", "Rejected" or "Processing" (NotifyEVChargingNeedsStatusEnumType)."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicReply:
    """The limit that holds now for a dynamic profile, in its own unit; None if it is not ours."""

    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorReply:
    """`status` is "Accepted", "Rejected", "UnknownVendorId" or "UnknownMessageId"."""

    status: str
    data: str | None = None


# --- reports -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOffered(Report[LinkReply]):
    """A station asks to connect. `station_id` is the path's last segment, decoded.

    `password` is the raw secret of Basic authentication, None without the header; `username` is
    the header's user part. `certificate` is the client certificate that TLS has verified (DER),
    empty without one. `remote_address` is for attempt limits and the log.
    """

    username: str | None = None
    password: bytes | None = None
    version: OcppVersion
    remote_address: str = ""
    is_loopback: bool = False
    is_tls: bool = False
    certificate: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkClosed(Report[Noted]):
    """The link `link_id` is gone. Harmless when a newer link exists."""

    reason: str = ""


FLAPPING, CALM = "station flapping", "station no longer flapping"
"""Events of the gateway: a station's links come and go and are limited; they are so no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityNoticed(Report[Noted]):
    """The gateway saw what an operator has to know; `station_id` is "" before a station is told.

    `kind` is the event's name. `link_id` stays 0: it says nothing about a link's health.
    """

    kind: str
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StationSeen(Report[Noted]):
    """The link is alive; sent at most once a minute for the heartbeats answered meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationBooted(Report[BootReply]):
    """BootNotification."""

    version: OcppVersion
    vendor: str
    model: str
    serial_number: str = ""
    firmware_version: str = ""
    reason: str = ""
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged(Report[Noted]):
    """StatusNotification. `evse_id` 0 is the station itself (1.6 connector 0).

    `status` keeps the station's own word (1.6 knows more of them than 2.0.1).
    """

    at: datetime
    evse_id: int
    connector_id: int
    status: str
    error_code: str = ""
    info: str = ""
    vendor_error_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPresented(Report[TokenReply]):
    """Authorize.

    A contract certificate comes as a chain in PEM or as the hashes of its chain (2.x, C07).
    """

    id_token: IdToken
    version: OcppVersion
    certificate: str = ""
    hash_data: tuple[OcspQuestion, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SessionReport(Report[SessionReply]):
    """What the three transaction messages share.

    `transaction_id` is "" for a 1.6 start, which gets its id with the reply. `seq_no` is None in
    1.6. `payload` is the message's payload as JSON, kept with the event; `digest` identifies its
    content, so that a repeat can be told from a conflict. `clock_offset_s` marks nothing by
    itself; it is the gateway's estimate of (our time - station time), 0.0 while unknown.
    """

    version: OcppVersion
    action: str
    at: datetime
    transaction_id: str = ""
    seq_no: int | None = None
    evse_id: int = 0
    connector_id: int = 1
    id_token: IdToken | None = None
    samples: tuple[MeterSample, ...] = ()
    remote_start_id: int | None = None
    phases_used: int | None = None
    cable_max_current_a: float | None = None
    trigger: str = ""
    charging_state: str = ""
    is_offline: bool = False
    payload: str = "{}"
    digest: str = ""
    flags: tuple[str, ...] = ()
    particulars: Particulars | None = None
    """What a 2.1 message says beyond 2.0.1, None where it says no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(SessionReport):
    """StartTransaction, or TransactionEvent(Started)."""

    meter_start_wh: float | None = None
    reservation_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class SessionUpdated(SessionReport):
    """MeterValues with a transaction (1.6), or TransactionEvent(Updated)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(SessionReport):
    """StopTransaction, or TransactionEvent(Ended). `id_token` is the one that stopped it."""

    meter_stop_wh: float | None = None
    stop_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReported(Report[Noted]):
    """Meter values outside a transaction; EVSE 0 is the station's main meter."""

    evse_id: int
    samples: tuple[MeterSample, ...]
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedReported(Report[NeedReply]):
    """NotifyEVChargingNeeds: the car's own wish. Energies at the battery, as the car sees them.

    `mode` is the energy transfer it asks for, over `phases`; "DC" in direct current.
    """

    evse_id: int
    mode: str
    phases: int = 3
    energy_wh: float | None = None
    departs_at: datetime | None = None
    max_power_w: float | None = None
    min_current_a: float | None = None
    max_current_a: float | None = None
    max_voltage_v: float | None = None
    soc: float | None = None
    battery_wh: float | None = None
    max_schedule_tuples: int | None = None
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityChanged(Report[Noted]):
    """NotifyPriorityCharging (2.1): a transaction charges at full power, or no longer does."""

    transaction_id: str
    is_on: bool
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicPulled(Report[DynamicReply]):
    """PullDynamicScheduleUpdate (2.1): the station asks for the limit of a dynamic profile."""

    profile_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorMessage(Report[VendorReply]):
    """DataTransfer; `data` is text, JSON-encoded where the version allows other types."""

    vendor_id: str
    message_id: str = ""
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReceived(Report[Noted]):
    """Any other message that is answered correctly and kept as it came."""

    version: OcppVersion
    action: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswered(Report[Noted]):
    """What came of a command that nobody waits for any more.

    It was sent without a wait, or its answer came late (`is_late`).
    """

    command_id: int
    result: CommandResult
    is_late: bool


# --- notices -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a page shows live: `kind` such as "session", "plan", "station", "sample"."""

    kind: str
    site_id: str
    at: datetime
    detail: Mapping[str, object] = field(default_factory=dict)


class ReportHandler(Protocol):
    """The centre's end of the bus."""

    async def handle(self, report: Report[R]) -> R:
        """Answer `report`. Raise StoreUnavailable if it cannot be recorded."""
        ...


class CommandHandler(Protocol):
    """The gateway's end of the bus."""

    async def execute(self, command: Command) -> CommandResult:
        """Send `command` to its station and return what came of it; never raises for a refusal."""
        ...


class NoticeHandler(Protocol):
    """Whoever shows notices."""

    def show(self, notice: Notice) -> None:
        """Take `notice`; must return at once and may drop it."""
        ...
