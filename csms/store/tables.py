"""The schema.

A column is named like the field it keeps. Rows that grow with traffic (events, samples) carry no
foreign key to a station, so that a record outlives the station's removal.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from csms.core.commands import Outcome
from csms.core.model import (
    Assurance,
    AuthorizationStatus,
    LinkState,
    OcppVersion,
    SessionState,
    Strategy,
)
from csms.store.columns import (
    Instant,
    JsonObject,
    Values,
    Word,
    flag_column,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

# --- what has to hold across everything --------------------------------------------------------

probe = Table("probe", metadata, int_column("id", primary_key=True), int_column("writes"))
"""One row; a store that failed proves by writing it that it can write again."""

# --- sites, stations ---------------------------------------------------------------------------

site = Table(
    "site",
    metadata,
    text_column("site_id", primary_key=True),
    text_column("name"),
    text_column("time_zone"),
    float_column("limit_kw"),
    float_column("base_load_kw"),
    text_column("meter"),
    text_column("solar_meter"),
    float_column("meter_stale_s"),
    float_column("load_quantile"),
    float_column("export_eur_per_kwh"),
    float_column("voltage_v"),
    float_column("guard_share"),
    Column("strategy", Word(Strategy), nullable=False),
    text_column("tariff_id"),
    flag_column("free_charging"),
    float_column("revenue_per_kwh"),
)

site_configuration = Table(
    "site_configuration",
    metadata,
    text_column("site_id", primary_key=True),
    text_column("configured"),
)
"""A site as the configuration had it last: what differs in `site` was changed by an operator."""

station = Table(
    "station",
    metadata,
    text_column("station_id", primary_key=True),
    text_column("station_fold", unique=True),
    Column("site_id", Text, ForeignKey("site.site_id"), nullable=False, index=True),
    text_column("name"),
    text_column("vendor"),
    text_column("model"),
    text_column("serial_number"),
    text_column("firmware_version"),
    nullable_column("version", Word(OcppVersion)),
    int_column("security_profile"),
    int_column("asked_profile", server_default=text("0")),
    text_column("registration"),
    flag_column("automation"),
    int_column("heartbeat_interval_s"),
    flag_column("uid_byte_order_reversed"),
    Column("link_id", BigInteger, nullable=False),
    Column("link_state", Word(LinkState), nullable=False),
    nullable_column("linked_at", Instant),
    nullable_column("last_seen_at", Instant),
    nullable_column("booted_at", Instant),
    Column("limits", JsonObject, nullable=False),
    text_column("credential_hash"),
    text_column("pending_hash"),
    text_column("boot_payload"),
)

evse = Table(
    "evse",
    metadata,
    Column(
        "station_id",
        Text,
        ForeignKey("station.station_id", ondelete="CASCADE"),
        nullable=False,
    ),
    int_column("evse_id"),
    float_column("max_kw"),
    int_column("phases"),
    text_column("current_type"),
    text_column("connector_type"),
    text_column("status"),
    nullable_column("status_at", Instant),
    text_column("error_code"),
    nullable_column("guard_kw", Float),
    PrimaryKeyConstraint("station_id", "evse_id"),
)

link = Table(
    "link",
    metadata,
    serial_column("link_id"),
    text_column("station_id"),
    Column("version", Word(OcppVersion), nullable=False),
    text_column("remote_address"),
    instant_column("opened_at"),
    nullable_column("closed_at", Instant),
    text_column("close_reason"),
    int_column("security_profile", server_default=text("0")),
    text_column("certificate_cn", server_default=text("''")),
    Index(None, "station_id", "link_id"),
    Index(None, "closed_at"),
    sqlite_autoincrement=True,
)

unknown_station = Table(
    "unknown_station",
    metadata,
    text_column("station_id", primary_key=True),
    text_column("remote_address"),
    int_column("attempts"),
    instant_column("first_at"),
    instant_column("last_at", index=True),
)

counter = Table(
    "counter",
    metadata,
    text_column("name", primary_key=True),
    int_column("value"),
)

# --- what was asked of stations and what they said ---------------------------------------------

command = Table(
    "command",
    metadata,
    serial_column("command_id"),
    text_column("station_id"),
    text_column("kind"),
    text_column("payload"),
    text_column("asked_by"),
    instant_column("asked_at"),
    nullable_column("sent_at", Instant),
    nullable_column("expires_at", Instant),
    nullable_column("finished_at", Instant),
    nullable_column("outcome", Word(Outcome)),
    text_column("status"),
    text_column("answer"),
    text_column("error"),
    Index(None, "station_id", "command_id"),
    Index(None, "expires_at"),
    Index(None, "finished_at"),
    sqlite_autoincrement=True,
)

record = Table(
    "record",
    metadata,
    serial_column("record_id"),
    text_column("station_id"),
    Column("version", Word(OcppVersion), nullable=False),
    text_column("action"),
    text_column("payload"),
    instant_column("at", index=True),
    Index(None, "station_id", "record_id"),
    sqlite_autoincrement=True,
)

vendor_message = Table(
    "vendor_message",
    metadata,
    serial_column("message_key"),
    text_column("station_id"),
    text_column("vendor_id"),
    text_column("message_id"),
    nullable_column("data", Text),
    text_column("status"),
    instant_column("at", index=True),
    Index(None, "station_id", "message_key"),
    sqlite_autoincrement=True,
)

event = Table(
    "event",
    metadata,
    serial_column("event_id"),
    instant_column("at", index=True),
    text_column("kind"),
    text_column("level"),
    text_column("site_id"),
    text_column("station_id"),
    text_column("session_id"),
    Column("detail", JsonObject, nullable=False),
    Index(None, "station_id", "event_id"),
    Index(None, "session_id", "event_id"),
    sqlite_autoincrement=True,
)

# --- identities, access ------------------------------------------------------------------------

holder = Table(
    "holder",
    metadata,
    text_column("did", primary_key=True),
    text_column("did_fold", unique=True),
    text_column("kind"),
    text_column("name"),
    text_column("state"),
    text_column("organisation"),
    Column("allowed_sites", Values, nullable=False),
    int_column("priority"),
    flag_column("carbon_conscious"),
    nullable_column("max_price_per_kwh", Float),
    text_column("vehicle_id"),
    int_column("max_open_sessions"),
)

token = Table(
    "token",
    metadata,
    text_column("kind"),
    text_column("value", index=True),
    text_column("did", index=True),
    Column("assurance", Word(Assurance), nullable=False),
    text_column("state"),
    nullable_column("valid_from", Instant),
    nullable_column("valid_until", Instant),
    text_column("station_id"),
    int_column("evse_id"),
    text_column("consumed_by"),
    int_column("key_epoch"),
    PrimaryKeyConstraint("kind", "value"),
)

credential = Table(
    "credential",
    metadata,
    text_column("credential_id", primary_key=True),
    text_column("kind"),
    text_column("issuer"),
    text_column("subject", index=True),
    nullable_column("valid_from", Instant),
    nullable_column("valid_until", Instant),
    text_column("status"),
    Column("sites", Values, nullable=False),
    Column("evse_ids", Values, nullable=False),
    Column("hours", Values, nullable=False),
    int_column("priority"),
    nullable_column("allowance_kwh", Float),
    float_column("used_kwh"),
    text_column("organisation"),
    flag_column("is_verified"),
)

vehicle = Table(
    "vehicle",
    metadata,
    text_column("vehicle_id", primary_key=True),
    text_column("name"),
    float_column("battery_kwh"),
    float_column("consumption_wh_per_km"),
    float_column("max_kw"),
    float_column("max_dc_kw"),
    int_column("phases"),
    float_column("min_current_a"),
    float_column("efficiency"),
    nullable_column("soc", Float),
    nullable_column("soc_at", Instant),
    text_column("soc_source"),
    float_column("max_soc"),
    text_column("owner_did", index=True),
)

api_token = Table(
    "api_token",
    metadata,
    serial_column("token_id"),
    text_column("hash", unique=True),
    text_column("prefix"),
    text_column("role"),
    text_column("label"),
    instant_column("created_at"),
    nullable_column("last_used_at", Instant),
    nullable_column("revoked_at", Instant),
    sqlite_autoincrement=True,
)

decision = Table(
    "decision",
    metadata,
    serial_column("decision_id"),
    instant_column("at", index=True),
    text_column("station_id"),
    text_column("token_hint"),
    text_column("holder_did"),
    Column("status", Word(AuthorizationStatus), nullable=False),
    text_column("reason"),
    Column("assurance", Word(Assurance), nullable=False),
    int_column("priority"),
    Index(None, "station_id", "decision_id"),
    sqlite_autoincrement=True,
)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    text_column("key", primary_key=True),
    text_column("request_hash"),
    int_column("status_code"),
    text_column("response"),
    instant_column("at", index=True),
)

# --- sessions ----------------------------------------------------------------------------------

session = Table(
    "session",
    metadata,
    # A 1.6 transaction id is a positive 32-bit integer that is never used twice.
    Column("number", Integer, Identity(), primary_key=True),
    text_column("session_id", unique=True),
    text_column("site_id"),
    text_column("station_id"),
    int_column("evse_id"),
    int_column("connector_id"),
    Column("version", Word(OcppVersion), nullable=False),
    text_column("transaction_id"),
    nullable_column("start_key", Text),
    nullable_column("id_token", Text),
    text_column("id_token_kind"),
    text_column("holder_did"),
    Column("status", Word(AuthorizationStatus), nullable=False),
    text_column("reason"),
    Column("assurance", Word(Assurance), nullable=False),
    int_column("priority"),
    Column("state", Word(SessionState), nullable=False),
    instant_column("started_at"),
    instant_column("received_at"),
    nullable_column("ended_at", Instant),
    text_column("stop_reason"),
    flag_column("is_offline_start"),
    flag_column("is_estimated"),
    nullable_column("meter_start_wh", Float),
    nullable_column("meter_last_wh", Float),
    float_column("energy_wh"),
    nullable_column("power_w", Float),
    Column("current_a", Values, nullable=False),
    nullable_column("soc", Float),
    float_column("soc_wh", server_default=text("0")),
    nullable_column("sample_at", Instant),
    text_column("charging_state"),
    Column("last_seq_no", BigInteger, nullable=False),
    text_column("vehicle_id"),
    text_column("trip_id"),
    nullable_column("departs_at", Instant),
    nullable_column("need_wh", Float),
    nullable_column("preferred_wh", Float),
    text_column("need_source"),
    nullable_column("remote_start_id", BigInteger),
    Column("flags", Values, nullable=False),
    CheckConstraint("number > 0 AND number < 2147483648", name="number"),
    UniqueConstraint("station_id", "transaction_id"),
    UniqueConstraint("station_id", "start_key"),
    Index(None, "site_id", "state"),
    Index(None, "holder_did", "state"),
    Index(None, "site_id", "ended_at"),
    Index(None, "id_token", "number"),
    sqlite_autoincrement=True,
)

session_event = Table(
    "session_event",
    metadata,
    serial_column("event_id"),
    text_column("station_id"),
    text_column("transaction_id"),
    # -1 in 1.6, whose messages carry no number and are told apart by their digest alone.
    Column("seq_no", BigInteger, nullable=False),
    text_column("digest"),
    text_column("action"),
    instant_column("at"),
    instant_column("received_at"),
    text_column("trigger"),
    flag_column("is_offline"),
    flag_column("is_conflict"),
    text_column("payload"),
    Column("flags", Values, nullable=False),
    sqlite_autoincrement=True,
)
# In SQLite `event_key` has this key instead (filing.py).
Index(
    "uq_session_event_station_id_transaction_id_seq_no_digest",
    session_event.c.station_id,
    session_event.c.transaction_id,
    session_event.c.seq_no,
    session_event.c.digest,
    unique=True,
).ddl_if(dialect="postgresql")

orphan = Table(
    "orphan",
    metadata,
    serial_column("orphan_id"),
    text_column("station_id"),
    text_column("transaction_id"),
    text_column("digest"),
    text_column("action"),
    instant_column("at"),
    instant_column("received_at"),
    text_column("payload"),
    UniqueConstraint("station_id", "transaction_id", "digest"),
    sqlite_autoincrement=True,
)


def meter_columns(*key: Column[Any]) -> list[Any]:
    """Return the columns of a meter sample behind `key`."""
    return [
        *key,
        instant_column("at"),
        text_column("context"),
        nullable_column("energy_wh", Float),
        nullable_column("power_w", Float),
        Column("current_a", Values, nullable=False),
        nullable_column("voltage_v", Float),
        nullable_column("soc", Float),
        nullable_column("power_offered_w", Float),
        nullable_column("current_offered_a", Float),
        Column("flags", Values, nullable=False),
    ]


def _meter(*key: Column[Any]) -> list[Any]:
    return [*meter_columns(*key), PrimaryKeyConstraint(*(c.name for c in key), "at", "context")]


# Without a row id the key is the table: one tree to write per sample instead of two.
meter_sample = Table(
    "meter_sample", metadata, *_meter(int_column("session_number")), sqlite_with_rowid=False
)
station_sample = Table(
    "station_sample",
    metadata,
    *_meter(text_column("station_id"), int_column("evse_id")),
    Index(None, "at"),
    sqlite_with_rowid=False,
)

quarter_energy = Table(
    "quarter_energy",
    metadata,
    text_column("site_id"),
    instant_column("starts_at"),
    int_column("session_number"),
    float_column("energy_kwh"),
    PrimaryKeyConstraint("site_id", "starts_at", "session_number"),
    Index(None, "session_number"),
    sqlite_with_rowid=False,
)
