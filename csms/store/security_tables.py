"""The schema of certificates and of security events."""

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from csms.core.model import OcppVersion
from csms.store.columns import (
    Instant,
    Values,
    Word,
    instant_column,
    metadata,
    nullable_column,
    serial_column,
    text_column,
)

station_certificate = Table(
    "station_certificate",
    metadata,
    serial_column("certificate_id"),
    text_column("station_id"),
    text_column("kind"),
    text_column("state"),
    text_column("common_name"),
    text_column("organisation"),
    text_column("issuer"),
    text_column("serial_number"),
    text_column("fingerprint", index=True),
    instant_column("valid_from"),
    instant_column("valid_until", index=True),
    text_column("request_digest"),
    text_column("chain"),
    instant_column("at"),
    nullable_column("alarmed_at", Instant),
    nullable_column("renewal_at", Instant),
    UniqueConstraint("station_id", "fingerprint"),
    sqlite_autoincrement=True,
)
"""Certificates of stations themselves: those we signed, and those they have shown."""

installed_certificate = Table(
    "installed_certificate",
    metadata,
    Column(
        "station_id",
        Text,
        ForeignKey("station.station_id", ondelete="CASCADE"),
        nullable=False,
    ),
    text_column("kind"),
    text_column("hash_algorithm"),
    text_column("issuer_name_hash"),
    text_column("issuer_key_hash"),
    text_column("serial_number"),
    Column("children", Values, nullable=False),
    text_column("subject"),
    text_column("certificate"),
    nullable_column("valid_until", Instant),
    nullable_column("installed_at", Instant),
    nullable_column("listed_at", Instant),
    PrimaryKeyConstraint(
        "station_id",
        "kind",
        "hash_algorithm",
        "issuer_name_hash",
        "issuer_key_hash",
        "serial_number",
    ),
)
"""Certificates that stations trust, as we installed them and as they list them."""

security_event = Table(
    "security_event",
    metadata,
    serial_column("event_id"),
    text_column("station_id"),
    Column("version", Word(OcppVersion), nullable=False),
    text_column("kind"),
    instant_column("at"),
    instant_column("received_at", index=True),
    text_column("tech_info"),
    Index(None, "station_id", "at"),
    sqlite_autoincrement=True,
)
"""What stations report of their own security, by their own clocks."""
