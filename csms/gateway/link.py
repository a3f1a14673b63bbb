"""One connection of one station: taking turns, whatever the version.

Rules a link guarantees: calls of the station are answered in order, one at a time; it answers
before it commands; one call of ours is on its way at most; nothing is answered that the centre did
not decide. While no call of ours is unanswered the reader answers by itself, so that an idle link
costs one task and a busy station is slowed by its own socket; otherwise a second task answers and
the reader goes on, because the answer we wait for may stand behind further calls.
"""

import asyncio
import json
import logging

from websockets.exceptions import ConnectionClosed

from csms.core.commands import Command, CommandResult
from csms.core.errors import UnknownStation
from csms.core.messages import CENTRE_OUT, BootReply, LinkReply, RecordReceived, StationSeen
from csms.core.model import OcppVersion
from csms.gateway import frames
from csms.gateway.adapter import Adapter, Origin
from csms.gateway.codec import Code, Refused
from csms.gateway.handshake import StationConnection
from csms.gateway.outbox import Outbox, not_valid
from csms.gateway.surroundings import CentreOut, Surroundings
from csms.gateway.values import utc_text

_UNSUPPORTED_DATA = 1003
_POLICY_VIOLATION = 1008
GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013
_COME_BACK = (GOING_AWAY, TRY_AGAIN_LATER)
"""Codes of links that are closed for reasons of ours: the station is to open another."""
_FITS_AT_ONCE = 4096
_BACKLOG_RESUMES = 2
"""Reading resumes when the backlog has shrunk to this part of its limit."""

Said = frames.Call | frames.Sent | frames.ResultError | frames.Fault
"""What is taken in turn; a SEND and a CALLRESULTERROR have no answer."""

_CODE_OF_FAULT = {
    frames.FaultKind.UNREADABLE: Code.FRAME,
    frames.FaultKind.ENVELOPE: Code.FRAME,
    frames.FaultKind.PAYLOAD: Code.FORMAT,
    frames.FaultKind.MESSAGE_TYPE: Code.MESSAGE_TYPE,
}

log = logging.getLogger(__name__)


class _NotAllowed(Exception):
    """The centre wants the link closed instead of an answer."""


class Link:
    """The station's side of the gateway while its connection lasts."""

    def __init__(
        self, socket: StationConnection, adapter: Adapter, around: Surroundings, granted: LinkReply
    ) -> None:
        self.station_id = granted.station_id
        self.link_id = granted.link_id
        self.version: OcppVersion = adapter.version
        self.opened_at = around.clock.now()
        self.is_accepted = granted.is_registered
        """Whether the station may say more than BootNotification: its last boot answer decides,
        and before one the register, since stations come back without booting."""
        self._returns_after_close = granted.returns_after_close
        self._socket = socket
        self._adapter = adapter
        self._around = around
        self._turn = asyncio.Lock()
        self._answering: asyncio.Task[None] | None = None
        # Lists, and no event before somebody waits: an empty deque takes as much as half the rest.
        self._backlog: list[Said] = []
        self._room: asyncio.Event | None = None
        self._is_ending = False
        self._reason = ""
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._centre_heard_at = loop.time()
        self._tokens = float(around.config.frames_burst)
        self._paced_at = loop.time()
        self._outbox = Outbox(
            adapter,
            around,
            station_id=self.station_id,
            link_id=self.link_id,
            turn=self._turn,
            write=self._write,
        )

    # --- reading ---------------------------------------------------------------------------------

    async def run(self) -> str:
        """Serve the connection until it ends; return why it did."""
        task = asyncio.current_task()
        try:
            while not self._is_ending:
                text = await self._socket.next_message()
                if not isinstance(text, str):
                    self._around.counters.bad_frame("binary")
                    await self.end(_UNSUPPORTED_DATA, "text frames only")
                    break
                pause_s = self._pause_s()
                if pause_s > 0:
                    # Not read, not refused: the station's own socket makes it wait.
                    await asyncio.sleep(pause_s)
                if self._around.tap is not None:
                    self._around.tap(self.station_id, "in", text)
                said = self._taken(frames.read(text))
                if said is not None:
                    await self._respond(said, task)
                elif self._backlog:
                    await self._until_room()
        except ConnectionClosed as closed:
            self._reason = self._reason or _close_reason(closed)
        finally:
            self._is_ending = True
            self._outbox.close()
        return self._reason

    def _pause_s(self) -> float:
        """Return how long the station has to wait for having sent too fast, 0 if it has not."""
        rate = self._around.config.frames_per_s
        if rate <= 0:
            return 0.0
        now = self._time()
        burst = self._around.config.frames_burst
        self._tokens = min(self._tokens + (now - self._paced_at) * rate, burst) - 1.0
        self._paced_at = now
        return -self._tokens / rate if self._tokens < 0 else 0.0

    def _taken(self, frame: frames.Frame) -> Said | None:
        """Return what the reader is to respond to itself; the rest is done with, or queued."""
        if not isinstance(frame, frames.Call):
            said = self._other_than_call(frame)
            if said is None:
                return None
            frame = said
        if not self._outbox.is_waiting and not self._backlog and not self._turn.locked():
            return frame
        self._backlog.append(frame)
        if len(self._backlog) == 1:
            self._around.spawn(self._work_off(), f"answers {self.station_id}")
        return None

    async def _until_room(self) -> None:
        while len(self._backlog) >= self._around.config.calls_queued and not self._is_ending:
            self._room = asyncio.Event()
            await self._room.wait()

    def _other_than_call(self, frame: frames.Frame) -> Said | None:
        """Return what of `frame` is still to be taken in turn, None if it is done with."""
        if isinstance(frame, frames.Answer | frames.ErrorAnswer):
            self._outbox.take(frame)
            return None
        is_newer = isinstance(frame, frames.Sent | frames.ResultError) or (
            isinstance(frame, frames.Fault) and frame.is_sent
        )
        if is_newer and self.version is not OcppVersion.V21:
            frame = frames.Fault(
                frame.message_id[: frames.MAX_ID_CHARACTERS] or frames.UNREADABLE_ID,
                frames.FaultKind.MESSAGE_TYPE,
                "message type is not 2, 3 or 4",
            )
        if isinstance(frame, frames.Fault):
            self._around.counters.bad_frame(frame.kind.value)
            if frame.kind is frames.FaultKind.ANSWER:
                self._outbox.take(frame)
                return None
            if frame.kind is frames.FaultKind.MESSAGE_TYPE and self.version is OcppVersion.V16:
                # OCPP-J 1.6 §4.1.3: a message of an unknown type shall be ignored.
                return None
        return frame

    async def _work_off(self) -> None:
        """Answer the backlog in order; a call leaves it only once it is answered."""
        room = max(self._around.config.calls_queued // _BACKLOG_RESUMES, 1)
        task = asyncio.current_task()
        try:
            while self._backlog and not self._is_ending:
                await self._respond(self._backlog[0], task)
                del self._backlog[0]
                if len(self._backlog) < room:
                    self._make_room()
        finally:
            self._backlog.clear()
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    # --- answering -------------------------------------------------------------------------------

    async def _respond(self, frame: Said, task: asyncio.Task[None] | None) -> None:
        """Answer `frame`; `task` is the running one, which to look up costs as much as a line."""
        async with self._turn:
            if self._is_ending:
                return
            self._answering = task
            began = self._time()
            ends_because = ""
            try:
                if isinstance(frame, frames.Call | frames.Fault):
                    text, outcome = await self._answer(frame)
                    if text:
                        await self._write(text)
                else:
                    outcome = await self._kept(frame)
            except CentreOut:
                # Silence or an error would use up one of the station's few attempts; a link that
                # is gone uses none.
                outcome = "centre_out"
            except _NotAllowed as why:
                outcome = "link_ended"
                ends_because = str(why)
            except ConnectionResetError:
                # The record is kept; the station will ask again on its next link.
                outcome = "link_lost"
            finally:
                self._answering = None
            action = "unknown"
            if isinstance(frame, frames.Call | frames.Sent):
                known = self._adapter.codec
                if frame.action in known.from_station or frame.action in known.sent_by_station:
                    action = frame.action
            self._around.counters.call("in", self.version, action, outcome, self._time() - began)
        if ends_because:
            await self.end(_POLICY_VIOLATION, ends_because)
        if outcome == "centre_out":
            await self.end(TRY_AGAIN_LATER, CENTRE_OUT)

    async def _answer(self, frame: frames.Call | frames.Fault) -> tuple[str, str]:
        """Return the text of the answer, "" for none, and its outcome for the metrics."""
        codec = self._adapter.codec
        if isinstance(frame, frames.Fault):
            if frame.is_sent:
                log.info("broken SEND", extra={"station_id": self.station_id, "why": frame.why})
                return "", "dropped"
            return self._error(frame.message_id, _CODE_OF_FAULT[frame.kind], frame.why)
        try:
            problem = codec.check_call(frame.action, frame.payload)
            if not self.is_accepted and not self._may_be_said(frame.action):
                return self._error(
                    frame.message_id, Code.SECURITY, "the station is not accepted yet"
                )
            if problem is not None:
                return self._error(frame.message_id, problem.code, problem.why)
            payload = await self._decided(frame)
            problem = codec.check_answer(frame.action, payload)
            if problem is None:
                return frames.answer_text(frame.message_id, payload), "answered"
            log.error(
                "our answer breaks the schema",
                extra={"station_id": self.station_id, "action": frame.action, "why": problem.why},
            )
        except Refused as refused:
            return self._error(frame.message_id, refused.code, refused.why)
        except UnknownStation:
            # Removed while it spoke; its link is about to be ended.
            return self._error(frame.message_id, Code.SECURITY, "the station is not registered")
        except (CentreOut, _NotAllowed):
            raise
        except Exception:
            # The edge of the connection: this one message failed, the link goes on.
            log.exception(
                "call failed", extra={"station_id": self.station_id, "action": frame.action}
            )
        return self._error(frame.message_id, Code.INTERNAL, "the centre failed on this message")

    async def _kept(self, frame: frames.Sent | frames.ResultError) -> str:
        """Keep what asks for no answer; return its outcome for the metrics."""
        if isinstance(frame, frames.ResultError):
            self._around.counters.bad_frame("result_error")
            log.warning(
                "our answer was not understood",
                extra={"station_id": self.station_id, "code": frame.code[:100]},
            )
            await self._keep_complaint(frame)
            return "noted"
        problem = self._adapter.codec.check_sent(frame.action, frame.payload)
        if problem is not None or not self.is_accepted:
            why = "the station is not accepted yet" if problem is None else problem.why
            self._around.counters.bad_frame("sent")
            log.info("SEND dropped", extra={"station_id": self.station_id, "why": why})
            return "dropped"
        try:
            await self._decided(frames.Call(*frame))
        except Refused as refused:
            log.info("SEND dropped", extra={"station_id": self.station_id, "why": refused.why})
            return "dropped"
        except CentreOut:
            raise
        except Exception:
            # The edge of the connection: this one message failed, the link goes on.
            log.exception(
                "SEND failed", extra={"station_id": self.station_id, "action": frame.action}
            )
            return "failed"
        return "kept"

    async def _keep_complaint(self, frame: frames.ResultError) -> None:
        """Keep that the station cannot read an answer of ours, beside what it reported."""
        if not self.is_accepted:
            return
        told = {
            "messageId": frame.message_id[: frames.MAX_ID_CHARACTERS],
            "errorCode": frame.code[:100],
            "errorDescription": frame.description[:255],
        }
        report = RecordReceived(
            station_id=self.station_id,
            link_id=self.link_id,
            received_at=self._around.clock.now(),
            version=self.version,
            action="CALLRESULTERROR",
            payload=json.dumps(told),
        )
        await self._around.ask(report)

    async def _decided(self, call: frames.Call) -> dict[str, object]:
        now = self._around.clock.now()
        if call.action == "Heartbeat":
            await self._beat()
            return {"currentTime": utc_text(now)}
        exchange = self._adapter.exchange(call, Origin(self.station_id, self.link_id, now))
        reply = await self._around.ask(exchange.report, by=self._answering)
        self._centre_heard_at = self._time()
        if isinstance(reply, BootReply):
            if reply.ends_link:
                raise _NotAllowed(reply.ends_link)
            self.is_accepted = reply.status == "Accepted"
        return exchange.answer(reply)

    async def _beat(self) -> None:
        """Let the centre know of a quiet link now and then, and of each beat while it is out."""
        quiet_s = self._time() - self._centre_heard_at
        # The centre judges silence by its clock, which in a demo runs faster than the machine's.
        seen_every_s = self._around.clock.real_s(self._around.config.seen_every_s)
        if quiet_s < seen_every_s and not self._around.is_out:
            return
        await self._around.ask(
            StationSeen(
                station_id=self.station_id,
                link_id=self.link_id,
                received_at=self._around.clock.now(),
            )
        )
        self._centre_heard_at = self._time()

    def _may_be_said(self, action: str) -> bool:
        return action == "BootNotification" or action in self._outbox.triggered

    def _error(self, message_id: str, code: Code, why: str) -> tuple[str, str]:
        spelled = self._adapter.codec.code(code)
        log.info("call refused", extra={"station_id": self.station_id, "code": spelled, "why": why})
        return frames.error_text(message_id, spelled, why), spelled

    async def _write(self, text: str) -> None:
        if self._around.tap is not None:
            self._around.tap(self.station_id, "out", text)
        try:
            if len(text) < _FITS_AT_ONCE and self._socket.send_at_once(text):
                return
            async with asyncio.timeout(self._around.config.send_s):
                await self._socket.send(text)
        except TimeoutError:
            log.warning("station does not read", extra={"station_id": self.station_id})
            self._reason = self._reason or "send time-out"
            self._is_ending = True
            self._socket.transport.abort()
            # The reader learns of it from the socket.
        except ConnectionClosed as closed:
            raise ConnectionResetError("link is closed") from closed

    # --- commands and the end --------------------------------------------------------------------

    async def execute(self, command: Command) -> CommandResult:
        """Send `command` and return what came of it; never raises for a refusal."""
        if self._answering is not None and asyncio.current_task() is self._answering:
            # It would wait for the turn that its own answer holds.
            return not_valid("a report handler cannot command its own station")
        return await self._outbox.execute(command)

    async def end(self, code: int, reason: str) -> None:
        """Close the link; calls on their way end without an answer."""
        self._is_ending = True
        self._reason = self._reason or reason
        self._outbox.close()
        self._make_room()
        if code in _COME_BACK and not self._returns_after_close:
            self._socket.transport.abort()
            return
        await self._socket.close(code, reason)

    async def drain(self, code: int, reason: str) -> None:
        """Begin nothing new, let what is open finish for a while, then close."""
        has_turn = False
        try:
            async with asyncio.timeout(self._around.config.drain_s):
                await self._turn.acquire()
                has_turn = True
                await self._outbox.settle()
        except TimeoutError:
            log.warning("link ends with open calls", extra={"station_id": self.station_id})
        try:
            await self.end(code, reason)
        finally:
            if has_turn:
                self._turn.release()


def _close_reason(closed: ConnectionClosed) -> str:
    frame = closed.rcvd or closed.sent
    return "connection lost" if frame is None else f"{int(frame.code)} {frame.reason}".strip()
