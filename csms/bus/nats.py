"""A line to a NATS server: words, questions with one answer, and how both end with the line.

A client of nats-py serves one connection here and is then dropped. Its own way of reconnecting
sends later what nobody waits for any more, which for an order to a station is too late; with a new
client nothing is left over, and whoever waits for an answer learns at once that there is none.
"""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from csms.core.errors import BusError

Handler = Callable[[str, bytes, str], Awaitable[None]]
"""Takes a subject, what was said, and where an answer goes ("" for nowhere); must not wait long."""
Late = Callable[[bytes], None]

_CONNECT_S = 5
_PING_S = 4
_PINGS = 2
"""A server that left so many pings unanswered is gone: with the interval, 12 s at most."""
_LOOK_S = 0.5
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 2.0
_CLOSE_S = 2.0
_LATE_KEPT = 1000
_NO_RESPONDERS = "503"

log = logging.getLogger(__name__)


class LineDown(BusError):
    """There is no connection to NATS; what was asked before it went may or may not have come."""


class NobodyThere(BusError):
    """Nobody listens to the subject: what was asked reached no one."""


class TooLarge(BusError):
    """More than the server takes in one message; nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOptions:
    """Where the server is and how we show who we are; what is empty is not used."""

    servers: tuple[str, ...]
    prefix: str = "tasco"
    user: str = ""
    password: str = ""
    token: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def wants_tls(self) -> bool:
        """Whether nothing may be said in the clear."""
        return self.tls is not None or any(s.startswith("tls://") for s in self.servers)


class _Client(Client):
    """A client that shows no credential to a server that offers no TLS where that is asked for."""

    wants_tls = False

    def _connect_command(self) -> bytes:
        # The library goes on in the clear if the server says so, or somebody between does.
        if self.wants_tls and not self._server_info.get("tls_required"):
            raise Error("nats: the server offers no TLS, and the bus is configured for it")
        return super()._connect_command()


class Line:
    """One node's connection to NATS, made again whenever it is lost. Belongs to one event loop."""

    def __init__(self, options: LineOptions, *, node: str) -> None:
        """`node` is the name that answers come back to; no other node may have it."""
        self.options = options
        self.node = node
        self._client: Client | None = None
        self._up, self._lost = asyncio.Event(), asyncio.Event()
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._late: OrderedDict[int, Late] = OrderedDict()
        self._numbers = itertools.count(1)
        self._inbox = self.subject("reply", node)
        self._listeners: list[tuple[str, Handler]] = []
        self._heard: list[Subscription] = []
        self._why = ""
        self.on_up: list[Callable[[], None]] = []
        """Called each time the line is up again."""

    def subject(self, *tokens: str) -> str:
        """Return a subject below our prefix."""
        return ".".join((self.options.prefix, *tokens))

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._up.is_set()

    async def wait_up(self) -> None:
        """Return once there is a connection."""
        await self._up.wait()

    def listen(self, subject: str, handler: Handler) -> None:
        """Hand what is said on `subject` to `handler`, on each connection from the next one on.

        Never as one of a queue group: a process that hangs, or a connection of ours that died
        without a word, is in it for minutes and takes its share of the messages along.
        """
        self._listeners.append((subject, handler))

    async def hush(self) -> None:
        """Listen to nothing any more but answers to what we asked; what has come is still taken."""
        self._listeners.clear()
        heard, self._heard = self._heard, []
        for subscription in heard:
            # Not `unsubscribe`, which drops what has come and nobody has taken yet.
            with contextlib.suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await subscription.drain()  # type: ignore[no-untyped-call]

    def give_up(self, why: str) -> None:
        """End every question that waits: nobody will answer it any more."""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LineDown(why))
                # Whoever was cancelled in the same moment does not look at it.
                answer.exception()
        self._asked.clear()

    # --- saying and asking -----------------------------------------------------------------------

    async def say(self, subject: str, text: bytes, *, answer_to: str = "") -> None:
        """Say something; raises LineDown, or TooLarge. Nobody may hear it."""
        client = self._client
        if client is None or client.is_closed:
            raise LineDown("there is no connection to NATS")
        if len(text) > client.max_payload:
            raise TooLarge(
                f"{len(text)} bytes are more than the {client.max_payload} of NATS' max_payload"
            )
        try:
            await client.publish(subject, text, reply=answer_to)
        except (Error, OSError) as error:
            raise LineDown(f"NATS: {error}") from error

    async def ask(self, subject: str, text: bytes, *, late: Late | None = None) -> bytes:
        """Return the answer to a question; raises LineDown, NobodyThere or TooLarge.

        It waits as long as the line lasts. `late` is shown an answer that comes as whoever asked
        is cancelled, or after that.
        """
        number, answer = await self.asked(subject, text)
        try:
            return await answer
        except asyncio.CancelledError:
            if late is not None and answer.done() and not answer.cancelled():
                if answer.exception() is None:
                    late(answer.result())
            elif late is not None:
                self._late[number] = late
                while len(self._late) > _LATE_KEPT:
                    self._late.popitem(last=False)
            raise
        finally:
            self._asked.pop(number, None)

    async def asked(self, subject: str, text: bytes) -> tuple[int, "asyncio.Future[bytes]"]:
        """Ask, and return the question's number with its answer to come; see `forget`."""
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            await self.say(subject, text, answer_to=f"{self._inbox}.{number}")
        except BaseException:
            del self._asked[number]
            raise
        return number, answer

    def forget(self, number: int) -> None:
        """Wait for an answer no longer."""
        self._asked.pop(number, None)

    async def _take_answer(self, message: Msg) -> None:
        number = int(message.subject.rpartition(".")[2])
        answer = self._asked.get(number)
        if answer is None:
            late = self._late.pop(number, None)
            if late is not None and message.data:
                late(message.data)
        elif not answer.done():
            if not message.data and (message.headers or {}).get("Status") == _NO_RESPONDERS:
                answer.set_exception(NobodyThere(f"nobody answers to {self.options.prefix} now"))
            else:
                answer.set_result(message.data)

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        delay_s = _FIRST_DELAY_S
        try:
            while True:
                client = self._made()
                try:
                    await self._connect(client)
                except (OSError, Error, TimeoutError, ValueError) as error:
                    self._complain(str(error) or type(error).__name__)
                    _heed_cancellation()
                else:
                    _heed_cancellation()
                    delay_s = _FIRST_DELAY_S
                    await self._until_closed(client)
                    self._complain(str(client.last_error or "the connection ended"))
                self._down()
                await _ended(client)
                _heed_cancellation()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
        finally:
            self._down()
            await _ended(client)

    async def _until_closed(self, client: Client) -> None:
        """Return once `client` has ended: its own word for it may never come.

        Where the server neither reads nor hangs up, it waits to have its last words written.
        """
        while not client.is_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._lost.wait()
        self._lost.clear()

    def _made(self) -> _Client:
        client = _Client()
        client.wants_tls = self.options.wants_tls
        return client

    async def _connect(self, client: _Client) -> None:
        options = self.options

        async def lost() -> None:
            if self._client is client:
                self._lost.set()
                self._down()

        async def failed(error: Exception) -> None:
            log.info("NATS complains", extra={"why": str(error) or type(error).__name__})

        await client.connect(
            servers=list(options.servers),
            name=f"tasco {self.node}",
            allow_reconnect=False,
            connect_timeout=_CONNECT_S,
            ping_interval=_PING_S,
            max_outstanding_pings=_PINGS,
            user=options.user or None,
            password=options.password or None,
            token=options.token or None,
            tls=options.tls,
            error_cb=failed,
            disconnected_cb=lost,
            skip_subject_validation=True,
        )
        await client.subscribe(f"{self._inbox}.*", cb=self._take_answer)
        self._heard = [
            await client.subscribe(subject, cb=_taking(handler))
            for subject, handler in self._listeners
        ]
        # Until the server has answered, it may not know yet what we listen to.
        await client.flush(_CONNECT_S)
        self._client = client
        self._lost.clear()
        self._up.set()
        log.info("NATS is connected", extra={"again": bool(self._why)})
        self._why = ""
        for told in self.on_up:
            told()

    def _complain(self, why: str) -> None:
        if not self._why:
            log.error("NATS is away", extra={"why": why})
        self._why = why

    def _down(self) -> None:
        self._client = None
        self._up.clear()
        self.give_up("the connection to NATS was lost")


def _heed_cancellation() -> None:
    """Raise what the library may have swallowed while it connected or closed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _taking(handler: Handler) -> Any:
    async def take(message: Msg) -> None:
        try:
            await handler(message.subject, message.data, message.reply)
        except Exception:
            # The edge of the bus: one message failed, the next ones are taken.
            log.exception("message of the bus failed", extra={"subject": message.subject})

    return take


async def _ended(client: Client) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await client.close()
    except (OSError, Error, TimeoutError, RuntimeError, AttributeError) as error:
        log.debug("NATS did not close", extra={"why": str(error)})
