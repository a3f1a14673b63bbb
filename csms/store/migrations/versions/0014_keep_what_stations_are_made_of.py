"""Keep what stations are made of, what they were asked for, and their alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the change."""
    _alert()
    _boot()
    _bulk()
    _bulk_item()
    _commanded_availability()
    _connector_state()
    _device_attribute()
    _device_event()
    _device_monitor()
    _device_request()
    _firmware_history()
    _request_part()
    _request_step()
    _station_clock()
    _upload()


def _alert() -> None:
    op.create_table(
        "alert",
        sa.Column("alert_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=True),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.Column("cause_id", sa.BigInteger(), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alert")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_alert_site_id_closed_at"), "alert", ["site_id", "closed_at"], unique=False
    )
    op.create_index(
        op.f("ix_alert_station_id_closed_at"), "alert", ["station_id", "closed_at"], unique=False
    )


def _boot() -> None:
    op.create_table(
        "boot",
        sa.Column("boot_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("firmware_version", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_boot")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_boot_at"), "boot", ["at"], unique=False)
    op.create_index(
        op.f("ix_boot_station_id_boot_id"), "boot", ["station_id", "boot_id"], unique=False
    )


def _bulk() -> None:
    op.create_table(
        "bulk",
        sa.Column("bulk_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("at_once", sa.Integer(), nullable=False),
        sa.Column("stop_after_failures", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("bulk_id", name=op.f("pk_bulk")),
        sqlite_autoincrement=True,
    )


def _bulk_item() -> None:
    op.create_table(
        "bulk_item",
        sa.Column("bulk_id", sa.BigInteger(), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("command_id", sa.BigInteger(), nullable=True),
        sa.Column("request_key", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("bulk_id", "station_id", name=op.f("pk_bulk_item")),
    )


def _commanded_availability() -> None:
    op.create_table(
        "commanded_availability",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("is_operative", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_commanded_availability_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "station_id", "evse_id", "connector_id", name=op.f("pk_commanded_availability")
        ),
    )


def _connector_state() -> None:
    op.create_table(
        "connector_state",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("corrected_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("order_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_connector_state_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "station_id", "evse_id", "connector_id", name=op.f("pk_connector_state")
        ),
    )


def _device_attribute() -> None:
    op.create_table(
        "device_attribute",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("component_instance", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("variable", sa.Text(), nullable=False),
        sa.Column("variable_instance", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("mutability", sa.Text(), nullable=False),
        sa.Column("data_type", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("min_limit", sa.Float(), nullable=True),
        sa.Column("max_limit", sa.Float(), nullable=True),
        sa.Column("values_list", sa.Text(), nullable=False),
        sa.Column("supports_monitoring", sa.Boolean(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("set_value", sa.Text(), nullable=True),
        sa.Column("set_status", sa.Text(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_device_attribute_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "station_id",
            "component",
            "component_instance",
            "evse_id",
            "connector_id",
            "variable",
            "variable_instance",
            "kind",
            name=op.f("pk_device_attribute"),
        ),
    )


def _device_event() -> None:
    op.create_table(
        "device_event",
        sa.Column("event_key", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("corrected_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("notification", sa.Text(), nullable=False),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("component_instance", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("variable", sa.Text(), nullable=False),
        sa.Column("variable_instance", sa.Text(), nullable=False),
        sa.Column("actual_value", sa.Text(), nullable=False),
        sa.Column("cause_id", sa.BigInteger(), nullable=True),
        sa.Column("tech_code", sa.Text(), nullable=False),
        sa.Column("tech_info", sa.Text(), nullable=False),
        sa.Column("is_cleared", sa.Boolean(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("monitor_id", sa.BigInteger(), nullable=True),
        sa.Column("severity", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("event_key", name=op.f("pk_device_event")),
        sa.UniqueConstraint(
            "station_id", "event_id", "at", name=op.f("uq_device_event_station_id_event_id_at")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_device_event_received_at"), "device_event", ["received_at"], unique=False
    )
    op.create_index(
        op.f("ix_device_event_station_id_event_key"),
        "device_event",
        ["station_id", "event_key"],
        unique=False,
    )


def _device_monitor() -> None:
    op.create_table(
        "device_monitor",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("monitor_id", sa.BigInteger(), nullable=False),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("component_instance", sa.Text(), nullable=False),
        sa.Column("evse_id", sa.Integer(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("variable", sa.Text(), nullable=False),
        sa.Column("variable_instance", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("is_transaction_only", sa.Boolean(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_device_monitor_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", "monitor_id", name=op.f("pk_device_monitor")),
    )


def _device_request() -> None:
    op.create_table(
        "device_request",
        sa.Column("request_key", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("wire_id", sa.BigInteger(), nullable=True),
        sa.Column("bulk_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("command_id", sa.BigInteger(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("request_key", name=op.f("pk_device_request")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_device_request_bulk_id"), "device_request", ["bulk_id"], unique=False)
    op.create_index(
        op.f("ix_device_request_station_id_kind_wire_id"),
        "device_request",
        ["station_id", "kind", "wire_id"],
        unique=False,
    )


def _firmware_history() -> None:
    op.create_table(
        "firmware_history",
        sa.Column("change_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("firmware_version", sa.Text(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_firmware_history")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_firmware_history_station_id_change_id"),
        "firmware_history",
        ["station_id", "change_id"],
        unique=False,
    )


def _request_part() -> None:
    op.create_table(
        "request_part",
        sa.Column("request_key", sa.BigInteger(), nullable=False),
        sa.Column("seq_no", sa.Integer(), nullable=False),
        sa.Column("is_last", sa.Boolean(), nullable=False),
        sa.Column("generated_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("request_key", "seq_no", name=op.f("pk_request_part")),
    )


def _request_step() -> None:
    op.create_table(
        "request_step",
        sa.Column("step_id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("request_key", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("step_id", name=op.f("pk_request_step")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_request_step_request_key"), "request_step", ["request_key"], unique=False
    )


def _station_clock() -> None:
    op.create_table(
        "station_clock",
        sa.Column("station_id", sa.Text(), nullable=False),
        sa.Column("offset_s", sa.Float(), nullable=False),
        sa.Column("measured_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["station.station_id"],
            name=op.f("fk_station_clock_station_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_station_clock")),
    )


def _upload() -> None:
    op.create_table(
        "upload",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("request_key", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_upload")),
    )
    op.create_index(op.f("ix_upload_expires_at"), "upload", ["expires_at"], unique=False)
