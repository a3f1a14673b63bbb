"""Terms of sessions, abilities of stations, tariffs and limits given (OCPP 2.1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from csms.core.tariff import Tariff
from csms.core.terms import Abilities, Terms, TransactionLimit, limit_from
from csms.store.statements import Tx
from csms.store.terms_tables import session_terms as _S
from csms.store.terms_tables import start_limit as _L
from csms.store.terms_tables import station_ability as _A
from csms.store.terms_tables import tariff_given as _T

_LIMITS = ("limit", "limit_sent", "station_limit")
_PLAIN = {f.name for f in fields(Terms)} - {"session_id", "is_prioritised", "limit_sent_at"}


def find(tx: Tx, session_id: str) -> Terms | None:
    """Return a session's terms, None where nothing was said."""
    row = tx.execute(
        select(_S.c.is_prioritised, _S.c.terms).where(_S.c.session_id == session_id)
    ).first()
    if row is None:
        return None
    stored: Mapping[str, Any] = row.terms
    values = {name: value for name, value in stored.items() if name in _PLAIN}
    for name in _LIMITS:
        values[name] = limit_from(values.get(name))
    values["allowed_modes"] = tuple(values.get("allowed_modes", ()))
    sent = stored.get("limit_sent_at")
    return Terms(
        session_id=session_id,
        is_prioritised=row.is_prioritised,
        limit_sent_at=None if sent is None else datetime.fromisoformat(str(sent)),
        **values,
    )


def save(tx: Tx, terms: Terms) -> None:
    """Store a session's terms."""
    values = asdict(terms)
    sent = values.pop("limit_sent_at")
    values = {name: value for name, value in values.items() if name in _PLAIN}
    values["limit_sent_at"] = None if sent is None else sent.isoformat()
    tx.upsert(
        _S,
        ["session_id"],
        {
            "session_id": terms.session_id,
            "is_prioritised": terms.is_prioritised,
            "terms": values,
        },
    )


def prioritised(tx: Tx, session_ids: Iterable[str]) -> frozenset[str]:
    """Return which of the sessions charge at full power whatever the plan."""
    wanted = list(session_ids)
    if not wanted:
        return frozenset()
    found = tx.execute(
        select(_S.c.session_id).where(_S.c.session_id.in_(wanted), _S.c.is_prioritised.is_(True))
    )
    return frozenset(row.session_id for row in found)


def keep_abilities(tx: Tx, station_id: str, found: Abilities, *, at: datetime) -> None:
    """Store what a station says that it can do."""
    told = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(found).items()
    }
    values = {"station_id": station_id, "told": told, "told_at": at}
    tx.upsert(_A, ["station_id"], values)


def abilities(tx: Tx, station_id: str) -> Abilities:
    """Return what a station said that it can do, the defaults where it said nothing."""
    row = tx.execute(select(_A.c.told).where(_A.c.station_id == station_id)).first()
    if row is None:
        return Abilities()
    known = {f.name for f in fields(Abilities)}
    values: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, list) else value
        for name, value in row.told.items()
        if name in known
    }
    return Abilities(**values)


def keep_tariff(tx: Tx, tariff: Tariff, *, at: datetime) -> None:
    """Store a tariff that a station is given; its id stands for its content."""
    values = {"tariff_id": tariff["tariffId"], "content": dict(tariff), "given_at": at}
    tx.upsert(_T, ["tariff_id"], values)


def tariffs(tx: Tx, tariff_ids: Sequence[str]) -> dict[str, Tariff]:
    """Return those of the tariffs that were given, by id."""
    if not tariff_ids:
        return {}
    found = tx.execute(
        select(_T.c.tariff_id, _T.c.content).where(_T.c.tariff_id.in_(list(tariff_ids)))
    )
    return {row.tariff_id: row.content for row in found}


def set_start_limit(tx: Tx, id_token: str, limit: TransactionLimit | None, *, at: datetime) -> None:
    """Let a limit hold for transactions begun with an id token; None takes it away."""
    if limit is None:
        tx.execute(delete(_L).where(_L.c.id_token == id_token.upper()))
        return
    values = {"id_token": id_token.upper(), "limits": asdict(limit), "set_at": at}
    tx.upsert(_L, ["id_token"], values)


def start_limit(tx: Tx, id_token: str) -> TransactionLimit | None:
    """Return the limit for transactions begun with an id token, None where there is none."""
    row = tx.execute(select(_L.c.limits).where(_L.c.id_token == id_token.upper())).first()
    return None if row is None else limit_from(row.limits)
