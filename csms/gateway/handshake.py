"""The upgrade request of a station: who it says it is, what it offers, and what it is told.

The last segment of the path, decoded once, is the identity; the subprotocol alone chooses the
version. Everything here is decided before the upgrade, so that a refusal is plain HTTP.
"""

import asyncio
import base64
import binascii
import ipaddress
import random
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.frames import apply_mask  # type: ignore[attr-defined]
from websockets.http11 import Request, Response
from websockets.protocol import Event, Protocol, State
from websockets.streams import StreamReader

from csms.core.messages import LinkRefusal, LinkReply
from csms.gateway.adapter import Adapter
from csms.gateway.config import GatewayConfig
from csms.gateway.tls import taken_from

MAX_IDENTITY_CHARACTERS = 48
_MIN_SEGMENTS, _MAX_SEGMENTS = 2, 4
_MAX_PATH_CHARACTERS = 1024
_MINUTE_S = 60.0
_FINAL_TEXT, _MASKED, _SHORT, _TWO_BYTES = 0x81, 0x80, 125, 126
_MOST_AT_ONCE = 1 << 14
_AT_FRAME = StreamReader.at_eof.__code__
"""Where the library's reader waits when no frame has begun."""
_OLDER, _NEWER = "ocpp2.0.1", "ocpp2.1"
_SERVED: Final = Request("", Headers())
"""Stands for a request that was answered."""


class Credential(NamedTuple):
    """Basic authentication as it came; None for both without the header."""

    username: str | None = None
    password: bytes | None = None


class Refusal(Exception):
    """A handshake that is answered with plain HTTP; `result` is its name in the metrics.

    `retry_after` tells the station to come back some time later, `retry_after_s` when exactly.
    """

    def __init__(
        self,
        status: HTTPStatus,
        result: str,
        *,
        retry_after: bool = False,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(result)
        self.status = status
        self.result = result
        if retry_after and retry_after_s is None:
            # Spread, so that a fleet refused together does not come back together.
            retry_after_s = random.randint(5, 60)
        self.retry_after_s = retry_after_s

    def response(self, connection: ServerConnection) -> Response:
        """Return the HTTP answer; it never says which part of a credential was wrong."""
        response = connection.respond(self.status, f"{self.status.phrase}\n")
        if self.status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
        if self.retry_after_s is not None:
            response.headers["Retry-After"] = str(self.retry_after_s)
        return response


REFUSALS: Mapping[LinkRefusal, tuple[HTTPStatus, bool]] = {
    LinkRefusal.UNKNOWN_STATION: (HTTPStatus.NOT_FOUND, False),
    LinkRefusal.BAD_CREDENTIAL: (HTTPStatus.UNAUTHORIZED, False),
    LinkRefusal.PROFILE_TOO_LOW: (HTTPStatus.UNAUTHORIZED, False),
    LinkRefusal.BAD_CERTIFICATE: (HTTPStatus.UNAUTHORIZED, False),
    LinkRefusal.NOT_ASKED_FOR: (HTTPStatus.UNAUTHORIZED, False),
    LinkRefusal.TOO_MANY_ATTEMPTS: (HTTPStatus.TOO_MANY_REQUESTS, True),
}


def identity(path: str) -> str:
    """Return the station's identity in a request path; raises Refusal (404) if it holds none."""
    plain = path.partition("?")[0].partition("#")[0]
    segments = plain.removesuffix("/").split("/")[1:]
    if len(path) > _MAX_PATH_CHARACTERS or not _MIN_SEGMENTS <= len(segments) <= _MAX_SEGMENTS:
        raise Refusal(HTTPStatus.NOT_FOUND, "bad_path")
    if any(segment in ("", ".", "..") for segment in segments):
        raise Refusal(HTTPStatus.NOT_FOUND, "bad_path")
    try:
        found = unquote_to_bytes(segments[-1]).decode()
    except UnicodeDecodeError:
        found = ""
    if not 0 < len(found) <= MAX_IDENTITY_CHARACTERS or not found.isprintable():
        raise Refusal(HTTPStatus.NOT_FOUND, "bad_path")
    if found in (".", "..") or "/" in found:
        raise Refusal(HTTPStatus.NOT_FOUND, "bad_path")
    return found


def subprotocol(headers: Headers, known: Mapping[str, Any]) -> str:
    """Return the subprotocol to speak with this station; raises Refusal (400) if there is none."""
    values = headers.get_all("Sec-WebSocket-Protocol")
    offered = [name.strip() for value in values for name in value.split(",")]
    found = preferred(offered, known)
    if found is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "no_common_subprotocol")
    return found


def preferred(offered: Sequence[str], known: Mapping[str, Any]) -> str | None:
    """Return which of the `offered` subprotocols to speak, None if none is `known`.

    The station's order decides, save that 2.1 goes before 2.0.1: it holds all of it, and stations
    that speak both list them in either order.
    """
    found = next((name for name in offered if name in known), None)
    return _NEWER if found == _OLDER and _NEWER in offered and _NEWER in known else found


def credential(headers: Headers) -> Credential:
    """Return the Basic credential, split at its first colon; raises Refusal (401) if it is none.

    The password stays bytes: a 1.6 AuthorizationKey may be any.
    """
    values = headers.get_all("Authorization")
    if not values:
        return Credential()
    scheme, _, encoded = values[0].partition(" ")
    try:
        if len(values) != 1 or scheme.lower() != "basic":
            raise ValueError
        plain = base64.b64decode(encoded.strip(), validate=True)
    except (ValueError, binascii.Error):
        raise Refusal(HTTPStatus.UNAUTHORIZED, "bad_authorization_header") from None
    username, colon, password = plain.partition(b":")
    if not colon:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "bad_authorization_header")
    return Credential(username.decode(errors="replace"), password)


def is_upgrade(headers: Headers) -> bool:
    """Return whether the request asks for a websocket at all."""
    return any("websocket" in value.lower() for value in headers.get_all("Upgrade"))


def is_loopback(address: str) -> bool:
    """Return whether `address` is this machine's own."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_at_frame(parser: object) -> bool:
    """Return whether the library's parser waits for a frame to begin."""
    # It is a generator that delegates to others: the innermost is where it waits.
    while (inner := getattr(parser, "gi_yieldfrom", None)) is not None:
        parser = inner
    return getattr(parser, "gi_code", None) is _AT_FRAME


class Takeovers:
    """How often a new link has replaced a living one; two clients may fight for one identity.

    An identity is the same in any case of its letters.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._at: dict[str, deque[float]] = {}

    def note(self, station_id: str, now: float) -> None:
        """Remember one take-over."""
        self._at.setdefault(station_id.casefold(), deque(maxlen=self._per_minute)).append(now)

    def are_too_many(self, station_id: str, now: float) -> bool:
        """Return whether the last minute has seen as many as are permitted."""
        past = self._at.get(station_id.casefold())
        return past is not None and len(past) == past.maxlen and now - past[0] < _MINUTE_S

    def forget(self, now: float) -> None:
        """Drop what is older than a minute."""
        for station_id in [s for s, past in self._at.items() if now - past[-1] >= _MINUTE_S]:
            del self._at[station_id]


class Openings:
    """Connections that have not finished their handshake, in all and by address."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._by_address: Counter[str] = Counter()
        self._open = 0

    def enter(self, address: str) -> bool:
        """Count one more; return whether there is room for it."""
        self._open += 1
        self._by_address[address] += 1
        if self._open > self._config.handshakes_open:
            return False
        if is_loopback(address) and not self._config.limit_loopback:
            return True
        return self._by_address[address] <= self._config.handshakes_per_address

    def leave(self, address: str) -> None:
        """Count one less."""
        self._open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class Grant(NamedTuple):
    """What the centre and the subprotocol agreed on for one connection."""

    adapter: Adapter
    reply: LinkReply


class StationConnection(ServerConnection):
    """A websocket that knows when its peer was last heard and how long its request may take.

    Memory is what a depot of ten thousand idle stations is made of: up to thirty attributes of an
    instance share their names with all others, and the library has nearly as many.
    """

    __slots__ = ("_is_opening", "_waiting", "address", "grant", "heard_at", "pinged_at")

    openings: Openings
    config: GatewayConfig
    tls: ssl.SSLContext | None = None
    """None on a plain port."""
    spawn: Callable[..., object]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.grant: Grant | None = None
        self.address = ""
        """The peer's address, "" where there is none."""
        self.heard_at = self.pinged_at = 0.0
        self._is_opening = False
        self._waiting: asyncio.Future[str | None] | None = None
        """Whoever waits for the next message; None as its result: the library has something."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and cut it if there are too many half-open ones.

        One that is cut never becomes a websocket and counts no longer: when a fleet comes back,
        thousands that wait for their end would leave no room for anybody.
        With TLS this happens twice: for the bare socket, and once it is secured.
        """
        if transport.get_extra_info("ssl_object") is not None:
            super().connection_made(transport)
            return
        peer: Sequence[Any] | None = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.heard_at = self.pinged_at = self.loop.time()
        bare = cast(asyncio.Transport, transport)
        has_room = self.openings.enter(self.address)
        self._is_opening = True
        if has_room and self.tls is None:
            super().connection_made(transport)
            return
        if not has_room or self.tls is None or not self._is_taken(bare, self.tls):
            self.opened()
        bare.set_protocol(asyncio.Protocol())
        bare.abort()

    def _is_taken(self, bare: asyncio.Transport, tls: ssl.SSLContext) -> bool:
        """Begin the TLS handshake; return False where no file is left for its socket."""
        try:
            taken = taken_from(bare)
        except OSError as error:
            self.not_secured(error)
            return False
        self.spawn(self._secure(taken, tls), "TLS handshake")
        return True

    async def _secure(self, bare: socket.socket, tls: ssl.SSLContext) -> None:
        """Do the TLS handshake; what it gives begins as a websocket."""
        is_secured = False
        try:
            await self.loop.connect_accepted_socket(
                lambda: self,
                bare,
                ssl=tls,
                ssl_handshake_timeout=self.config.handshake_s,
                ssl_shutdown_timeout=self.config.close_s,
            )
            is_secured = True
        except (OSError, TimeoutError) as error:
            self.not_secured(error)
        finally:
            if not is_secured:
                self.opened()
                bare.close()

    def not_secured(self, error: Exception) -> None:
        """Do what is due when the TLS handshake failed."""

    @property
    def certificate(self) -> bytes:
        """The peer's verified certificate (DER), empty without one."""
        secured = self.transport.get_extra_info("ssl_object")
        return b"" if secured is None else secured.getpeercert(binary_form=True) or b""

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """Do the handshake; its request has to arrive within its own, shorter limit."""
        try:
            async with asyncio.timeout(self.config.handshake_s):
                await asyncio.wait(
                    [self.request_rcvd, self.connection_lost_waiter],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            await super().handshake(*args, **kwargs)
        finally:
            self.opened()
            if self.request is not None:
                # Their headers are done with, and a link lives for weeks. The library's choice of a
                # subprotocol refers back to us: without it an ended connection is freed at once,
                # not by the collector, which looks at what is old hardly ever.
                self.request, self.response = _SERVED, None
                vars(self.protocol).pop("select_subprotocol", None)
                self._forget_request()
            if self.state is not State.OPEN:
                self.abandoned()

    def _forget_request(self) -> None:
        """Let the library read frames with a parser that has not read, and kept, the request."""
        protocol = self.protocol
        if (
            protocol.state is State.OPEN
            and not protocol.reader.buffer
            and _is_at_frame(protocol.parser)
        ):
            protocol.parser = Protocol.parse(protocol)
            next(protocol.parser)

    def opened(self) -> None:
        """Count the connection as half-open no longer: what is left to wait for is our turn."""
        if self._is_opening:
            self._is_opening = False
            self.openings.leave(self.address)

    def abandoned(self) -> None:
        """Do what is due when the connection ends before it became a link."""

    def send_at_once(self, text: str) -> bool:
        """Send a short text if that cannot wait; return False if it might, with nothing sent.

        It cannot where nothing is left to write and the text stays below the socket's high-water
        mark. The library's `send` is ready to wait at every step, which costs more than sending.
        """
        transport = self.transport
        if (
            self.state is not State.OPEN
            or self.send_in_progress is not None
            or transport.is_closing()
            or transport.get_write_buffer_size()
        ):
            return False
        payload = text.encode()
        if len(payload) > _SHORT or self.protocol.extensions:
            self.protocol.send_text(payload)
            self.send_data()
        else:
            # RFC 6455 5.2: one final frame of text, not masked, its length in one byte.
            transport.write(bytes((_FINAL_TEXT, len(payload))) + payload)
        return True

    async def next_message(self) -> str | bytes:
        """Return the next message; raises ConnectionClosed like the library's `recv`.

        A short message that comes alone, as nearly every one does, is read at once: the library
        takes it through six objects and two queues, which costs more than all else that a
        heartbeat causes.
        """
        while not len(self.recv_messages.frames) and self.state is State.OPEN:
            self._waiting = self.loop.create_future()
            try:
                text = await self._waiting
            finally:
                self._waiting = None
            if text is not None:
                return text
        return await self.recv()

    def data_received(self, data: bytes) -> None:
        """Hand over what came: to whoever waits if it is one whole text, else to the library."""
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            text = self._whole_text(data)
            if text is not None:
                self.heard_at = self.loop.time()
                waiting.set_result(text)
                return
        super().data_received(data)

    def _whole_text(self, data: bytes) -> str | None:
        """Return the text of `data` if that is one final, masked, plain frame (RFC 6455 5.2)."""
        protocol = self.protocol
        if (
            len(data) < 6
            or data[0] != _FINAL_TEXT
            or protocol.state is not State.OPEN
            or protocol.current_size is not None
            or protocol.reader.buffer
            or not _is_at_frame(protocol.parser)
        ):
            return None
        length, begin = data[1] - _MASKED, 2
        if length == _TWO_BYTES:
            length, begin = int.from_bytes(data[2:4], "big"), 4
            if length <= _SHORT:
                return None
        if not 0 <= length == len(data) - begin - 4 or length > _MOST_AT_ONCE:
            return None
        try:
            return apply_mask(data[begin + 4 :], data[begin : begin + 4]).decode()
        except UnicodeDecodeError:
            return None

    def process_event(self, event: Event) -> None:
        """Note that the peer lives: any frame counts, a pong as much as a message."""
        self.heard_at = self.loop.time()
        super().process_event(event)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever waits for a message learn that there will be none."""
        super().connection_lost(exc)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
