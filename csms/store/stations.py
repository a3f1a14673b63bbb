"""Sites, stations, EVSEs and the configuration a station was read to have.

A station's id is unique without regard to case and is found in any; its registered spelling is
the one that counts everywhere else.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, literal_column, or_, select, update

from csms.core.errors import Conflict, NotFound, UnknownSite, UnknownStation
from csms.core.messages import StationBooted, StatusChanged
from csms.core.model import Evse, LinkState, OcppVersion, Site, Station, StationLimits
from csms.store import tables
from csms.store.columns import at_or_none, json_text, us_from, us_or_none
from csms.store.lookup import Lookup
from csms.store.statements import Hot, Row, Tx, parameter, parameters, upsert

_SITE = tables.site
_CONFIGURED = tables.site_configuration
_S = tables.station
_E = tables.evse

_STATION_NAMES = tuple(f.name for f in fields(Station))
_STATION_COLUMNS = [_S.c[name] for name in _STATION_NAMES]
_EVSE_NAMES = tuple(f.name for f in fields(Evse))
_EVSE_COLUMNS = [_E.c[name] for name in _EVSE_NAMES]


# --- sites ---------------------------------------------------------------------------------------


_SITE_DEFAULTS = json.loads(json_text(asdict(Site(site_id="", limit_kw=0.0))))


def upsert_site(tx: Tx, site: Site) -> None:
    """Store a site, replacing what was stored under its id."""
    tx.upsert(_SITE, ["site_id"], asdict(site))


def configure_site(tx: Tx, site: Site) -> bool:
    """Store a site as configured, unless it was configured just so before; return whether it was.

    What an operator changed since (a limit lowered in an emergency, say) outlives a restart, until
    the configuration itself says something new.
    """
    configured: dict[str, object] = json.loads(json_text(asdict(site)))
    known = tx.execute(
        select(_CONFIGURED.c.configured).where(_CONFIGURED.c.site_id == site.site_id)
    ).scalar()
    if known is not None:
        # What a later version may say of a site was not said before: it had its default. What it
        # cannot say any more makes no difference.
        said = {**_SITE_DEFAULTS, **json.loads(known)}
        if configured == {name: said[name] for name in configured}:
            return False
    upsert_site(tx, site)
    values = {"site_id": site.site_id, "configured": json_text(configured)}
    tx.upsert(_CONFIGURED, ["site_id"], values)
    return True


_BY_SITE = Lookup(Site, list(_SITE.c), by=[_SITE.c.site_id])


def get_site(tx: Tx, site_id: str) -> Site:
    """Return a site; raise UnknownSite."""
    found = _BY_SITE.first(tx, site_id)
    if found is None:
        raise UnknownSite(f"no site {site_id}")
    return found


def list_sites(tx: Tx) -> list[Site]:
    """Return all sites by id."""
    return [Site(**row._mapping) for row in tx.execute(select(_SITE).order_by(_SITE.c.site_id))]


# --- stations ------------------------------------------------------------------------------------


def register_station(tx: Tx, station: Station, *, credential_hash: str = "") -> None:
    """Add a station; raise Conflict if its id exists in any case, UnknownSite for its site."""
    known = find_station(tx, station.station_id)
    if known is not None:
        raise Conflict(f"station {known.station_id} exists")
    get_site(tx, station.site_id)
    values = {name: getattr(station, name) for name in Station.__dataclass_fields__}
    values["limits"] = asdict(station.limits)
    tx.execute(
        _S.insert(),
        [
            {
                **values,
                "station_fold": station.station_id.casefold(),
                "credential_hash": credential_hash,
                "pending_hash": "",
                "boot_payload": "",
            }
        ],
    )


_BY_FOLD = Hot(
    lambda insert: select(*_STATION_COLUMNS).where(
        _S.c.station_fold == parameter(_S.c.station_fold)
    ),
    ("station_fold",),
)


def find_station(tx: Tx, station_id: str) -> Station | None:
    """Return the station whose id is `station_id` in any case, None if there is none."""
    row = tx.row(_BY_FOLD, (station_id.casefold(),))
    return None if row is None else _station_of(row)


def _station_of(row: Row) -> Station:
    """Return a station from its row as it is stored."""
    values = dict(zip(_STATION_NAMES, row, strict=True))
    version = values["version"]
    values["version"] = None if version is None else OcppVersion(version)
    for name in ("linked_at", "last_seen_at", "booted_at"):
        values[name] = at_or_none(values[name])
    for name in ("automation", "uid_byte_order_reversed"):
        values[name] = bool(values[name])
    return _with_limits(values, json.loads(values["limits"]))


def get_station(tx: Tx, station_id: str) -> Station:
    """Return a station, its id in any case; raise UnknownStation."""
    found = find_station(tx, station_id)
    if found is None:
        raise UnknownStation(f"no station {station_id}")
    return found


def list_stations(tx: Tx, *, site_id: str = "") -> list[Station]:
    """Return all stations, or those of a site, by id."""
    statement = select(*_STATION_COLUMNS).order_by(_S.c.station_id)
    if site_id:
        statement = statement.where(_S.c.site_id == site_id)
    return [_station_from(row) for row in tx.execute(statement)]


def stations_of_model(tx: Tx, vendor: str, model: str) -> list[Station]:
    """Return the stations that booted as this model, by id."""
    of_model = (_S.c.vendor == vendor, _S.c.model == model)
    found = tx.execute(select(*_STATION_COLUMNS).where(*of_model).order_by(_S.c.station_id))
    return [_station_from(row) for row in found]


def boot(tx: Tx, report: StationBooted, *, before: Station | None = None) -> Station:
    """Store how a station introduced itself and return it as it is now; raise UnknownStation.

    `before` is the station as it was, where the caller has read it.
    """
    at_us = us_from(report.received_at)
    values = (
        str(report.version),
        report.vendor,
        report.model,
        report.serial_number,
        report.firmware_version,
        at_us,
        at_us,
        report.payload,
        report.station_id,
    )
    if not tx.run(_BOOT, values):
        raise UnknownStation(f"no station {report.station_id}")
    return replace(
        before or get_station(tx, report.station_id),
        version=report.version,
        vendor=report.vendor,
        model=report.model,
        serial_number=report.serial_number,
        firmware_version=report.firmware_version,
        booted_at=report.received_at,
        last_seen_at=report.received_at,
    )


_TOLD_AT_BOOT = (
    "version",
    "vendor",
    "model",
    "serial_number",
    "firmware_version",
    "booted_at",
    "last_seen_at",
    "boot_payload",
)
_BOOT = Hot(
    lambda insert: (
        update(_S)
        .values(parameters(_S, _TOLD_AT_BOOT))
        .where(_S.c.station_id == parameter(_S.c.station_id))
    ),
    (*_TOLD_AT_BOOT, "station_id"),
)
_SEEN = Hot(
    lambda insert: (
        update(_S)
        .values(last_seen_at=parameter(_S.c.last_seen_at))
        .where(_S.c.station_id == parameter(_S.c.station_id))
    ),
    ("last_seen_at", "station_id"),
)


def seen(tx: Tx, station_id: str, at: datetime) -> None:
    """Note that a station gave a sign of life; an unknown one is ignored."""
    tx.run(_SEEN, (us_from(at), station_id))


def set_registration(tx: Tx, station_id: str, registration: str) -> None:
    """Set what a boot is answered: "Accepted", "Pending" or "Rejected"."""
    _change(tx, station_id, registration=registration)


def raise_profile(tx: Tx, station_id: str, profile: int) -> None:
    """Put a higher security profile in force; what was asked for is done with it."""
    _change(tx, station_id, security_profile=profile, asked_profile=0)


def ask_profile(tx: Tx, station_id: str, profile: int) -> None:
    """Note which security profile a station has been told to use next."""
    _change(tx, station_id, asked_profile=profile)


def set_automation(tx: Tx, station_id: str, *, automation: bool) -> None:
    """Switch hands-off: without automation nothing is sent that nobody asked for."""
    _change(tx, station_id, automation=automation)


def set_dynamic(tx: Tx, station_id: str, *, every_s: int) -> None:
    """Store how often a station asks for the limit of a dynamic profile, 0 for whole schedules."""
    station = get_station(tx, station_id)
    set_limits(tx, station.station_id, replace(station.limits, dynamic_s=every_s))


def set_limits(tx: Tx, station_id: str, limits: StationLimits) -> None:
    """Store which schedules a station can take."""
    _change(tx, station_id, limits=asdict(limits))


def set_details(
    tx: Tx,
    station_id: str,
    *,
    name: str | None = None,
    site_id: str | None = None,
    heartbeat_interval_s: int | None = None,
    security_profile: int | None = None,
    serial_number: str | None = None,
    uid_byte_order_reversed: bool | None = None,
) -> Station:
    """Change what an operator sets, leaving out what is None; return the station."""
    given = {
        "name": name,
        "site_id": site_id,
        "heartbeat_interval_s": heartbeat_interval_s,
        "security_profile": security_profile,
        "serial_number": serial_number,
        "uid_byte_order_reversed": uid_byte_order_reversed,
    }
    values = {key: value for key, value in given.items() if value is not None}
    if site_id is not None:
        get_site(tx, site_id)
    if values:
        _change(tx, station_id, **values)
    return get_station(tx, station_id)


_SITE_OF = Hot(
    lambda insert: select(_S.c.site_id).where(_S.c.station_id == parameter(_S.c.station_id)),
    ("station_id",),
)


def site_of_station(tx: Tx, station_id: str) -> Site:
    """Return the site a station belongs to; raise UnknownStation."""
    row = tx.row(_SITE_OF, (station_id,))
    if row is None:
        raise UnknownStation(f"no station {station_id}")
    return get_site(tx, row[0])


def site_id_of_station(tx: Tx, station_id: str) -> str:
    """Return the id of a station's site, "" for an unknown station."""
    row = tx.row(_SITE_OF, (station_id,))
    return "" if row is None else str(row[0])


def others_named(tx: Tx, name: str, *, than: str) -> list[str]:
    """Return the stations other than `than` that have `name` as identity or serial number."""
    if not name:
        return []
    folded = name.lower()
    found = tx.execute(
        select(_S.c.station_id).where(
            _S.c.station_id != than,
            or_(func.lower(_S.c.station_id) == folded, func.lower(_S.c.serial_number) == folded),
        )
    )
    return [str(row.station_id) for row in found]


def _change(tx: Tx, station_id: str, **values: Any) -> None:
    changed = tx.execute(update(_S).where(_S.c.station_id == station_id).values(**values))
    if not changed.rowcount:
        raise UnknownStation(f"no station {station_id}")


def _station_from(row: Any) -> Station:
    values = dict(row._mapping)
    return _with_limits(values, values["limits"])


def _with_limits(values: dict[str, Any], limits: Mapping[str, Any]) -> Station:
    # A newer version may have stored more than this one knows.
    known = {k: v for k, v in limits.items() if k in StationLimits.__dataclass_fields__}
    if "units" in known:
        known["units"] = tuple(known["units"])
    values["link_state"] = LinkState(values["link_state"])
    values["limits"] = StationLimits(**known)
    return Station(**values)


# --- EVSEs ---------------------------------------------------------------------------------------


_STATUS_AT = _EVSE_NAMES.index("status_at")
_UPSERT_EVSE = Hot(
    lambda insert: upsert(insert, _E, ("station_id", "evse_id"), _EVSE_NAMES), _EVSE_NAMES
)


def upsert_evse(tx: Tx, evse: Evse) -> None:
    """Store an EVSE, replacing what was stored under its id."""
    values = [getattr(evse, name) for name in _EVSE_NAMES]
    values[_STATUS_AT] = us_or_none(evse.status_at)
    tx.run(_UPSERT_EVSE, values)


_EVSE = Hot(
    lambda insert: select(*_EVSE_COLUMNS).where(
        _E.c.station_id == parameter(_E.c.station_id), _E.c.evse_id == parameter(_E.c.evse_id)
    ),
    ("station_id", "evse_id"),
)
_OF_STATION = Hot(
    lambda insert: (
        select(*_EVSE_COLUMNS)
        .where(_E.c.station_id == parameter(_E.c.station_id), _E.c.evse_id > literal_column("0"))
        .order_by(_E.c.evse_id)
    ),
    ("station_id",),
)
_OF_SITE = Hot(
    lambda insert: (
        select(*_EVSE_COLUMNS)
        .join(_S, _S.c.station_id == _E.c.station_id)
        .where(_S.c.site_id == parameter(_S.c.site_id), _E.c.evse_id > literal_column("0"))
        .order_by(_E.c.station_id, _E.c.evse_id)
    ),
    ("site_id",),
)


def _evse_of(row: Row) -> Evse:
    values = dict(zip(_EVSE_NAMES, row, strict=True))
    values["status_at"] = at_or_none(values["status_at"])
    return Evse(**values)


def get_evse(tx: Tx, station_id: str, evse_id: int) -> Evse | None:
    """Return an EVSE, None while it was never seen."""
    row = tx.row(_EVSE, (station_id, evse_id))
    return None if row is None else _evse_of(row)


def evses_of_station(tx: Tx, station_id: str) -> list[Evse]:
    """Return a station's EVSEs by number, without EVSE 0, which is the station itself."""
    return [_evse_of(row) for row in tx.rows(_OF_STATION, (station_id,))]


def evses_of_site(tx: Tx, site_id: str) -> list[Evse]:
    """Return all EVSEs of a site by station and number, without any EVSE 0."""
    return [_evse_of(row) for row in tx.rows(_OF_SITE, (site_id,))]


class EvseRating(NamedTuple):
    """What of an EVSE its guard depends on."""

    station_id: str
    evse_id: int
    max_kw: float
    phases: int
    current_type: str

    def evse(self) -> Evse:
        """Return the EVSE without its states."""
        return Evse(
            station_id=self.station_id,
            evse_id=self.evse_id,
            max_kw=self.max_kw,
            phases=self.phases,
            current_type=self.current_type,
        )


_RATINGS = Hot(
    lambda insert: (
        select(*(_E.c[name] for name in EvseRating._fields))
        .join(_S, _S.c.station_id == _E.c.station_id)
        .where(_S.c.site_id == parameter(_S.c.site_id), _E.c.evse_id > literal_column("0"))
        .order_by(_E.c.station_id, _E.c.evse_id)
    ),
    ("site_id",),
)


def ratings_of_site(tx: Tx, site_id: str) -> list[EvseRating]:
    """Return what the guards of all EVSEs of a site depend on, ordered as the EVSEs are."""
    return [EvseRating(*row) for row in tx.rows(_RATINGS, (site_id,))]


_GUARDED = Hot(
    lambda insert: (
        select(_E.c.station_id, _E.c.evse_id, _E.c.guard_kw)
        .join(_S, _S.c.station_id == _E.c.station_id)
        .where(_S.c.site_id == parameter(_S.c.site_id), _E.c.guard_kw.is_not(None))
    ),
    ("site_id",),
)


def guards_of_site(tx: Tx, site_id: str) -> dict[tuple[str, int], float]:
    """Return the guards in force at a site, by station and EVSE."""
    return {(row[0], row[1]): row[2] for row in tx.rows(_GUARDED, (site_id,))}


def set_status(tx: Tx, report: StatusChanged, *, default: Evse) -> Evse:
    """Store an EVSE's status and return it; one never seen is made like `default`.

    The last one received counts, whatever its time: one message from a clock that ran ahead would
    otherwise hide every later status.
    """
    known = get_evse(tx, report.station_id, report.evse_id)
    base = asdict(known or default)
    evse = Evse(
        **{
            **base,
            "station_id": report.station_id,
            "evse_id": report.evse_id,
            "status": report.status,
            "status_at": report.at,
            "error_code": report.error_code,
        }
    )
    upsert_evse(tx, evse)
    return evse


_GUARD = Hot(
    lambda insert: (
        update(_E)
        .values(guard_kw=parameter(_E.c.guard_kw))
        .where(_E.c.station_id == parameter(_E.c.station_id))
        .where(_E.c.evse_id == parameter(_E.c.evse_id))
    ),
    ("guard_kw", "station_id", "evse_id"),
)


def set_guard_kw(tx: Tx, station_id: str, evse_id: int, guard_kw: float | None) -> None:
    """Store the limit a station holds without us; raise NotFound for an unknown EVSE."""
    if not tx.run(_GUARD, (guard_kw, station_id, evse_id)):
        raise NotFound(f"station {station_id} has no EVSE {evse_id}")
