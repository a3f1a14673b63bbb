"""Holders, their credentials, vehicles, trips and tokens (K15)."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query

from csms.api.auth import GuardedRoute
from csms.api.parts import Cursor, Limit, Operator, P, Parts, Viewer
from csms.api.views import (
    CredentialBody,
    CredentialStatus,
    HolderBody,
    TokenBody,
    TripBody,
    VehicleBody,
    by_key,
    plain,
    token,
)
from csms.core.errors import Conflict
from csms.core.model import Assurance, Credential, Holder, TokenRecord, Trip, Vehicle
from csms.service.enrolment import Changed
from csms.service.ids import new_id
from csms.store import identities, trips
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["people"])

_ALL = 1_000_000

Did = Annotated[str, Query(max_length=255)]


def _touch(parts: Parts, changed: Changed) -> None:
    for site_id in changed.site_ids:
        parts.replanner.touch(site_id, changed.why)


# --- holders -------------------------------------------------------------------------------------


@router.get("/holders")
async def list_holders(_: Viewer, parts: P, limit: Limit = 50, cursor: Cursor = "") -> object:
    """List holders by DID."""

    def work(tx: Tx) -> object:
        found = identities.list_holders(tx, limit=_ALL)
        return by_key(found, lambda h: h.did, plain, limit=limit, cursor=cursor)

    return await parts.store.read(work)


@router.post("/holders", status_code=201)
async def add_holder(body: HolderBody, caller: Operator, parts: P) -> object:
    """Enrol a holder; the names that stand for the DID on the wire are made with it."""
    holder = Holder(**body.model_dump())
    _touch(parts, await parts.enrolment.put_holders([holder], by=caller.name, is_new=True))
    return await _holder(parts, holder.did)


@router.get("/holders/{did}")
async def one_holder(did: str, _: Viewer, parts: P) -> object:
    """Return a holder with its tokens and next trips."""
    return await _holder(parts, did)


@router.put("/holders/{did}")
async def put_holder(did: str, body: HolderBody, caller: Operator, parts: P) -> object:
    """Replace a holder; its credentials stay."""
    if body.did != did:
        raise Conflict(f"the body's did is {body.did}; it must be {did}")
    changed = await parts.enrolment.put_holders([Holder(**body.model_dump())], by=caller.name)
    _touch(parts, changed)
    return await _holder(parts, did)


@router.delete("/holders/{did}", status_code=204)
async def remove_holder(did: str, caller: Operator, parts: P) -> None:
    """Remove a holder with its tokens; sessions stay."""
    _touch(parts, await parts.enrolment.remove_holder(did, by=caller.name))


async def _holder(parts: Parts, did: str) -> dict[str, object]:
    now = parts.clock.now()

    def work(tx: Tx) -> dict[str, object]:
        shown = plain(identities.get_holder(tx, did))
        assert isinstance(shown, dict)
        upcoming = trips.list_trips(tx, holder_did=did, since=now, limit=10)
        return {
            **shown,
            "tokens": [token(t) for t in identities.tokens_of(tx, did)],
            "trips": plain(upcoming),
        }

    return await parts.store.read(work)


# --- credentials ---------------------------------------------------------------------------------


@router.get("/credentials")
async def list_credentials(
    _: Viewer, parts: P, did: Did = "", limit: Limit = 50, cursor: Cursor = ""
) -> object:
    """List the claims about holders by id, each with what was used of its allowance."""

    def work(tx: Tx) -> object:
        found = identities.credentials_of(tx, did) if did else identities.list_credentials(tx)
        return by_key(found, lambda c: c.credential_id, plain, limit=limit, cursor=cursor)

    return await parts.store.read(work)


@router.put("/credentials")
async def put_credential(body: CredentialBody, caller: Operator, parts: P) -> object:
    """Enter a claim about a holder, or replace one; what was used of its allowance stays."""
    return plain(await parts.claims.put(Credential(**body.model_dump()), by=caller.name))


@router.patch("/credentials/{credential_id:path}")
async def change_credential(
    credential_id: str, body: CredentialStatus, caller: Operator, parts: P
) -> object:
    """Make a claim valid, suspended or revoked; the next token presented is judged by it."""
    return plain(await parts.claims.set_status(credential_id, body.status, by=caller.name))


@router.delete("/credentials/{credential_id:path}", status_code=204)
async def remove_credential(credential_id: str, caller: Operator, parts: P) -> None:
    """Forget a claim."""
    await parts.claims.remove(credential_id, by=caller.name)


# --- vehicles ------------------------------------------------------------------------------------


@router.get("/vehicles")
async def list_vehicles(_: Viewer, parts: P, limit: Limit = 50, cursor: Cursor = "") -> object:
    """List vehicles by id."""

    def work(tx: Tx) -> object:
        found = identities.list_vehicles(tx)
        return by_key(found, lambda v: v.vehicle_id, plain, limit=limit, cursor=cursor)

    return await parts.store.read(work)


@router.get("/vehicles/{vehicle_id}")
async def one_vehicle(vehicle_id: str, _: Viewer, parts: P) -> object:
    """Return a vehicle."""
    return await parts.store.read(lambda tx: plain(identities.get_vehicle(tx, vehicle_id)))


@router.post("/vehicles", status_code=201)
async def add_vehicle(body: VehicleBody, caller: Operator, parts: P) -> object:
    """Add a vehicle."""
    changed = await parts.enrolment.put_vehicles(
        [_vehicle(body, parts)], by=caller.name, is_new=True
    )
    _touch(parts, changed)
    return await one_vehicle(body.vehicle_id, caller, parts)


@router.put("/vehicles/{vehicle_id}")
async def put_vehicle(vehicle_id: str, body: VehicleBody, caller: Operator, parts: P) -> object:
    """Replace a vehicle."""
    if body.vehicle_id != vehicle_id:
        raise Conflict(f"the body's vehicle_id is {body.vehicle_id}; it must be {vehicle_id}")
    _touch(parts, await parts.enrolment.put_vehicles([_vehicle(body, parts)], by=caller.name))
    return await one_vehicle(vehicle_id, caller, parts)


@router.delete("/vehicles/{vehicle_id}", status_code=204)
async def remove_vehicle(vehicle_id: str, caller: Operator, parts: P) -> None:
    """Remove a vehicle."""
    await parts.enrolment.remove_vehicle(vehicle_id, by=caller.name)


def _vehicle(body: VehicleBody, parts: Parts) -> Vehicle:
    vehicle = Vehicle(**body.model_dump())
    if vehicle.soc is None:
        return vehicle
    return replace(vehicle, soc_at=parts.clock.now(), soc_source="declared")


# --- trips ---------------------------------------------------------------------------------------


@router.get("/trips")
async def list_trips(
    _: Viewer, parts: P, holder_did: Did = "", limit: Limit = 50, cursor: Cursor = ""
) -> object:
    """List trips by departure."""

    def work(tx: Tx) -> object:
        found = trips.list_trips(tx, holder_did=holder_did, limit=_ALL)
        return by_key(
            found,
            lambda t: f"{t.departs_at.isoformat()} {t.trip_id}",
            plain,
            limit=limit,
            cursor=cursor,
        )

    return await parts.store.read(work)


@router.post("/trips", status_code=201)
async def add_trip(body: TripBody, caller: Operator, parts: P) -> object:
    """Declare a trip; a car of the holder that is plugged in is planned for it at once."""
    trip = Trip(trip_id=new_id("t", parts.clock.now()), **body.model_dump())
    _touch(parts, await parts.enrolment.put_trips([trip], by=caller.name))
    return plain(trip)


@router.put("/trips/{trip_id}")
async def put_trip(trip_id: str, body: TripBody, caller: Operator, parts: P) -> object:
    """Replace a trip."""
    await parts.store.read(lambda tx: trips.get_trip(tx, trip_id))
    trip = Trip(trip_id=trip_id, **body.model_dump())
    _touch(parts, await parts.enrolment.put_trips([trip], by=caller.name))
    return plain(trip)


@router.delete("/trips/{trip_id}", status_code=204)
async def remove_trip(trip_id: str, caller: Operator, parts: P) -> None:
    """Remove a trip; a car that was planned for it falls back to what is usual for its holder."""
    _touch(parts, await parts.enrolment.remove_trip(trip_id, by=caller.name))


# --- tokens --------------------------------------------------------------------------------------


@router.get("/tokens")
async def list_tokens(
    _: Operator, parts: P, did: Did = "", limit: Limit = 50, cursor: Cursor = ""
) -> object:
    """List enrolled tokens."""

    def work(tx: Tx) -> object:
        found = identities.tokens_of(tx, did) if did else identities.list_tokens(tx, limit=_ALL)
        return by_key(found, lambda t: f"{t.kind} {t.value}", token, limit=limit, cursor=cursor)

    return await parts.store.read(work)


@router.put("/tokens")
async def put_token(body: TokenBody, caller: Operator, parts: P) -> object:
    """Enrol, block or let expire a token (K15)."""
    given = body.model_dump(exclude={"assurance"})
    record = TokenRecord(assurance=Assurance(body.assurance), **given)
    (stored,) = await parts.enrolment.put_tokens([record], by=caller.name)
    return token(stored)


@router.delete("/tokens/{value}", status_code=204)
async def remove_token(
    value: str, caller: Operator, parts: P, kind: Annotated[str, Query(max_length=40)] = ""
) -> None:
    """Forget a token: a station that presents it is told that it is unknown."""
    await parts.enrolment.remove_token(value, kind=kind, by=caller.name)
