"""A simulated station on a real websocket, as tests and fleets use it.

async with SimulatedStation("ws://127.0.0.1:9000/ocpp", "CP1", version="2.0.1") as s:
    await s.boot()
    await s.plug_in(1, Vehicle(), soc=0.3)
    await s.present("TOKEN")
    await s.wait_for_command("SetChargingProfile")
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from simulators.battery import Battery, Vehicle
from simulators.client import Body, Client, Payload
from simulators.client16 import Client16
from simulators.client21 import Client21
from simulators.client201 import Client201
from simulators.clock import iso
from simulators.link import LinkDown
from simulators.node import Received, StationNode
from simulators.outbox import Outgoing
from simulators.profiles import ProfileInvalid, parsed
from simulators.station import State, StateChange, Transaction

CLIENTS: dict[str, type[Client]] = {
    "1.6": Client16,
    "2.0.1": Client201,
    "2.1": Client21,
}


class SimulatedStation(StationNode):
    """A station with the people before it. See StationNode for the arguments."""

    def _client(self, version: str) -> Client:
        if version not in CLIENTS:
            raise ValueError(f"version is {version!r}; permitted: {', '.join(CLIENTS)}")
        return CLIENTS[version](self)

    async def __aenter__(self) -> Self:
        await self.link.connect()
        self._start_work()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def wait_for_command(
        self, action: str, timeout_s: float = 10.0, *, after: int = 0
    ) -> Received:
        """Return the first command `action` among `received[after:]`, waiting for it if needed.

        `timeout_s` is machine time. Raises TimeoutError.
        """

        def found() -> Received | None:
            return next((r for r in self.received[after:] if r.action == action), None)

        async with asyncio.timeout(timeout_s), self._commanded:
            await self._commanded.wait_for(lambda: found() is not None)
        received = found()
        assert received is not None
        return received

    async def call(self, action: str, payload: Mapping[str, Any]) -> Payload:
        """Send any call and return its answer."""
        return await self.link.call(action, payload)

    async def say(self, action: str, payload: Payload) -> None:
        """Queue a message that is not kept when the link is lost."""
        self.outbox.put(Outgoing(action=action, build=lambda: payload))

    def cut(self) -> None:
        """Vanish without closing, and stay away until `reconnect`."""
        self.link.keeps_up = False
        self.link.cut()

    async def reconnect(self, timeout_s: float = 10.0) -> None:
        """Come back after `cut`; return when the station is online, if it was registered."""
        self.link.keeps_up = True
        async with asyncio.timeout(timeout_s):
            await self.link.connect_until_up()
            if self.is_registered:
                await self._ready.wait()

    async def drained(self, timeout_s: float = 30.0) -> None:
        """Wait, in machine time, until everything said so far is answered or given up."""
        async with asyncio.timeout(timeout_s):
            await self.outbox.drained()

    # --- what drivers do

    async def plug_in(self, evse_id: int, vehicle: Vehicle, *, soc: float = 0.2) -> None:
        """Connect a vehicle; a token presented before starts the transaction now."""
        self.station.plug_in(evse_id, vehicle, soc=soc, now=self.now())
        self.publish()
        pending = self._pending_tokens.pop(evse_id, None)
        if pending is not None:
            await self.start(evse_id, pending[0], kind=pending[1])

    async def present(self, token: str, *, evse_id: int = 1, kind: str = "ISO14443") -> str:
        """Hold a token before the reader and return the decision, in the version's own word.

        The token that started a running transaction stops it. Else, if accepted, it starts one, or
        waits for the vehicle.
        """
        evse = self.station.evse(evse_id)
        if evse.transaction is not None and evse.transaction.token == token:
            await self.stop(evse_id, token=token)
            return "Accepted"
        status = await self._decision(token, kind)
        if status == "Accepted":
            if evse.battery is not None:
                await self.start(evse_id, token, kind=kind)
            else:
                self._pending_tokens[evse_id] = (token, kind)
        return status

    async def _decision(self, token: str, kind: str) -> str:
        known = self._local_decision(token)
        if self.is_online and not (self.settings.local_pre_authorize and known == "Accepted"):
            try:
                answer = await self.link.call(*self.client.authorize(token, kind))
            except LinkDown:
                return self._offline_decision(known)
            status = self.client.token_status(answer) or "Invalid"
            if self.settings.cache_enabled:
                self.token_cache[token.lower()] = status
            return status
        if self.is_online and known is not None:
            return known
        return self._offline_decision(known)

    def _local_decision(self, token: str) -> str | None:
        if self.settings.list_enabled and token.lower() in self.local_list:
            return self.local_list[token.lower()]
        return self.token_cache.get(token.lower()) if self.settings.cache_enabled else None

    def _offline_decision(self, known: str | None) -> str:
        if known is not None and self.settings.local_authorize_offline:
            return known
        if known is None and self.settings.accepts_unknown_offline:
            return "Accepted"
        return "Invalid"

    async def start(
        self,
        evse_id: int,
        token: str,
        *,
        kind: str = "ISO14443",
        remote_id: int | None = None,
        profile: Body | None = None,
    ) -> Transaction:
        """Start a transaction without asking first; return when it is answered, or offline."""
        tx = self.station.begin(evse_id, token, kind, now=self.now())
        tx.remote_start_id = remote_id
        tx.started_offline = not self.is_online
        evse = self.station.evse(evse_id)
        action, build = self.client.started(tx, evse.reading("Transaction.Begin"))
        outcome = self._queue(action, build, on_answer=partial(self._started, tx))
        self._next_sample[evse_id] = self._sample_after(tx.started_at)
        if profile is not None:
            installed = dict(profile)
            if tx.transaction_id is not None:
                installed["transactionId"] = tx.transaction_id
            self.station.install(parsed(installed, evse_id=evse_id, at=self.now()), now=self.now())
        self.publish()
        self._kick.set()
        await self._answered_or_offline(outcome)
        return tx

    def _started(self, tx: Transaction, answer: Payload) -> None:
        self.client.was_started(tx, answer)
        status = self.client.token_status(answer)
        if status is not None and self.settings.cache_enabled:
            self.token_cache[tx.token.lower()] = status
        refused = status not in (None, "Accepted")
        if refused and tx.ended_at is None and self.settings.stop_on_invalid:
            self.tasks.start(self._stop_refused(tx), "stop refused")

    async def _stop_refused(self, tx: Transaction) -> None:
        if tx.ended_at is None:
            await self.stop(tx.evse_id, reason="DeAuthorized")

    async def stop(
        self, evse_id: int = 1, *, reason: str = "Local", token: str = ""
    ) -> Transaction:
        """End the transaction; return when that is answered, or offline."""
        tx = self.station.end(evse_id, reason=reason, token=token, now=self.now())
        self._next_sample.pop(evse_id, None)
        # The changes up to the end belong before it on the wire.
        self.publish(until_end_of=tx)
        reading = self.station.evse(evse_id).reading("Transaction.End")
        action, build = self.client.ended(tx, reading)
        outcome = self._queue(action, build)
        self.finished.append(tx)
        if self.journal is not None:
            self._summarise(tx)
        self.publish()
        await self._answered_or_offline(outcome)
        return tx

    def _summarise(self, tx: Transaction) -> None:
        assert self.journal is not None
        self.journal.summary(
            {
                "transaction_id": tx.transaction_id,
                "evse_id": tx.evse_id,
                "started_at": iso(tx.started_at),
                "ended_at": iso(tx.ended_at) if tx.ended_at else None,
                "meter_start_wh": tx.meter_start_wh,
                "meter_stop_wh": tx.meter_stop_wh,
                "reason": tx.stop_reason,
            }
        )

    async def unplug(self, evse_id: int = 1) -> Battery:
        """Disconnect the vehicle, ending a running transaction; return its battery."""
        if self.station.evse(evse_id).transaction is not None:
            await self.stop(evse_id, reason="EVDisconnected")
        battery = self.station.unplug(evse_id, now=self.now())
        self.publish()
        return battery

    def power_w(self, evse_id: int = 1) -> float:
        """Return the power the EVSE draws at this instant."""
        self.station.advance(self.now())
        return self.station.evse(evse_id).draw.power_w

    # --- what commands set off

    def free_evse(self) -> int | None:
        """Return an EVSE a remote start may use, one with a vehicle first."""
        free = [i for i, e in self.station.evses.items() if e.transaction is None]
        plugged = [i for i in free if self.station.evses[i].battery is not None]
        return next(iter(plugged or free), None)

    async def remote_start(
        self, evse_id: int, token: str, *, kind: str, profile: Body | None, remote_id: int
    ) -> None:
        """Start what the central system asked for, or wait for the vehicle."""
        if self.station.evse(evse_id).battery is None:
            self._pending_tokens[evse_id] = (token, kind)
            return
        try:
            await self.start(
                evse_id, token, kind=kind or "Central", remote_id=remote_id, profile=profile
            )
        except ProfileInvalid as exc:
            self.link.count_error("bad_profiles", str(exc))

    async def remote_stop(self, evse_id: int, *, reason: str = "Remote") -> None:
        """Stop what runs on an EVSE, if something still does."""
        if self.station.evse(evse_id).transaction is not None:
            await self.stop(evse_id, reason=reason)

    def triggered(self, message: str, evse_id: int | None) -> Callable[[], Awaitable[None]] | None:
        """Return what sends the message a TriggerMessage asks for, None if there is no such one."""
        evse_ids = [evse_id] if evse_id is not None else list(self.station.evses)
        if message == "Heartbeat":
            return partial(self.say, "Heartbeat", {})
        if message == "BootNotification":
            return self._boot_again
        if message == "StatusNotification":
            return partial(self._say_statuses, evse_ids)
        if message == "MeterValues" or (
            message == "TransactionEvent" and self.client.version != "1.6"
        ):
            return partial(self._say_meters, evse_ids, message == "TransactionEvent")
        return None

    async def _boot_again(self) -> None:
        self._boot_reason = "Triggered"
        await self.boot()

    async def _say_statuses(self, evse_ids: Iterable[int]) -> None:
        self.station.advance(self.now())
        for evse_id in evse_ids:
            evse = self.station.evse(evse_id)
            await self.say(*self.client.status(evse_id, evse.state, evse.lived_until))

    async def _say_meters(self, evse_ids: Iterable[int], needs_transaction: bool) -> None:
        self.station.advance(self.now())
        for evse_id in evse_ids:
            evse = self.station.evse(evse_id)
            reading = evse.reading("Trigger")
            if evse.transaction is not None:
                self._queue(*self.client.updated(evse.transaction, reading, "Trigger"))
            elif not needs_transaction:
                await self.say(*self.client.meter_values(evse_id, reading))

    async def reset(self, reason: str) -> None:
        """End all transactions, drop the link, come back and boot."""
        for evse_id in list(self.station.transactions):
            await self.stop(evse_id, reason=reason)
        self._boot_reason = "RemoteReset"
        self.is_registered = False
        self._boots = True
        self.link.cut()

    async def reset_when_idle(self, reason: str) -> None:
        """Reset as soon as no transaction runs."""
        while self.station.transactions:
            self._kick.clear()
            await self._kick.wait()
        await self.reset(reason)

    def _say_change(self, change: StateChange, tx: Transaction | None) -> None:
        super()._say_change(change, tx)
        ends = self.station.installed.dialect.zero == "ends_session"
        if ends and tx is not None and change.state is State.SUSPENDED_EVSE and tx.ended_at is None:
            self.tasks.start(self.remote_stop(change.evse_id, reason="Other"), "stopped by 0 A")

    def profile_changed(self) -> None:
        """Report what a change of profiles did to the EVSEs."""
        self.station.wake()
        self.publish()
        self._kick.set()

    def settings_changed(self) -> None:
        """Let changed settings take effect."""
        self.outbox.attempts = self.settings.message_attempts
        self.outbox.attempt_interval_s = self.settings.message_attempt_interval_s
        now = self.now()
        for evse_id in self._next_sample:
            self._next_sample[evse_id] = self._sample_after(now)
        self._kick.set()
