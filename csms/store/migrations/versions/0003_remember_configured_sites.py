"""Remember how a site was configured, so that what an operator changed outlives a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "site_configuration",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("configured", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_site_configuration")),
    )
