"""The schema of what stations keep for us: reservations, local lists, messages shown."""

from sqlalchemy import (
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from csms.core.model import AuthorizationStatus
from csms.core.reservation import ReservationState
from csms.store.columns import (
    Instant,
    Word,
    flag_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

reservation = Table(
    "reservation",
    metadata,
    serial_column("number"),
    text_column("station_id"),
    int_column("reservation_id"),
    nullable_column("evse_id", Integer),
    text_column("connector_type"),
    text_column("id_token"),
    text_column("id_token_kind"),
    text_column("group_token"),
    instant_column("expires_at"),
    Column("state", Word(ReservationState), nullable=False),
    text_column("reason"),
    instant_column("asked_at"),
    instant_column("changed_at"),
    text_column("session_id"),
    UniqueConstraint("station_id", "reservation_id"),
    Index(None, "state", "expires_at"),
    sqlite_autoincrement=True,
)

local_list = Table(
    "local_list",
    metadata,
    text_column("station_id", primary_key=True),
    int_column("version"),
    flag_column("is_ours"),
    text_column("state"),
    text_column("detail"),
    text_column("firmware_version"),
    int_column("max_entries"),
    int_column("items_per_message"),
    int_column("bytes_per_message"),
    int_column("link_id"),
    instant_column("checked_at"),
)

local_list_entry = Table(
    "local_list_entry",
    metadata,
    text_column("station_id"),
    text_column("kind"),
    text_column("value"),
    Column("status", Word(AuthorizationStatus), nullable=False),
    nullable_column("expires_at", Instant),
    text_column("group_token"),
    PrimaryKeyConstraint("station_id", "kind", "value"),
)

display_message = Table(
    "display_message",
    metadata,
    text_column("station_id"),
    int_column("message_id"),
    text_column("transaction_id"),
    text_column("payload"),
    instant_column("set_at"),
    PrimaryKeyConstraint("station_id", "message_id"),
)
