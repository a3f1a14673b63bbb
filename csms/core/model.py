"""The nouns of the system: sites, stations, holders, trips, sessions, prices, samples.

Words are those of OCPP 2.0.1 whatever version a station speaks: a 1.6 connector *n* is EVSE *n*.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")


class OcppVersion(StrEnum):
    """The OCPP version a link speaks."""

    V16 = "1.6"
    V201 = "2.0.1"
    V21 = "2.1"


class AuthorizationStatus(StrEnum):
    """OCPP 2.0.1 AuthorizationStatusEnumType; each adapter maps it to its version."""

    ACCEPTED = "Accepted"
    BLOCKED = "Blocked"
    CONCURRENT_TX = "ConcurrentTx"
    EXPIRED = "Expired"
    INVALID = "Invalid"
    NO_CREDIT = "NoCredit"
    NOT_ALLOWED_TYPE_EVSE = "NotAllowedTypeEVSE"
    NOT_AT_THIS_LOCATION = "NotAtThisLocation"
    NOT_AT_THIS_TIME = "NotAtThisTime"
    UNKNOWN = "Unknown"


class Strategy(StrEnum):
    """How a site's cars are planned."""

    OPTIMAL = "optimal"
    LEAST_LAXITY = "least_laxity"
    EARLIEST_DEADLINE = "earliest_deadline"
    EQUAL_SHARE = "equal_share"
    AT_ONCE = "at_once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with one grid connection.

    `limit_kw` holds for all its stations together and the building; `base_load_kw` is the
    building's load where nothing better is known: the most it ever is, where `meter` names what
    measures it. `solar_meter` measures own generation; `meter_stale_s` after its last reading a
    meter counts as silent. `load_quantile` is the quantile of past loads that is planned with,
    `export_eur_per_kwh` what a kWh earns that nobody uses. `guard_share` (0..1) of what the
    building leaves is kept for cars that arrive at stations which are cut off from the centre.
    """

    site_id: str
    name: str = ""
    time_zone: str = "UTC"
    limit_kw: float
    base_load_kw: float = 0.0
    meter: str = ""
    solar_meter: str = ""
    meter_stale_s: float = 300.0
    load_quantile: float = 0.9
    export_eur_per_kwh: float = 0.0
    voltage_v: float = 230.0
    guard_share: float = 0.2
    strategy: Strategy = Strategy.OPTIMAL
    tariff_id: str = ""
    free_charging: bool = False
    revenue_per_kwh: float = 0.35


class LinkState(StrEnum):
    """Whether a station can be reached."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLimits:
    """What schedules a station can take: its dialect, as asked for and as learned.

    `units` lists "A" and "W" in the order preferred; `max_periods` is small while unknown, since
    stations refuse or ignore longer schedules. `step_a` is 1.0 where only whole amperes are kept;
    below `least_w` a station gives nothing. `zero` says what a limit of 0 does to a session ("ok",
    "sleeps", "ends_session"), `same_id` whether a profile of a known id replaces the old one or
    that has to be cleared first, `cascade` whether the least of the station's maximum and the
    transaction's profile counts ("least") or only one purpose does ("tx_only", "default_only",
    "max_only"); csms.planning.cascade says what follows from that.
    """

    units: tuple[str, ...] = ("A",)
    max_periods: int = 16
    max_stack_level: int = 8
    max_profiles: int = 10
    step_a: float = 0.1
    step_w: float = 1.0
    supports_profiles: bool = True
    dynamic_s: int = 0
    """How often it asks for the limit of a dynamic profile (2.1); 0 sends it whole schedules."""
    least_w: float = 0.0
    zero: str = "ok"
    same_id: str = "replaces"
    cascade: str = "least"
    returns_after_close: bool = True
    switches_phases: bool = False
    significant_share: float = 0.0
    phase_rotation: str = ""
    source: str = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A charging station as registered and as it introduced itself."""

    station_id: str
    site_id: str
    name: str = ""
    vendor: str = ""
    model: str = ""
    serial_number: str = ""
    firmware_version: str = ""
    version: OcppVersion | None = None
    security_profile: int = 0
    asked_profile: int = 0
    """The profile that the station was told to use next, 0 if none."""
    registration: str = "Accepted"
    automation: bool = True
    heartbeat_interval_s: int = 300
    uid_byte_order_reversed: bool = False
    link_id: int = 0
    link_state: LinkState = LinkState.OFFLINE
    linked_at: datetime | None = None
    last_seen_at: datetime | None = None
    booted_at: datetime | None = None
    limits: StationLimits = StationLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evse:
    """One place to charge. `max_kw` is what EVSE and cable allow over all `phases` together."""

    station_id: str
    evse_id: int
    max_kw: float
    phases: int = 3
    current_type: str = "AC"
    connector_type: str = "cType2"
    status: str = "Unavailable"
    status_at: datetime | None = None
    error_code: str = ""
    guard_kw: float | None = None
    """Limit that holds without us, as last accepted by the station; None while never accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdToken:
    """What a station presents: `value` as received, `kind` the 2.0.1 type ("" from 1.6)."""

    value: str
    kind: str = ""


class Assurance(StrEnum):
    """How much a token proves: a name (A0), a login (A1), a signature (A2), a certificate (A3)."""

    A0 = "A0"
    A1 = "A1"
    A2 = "A2"
    A3 = "A3"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """An alias that stands for a DID. `value` is normalised, `kind` as csms.identity.alias says.

    `state` is "active", "blocked", "suspended" or "lost". A session token is bound to
    `station_id` and `evse_id` and carries the session that consumed it.
    """

    value: str
    kind: str
    did: str
    assurance: Assurance = Assurance.A0
    state: str = "active"
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    station_id: str = ""
    evse_id: int = 0
    consumed_by: str = ""
    key_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A claim about a subject. `is_verified` says whether a signature was checked.

    `status` is "valid", "revoked" or "suspended". `sites` empty means no site at all; the single
    entry "*" means every site. Unverified claims only ever lower what the planner does.
    """

    credential_id: str
    kind: str
    issuer: str
    subject: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    status: str = "valid"
    sites: tuple[str, ...] = ()
    evse_ids: tuple[int, ...] = ()
    hours: tuple[tuple[int, int], ...] = ()
    """Permitted minutes of the site's local day, [from, until); empty permits all."""
    priority: int = 0
    allowance_kwh: float | None = None
    used_kwh: float = 0.0
    organisation: str = ""
    is_verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whom a token stands for: a driver, or a vehicle or fleet without one.

    `state` is "active" or "disabled". `allowed_sites` follows the rule of Credential.sites.
    """

    did: str
    kind: str = "driver"
    name: str = ""
    state: str = "active"
    organisation: str = ""
    allowed_sites: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    priority: int = 0
    carbon_conscious: bool = False
    max_price_per_kwh: float | None = None
    vehicle_id: str = ""
    max_open_sessions: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """What a site asks of whoever charges there."""

    free_charging: bool = False
    requires_credential: bool = False
    min_assurance: Assurance = Assurance.A0
    priority_min_assurance: Assurance = Assurance.A2
    offline_horizon_s: int = 72 * 3600
    trusted_issuers: tuple[str, ...] = ()
    """Issuers whose credentials count; empty accepts every issuer of stored claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The decision on a presented token, in 2.0.1's words, with a reason code for people."""

    status: AuthorizationStatus
    reason: str
    holder_did: str = ""
    assurance: Assurance = Assurance.A0
    priority: int = 0
    group: str = ""
    expires_at: datetime | None = None
    evse_ids: tuple[int, ...] = ()
    message: str = ""
    """What the station may show to whoever presented the token, "" for nothing."""

    @property
    def is_accepted(self) -> bool:
        """Whether the holder may charge."""
        return self.status is AuthorizationStatus.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """A battery on wheels. `soc` (0..1) is a reading at `soc_at`, from `soc_source`.

    `soc_source` is "declared", "station", "estimated" or "" while unknown. `max_kw` limits AC
    charging over `phases`, `max_dc_kw` DC charging. `efficiency` is meter to battery.
    """

    vehicle_id: str
    name: str = ""
    battery_kwh: float = 60.0
    consumption_wh_per_km: float = 180.0
    max_kw: float = 11.0
    max_dc_kw: float = 100.0
    phases: int = 3
    min_current_a: float = 6.0
    efficiency: float = 0.9
    soc: float | None = None
    soc_at: datetime | None = None
    soc_source: str = ""
    max_soc: float = 1.0
    owner_did: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A departure with a need: kilometres, or kWh into the battery where `energy_kwh` is given.

    `reserve_share` is added on top of the trip's consumption (0.2 = 20 %). `preferred_soc` is
    what the driver would like beyond the trip if it is cheap. `source` is "declared" or "assumed".
    """

    trip_id: str
    holder_did: str
    vehicle_id: str = ""
    departs_at: datetime
    distance_km: float | None = None
    energy_kwh: float | None = None
    reserve_share: float = 0.2
    preferred_soc: float | None = None
    source: str = "declared"
    session_id: str = ""


class SessionState(StrEnum):
    """Where a session is in its life."""

    OPEN = "open"
    ENDED = "ended"


# No slots: every message makes one or more, which `made` does in a third of the time.
@dataclass(frozen=True, kw_only=True)
class MeterSample:
    """What a meter said at one instant, converted to Wh, W, A and soc; None where it said nothing.

    `current_a` holds one value per phase reported, in phase order. `flags` names what had to be
    repaired or distrusted ("unit_assumed", "energy_per_phase", "register_jump").
    """

    at: datetime
    context: str = "Sample.Periodic"
    energy_wh: float | None = None
    power_w: float | None = None
    current_a: tuple[float, ...] = ()
    voltage_v: float | None = None
    soc: float | None = None
    power_offered_w: float | None = None
    current_offered_a: float | None = None
    flags: tuple[str, ...] = ()


def made(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return a `kind` with these fields, in a fraction of the time its constructor takes.

    For what every message makes. `kind` is a frozen dataclass without slots; only fields with a
    default may be missing.
    """
    new = object.__new__(kind)
    new.__dict__.update(values)
    return new


# No slots: every message makes a new one, and forty slots are copied one by one, a dict at once.
@dataclass(frozen=True, kw_only=True)
class Session:
    """One vehicle's stay, from plug-in to unplug, tied to one OCPP transaction.

    `number` is the store's integer, used as the 1.6 transaction id. Times ending in `_at` are by
    the station where it has a clock; `received_at` is ours. `energy_wh` is what the meter gave
    since the start and never falls. `evse_id` and `connector_id` are 0 while nobody said which.
    """

    session_id: str
    number: int
    site_id: str
    station_id: str
    evse_id: int
    connector_id: int = 1
    version: OcppVersion
    transaction_id: str
    id_token: IdToken | None = None
    holder_did: str = ""
    status: AuthorizationStatus = AuthorizationStatus.UNKNOWN
    reason: str = ""
    assurance: Assurance = Assurance.A0
    priority: int = 0
    state: SessionState = SessionState.OPEN
    started_at: datetime
    received_at: datetime
    ended_at: datetime | None = None
    stop_reason: str = ""
    is_offline_start: bool = False
    is_estimated: bool = False
    meter_start_wh: float | None = None
    meter_last_wh: float | None = None
    energy_wh: float = 0.0
    power_w: float | None = None
    current_a: tuple[float, ...] = ()
    soc: float | None = None
    soc_wh: float = 0.0
    """Energy taken when `soc` was read; what came since is on top of it."""
    sample_at: datetime | None = None
    charging_state: str = ""
    last_seq_no: int = -1
    vehicle_id: str = ""
    trip_id: str = ""
    departs_at: datetime | None = None
    need_wh: float | None = None
    """Energy at the meter that the trip needs, from plug-in; None while unknown."""
    preferred_wh: float | None = None
    need_source: str = ""
    remote_start_id: int | None = None
    flags: tuple[str, ...] = ()

    @property
    def energy_kwh(self) -> float:
        """Energy at the meter since the session began, kWh."""
        return self.energy_wh / 1000.0

    @property
    def is_authorized(self) -> bool:
        """Whether the token was accepted."""
        return self.status is AuthorizationStatus.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of energy in [starts_at, until), EUR per kWh; may be negative."""

    starts_at: datetime
    until: datetime
    eur_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonIntensity:
    """Grid emissions in [starts_at, until), kg CO2 per kWh."""

    starts_at: datetime
    until: datetime
    kg_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Energy at the meter a session still has to get, and by when.

    `required_kwh` is what the trip needs; `preferred_kwh` (at least as large) what the driver
    would like. `limit` names what capped it ("battery"), "" if nothing did. `is_assumed` marks a
    need that nobody stated.
    """

    required_kwh: float
    preferred_kwh: float
    departs_at: datetime
    is_assumed: bool = False
    limit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An incentive offered to a holder: what is asked, what it is worth, and why.

    `kind` is "later_departure", "delayed_start", "clean_hours" or "sunny_hours"; `state` is
    "open", "accepted", "declined" or "expired".
    """

    offer_id: str
    session_id: str
    holder_did: str
    site_id: str
    kind: str
    discount_eur: float = 0.0
    points: int = 0
    starts_at: datetime
    until: datetime
    reason: str
    state: str = "open"
    made_at: datetime
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something an operator should be able to find later; `level` is "info" or "warning"."""

    at: datetime
    kind: str
    level: str = "info"
    site_id: str = ""
    station_id: str = ""
    session_id: str = ""
    detail: dict[str, object] = field(default_factory=dict)
