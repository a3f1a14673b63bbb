"""Reports and commands about the device itself: its variables, monitors, logs and firmware."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from csms.core.commands import Command
from csms.core.device import Attribute, Kind, Monitor, StationEvent, VariableName
from csms.core.messages import RecordReceived

# --- reports -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReceived(RecordReceived):
    """One part of an answer that comes in parts, numbered from 0."""

    request_id: int
    seq_no: int
    is_last: bool
    generated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesReported(PartReceived):
    """NotifyReport."""

    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorsReported(PartReceived):
    """NotifyMonitoringReport."""

    monitors: tuple[Monitor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerReported(PartReceived):
    """NotifyCustomerInformation; `data` is what the station holds of a customer."""

    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsReported(RecordReceived):
    """NotifyEvent."""

    generated_at: datetime
    events: tuple[StationEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReported(RecordReceived):
    """A firmware, log or publishing status; `request_id` None where the version has none."""

    kind: Kind
    request_id: int | None
    status: str
    detail: str = ""


# --- commands ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadVariables(Command):
    """GetVariables / GetConfiguration; without names every 1.6 key, which 2.0.1 has no word for."""

    names: tuple[VariableName, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteVariables(Command):
    """SetVariables / ChangeConfiguration, one outcome per variable."""

    values: tuple[tuple[VariableName, str], ...]
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModel(Command):
    """GetBaseReport, or GetReport where `criteria` or `names` are given; 1.6 reads every key.

    A name with an empty variable asks for all variables of its component.
    """

    request_id: int
    base: str = "FullInventory"
    criteria: tuple[str, ...] = ()
    names: tuple[VariableName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAvailability(Command):
    """ChangeAvailability of the station, an EVSE or a connector."""

    is_operative: bool
    evse_id: int = 0
    connector_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMonitors(Command):
    """SetVariableMonitoring."""

    monitors: tuple[Monitor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearMonitors(Command):
    """ClearVariableMonitoring."""

    monitor_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMonitoringBase(Command):
    """SetMonitoringBase: "All", "FactoryDefault" or "HardWiredOnly"."""

    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMonitoringLevel(Command):
    """SetMonitoringLevel: severities from 0 (danger) to `severity` are reported."""

    severity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMonitors(Command):
    """GetMonitoringReport."""

    request_id: int
    criteria: tuple[str, ...] = ()
    names: tuple[VariableName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCustomer(Command):
    """CustomerInformation; exactly one of token, certificate and identifier names the customer."""

    request_id: int
    is_report: bool
    is_clear: bool
    id_token: str = ""
    id_token_kind: str = ""
    certificate: Mapping[str, str] | None = None
    customer_identifier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLog(Command):
    """GetLog, or GetDiagnostics where a 1.6 station is asked for its "DiagnosticsLog"."""

    request_id: int
    location: str
    log_type: str = "DiagnosticsLog"
    oldest_at: datetime | None = None
    latest_at: datetime | None = None
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFirmware(Command):
    """UpdateFirmware; in 1.6 SignedUpdateFirmware where there is a signature."""

    request_id: int
    location: str
    retrieve_at: datetime
    install_at: datetime | None = None
    signing_certificate: str = ""
    signature: str = ""
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFirmware(Command):
    """PublishFirmware to a local controller; `checksum` is the MD5 of the image."""

    request_id: int
    location: str
    checksum: str
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpublishFirmware(Command):
    """UnpublishFirmware."""

    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNetworkProfile(Command):
    """SetNetworkProfile: how the station reaches a central system from `slot`."""

    slot: int
    url: str
    security_profile: int
    interface: str = "Wired0"
    message_timeout_s: int = 30
