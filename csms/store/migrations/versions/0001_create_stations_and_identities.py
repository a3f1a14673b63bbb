"""Create stations and identities."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the change."""
    _api_token()
    _command()
    _credential()
    _decision()
    _event()
    _holder()
    _idempotency_key()
    _lease()
    _link()
    _probe()
    _record()
    _site()
    _token()
    _unknown_station()
    _vehicle()
    _vendor_message()
    _station()
    _device_variable()
    _evse()
    op.execute("INSERT INTO probe (id, writes) VALUES (1, 0)")


def _api_token() -> None:
    op.create_table(
        "api_token",
        sa.Column("token_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_token_hash")),
        sqlite_autoincrement=True,
    )


def _command() -> None:
    op.create_table(
        "command",
        sa.Column("command_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_command")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_command_station_id_command_id"),
        "command",
        ["station_id", "command_id"],
        unique=False,
    )


def _credential() -> None:
    op.create_table(
        "credential",
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=True),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("sites", sa.Text(), nullable=False),
        sa.Column("evse_ids", sa.Text(), nullable=False),
        sa.Column("hours", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("allowance_kwh", sa.Float(), nullable=True),
        sa.Column("used_kwh", sa.Float(), nullable=False),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("is_verified", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_credential")),
    )
    op.create_index(op.f("ix_credential_subject"), "credential", ["subject"], unique=False)


def _decision() -> None:
    op.create_table(
        "decision",
        sa.Column("decision_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("token_hint", sa.Text(), nullable=False),
        sa.Column("holder_did", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("assurance", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decision")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_decision_at"), "decision", ["at"], unique=False)
    op.create_index(
        op.f("ix_decision_station_id_decision_id"),
        "decision",
        ["station_id", "decision_id"],
        unique=False,
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("event_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_event")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_event_at"), "event", ["at"], unique=False)
    op.create_index(
        op.f("ix_event_session_id_event_id"), "event", ["session_id", "event_id"], unique=False
    )
    op.create_index(
        op.f("ix_event_station_id_event_id"), "event", ["station_id", "event_id"], unique=False
    )


def _holder() -> None:
    op.create_table(
        "holder",
        sa.Column("did", sa.Text(), nullable=False),
        sa.Column("did_fold", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("allowed_sites", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("carbon_conscious", sa.Boolean(), nullable=False),
        sa.Column("max_price_per_kwh", sa.Float(), nullable=True),
        sa.Column("vehicle_id", sa.Text(), nullable=False),
        sa.Column("max_open_sessions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("did", name=op.f("pk_holder")),
        sa.UniqueConstraint("did_fold", name=op.f("uq_holder_did_fold")),
    )


def _idempotency_key() -> None:
    op.create_table(
        "idempotency_key",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_at"), "idempotency_key", ["at"], unique=False)


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )


def _link() -> None:
    op.create_table(
        "link",
        sa.Column("link_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("remote_address", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("close_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("link_id", name=op.f("pk_link")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_link_station_id_link_id"), "link", ["station_id", "link_id"], unique=False
    )


def _probe() -> None:
    op.create_table(
        "probe",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("writes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe")),
    )


def _record() -> None:
    op.create_table(
        "record",
        sa.Column("record_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_record")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_record_at"), "record", ["at"], unique=False)
    op.create_index(
        op.f("ix_record_station_id_record_id"), "record", ["station_id", "record_id"], unique=False
    )


def _site() -> None:
    op.create_table(
        "site",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("limit_kw", sa.Float(), nullable=False),
        sa.Column("base_load_kw", sa.Float(), nullable=False),
        sa.Column("voltage_v", sa.Float(), nullable=False),
        sa.Column("guard_share", sa.Float(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("tariff_id", sa.Text(), nullable=False),
        sa.Column("free_charging", sa.Boolean(), nullable=False),
        sa.Column("revenue_per_kwh", sa.Float(), nullable=False),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_site")),
    )


def _token() -> None:
    op.create_table(
        "token",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("did", sa.Text(), nullable=False),
        sa.Column("assurance", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=True),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("consumed_by", sa.Text(), nullable=False),
        sa.Column("key_epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "value", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_did"), "token", ["did"], unique=False)
    op.create_index(op.f("ix_token_value"), "token", ["value"], unique=False)


def _unknown_station() -> None:
    op.create_table(
        "unknown_station",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("remote_address", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_unknown_station")),
    )
    op.create_index(
        op.f("ix_unknown_station_last_at"), "unknown_station", ["last_at"], unique=False
    )


def _vehicle() -> None:
    op.create_table(
        "vehicle",
        sa.Column("vehicle_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("battery_kwh", sa.Float(), nullable=False),
        sa.Column("consumption_wh_per_km", sa.Float(), nullable=False),
        sa.Column("max_kw", sa.Float(), nullable=False),
        sa.Column("max_dc_kw", sa.Float(), nullable=False),
        sa.Column("phases", sa.Integer(), nullable=False),
        sa.Column("min_current_a", sa.Float(), nullable=False),
        sa.Column("efficiency", sa.Float(), nullable=False),
        sa.Column("soc", sa.Float(), nullable=True),
        sa.Column("soc_at", sa.BigInteger(), nullable=True),
        sa.Column("soc_source", sa.Text(), nullable=False),
        sa.Column("max_soc", sa.Float(), nullable=False),
        sa.Column("owner_did", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("vehicle_id", name=op.f("pk_vehicle")),
    )
    op.create_index(op.f("ix_vehicle_owner_did"), "vehicle", ["owner_did"], unique=False)


def _vendor_message() -> None:
    op.create_table(
        "vendor_message",
        sa.Column("message_key", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("vendor_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("message_key", name=op.f("pk_vendor_message")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_vendor_message_at"), "vendor_message", ["at"], unique=False)
    op.create_index(
        op.f("ix_vendor_message_station_id_message_key"),
        "vendor_message",
        ["station_id", "message_key"],
        unique=False,
    )


def _station() -> None:
    op.create_table(
        "station",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("station_fold", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("serial_number", sa.Text(), nullable=False),
        sa.Column("firmware_version", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("security_profile", sa.Integer(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("automation", sa.Boolean(), nullable=False),
        sa.Column("heartbeat_interval_s", sa.Integer(), nullable=False),
        sa.Column("uid_byte_order_reversed", sa.Boolean(), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("link_state", sa.Text(), nullable=False),
        sa.Column("linked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.Column("booted_at", sa.BigInteger(), nullable=True),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("credential_hash", sa.Text(), nullable=False),
        sa.Column("pending_hash", sa.Text(), nullable=False),
        sa.Column("boot_payload", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.site_id"], name=op.f("fk_station_site_id")),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_station")),
        sa.UniqueConstraint("station_fold", name=op.f("uq_station_station_fold")),
    )
    op.create_index(op.f("ix_station_site_id"), "station", ["site_id"], unique=False)


def _device_variable() -> None:
    op.create_table(
        "device_variable",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("is_readonly", sa.Boolean(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_device_variable_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", "name", name=op.f("pk_device_variable")),
    )


def _evse() -> None:
    op.create_table(
        "evse",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("max_kw", sa.Float(), nullable=False),
        sa.Column("phases", sa.Integer(), nullable=False),
        sa.Column("current_type", sa.Text(), nullable=False),
        sa.Column("connector_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_at", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("guard_kw", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_evse_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", "evse_id", name=op.f("pk_evse")),
    )
