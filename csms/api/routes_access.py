"""Tokens of the API itself, and the log of access decisions."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from csms.api.auth import (
    Gate,
    GuardedRoute,
    keep_instead,
    new_token,
    token_hash,
    token_prefix,
)
from csms.api.parts import Cursor, Limit, Operator, P, Viewer
from csms.api.views import ApiTokenBody, everything, listed, plain
from csms.core.model import Event
from csms.store import access, journal
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["access"])


@router.get("/me")
async def me(caller: Viewer) -> object:
    """Say who the presented token is."""
    return {"token_id": caller.token_id, "role": caller.role, "label": caller.label}


@router.get("/openapi.json")
async def description(_: Viewer, request: Request) -> object:
    """Return the API's description; only to those who are logged in."""
    return request.app.openapi()


@router.get("/api-tokens")
async def list_tokens(_: Operator, parts: P) -> object:
    """List the API's tokens by prefix; a token itself is shown once, when it is made."""
    return everything(await parts.store.read(access.list_api_tokens))


@router.post("/api-tokens", status_code=201)
async def make_token(body: ApiTokenBody, caller: Operator, parts: P, request: Request) -> object:
    """Make a token and show it, this once."""
    secret = new_token()
    now = parts.clock.now()

    def work(tx: Tx) -> int:
        token_id = access.add_api_token(
            tx,
            hash_=token_hash(secret),
            prefix=token_prefix(secret),
            role=body.role,
            label=body.label,
            at=now,
        )
        journal.add_event(
            tx,
            Event(
                at=now,
                kind="api token made",
                detail={"by": caller.name, "token_id": token_id, "role": body.role},
            ),
        )
        return token_id

    token_id = await parts.store.write(work)
    shown = {"token_id": token_id, "role": body.role, "label": body.label}
    keep_instead(request, {**shown, "token": None})
    return {**shown, "token": secret}


@router.delete("/api-tokens/{token_id}", status_code=204)
async def revoke_token(token_id: int, caller: Operator, parts: P, request: Request) -> None:
    """Revoke a token; it stops working at once."""
    now = parts.clock.now()

    def work(tx: Tx) -> None:
        access.revoke_api_token(tx, token_id, at=now)
        journal.add_event(
            tx,
            Event(
                at=now,
                kind="api token revoked",
                detail={"by": caller.name, "token_id": token_id},
            ),
        )

    await parts.store.write(work)
    gate: Gate = request.app.state.gate
    gate.forget()


@router.get("/decisions")
async def decisions(
    _: Viewer,
    parts: P,
    station_id: Annotated[str, Query(max_length=100)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> object:
    """List who was let in and who was not, and why, newest first."""

    def work(tx: Tx) -> object:
        page = access.list_decisions(tx, station_id=station_id, limit=limit, cursor=cursor)
        return listed(page, [plain(d) for d in page.items])

    return await parts.store.read(work)
