"""Stations: register before they connect, watch, and send them whatever their version knows."""

import json
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Parts, Viewer
from csms.api.payload import members
from csms.api.problems import Problem
from csms.api.views import StationBody, StationChange, everything, listed, outcome, plain
from csms.core.commands import CommandResult, Outcome, RawCall
from csms.core.errors import InvalidInput, NotFound
from csms.core.model import Event, Evse, LinkState, OcppVersion, Station
from csms.core.readings import readings
from csms.service.circuits import PlaceChange
from csms.service.enrolment import StationRegistration
from csms.store import commands, details, journal, links, removal, samples, stations
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["stations"])

MAX_WAIT_S = 60.0
_COMMAND_FIELDS = ("action", "payload", "version", "wait_s", "expires_s", "force")


@router.get("/stations")
async def list_stations(
    _: Viewer, parts: P, site_id: Annotated[str, Query(max_length=100)] = ""
) -> object:
    """List the stations with their EVSEs, those that cannot be reached first."""

    def work(tx: Tx) -> list[object]:
        found = stations.list_stations(tx, site_id=site_id)
        found.sort(key=lambda s: (s.link_state is LinkState.ONLINE, s.station_id))
        return [_shown(tx, station) for station in found]

    return everything(await parts.store.read(work))


@router.get("/unknown-stations")
async def unknown_stations(_: Viewer, parts: P) -> object:
    """List stations that asked to connect without being registered, latest first."""
    return everything(await parts.store.read(links.list_unknown_stations))


@router.post("/stations", status_code=201)
async def register_station(body: StationBody, caller: Operator, parts: P) -> object:
    """Register a station before it connects; its password is kept as an Argon2id hash only."""
    given = body.model_dump(exclude={"evses", "is_approved"})
    await parts.enrolment.register_station(
        StationRegistration(
            **given,
            registration="Accepted" if body.is_approved else "Pending",
            evses=tuple(
                Evse(station_id=body.station_id, **evse.model_dump()) for evse in body.evses
            ),
        ),
        by=caller.name,
    )
    return await parts.store.read(lambda tx: _one(tx, body.station_id))


@router.get("/stations/{station_id}")
async def one_station(station_id: str, _: Viewer, parts: P) -> object:
    """Return a station with its EVSEs, limits and last links."""

    def work(tx: Tx) -> dict[str, object]:
        shown = _one(tx, station_id)
        real_id = str(shown["station_id"])
        return {
            **shown,
            "links": plain(links.list_links(tx, real_id, limit=10)),
        }

    return await parts.store.read(work)


@router.patch("/stations/{station_id}")
async def change_station(
    station_id: str, body: StationChange, caller: Operator, parts: P
) -> object:
    """Rename, approve, take hands off (K6), place, set the security profile or a new password."""
    changes = body.model_dump(exclude_unset=True, exclude_none=True)
    place = {name: changes.pop(name) for name in ("circuit_id", "phase_rotation") & changes.keys()}
    if place:
        await parts.circuits.place(station_id, 0, PlaceChange(**place), by=caller.name)
    station = await parts.enrolment.change_station(station_id, changes, by=caller.name)
    if changes.keys() & {"password", "security_profile"}:
        await parts.passwords.end_link(station.station_id, "credential changed")
    parts.replanner.touch(station.site_id, "station changed")
    return await parts.store.read(lambda tx: _one(tx, station_id))


@router.delete("/stations/{station_id}", status_code=204)
async def remove_station(station_id: str, caller: Operator, parts: P) -> None:
    """Remove a station and what it held for us; its sessions and events stay."""
    now = parts.clock.now()

    def work(tx: Tx) -> str:
        station = stations.get_station(tx, station_id)
        removal.remove_station(tx, station.station_id)
        journal.add_event(
            tx,
            Event(
                at=now,
                kind="station removed",
                site_id=station.site_id,
                station_id=station.station_id,
                detail={"by": caller.name},
            ),
        )
        return station.site_id

    site_id = await parts.store.write(work)
    await parts.passwords.end_link(station_id, "station removed")
    parts.replanner.touch(site_id, "station removed")


@router.post("/stations/{station_id}/approve")
async def approve_station(station_id: str, caller: Operator, parts: P) -> object:
    """Approve a station: its next boot is answered Accepted, and it is asked for that boot now."""
    before = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    station = await parts.enrolment.change_station(
        station_id, {"is_approved": True}, by=caller.name
    )
    if before.registration != "Accepted" and station.link_state is LinkState.ONLINE:
        # Without this it would come back after its interval only (2.0.1 B02.FR.06).
        await parts.care.invite(station)
    return await parts.store.read(lambda tx: _one(tx, station_id))


@router.post("/stations/{station_id}/reject")
async def reject_station(station_id: str, caller: Operator, parts: P) -> object:
    """Reject a station: its boots are answered Rejected, and nothing it says is taken."""
    await parts.enrolment.change_station(station_id, {"is_rejected": True}, by=caller.name)
    return await parts.store.read(lambda tx: _one(tx, station_id))


@router.put("/stations/{station_id}/automation")
async def switch_automation(
    station_id: str, on: Annotated[bool, Query()], caller: Operator, parts: P
) -> object:
    """Switch hands-off for a station: with `on=false` nothing is sent that nobody asked for."""
    station = await parts.enrolment.change_station(station_id, {"automation": on}, by=caller.name)
    parts.replanner.touch(station.site_id, "automation on" if on else "automation off")
    return await parts.store.read(lambda tx: _one(tx, station_id))


# --- commands ------------------------------------------------------------------------------------


@router.post("/stations/{station_id}/commands")
async def send_command(station_id: str, request: Request, caller: Operator, parts: P) -> object:
    """Send any action of the station's version with its payload exactly as given (K1-K4).

    The body is `{"action", "payload", "version"?, "wait_s"?, "expires_s"?}`. What the station says
    is data: the answer is 200 with the outcome. Only what never reached the wire is an error.
    `wait_s` bounds the wait, 0 answers after sending. With `expires_s` a command to a station that
    is away waits that long for it, and is answered with the outcome "waiting". `force` is accepted
    for scripts that send it: a raw command is checked against its schema and never refused for its
    content.
    """
    body = members(await body_text(request))
    unknown = [name for name in body if name not in _COMMAND_FIELDS]
    if unknown:
        raise InvalidInput(f"{unknown[0]} is not known; permitted: {', '.join(_COMMAND_FIELDS)}")
    return await send_raw(parts, station_id, body, by=caller.name)


async def send_raw(
    parts: Parts, station_id: str, body: dict[str, str], *, by: str
) -> dict[str, object]:
    """Send the command that `body` names, its members as JSON text; answer with its outcome."""
    station = await parts.store.read(lambda tx: stations.get_station(tx, station_id))
    command = call_from(station.station_id, body)
    if station.link_state is not LinkState.ONLINE:
        return await _wait(parts, command, body, by=by)
    if command.version is not None and command.version is not station.version:
        raise Problem(
            409,
            "wrong-version",
            "Not sent",
            f"station {station.station_id} speaks OCPP {station.version}, not {command.version}",
        )
    command_id, result = await parts.devices.run(command, asked_by=by)
    return answered(command_id, result, station.station_id)


async def _wait(
    parts: Parts, command: RawCall, body: dict[str, str], *, by: str
) -> dict[str, object]:
    """Let a command wait for its station if it may; raise Problem if it may not."""
    expires_s = expires_in(body)
    if expires_s is None:
        raise _not_sent("offline", command.station_id)
    record = await parts.waiting.keep(command, asked_by=by, wait=timedelta(seconds=expires_s))
    return {
        **outcome(record.command_id, CommandResult(outcome=Outcome.WAITING)),
        "expires_at": plain(record.expires_at),
    }


def expires_in(body: dict[str, str]) -> float | None:
    """Return how long a command may wait for its station, seconds; None if it may not."""
    expires_s = json.loads(body.get("expires_s", "null"))
    if expires_s is None:
        return None
    if isinstance(expires_s, bool) or not isinstance(expires_s, int | float):
        raise InvalidInput(f"expires_s is {expires_s!r:.40}; it must be a number of seconds")
    return float(expires_s)


def answered(command_id: int, result: CommandResult, station_id: str) -> dict[str, object]:
    """Return a command's outcome; raise Problem where it never reached the wire (K2)."""
    if result.outcome is Outcome.NOT_SENT:
        raise _not_sent(result.why_not_sent, station_id)
    return outcome(command_id, result)


def call_from(station_id: str, body: dict[str, str]) -> RawCall:
    """Return the raw call that `body` names, its members as JSON text; raise InvalidInput."""
    action = json.loads(body.get("action", "null"))
    if not isinstance(action, str) or not 1 <= len(action) <= 64 or not action.isascii():
        raise InvalidInput(f"action is {body.get('action')!r:.80}; it must be an action's name")
    payload = body.get("payload", "{}")
    if not payload.startswith("{"):
        raise InvalidInput("payload is no object; it must be the action's payload")
    wait_s = json.loads(body.get("wait_s", "30"))
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 <= wait_s <= 60:
        raise InvalidInput(f"wait_s is {wait_s!r:.40}; it must be between 0 and {MAX_WAIT_S:g}")
    version = json.loads(body.get("version", "null"))
    known = [v.value for v in OcppVersion]
    if version is not None and version not in known:
        raise InvalidInput(f"version is {version!r:.40}; permitted: {', '.join(known)}")
    return RawCall(
        station_id=station_id,
        action=action,
        payload_json=payload,
        version=None if version is None else OcppVersion(version),
        wait_s=float(wait_s),
    )


def _not_sent(why: str, station_id: str) -> Problem:
    """Return the problem for a command that never reached the wire."""
    if why in ("wrong version", "other link"):
        return Problem(409, why.replace(" ", "-"), "Not sent", f"station {station_id}: {why}")
    if why == "offline":
        return Problem(409, "station-offline", "Not sent", f"station {station_id} is not connected")
    if why == "others not lowered":
        return Problem(
            409, "no-room", "Not sent", f"station {station_id}: {why}; the site has no room for it"
        )
    if why in ("queue full", "busy"):
        type_ = why.replace(" ", "-")
        return Problem(503, type_, "Not sent", f"station {station_id}: {why}; try again")
    return Problem(422, "invalid-command", "Not sent", why)


async def body_text(request: Request) -> str:
    """Return a request's body; raise InvalidInput if it is no UTF-8."""
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("the body is no UTF-8") from error


@router.get("/stations/{station_id}/commands")
async def list_commands(
    station_id: str,
    _: Viewer,
    parts: P,
    action: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List what a station was asked, by us and by people, with what came of it, newest first."""

    def work(tx: Tx) -> object:
        station = stations.get_station(tx, station_id)
        page = commands.list_commands(
            tx, station_id=station.station_id, kind=action, limit=limit, cursor=cursor
        )
        return listed(page, [_command(c) for c in page.items])

    return await parts.store.read(work)


@router.get("/stations/{station_id}/commands/{command_id}")
async def one_command(station_id: str, command_id: int, _: Viewer, parts: P) -> object:
    """Return a command with what came of it so far; a late answer is shown here."""
    return _command(await parts.store.read(lambda tx: _command_of(tx, station_id, command_id)))


@router.delete("/stations/{station_id}/commands/{command_id}")
async def cancel_command(station_id: str, command_id: int, _: Operator, parts: P) -> object:
    """Take back a command that waits for its station; 409 once it is sent or over."""
    await parts.store.read(lambda tx: _command_of(tx, station_id, command_id))
    return _command(await parts.waiting.cancel(command_id))


def _command_of(tx: Tx, station_id: str, command_id: int) -> commands.CommandRecord:
    record = commands.get_command(tx, command_id)
    if record.station_id != stations.get_station(tx, station_id).station_id:
        raise NotFound(f"no command {command_id} of station {station_id}")
    return record


def _command(record: commands.CommandRecord) -> dict[str, object]:
    shown = plain(record)
    assert isinstance(shown, dict)
    return {**shown, "answer": json.loads(record.answer) if record.answer else None}


@router.get("/stations/{station_id}/vendor-messages")
async def list_vendor_messages(
    station_id: str,
    _: Viewer,
    parts: P,
    vendor_id: Annotated[str, Query(max_length=255)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List what a station said by DataTransfer, and what it was answered, newest first."""

    def work(tx: Tx) -> object:
        station = stations.get_station(tx, station_id)
        page = journal.list_vendor_messages(
            tx, station_id=station.station_id, vendor_id=vendor_id, limit=limit, cursor=cursor
        )
        return listed(page, [plain(m) for m in page.items])

    return await parts.store.read(work)


@router.get("/stations/{station_id}/records")
async def list_records(
    station_id: str,
    _: Viewer,
    parts: P,
    action: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List what a station reported beyond sessions, payloads as they came, newest first."""

    def work(tx: Tx) -> object:
        station = stations.get_station(tx, station_id)
        page = journal.list_records(
            tx, station_id=station.station_id, action=action, limit=limit, cursor=cursor
        )
        return listed(page, [plain(r) for r in page.items])

    return await parts.store.read(work)


@router.get("/stations/{station_id}/readings")
async def station_readings(
    station_id: str,
    _: Viewer,
    parts: P,
    evse_id: Annotated[int | None, Query(ge=0)] = None,
    limit: Limit = 50,
) -> object:
    """Return the meter values of the last messages outside transactions; EVSE 0 is the station.

    `samples` is one row per instant, `readings` every sampled value one by one.
    """

    def work(tx: Tx) -> object:
        station = stations.get_station(tx, station_id)
        found = details.meter_messages(tx, station.station_id, evse_id=evse_id, limit=limit)
        shown = []
        for place in sorted({m.evse_id for m in found}):
            messages = [json.loads(m.payload) for m in found if m.evse_id == place]
            values = [r for message in messages for r in readings(message)]
            rows = samples.meter_readings(tx, station.station_id, place)
            shown.append(
                {"evse_id": place, "samples": plain(rows[-limit:]), "readings": plain(values)}
            )
        return shown

    return everything(await parts.store.read(work))


@router.get("/log")
async def list_events(
    _: Viewer,
    parts: P,
    station_id: Annotated[str, Query(max_length=100)] = "",
    site_id: Annotated[str, Query(max_length=100)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List what an operator should be able to find later, newest first."""

    def work(tx: Tx) -> object:
        page = journal.list_events(
            tx, station_id=station_id, site_id=site_id, limit=limit, cursor=cursor
        )
        return listed(page, [plain(e) for e in page.items])

    return await parts.store.read(work)


def _one(tx: Tx, station_id: str) -> dict[str, object]:
    return _shown(tx, stations.get_station(tx, station_id))


def _shown(tx: Tx, station: Station) -> dict[str, object]:
    shown = plain(station)
    assert isinstance(shown, dict)
    return {**shown, "evses": plain(stations.evses_of_station(tx, station.station_id))}
