"""Remember what a session had taken when its state of charge was read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.add_column(
        "session", sa.Column("soc_wh", sa.Float(), nullable=False, server_default=sa.text("0"))
    )
