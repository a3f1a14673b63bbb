"""What stays have used of their holders' allowances: each stay counts once."""

from sqlalchemy import delete, select, update

from csms.store import detail_tables, tables
from csms.store.statements import Tx

_C = tables.credential
_U = detail_tables.allowance_use


def holders(tx: Tx) -> list[str]:
    """Return the DIDs that have an allowance."""
    found = select(_C.c.subject).where(_C.c.allowance_kwh.is_not(None)).distinct()
    return list(tx.execute(found.order_by(_C.c.subject)).scalars())


def used(tx: Tx, session_number: int) -> tuple[str, float] | None:
    """Return the claim that a stay was counted on and its kWh, None if it was not counted yet.

    The claim is "" where it was deleted since.
    """
    row = tx.execute(
        select(_U.c.credential_id, _U.c.energy_kwh).where(_U.c.session_number == session_number)
    ).first()
    return None if row is None else (row.credential_id, row.energy_kwh)


def count(tx: Tx, session_number: int, credential_id: str, energy_kwh: float) -> None:
    """Count a stay's energy on a claim, in place of what was counted for it there before."""
    known = used(tx, session_number)
    more_kwh = energy_kwh - (0.0 if known is None else known[1])
    tx.execute(
        update(_C)
        .where(_C.c.credential_id == credential_id)
        .values(used_kwh=_C.c.used_kwh + more_kwh)
    )
    tx.upsert(
        _U,
        ["session_number"],
        {
            "session_number": session_number,
            "credential_id": credential_id,
            "energy_kwh": energy_kwh,
        },
    )


def forget_claim(tx: Tx, credential_id: str) -> None:
    """Forget which stays used a claim, not that they are counted."""
    tx.execute(update(_U).where(_U.c.credential_id == credential_id).values(credential_id=""))


def forget_holder(tx: Tx, did: str) -> None:
    """Forget what the stays of a holder used."""
    claims = select(_C.c.credential_id).where(_C.c.subject == did)
    tx.execute(delete(_U).where(_U.c.credential_id.in_(claims)))
