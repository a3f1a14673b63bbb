"""Messages on the displays of stations: what is installed, as far as stations told us."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, select

from csms.core.model import SessionState
from csms.store import bounds
from csms.store.desk_tables import display_message as _M
from csms.store.statements import Tx
from csms.store.tables import session as _S


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayMessage:
    """A message as installed; `payload` is its MessageInfo (OCPP 2.0.1) as JSON text."""

    station_id: str
    message_id: int
    transaction_id: str = ""
    payload: str
    set_at: datetime


def keep(tx: Tx, message: DisplayMessage) -> None:
    """Store a message, replacing the station's earlier one of the same id."""
    values = {
        "station_id": message.station_id,
        "message_id": message.message_id,
        "transaction_id": message.transaction_id,
        "payload": message.payload,
        "set_at": message.set_at,
    }
    rows = bounds.fitting(
        tx,
        _M,
        ["message_id"],
        {(message.message_id,): values},
        most=bounds.MAX_DISPLAY_MESSAGES,
    )
    tx.upsert_all(_M, ["station_id", "message_id"], rows)


def remove(tx: Tx, station_id: str, message_id: int) -> None:
    """Forget a message, if it is known."""
    tx.execute(delete(_M).where(_M.c.station_id == station_id, _M.c.message_id == message_id))


def remove_all(tx: Tx, station_id: str) -> None:
    """Forget all messages of a station."""
    tx.execute(delete(_M).where(_M.c.station_id == station_id))


def of_station(tx: Tx, station_id: str) -> list[DisplayMessage]:
    """Return what a station shows or will show, by id.

    A message that belongs to a transaction goes with it (OCPP 2.0.1 O02): it is left out once the
    transaction's session is over.
    """
    is_over = (
        select(_S.c.session_id)
        .where(
            and_(
                _S.c.station_id == _M.c.station_id,
                _S.c.transaction_id == _M.c.transaction_id,
                _S.c.state == SessionState.ENDED,
            )
        )
        .exists()
    )
    found = tx.execute(
        select(_M).where(_M.c.station_id == station_id, ~is_over).order_by(_M.c.message_id)
    )
    return [DisplayMessage(**row._mapping) for row in found]
