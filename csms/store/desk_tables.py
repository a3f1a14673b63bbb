"""The schema of what stations keep for us: reservations, local lists, messages shown."""

from sqlalchemy import Column, Index, Integer, Table, UniqueConstraint

from csms.core.reservation import ReservationState
from csms.store.columns import (
    Word,
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
