"""Values the store's tests are about; each takes what a test cares for and fills in the rest."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from csms.core.messages import SessionEnded, SessionStarted, SessionUpdated
from csms.core.model import (
    AuthorizationStatus,
    IdToken,
    MeterSample,
    OcppVersion,
    Session,
    Site,
    Station,
)
from csms.store import stations
from csms.store.statements import Tx

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TRANSACTION = "b6a0c1f4-6f0e-4b43-9d3c-2f6a52a7e5c1"


def later(seconds: float) -> datetime:
    """Return the instant `seconds` after noon."""
    return NOON + timedelta(seconds=seconds)


def a_site(**more: Any) -> Site:
    """Return a site of 100 kW."""
    return Site(**{"site_id": "depot", "limit_kw": 100.0, **more})


def a_station(station_id: str = "CS1", **more: Any) -> Station:
    """Return a registered station of the site."""
    return Station(**{"station_id": station_id, "site_id": "depot", **more})


def add_station(tx: Tx, *station_ids: str) -> None:
    """Register stations with their site."""
    stations.upsert_site(tx, a_site())
    for station_id in station_ids or ("CS1",):
        stations.register_station(tx, a_station(station_id))


def a_session(session_id: str = "s1", **more: Any) -> Session:
    """Return a session that is not stored yet."""
    values = {
        "session_id": session_id,
        "number": 0,
        "site_id": "depot",
        "station_id": "CS1",
        "evse_id": 1,
        "version": OcppVersion.V201,
        "transaction_id": f"tx-{session_id}",
        "id_token": IdToken(value="04A1B2C3", kind="ISO14443"),
        "holder_did": "did:example:driver",
        "status": AuthorizationStatus.ACCEPTED,
        "started_at": NOON,
        "received_at": later(1),
        "meter_start_wh": 1000.0,
    }
    return Session(**{**values, **more})


def a_start(**more: Any) -> SessionStarted:
    """Return a 2.0.1 start."""
    return SessionStarted(**{**_report("Started"), "meter_start_wh": 1000.0, **more})


def a_start16(**more: Any) -> SessionStarted:
    """Return a 1.6 start, which has no transaction id and no number."""
    return a_start(
        **{
            "version": OcppVersion.V16,
            "transaction_id": "",
            "seq_no": None,
            "action": "StartTransaction",
            **more,
        }
    )


def an_update(seq_no: int | None = 1, **more: Any) -> SessionUpdated:
    """Return an update whose digest follows from its payload."""
    payload = more.get("payload", f'{{"seqNo":{seq_no}}}')
    digest = hashlib.sha256(payload.encode()).hexdigest()
    return SessionUpdated(
        **{**_report("Updated"), "seq_no": seq_no, "payload": payload, "digest": digest, **more}
    )


def an_end(seq_no: int | None = 9, **more: Any) -> SessionEnded:
    """Return an end."""
    return SessionEnded(**{**_report("Ended"), "seq_no": seq_no, "digest": "end", **more})


def _report(trigger: str) -> dict[str, Any]:
    return {
        "station_id": "CS1",
        "received_at": later(1),
        "version": OcppVersion.V201,
        "action": "TransactionEvent",
        "at": NOON,
        "transaction_id": TRANSACTION,
        "seq_no": 0,
        "evse_id": 1,
        "id_token": IdToken(value="04A1B2C3", kind="ISO14443"),
        "trigger": trigger,
        "digest": "start",
    }


def a_sample(seconds: float = 0.0, **more: Any) -> MeterSample:
    """Return a sample `seconds` after noon."""
    return MeterSample(**{"at": later(seconds), **more})


async def until(claim: Callable[[], bool]) -> None:
    """Wait until `claim` holds; what it looks at changes in another thread, which sets no event."""
    async with asyncio.timeout(8):
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
