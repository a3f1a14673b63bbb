"""Keep terms of sessions, abilities of stations, and the tariffs and limits given."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "session_terms",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("is_prioritised", sa.Boolean(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_session_terms")),
    )
    op.create_table(
        "station_ability",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("told_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_station_ability")),
    )
    op.create_table(
        "tariff_given",
        sa.Column("tariff_id", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tariff_id", name=op.f("pk_tariff_given")),
    )
    op.create_table(
        "start_limit",
        sa.Column("id_token", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id_token", name=op.f("pk_start_limit")),
    )
