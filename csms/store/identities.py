"""Holders, the tokens that stand for them, their credentials and vehicles.

Whatever changes who may charge is counted, so that what is made of all of them (local lists) is
made anew only then. Using up a one-time token is not: it is on no list.
"""

from dataclasses import asdict, fields, replace
from datetime import datetime

from sqlalchemy import delete, select, update

from csms.core.errors import NotFound
from csms.core.model import Credential, Holder, TokenRecord, Vehicle
from csms.store import allowances, plan_tables, tables
from csms.store.columns import us_from
from csms.store.lookup import Lookup
from csms.store.statements import Hot, Tx, parameter

_H = tables.holder
_T = tables.token
_C = tables.credential
_V = tables.vehicle
_N = tables.counter
_CHANGES = "identities"

_HOLDER_FIELDS = tuple(f.name for f in fields(Holder) if f.name != "credentials")
_TOKEN_COLUMNS = [_T.c[f.name] for f in fields(TokenRecord)]
_CREDENTIAL_COLUMNS = [_C.c[f.name] for f in fields(Credential)]
_VEHICLE_COLUMNS = [_V.c[f.name] for f in fields(Vehicle)]

_HOLDER_COLUMNS = [_H.c[name] for name in _HOLDER_FIELDS]
_BY_DID = Lookup(Holder, _HOLDER_COLUMNS, by=[_H.c.did])
_BY_FOLDED_DID = Lookup(Holder, _HOLDER_COLUMNS, by=[_H.c.did_fold])
_TOKEN = Lookup(TokenRecord, _TOKEN_COLUMNS, by=[_T.c.kind, _T.c.value])
_TOKENS_OF_VALUE = Lookup(TokenRecord, _TOKEN_COLUMNS, by=[_T.c.value])
_CREDENTIALS_OF = Lookup(
    Credential,
    _CREDENTIAL_COLUMNS,
    by=[_C.c.subject],
    narrow=lambda found: found.order_by(_C.c.credential_id),
)

_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold_did(did: str) -> str:
    """Return `did` with its ASCII letters in lower case, as two DIDs may not be equal in."""
    return did.translate(_TO_LOWER)


# --- changes -------------------------------------------------------------------------------------


def changes(tx: Tx) -> int:
    """Return how often who may charge was changed."""
    found = tx.execute(select(_N.c.value).where(_N.c.name == _CHANGES)).scalar()
    return 0 if found is None else int(found)


def count_change(tx: Tx) -> None:
    """Count that who may charge has changed."""
    statement = tx.insert(_N).values(name=_CHANGES, value=1)
    tx.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": _N.c.value + 1})
    )


# --- holders -------------------------------------------------------------------------------------


def upsert_holder(tx: Tx, holder: Holder) -> None:
    """Store a holder, replacing all but its credentials, which have rows of their own.

    Raises an integrity error if another holder's DID differs from this one only in case: a wire
    that ignores case could not tell the two apart.
    """
    values = {name: getattr(holder, name) for name in _HOLDER_FIELDS}
    tx.upsert(_H, ["did"], {**values, "did_fold": fold_did(holder.did)})
    count_change(tx)


def get_holder(tx: Tx, did: str) -> Holder:
    """Return a holder with the credentials about it; raise NotFound."""
    found = holder_of_did(tx, did)
    if found is None:
        raise NotFound(f"no holder {did}")
    return found


def holder_of_did(tx: Tx, did: str) -> Holder | None:
    """Return the holder of a DID with the credentials about it, None if there is none.

    The DID counts by case; a wire that folded it can be asked with `holder_of_folded_did`.
    """
    return _with_credentials(tx, _BY_DID.first(tx, did))


def holder_of_folded_did(tx: Tx, did: str) -> Holder | None:
    """Return the holder whose DID equals `did` without regard to ASCII case."""
    return _with_credentials(tx, _BY_FOLDED_DID.first(tx, fold_did(did)))


def list_holders(tx: Tx, *, limit: int = 10_000) -> list[Holder]:
    """Return the holders by DID, each with its credentials."""
    found = tx.execute(select(*_HOLDER_COLUMNS).order_by(_H.c.did).limit(limit))
    holders = [Holder(**row._mapping) for row in found]
    of_subject: dict[str, list[Credential]] = {}
    for credential in list_credentials(tx):
        of_subject.setdefault(credential.subject, []).append(credential)
    return [replace(h, credentials=tuple(of_subject.get(h.did, ()))) for h in holders]


def list_dids(tx: Tx) -> list[str]:
    """Return the DIDs of all holders."""
    return list(tx.execute(select(_H.c.did).order_by(_H.c.did)).scalars())


def delete_holder(tx: Tx, did: str) -> None:
    """Erase a holder with its tokens, credentials and planned trips; raise NotFound.

    Sessions stay, without the holder: energy totals outlive the person's data.
    """
    if not tx.execute(delete(_H).where(_H.c.did == did)).rowcount:
        raise NotFound(f"no holder {did}")
    count_change(tx)
    tx.execute(delete(_T).where(_T.c.did == did))
    allowances.forget_holder(tx, did)
    tx.execute(delete(_C).where(_C.c.subject == did))
    for kept in (plan_tables.trip, plan_tables.offer):
        tx.execute(delete(kept).where(kept.c.holder_did == did))
    tx.execute(update(_V).where(_V.c.owner_did == did).values(owner_did=""))
    tx.memory.clear()
    for table in (tables.session, tables.decision):
        tx.execute(update(table).where(table.c.holder_did == did).values(holder_did=""))


def _with_credentials(tx: Tx, holder: Holder | None) -> Holder | None:
    if holder is None:
        return None
    return replace(holder, credentials=tuple(credentials_of(tx, holder.did)))


# --- tokens --------------------------------------------------------------------------------------


def upsert_token(tx: Tx, token: TokenRecord) -> None:
    """Store a token, replacing the one of the same kind and normalised value."""
    tx.upsert(_T, ["kind", "value"], asdict(token))
    count_change(tx)


def find_token(tx: Tx, kind: str, value: str) -> TokenRecord | None:
    """Return the token of a kind and normalised value."""
    return _TOKEN.first(tx, kind, value)


def find_token_any_kind(tx: Tx, value: str) -> TokenRecord | None:
    """Return the token of a normalised value, for 1.6, which sends no kind.

    None also if several kinds hold the value: which one was meant cannot be told.
    """
    found = _TOKENS_OF_VALUE.all(tx, value)
    return found[0] if len(found) == 1 else None


def tokens_of(tx: Tx, did: str) -> list[TokenRecord]:
    """Return the tokens that stand for a DID."""
    found = tx.execute(
        select(*_TOKEN_COLUMNS).where(_T.c.did == did).order_by(_T.c.kind, _T.c.value)
    )
    return [TokenRecord(**row._mapping) for row in found]


def list_tokens(tx: Tx, *, limit: int = 10_000) -> list[TokenRecord]:
    """Return the tokens by kind and value."""
    found = tx.execute(select(*_TOKEN_COLUMNS).order_by(_T.c.kind, _T.c.value).limit(limit))
    return [TokenRecord(**row._mapping) for row in found]


def set_token_state(tx: Tx, kind: str, value: str, state: str) -> None:
    """Set "active", "blocked", "suspended" or "lost"; raise NotFound."""
    changed = tx.execute(
        update(_T).where(_T.c.kind == kind, _T.c.value == value).values(state=state)
    ).rowcount
    if not changed:
        raise NotFound(f"no token of kind {kind} and this value")
    count_change(tx)


def consume_token(tx: Tx, kind: str, value: str, session_id: str) -> bool:
    """Mark a session token as used by `session_id`; return False if another session used it."""
    changed = tx.execute(
        update(_T)
        .where(_T.c.kind == kind, _T.c.value == value, _T.c.consumed_by.in_(("", session_id)))
        .values(consumed_by=session_id)
    ).rowcount
    return bool(changed)


def delete_token(tx: Tx, kind: str, value: str) -> None:
    """Delete a token; raise NotFound."""
    if not tx.execute(delete(_T).where(_T.c.kind == kind, _T.c.value == value)).rowcount:
        raise NotFound(f"no token of kind {kind} and this value")
    count_change(tx)


# --- credentials ---------------------------------------------------------------------------------


def upsert_credential(tx: Tx, credential: Credential) -> None:
    """Store a claim, replacing the one of the same id; what was used of that stays counted."""
    known = select(_C.c.used_kwh).where(_C.c.credential_id == credential.credential_id)
    used_kwh = tx.execute(known).scalar()
    values = asdict(credential)
    tx.upsert(
        _C, ["credential_id"], values if used_kwh is None else {**values, "used_kwh": used_kwh}
    )
    count_change(tx)


def find_credential(tx: Tx, credential_id: str) -> Credential | None:
    """Return a claim, None if there is none."""
    row = tx.execute(
        select(*_CREDENTIAL_COLUMNS).where(_C.c.credential_id == credential_id)
    ).first()
    return None if row is None else Credential(**row._mapping)


def get_credential(tx: Tx, credential_id: str) -> Credential:
    """Return a claim; raise NotFound."""
    found = find_credential(tx, credential_id)
    if found is None:
        raise NotFound(f"no credential {credential_id}")
    return found


def credentials_of(tx: Tx, subject: str) -> list[Credential]:
    """Return the claims about a subject."""
    return _CREDENTIALS_OF.all(tx, subject)


def list_credentials(tx: Tx) -> list[Credential]:
    """Return all claims by id."""
    found = tx.execute(select(*_CREDENTIAL_COLUMNS).order_by(_C.c.credential_id))
    return [Credential(**row._mapping) for row in found]


def set_credential_status(tx: Tx, credential_id: str, status: str) -> None:
    """Set "valid", "revoked" or "suspended"; raise NotFound."""
    changed = tx.execute(
        update(_C).where(_C.c.credential_id == credential_id).values(status=status)
    ).rowcount
    if not changed:
        raise NotFound(f"no credential {credential_id}")
    count_change(tx)


def delete_credential(tx: Tx, credential_id: str) -> None:
    """Delete a claim; raise NotFound."""
    if not tx.execute(delete(_C).where(_C.c.credential_id == credential_id)).rowcount:
        raise NotFound(f"no credential {credential_id}")
    allowances.forget_claim(tx, credential_id)
    count_change(tx)


# --- vehicles ------------------------------------------------------------------------------------


def upsert_vehicle(tx: Tx, vehicle: Vehicle) -> None:
    """Store a vehicle, replacing the one of the same id."""
    tx.upsert(_V, ["vehicle_id"], asdict(vehicle))


def get_vehicle(tx: Tx, vehicle_id: str) -> Vehicle:
    """Return a vehicle; raise NotFound."""
    found = find_vehicle(tx, vehicle_id)
    if found is None:
        raise NotFound(f"no vehicle {vehicle_id}")
    return found


def find_vehicle(tx: Tx, vehicle_id: str) -> Vehicle | None:
    """Return a vehicle, None if there is none."""
    row = tx.execute(select(*_VEHICLE_COLUMNS).where(_V.c.vehicle_id == vehicle_id)).first()
    return None if row is None else Vehicle(**row._mapping)


def list_vehicles(tx: Tx, *, owner_did: str = "") -> list[Vehicle]:
    """Return all vehicles, or those of an owner, by id."""
    statement = select(*_VEHICLE_COLUMNS).order_by(_V.c.vehicle_id)
    if owner_did:
        statement = statement.where(_V.c.owner_did == owner_did)
    return [Vehicle(**row._mapping) for row in tx.execute(statement)]


_SET_SOC = Hot(
    lambda insert: (
        update(_V)
        .values(
            soc=parameter(_V.c.soc),
            soc_at=parameter(_V.c.soc_at),
            soc_source=parameter(_V.c.soc_source),
        )
        .where(
            _V.c.vehicle_id == parameter(_V.c.vehicle_id),
            _V.c.soc_at.is_(None) | (_V.c.soc_at <= parameter(_V.c.soc_at)),
        )
    ),
    ("soc", "soc_at", "soc_source", "vehicle_id"),
)


def set_soc(tx: Tx, vehicle_id: str, soc: float, *, at: datetime, source: str) -> bool:
    """Store a state of charge (0..1); return False if a later one is known, or no such vehicle."""
    return bool(tx.run(_SET_SOC, (soc, us_from(at), source, vehicle_id)))


def delete_vehicle(tx: Tx, vehicle_id: str) -> None:
    """Delete a vehicle; raise NotFound."""
    if not tx.execute(delete(_V).where(_V.c.vehicle_id == vehicle_id)).rowcount:
        raise NotFound(f"no vehicle {vehicle_id}")
