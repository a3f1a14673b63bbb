"""Create sessions and plans."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the change."""
    _building_load()
    _carbon_intensity()
    _forecast()
    _forecast_score()
    _installed_schedule()
    _meter_sample()
    _offer()
    _orphan()
    _plan()
    _price()
    _quarter_energy()
    _session()
    _session_event()
    _station_sample()
    _trip()


def _building_load() -> None:
    op.create_table(
        "building_load",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("load_kw", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "starts_at", name=op.f("pk_building_load")),
        sqlite_with_rowid=False,
    )


def _carbon_intensity() -> None:
    op.create_table(
        "carbon_intensity",
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("kg_per_kwh", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("zone", "starts_at", name=op.f("pk_carbon_intensity")),
        sqlite_with_rowid=False,
    )


def _forecast() -> None:
    op.create_table(
        "forecast",
        sa.Column("forecast_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("forecast_id", name=op.f("pk_forecast")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_forecast_site_id_kind_made_at"),
        "forecast",
        ["site_id", "kind", "made_at"],
        unique=False,
    )


def _forecast_score() -> None:
    op.create_table(
        "forecast_score",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "site_id", "kind", "measure", "starts_at", name=op.f("pk_forecast_score")
        ),
        sqlite_with_rowid=False,
    )


def _installed_schedule() -> None:
    op.create_table(
        "installed_schedule",
        sa.Column("install_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Integer(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("edges_us", sa.Text(), nullable=False),
        sa.Column("row_kw", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("command_id", sa.BigInteger(), nullable=True),
        sa.Column("plan_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("install_id", name=op.f("pk_installed_schedule")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_installed_schedule_session_id_install_id"),
        "installed_schedule",
        ["session_id", "install_id"],
        unique=False,
    )


def _meter_sample() -> None:
    op.create_table(
        "meter_sample",
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("energy_wh", sa.Float(), nullable=True),
        sa.Column("power_w", sa.Float(), nullable=True),
        sa.Column("current_a", sa.Text(), nullable=False),
        sa.Column("voltage_v", sa.Float(), nullable=True),
        sa.Column("soc", sa.Float(), nullable=True),
        sa.Column("power_offered_w", sa.Float(), nullable=True),
        sa.Column("current_offered_a", sa.Float(), nullable=True),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_number", "at", "context", name=op.f("pk_meter_sample")),
        sqlite_with_rowid=False,
    )


def _offer() -> None:
    op.create_table(
        "offer",
        sa.Column("offer_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("holder_did", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("discount_eur", sa.Float(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("offer_id", name=op.f("pk_offer")),
    )
    op.create_index(op.f("ix_offer_holder_did"), "offer", ["holder_did"], unique=False)
    op.create_index(op.f("ix_offer_session_id"), "offer", ["session_id"], unique=False)
    op.create_index(op.f("ix_offer_site_id_made_at"), "offer", ["site_id", "made_at"], unique=False)


def _orphan() -> None:
    op.create_table(
        "orphan",
        sa.Column("orphan_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("orphan_id", name=op.f("pk_orphan")),
        sa.UniqueConstraint(
            "station_id",
            "transaction_id",
            "digest",
            name=op.f("uq_orphan_station_id_transaction_id_digest"),
        ),
        sqlite_autoincrement=True,
    )


def _plan() -> None:
    op.create_table(
        "plan",
        sa.Column("plan_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("shortfall_kwh", sa.Float(), nullable=False),
        sa.Column("cpu_s", sa.Float(), nullable=False),
        sa.Column("case_z", sa.LargeBinary(), nullable=False),
        sa.Column("plan_z", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_plan")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_plan_site_id_plan_id"), "plan", ["site_id", "plan_id"], unique=False)


def _price() -> None:
    op.create_table(
        "price",
        sa.Column("tariff_id", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("eur_per_kwh", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tariff_id", "starts_at", name=op.f("pk_price")),
        sqlite_with_rowid=False,
    )


def _quarter_energy() -> None:
    op.create_table(
        "quarter_energy",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("energy_kwh", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "site_id", "starts_at", "session_number", name=op.f("pk_quarter_energy")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_quarter_energy_session_number"), "quarter_energy", ["session_number"], unique=False
    )


def _session() -> None:
    op.create_table(
        "session",
        sa.Column("number", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("start_key", sa.Text(), nullable=True),
        sa.Column("id_token", sa.Text(), nullable=True),
        sa.Column("id_token_kind", sa.Text(), nullable=False),
        sa.Column("holder_did", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("assurance", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=False),
        sa.Column("is_offline_start", sa.Boolean(), nullable=False),
        sa.Column("is_estimated", sa.Boolean(), nullable=False),
        sa.Column("meter_start_wh", sa.Float(), nullable=True),
        sa.Column("meter_last_wh", sa.Float(), nullable=True),
        sa.Column("energy_wh", sa.Float(), nullable=False),
        sa.Column("power_w", sa.Float(), nullable=True),
        sa.Column("current_a", sa.Text(), nullable=False),
        sa.Column("soc", sa.Float(), nullable=True),
        sa.Column("sample_at", sa.BigInteger(), nullable=True),
        sa.Column("charging_state", sa.Text(), nullable=False),
        sa.Column("last_seq_no", sa.BigInteger(), nullable=False),
        sa.Column("vehicle_id", sa.Text(), nullable=False),
        sa.Column("trip_id", sa.Text(), nullable=False),
        sa.Column("departs_at", sa.BigInteger(), nullable=True),
        sa.Column("need_wh", sa.Float(), nullable=True),
        sa.Column("preferred_wh", sa.Float(), nullable=True),
        sa.Column("need_source", sa.Text(), nullable=False),
        sa.Column("remote_start_id", sa.BigInteger(), nullable=True),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.CheckConstraint("number > 0 AND number < 2147483648", name=op.f("ck_session_number")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_session")),
        sa.UniqueConstraint("session_id", name=op.f("uq_session_session_id")),
        sa.UniqueConstraint(
            "station_id", "start_key", name=op.f("uq_session_station_id_start_key")
        ),
        sa.UniqueConstraint(
            "station_id", "transaction_id", name=op.f("uq_session_station_id_transaction_id")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_session_holder_did_state"), "session", ["holder_did", "state"], unique=False
    )
    op.create_index(
        op.f("ix_session_id_token_number"), "session", ["id_token", "number"], unique=False
    )
    op.create_index(
        op.f("ix_session_site_id_ended_at"), "session", ["site_id", "ended_at"], unique=False
    )
    op.create_index(op.f("ix_session_site_id_state"), "session", ["site_id", "state"], unique=False)


def _session_event() -> None:
    op.create_table(
        "session_event",
        sa.Column("event_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("seq_no", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("is_offline", sa.Boolean(), nullable=False),
        sa.Column("is_conflict", sa.Boolean(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_session_event")),
        sa.UniqueConstraint(
            "station_id",
            "transaction_id",
            "seq_no",
            "digest",
            name=op.f("uq_session_event_station_id_transaction_id_seq_no_digest"),
        ),
        sqlite_autoincrement=True,
    )


def _station_sample() -> None:
    op.create_table(
        "station_sample",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("energy_wh", sa.Float(), nullable=True),
        sa.Column("power_w", sa.Float(), nullable=True),
        sa.Column("current_a", sa.Text(), nullable=False),
        sa.Column("voltage_v", sa.Float(), nullable=True),
        sa.Column("soc", sa.Float(), nullable=True),
        sa.Column("power_offered_w", sa.Float(), nullable=True),
        sa.Column("current_offered_a", sa.Float(), nullable=True),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "station_id", "evse_id", "at", "context", name=op.f("pk_station_sample")
        ),
        sqlite_with_rowid=False,
    )


def _trip() -> None:
    op.create_table(
        "trip",
        sa.Column("trip_id", sa.Text(), nullable=False),
        sa.Column("holder_did", sa.Text(), nullable=False),
        sa.Column("vehicle_id", sa.Text(), nullable=False),
        sa.Column("departs_at", sa.BigInteger(), nullable=False),
        sa.Column("distance_km", sa.Float(), nullable=True),
        sa.Column("energy_kwh", sa.Float(), nullable=True),
        sa.Column("reserve_share", sa.Float(), nullable=False),
        sa.Column("preferred_soc", sa.Float(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trip_id", name=op.f("pk_trip")),
    )
    op.create_index(
        op.f("ix_trip_holder_did_departs_at"), "trip", ["holder_did", "departs_at"], unique=False
    )
    op.create_index(op.f("ix_trip_session_id"), "trip", ["session_id"], unique=False)
