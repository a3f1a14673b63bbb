"""When stations booted and which firmware they have had."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select

from csms.store import device_tables as tables
from csms.store.columns import us_from
from csms.store.purging import purge
from csms.store.statements import Hot, Tx, parameter, parameters

_B = tables.boot
_F = tables.firmware_history


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """A boot; `status` is what it was answered."""

    at: datetime
    reason: str
    firmware_version: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareSince:
    """A firmware version, and since when the station has run it."""

    firmware_version: str
    since_at: datetime


def add_boot(tx: Tx, station_id: str, boot: Boot) -> None:
    """Keep a boot, and its firmware where that is new."""
    at_us = us_from(boot.at)
    tx.run(_ADD, (station_id, at_us, boot.reason, boot.firmware_version, boot.status))
    newest = tx.row(_NEWEST_FIRMWARE, (station_id,))
    if boot.firmware_version and (newest is None or newest[0] != boot.firmware_version):
        tx.run(_ADD_FIRMWARE, (station_id, boot.firmware_version, at_us))


_BOOT = ("station_id", "at", "reason", "firmware_version", "status")
_ADD = Hot(lambda insert: insert(_B).values(parameters(_B, _BOOT)), _BOOT)
_FIRMWARE = ("station_id", "firmware_version", "since_at")
_ADD_FIRMWARE = Hot(lambda insert: insert(_F).values(parameters(_F, _FIRMWARE)), _FIRMWARE)
_NEWEST_FIRMWARE = Hot(
    lambda insert: (
        select(_F.c.firmware_version)
        .where(_F.c.station_id == parameter(_F.c.station_id))
        .order_by(_F.c.change_id.desc())
    ),
    ("station_id",),
)
_SINCE = Hot(
    lambda insert: (
        select(func.count())
        .select_from(_B)
        .where(_B.c.station_id == parameter(_B.c.station_id), _B.c.at > parameter(_B.c.at))
    ),
    ("station_id", "at"),
)


def boots_since(tx: Tx, station_id: str, since: datetime) -> int:
    """Return how often a station has booted since."""
    row = tx.row(_SINCE, (station_id, us_from(since)))
    assert row is not None
    return int(row[0])


def list_boots(tx: Tx, station_id: str, *, limit: int = 50) -> list[Boot]:
    """Return a station's boots, newest first."""
    columns = [_B.c[f.name] for f in fields(Boot)]
    found = tx.execute(
        select(*columns)
        .where(_B.c.station_id == station_id)
        .order_by(_B.c.boot_id.desc())
        .limit(limit)
    )
    return [Boot(**row._mapping) for row in found]


def firmware_history(tx: Tx, station_id: str, *, limit: int = 50) -> list[FirmwareSince]:
    """Return the firmware a station has had, newest first."""
    found = tx.execute(
        select(_F.c.firmware_version, _F.c.since_at)
        .where(_F.c.station_id == station_id)
        .order_by(_F.c.change_id.desc())
        .limit(limit)
    )
    return [FirmwareSince(**row._mapping) for row in found]


def purge_boots(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of boots older than `before`; return how many."""
    return purge(tx, _B, _B.c.at < before)
