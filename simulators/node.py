"""The electronics of a simulated station: link, queue of messages, meters, settings.

`simulators.simulated.SimulatedStation` adds what drivers and commands do with it.
"""

import asyncio
import contextlib
import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from simulators.client import Body, Client, Payload
from simulators.clock import SimClock
from simulators.dialect import Dialect
from simulators.faults import FaultPlan, Faults
from simulators.journal import Journal
from simulators.link import Answer, CallRefused, Link, LinkDown, LinkOptions, NoAnswer, Tasks
from simulators.manners import PLAIN, Manners
from simulators.outbox import Outbox, Outgoing
from simulators.profiles import earliest
from simulators.station import EvseSpec, State, StateChange, Station, Transaction
from simulators.variables import Settings

BOOT_RETRY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A command that came, and what it was answered."""

    action: str
    payload: Mapping[str, Any]
    at: datetime
    answer: Answer


class StationNode(ABC):
    """One charging station. Everything simulated runs on `clock`, everything of the link does not.

    `evses` is a number of equal EVSEs built from `max_kw`, `phases` and `current_type`, or their
    specifications. With `boots` it registers by itself after connecting, for as long as it takes.
    """

    def __init__(
        self,
        url: str,
        station_id: str,
        *,
        version: str = "1.6",
        password: str | bytes | None = None,
        username: str | None = None,
        evses: int | Iterable[EvseSpec] = 1,
        max_kw: float = 11.0,
        phases: int = 3,
        current_type: str = "AC",
        clock: SimClock | None = None,
        dialect: Dialect | None = None,
        faults: FaultPlan | None = None,
        settings: Settings | None = None,
        heartbeat_s: int | None = None,
        journal: Path | bool = False,
        fsync: bool = True,
        seed: int = 0,
        call_timeout_s: float = 30.0,
        boots: bool = False,
        manners: Manners = PLAIN,
        vendor: str = "Simulated",
        model: str = "Station",
        firmware: str = "1.0",
    ) -> None:
        self.station_id, self.vendor, self.model = station_id, vendor, model
        self.firmware = firmware
        self.clock = clock or SimClock()
        self.faults = Faults(plan=faults or FaultPlan(), seed=seed, station_id=station_id)
        self.settings = settings or Settings()
        self.client = self._client(version)
        dialect = dialect or Dialect()
        if not dialect.same_level:
            dialect = replace(dialect, same_level=self.client.own_same_level)
        self.dialect = dialect
        if isinstance(evses, int):
            evses = [
                EvseSpec(evse_id=i + 1, max_kw=max_kw, phases=phases, current_type=current_type)
                for i in range(evses)
            ]
        self.station = Station(evses, now=self.now(), dialect=dialect)
        self._remember()
        self._boots = boots
        self._heartbeat_s = heartbeat_s
        self._dice = random.Random(f"{seed}/{station_id}/ids")
        self.journal = self._built_journal(journal, fsync) if journal is not False else None
        self.tasks = Tasks(station_id)
        self.link = self._built_link(
            LinkOptions(
                url=url,
                station_id=station_id,
                subprotocol=self.client.subprotocol,
                password=password,
                username=username,
                call_timeout_s=call_timeout_s,
                message_ids=dialect.message_ids,
                returns_after_close=dialect.returns_after_close,
                manners=manners,
                version=version,
                seed=seed,
            )
        )
        self.outbox = self._built_outbox()

    def _remember(self) -> None:
        """Set out what a station knows and has seen: nothing yet."""
        self.received: list[Received] = []
        self.finished: list[Transaction] = []
        self.token_cache: dict[str, str] = {}
        self.local_list: dict[str, str] = {}
        self.list_version = 0
        self.is_registered = False
        self._boot_reason = "PowerUp"
        self._is_ready = False
        self._pending_tokens: dict[int, tuple[str, str]] = {}
        self._next_sample: dict[int, datetime] = {}
        self._said_status: dict[int, Any] = {}
        self._kick = asyncio.Event()
        self._commanded = asyncio.Condition()
        self._ready = asyncio.Event()

    def _built_journal(self, place: Path | bool, fsync: bool) -> Journal:
        return Journal(
            station_id=self.station_id,
            version=self.client.version,
            now=self.now,
            path=place if isinstance(place, Path) else None,
            fsync=fsync,
        )

    def _built_link(self, options: LinkOptions) -> Link:
        return Link(
            options,
            tasks=self.tasks,
            faults=self.faults,
            journal=self.journal,
            answer=self._answered,
            came_up=self._came_up,
            went_down=self._went_down,
            real_s=self.clock.real_s,
        )

    def _built_outbox(self) -> Outbox:
        return Outbox(
            call=self.link.call,
            is_ready=lambda: self.is_online,
            pause=self.clock.sleep,
            dropped=self._dropped,
            attempts=self.settings.message_attempts,
            attempt_interval_s=self.settings.message_attempt_interval_s,
            is_last_first=self.link.options.manners.replay == "overtaken",
            is_at_once=self.link.options.manners.replay == "at_once",
        )

    @abstractmethod
    def _client(self, version: str) -> Client:
        """Return the station's side of `version`."""

    @abstractmethod
    async def _stop_refused(self, tx: Transaction) -> None:
        """Stop a transaction whose token was refused after it had started."""

    async def power_up(self) -> None:
        """Start without waiting for a link: connect, for as long as it takes, in background."""
        self.tasks.start(self.link.connect_until_up(), "connecting")
        self._start_work()

    def _start_work(self) -> None:
        self.tasks.start(self.outbox.pump(), "outbox")
        self.tasks.start(self._run(), "meter")
        self.tasks.start(self._heartbeats(), "heartbeat")

    async def close(self) -> None:
        """Close the link in order and stop all work. Raises RuntimeError if any part had failed."""
        await self.link.close()
        await self.tasks.stop()
        if self.journal is not None:
            self.journal.close()
        if self.tasks.failures:
            raise RuntimeError(f"{self.station_id}: {'; '.join(self.tasks.failures)}")

    def now(self) -> datetime:
        """Return the time by the station's own clock, which a fault may have set wrong."""
        at = self.clock.now() + timedelta(seconds=self.faults.plan.clock_offset_s)
        return at.replace(microsecond=0) if self.dialect.whole_second_clock else at

    @property
    def is_online(self) -> bool:
        """Whether the station is connected, registered and may send."""
        return self._is_ready and self.link.is_up

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Wait, in machine time, until the station is online."""
        async with asyncio.timeout(timeout_s):
            await self._ready.wait()

    def new_transaction_id(self) -> str:
        """Return a transaction id of the station's own making (2.0.1)."""
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    async def _came_up(self) -> None:
        link = self.link.number
        while self.link.is_up and self.link.number == link:
            try:
                if self.is_registered and not self.station.installed.dialect.boots_on_reconnect:
                    await self._resume()
                elif self.is_registered or self._boots:
                    await self.boot(retries=True)
                return
            except (NoAnswer, CallRefused):
                # A station that gave up here would stay mute for as long as the link lives.
                await self.clock.sleep(BOOT_RETRY_S)

    def _went_down(self) -> None:
        self._is_ready = False
        self._ready.clear()
        self.outbox.lost()

    async def _resume(self) -> None:
        """Report every EVSE's status, then let the queue go."""
        self.station.advance(self.now())
        for evse_id, evse in self.station.evses.items():
            await self.link.call(*self.client.status(evse_id, evse.state, evse.lived_until))
            self._said_status[evse_id] = self._shown(evse.state)
        self._is_ready = True
        self._ready.set()
        self.outbox.wake()
        self.publish()

    def _shown(self, state: State) -> object:
        """Return the part of a state that a StatusNotification of this version shows."""
        action_payload = self.client.status(1, state, self.now())[1]
        return action_payload.get("status") or action_payload.get("connectorStatus")

    async def boot(self, *, retries: bool = False) -> Payload:
        """Send BootNotification and, once accepted, the statuses; return the answer.

        With `retries` it asks again, as long as the link lives, until it is accepted.
        """
        link = self.link.number
        manners = self.link.options.manners
        if manners.foreign_boot:
            words = {"chargePointVendor": self.vendor, "chargePointModel": self.model}
            with contextlib.suppress(CallRefused):
                await self.link.call_aside("BootNotification", words)
        while True:
            if manners.hasty:
                status = self.client.status(1, self.station.evse(1).state, self.now())
                self.tasks.start(self._said_aside(*status), "status before the boot")
            answer = await self.link.call(*self.client.boot(self._boot_reason))
            interval = answer.get("interval")
            interval_s = interval if isinstance(interval, int) and interval > 0 else 60
            if answer.get("status") == "Accepted":
                self.settings.heartbeat_interval_s = self._heartbeat_s or interval_s
                self.is_registered = True
                await self._resume()
                return answer
            if not retries:
                return answer
            await self.clock.sleep(interval_s)
            if self.link.number != link:
                raise LinkDown("another link has taken over")

    async def _said_aside(self, action: str, payload: Payload) -> None:
        """Say something while another call waits for its answer."""
        await self.link.call_aside(action, payload)

    async def _heartbeats(self) -> None:
        while True:
            await self.clock.sleep(self.settings.heartbeat_interval_s)
            # Whatever else waits shows that the station lives (OCPP 1.6 §4.6).
            if not self.outbox.waiting:
                self.outbox.put(Outgoing(action="Heartbeat", build=dict))

    def _dropped(self, action: str, payload: Payload) -> None:
        if self.journal is not None:
            self.journal.dropped(action, payload)

    def _answered(self, action: str, payload: Body) -> Answer:
        muted = self.faults.is_mute()
        answer = self.client.answer(action, payload)
        answer.is_silent = answer.is_silent or muted
        answer.delay_real_s = self.clock.real_s(self.faults.answer_delay_s())
        self.received.append(Received(action=action, payload=payload, at=self.now(), answer=answer))
        self.tasks.start(self._announce(), "announce")
        return answer

    async def _announce(self) -> None:
        async with self._commanded:
            self._commanded.notify_all()

    def _sample_after(self, at: datetime) -> datetime:
        interval_s = self.settings.sample_interval_s
        return (
            at + timedelta(seconds=interval_s)
            if interval_s > 0
            else datetime.max.replace(tzinfo=at.tzinfo)
        )

    def _queue(
        self,
        action: str,
        build: Callable[[], Payload],
        *,
        on_answer: Callable[[Payload], None] | None = None,
    ) -> "asyncio.Future[Payload | None]":
        outcome: asyncio.Future[Payload | None] = asyncio.get_running_loop().create_future()
        self.outbox.put(
            Outgoing(
                action=action, build=build, is_durable=True, on_answer=on_answer, outcome=outcome
            )
        )
        return outcome

    async def _answered_or_offline(self, outcome: "asyncio.Future[Payload | None]") -> None:
        while not outcome.done() and self.is_online:
            # Looks again now and then, as the link may go away meanwhile.
            await asyncio.wait([outcome], timeout=0.2)

    def publish(self, *, until_end_of: Transaction | None = None) -> None:
        """Queue messages for the changes of state since the last call."""
        for change in self.station.taken_changes():
            tx = self.station.evses[change.evse_id].transaction
            if tx is None and until_end_of is not None:
                tx = until_end_of if change.evse_id == until_end_of.evse_id else None
            self._say_change(change, tx)
        self._kick.set()

    def _say_change(self, change: StateChange, tx: Transaction | None) -> None:
        shown = self._shown(change.state)
        if self._said_status.get(change.evse_id) != shown:
            action, payload = self.client.status(change.evse_id, change.state, change.at)
            if self.is_online:
                self._said_status[change.evse_id] = shown
                self.outbox.put(Outgoing(action=action, build=lambda: payload))
        if tx is not None:
            message = self.client.state_changed(tx, change.state, change.at)
            if message is not None:
                self._queue(*message)

    async def _run(self) -> None:
        """Sample meters when due and notice what vehicles and schedules do by themselves."""
        while True:
            self._kick.clear()
            due_at = earliest(self.station.next_change_at, *self._next_sample.values())
            await self._until(due_at)
            now = self.now()
            if due_at is None or now < due_at:
                continue
            self.station.advance(now)
            self.publish()
            for evse_id, sample_at in list(self._next_sample.items()):
                evse = self.station.evses[evse_id]
                if now >= sample_at and evse.transaction is not None:
                    reading = evse.reading()
                    self._queue(
                        *self.client.updated(evse.transaction, reading, "MeterValuePeriodic")
                    )
                    self._next_sample[evse_id] = max(
                        self._sample_after(sample_at), now + timedelta(seconds=1)
                    )

    async def _until(self, due_at: datetime | None) -> None:
        """Sleep until `due_at` by the station's clock, or until something happens."""
        if due_at is None:
            await self._kick.wait()
            return
        wait_s = self.clock.real_s((due_at - self.now()).total_seconds())
        if wait_s <= 0:
            # Others get their turn even when the day runs too fast for this machine.
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(min(wait_s, 3600.0)):
                await self._kick.wait()
        except TimeoutError:
            return
