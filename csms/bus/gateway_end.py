"""The bus as a gateway has it where the centre is another process.

It greets the centre every two seconds. From the answer it knows which run of the centre it talks
to, what the centre's clock shows, and which of its links the centre does not know. While the line
or the centre is away a report is held for a while, as a store that cannot write holds it; what may
already have reached the centre is never asked twice from here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

from csms.bus.envelope import (
    COMMAND,
    GREET_S,
    GREETINGS,
    LIST_EVERY,
    NODE,
    NOTICE,
    REPORT,
    VALID_S,
    WELCOMES,
    Greeting,
    OtherCentre,
    Welcome,
    fingerprint,
    packed,
    token,
    unpacked,
)
from csms.bus.nats import Line, LineDown, NobodyThere, TooLarge
from csms.bus.wire import Codec, Unreadable, encode_error
from csms.clock import Clock
from csms.core.commands import Command, CommandResult, Outcome
from csms.core.errors import BusError, TascoError
from csms.core.messages import (
    CommandHandler,
    LinkClosed,
    LinkOffered,
    LinkReply,
    Noted,
    Notice,
    Report,
)
from csms.tasks import Tasks

R = TypeVar("R")

_HOLD_S = 5.0
"""How long after the centre was reached last a report still waits for it.

Enough for a server that restarts. Longer, and stations with short time-outs would count the wait as
one of their few attempts, which a link that ends does not."""
_TRY_S = 0.3
_ANSWER_WITHIN_S = 2.0
_RESULT_KEPT_S = 60.0
_OFFLINE = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="offline")

log = logging.getLogger(__name__)


class LinkHolder(CommandHandler, Protocol):
    """The gateway, as this end of the bus knows it."""

    def end_unknown(self, up_to: int, others: Collection[int] = ()) -> int:
        """End links that the centre does not know."""
        ...


class GatewayEnd:
    """A Bus whose centre is elsewhere."""

    def __init__(self, line: Line, clock: Clock, *, name: str) -> None:
        self._line = line
        self._clock = clock
        self._name = name
        self._words = fingerprint()
        self._codec = Codec()
        self._gateway: LinkHolder | None = None
        self._link_ids: Callable[[], Collection[int]] = tuple
        self._centre = ""
        self._offset_s = 0.0
        """What the centre's clock shows beyond ours."""
        self._reached_at = time.monotonic()
        self._greet_now = asyncio.Event()
        self._tasks = Tasks()
        self._orders: set[int] = set()
        """What we have been ordered and have not answered: the numbers of its answers."""
        self._problem = ""
        self._is_ending = False
        line.listen(line.subject(COMMAND, line.node, "*"), self._take_command)
        line.on_up.append(self._greet_now.set)

    def attach_gateway(self, gateway: LinkHolder, link_ids: Callable[[], Collection[int]]) -> None:
        """Let `gateway` carry out commands; `link_ids` tells which links it has."""
        self._gateway = gateway
        self._link_ids = link_ids

    @property
    def is_reached(self) -> bool:
        """Whether the centre has answered within the last greetings."""
        is_recent = time.monotonic() - self._reached_at < 3 * GREET_S + _ANSWER_WITHIN_S
        return bool(self._centre) and self._line.is_up and is_recent

    @property
    def centre(self) -> str:
        """The run of the centre that is reached, "" while there is none."""
        return self._centre if self.is_reached else ""

    @property
    def why_not(self) -> str:
        """Why the centre is not reached, as far as it is known."""
        if self._problem or self.is_reached:
            return self._problem
        return "no centre answers" if self._line.is_up else "NATS is away"

    # --- reports ---------------------------------------------------------------------------------

    async def ask(self, report: Report[R]) -> R:
        """Take `report` to the centre; raises as csms.bus.Bus says."""
        word = self._codec.encode(report)
        late = self._granted_late if type(report) is LinkOffered else None
        while True:
            try:
                reply: R = await self._asked(word, late)
                return reply
            except (NobodyThere, _NotSent, OtherCentre) as error:
                # It reached nobody, or one who did nothing with it.
                if self._is_ending or time.monotonic() - self._reached_at > _HOLD_S:
                    raise
                why = error
            self._greet_now.set()
            log.debug("report waits for the centre", extra={"why": str(why)})
            await asyncio.sleep(_TRY_S)

    async def _asked(self, word: bytes, late: Callable[[bytes], None] | None) -> Any:
        if not self._centre:
            raise _NotSent(self.why_not or "no centre has answered yet")
        if not self._line.is_up:
            raise _NotSent("NATS is away")
        until_s = time.monotonic() + self._offset_s + VALID_S
        head = (self._centre, self._line.node, f"{until_s:.3f}")
        try:
            answer = await self._line.ask(
                self._line.subject(REPORT, self._centre), packed(head, word), late=late
            )
        except TooLarge as error:
            log.error("report is too large for the bus", extra={"why": str(error)})
            raise TascoError(str(error)) from error
        reply = self._codec.decode(unpacked(answer)[1])
        self._reached_at = time.monotonic()
        return reply

    def _granted_late(self, answer: bytes) -> None:
        """Give a link back that was granted when nobody waited for it any more."""
        try:
            reply = self._codec.decode(unpacked(answer)[1])
        except TascoError:
            return
        if isinstance(reply, LinkReply) and reply.link_id:
            report = LinkClosed(
                station_id=reply.station_id,
                link_id=reply.link_id,
                received_at=self._clock.now(),
                reason="handshake not finished",
            )
            self._tasks.start(self._give_back(report), "give back link")

    async def _give_back(self, report: Report[Noted]) -> None:
        try:
            await self.ask(report)
        except TascoError as error:
            # The next list of our links tells the centre as well.
            log.info("link not given back", extra={"why": str(error)})

    # --- commands --------------------------------------------------------------------------------

    async def command(self, command: Command) -> CommandResult:
        """Carry out `command` here; a gateway has no way to others."""
        return _OFFLINE if self._gateway is None else await self._gateway.execute(command)

    async def _take_command(self, subject: str, message: bytes, answer_to: str) -> None:
        (centre, until), word = unpacked(message, 2)
        number = int(answer_to.rpartition(".")[2])
        if time.monotonic() + self._offset_s > float(until):
            log.warning("order came too late", extra={"subject": subject})
            await self._answer(answer_to, _OFFLINE)
            return
        if centre != self._centre or self._gateway is None:
            self._greet_now.set()
            await self._answer(answer_to, _OFFLINE)
            return
        command: Command = self._codec.decode(word)
        self._orders.add(number)
        done = self._carry_out(command, self._gateway, answer_to)
        self._tasks.start(done, "command").add_done_callback(lambda _: self._orders.discard(number))

    async def _carry_out(self, command: Command, gateway: LinkHolder, answer_to: str) -> None:
        try:
            result = await gateway.execute(command)
        except Exception:
            # The edge of the bus: the centre learns that nobody knows what came of it.
            log.exception("command failed", extra={"station_id": command.station_id})
            result = CommandResult(outcome=Outcome.NO_ANSWER)
        await self._answer(answer_to, result)

    async def _answer(self, answer_to: str, result: CommandResult) -> None:
        """Tell the centre what came of a command, if need be once the line is up again."""
        try:
            word = packed((), self._codec.encode(result))
        except ValueError as error:
            log.warning("result of a command cannot be told", extra={"why": str(error)[:200]})
            word = packed((), encode_error(Unreadable("the answer is no plain JSON")))
        try:
            async with asyncio.timeout(_RESULT_KEPT_S):
                while True:
                    await self._line.wait_up()
                    try:
                        await self._line.say(answer_to, word)
                    except LineDown:
                        await asyncio.sleep(_TRY_S)
                    except TooLarge as error:
                        word = packed((), encode_error(error))
                    else:
                        return
        except TimeoutError:
            log.warning("result of a command not told", extra={"outcome": str(result.outcome)})

    async def notify(self, notice: Notice) -> None:
        """Show `notice` to whoever listens to its site's subject."""
        subject = self._line.subject(NOTICE, token(notice.site_id))
        try:
            await self._line.say(subject, packed((), self._codec.encode(notice)))
        except BusError as error:
            log.debug("notice not shown", extra={"why": str(error)})

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Greet the centre until cancelled."""
        count = 0
        while True:
            self._greet_now.clear()
            if self._line.is_up:
                is_list = count % LIST_EVERY == 0
                count += 1 if await self._greet(with_list=is_list) else 0
            try:
                async with asyncio.timeout(GREET_S):
                    await self._greet_now.wait()
                await asyncio.sleep(_TRY_S)
            except TimeoutError:
                continue

    def begin_end(self) -> None:
        """Wait for nothing any more: this gateway ends."""
        self._is_ending = True

    async def leave(self) -> None:
        """Tell the centre that this gateway ends, and finish what is under way."""
        if self._line.is_up:
            await self._greet(with_list=True, is_leaving=True)
        await self._tasks.finish(within_s=0.0)

    async def _greet(self, *, with_list: bool, is_leaving: bool = False) -> bool:
        greeting = Greeting(
            node=self._line.node,
            name=self._name,
            words=self._words,
            links=tuple(self._link_ids()) if with_list else None,
            orders=tuple(self._orders),
            is_leaving=is_leaving,
        )
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                answer = await self._line.ask(
                    self._line.subject(NODE), GREETINGS.dump_json(greeting)
                )
            welcome = WELCOMES.validate_json(answer)
        except NobodyThere as error:
            # Whoever was to answer is gone.
            self._line.give_up(str(error))
            return False
        except (BusError, TimeoutError, ValueError) as error:
            log.debug("greeting not answered", extra={"why": str(error)})
            return False
        return self._welcomed(welcome, asked_at)

    def _welcomed(self, welcome: Welcome, asked_at: float) -> bool:
        if welcome.problem:
            if welcome.problem != self._problem:
                log.error("the centre does not take us", extra={"why": welcome.problem})
            self._problem, self._centre = welcome.problem, ""
            return False
        if welcome.centre != self._centre:
            # What another was asked has no answer any more.
            self._line.give_up("the centre is another by now")
            log.info("centre is reached", extra={"centre": welcome.centre})
        self._problem = ""
        self._centre = welcome.centre
        self._offset_s = welcome.now_s - asked_at
        self._reached_at = time.monotonic()
        if self._gateway is not None:
            ended = self._gateway.end_unknown(welcome.unknown_to, welcome.unknown)
            if ended:
                log.warning("links that the centre does not know are ended", extra={"links": ended})
        return True


class _NotSent(BusError):
    """Nothing left this process."""
