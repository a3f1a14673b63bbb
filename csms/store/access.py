"""Who may use the API, which decisions were taken on tokens, and what an API call answered."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import select, update

from csms.core.errors import NotFound
from csms.core.model import Assurance, AuthorizationStatus
from csms.store import tables
from csms.store.columns import us_from
from csms.store.pages import Page, newest_first
from csms.store.purging import purge
from csms.store.statements import Hot, Tx, parameters

_T = tables.api_token
_D = tables.decision
_K = tables.idempotency_key

DECISIONS_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """An API token without its secret; `prefix` is for people to recognise it by."""

    token_id: int
    prefix: str
    role: str
    label: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision on a presented token; `token_hint` is never the whole of it."""

    at: datetime
    station_id: str
    token_hint: str
    holder_did: str = ""
    status: AuthorizationStatus
    reason: str
    assurance: Assurance = Assurance.A0
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """What an API call with an idempotency key was answered."""

    request_hash: str
    status_code: int
    response: str
    at: datetime


# --- API tokens ----------------------------------------------------------------------------------

_TOKEN_COLUMNS = [_T.c[f.name] for f in fields(ApiToken)]


def add_api_token(tx: Tx, *, hash_: str, prefix: str, role: str, label: str, at: datetime) -> int:
    """Store a token by the SHA-256 of its secret and return its id."""
    statement = _T.insert().values(hash=hash_, prefix=prefix, role=role, label=label, created_at=at)
    return int(tx.execute(statement.returning(_T.c.token_id)).scalar_one())


def find_api_token(tx: Tx, hash_: str) -> ApiToken | None:
    """Return the token whose secret has this SHA-256; a revoked one is not found."""
    row = tx.execute(
        select(*_TOKEN_COLUMNS).where(_T.c.hash == hash_, _T.c.revoked_at.is_(None))
    ).first()
    return None if row is None else ApiToken(**row._mapping)


def list_api_tokens(tx: Tx) -> list[ApiToken]:
    """Return all tokens, revoked ones too, by id."""
    found = tx.execute(select(*_TOKEN_COLUMNS).order_by(_T.c.token_id))
    return [ApiToken(**row._mapping) for row in found]


def note_api_token_use(tx: Tx, token_id: int, at: datetime) -> None:
    """Store when a token was used last."""
    tx.execute(update(_T).where(_T.c.token_id == token_id).values(last_used_at=at))


def revoke_api_token(tx: Tx, token_id: int, at: datetime) -> None:
    """Revoke a token for good; raise NotFound if there is none in force."""
    changed = tx.execute(
        update(_T).where(_T.c.token_id == token_id, _T.c.revoked_at.is_(None)).values(revoked_at=at)
    ).rowcount
    if not changed:
        raise NotFound(f"no API token {token_id} in force")


# --- decisions -----------------------------------------------------------------------------------

_DECISION = tuple(f.name for f in fields(Decision))
_ADD_DECISION = Hot(lambda insert: insert(_D).values(parameters(_D, _DECISION)), _DECISION)


def add_decision(tx: Tx, decision: Decision) -> None:
    """Append a decision to the log."""
    tx.run(
        _ADD_DECISION,
        (
            us_from(decision.at),
            decision.station_id,
            decision.token_hint,
            decision.holder_did,
            decision.status,
            decision.reason,
            decision.assurance,
            decision.priority,
        ),
    )


def list_decisions(
    tx: Tx,
    *,
    station_id: str = "",
    status: AuthorizationStatus | None = None,
    limit: int = 50,
    cursor: str = "",
) -> Page[Decision]:
    """Return decisions, newest first."""
    filters = []
    if station_id:
        filters.append(_D.c.station_id == station_id)
    if status is not None:
        filters.append(_D.c.status == status)
    page = newest_first(
        tx,
        select(_D.c.decision_id, *(_D.c[name] for name in _DECISION)),
        key=_D.c.decision_id,
        filters=filters,
        limit=limit,
        cursor=cursor,
    )
    found = tuple(Decision(**{name: row._mapping[name] for name in _DECISION}) for row in page.rows)
    return Page(items=found, total=page.total, cursor=page.cursor)


def purge_decisions(tx: Tx, *, now: datetime) -> int:
    """Delete a batch of decisions older than 30 days, personal data; return how many."""
    return purge(tx, _D, _D.c.at < now - DECISIONS_KEPT)


# --- idempotency keys ----------------------------------------------------------------------------


def find_response(tx: Tx, key: str) -> KeptResponse | None:
    """Return what the call with this key was answered; `key` holds the caller as well."""
    columns = [_K.c[f.name] for f in fields(KeptResponse)]
    row = tx.execute(select(*columns).where(_K.c.key == key)).first()
    return None if row is None else KeptResponse(**row._mapping)


def keep_response(tx: Tx, key: str, response: KeptResponse) -> bool:
    """Keep the answer to a call; return False if the key has one already, which stays."""
    statement = (
        tx.insert(_K)
        .values(
            key=key,
            request_hash=response.request_hash,
            status_code=response.status_code,
            response=response.response,
            at=response.at,
        )
        .on_conflict_do_nothing(index_elements=["key"])
        .returning(_K.c.key)
    )
    return tx.execute(statement).first() is not None


def purge_responses(tx: Tx, *, before: datetime) -> int:
    """Forget a batch of answers older than `before`; return how many."""
    return purge(tx, _K, _K.c.at < before)
