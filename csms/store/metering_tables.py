"""The schema of what meters told and what is expected of load and own generation."""

from sqlalchemy import Column, Float, PrimaryKeyConstraint, Table

from csms.store.columns import (
    Values,
    float_column,
    instant_column,
    metadata,
    nullable_column,
    text_column,
)

meter_reading = Table(
    "meter_reading",
    metadata,
    text_column("site_id"),
    text_column("meter"),
    instant_column("at"),
    float_column("power_kw"),
    Column("current_a", Values, nullable=False),
    PrimaryKeyConstraint("site_id", "meter", "at"),
    sqlite_with_rowid=False,
)

meter_quarter = Table(
    "meter_quarter",
    metadata,
    text_column("site_id"),
    text_column("meter"),
    instant_column("starts_at"),
    float_column("mean_kw"),
    float_column("most_kw"),
    Column("most_a", Values, nullable=False),
    PrimaryKeyConstraint("site_id", "meter", "starts_at"),
    sqlite_with_rowid=False,
)
"""Folded from readings when they come, and kept longer than those."""

expected_load = Table(
    "expected_load",
    metadata,
    text_column("site_id"),
    text_column("circuit_id"),
    text_column("kind"),
    instant_column("starts_at"),
    instant_column("until"),
    float_column("power_kw"),
    nullable_column("high_kw", Float),
    PrimaryKeyConstraint("site_id", "circuit_id", "kind", "starts_at"),
    sqlite_with_rowid=False,
)
"""Forecasts from outside; circuit "" is the site's connection."""
