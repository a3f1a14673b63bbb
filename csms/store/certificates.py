"""Certificates of stations, the ones they trust, and the security events they report."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from csms.core.errors import NotFound
from csms.core.model import OcppVersion
from csms.core.security import CertificateInfo
from csms.store import security_tables as tables
from csms.store.purging import purge
from csms.store.statements import Tx

_C = tables.station_certificate
_I = tables.installed_certificate
_E = tables.security_event

STATION = "ChargingStationCertificate"
V2G = "V2GCertificate"
GOOD_STATES = ("accepted", "seen")
"""States of certificates that a station uses, as far as we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCertificate:
    """A station's own certificate.

    `state` is "signed", "accepted", "rejected", "unknown" (no answer), "seen" (shown by the
    station, not signed here) or "revoked". `chain` is PEM, "" for one that was only seen.
    """

    certificate_id: int
    station_id: str
    kind: str
    state: str
    common_name: str
    organisation: str
    issuer: str
    serial_number: str
    fingerprint: str
    valid_from: datetime
    valid_until: datetime
    request_digest: str
    chain: str
    at: datetime
    alarmed_at: datetime | None
    renewal_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledCertificate:
    """A certificate in a station's trust store, by the hashes OCPP names it with.

    `kind` is the 2.0.1 certificate use; `certificate` is the PEM where we know it; `children` are
    the serial numbers of a chain's other members. `installed_at` is when the station took it from
    us, `listed_at` when it last listed it.
    """

    kind: str
    hash_algorithm: str
    issuer_name_hash: str
    issuer_key_hash: str
    serial_number: str
    children: tuple[str, ...] = ()
    subject: str = ""
    certificate: str = ""
    valid_until: datetime | None = None
    installed_at: datetime | None = None
    listed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEvent:
    """A SecurityEventNotification; `at` is by the station's clock."""

    event_id: int
    station_id: str
    version: OcppVersion
    kind: str
    at: datetime
    received_at: datetime
    tech_info: str


_CERTIFICATE_COLUMNS = [_C.c[f.name] for f in fields(StationCertificate)]
_INSTALLED_COLUMNS = [_I.c[f.name] for f in fields(InstalledCertificate)]
_EVENT_COLUMNS = [_E.c[f.name] for f in fields(SecurityEvent)]

# --- certificates of stations --------------------------------------------------------------------


def add_signed(
    tx: Tx,
    station_id: str,
    described: CertificateInfo,
    *,
    kind: str,
    request_digest: str,
    chain: str,
    at: datetime,
) -> int:
    """Keep a certificate before it is sent, and return its id."""
    row = _row(station_id, described) | {
        "kind": kind,
        "state": "signed",
        "request_digest": request_digest,
        "chain": chain,
        "at": at,
    }
    return int(tx.execute(_C.insert().values(row).returning(_C.c.certificate_id)).scalar_one())


def note_seen(tx: Tx, station_id: str, described: CertificateInfo, *, at: datetime) -> None:
    """Keep a certificate that a station has shown; one signed here is known to be in use."""
    known = tx.execute(
        select(_C.c.certificate_id, _C.c.state).where(
            _C.c.station_id == station_id, _C.c.fingerprint == described.fingerprint
        )
    ).first()
    if known is None:
        row = _row(station_id, described) | {
            "kind": STATION,
            "state": "seen",
            "request_digest": "",
            "chain": "",
            "at": at,
        }
        tx.execute(_C.insert().values(row))
    elif known.state not in (*GOOD_STATES, "revoked"):
        set_state(tx, known.certificate_id, "accepted")


def set_state(tx: Tx, certificate_id: int, state: str) -> None:
    """Keep what became of a certificate; raise NotFound."""
    changed = tx.execute(
        update(_C).where(_C.c.certificate_id == certificate_id).values(state=state)
    ).rowcount
    if not changed:
        raise NotFound(f"no certificate {certificate_id}")


def get_certificate(tx: Tx, certificate_id: int) -> StationCertificate:
    """Return a certificate; raise NotFound."""
    row = tx.execute(
        select(*_CERTIFICATE_COLUMNS).where(_C.c.certificate_id == certificate_id)
    ).first()
    if row is None:
        raise NotFound(f"no certificate {certificate_id}")
    return StationCertificate(**row._mapping)


def list_certificates(tx: Tx, station_id: str) -> list[StationCertificate]:
    """Return a station's own certificates, newest first."""
    found = tx.execute(
        select(*_CERTIFICATE_COLUMNS)
        .where(_C.c.station_id == station_id)
        .order_by(_C.c.certificate_id.desc())
    )
    return [StationCertificate(**row._mapping) for row in found]


def of_request(tx: Tx, station_id: str, request_digest: str) -> StationCertificate | None:
    """Return the certificate that was signed for a request, None if there is none."""
    row = tx.execute(
        select(*_CERTIFICATE_COLUMNS)
        .where(_C.c.station_id == station_id, _C.c.request_digest == request_digest)
        .order_by(_C.c.certificate_id.desc())
    ).first()
    return None if row is None else StationCertificate(**row._mapping)


def signed_since(tx: Tx, station_id: str, since: datetime) -> int:
    """Return how many certificates were signed for a station since an instant."""
    return int(
        tx.execute(
            select(func.count())
            .select_from(_C)
            .where(_C.c.station_id == station_id, _C.c.at >= since, _C.c.state != "seen")
        ).scalar_one()
    )


def is_revoked(tx: Tx, fingerprint: str) -> bool:
    """Return whether a certificate was revoked."""
    found = tx.execute(
        select(_C.c.certificate_id).where(_C.c.fingerprint == fingerprint, _C.c.state == "revoked")
    ).first()
    return found is not None


def is_of_other(tx: Tx, fingerprint: str, station_id: str) -> bool:
    """Return whether a certificate was signed here for another station than this one."""
    found = tx.execute(
        select(_C.c.certificate_id).where(
            _C.c.fingerprint == fingerprint,
            _C.c.station_id != station_id,
            _C.c.request_digest != "",
        )
    ).first()
    return found is not None


def expiring(tx: Tx, before: datetime) -> list[StationCertificate]:
    """Return the newest certificate of each station and kind in use that ends before an instant."""
    found = tx.execute(
        select(*_CERTIFICATE_COLUMNS)
        .where(_C.c.state.in_(GOOD_STATES))
        .order_by(_C.c.station_id, _C.c.kind, _C.c.valid_until.desc())
    )
    newest: dict[tuple[str, str], StationCertificate] = {}
    for row in found:
        kept = StationCertificate(**row._mapping)
        newest.setdefault((kept.station_id, kept.kind), kept)
    return [c for c in newest.values() if c.valid_until < before]


def note_alarm(tx: Tx, certificate_id: int, at: datetime) -> None:
    """Remember that an operator was told of a certificate's end."""
    tx.execute(update(_C).where(_C.c.certificate_id == certificate_id).values(alarmed_at=at))


def note_renewal(tx: Tx, certificate_id: int, at: datetime) -> None:
    """Remember when a station was asked to renew a certificate."""
    tx.execute(update(_C).where(_C.c.certificate_id == certificate_id).values(renewal_at=at))


def _row(station_id: str, described: CertificateInfo) -> dict[str, object]:
    return {"station_id": station_id, **asdict(described)}


# --- what stations trust -------------------------------------------------------------------------


def put_installed(tx: Tx, station_id: str, installed: InstalledCertificate) -> None:
    """Keep a certificate that a station has installed."""
    tx.upsert(
        _I,
        [
            "station_id",
            "kind",
            "hash_algorithm",
            "issuer_name_hash",
            "issuer_key_hash",
            "serial_number",
        ],
        {"station_id": station_id, **asdict(installed)},
    )


def list_installed(tx: Tx, station_id: str) -> list[InstalledCertificate]:
    """Return what a station trusts, by kind and serial number."""
    found = tx.execute(
        select(*_INSTALLED_COLUMNS)
        .where(_I.c.station_id == station_id)
        .order_by(_I.c.kind, _I.c.serial_number, _I.c.hash_algorithm)
    )
    return [InstalledCertificate(**row._mapping) for row in found]


def replace_installed(
    tx: Tx, station_id: str, kinds: Sequence[str], listed: Iterable[InstalledCertificate]
) -> None:
    """Keep what a station lists, in place of everything known of `kinds` (empty: of all)."""
    tx.execute(delete(_I).where(_of_kinds(station_id, kinds)))
    for installed in listed:
        put_installed(tx, station_id, installed)


def drop_installed(
    tx: Tx, station_id: str, *, issuer_key_hash: str, issuer_name_hash: str, serial_number: str
) -> int:
    """Forget a certificate that a station has deleted; return how many rows named it."""
    return int(
        tx.execute(
            delete(_I).where(
                _I.c.station_id == station_id,
                _I.c.issuer_key_hash == issuer_key_hash,
                _I.c.issuer_name_hash == issuer_name_hash,
                _I.c.serial_number == serial_number,
            )
        ).rowcount
    )


def _of_kinds(station_id: str, kinds: Sequence[str]) -> ColumnElement[bool]:
    mine = _I.c.station_id == station_id
    return and_(mine, _I.c.kind.in_(kinds)) if kinds else mine


# --- security events -----------------------------------------------------------------------------


def add_security_event(
    tx: Tx,
    station_id: str,
    *,
    version: OcppVersion,
    kind: str,
    at: datetime,
    received_at: datetime,
    tech_info: str,
) -> bool:
    """Keep what a station reports of its security; False if it was reported before."""
    same = and_(
        _E.c.station_id == station_id,
        _E.c.kind == kind,
        _E.c.at == at,
        _E.c.tech_info == tech_info,
    )
    if tx.execute(select(_E.c.event_id).where(same)).first() is not None:
        return False
    row = {
        "station_id": station_id,
        "version": version,
        "kind": kind,
        "at": at,
        "received_at": received_at,
        "tech_info": tech_info,
    }
    tx.execute(_E.insert(), [row])
    return True


def list_security_events(
    tx: Tx, *, station_id: str = "", before: datetime | None = None, limit: int = 50
) -> list[SecurityEvent]:
    """Return security events in the order of the stations' own times, newest first."""
    statement = select(*_EVENT_COLUMNS).order_by(_E.c.at.desc(), _E.c.event_id.desc()).limit(limit)
    if station_id:
        statement = statement.where(_E.c.station_id == station_id)
    if before is not None:
        statement = statement.where(_E.c.at < before)
    return [SecurityEvent(**row._mapping) for row in tx.execute(statement)]


def purge_security_events(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of security events received before `before`; return how many."""
    return purge(tx, _E, _E.c.received_at < before)
