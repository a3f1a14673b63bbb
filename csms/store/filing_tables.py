"""The schema of what SQLite files late; PostgreSQL has the tables too and leaves them empty."""

from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Table

from csms.store.columns import int_column, metadata, serial_column, text_column
from csms.store.tables import meter_columns

event_key = Table(
    "event_key",
    metadata,
    text_column("station_id"),
    text_column("transaction_id"),
    Column("seq_no", BigInteger, nullable=False),
    text_column("digest"),
    Column("event_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("station_id", "transaction_id", "seq_no", "digest"),
    sqlite_with_rowid=False,
)
"""Where the rows of `session_event` are, by transaction; each of them once."""

filed = Table(
    "filed",
    metadata,
    int_column("id", primary_key=True),
    Column("up_to", BigInteger, nullable=False),
)
"""One row: the highest `event_id` that `event_key` holds."""

sample_tail = Table(
    "sample_tail",
    metadata,
    serial_column("tail_id"),
    *meter_columns(int_column("session_number")),
)
"""Samples on their way to `meter_sample`, in the order they came."""
