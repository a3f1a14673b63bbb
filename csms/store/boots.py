"""When stations booted and which firmware they have had."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import delete, func, select

from csms.store import device_tables as tables
from csms.store.statements import Tx

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
    tx.execute(
        _B.insert().values(
            station_id=station_id,
            at=boot.at,
            reason=boot.reason,
            firmware_version=boot.firmware_version,
            status=boot.status,
        )
    )
    known = firmware_history(tx, station_id, limit=1)
    if boot.firmware_version and (not known or known[0].firmware_version != boot.firmware_version):
        tx.execute(
            _F.insert().values(
                station_id=station_id,
                firmware_version=boot.firmware_version,
                since_at=boot.at,
            )
        )


def boots_since(tx: Tx, station_id: str, since: datetime) -> int:
    """Return how often a station has booted since."""
    return int(
        tx.execute(
            select(func.count())
            .select_from(_B)
            .where(_B.c.station_id == station_id, _B.c.at > since)
        ).scalar_one()
    )


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
    """Delete boots older than `before`; return how many."""
    return int(tx.execute(delete(_B).where(_B.c.at < before)).rowcount)
