"""Keep certificates, security events, and the security profile of each link."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _instants(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def upgrade() -> None:
    """Apply the change."""
    zero, empty = sa.text("0"), sa.text("''")
    op.add_column(
        "station", sa.Column("asked_profile", sa.Integer(), nullable=False, server_default=zero)
    )
    op.add_column(
        "link", sa.Column("security_profile", sa.Integer(), nullable=False, server_default=zero)
    )
    op.add_column(
        "link", sa.Column("certificate_cn", sa.Text(), nullable=False, server_default=empty)
    )
    op.create_table(
        "station_certificate",
        sa.Column("certificate_id", _SERIAL, sa.Identity(), nullable=False),
        *_text("station_id", "kind", "state", "common_name", "organisation", "issuer"),
        *_text("serial_number", "fingerprint"),
        *_instants("valid_from", "valid_until"),
        *_text("request_digest", "chain"),
        *_instants("at"),
        *_instants("alarmed_at", "renewal_at", nullable=True),
        sa.PrimaryKeyConstraint("certificate_id", name=op.f("pk_station_certificate")),
        sa.UniqueConstraint(
            "station_id", "fingerprint", name=op.f("uq_station_certificate_station_id_fingerprint")
        ),
        sqlite_autoincrement=True,
    )
    for column in ("fingerprint", "valid_until"):
        op.create_index(op.f(f"ix_station_certificate_{column}"), "station_certificate", [column])
    key = ("kind", "hash_algorithm", "issuer_name_hash", "issuer_key_hash", "serial_number")
    op.create_table(
        "installed_certificate",
        *_text("station_id", *key, "children", "subject", "certificate"),
        *_instants("valid_until", "installed_at", "listed_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_installed_certificate_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", *key, name=op.f("pk_installed_certificate")),
    )
    op.create_table(
        "security_event",
        sa.Column("event_id", _SERIAL, sa.Identity(), nullable=False),
        *_text("station_id", "version", "kind"),
        *_instants("at", "received_at"),
        *_text("tech_info"),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_security_event")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_security_event_received_at"), "security_event", ["received_at"])
    op.create_index(op.f("ix_security_event_station_id_at"), "security_event", ["station_id", "at"])
