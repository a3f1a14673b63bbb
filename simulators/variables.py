"""A station's settings and what each version calls them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulators.dialect import Dialect


@dataclass(slots=True, kw_only=True)
class Settings:
    """What the central system may change on a station."""

    heartbeat_interval_s: int = 300
    sample_interval_s: int = 60
    local_authorize_offline: bool = True
    local_pre_authorize: bool = False
    accepts_unknown_offline: bool = False
    cache_enabled: bool = True
    list_enabled: bool = True
    stop_on_invalid: bool = True
    stop_on_ev_disconnect: bool = True
    message_attempts: int = 3
    message_attempt_interval_s: int = 60
    connection_timeout_s: int = 120
    ping_interval_s: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A setting's names: the 1.6 key; 2.0.1 component, variable and instance."""

    attribute: str
    key: str
    component: str
    name: str
    instance: str = ""
    least: int = 0


VARIABLES: tuple[Variable, ...] = (
    Variable(
        attribute="heartbeat_interval_s",
        key="HeartbeatInterval",
        component="OCPPCommCtrlr",
        name="HeartbeatInterval",
        least=1,
    ),
    Variable(
        attribute="sample_interval_s",
        key="MeterValueSampleInterval",
        component="SampledDataCtrlr",
        name="TxUpdatedInterval",
    ),
    Variable(
        attribute="local_authorize_offline",
        key="LocalAuthorizeOffline",
        component="AuthCtrlr",
        name="LocalAuthorizeOffline",
    ),
    Variable(
        attribute="local_pre_authorize",
        key="LocalPreAuthorize",
        component="AuthCtrlr",
        name="LocalPreAuthorize",
    ),
    Variable(
        attribute="accepts_unknown_offline",
        key="AllowOfflineTxForUnknownId",
        component="AuthCtrlr",
        name="OfflineTxForUnknownIdEnabled",
    ),
    Variable(
        attribute="cache_enabled",
        key="AuthorizationCacheEnabled",
        component="AuthCacheCtrlr",
        name="Enabled",
    ),
    Variable(
        attribute="list_enabled",
        key="LocalAuthListEnabled",
        component="LocalAuthListCtrlr",
        name="Enabled",
    ),
    Variable(
        attribute="stop_on_invalid",
        key="StopTransactionOnInvalidId",
        component="TxCtrlr",
        name="StopTxOnInvalidId",
    ),
    Variable(
        attribute="stop_on_ev_disconnect",
        key="StopTransactionOnEVSideDisconnect",
        component="TxCtrlr",
        name="StopTxOnEVSideDisconnect",
    ),
    Variable(
        attribute="message_attempts",
        key="TransactionMessageAttempts",
        component="OCPPCommCtrlr",
        name="MessageAttempts",
        instance="TransactionEvent",
        least=1,
    ),
    Variable(
        attribute="message_attempt_interval_s",
        key="TransactionMessageRetryInterval",
        component="OCPPCommCtrlr",
        name="MessageAttemptInterval",
        instance="TransactionEvent",
    ),
    Variable(
        attribute="connection_timeout_s",
        key="ConnectionTimeOut",
        component="TxCtrlr",
        name="EVConnectionTimeOut",
    ),
    Variable(
        attribute="ping_interval_s",
        key="WebSocketPingInterval",
        component="OCPPCommCtrlr",
        name="WebSocketPingInterval",
    ),
)


def text(value: object) -> str:
    """Return a setting as it stands on the wire."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def assigned(settings: Settings, variable: Variable, value: str) -> bool:
    """Set a variable from its text; return False, changing nothing, if the text does not fit."""
    if isinstance(getattr(settings, variable.attribute), bool):
        if value.lower() not in ("true", "false"):
            return False
        setattr(settings, variable.attribute, value.lower() == "true")
        return True
    if not value.isdecimal() or int(value) < variable.least:
        return False
    setattr(settings, variable.attribute, int(value))
    return True


def fixed_16(dialect: Dialect, *, rotations: Sequence[str]) -> Mapping[str, str]:
    """Return the 1.6 keys that only tell what the station is."""
    units = {"A": "Current", "W": "Power"}
    features = ["Core", "LocalAuthListManagement", "RemoteTrigger"]
    found = {
        "NumberOfConnectors": str(len(rotations)),
        "AuthorizeRemoteTxRequests": "true",
        "ClockAlignedDataInterval": "0",
        "ConnectorPhaseRotation": ",".join(
            ["0.RST", *(f"{n}.{r}" for n, r in enumerate(rotations, 1) if r != "RST")]
        ),
        "GetConfigurationMaxKeys": "50",
        "MeterValuesSampledData": "Energy.Active.Import.Register,Power.Active.Import,"
        "Current.Import,Voltage,Current.Offered,SoC",
        "LocalAuthListMaxLength": "1000",
        "SendLocalListMaxLength": "100",
    }
    if dialect.supports_profiles:
        features.append("SmartCharging")
    if dialect.supports_profiles and dialect.tells_limits:
        found |= {
            "ChargeProfileMaxStackLevel": str(dialect.max_stack_level),
            "ChargingScheduleAllowedChargingRateUnit": ",".join(
                units[u] for u in dialect.rate_units
            ),
            "ChargingScheduleMaxPeriods": str(dialect.max_periods),
            "MaxChargingProfilesInstalled": str(dialect.max_profiles),
        }
    return found | {"SupportedFeatureProfiles": ",".join(features)}


def fixed_201(dialect: Dialect, *, rotation: str) -> Mapping[tuple[str, str, str], str]:
    """Return the 2.0.1 variables (component, variable, instance) that only tell."""
    found = {
        ("ChargingStation", "PhaseRotation", ""): rotation,
        ("LocalAuthListCtrlr", "ItemsPerMessage", ""): "100",
        ("DeviceDataCtrlr", "ItemsPerMessage", "GetVariables"): "50",
        ("DeviceDataCtrlr", "ItemsPerMessage", "SetVariables"): "50",
        ("DeviceDataCtrlr", "ItemsPerMessage", "GetReport"): "50",
        ("TxCtrlr", "TxStartPoint", ""): "PowerPathClosed",
        ("TxCtrlr", "TxStopPoint", ""): "PowerPathClosed",
        ("SmartChargingCtrlr", "Available", ""): text(dialect.supports_profiles),
        ("SmartChargingCtrlr", "Enabled", ""): text(dialect.supports_profiles),
    }
    if dialect.supports_profiles and dialect.tells_limits:
        found |= {
            ("SmartChargingCtrlr", "RateUnit", ""): ",".join(dialect.rate_units),
            ("SmartChargingCtrlr", "PeriodsPerSchedule", ""): str(dialect.max_periods),
            ("SmartChargingCtrlr", "ProfileStackLevel", ""): str(dialect.max_stack_level),
            ("SmartChargingCtrlr", "Entries", "ChargingProfiles"): str(dialect.max_profiles),
        }
    return found
