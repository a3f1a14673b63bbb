"""The schema of trips, offers, outside series, forecasts and plans."""

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, PrimaryKeyConstraint, Table

from csms.core.commands import Outcome
from csms.store.columns import (
    Instant,
    JsonObject,
    Values,
    Word,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

trip = Table(
    "trip",
    metadata,
    text_column("trip_id", primary_key=True),
    text_column("holder_did"),
    text_column("vehicle_id"),
    instant_column("departs_at"),
    nullable_column("distance_km", Float),
    nullable_column("energy_kwh", Float),
    float_column("reserve_share"),
    nullable_column("preferred_soc", Float),
    text_column("source"),
    text_column("session_id", index=True),
    Index(None, "holder_did", "departs_at"),
)

offer = Table(
    "offer",
    metadata,
    text_column("offer_id", primary_key=True),
    text_column("session_id", index=True),
    text_column("holder_did", index=True),
    text_column("site_id"),
    text_column("kind"),
    float_column("discount_eur"),
    int_column("points"),
    instant_column("starts_at"),
    instant_column("until"),
    text_column("reason"),
    text_column("state"),
    instant_column("made_at"),
    nullable_column("decided_at", Instant),
    Index(None, "site_id", "made_at"),
)


def _series(name: str, key: str, value: str) -> Table:
    return Table(
        name,
        metadata,
        text_column(key),
        instant_column("starts_at"),
        instant_column("until"),
        float_column(value),
        PrimaryKeyConstraint(key, "starts_at"),
        sqlite_with_rowid=False,
    )


price = _series("price", "tariff_id", "eur_per_kwh")
carbon_intensity = _series("carbon_intensity", "zone", "kg_per_kwh")

forecast = Table(
    "forecast",
    metadata,
    serial_column("forecast_id"),
    text_column("site_id"),
    text_column("kind"),
    instant_column("made_at"),
    text_column("body"),
    Index(None, "site_id", "kind", "made_at"),
    sqlite_autoincrement=True,
)

forecast_score = Table(
    "forecast_score",
    metadata,
    text_column("site_id"),
    text_column("kind"),
    text_column("measure"),
    instant_column("starts_at"),
    float_column("value"),
    PrimaryKeyConstraint("site_id", "kind", "measure", "starts_at"),
    sqlite_with_rowid=False,
)

plan = Table(
    "plan",
    metadata,
    serial_column("plan_id"),
    text_column("site_id"),
    instant_column("made_at"),
    text_column("why"),
    text_column("status"),
    text_column("strategy"),
    float_column("shortfall_kwh"),
    float_column("cpu_s"),
    Column("case_z", LargeBinary, nullable=False),
    Column("plan_z", LargeBinary, nullable=False),
    Index(None, "site_id", "plan_id"),
    Index(None, "made_at"),
    sqlite_autoincrement=True,
)

installed_schedule = Table(
    "installed_schedule",
    metadata,
    serial_column("install_id"),
    text_column("session_id"),
    int_column("profile_id"),
    Column("schedule", JsonObject, nullable=False),
    Column("edges_us", Values, nullable=False),
    Column("row_kw", Values, nullable=False),
    instant_column("sent_at"),
    Column("outcome", Word(Outcome), nullable=False),
    nullable_column("command_id", BigInteger),
    nullable_column("plan_id", BigInteger),
    Index(None, "session_id", "install_id"),
    Index(None, "sent_at"),
    sqlite_autoincrement=True,
)
