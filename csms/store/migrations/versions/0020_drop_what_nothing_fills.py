"""Drop a table and two columns that nothing filled."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.drop_table("lease")
    op.drop_column("site", "latitude")
    op.drop_column("site", "longitude")
