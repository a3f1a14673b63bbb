"""Find meter values outside transactions that are old without reading all of them."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_index(op.f("ix_station_sample_at"), "station_sample", ["at"])
    op.create_index(op.f("ix_meter_message_received_at"), "meter_message", ["received_at"])
