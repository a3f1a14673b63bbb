"""Keep remote starts, what few messages say of a session, and meter messages as they came."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "session_detail",
        sa.Column("session_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reservation_id", sa.BigInteger(), nullable=True),
        sa.Column("phases_used", sa.Integer(), nullable=True),
        sa.Column("cable_max_current_a", sa.Float(), nullable=True),
        sa.Column("total_cost", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("session_number", name="pk_session_detail"),
    )
    op.create_table(
        "remote_start",
        sa.Column("command_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("token_fold", sa.Text(), nullable=False),
        sa.Column("remote_start_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("command_id", name="pk_remote_start"),
    )
    op.create_index("ix_remote_start_station_id_state", "remote_start", ["station_id", "state"])
    op.create_table(
        "meter_message",
        sa.Column("message_key", _SERIAL, sa.Identity(), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("message_key", name="pk_meter_message"),
        sa.UniqueConstraint("station_id", "digest", name="uq_meter_message_station_id_digest"),
        sqlite_autoincrement=True,
    )
