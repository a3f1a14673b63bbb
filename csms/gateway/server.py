"""Accepts stations, keeps their links, and takes commands to them.

The gateway holds no secret and decides nothing: who may connect is the centre's word. A station
has one link, its newest by link id; an older one is closed once the newer is in place, and its late
end harms nothing, because every report carries the id of its own link.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from csms.bus import Bus
from csms.clock import Clock
from csms.core.commands import Command, CommandResult, EndLink, Outcome, RawCall
from csms.core.messages import (
    CALM,
    CENTRE_OUT,
    CENTRE_STOPS,
    FLAPPING,
    LinkClosed,
    LinkOffered,
    LinkReply,
    SecurityNoticed,
)
from csms.gateway.adapter import Adapter
from csms.gateway.admission import Admission, Flaps
from csms.gateway.config import GatewayConfig
from csms.gateway.counters import Counters
from csms.gateway.frames import MAX_FRAME_CHARACTERS
from csms.gateway.handshake import (
    REFUSALS,
    Grant,
    Openings,
    Refusal,
    StationConnection,
    Takeovers,
    credential,
    identity,
    is_loopback,
    is_upgrade,
    preferred,
    subprotocol,
)
from csms.gateway.link import GOING_AWAY, TRY_AGAIN_LATER, Link
from csms.gateway.outbox import OFFLINE, not_valid
from csms.gateway.surroundings import CentreOut, Surroundings, Tap
from csms.gateway.tls import Seldom, is_about_certificate, why_refused
from csms.gateway.v16 import V16
from csms.gateway.v21 import V21
from csms.gateway.v201 import V201
from csms.telemetry import Metrics

ADAPTERS: Mapping[str, Callable[[], Adapter]] = {
    "ocpp2.1": V21,
    "ocpp2.0.1": V201,
    "ocpp1.6": V16,
}
"""Subprotocol -> adapter; a further version is a further line."""

_NORMAL = 1000
_POLICY_VIOLATION = 1008
_INTERNAL_ERROR = 1011
_SWEEP_PART = 6
_BACKLOG = 4096
"""Connections that the system keeps until we come to them: a restart brings the whole fleet."""
_ACCEPTED_AT_ONCE = 64
"""asyncio takes so many before it looks at what those have to say that it took before."""
_SILENT_PINGS = 2.5
"""A peer that was not heard for so many ping intervals is gone."""

log = logging.getLogger(__name__)


class Gateway:
    """The station side of TASCO; the command end of the bus."""

    def __init__(
        self,
        config: GatewayConfig,
        bus: Bus,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._config = config
        self._counters = Counters(metrics)
        self._around = Surroundings(config, bus, clock, self._counters, tap)
        self._adapters: dict[str, Adapter] = {name: make() for name, make in ADAPTERS.items()}
        self._links: dict[str, Link] = {}
        self._connections: set[StationConnection] = set()
        self._admission = Admission(config)
        self._takeovers = Takeovers(config.takeovers_per_minute)
        self._flaps = Flaps(config.links_per_minute)
        self._openings = Openings(config)
        self._servers: list[Server] = []
        self._securing: set[asyncio.Task[None]] = set()
        self._seldom = Seldom()
        self._sweeper: asyncio.Task[None] | None = None
        self._is_stopping = False

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for stations: plainly, with TLS, or both."""
        config = self._config
        if config.tls is None:
            self._servers.append(await self._listen(config.port, None))
        elif config.tls_port is None:
            self._servers.append(await self._listen(config.port, config.tls))
        else:
            self._servers.append(await self._listen(config.port, None))
            self._servers.append(await self._listen(config.tls_port, config.tls))
        self._sweeper = self._around.spawn(self._sweep(), "gateway sweeper")

    async def _listen(self, port: int, context: ssl.SSLContext | None) -> Server:
        gateway = self

        class Connection(StationConnection):
            config = self._config
            openings = self._openings
            tls = context

            def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
                task = gateway._around.spawn(work, name)
                gateway._securing.add(task)
                task.add_done_callback(gateway._securing.discard)

            def not_secured(self, error: Exception) -> None:
                gateway._not_secured(self.address, error)

            def abandoned(self) -> None:
                gateway._give_back(self)

        deflate = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            compress_settings={"memLevel": 5},
        )
        server = await serve(
            self._serve,
            self._config.host,
            port,
            process_request=self._process_request,
            select_subprotocol=self._select_subprotocol,
            create_connection=Connection,
            extensions=[deflate] if self._config.compression else None,
            compression=None,
            server_header=None,
            open_timeout=self._config.handshake_s + self._config.admission_wait_s + 10.0,
            # Pings are sent by the sweeper: it takes any frame for a sign of life, not pongs alone.
            ping_interval=None,
            close_timeout=self._config.close_s,
            max_size=MAX_FRAME_CHARACTERS,
            backlog=_ACCEPTED_AT_ONCE,
        )
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(_BACKLOG)
        return server

    async def stop(self) -> None:
        """Let no one in, finish what is open, and send every station away (close 1001)."""
        self._is_stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if not self._servers:
            return
        for server in self._servers:
            server.close(close_connections=False)
        for task in list(self._securing):
            task.cancel()
        links = list(self._links.values())
        await asyncio.gather(
            *(link.drain(GOING_AWAY, CENTRE_STOPS) for link in links), return_exceptions=True
        )
        for connection in list(self._connections):
            if connection.state is not State.CLOSED:
                self._around.spawn(connection.close(GOING_AWAY), "close")
        for server in self._servers:
            await server.wait_closed()
        await self._around.finish()

    def cut(self) -> int:
        """Drop every connection at once, without a close frame; return how many there were."""
        connections = list(self._connections)
        for connection in connections:
            connection.transport.abort()
        return len(connections)

    @property
    def port(self) -> int:
        """The port stations connect to; with two, the plain one."""
        return self._port_of(0)

    @property
    def tls_port(self) -> int:
        """The port stations connect to with TLS, where there is one."""
        return self._port_of(-1)

    def _port_of(self, number: int) -> int:
        if not self._servers:
            raise RuntimeError("the gateway is not started")
        return int(next(iter(self._servers[number].sockets)).getsockname()[1])

    def links(self) -> Sequence[Link]:
        """Return the links of this moment."""
        return tuple(self._links.values())

    async def _sweep(self) -> None:
        """Ping quiet links, drop silent ones."""
        interval_s = self._config.ping_s
        while True:
            await asyncio.sleep(interval_s / _SWEEP_PART)
            now = asyncio.get_running_loop().time()
            self._takeovers.forget(now)
            for station_id in self._flaps.calmed(now):
                self._notice(CALM, station_id)
            for connection in list(self._connections):
                if connection.state is not State.OPEN:
                    continue
                if now - connection.heard_at > interval_s * _SILENT_PINGS:
                    self._around.spawn(_drop(connection), "drop silent link")
                elif now - max(connection.pinged_at, connection.heard_at) >= interval_s:
                    connection.pinged_at = now
                    self._around.spawn(_ping(connection), "ping")

    # --- handshakes ------------------------------------------------------------------------------

    async def _process_request(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        assert isinstance(connection, StationConnection)
        if not is_upgrade(request.headers):
            # The library answers 426 by itself.
            return None
        try:
            await self._admit(connection, request)
        except Refusal as refusal:
            self._counters.handshake(refusal.result)
            log.info(
                "handshake refused",
                extra={
                    "why": refusal.result,
                    "path": repr(request.path[:100]),
                    "address": connection.address,
                },
            )
            return refusal.response(connection)
        self._counters.handshake("granted")
        return None

    async def _admit(self, connection: StationConnection, request: Request) -> None:
        station_id = identity(request.path)
        adapter = self._adapters[subprotocol(request.headers, self._adapters)]
        username, password = credential(request.headers)
        now = asyncio.get_running_loop().time()
        older = self._links.get(station_id.casefold())
        if older is not None and self._takeovers.are_too_many(station_id, now):
            if self._seldom.may(now, "fought over", older.station_id):
                log.warning("identity is fought over", extra={"station_id": older.station_id})
                self._notice(
                    "identity is fought over", older.station_id, address=connection.address
                )
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "takeovers", retry_after=True)
        if self._flaps.are_too_many(station_id, now):
            if self._flaps.is_news(station_id):
                log.warning(FLAPPING, extra={"station_id": station_id})
                self._notice(FLAPPING, station_id, address=connection.address)
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "flapping", retry_after=True)
        if self._is_stopping or not self._around.may_probe():
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "centre_out", retry_after=True)
        connection.opened()
        await self._admission.wait(station_id)
        offer = LinkOffered(
            station_id=station_id,
            received_at=self._around.clock.now(),
            username=username,
            password=password,
            version=adapter.version,
            remote_address=connection.address,
            # Behind a proxy every peer has the proxy's address, which is often this machine's.
            is_loopback=is_loopback(connection.address) and not self._config.behind_tls_proxy,
            is_tls=connection.tls is not None or self._config.behind_tls_proxy,
            certificate=connection.certificate,
        )
        try:
            reply: LinkReply = await self._around.ask(offer)
        except CentreOut:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "centre_out", retry_after=True) from None
        if reply.refusal is not None:
            status, retry_after = REFUSALS[reply.refusal]
            raise Refusal(status, reply.refusal.value, retry_after=retry_after)
        if not reply.station_id:
            reply = replace(reply, station_id=station_id)
        connection.grant = Grant(adapter, reply)

    def _select_subprotocol(
        self, connection: ServerConnection, offered: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        # _admit has seen that there is one.
        name = preferred(offered, self._adapters)
        return None if name is None else Subprotocol(name)

    def _give_back(self, connection: StationConnection) -> None:
        """Tell the centre that a granted link never came to be."""
        if connection.grant is not None:
            reply = connection.grant.reply
            connection.grant = None
            self._around.spawn(self._report_closed(reply, "handshake not finished"), "link closed")

    # --- links -----------------------------------------------------------------------------------

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, StationConnection)
        if connection.grant is None:
            return
        adapter, reply = connection.grant
        link = Link(connection, adapter, self._around, reply)
        self._connections.add(connection)
        self._counters.link(link.version, 1)
        try:
            self._put_in_place(link, connection.address)
            reason = await link.run()
        except Exception:
            reason = "gateway failed"
            log.exception("link failed", extra={"station_id": link.station_id})
            self._around.spawn(connection.close(_INTERNAL_ERROR), "close")
        finally:
            self._connections.discard(connection)
            self._counters.link(link.version, -1)
            if self._links.get(link.station_id.casefold()) is link:
                del self._links[link.station_id.casefold()]
        log.info("link closed", extra={"station_id": link.station_id, "why": reason})
        await self._report_closed(reply, reason)

    def _put_in_place(self, link: Link, address: str) -> None:
        key = link.station_id.casefold()
        older = self._links.get(key)
        if older is not None and older.link_id > link.link_id:
            # Two handshakes overtook each other; the newer link is already there.
            self._around.spawn(link.end(_NORMAL, "a newer link exists"), "end older link")
            return
        self._links[key] = link
        self._flaps.note(link.station_id, asyncio.get_running_loop().time())
        log.info(
            "link opened",
            extra={"station_id": link.station_id, "version": link.version.value},
        )
        if older is not None:
            self._takeovers.note(link.station_id, asyncio.get_running_loop().time())
            self._around.spawn(older.end(_NORMAL, "a newer link exists"), "end older link")
            self._notice(
                "link taken over",
                link.station_id,
                address=address,
                link_id=link.link_id,
                older_link_id=older.link_id,
            )

    def _not_secured(self, address: str, error: Exception) -> None:
        """Count a TLS handshake that failed; one refused certificate a minute is an event."""
        is_certificate = is_about_certificate(error)
        self._counters.handshake("bad_certificate" if is_certificate else "tls_failed")
        why, now = why_refused(error), asyncio.get_running_loop().time()
        if not self._seldom.may(now, "tls", address, why):
            return
        log.info("TLS handshake refused", extra={"why": why, "address": address})
        if is_certificate:
            self._notice("client certificate refused", "", address=address, why=why)

    def _notice(self, kind: str, station_id: str, **detail: object) -> None:
        """Tell the centre what an operator has to know."""
        report = SecurityNoticed(
            station_id=station_id,
            received_at=self._around.clock.now(),
            kind=kind,
            detail=detail,
        )

        async def tell() -> None:
            try:
                await self._around.ask(report)
            except CentreOut:
                log.warning("security event not recorded", extra={"kind": kind})

        self._around.spawn(tell(), kind)

    async def _report_closed(self, granted: LinkReply, reason: str) -> None:
        report = LinkClosed(
            station_id=granted.station_id,
            link_id=granted.link_id,
            received_at=self._around.clock.now(),
            reason=reason[:200],
        )
        if not await self._is_told(report):
            self._around.spawn(self._tell_later(report), f"end of a link of {granted.station_id}")

    async def _is_told(self, report: LinkClosed) -> bool:
        try:
            await self._around.ask(report)
        except CentreOut:
            log.warning("link end not recorded", extra={"station_id": report.station_id})
            return False
        return True

    async def _tell_later(self, report: LinkClosed) -> None:
        """Report the end of a link once the centre is back: until then its station seems here."""
        while not self._is_stopping:
            await asyncio.sleep(self._around.config.outage_probe_s)
            if self._around.may_probe() and await self._is_told(report):
                return

    def end_unknown(self, up_to: int, others: Collection[int] = ()) -> int:
        """End the links that the centre does not know; return how many there were.

        Ids rise, so all up to `up_to` are from before the centre began, or gave this gateway up.
        Their stations come back and are granted links that it knows.
        """
        unknown = [k for k in self._links.values() if k.link_id <= up_to or k.link_id in others]
        for link in unknown:
            self._around.spawn(link.end(TRY_AGAIN_LATER, CENTRE_OUT), "end unknown link")
        return len(unknown)

    # --- commands --------------------------------------------------------------------------------

    async def execute(self, command: Command) -> CommandResult:
        """Send `command` to its station and return what came of it; never raises for a refusal.

        NOT_SENT says why: "offline", "other link", "wrong version", "queue full", "busy" (the
        station kept the line beyond the command's wait), or "not valid: ...".
        """
        link = self._links.get(command.station_id.casefold())
        if link is None or self._is_stopping:
            return OFFLINE
        if command.link_id not in (0, link.link_id):
            return not_valid("other link")
        if isinstance(command, EndLink):
            self._around.spawn(link.end(_POLICY_VIOLATION, command.reason[:100]), "end link")
            return CommandResult(outcome=Outcome.ACCEPTED)
        if isinstance(command, RawCall) and command.version not in (None, link.version):
            return not_valid("wrong version")
        return await link.execute(command)


async def _ping(connection: ServerConnection) -> None:
    if connection.paused:
        return
    # A peer that never pongs would leave one entry here for each ping of its life.
    while len(connection.pending_pings) > 2:
        oldest = next(iter(connection.pending_pings))
        waiter, _ = connection.pending_pings.pop(oldest)
        waiter.cancel()
    try:
        await connection.ping()
    except ConnectionClosed:
        return


async def _drop(connection: ServerConnection) -> None:
    await connection.close(_INTERNAL_ERROR, "silent")
