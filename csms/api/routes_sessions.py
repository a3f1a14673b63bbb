"""Transactions as the station sees them (K10), and the stays they are part of (K11)."""

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Parts, Viewer
from csms.api.payload import members
from csms.api.routes_stations import answered, send_raw
from csms.api.views import Closing, everything, listed, plain, transaction
from csms.core.commands import StopCharging
from csms.core.errors import Conflict, InvalidInput, UnknownSession
from csms.core.model import Event, OcppVersion, Session, SessionState
from csms.core.readings import Reading, readings
from csms.service import live
from csms.store import (
    details,
    identities,
    journal,
    plans,
    remote_starts,
    samples,
    sessions,
    trips,
)
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])

StationId = Annotated[str, Query(max_length=100)]


@router.get("/transactions")
async def list_transactions(
    _: Viewer,
    parts: P,
    station_id: StationId = "",
    id_token: Annotated[str, Query(max_length=255)] = "",
    open_: Annotated[bool | None, Query(alias="open")] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List OCPP transactions, newest first, with the total (K10)."""

    def work(tx: Tx) -> object:
        page = sessions.list_transactions(
            tx, station_id=station_id, id_token=id_token, open_=open_, limit=limit, cursor=cursor
        )
        return listed(page, [transaction(s) for s in page.items])

    return await parts.store.read(work)


@router.get("/transactions/{transaction_id}")
async def one_transaction(
    transaction_id: str, _: Viewer, parts: P, station_id: StationId = ""
) -> object:
    """Return a transaction by our handle, or by its wire id with its station, and its messages."""

    def work(tx: Tx) -> object:
        session = find(tx, transaction_id, station_id)
        place = (session.station_id, session.transaction_id)
        return {
            **transaction(session),
            **_members(details.detail_of(tx, session.number)),
            "remote_start": plain(remote_starts.of_session(tx, session.session_id)),
            "missing_messages": sessions.missing_numbers(tx, *place),
            "events": plain(sessions.events_of(tx, *place)),
        }

    return await parts.store.read(work)


def _members(value: object) -> dict[str, object]:
    shown = plain(value)
    assert isinstance(shown, dict)
    return shown


@router.get("/transactions/{transaction_id}/readings")
async def transaction_readings(
    transaction_id: str, _: Viewer, parts: P, station_id: StationId = ""
) -> object:
    """Return every sampled value of a transaction one by one, signed ones byte for byte."""

    def work(tx: Tx) -> list[Reading]:
        session = find(tx, transaction_id, station_id)
        events = sessions.events_of(tx, session.station_id, session.transaction_id)
        return [r for e in events for r in readings(json.loads(e.payload))]

    return everything(await parts.store.read(work))


@router.get("/orphans")
async def list_orphans(
    _: Viewer, parts: P, station_id: StationId = "", limit: Limit = 50, cursor: Cursor = ""
) -> object:
    """List messages about transactions that nobody knows, newest first."""

    def work(tx: Tx) -> object:
        page = sessions.list_orphans(tx, station_id=station_id, limit=limit, cursor=cursor)
        return listed(page, [plain(o) for o in page.items])

    return await parts.store.read(work)


@router.get("/remote-starts")
async def list_remote_starts(
    _: Viewer, parts: P, station_id: StationId = "", limit: Limit = 50
) -> object:
    """List starts asked of stations and what became of each, newest first."""
    return everything(
        await parts.store.read(
            lambda tx: remote_starts.list_remote_starts(tx, station_id=station_id, limit=limit)
        )
    )


@router.post("/transactions/{transaction_id}/stop")
async def stop(
    transaction_id: str, caller: Operator, parts: P, station_id: StationId = ""
) -> object:
    """Ask the station to stop, by our handle or by wire id with its station (K12)."""
    session = await _open(parts, transaction_id, station_id)
    command = StopCharging(station_id=session.station_id, transaction_id=session.transaction_id)
    command_id, result = await parts.devices.run(command, asked_by=caller.name)
    return answered(command_id, result, session.station_id)


@router.post("/transactions/{transaction_id}/profile")
async def set_profile(
    transaction_id: str,
    request: Request,
    caller: Operator,
    parts: P,
    station_id: StationId = "",
) -> object:
    """Set a profile on a transaction's EVSE; its content is the caller's (K12, K13).

    The body is `{"profile": {...}, "wait_s"?}`. A profile without a transactionId gets the one on
    the wire, so that a handle is enough; everything else goes as given.
    """
    session = await _open(parts, transaction_id, station_id)
    body = members((await request.body()).decode("utf-8", "replace"))
    unknown = set(body) - {"profile", "wait_s"}
    if unknown or not body.get("profile", "").startswith("{"):
        raise InvalidInput("the body must be {profile: {...}, wait_s?}")
    given = members(body["profile"])
    if "transactionId" not in given:
        is_16 = session.version is OcppVersion.V16
        wire = session.transaction_id
        given["transactionId"] = wire if is_16 else json.dumps(wire)
    profile = "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in given.items()) + "}"
    place, name = (
        ("connectorId", "csChargingProfiles")
        if session.version is OcppVersion.V16
        else ("evseId", "chargingProfile")
    )
    command = {
        "action": '"SetChargingProfile"',
        "payload": f'{{"{place}":{session.evse_id},"{name}":{profile}}}',
    }
    if "wait_s" in body:
        command["wait_s"] = body["wait_s"]
    return await send_raw(parts, session.station_id, command, by=caller.name)


@router.post("/transactions/{transaction_id}/close")
async def close(
    transaction_id: str, body: Closing, caller: Operator, parts: P, station_id: StationId = ""
) -> object:
    """Close a transaction that its station will never end, with a reason of its own (K17)."""
    now = parts.clock.now()

    def work(tx: Tx) -> Session:
        session = find(tx, transaction_id, station_id)
        closed = sessions.close_session(tx, session.session_id, at=now, reason=body.reason)
        journal.add_event(
            tx,
            Event(
                at=now,
                kind="transaction closed by operator",
                level="warning",
                site_id=session.site_id,
                station_id=session.station_id,
                session_id=session.session_id,
                detail={"by": caller.name, "reason": body.reason},
            ),
        )
        return closed

    closed = await parts.store.write(work)
    parts.replanner.touch(closed.site_id, "session closed")
    return transaction(closed)


@router.get("/sessions")
async def list_sessions(
    _: Viewer,
    parts: P,
    site_id: Annotated[str, Query(max_length=100)] = "",
    holder_did: Annotated[str, Query(max_length=255)] = "",
    state: Literal["open", "ended"] | None = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List stays, newest first (K11)."""
    wanted = None if state is None else SessionState(state)

    def work(tx: Tx) -> object:
        page = sessions.list_sessions(
            tx, site_id=site_id, holder_did=holder_did, state=wanted, limit=limit, cursor=cursor
        )
        return listed(page, [stay(s) for s in page.items])

    return await parts.store.read(work)


@router.get("/sessions/{session_id}/story")
async def story(session_id: str, _: Viewer, parts: P) -> object:
    """Return everything about one stay: state, reason, plan row, samples and what was sent."""
    now = parts.clock.now()

    def work(tx: Tx) -> object:
        session = sessions.get(tx, session_id)
        seen = live.load(tx, session.site_id, now=now)
        row = next((s for s in seen.sessions if s.session_id == session_id), None)
        planned = None
        if seen.plan is not None:
            planned = next((s for s in seen.plan.sessions if s.session_id == session_id), None)
        return {
            "session": stay(session),
            "now": plain(row),
            "plan_id": seen.plan.plan_id if seen.plan else None,
            "edges_at": plain(seen.plan.edges_at) if seen.plan else [],
            "plan_row": plain(planned),
            "trips": plain(trips.trips_of_session(tx, session_id)),
            "vehicle": plain(identities.find_vehicle(tx, session.vehicle_id)),
            "schedules": plain(plans.list_installed(tx, session_id, limit=20)),
            "samples": plain(samples.samples(tx, session_id, limit=5_000)),
            "events": plain(journal.list_events(tx, session_id=session_id).items),
        }

    return await parts.store.read(work)


@router.post("/sessions/{session_id}/stop")
async def stop_session(session_id: str, caller: Operator, parts: P) -> object:
    """Ask the station to stop a stay."""
    return await stop(session_id, caller, parts)


def stay(session: Session) -> dict[str, object]:
    """Return a session as TASCO sees it (K11)."""
    shown = plain(session)
    assert isinstance(shown, dict)
    return {
        **shown,
        "energy_kwh": session.energy_kwh,
        "need_kwh": None if session.need_wh is None else session.need_wh / 1000.0,
        "transaction": {"id": session.transaction_id, "station_id": session.station_id},
    }


def find(tx: Tx, handle: str, station_id: str) -> Session:
    """Return a session by our handle, or by the wire id under `station_id`."""
    if station_id:
        session = sessions.by_transaction(tx, station_id, handle)
        if session is not None:
            return session
    try:
        return sessions.get(tx, handle)
    except UnknownSession as error:
        raise UnknownSession(
            f"no transaction {handle}; a wire id needs its station_id as well"
        ) from error


async def _open(parts: Parts, handle: str, station_id: str) -> Session:
    session = await parts.store.read(lambda tx: find(tx, handle, station_id))
    if session.state is SessionState.ENDED:
        raise Conflict(f"transaction {session.transaction_id} ended at {session.ended_at}")
    return session
