"""Find what is to be deleted by its age without reading whole tables."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_index(op.f("ix_command_finished_at"), "command", ["finished_at"])
    op.create_index(op.f("ix_installed_schedule_sent_at"), "installed_schedule", ["sent_at"])
    op.create_index(op.f("ix_link_closed_at"), "link", ["closed_at"])
    op.create_index(op.f("ix_plan_made_at"), "plan", ["made_at"])
