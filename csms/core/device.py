"""What a station is made of and what it does on request: variables, monitors, events, jobs.

The words are those of OCPP 2.0.1's device model. A 1.6 configuration key is the variable of that
name of one pseudo component, `KEYS`; where 2.0.1 has a variable for the same thing, `STANDARD`
names it, and the key is found by that name too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

KEYS = "Configuration"
"""The pseudo component of 1.6 configuration keys."""

STANDARD: Mapping[str, tuple[str, str]] = {
    "AuthorizeRemoteTxRequests": ("AuthCtrlr", "AuthorizeRemoteStart"),
    "AllowOfflineTxForUnknownId": ("AuthCtrlr", "OfflineTxForUnknownIdEnabled"),
    "AuthorizationCacheEnabled": ("AuthCacheCtrlr", "Enabled"),
    "LocalAuthListEnabled": ("LocalAuthListCtrlr", "Enabled"),
    "LocalAuthListMaxLength": ("LocalAuthListCtrlr", "Entries"),
    "SendLocalListMaxLength": ("LocalAuthListCtrlr", "ItemsPerMessage"),
    "LocalAuthorizeOffline": ("AuthCtrlr", "LocalAuthorizeOffline"),
    "LocalPreAuthorize": ("AuthCtrlr", "LocalPreAuthorize"),
    "ClockAlignedDataInterval": ("AlignedDataCtrlr", "Interval"),
    "MeterValuesAlignedData": ("AlignedDataCtrlr", "Measurands"),
    "StopTxnAlignedData": ("AlignedDataCtrlr", "TxEndedMeasurands"),
    "MeterValueSampleInterval": ("SampledDataCtrlr", "TxUpdatedInterval"),
    "MeterValuesSampledData": ("SampledDataCtrlr", "TxUpdatedMeasurands"),
    "StopTxnSampledData": ("SampledDataCtrlr", "TxEndedMeasurands"),
    "ConnectionTimeOut": ("TxCtrlr", "EVConnectionTimeOut"),
    "StopTransactionOnEVSideDisconnect": ("TxCtrlr", "StopTxOnEVSideDisconnect"),
    "StopTransactionOnInvalidId": ("TxCtrlr", "StopTxOnInvalidId"),
    "MaxEnergyOnInvalidId": ("TxCtrlr", "MaxEnergyOnInvalidId"),
    "HeartbeatInterval": ("OCPPCommCtrlr", "HeartbeatInterval"),
    "WebSocketPingInterval": ("OCPPCommCtrlr", "WebSocketPingInterval"),
    "ResetRetries": ("OCPPCommCtrlr", "ResetRetries"),
    "TransactionMessageAttempts": ("OCPPCommCtrlr", "MessageAttempts"),
    "TransactionMessageRetryInterval": ("OCPPCommCtrlr", "MessageAttemptInterval"),
    "UnlockConnectorOnEVSideDisconnect": ("OCPPCommCtrlr", "UnlockOnEVSideDisconnect"),
    "ChargeProfileMaxStackLevel": ("SmartChargingCtrlr", "ProfileStackLevel"),
    "ChargingScheduleAllowedChargingRateUnit": ("SmartChargingCtrlr", "RateUnit"),
    "ChargingScheduleMaxPeriods": ("SmartChargingCtrlr", "PeriodsPerSchedule"),
    "MaxChargingProfilesInstalled": ("SmartChargingCtrlr", "Entries"),
    "ConnectorSwitch3to1PhaseSupported": ("SmartChargingCtrlr", "Phases3to1"),
    "AuthorizationKey": ("SecurityCtrlr", "BasicAuthPassword"),
    "SecurityProfile": ("SecurityCtrlr", "SecurityProfile"),
    "CpoName": ("SecurityCtrlr", "OrganizationName"),
    "CertificateSignedMaxChainSize": ("SecurityCtrlr", "MaxCertificateChainSize"),
    "AdditionalRootCertificateCheck": ("SecurityCtrlr", "AdditionalRootCertificateCheck"),
}
"""1.6 key -> component and variable of 2.0.1 with the same meaning."""

_KEY_OF: Mapping[tuple[str, str], str] = {name: key for key, name in STANDARD.items()}

SECRETS = frozenset({"BasicAuthPassword", "AuthorizationKey"})
"""Variables whose value is never kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableName:
    """A variable of a component; `evse_id` 0 is the whole station, `connector_id` 0 any."""

    component: str
    variable: str
    component_instance: str = ""
    variable_instance: str = ""
    evse_id: int = 0
    connector_id: int = 0

    @property
    def standard(self) -> tuple[str, str] | None:
        """Component and variable as 2.0.1 calls them; None for a 1.6 key it does not know."""
        if self.component == KEYS:
            return STANDARD.get(self.variable)
        return self.component, self.variable

    @property
    def key(self) -> str | None:
        """The 1.6 configuration key with this meaning, None if there is none."""
        if self.component == KEYS:
            return self.variable
        return _KEY_OF.get((self.component, self.variable))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute of a variable as reported; what was not said is "" or None."""

    name: VariableName
    kind: str = "Actual"
    value: str | None = None
    mutability: str = ""
    data_type: str = ""
    unit: str = ""
    min_limit: float | None = None
    max_limit: float | None = None
    values_list: str = ""
    supports_monitoring: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A monitor on a variable; `monitor_id` None while the station has not numbered it."""

    name: VariableName
    kind: str
    value: float
    severity: int
    monitor_id: int | None = None
    is_transaction_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StationEvent:
    """What a monitor or the hardware noticed (EventDataType). `event_id` is the station's."""

    event_id: int
    at: datetime
    trigger: str
    notification: str
    name: VariableName
    actual_value: str
    cause_id: int | None = None
    tech_code: str = ""
    tech_info: str = ""
    is_cleared: bool = False
    transaction_id: str = ""
    monitor_id: int | None = None


class Kind(StrEnum):
    """What a request with an id of its own is about."""

    REPORT = "report"
    MONITORS = "monitors"
    CUSTOMER = "customer"
    LOG = "log"
    FIRMWARE = "firmware"
    PUBLISH = "publish"


# --- facts: what a call of ours and its answer say together ---------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableFact:
    """The outcome for one variable that was read or written (`is_set`), in the station's word."""

    name: VariableName
    status: str
    kind: str = "Actual"
    value: str | None = None
    mutability: str = ""
    is_set: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityFact:
    """What availability was asked for, and the station's answer."""

    evse_id: int
    connector_id: int
    is_operative: bool
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorFact:
    """A monitor that was asked for, and the station's answer to it."""

    monitor: Monitor
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorClearedFact:
    """A monitor that was to be cleared, and the station's answer."""

    monitor_id: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFact:
    """A request with an id was answered; `file_name` is the name the station gives its upload."""

    kind: Kind
    request_id: int | None
    status: str
    file_name: str = ""


Fact = VariableFact | AvailabilityFact | MonitorFact | MonitorClearedFact | RequestFact
