"""The schema of plans beside those of another strategy, and of how likely needs are met."""

from sqlalchemy import BigInteger, Column, Index, Table

from csms.store.columns import (
    JsonObject,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

plan_comparison = Table(
    "plan_comparison",
    metadata,
    serial_column("comparison_id"),
    text_column("site_id"),
    instant_column("at"),
    nullable_column("plan_id", BigInteger),
    text_column("in_force"),
    text_column("champion"),
    text_column("challenger"),
    text_column("why"),
    Column("champion_outcome", JsonObject, nullable=False),
    Column("challenger_outcome", JsonObject, nullable=False),
    Index(None, "site_id", "comparison_id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)

session_readiness = Table(
    "session_readiness",
    metadata,
    text_column("session_id", primary_key=True),
    instant_column("at"),
    float_column("met_share"),
    int_column("scenarios"),
    Index(None, "at"),
)
