"""Let a command wait for its station, with the time until which it may be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.add_column("command", sa.Column("sent_at", sa.BigInteger(), nullable=True))
    op.add_column("command", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE command SET sent_at = asked_at")
    op.create_index("ix_command_expires_at", "command", ["expires_at"])
