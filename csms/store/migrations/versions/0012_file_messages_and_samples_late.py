"""Let SQLite append messages and samples first and file them under their session later."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UNIQUE = "uq_session_event_station_id_transaction_id_seq_no_digest"
KEY = ["station_id", "transaction_id", "seq_no", "digest"]


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "event_key",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("seq_no", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("pk_event_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "filed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_filed")),
    )
    op.create_table(
        "sample_tail",
        sa.Column("tail_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("energy_wh", sa.Float(), nullable=True),
        sa.Column("power_w", sa.Float(), nullable=True),
        sa.Column("current_a", sa.Text(), nullable=False),
        sa.Column("voltage_v", sa.Float(), nullable=True),
        sa.Column("soc", sa.Float(), nullable=True),
        sa.Column("power_offered_w", sa.Float(), nullable=True),
        sa.Column("current_offered_a", sa.Float(), nullable=True),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tail_id", name=op.f("pk_sample_tail")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "INSERT INTO event_key SELECT station_id, transaction_id, seq_no, digest, event_id"
            " FROM session_event ORDER BY 1, 2, 3, 4"
        )
        op.execute("INSERT INTO filed SELECT 1, coalesce(max(event_id), 0) FROM session_event")
        with op.batch_alter_table(
            "session_event", table_kwargs={"sqlite_autoincrement": True}
        ) as table:
            table.drop_constraint(UNIQUE, type_="unique")
    else:
        op.drop_constraint(UNIQUE, "session_event", type_="unique")
        op.create_index(UNIQUE, "session_event", KEY, unique=True)
