"""Keep what meters tell of load and own generation, and what is expected of both.

Three tables go that nothing filled.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    for gone in ("site_series", "measured_load", "building_load"):
        op.drop_table(gone)
    op.create_table(
        "meter_reading",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("power_kw", sa.Float(), nullable=False),
        sa.Column("current_a", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "meter", "at", name=op.f("pk_meter_reading")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meter_quarter",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("mean_kw", sa.Float(), nullable=False),
        sa.Column("most_kw", sa.Float(), nullable=False),
        sa.Column("most_a", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "meter", "starts_at", name=op.f("pk_meter_quarter")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "expected_load",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("circuit_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("power_kw", sa.Float(), nullable=False),
        sa.Column("high_kw", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint(
            "site_id", "circuit_id", "kind", "starts_at", name=op.f("pk_expected_load")
        ),
        sqlite_with_rowid=False,
    )
    for name, kind, default in (
        ("meter", sa.Text(), "''"),
        ("solar_meter", sa.Text(), "''"),
        ("meter_stale_s", sa.Float(), "300.0"),
        ("load_quantile", sa.Float(), "0.9"),
        ("export_eur_per_kwh", sa.Float(), "0.0"),
    ):
        column = sa.Column(name, kind, nullable=False, server_default=sa.text(default))
        op.add_column("site", column)
