"""Who calls, and what each route asks of a caller; a route that asks nothing is never built.

A bearer token is 256 random bits, kept as its SHA-256 only: there is nothing to guess, so a slow
hash would buy nothing. What a token may do is remembered for two seconds, so a revoked one stops
working within five.
"""

import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from csms.api.problems import Problem
from csms.api.viewing import for_viewers
from csms.clock import Clock
from csms.store import access
from csms.store.database import Store

VIEWER = "viewer"
OPERATOR = "operator"
ROLES = (VIEWER, OPERATOR)
"""From the least to the most; each may do what those before it may."""

_REMEMBERED_S = 2.0
_REMEMBERED = 1_000
_MAX_KEY = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever presented a valid token."""

    token_id: int
    role: str
    label: str

    @property
    def name(self) -> str:
        """Return how the caller is named in records."""
        return f"{self.role} {self.label or self.token_id}"


def new_token() -> str:
    """Return a fresh token; it is shown once and never kept."""
    return f"tasco_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> str:
    """Return what the store keeps of `token`."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_prefix(token: str) -> str:
    """Return the part of `token` by which its owner recognises it."""
    return token[:12]


class Gate:
    """Finds the caller behind a request."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Caller | None]] = OrderedDict()

    async def caller(self, request: Request) -> Caller:
        """Return who calls; raise Problem 401 where nobody can be told."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem(401, "unauthenticated", "Log in", "send Authorization: Bearer <token>")
        caller = await self._find(token_hash(token.strip()))
        if caller is None:
            raise Problem(401, "unauthenticated", "Log in", "the token is unknown or revoked")
        return caller

    async def _find(self, hashed: str) -> Caller | None:
        now_s = time.monotonic()
        known = self._known.get(hashed)
        if known is not None and now_s < known[0]:
            return known[1]
        record = await self._store.read(lambda tx: access.find_api_token(tx, hashed))
        caller = None
        if record is not None:
            caller = Caller(token_id=record.token_id, role=record.role, label=record.label)
            now = self._clock.now()
            if record.last_used_at is None or now - record.last_used_at > timedelta(minutes=1):
                await self._store.write(
                    lambda tx: access.note_api_token_use(tx, record.token_id, now)
                )
        self._known[hashed] = (now_s + _REMEMBERED_S, caller)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def forget(self) -> None:
        """Look every token up again: one was revoked."""
        self._known.clear()


class Needs:
    """A dependency: the caller's role must be at least `role`."""

    def __init__(self, role: str) -> None:
        self.role = role

    async def __call__(self, request: Request) -> Caller:
        """Return the caller, or answer 401 or 403."""
        gate: Gate = request.app.state.gate
        caller = await gate.caller(request)
        if caller.role not in ROLES or ROLES.index(caller.role) < ROLES.index(self.role):
            raise Problem(403, "forbidden", "Not permitted", f"this needs the role {self.role}")
        request.state.caller = caller
        return caller


viewer = Needs(VIEWER)
operator = Needs(OPERATOR)


def role_of(dependant: Dependant) -> str | None:
    """Return the role that a route's dependencies declare, None if they declare none."""
    if isinstance(dependant.call, Needs):
        return dependant.call.role
    return next(filter(None, map(role_of, dependant.dependencies)), None)


class GuardedRoute(APIRoute):
    """A route that must declare a role, and whose POSTs act once per Idempotency-Key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if role_of(self.dependant) is None:
            raise TypeError(f"{self.path} declares no role; depend on viewer or operator")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which replays what it answered before under the same key."""
        plain = super().get_route_handler()

        async def once(request: Request) -> Response:
            # Before the body is read or anything is replayed: a stranger gets no further.
            caller = await request.app.state.gate.caller(request)
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or key is None:
                response = await plain(request)
                return for_viewers(response) if caller.role == VIEWER else response
            if not 1 <= len(key) <= _MAX_KEY:
                raise Problem(
                    422,
                    "invalid-input",
                    "Invalid input",
                    f"Idempotency-Key has {len(key)} characters; it must have 1 to {_MAX_KEY}",
                )
            once_only: OnceOnly = request.app.state.once_only
            return await once_only.run(request, plain, scope=f"{caller.token_id}:{key}")

        return once


class OnceOnly:
    """Keeps what acting requests were answered, by key, until housekeeping forgets it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: set[str] = set()

    async def run(
        self,
        request: Request,
        handler: Callable[[Request], Coroutine[Any, Any, Response]],
        *,
        scope: str,
    ) -> Response:
        """Answer `request`, from the record where the same key asked the same before."""
        key = hashlib.sha256(scope.encode()).hexdigest()
        digest = _digest(request, await request.body())
        if key in self._running:
            raise Problem(
                409, "in-progress", "In progress", "a request with this key is still running"
            )
        self._running.add(key)
        try:
            known = await self._store.read(lambda tx: access.find_response(tx, key))
            if known is not None:
                return _replayed(known, digest)
            response = await handler(request)
            if response.status_code < 500 and hasattr(response, "body"):
                instead: str | None = getattr(request.state, "keep_instead", None)
                kept = access.KeptResponse(
                    request_hash=digest,
                    status_code=response.status_code,
                    response=bytes(response.body).decode() if instead is None else instead,
                    at=self._clock.now(),
                )
                await self._store.write(lambda tx: access.keep_response(tx, key, kept))
            return response
        finally:
            self._running.discard(key)


def keep_instead(request: Request, answer: dict[str, object]) -> None:
    """Keep `answer` for repeats instead of what is answered now: a secret is shown once only."""
    request.state.keep_instead = json.dumps(answer)


def _digest(request: Request, body: bytes) -> str:
    head = json.dumps([request.method, request.url.path, request.url.query])
    return hashlib.sha256(head.encode() + b"\n" + body).hexdigest()


def _replayed(known: access.KeptResponse, asked: str) -> Response:
    if not hmac.compare_digest(known.request_hash, asked):
        raise Problem(
            422,
            "key-reused",
            "Key used for something else",
            "this Idempotency-Key was used with another request; use a new one",
        )
    return Response(
        known.response,
        status_code=known.status_code,
        media_type="application/json",
        headers={"Idempotent-Replayed": "true"},
    )
