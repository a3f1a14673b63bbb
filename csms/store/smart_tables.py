"""The schema of smart charging: dialects, cars' needs, what stations report, what cars do."""

from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Table

from csms.store.columns import (
    Instant,
    flag_column,
    float_column,
    instant_column,
    int_column,
    metadata,
    nullable_column,
    text_column,
)

dialect_item = Table(
    "dialect_item",
    metadata,
    text_column("vendor"),
    text_column("model"),
    text_column("firmware"),
    text_column("station_id"),
    text_column("name"),
    text_column("source"),
    text_column("value"),
    instant_column("at"),
    text_column("why"),
    PrimaryKeyConstraint("station_id", "vendor", "model", "firmware", "name", "source"),
)
"""An item belongs to a station, or with `station_id` "" to all of a model; `value` is JSON."""

charging_need = Table(
    "charging_need",
    metadata,
    text_column("session_id", primary_key=True),
    text_column("station_id"),
    int_column("evse_id"),
    text_column("mode"),
    int_column("phases"),
    nullable_column("energy_wh", Float),
    nullable_column("departs_at", Instant),
    nullable_column("min_current_a", Float),
    nullable_column("max_current_a", Float),
    nullable_column("max_voltage_v", Float),
    nullable_column("max_power_w", Float),
    nullable_column("max_periods", Integer),
    instant_column("received_at"),
    instant_column("due_at"),
)
"""`due_at` is since when the car waits for a profile, whether or not the plan has changed."""

reported_profile = Table(
    "reported_profile",
    metadata,
    text_column("station_id"),
    int_column("evse_id"),
    Column("profile_id", BigInteger, nullable=False),
    text_column("source"),
    text_column("purpose"),
    int_column("stack_level"),
    text_column("transaction_id"),
    text_column("body"),
    Column("request_id", BigInteger, nullable=False),
    instant_column("reported_at"),
    PrimaryKeyConstraint("station_id", "evse_id", "profile_id", "source"),
)

external_limit = Table(
    "external_limit",
    metadata,
    text_column("station_id"),
    int_column("evse_id"),
    text_column("source"),
    flag_column("is_grid_critical"),
    text_column("schedules"),
    instant_column("notified_at"),
    PrimaryKeyConstraint("station_id", "evse_id", "source"),
)

composite = Table(
    "composite",
    metadata,
    text_column("station_id"),
    int_column("evse_id"),
    text_column("outcome"),
    text_column("schedule"),
    text_column("finding"),
    instant_column("read_at"),
    PrimaryKeyConstraint("station_id", "evse_id"),
)
"""The composite schedule as last read, and what its comparison with ours came to."""

car_habit = Table(
    "car_habit",
    metadata,
    text_column("car", primary_key=True),
    nullable_column("phases", Integer),
    nullable_column("min_current_a", Float),
    nullable_column("max_current_a", Float),
    flag_column("never_pause"),
    int_column("wake_attempts"),
    float_column("wake_s"),
    instant_column("seen_at"),
)
"""What a car was seen to do: `car` is a vehicle's id, or a session of a car nobody knows."""
