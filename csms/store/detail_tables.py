"""The schema's tables beside sessions: details, allowances, remote starts, meter messages."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table, UniqueConstraint

from csms.store.columns import (
    Instant,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

session_detail = Table(
    "session_detail",
    metadata,
    Column("session_number", Integer, primary_key=True, autoincrement=False),
    nullable_column("reservation_id", BigInteger),
    nullable_column("phases_used", Integer),
    nullable_column("cable_max_current_a", Float),
    nullable_column("total_cost", Float),
)
"""What few messages say of a session, kept apart from the row that every message rewrites."""

allowance_use = Table(
    "allowance_use",
    metadata,
    Column("session_number", Integer, primary_key=True, autoincrement=False),
    text_column("credential_id", index=True),
    float_column("energy_kwh"),
)
"""What a stay has used of a claim's allowance; the claim is "" where it was deleted."""

remote_start = Table(
    "remote_start",
    metadata,
    Column("command_id", BigInteger, primary_key=True, autoincrement=False),
    text_column("station_id"),
    int_column("evse_id"),
    text_column("token_fold"),
    nullable_column("remote_start_id", BigInteger),
    text_column("state"),
    text_column("session_id"),
    instant_column("asked_at"),
    nullable_column("settled_at", Instant),
    Index(None, "station_id", "state"),
)
"""Starts that were asked of stations, and the session each of them became."""

meter_message = Table(
    "meter_message",
    metadata,
    serial_column("message_key"),
    text_column("station_id"),
    int_column("evse_id"),
    text_column("digest"),
    instant_column("received_at"),
    text_column("payload"),
    UniqueConstraint("station_id", "digest"),
    Index(None, "received_at"),
    sqlite_autoincrement=True,
)
"""Meter values outside transactions as they came; what a wide row of samples cannot hold."""
