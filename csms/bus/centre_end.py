"""The bus as the centre has it where the gateways are other processes.

It knows which gateway holds which link: the links it has granted since it began, and none from
before, which their gateways are told to end. A report that belongs to no such link is refused, a
command goes to the gateway of the station's newest link and names it. A gateway that does not
greet any more is given up: its links have ended, as far as the centre is concerned.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from csms.bus.envelope import (
    COMMAND,
    GREETINGS,
    LOST_S,
    NODE,
    NOTICE,
    ORDER_LOST_S,
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
from csms.bus.wire import Codec, encode_error
from csms.clock import Clock
from csms.core.commands import Command, CommandResult, EndLink, Outcome
from csms.core.errors import BusError, LinkUnknown, StoreUnavailable, TascoError
from csms.core.messages import (
    CommandAnswered,
    LinkClosed,
    LinkOffered,
    LinkReply,
    Notice,
    NoticeHandler,
    Report,
    ReportHandler,
    SecurityNoticed,
)
from csms.tasks import Tasks

R = TypeVar("R")

_TICK_S = 1.0
_LOST = "gateway lost"
_LONGEST_S = 900.0
"""A command of many steps at a slow station takes minutes; beyond this nothing comes any more."""
_YOUNG_S = 60.0
"""A link that was granted so recently may still be on its way to its gateway."""
_OF_ANY_LINK = (LinkClosed, CommandAnswered)
"""What is kept whatever became of the link it is about."""
_OFFLINE = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="offline")
_OTHER_LINK = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="other link")
_NO_ANSWER = CommandResult(outcome=Outcome.NO_ANSWER)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    station_id: str
    granted_at: float


@dataclass(slots=True)
class _Order:
    answer: "asyncio.Future[bytes]"
    known_at: float
    """When it was sent, or its gateway told of it last."""
    is_missing: bool = False
    """Whether the last greeting did not tell of it."""


@dataclass(slots=True)
class Node:
    """A gateway that greets."""

    name: str
    unknown_to: int
    """All its links up to this id are none that we know."""
    heard_at: float
    links: dict[int, _Held] = field(default_factory=dict)
    orders: dict[int, _Order] = field(default_factory=dict)


class CentreEnd:
    """A Bus whose gateways are elsewhere."""

    def __init__(
        self,
        line: Line,
        clock: Clock,
        *,
        newest_link_id: int,
        may_decide: Callable[[], bool] = lambda: True,
    ) -> None:
        """`newest_link_id` is the last one that was granted before; `may_decide` is our lease."""
        self._line = line
        self._clock = clock
        self._codec = Codec()
        self._words = fingerprint()
        self.run_id = uuid.uuid4().hex[:12]
        """Names this run of the centre: what is said to it goes to no other."""
        self._may_decide = may_decide
        self._centre: ReportHandler | None = None
        self._watchers: list[NoticeHandler] = []
        self._nodes: dict[str, Node] = {}
        self._at: dict[str, tuple[int, str]] = {}
        """Station, letter case folded -> its newest link and the node of that."""
        self._newest_link_id = newest_link_id
        self._ended: list[LinkClosed] = []
        """Links of gateways that were lost, until that is on record."""
        self._tasks = Tasks()
        line.listen(line.subject(REPORT, self.run_id), self._take_report)
        # All centres hear it; the one that leads answers.
        line.listen(line.subject(NODE), self._take_greeting)
        line.on_up.append(self._give_time)

    def attach_centre(self, handler: ReportHandler) -> None:
        """Let `handler` answer reports from now on."""
        self._centre = handler

    def attach_notices(self, handler: NoticeHandler) -> None:
        """Show notices to `handler` as well."""
        self._watchers.append(handler)

    @property
    def gateways(self) -> int:
        """How many gateways there are at this moment."""
        return len(self._nodes)

    # --- reports ---------------------------------------------------------------------------------

    async def ask(self, report: Report[R]) -> R:
        """Answer a report of this very process; raises as csms.bus.Bus says."""
        if self._centre is None:
            raise BusError("no centre is attached to the bus")
        return await self._centre.handle(report)

    async def _take_report(self, subject: str, message: bytes, answer_to: str) -> None:
        self._tasks.start(self._answer(message, answer_to), "report")

    async def _answer(self, message: bytes, answer_to: str) -> None:
        try:
            reply = await self._reply(message)
            word = b"" if reply is None else self._codec.encode(reply)
        except TascoError as error:
            word = encode_error(error)
        except Exception as error:
            # The edge of the bus, as the edge of the connection is in one process.
            log.exception("report failed")
            word = encode_error(error)
        if not word:
            return
        try:
            try:
                await self._line.say(answer_to, packed((), word))
            except TooLarge as error:
                log.error("reply is too large for the bus", extra={"why": str(error)})
                await self._line.say(answer_to, packed((), encode_error(TascoError(str(error)))))
        except BusError as error:
            # On record as it may be: whoever asked will ask again.
            log.info("reply not sent", extra={"why": str(error)})

    async def _reply(self, message: bytes) -> Any:
        """Return the reply, None where nobody waits for one any more."""
        (run, node_id, until), word = unpacked(message, 3)
        node = self._nodes.get(node_id)
        if run != self.run_id or node is None:
            raise OtherCentre("greet the centre first")
        if time.monotonic() > float(until):
            log.info("report came too late", extra={"node": node.name})
            return None
        if not self._may_decide():
            raise StoreUnavailable("this centre cannot renew its lease of the store")
        report: Report[Any] = self._codec.decode(word)
        if not self._may_say(node, report):
            raise LinkUnknown(f"link {report.link_id} is not known here")
        reply = await self.ask(report)
        if isinstance(report, LinkClosed):
            self._forget(node, report.link_id)
        elif isinstance(report, LinkOffered) and reply.link_id:
            await self._granted(report, reply, node_id, node)
        return reply

    def _may_say(self, node: Node, report: Report[Any]) -> bool:
        """Return whether a report is about a link of its gateway and that link's station."""
        if report.link_id == 0:
            return True
        held = node.links.get(report.link_id)
        if held is not None:
            return held.station_id.casefold() == report.station_id.casefold()
        is_of_another = any(report.link_id in n.links for n in self._nodes.values())
        return isinstance(report, _OF_ANY_LINK) and not is_of_another

    async def _granted(
        self, report: LinkOffered, reply: LinkReply, node_id: str, node: Node
    ) -> None:
        """Note a link that was just granted, and end an older one that another gateway holds."""
        station_id = reply.station_id or report.station_id
        self._newest_link_id = max(self._newest_link_id, reply.link_id)
        if self._nodes.get(node_id) is not node:
            # Given up while its station was let in: it will be told to end the link.
            await self._end([(reply.link_id, station_id)])
            raise OtherCentre("greet the centre first")
        node.links[reply.link_id] = _Held(station_id, time.monotonic())
        older = self._at.get(station_id.casefold())
        if older is not None and older[0] > reply.link_id:
            return
        self._at[station_id.casefold()] = (reply.link_id, node_id)
        if older is not None and older[1] != node_id:
            self._note(
                "link taken over",
                report.station_id,
                address=report.remote_address,
                link_id=reply.link_id,
                older_link_id=older[0],
            )
            order = EndLink(
                station_id=station_id, link_id=older[0], reason="a newer link exists elsewhere"
            )
            self._tasks.start(self._end_older(order, older[1]), f"end older link of {station_id}")

    async def _end_older(self, order: EndLink, node_id: str) -> None:
        # What comes of it does not matter: the list of its links tells the gateway again.
        await self._command(order, node_id)

    def _forget(self, node: Node, link_id: int) -> None:
        held = node.links.pop(link_id, None)
        if held is None:
            return
        key = held.station_id.casefold()
        if self._at.get(key, (0, ""))[0] == link_id:
            del self._at[key]

    # --- commands --------------------------------------------------------------------------------

    async def command(self, command: Command) -> CommandResult:
        """Take `command` to the gateway of the station's newest link, and to no other."""
        newest = self._at.get(command.station_id.casefold())
        if newest is None or not self._may_decide():
            return _OFFLINE
        link_id, node_id = newest
        if command.link_id not in (0, link_id):
            return _OTHER_LINK
        return await self._command(replace(command, link_id=link_id), node_id)

    async def _command(self, command: Command, node_id: str) -> CommandResult:
        node = self._nodes.get(node_id)
        if node is None:
            return _OFFLINE
        subject = self._line.subject(COMMAND, node_id, token(command.station_id))
        head = (self.run_id, f"{time.monotonic() + VALID_S:.3f}")
        try:
            number, answer = await self._line.asked(
                subject, packed(head, self._codec.encode(command))
            )
        except TooLarge as error:
            return CommandResult(outcome=Outcome.NOT_SENT, why_not_sent=f"not valid: {error}"[:200])
        except LineDown:
            return _OFFLINE
        node.orders[number] = _Order(answer, time.monotonic())
        try:
            async with asyncio.timeout(_LONGEST_S):
                result = self._codec.decode(unpacked(await answer)[1])
        except NobodyThere:
            return _OFFLINE
        except (LineDown, TimeoutError):
            # It may have reached the station: only its own answer could tell.
            return _NO_ANSWER
        except TascoError as error:
            return CommandResult(outcome=Outcome.INVALID_ANSWER, error_description=str(error)[:200])
        finally:
            del node.orders[number]
            self._line.forget(number)
        assert isinstance(result, CommandResult)
        return result

    # --- notices ---------------------------------------------------------------------------------

    async def notify(self, notice: Notice) -> None:
        """Show `notice` to the watchers here, and to whoever listens to its site's subject."""
        for watcher in self._watchers:
            try:
                watcher.show(notice)
            except Exception:
                log.exception("notice not shown", extra={"kind": notice.kind})
        await self._publish(notice)

    def show(self, notice: Notice) -> None:
        """Publish `notice`, for services that do not wait; it may be dropped."""
        if self._line.is_up:
            self._tasks.start(self._publish(notice), "notice")

    async def _publish(self, notice: Notice) -> None:
        subject = self._line.subject(NOTICE, token(notice.site_id))
        try:
            await self._line.say(subject, packed((), self._codec.encode(notice)))
        except (BusError, ValueError) as error:
            # It may be dropped, whatever is in it.
            log.debug("notice not published", extra={"why": str(error)})

    # --- gateways --------------------------------------------------------------------------------

    async def _take_greeting(self, subject: str, message: bytes, answer_to: str) -> None:
        if not self._may_decide():
            return
        try:
            greeting = GREETINGS.validate_json(message)
            welcome = self._welcome(greeting)
        except ValueError:
            problem = "its greeting cannot be read: all nodes have to be of one version"
            welcome = self._said(problem=problem)
        await self._line.say(answer_to, WELCOMES.dump_json(welcome))

    def _said(self, **given: Any) -> Welcome:
        return Welcome(centre=self.run_id, now_s=time.monotonic(), **given)

    def _welcome(self, greeting: Greeting) -> Welcome:
        if greeting.words != self._words:
            return self._said(problem="it is of another version: all nodes have to be of one")
        node = self._nodes.get(greeting.node)
        if node is None:
            node = Node(greeting.name, self._newest_link_id, time.monotonic())
            self._nodes[greeting.node] = node
            log.info("gateway is here", extra={"node": node.name})
        node.heard_at = time.monotonic()
        _give_up_lost_orders(node, frozenset(greeting.orders))
        unknown: tuple[int, ...] = ()
        if greeting.links is not None:
            unknown = self._compared(node, greeting)
        if greeting.is_leaving:
            self._give_up(greeting.node, "gateway stopped")
        return self._said(unknown_to=node.unknown_to, unknown=unknown)

    def _compared(self, node: Node, greeting: Greeting) -> tuple[int, ...]:
        """Return what of a gateway's links is unknown or superseded; end what it has no longer."""
        told = frozenset(greeting.links or ())
        old = time.monotonic() - _YOUNG_S
        gone = [(k, h.station_id) for k, h in node.links.items() if k not in told]
        gone = [(k, s) for k, s in gone if node.links[k].granted_at < old]
        for link_id, _ in gone:
            self._forget(node, link_id)
        if gone:
            log.warning("links that their gateway has no longer", extra={"links": len(gone)})
            self._tasks.start(self._end(gone), "links that are gone")
        return tuple(k for k in told if not self._is_newest(node, k))

    def _is_newest(self, node: Node, link_id: int) -> bool:
        held = node.links.get(link_id)
        return held is not None and self._at.get(held.station_id.casefold(), (0,))[0] == link_id

    async def run(self) -> None:
        """Give up gateways that fall silent, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._line.is_up:
                latest = time.monotonic() - LOST_S
                for node_id in [n for n, node in self._nodes.items() if node.heard_at < latest]:
                    self._give_up(node_id, _LOST)
            if self._ended and self._may_decide():
                await self._record_ended()

    def _give_time(self) -> None:
        """Let gateways greet again first: while the line was away nobody could."""
        for node in self._nodes.values():
            node.heard_at = time.monotonic()

    def _give_up(self, node_id: str, why: str) -> None:
        node = self._nodes.pop(node_id)
        lost = [(link_id, held.station_id) for link_id, held in node.links.items()]
        if why == _LOST:
            log.warning(why, extra={"node": node.name, "links": len(lost)})
            self._note(why, "", node=node.name, links=len(lost))
        else:
            log.info(why, extra={"node": node.name})
        for link_id, _ in lost:
            self._forget(node, link_id)
        for order in node.orders.values():
            if not order.answer.done():
                order.answer.set_exception(LineDown(why))
        self._tasks.start(self._end(lost, why), why)

    def _note(self, kind: str, station_id: str, **detail: object) -> None:
        """Keep what an operator has to know, as a gateway would report it."""
        report = SecurityNoticed(
            station_id=station_id, received_at=self._clock.now(), kind=kind, detail=detail
        )

        async def keep() -> None:
            try:
                await self.ask(report)
            except TascoError as error:
                log.warning("event not recorded", extra={"kind": kind, "why": str(error)})

        self._tasks.start(keep(), kind)

    async def _end(self, links: list[tuple[int, str]], why: str = _LOST) -> None:
        """Note that links have ended of which no gateway will tell."""
        now = self._clock.now()
        self._ended += [
            LinkClosed(station_id=station_id, link_id=link_id, received_at=now, reason=why)
            for link_id, station_id in links
        ]
        await self._record_ended()

    async def _record_ended(self) -> None:
        while self._ended:
            report = self._ended.pop()
            try:
                await self.ask(report)
            except (StoreUnavailable, BusError):
                self._ended.append(report)
                return
            except TascoError as error:
                log.warning("end of a link not kept", extra={"why": str(error)})

    async def finish(self) -> None:
        """Let the reports that are being answered come to their end for a moment, then stop."""
        await self._tasks.finish(within_s=2.0)


def _give_up_lost_orders(node: Node, told: frozenset[int]) -> None:
    """End the wait for orders that were lost on their way, or whose answers were.

    Two greetings have to leave one out: the first may have been made just before it came.
    """
    now = time.monotonic()
    for number, order in node.orders.items():
        if number in told:
            order.known_at, order.is_missing = now, False
        elif not order.is_missing:
            order.is_missing = True
        elif now - order.known_at > ORDER_LOST_S and not order.answer.done():
            log.warning("order lost on its way", extra={"node": node.name})
            order.answer.set_exception(LineDown("its gateway does not know the order"))
