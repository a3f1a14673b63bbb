"""Links of stations, their credentials, and stations that asked without being known."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, update

from csms.core.errors import UnknownStation
from csms.core.model import LinkState, OcppVersion
from csms.store import tables
from csms.store.columns import us_from
from csms.store.purging import purge
from csms.store.statements import Hot, Tx, parameter, parameters

_L = tables.link
_S = tables.station
_U = tables.unknown_station

INBOX_SIZE = 100
_PENDING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLink:
    """One link of a station, open while `closed_at` is None.

    `security_profile` is what the station has shown; `certificate_cn` is the name in its
    certificate, "" without one.
    """

    link_id: int
    station_id: str
    version: OcppVersion
    remote_address: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str
    security_profile: int
    certificate_cn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownStationSeen:
    """A station that asked to connect without being registered."""

    station_id: str
    remote_address: str
    attempts: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCredential:
    """Hashes of a station's password: in force ("" for none), and sent but not yet used."""

    credential_hash: str
    pending_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """What decides whether a station may connect, and what it is told when it does."""

    station_id: str
    site_id: str
    security_profile: int
    asked_profile: int
    serial_number: str
    registration: str
    heartbeat_interval_s: int
    credential_hash: str
    pending_hash: str
    limits: str = field(compare=False)
    """Its dialect as it is stored: JSON. It changes at any moment and decides nothing."""

    @property
    def returns_after_close(self) -> bool:
        """Whether it comes back after a close frame, as far as anybody knows."""
        return bool(json.loads(self.limits).get("returns_after_close", True))

    @property
    def hashes(self) -> tuple[str, ...]:
        """Hashes of the passwords that it may use."""
        return tuple(h for h in (self.credential_hash, *self.pending_hash.split("\n")) if h)


_APPLICANT = tuple(f.name for f in fields(Applicant))
_BY_FOLD = Hot(
    lambda insert: select(*(_S.c[name] for name in _APPLICANT)).where(
        _S.c.station_fold == parameter(_S.c.station_fold)
    ),
    ("station_fold",),
)


def find_applicant(tx: Tx, station_id: str) -> Applicant | None:
    """Return the station that calls itself `station_id`, in any case; None for an unknown one."""
    row = tx.row(_BY_FOLD, (station_id.casefold(),))
    return None if row is None else Applicant(**dict(zip(_APPLICANT, row, strict=True)))


# --- links ---------------------------------------------------------------------------------------


def open_link(
    tx: Tx,
    station_id: str,
    *,
    version: OcppVersion,
    remote_address: str,
    at: datetime,
    security_profile: int = 0,
    certificate_cn: str = "",
) -> int:
    """Store a new link of a registered station and return its id, which only ever rises.

    Raises UnknownStation.
    """
    at_us, spoken = us_from(at), str(version)
    opened = (station_id, spoken, remote_address, at_us, "", security_profile, certificate_cn)
    row = tx.row(_OPEN, opened)
    assert row is not None
    link_id = int(row[0])
    if not tx.run(_ONLINE, (link_id, str(LinkState.ONLINE), at_us, at_us, spoken, station_id)):
        raise UnknownStation(f"no station {station_id}")
    return link_id


_OPENED = (
    "station_id",
    "version",
    "remote_address",
    "opened_at",
    "close_reason",
    "security_profile",
    "certificate_cn",
)
_OPEN = Hot(
    lambda insert: insert(_L).values(parameters(_L, _OPENED)).returning(_L.c.link_id), _OPENED
)
_LINKED = ("link_id", "link_state", "linked_at", "last_seen_at", "version")
_ONLINE = Hot(
    lambda insert: (
        update(_S)
        .values(parameters(_S, _LINKED))
        .where(_S.c.station_id == parameter(_S.c.station_id))
    ),
    (*_LINKED, "station_id"),
)


def certificate_cn(tx: Tx, link_id: int) -> str:
    """Return the name in the certificate that opened a link, "" without one."""
    found = tx.execute(select(_L.c.certificate_cn).where(_L.c.link_id == link_id)).scalar()
    return found or ""


def set_link_state(tx: Tx, station_id: str, state: LinkState) -> None:
    """Show a station whose link is open as reachable or not."""
    tx.execute(update(_S).where(_S.c.station_id == station_id).values(link_state=state))


def close_link(tx: Tx, station_id: str, link_id: int, *, at: datetime, reason: str) -> bool:
    """Store the end of a link; return False if a newer link keeps the station online."""
    tx.run(_CLOSE, (us_from(at), reason, link_id, station_id))
    return bool(tx.run(_OFFLINE, (str(LinkState.OFFLINE), station_id, link_id)))


_CLOSE = Hot(
    lambda insert: (
        update(_L)
        .values(parameters(_L, ("closed_at", "close_reason")))
        .where(_L.c.link_id == parameter(_L.c.link_id))
        .where(_L.c.station_id == parameter(_L.c.station_id))
        .where(_L.c.closed_at.is_(None))
    ),
    ("closed_at", "close_reason", "link_id", "station_id"),
)
_OFFLINE = Hot(
    lambda insert: (
        update(_S)
        .values(link_state=parameter(_S.c.link_state))
        .where(_S.c.station_id == parameter(_S.c.station_id))
        .where(_S.c.link_id == parameter(_S.c.link_id))
    ),
    ("link_state", "station_id", "link_id"),
)


def close_all_links(tx: Tx, *, at: datetime, reason: str) -> int:
    """Close every open link and return how many; for a start after a crash, in one process."""
    closed = tx.execute(
        update(_L).where(_L.c.closed_at.is_(None)).values(closed_at=at, close_reason=reason)
    ).rowcount
    tx.execute(
        update(_S).where(_S.c.link_state == LinkState.ONLINE).values(link_state=LinkState.OFFLINE)
    )
    return int(closed)


def newest_link_id(tx: Tx) -> int:
    """Return the highest id that a link was given so far, 0 before the first."""
    return int(tx.execute(select(func.max(_L.c.link_id))).scalar() or 0)


def list_links(tx: Tx, station_id: str, *, limit: int = 50) -> list[StationLink]:
    """Return a station's links, newest first."""
    columns = [_L.c[f.name] for f in fields(StationLink)]
    found = tx.execute(
        select(*columns)
        .where(_L.c.station_id == station_id)
        .order_by(_L.c.link_id.desc())
        .limit(limit)
    )
    return [StationLink(**row._mapping) for row in found]


def closed_by_us(tx: Tx, reasons: Collection[str], *, before: datetime) -> list[str]:
    """Return the stations that are away since their newest link was closed for one of `reasons`."""
    found = tx.execute(
        select(_S.c.station_id)
        .join(_L, _L.c.link_id == _S.c.link_id)
        .where(_S.c.link_state == LinkState.OFFLINE)
        .where(_L.c.close_reason.in_(reasons))
        .where(_L.c.closed_at < before)
        .order_by(_S.c.station_id)
    )
    return list(found.scalars())


def purge_links(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of links that were closed before `before`; return how many."""
    return purge(tx, _L, _L.c.closed_at < before)


# --- credentials ---------------------------------------------------------------------------------


def get_credential(tx: Tx, station_id: str) -> StationCredential:
    """Return a station's password hashes; raise UnknownStation."""
    row = tx.row(_CREDENTIAL, (station_id,))
    if row is None:
        raise UnknownStation(f"no station {station_id}")
    return StationCredential(
        credential_hash=row[0],
        pending_hashes=tuple(row[1].split("\n")) if row[1] else (),
    )


_CREDENTIAL = Hot(
    lambda insert: select(_S.c.credential_hash, _S.c.pending_hash).where(
        _S.c.station_id == parameter(_S.c.station_id)
    ),
    ("station_id",),
)


def set_credential(tx: Tx, station_id: str, credential_hash: str) -> None:
    """Put a password hash in force at once and drop a pending one; raise UnknownStation."""
    _set(tx, station_id, credential_hash=credential_hash, pending_hash="")


def add_pending_credential(tx: Tx, station_id: str, pending_hash: str) -> None:
    """Store the hash of a password before it is sent: until it is used, each of them works.

    Several can be pending, when the fate of one is unknown and the next is sent; the last few
    are kept. Raises UnknownStation.
    """
    pending = (*get_credential(tx, station_id).pending_hashes, pending_hash)
    _set(tx, station_id, pending_hash="\n".join(pending[-_PENDING:]))


def confirm_credential(tx: Tx, station_id: str, pending_hash: str) -> bool:
    """Put a pending hash in force; return False if it is not pending by now.

    What was sent after it stays pending: of that nothing was heard yet.
    """
    pending = get_credential(tx, station_id).pending_hashes
    if pending_hash not in pending:
        return False
    newer = pending[pending.index(pending_hash) + 1 :]
    _set(tx, station_id, credential_hash=pending_hash, pending_hash="\n".join(newer))
    return True


def drop_pending_credential(tx: Tx, station_id: str, pending_hash: str) -> None:
    """Forget a pending password that the station refused."""
    pending = get_credential(tx, station_id).pending_hashes
    _set(tx, station_id, pending_hash="\n".join(h for h in pending if h != pending_hash))


def _set(tx: Tx, station_id: str, **values: str) -> None:
    changed = tx.execute(update(_S).where(_S.c.station_id == station_id).values(**values))
    if not changed.rowcount:
        raise UnknownStation(f"no station {station_id}")


# --- unknown stations ----------------------------------------------------------------------------


def note_unknown_station(tx: Tx, station_id: str, *, remote_address: str, at: datetime) -> None:
    """Count an attempt of an unregistered station; the oldest leave an inbox of 100.

    An identity is the same in any case, as it is once it is registered: the first spelling stays.
    """
    known = tx.execute(select(_U.c.station_id).where(_is_unknown(station_id))).scalar()
    statement = tx.insert(_U).values(
        station_id=known or station_id,
        remote_address=remote_address,
        attempts=1,
        first_at=at,
        last_at=at,
    )
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["station_id"],
            set_={
                "attempts": _U.c.attempts + 1,
                "last_at": statement.excluded.last_at,
                "remote_address": statement.excluded.remote_address,
            },
        )
    )
    size = int(tx.execute(select(func.count()).select_from(_U)).scalar_one())
    if size > INBOX_SIZE:
        oldest = (
            select(_U.c.station_id).order_by(_U.c.last_at, _U.c.station_id).limit(size - INBOX_SIZE)
        )
        tx.execute(delete(_U).where(_U.c.station_id.in_(oldest)))


def list_unknown_stations(tx: Tx) -> list[UnknownStationSeen]:
    """Return the inbox, latest attempt first."""
    found = tx.execute(select(_U).order_by(_U.c.last_at.desc(), _U.c.station_id))
    return [UnknownStationSeen(**row._mapping) for row in found]


def forget_unknown_station(tx: Tx, station_id: str) -> bool:
    """Take a station out of the inbox; return whether it was in."""
    return bool(tx.execute(delete(_U).where(_is_unknown(station_id))).rowcount)


def _is_unknown(station_id: str) -> ColumnElement[bool]:
    return func.lower(_U.c.station_id) == station_id.lower()
