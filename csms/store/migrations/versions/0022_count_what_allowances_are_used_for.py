"""Count what each stay has used of an allowance, once however often it is counted."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "allowance_use",
        sa.Column("session_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("energy_kwh", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("session_number", name=op.f("pk_allowance_use")),
    )
    op.create_index(op.f("ix_allowance_use_credential_id"), "allowance_use", ["credential_id"])
