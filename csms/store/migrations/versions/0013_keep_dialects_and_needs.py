"""Keep dialects, cars' needs, and what stations and cars were seen to do."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    _dialect_item()
    _charging_need()
    _reported_profile()
    _external_limit()
    _composite()
    _car_habit()


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _dialect_item() -> None:
    op.create_table(
        "dialect_item",
        *_text("vendor", "model", "firmware", "station_id", "name", "source", "value"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *_text("why"),
        sa.PrimaryKeyConstraint(
            "station_id",
            "vendor",
            "model",
            "firmware",
            "name",
            "source",
            name=op.f("pk_dialect_item"),
        ),
    )


def _charging_need() -> None:
    op.create_table(
        "charging_need",
        *_text("session_id", "station_id"),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        *_text("mode"),
        sa.Column("phases", sa.Integer(), nullable=False),
        sa.Column("energy_wh", sa.Float(), nullable=True),
        sa.Column("departs_at", sa.BigInteger(), nullable=True),
        sa.Column("min_current_a", sa.Float(), nullable=True),
        sa.Column("max_current_a", sa.Float(), nullable=True),
        sa.Column("max_voltage_v", sa.Float(), nullable=True),
        sa.Column("max_power_w", sa.Float(), nullable=True),
        sa.Column("max_periods", sa.Integer(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_charging_need")),
    )


def _reported_profile() -> None:
    op.create_table(
        "reported_profile",
        *_text("station_id"),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("profile_id", sa.BigInteger(), nullable=False),
        *_text("source", "purpose"),
        sa.Column("stack_level", sa.Integer(), nullable=False),
        *_text("transaction_id", "body"),
        sa.Column("request_id", sa.BigInteger(), nullable=False),
        sa.Column("reported_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "station_id", "evse_id", "profile_id", "source", name=op.f("pk_reported_profile")
        ),
    )


def _external_limit() -> None:
    op.create_table(
        "external_limit",
        *_text("station_id"),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        *_text("source"),
        sa.Column("is_grid_critical", sa.Boolean(), nullable=False),
        *_text("schedules"),
        sa.Column("notified_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station_id", "evse_id", "source", name=op.f("pk_external_limit")),
    )


def _composite() -> None:
    op.create_table(
        "composite",
        *_text("station_id"),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        *_text("outcome", "schedule", "finding"),
        sa.Column("read_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station_id", "evse_id", name=op.f("pk_composite")),
    )


def _car_habit() -> None:
    op.create_table(
        "car_habit",
        *_text("car"),
        sa.Column("phases", sa.Integer(), nullable=True),
        sa.Column("min_current_a", sa.Float(), nullable=True),
        sa.Column("max_current_a", sa.Float(), nullable=True),
        sa.Column("never_pause", sa.Boolean(), nullable=False),
        sa.Column("wake_attempts", sa.Integer(), nullable=False),
        sa.Column("wake_s", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("car", name=op.f("pk_car_habit")),
    )
