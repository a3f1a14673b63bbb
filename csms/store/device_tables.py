"""The schema of what stations are made of and of what they were asked to do."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from csms.store.columns import (
    Instant,
    JsonObject,
    flag_column,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

NAME = (
    "component",
    "component_instance",
    "evse_id",
    "connector_id",
    "variable",
    "variable_instance",
)
"""The columns that name a variable, as VariableName has them."""


def _name() -> list[Column[int] | Column[str]]:
    return [int_column(n) if n.endswith("_id") else text_column(n) for n in NAME]


def _owner() -> Column[str]:
    return Column(
        "station_id",
        Text,
        ForeignKey("station.station_id", ondelete="CASCADE"),
        nullable=False,
    )


# --- the device model ----------------------------------------------------------------------------

device_attribute = Table(
    "device_attribute",
    metadata,
    _owner(),
    *_name(),
    text_column("kind"),
    nullable_column("value", Text),
    text_column("mutability"),
    text_column("data_type"),
    text_column("unit"),
    nullable_column("min_limit", Float),
    nullable_column("max_limit", Float),
    text_column("values_list"),
    flag_column("supports_monitoring"),
    nullable_column("read_at", Instant),
    text_column("status"),
    nullable_column("set_value", Text),
    text_column("set_status"),
    nullable_column("set_at", Instant),
    PrimaryKeyConstraint("station_id", *NAME, "kind"),
)
"""One attribute of a variable as last read, and the last attempt to set it."""

device_monitor = Table(
    "device_monitor",
    metadata,
    _owner(),
    Column("monitor_id", BigInteger, nullable=False),
    *_name(),
    text_column("kind"),
    float_column("value"),
    int_column("severity"),
    flag_column("is_transaction_only"),
    instant_column("at"),
    PrimaryKeyConstraint("station_id", "monitor_id"),
)

device_event = Table(
    "device_event",
    metadata,
    serial_column("event_key"),
    text_column("station_id"),
    Column("event_id", BigInteger, nullable=False),
    instant_column("at"),
    instant_column("corrected_at"),
    instant_column("received_at", index=True),
    text_column("trigger"),
    text_column("notification"),
    *_name(),
    text_column("actual_value"),
    nullable_column("cause_id", BigInteger),
    text_column("tech_code"),
    text_column("tech_info"),
    flag_column("is_cleared"),
    text_column("transaction_id"),
    nullable_column("monitor_id", BigInteger),
    nullable_column("severity", Integer),
    UniqueConstraint("station_id", "event_id", "at"),
    Index(None, "station_id", "event_key"),
    sqlite_autoincrement=True,
)

alert = Table(
    "alert",
    metadata,
    serial_column("alert_id"),
    text_column("site_id"),
    text_column("station_id"),
    int_column("evse_id"),
    int_column("connector_id"),
    text_column("subject"),
    text_column("detail"),
    nullable_column("severity", Integer),
    nullable_column("event_id", BigInteger),
    nullable_column("cause_id", BigInteger),
    instant_column("opened_at"),
    nullable_column("closed_at", Instant),
    Index(None, "station_id", "closed_at"),
    Index(None, "site_id", "closed_at"),
    sqlite_autoincrement=True,
)

# --- states --------------------------------------------------------------------------------------

connector_state = Table(
    "connector_state",
    metadata,
    _owner(),
    int_column("evse_id"),
    int_column("connector_id"),
    text_column("status"),
    text_column("source"),
    instant_column("at"),
    instant_column("corrected_at"),
    instant_column("received_at"),
    instant_column("order_at"),
    PrimaryKeyConstraint("station_id", "evse_id", "connector_id"),
)
"""A connector as it said it was last; `order_at` decides whether a later message is newer."""

commanded_availability = Table(
    "commanded_availability",
    metadata,
    _owner(),
    int_column("evse_id"),
    int_column("connector_id"),
    flag_column("is_operative"),
    text_column("status"),
    text_column("asked_by"),
    instant_column("asked_at"),
    PrimaryKeyConstraint("station_id", "evse_id", "connector_id"),
)

station_clock = Table(
    "station_clock",
    metadata,
    Column(
        "station_id",
        Text,
        ForeignKey("station.station_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    float_column("offset_s"),
    instant_column("measured_at"),
)
"""How far a station's clock is behind ours, in seconds; it runs ahead where it is negative."""

boot = Table(
    "boot",
    metadata,
    serial_column("boot_id"),
    text_column("station_id"),
    instant_column("at", index=True),
    text_column("reason"),
    text_column("firmware_version"),
    text_column("status"),
    Index(None, "station_id", "boot_id"),
    sqlite_autoincrement=True,
)

firmware_history = Table(
    "firmware_history",
    metadata,
    serial_column("change_id"),
    text_column("station_id"),
    text_column("firmware_version"),
    instant_column("since_at"),
    Index(None, "station_id", "change_id"),
    sqlite_autoincrement=True,
)

# --- requests with an id, and their files --------------------------------------------------------

device_request = Table(
    "device_request",
    metadata,
    serial_column("request_key"),
    text_column("station_id"),
    text_column("kind"),
    nullable_column("wire_id", BigInteger),
    nullable_column("bulk_id", BigInteger),
    text_column("state"),
    text_column("status"),
    Column("detail", JsonObject, nullable=False),
    text_column("asked_by"),
    instant_column("asked_at"),
    nullable_column("finished_at", Instant),
    nullable_column("command_id", BigInteger),
    text_column("file_name"),
    text_column("file_path"),
    nullable_column("file_bytes", BigInteger),
    Index(None, "station_id", "kind", "wire_id"),
    Index(None, "bulk_id"),
    sqlite_autoincrement=True,
)

request_part = Table(
    "request_part",
    metadata,
    Column("request_key", BigInteger, nullable=False),
    int_column("seq_no"),
    flag_column("is_last"),
    instant_column("generated_at"),
    instant_column("received_at"),
    text_column("content"),
    PrimaryKeyConstraint("request_key", "seq_no"),
)

request_step = Table(
    "request_step",
    metadata,
    serial_column("step_id"),
    Column("request_key", BigInteger, nullable=False, index=True),
    text_column("status"),
    text_column("detail"),
    instant_column("received_at"),
    sqlite_autoincrement=True,
)

upload = Table(
    "upload",
    metadata,
    text_column("token_hash", primary_key=True),
    Column("request_key", BigInteger, nullable=False),
    instant_column("expires_at", index=True),
    nullable_column("used_at", Instant),
)

# --- one thing asked of many stations ------------------------------------------------------------

bulk = Table(
    "bulk",
    metadata,
    serial_column("bulk_id"),
    text_column("kind"),
    text_column("action"),
    text_column("payload"),
    Column("options", JsonObject, nullable=False),
    int_column("at_once"),
    int_column("stop_after_failures"),
    text_column("state"),
    text_column("asked_by"),
    instant_column("asked_at"),
    nullable_column("finished_at", Instant),
    sqlite_autoincrement=True,
)

bulk_item = Table(
    "bulk_item",
    metadata,
    Column("bulk_id", BigInteger, nullable=False),
    text_column("station_id"),
    int_column("place"),
    text_column("state"),
    text_column("outcome"),
    text_column("status"),
    text_column("error"),
    nullable_column("command_id", BigInteger),
    nullable_column("request_key", BigInteger),
    nullable_column("started_at", Instant),
    nullable_column("finished_at", Instant),
    PrimaryKeyConstraint("bulk_id", "station_id"),
)
