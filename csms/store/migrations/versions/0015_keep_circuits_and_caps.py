"""Keep the circuits of sites, where EVSEs hang, caps for a time, and what flows besides cars."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the change."""
    _circuits()
    _caps()
    _series()


def _circuits() -> None:
    op.create_table(
        "circuit",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("circuit_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.Column("limit_a", sa.Text(), nullable=False),
        sa.Column("limit_kw", sa.Float(), nullable=True),
        sa.Column("load_a", sa.Text(), nullable=False),
        sa.Column("load_kw", sa.Float(), nullable=True),
        sa.Column("voltage_v", sa.Float(), nullable=False),
        sa.Column("evses", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "circuit_id", name=op.f("pk_circuit")),
    )
    op.create_table(
        "circuit_configuration",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("configured", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_circuit_configuration")),
    )
    op.create_table(
        "evse_place",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("circuit_id", sa.Text(), nullable=True),
        sa.Column("phase_rotation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_evse_place_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", "evse_id", name=op.f("pk_evse_place")),
    )


def _caps() -> None:
    op.create_table(
        "grid_cap",
        sa.Column("cap_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("circuit_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("limit_kw", sa.Float(), nullable=True),
        sa.Column("limit_a", sa.Float(), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("cap_id", name=op.f("pk_grid_cap")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_grid_cap_site_id_until"), "grid_cap", ["site_id", "until"])


def _series() -> None:
    op.create_table(
        "site_series",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "kind", "starts_at", name=op.f("pk_site_series")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "measured_load",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("circuit_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("load_a", sa.Text(), nullable=False),
        sa.Column("load_kw", sa.Float(), nullable=False),
        sa.Column("total_a", sa.Text(), nullable=False),
        sa.Column("total_kw", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "circuit_id", "at", name=op.f("pk_measured_load")),
        sqlite_with_rowid=False,
    )
