"""Our calls on one link: one at a time, a short queue, the newest schedule of an EVSE wins.

The outbox takes the link's turn only to write. What it has written stays pending until its answer,
its time-out or the end of the link, and until then nothing else is written.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from csms.core.commands import Command, CommandResult, Outcome, SetSchedule
from csms.core.device import Fact
from csms.core.messages import CommandAnswered
from csms.core.model import OcppVersion
from csms.gateway import frames
from csms.gateway.adapter import Adapter, Step, Unsendable
from csms.gateway.codec import Code, Refused
from csms.gateway.surroundings import CentreOut, Surroundings

_LATE_REMEMBERED = 32
_TEXT_KEPT = 2000
_REFUSED_AS_UNSUPPORTED = frozenset({"NotImplemented", "NotSupported"})
_GOES_ON = frozenset({Outcome.ACCEPTED, Outcome.SENT})
_GOES_NOWHERE = frozenset({Outcome.NOT_SENT, Outcome.NO_ANSWER})

OFFLINE = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="offline")
QUEUE_FULL = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="queue full")
BUSY = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="busy")
NO_ANSWER = CommandResult(outcome=Outcome.NO_ANSWER)
LINK_LOST = CommandResult(outcome=Outcome.NO_ANSWER, why_not_sent="link lost")
"""The link ended first: that says nothing about what was asked."""
SUPERSEDED = CommandResult(outcome=Outcome.SUPERSEDED)
SENT = CommandResult(outcome=Outcome.SENT)

Reply = frames.Answer | frames.ErrorAnswer | frames.Fault

log = logging.getLogger(__name__)


def not_valid(why: str) -> CommandResult:
    """Return the result of a command that cannot be written."""
    return CommandResult(outcome=Outcome.NOT_SENT, why_not_sent=why)


async def _write_nowhere(text: str) -> None:
    raise ConnectionResetError("link is closed")


class _Outgoing:
    """One call of ours and who waits for it."""

    __slots__ = (
        "command_id",
        "message_id",
        "replaces",
        "reply",
        "result",
        "step",
        "wait_s",
        "write_by",
    )

    def __init__(
        self, step: Step, replaces: int | None, wait_s: float, write_by: float, command_id: int
    ) -> None:
        loop = asyncio.get_running_loop()
        self.step = step
        self.command_id = command_id
        self.replaces = replaces
        self.wait_s = wait_s
        self.write_by = write_by
        self.message_id = ""
        self.result: asyncio.Future[CommandResult] = loop.create_future()
        self.reply: asyncio.Future[Reply | None] = loop.create_future()

    def end(self, result: CommandResult) -> None:
        # The caller may have gone away, or already have been told "sent".
        if not self.result.done():
            self.result.set_result(result)


class Outbox:
    """The queue of our calls and the one that is on its way."""

    def __init__(
        self,
        adapter: Adapter,
        around: Surroundings,
        *,
        station_id: str,
        link_id: int,
        turn: asyncio.Lock,
        write: Callable[[str], Awaitable[None]],
    ) -> None:
        self._adapter = adapter
        self._around = around
        self._station_id = station_id
        self._link_id = link_id
        self._turn = turn
        self._write = write
        self._queue: list[_Outgoing] = []
        self._pending: _Outgoing | None = None
        self._is_sending = False
        self._is_closed = False
        self._late: list[_Outgoing] = []
        # A random beginning: a late answer to a call of an earlier link matches nothing here.
        self._prefix = secrets.token_hex(4)
        self._numbers = count(1)
        self.triggered: set[str] = set()
        """Actions we asked the station for; they are answered even before it is accepted."""

    @property
    def is_waiting(self) -> bool:
        """Whether a call of ours is unanswered, so that somebody has to go on reading."""
        return self._pending is not None

    async def execute(self, command: Command) -> CommandResult:
        """Carry `command` out, step by step, until one is not accepted."""
        try:
            steps = self._adapter.steps(command)
        except Unsendable as error:
            return not_valid(str(error))
        except (TypeError, ValueError, OverflowError) as error:
            return not_valid(f"not valid: {error}"[:200])
        for step in steps:
            problem = self._adapter.codec.check_command(step.action, step.payload)
            if problem is not None:
                return not_valid(f"not valid: {problem.why}")
        replaces = command.evse_id if isinstance(command, SetSchedule) else None
        result, refused = OFFLINE, None
        facts: tuple[Fact, ...] = ()
        for step in steps:
            result = await self._queue_up(step, replaces, command)
            facts += result.facts
            if result.outcome in _GOES_ON:
                continue
            refused = refused or result
            if not step.is_alone or result.outcome in _GOES_NOWHERE:
                break
        return replace(refused or result, facts=facts)

    async def _queue_up(self, step: Step, replaces: int | None, command: Command) -> CommandResult:
        if self._is_closed:
            return OFFLINE
        wait_s = max(command.wait_s, 0.0)
        if replaces is not None:
            self._drop_older(replaces)
        if len(self._queue) >= self._around.config.commands_queued:
            return QUEUE_FULL
        loop = asyncio.get_running_loop()
        write_by = loop.time() + (wait_s or self._around.config.call_timeout_s)
        outgoing = _Outgoing(step, replaces, wait_s, write_by, command.command_id)
        self._queue.append(outgoing)
        if not self._is_sending:
            self._is_sending = True
            self._around.spawn(self._send_all(), f"outbox {self._station_id}")
        return await outgoing.result

    def _drop_older(self, replaces: int) -> None:
        for older in [o for o in self._queue if o.replaces == replaces]:
            self._queue.remove(older)
            older.end(SUPERSEDED)

    async def _send_all(self) -> None:
        try:
            while self._queue and not self._is_closed:
                outgoing = await self._write_next()
                if outgoing is not None:
                    await self._wait_for(outgoing)
        finally:
            self._is_sending = False

    async def _write_next(self) -> _Outgoing | None:
        """Take the turn and write the head of the queue; None if nothing was written."""
        head = self._queue[0]
        loop = asyncio.get_running_loop()
        try:
            if loop.time() > head.write_by:
                raise TimeoutError
            async with asyncio.timeout_at(head.write_by):
                await self._turn.acquire()
        except TimeoutError:
            if self._queue and self._queue[0] is head:
                self._queue.pop(0)
            head.end(BUSY)
            return None
        try:
            if not self._queue or self._is_closed:
                return None
            # Looked at only now: a newer schedule may have taken its place meanwhile.
            outgoing = self._queue.pop(0)
            if outgoing.result.done():
                return None
            outgoing.message_id = f"{self._prefix}-{next(self._numbers)}"
            self._pending = outgoing
            self._note_trigger(outgoing.step)
            step = outgoing.step
            try:
                await self._write(
                    frames.call_text(outgoing.message_id, step.action, step.payload_json)
                )
            except OSError:
                self._pending = None
                outgoing.end(OFFLINE)
                return None
        finally:
            self._turn.release()
        if not outgoing.wait_s:
            outgoing.end(SENT)
        return outgoing

    def _note_trigger(self, step: Step) -> None:
        requested = step.payload.get("requestedMessage")
        if isinstance(requested, str):
            self.triggered.add(requested)
        elif step.action in ("GetBaseReport", "GetReport"):
            self.triggered.add("NotifyReport")

    async def _wait_for(self, outgoing: _Outgoing) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(outgoing.wait_s or self._around.config.call_timeout_s):
                reply = await outgoing.reply
        except TimeoutError:
            self._late = [*self._late[1 - _LATE_REMEMBERED :], outgoing]
            result = NO_ANSWER
        else:
            result = LINK_LOST if reply is None else self._result(outgoing.step, reply)
        finally:
            self._pending = None
        if outgoing.result.done():
            self._tell(outgoing, result, is_late=False)
        outgoing.end(result)
        await self._complain(outgoing, result)
        self._around.counters.call(
            "out",
            self._adapter.version,
            outgoing.step.action,
            result.outcome.value,
            loop.time() - began,
        )

    def _result(self, step: Step, reply: Reply) -> CommandResult:
        if isinstance(reply, frames.ErrorAnswer):
            code = reply.code[:_TEXT_KEPT]
            return CommandResult(
                outcome=Outcome.NOT_SUPPORTED
                if code in _REFUSED_AS_UNSUPPORTED
                else Outcome.CALL_ERROR,
                error_code=code,
                error_description=reply.description[:_TEXT_KEPT],
            )
        if isinstance(reply, frames.Fault):
            return CommandResult(outcome=Outcome.INVALID_ANSWER, error_description=reply.why)
        raw: Mapping[str, Any] = (
            reply.payload if isinstance(reply.payload, dict) else {"payload": reply.payload}
        )
        problem = self._adapter.codec.check_answer(step.action, reply.payload)
        if problem is not None:
            return CommandResult(
                outcome=Outcome.INVALID_ANSWER,
                error_code=self._adapter.codec.code(problem.code),
                error_description=problem.why,
                answer=raw,
            )
        try:
            return step.read(reply.payload)
        except Refused as refused:
            return CommandResult(
                outcome=Outcome.INVALID_ANSWER,
                error_code=self._adapter.codec.code(refused.code),
                error_description=refused.why,
                answer=raw,
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            log.exception("answer not understood", extra={"station_id": self._station_id})
            return CommandResult(outcome=Outcome.INVALID_ANSWER, answer=raw)

    async def _complain(self, outgoing: _Outgoing, result: CommandResult) -> None:
        """Tell a 2.1 station that its answer cannot be read; older versions have no word for it."""
        is_invalid = result.outcome is Outcome.INVALID_ANSWER
        if not is_invalid or self._adapter.version is not OcppVersion.V21 or self._is_closed:
            return
        code = result.error_code or self._adapter.codec.code(Code.FORMAT)
        text = frames.result_error_text(outgoing.message_id, code, result.error_description)
        async with self._turn:
            try:
                await self._write(text)
            except OSError:
                log.info("link ended before a complaint", extra={"station_id": self._station_id})

    def take(self, reply: Reply) -> bool:
        """Give `reply` to the call it answers; return whether there was one."""
        pending = self._pending
        if pending is not None and pending.message_id == reply.message_id:
            if not pending.reply.done():
                pending.reply.set_result(reply)
            return True
        late = next((o for o in self._late if o.message_id == reply.message_id), None)
        if late is not None:
            self._late.remove(late)
            self._around.counters.bad_frame("late_answer")
            log.info("late answer", extra={"station_id": self._station_id})
            self._tell(late, self._result(late.step, reply), is_late=True)
        else:
            self._around.counters.bad_frame("unmatched_answer")
            log.info("answer to no call of ours", extra={"station_id": self._station_id})
        return False

    def _tell(self, outgoing: _Outgoing, result: CommandResult, *, is_late: bool) -> None:
        """Let the centre know what came of a call that its caller no longer waits for."""
        if not outgoing.command_id:
            return
        report = CommandAnswered(
            station_id=self._station_id,
            link_id=self._link_id,
            received_at=self._around.clock.now(),
            command_id=outgoing.command_id,
            result=result,
            is_late=is_late,
        )

        async def tell() -> None:
            try:
                await self._around.ask(report)
            except CentreOut:
                log.warning("answer not kept", extra={"station_id": self._station_id})

        self._around.spawn(tell(), f"answered {self._station_id}")

    async def settle(self) -> None:
        """Wait until the call on its way, if any, has come to its end."""
        if self._pending is not None:
            await asyncio.wait([self._pending.reply])

    def close(self) -> None:
        """End every call: what is on its way has no answer, what waits was not sent."""
        self._is_closed = True
        # The link holds us and we its method: apart, both are freed without the collector.
        self._write = _write_nowhere
        while self._queue:
            self._queue.pop(0).end(OFFLINE)
        if self._pending is not None and not self._pending.reply.done():
            self._pending.reply.set_result(None)
