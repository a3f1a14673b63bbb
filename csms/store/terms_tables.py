"""The schema of what OCPP 2.1 adds: terms of sessions, abilities of stations, tariffs given."""

from sqlalchemy import Column, Table, Text

from csms.store.columns import JsonObject, flag_column, instant_column, metadata

session_terms = Table(
    "session_terms",
    metadata,
    Column("session_id", Text, primary_key=True),
    flag_column("is_prioritised"),
    Column("terms", JsonObject, nullable=False),
)

station_ability = Table(
    "station_ability",
    metadata,
    Column("station_id", Text, primary_key=True),
    Column("told", JsonObject, nullable=False),
    instant_column("told_at"),
)

tariff_given = Table(
    "tariff_given",
    metadata,
    Column("tariff_id", Text, primary_key=True),
    Column("content", JsonObject, nullable=False),
    instant_column("given_at"),
)

start_limit = Table(
    "start_limit",
    metadata,
    Column("id_token", Text, primary_key=True),
    Column("limits", JsonObject, nullable=False),
    instant_column("set_at"),
)
