"""The operator's side as one ASGI app: API, event stream, metrics and pages.

`create_app` is given its parts; there is no global app. Nothing is open but /health, which tells
no detail, and the static files, which hold no data.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from csms.api import (
    problems,
    routes_access,
    routes_bulk,
    routes_circuits,
    routes_concept,
    routes_device_jobs,
    routes_devices,
    routes_diagnostics,
    routes_dialects,
    routes_display,
    routes_events,
    routes_frames,
    routes_imports,
    routes_local_lists,
    routes_metering,
    routes_people,
    routes_plans,
    routes_profiles,
    routes_reservations,
    routes_security,
    routes_sessions,
    routes_sites,
    routes_stations,
    routes_terms,
    uploads,
)
from csms.api.auth import Gate, OnceOnly
from csms.api.parts import Devices, Forecasting, Parts, Replanner
from csms.clock import Clock
from csms.service.caps import CapDesk
from csms.service.care import Care
from csms.service.certificates import Certificates
from csms.service.circuits import CircuitDesk
from csms.service.claims import ClaimDesk
from csms.service.concept import Concept
from csms.service.dialects import DialectBook
from csms.service.dynamic import Dynamics
from csms.service.enrolment import Enrolment
from csms.service.frames import FrameDesk
from csms.service.local_lists import LocalLists
from csms.service.metering import MeterDesk
from csms.service.notices import Notices
from csms.service.offers import OfferBook
from csms.service.passwords import Passwords
from csms.service.read_back import ReadBack
from csms.service.reports import Reports
from csms.service.reservations import Reservations
from csms.service.terms import TermsDesk
from csms.service.waiting import WaitingRoom
from csms.store.database import Store
from csms.telemetry import Metrics

PREFIX = "/api/v1"
WEB = Path(__file__).parent.parent / "web"
MAX_BODY = 1_000_000

ROUTERS = (
    routes_events.router,
    routes_sites.router,
    routes_circuits.router,
    routes_metering.router,
    routes_stations.router,
    routes_devices.router,
    routes_diagnostics.router,
    routes_device_jobs.router,
    routes_bulk.router,
    routes_security.router,
    routes_dialects.router,
    routes_profiles.router,
    routes_plans.router,
    routes_concept.router,
    routes_sessions.router,
    routes_people.router,
    routes_display.router,
    routes_frames.router,
    routes_imports.router,
    routes_local_lists.router,
    routes_reservations.router,
    routes_terms.router,
    routes_access.router,
)

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


def create_app(
    *,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    devices: Devices,
    waiting: WaitingRoom,
    reservations: Reservations,
    local_lists: LocalLists,
    terms: TermsDesk,
    frames: FrameDesk,
    dynamics: Dynamics,
    read_back: ReadBack,
    care: Care,
    replanner: Replanner,
    forecasting: Forecasting,
    notices: Notices,
    passwords: Passwords,
    certificates: Certificates,
    enrolment: Enrolment,
    offers: OfferBook,
    meters: MeterDesk,
    demo: bool = False,
    heartbeat_s: float = 1.0,
    web: Path = WEB,
) -> FastAPI:
    """Return the app over its parts.

    `demo` serves the demo's helper paths; `heartbeat_s` is how often an event stream without
    events says that it lives: pages call a line lost after 3 s of silence.
    """
    app = FastAPI(
        title="TASCO",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        description="Trip-aware smart charging: sites, stations, sessions, plans.",
    )
    app.state.parts = Parts(
        store=store,
        clock=clock,
        metrics=metrics,
        devices=devices,
        waiting=waiting,
        reservations=reservations,
        local_lists=local_lists,
        terms=terms,
        frames=frames,
        dynamics=dynamics,
        read_back=read_back,
        care=care,
        replanner=replanner,
        forecasting=forecasting,
        notices=notices,
        passwords=passwords,
        certificates=certificates,
        enrolment=enrolment,
        claims=ClaimDesk(store=store, clock=clock),
        offers=offers,
        meters=meters,
        concept=Concept(
            store=store, clock=clock, devices=devices, replanner=replanner, enrolment=enrolment
        ),
        reports=Reports(store=store, clock=clock),
        dialects=DialectBook(store=store, clock=clock),
        circuits=CircuitDesk(store=store, clock=clock, touch=replanner.touch),
        caps=CapDesk(store=store, clock=clock, touch=replanner.touch),
        demo=demo,
        heartbeat_s=heartbeat_s,
    )
    app.state.gate = Gate(store, clock)
    app.state.once_only = OnceOnly(store, clock)
    problems.register(app)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    uploads.add(app, care.logs)
    _add_health(app, store)
    _add_metrics(app, metrics)
    app.mount("/", StaticFiles(directory=web, html=True), name="web")
    app.add_middleware(Edge)
    return app


def _add_health(app: FastAPI, store: Store) -> None:
    @app.get("/health", include_in_schema=False)
    async def health() -> Response:
        """Say whether this process can take work; without detail, since anybody may ask."""
        is_ready = store.is_healthy
        return JSONResponse(
            {"status": "ready" if is_ready else "not ready"}, status_code=200 if is_ready else 503
        )

    @app.get("/health/alive", include_in_schema=False)
    async def alive() -> Response:
        """Say that the process runs; a supervisor restarts it when nothing answers here."""
        return JSONResponse({"status": "alive"})


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def show(request: Request) -> Response:
        """Return the metrics to a scraper on this machine, or to any token."""
        if not _is_local(request):
            await request.app.state.gate.caller(request)
        return PlainTextResponse(metrics.render(), media_type="text/plain; version=0.0.4")


def _is_local(request: Request) -> bool:
    """Return whether the request comes from this machine and was not passed on by a proxy."""
    if request.client is None or "forwarded" in request.headers:
        return False
    if any(name.startswith("x-forwarded-") for name in request.headers):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


class Edge:
    """Bounds request bodies and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = str(scope["path"])
        if path.startswith(uploads.PREFIX):
            # A file has a limit of its own, looked after where it is written.
            await self.app(scope, receive, _with_headers(send, is_private=True))
            return
        sending = _with_headers(send, is_private=path.startswith(PREFIX) or path == "/metrics")
        taken = 0
        has_answered = False

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                raise _TooLarge
            return message

        async def noting(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            await sending(message)

        try:
            if _declared_length(scope) > MAX_BODY:
                raise _TooLarge
            await self.app(scope, bounded, noting)
        except _TooLarge:
            if not has_answered:
                refusal = problems.answer(
                    413, "too-large", "Body too large", f"a body may have {MAX_BODY} bytes"
                )
                await refusal(scope, receive, sending)
        except ClientDisconnect:
            return


class _TooLarge(BaseException):
    """The body is over the limit; no handler in between may turn it into something else."""


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _with_headers(send: Send, *, is_private: bool) -> Callable[[Message], Awaitable[None]]:
    extra = list(_HEADERS)
    # Pages are looked up again each time, so that an upgrade is seen at once.
    extra.append((b"cache-control", b"no-store" if is_private else b"no-cache"))

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message.get("headers", [])}
            message["headers"] = [
                *message.get("headers", []),
                *((name, value) for name, value in extra if name not in names),
            ]
        await send(message)

    return sending
