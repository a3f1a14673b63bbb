"""The schema of a site's wiring: circuits, the places of EVSEs, caps."""

from sqlalchemy import Column, Float, ForeignKey, Index, PrimaryKeyConstraint, Table, Text

from csms.store.columns import (
    Instant,
    Values,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

circuit = Table(
    "circuit",
    metadata,
    text_column("site_id"),
    text_column("circuit_id"),
    text_column("name"),
    text_column("parent_id"),
    Column("limit_a", Values, nullable=False),
    nullable_column("limit_kw", Float),
    Column("load_a", Values, nullable=False),
    nullable_column("load_kw", Float),
    float_column("voltage_v"),
    Column("evses", Values, nullable=False),
    text_column("meter"),
    PrimaryKeyConstraint("site_id", "circuit_id"),
)

circuit_configuration = Table(
    "circuit_configuration",
    metadata,
    text_column("site_id", primary_key=True),
    text_column("configured"),
)
"""A site's tree as the configuration had it last: what differs was changed by an operator."""

evse_place = Table(
    "evse_place",
    metadata,
    Column(
        "station_id", Text, ForeignKey("station.station_id", ondelete="CASCADE"), nullable=False
    ),
    int_column("evse_id"),
    nullable_column("circuit_id", Text),
    text_column("phase_rotation"),
    PrimaryKeyConstraint("station_id", "evse_id"),
)

grid_cap = Table(
    "grid_cap",
    metadata,
    serial_column("cap_id"),
    text_column("site_id"),
    text_column("circuit_id"),
    text_column("source"),
    instant_column("starts_at"),
    instant_column("until"),
    nullable_column("limit_kw", Float),
    nullable_column("limit_a", Float),
    text_column("made_by"),
    instant_column("made_at"),
    nullable_column("withdrawn_at", Instant),
    Index(None, "site_id", "until"),
    sqlite_autoincrement=True,
)
