"""What stations and cars report of smart charging: needs, profiles, outside limits, habits."""

import json
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update

from csms.core.commands import Schedule, SchedulePeriod
from csms.core.smart import LimitNotified, ProfilesReported
from csms.store import bounds
from csms.store import smart_tables as tables
from csms.store.columns import at_from, json_text, us_from
from csms.store.statements import Tx

_N = tables.charging_need
_R = tables.reported_profile
_L = tables.external_limit
_C = tables.composite
_H = tables.car_habit

MAX_REPORTED = 200
"""Profiles kept of one station; one that reports more is not taken at its word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingNeed:
    """What the car of a session said of itself; `due_at` is since when it waits for a profile."""

    session_id: str
    station_id: str
    evse_id: int
    mode: str
    phases: int = 3
    energy_wh: float | None = None
    departs_at: datetime | None = None
    min_current_a: float | None = None
    max_current_a: float | None = None
    max_voltage_v: float | None = None
    max_power_w: float | None = None
    max_periods: int | None = None
    received_at: datetime
    due_at: datetime

    @property
    def is_dc(self) -> bool:
        """Whether the car charges with direct current."""
        return self.mode.startswith("DC")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedProfile:
    """A profile that a station says it holds; `body` as the station spelled it, JSON."""

    station_id: str
    evse_id: int
    profile_id: int
    source: str
    purpose: str
    stack_level: int
    transaction_id: str
    body: str
    request_id: int
    reported_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalLimit:
    """A limit that somebody else set on an EVSE, on the whole station with `evse_id` 0."""

    station_id: str
    evse_id: int
    source: str
    is_grid_critical: bool
    schedules: tuple[Schedule, ...]
    notified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """A composite schedule as read, None where the station told none, and what came of it."""

    station_id: str
    evse_id: int
    outcome: str
    schedule: Schedule | None
    finding: str
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CarHabit:
    """What a car was seen to do. `max_current_a` is the most it ever took per phase, in amperes.

    `never_pause` marks one that did not wake up by itself after a pause.
    """

    car: str
    phases: int | None = None
    min_current_a: float | None = None
    max_current_a: float | None = None
    never_pause: bool = False
    wake_attempts: int = 0
    wake_s: float = 0.0
    seen_at: datetime


# --- needs ---------------------------------------------------------------------------------------


def put_need(tx: Tx, need: ChargingNeed) -> None:
    """Store what a car said, replacing what it said before."""
    tx.upsert(_N, ["session_id"], asdict(need))


def needs_of(tx: Tx, session_ids: list[str]) -> dict[str, ChargingNeed]:
    """Return what the cars of sessions said, by session."""
    if not session_ids:
        return {}
    found = tx.execute(select(_N).where(_N.c.session_id.in_(session_ids)))
    return {row.session_id: ChargingNeed(**row._mapping) for row in found}


def profile_due(tx: Tx, session_id: str, at: datetime) -> None:
    """Note that a car waits for a new profile since `at`."""
    tx.execute(update(_N).where(_N.c.session_id == session_id).values(due_at=at))


# --- profiles and limits of stations -------------------------------------------------------------


def put_profiles(tx: Tx, report: ProfilesReported) -> None:
    """Store one page of the profiles an EVSE holds."""
    rows: dict[Hashable, dict[str, Any]] = {}
    for text in report.profiles:
        body = json.loads(text)
        profile_id = int(body["id"])
        rows[report.evse_id, profile_id, report.source] = {
            "station_id": report.station_id,
            "evse_id": report.evse_id,
            "profile_id": profile_id,
            "source": report.source,
            "purpose": str(body["chargingProfilePurpose"]),
            "stack_level": int(body["stackLevel"]),
            "transaction_id": str(body.get("transactionId", "")),
            "body": text,
            "request_id": report.request_id,
            "reported_at": report.received_at,
        }
    key = ["evse_id", "profile_id", "source"]
    kept = bounds.fitting(tx, _R, key, rows, most=bounds.MAX_PROFILES)
    tx.upsert_all(_R, ["station_id", *key], kept)


def profiles_of(tx: Tx, station_id: str) -> list[ReportedProfile]:
    """Return the profiles a station said it holds."""
    found = tx.execute(
        select(_R)
        .where(_R.c.station_id == station_id)
        .order_by(_R.c.evse_id, _R.c.purpose, _R.c.profile_id)
        .limit(MAX_REPORTED)
    )
    return [ReportedProfile(**row._mapping) for row in found]


def profiles_at(tx: Tx, station_ids: list[str], *, purpose: str) -> list[ReportedProfile]:
    """Return the profiles of one purpose that stations said they hold."""
    if not station_ids:
        return []
    found = tx.execute(select(_R).where(_R.c.station_id.in_(station_ids), _R.c.purpose == purpose))
    return [ReportedProfile(**row._mapping) for row in found]


def drop_unreported(tx: Tx, station_id: str, *, request_id: int) -> int:
    """Drop what the answer to `request_id`, which asked for everything, no longer held."""
    gone = delete(_R).where(_R.c.station_id == station_id, _R.c.request_id != request_id)
    return int(tx.execute(gone).rowcount)


def drop_profile(tx: Tx, station_id: str, profile_id: int) -> None:
    """Drop our copy of a profile that was cleared, or was not there any more."""
    tx.execute(delete(_R).where(_R.c.station_id == station_id, _R.c.profile_id == profile_id))


def put_limit(tx: Tx, report: LimitNotified) -> None:
    """Store a limit that somebody else set, or drop it where it was lifted."""
    if report.schedules is None:
        lifted = delete(_L).where(
            _L.c.station_id == report.station_id, _L.c.source == report.source
        )
        if report.evse_id:
            lifted = lifted.where(_L.c.evse_id == report.evse_id)
        tx.execute(lifted)
        return
    row = {
        "station_id": report.station_id,
        "evse_id": report.evse_id,
        "source": report.source,
        "is_grid_critical": report.is_grid_critical,
        "schedules": json_text([schedule_json(s) for s in report.schedules]),
        "notified_at": report.received_at,
    }
    key = ["evse_id", "source"]
    rows: dict[Hashable, dict[str, Any]] = {(report.evse_id, report.source): row}
    kept = bounds.fitting(tx, _L, key, rows, most=bounds.MAX_LIMITS)
    tx.upsert_all(_L, ["station_id", *key], kept)


def limits_at(tx: Tx, station_ids: list[str]) -> list[ExternalLimit]:
    """Return the outside limits on stations."""
    if not station_ids:
        return []
    found = tx.execute(
        select(_L).where(_L.c.station_id.in_(station_ids)).order_by(_L.c.station_id, _L.c.evse_id)
    )
    limits = []
    for row in found:
        values = dict(row._mapping)
        schedules = tuple(schedule_from(s) for s in json.loads(values.pop("schedules")))
        limits.append(ExternalLimit(schedules=schedules, **values))
    return limits


def put_composite(tx: Tx, found: Composite) -> None:
    """Store the composite schedule last read of an EVSE."""
    values = {name: getattr(found, name) for name in Composite.__dataclass_fields__}
    told = found.schedule
    values["schedule"] = "" if told is None else json_text(schedule_json(told))
    tx.upsert(_C, ["station_id", "evse_id"], values)


def composites_of(tx: Tx, station_id: str) -> list[Composite]:
    """Return the composite schedules last read of a station."""
    found = tx.execute(select(_C).where(_C.c.station_id == station_id).order_by(_C.c.evse_id))
    read = []
    for row in found:
        values = dict(row._mapping)
        text = values.pop("schedule")
        read.append(Composite(schedule=schedule_from(json.loads(text)) if text else None, **values))
    return read


def schedule_json(schedule: Schedule) -> dict[str, object]:
    """Return a schedule as JSON members; `schedule_from` reads it back."""
    return {**asdict(schedule), "starts_at": us_from(schedule.starts_at)}


def schedule_from(values: dict[str, Any]) -> Schedule:
    """Return the schedule that `schedule_json` spelled."""
    periods = tuple(SchedulePeriod(**period) for period in values["periods"])
    return Schedule(**{**values, "periods": periods, "starts_at": at_from(values["starts_at"])})


# --- cars ----------------------------------------------------------------------------------------


def put_habit(tx: Tx, habit: CarHabit) -> None:
    """Store what a car was seen to do."""
    tx.upsert(_H, ["car"], asdict(habit))


def habits_of(tx: Tx, cars: list[str]) -> dict[str, CarHabit]:
    """Return what is known of cars."""
    if not cars:
        return {}
    found = tx.execute(select(_H).where(_H.c.car.in_(cars)))
    return {row.car: CarHabit(**row._mapping) for row in found}
