"""Keep what a challenger would have planned, and how likely needs are met."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "plan_comparison",
        sa.Column("comparison_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=True),
        sa.Column("in_force", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("challenger", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("champion_outcome", sa.Text(), nullable=False),
        sa.Column("challenger_outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("comparison_id", name=op.f("pk_plan_comparison")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_plan_comparison_site_id_comparison_id"),
        "plan_comparison",
        ["site_id", "comparison_id"],
        unique=False,
    )
    op.create_index(op.f("ix_plan_comparison_at"), "plan_comparison", ["at"], unique=False)
    op.create_table(
        "session_readiness",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("met_share", sa.Float(), nullable=False),
        sa.Column("scenarios", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_session_readiness")),
    )
    op.create_index(op.f("ix_session_readiness_at"), "session_readiness", ["at"], unique=False)
