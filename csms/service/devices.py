"""Commands to stations, on record; and what a station needs before it can be planned with.

A station that comes up is asked which schedules it can take and given its guards: limits that
hold without us (architecture.md 6). Nothing is sent unasked where automation is off.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from csms.bus import Bus
from csms.clock import Clock
from csms.core.commands import (
    DEFAULT_WAIT_S,
    STATION_MAX,
    ClearSchedule,
    Command,
    CommandResult,
    Outcome,
    RawCall,
    ReadLimits,
    Schedule,
    SchedulePeriod,
    SetGuard,
)
from csms.core.model import Event, Evse, LinkState, Site, Station, StationLimits
from csms.core.units import a_from_w, floor_to
from csms.planning.cascade import purpose
from csms.planning.guard import Guard
from csms.planning.profile import GUARD_PROFILE_ID
from csms.service.dialects import DialectWatcher
from csms.service.guard_fits import SAME_KW, GuardFits, lowered
from csms.store import commands, dialects, journal, stations
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

_PAST = timedelta(seconds=2)
"""Schedules start slightly in the past: a station's clock may be a second behind ours."""
_ASK_AGAIN = timedelta(days=30)
"""A station is asked again what it can take after this time, and whenever its firmware changes."""


class CommandWatcher(Protocol):
    """Keeps what commands change, whoever gave them: reservations, local lists, messages shown.

    Both run inside the transaction that puts the command or its outcome on record, and may run
    twice.
    """

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Note `command`, which is about to be sent."""
        ...

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Note what came of `command`."""
        ...


class CommandPreparer(Protocol):
    """Sees to what has to hold before a command goes out, and to what it leaves behind."""

    async def prepare(self, command: Command) -> str:
        """Make ready for `command`; return why it must not be sent, "" if it may."""
        ...

    async def settled(self, command: Command, result: CommandResult) -> None:
        """Undo what was prepared for `command` if nothing came of it."""
        ...


class Devices:
    """Sends commands and keeps their outcomes; settles stations that come up."""

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        clock: Clock,
        automation: bool,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> None:
        """`wait_s` is how long a station may take over a command that names no wait of its own."""
        self.wait_s = wait_s
        self.store = store
        self.bus = bus
        self.clock = clock
        self.automation = automation
        self._emptied: set[tuple[str, int]] = set()
        """EVSEs whose guard was cleared to make room for one that was not accepted then."""
        self.watchers: list[CommandWatcher] = [DialectWatcher()]
        """Told of every command and its outcome."""
        self.fits = GuardFits(store)
        self.preparers: dict[str, CommandPreparer] = {}
        """By the action of raw calls."""

    async def run(self, command: Command, *, asked_by: str) -> tuple[int, CommandResult]:
        """Send `command`, keep what came of it, return its record's id and the result."""
        if command.wait_s == DEFAULT_WAIT_S:
            command = replace(command, wait_s=self.wait_s)
        payload = (
            command.payload_json
            if isinstance(command, RawCall)
            else json.dumps(asdict(command), default=str)
        )
        kind = command.action if isinstance(command, RawCall) else type(command).__name__
        asked_at = self.clock.now()

        def ask(tx: Tx) -> int:
            command_id = commands.insert_command(
                tx, command.station_id, kind=kind, payload=payload, asked_by=asked_by, at=asked_at
            )
            self.note_asked(tx, replace(command, command_id=command_id), at=asked_at)
            return command_id

        command_id = await self.store.write(ask)
        return command_id, await self.send(replace(command, command_id=command_id))

    async def send(self, command: Command) -> CommandResult:
        """Send a command that is on record and keep what came of it."""
        action = command.action if isinstance(command, RawCall) else ""
        preparer = self.preparers.get(action)
        why = "" if preparer is None else await preparer.prepare(command)
        if why:
            result = CommandResult(outcome=Outcome.NOT_SENT, why_not_sent=why)
        else:
            result = await self.bus.command(command)
        finished_at = self.clock.now()
        await self.store.write(lambda tx: self.note_ended(tx, command, result, at=finished_at))
        if preparer is not None:
            await preparer.settled(command, result)
        return result

    def note_asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Tell the watchers that `command` is about to be sent."""
        for watcher in self.watchers:
            watcher.asked(tx, command, at=at)

    def note_ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Store what came of `command`, and tell the watchers."""
        commands.finish_command(tx, command.command_id, result, at=at)
        for watcher in self.watchers:
            watcher.ended(tx, command, result, at=at)

    async def settle(self, station_id: str, *, is_new: bool) -> Station:
        """Ask a station what it can take if nobody knows, and set the guards that it may lack.

        One that booted (`is_new`) is given all of them, one that was only away those that are not
        in force as they should be. Raises UnknownStation.
        """
        loaded = await self.store.read(lambda tx: _load(tx, station_id, now=self.clock.now()))
        station, own = loaded.station, loaded.evses
        if not (self.automation and station.automation):
            return station
        if loaded.has_to_be_asked or not own:
            station, own = await self._learn(station, own)
        if not own:
            return station
        if not station.limits.supports_profiles:
            await self._uncontrolled(station, own)
            return station
        site, wanted = await self.fits.of(station, own)
        in_force_kw = {e.evse_id: e.guard_kw for e in own}
        missing = [g for g in wanted if is_new or _differs(g.power_kw, in_force_kw[g.evse_id])]
        if missing:
            await self._guard(station, site, own, missing)
        return station

    async def fit_guards(self, site_id: str) -> bool:
        """Lower guards that stations keep from when the site had more for each; True if any fell.

        A limit that is lowered or a station that joins leaves less for all: without this the
        guards would add up to more than their share. Raising waits until a station settles.
        """
        site, too_high = await self.store.read(lambda tx: lowered(tx, site_id))
        fell = False
        for one in too_high:
            station, own, guard = one.station, one.evses, one.guard
            is_here = station.link_state is LinkState.ONLINE and station.limits.supports_profiles
            if not (self.automation and station.automation and is_here):
                continue
            evse = next(e for e in own if e.evse_id == guard.evse_id)
            result = await self._send_guard(
                station,
                site,
                evse_id=0 if _is_guarded_whole(station, own) else evse.evse_id,
                power_kw=guard.power_kw,
                phases=evse.phases,
                is_dc=evse.current_type == "DC",
            )
            if result.is_accepted:
                await self._keep_guard(evse.station_id, guard)
                fell = True
            elif (evse.station_id, evse.evse_id) in self._emptied:
                await self._refused(station, guard, result)
        return fell

    async def _learn(
        self, station: Station, own: tuple[Evse, ...]
    ) -> tuple[Station, tuple[Evse, ...]]:
        _, result = await self.run(ReadLimits(station_id=station.station_id), asked_by="tasco")
        # What it told is on record with the answer (csms.service.dialects).
        if result.limits is None:
            return station, own
        return await self.store.read(
            lambda tx: (
                stations.get_station(tx, station.station_id),
                tuple(stations.evses_of_station(tx, station.station_id)),
            )
        )

    async def _guard(
        self, station: Station, site: Site, own: tuple[Evse, ...], wanted: Sequence[Guard]
    ) -> bool:
        """Set the station's maximum, then each EVSE's default; return whether all took."""
        maximum_kw = sum(e.max_kw for e in own)
        phases = max(e.phases for e in own)
        is_dc = any(e.current_type == "DC" for e in own)
        if not _is_guarded_whole(station, own):
            await self._send_guard(
                station, site, evse_id=0, power_kw=maximum_kw, phases=phases, is_dc=is_dc
            )
        own_of = {e.evse_id: e for e in own}
        all_took = True
        for guard in wanted:
            result = await self._send_guard(
                station,
                site,
                evse_id=0 if _is_guarded_whole(station, own) else guard.evse_id,
                power_kw=guard.power_kw,
                phases=own_of[guard.evse_id].phases,
                is_dc=own_of[guard.evse_id].current_type == "DC",
            )
            if result.is_accepted:
                await self._keep_guard(station.station_id, guard)
                continue
            all_took = False
            await self._refused(station, guard, result)
        return all_took

    async def _keep_guard(self, station_id: str, guard: Guard) -> None:
        await self.store.write(
            lambda tx: stations.set_guard_kw(tx, station_id, guard.evse_id, guard.power_kw)
        )

    async def _send_guard(
        self,
        station: Station,
        site: Site,
        *,
        evse_id: int,
        power_kw: float,
        phases: int,
        is_dc: bool,
    ) -> CommandResult:
        """Send a guard, again for as long as a refusal teaches another way to spell it."""
        tried: list[StationLimits] = []
        self._emptied.discard((station.station_id, evse_id))
        while True:
            limits = station.limits
            tried.append(limits)
            schedule = _guard_schedule(
                limits,
                profile_id=GUARD_PROFILE_ID + evse_id,
                power_kw=power_kw,
                phases=phases,
                voltage_v=site.voltage_v,
                is_dc=is_dc,
                starts_at=(self.clock.now() - _PAST).replace(microsecond=0),
            )
            if limits.same_id == "clear_first":
                clear = ClearSchedule(
                    station_id=station.station_id, profile_id=schedule.profile_id, evse_id=evse_id
                )
                await self.run(clear, asked_by="tasco")
                self._emptied.add((station.station_id, evse_id))
            command = SetGuard(station_id=station.station_id, evse_id=evse_id, schedule=schedule)
            _, result = await self.run(command, asked_by="tasco")
            if result.is_accepted:
                self._emptied.discard((station.station_id, evse_id))
                return result
            station = await self._again(station.station_id)
            # What was tried in vain is dropped again, which leads back to where it began.
            if station.limits in tried or not station.limits.supports_profiles:
                return result

    async def _again(self, station_id: str) -> Station:
        return await self.store.read(lambda tx: stations.get_station(tx, station_id))

    async def _refused(self, station: Station, guard: Guard, result: CommandResult) -> None:
        """Note that a guard is not in force; one whose link ended is given again with the next."""
        now = self.clock.now()
        level = "info" if result.is_link_gone else "warning"

        def work(tx: Tx) -> None:
            stations.set_guard_kw(tx, station.station_id, guard.evse_id, None)
            journal.add_event(
                tx,
                Event(
                    at=now,
                    kind="guard not accepted",
                    level=level,
                    site_id=station.site_id,
                    station_id=station.station_id,
                    detail={
                        "evse_id": guard.evse_id,
                        "outcome": str(result.outcome),
                        "status": result.status,
                        "error_code": result.error_code,
                    },
                ),
            )

        await self.store.write(work)
        (log.info if result.is_link_gone else log.warning)(
            "guard not accepted",
            station_id=station.station_id,
            evse_id=guard.evse_id,
            outcome=str(result.outcome),
            status=result.status or result.error_code or result.why_not_sent,
        )

    async def _uncontrolled(self, station: Station, own: tuple[Evse, ...]) -> None:
        """Count a station without charging profiles at all it can deliver."""

        def work(tx: Tx) -> None:
            for evse in own:
                stations.set_guard_kw(tx, station.station_id, evse.evse_id, None)

        await self.store.write(work)


def _is_guarded_whole(station: Station, own: Sequence[Evse]) -> bool:
    """Return whether only its maximum limits a station: its guard has to be that."""
    return purpose(station.limits.cascade, evses=len(own)) == STATION_MAX


def _guard_schedule(
    limits: StationLimits,
    *,
    profile_id: int,
    power_kw: float,
    phases: int,
    voltage_v: float,
    is_dc: bool,
    starts_at: datetime,
) -> Schedule:
    """Return one limit without an end, as a station with these `limits` takes it."""
    # Amperes of direct current say nothing about power: watts where a station takes them.
    wanted = ("W", "A") if is_dc else limits.units
    unit = next((u for u in wanted if u in limits.units), limits.units[0])
    if unit == "A":
        current_a = a_from_w(power_kw * 1000.0, phases=phases, voltage_v=voltage_v)
        limit = floor_to(current_a, max(limits.step_a, 0.1))
    else:
        limit = floor_to(power_kw * 1000.0, max(limits.step_w, 1.0))
    period = SchedulePeriod(start_s=0, limit=limit, phases=phases if unit == "W" else None)
    return Schedule(
        profile_id=profile_id,
        stack_level=0,
        unit=unit,
        starts_at=starts_at,
        duration_s=None,
        periods=(period,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    station: Station
    evses: tuple[Evse, ...]
    has_to_be_asked: bool


def _load(tx: Tx, station_id: str, *, now: datetime) -> _Loaded:
    station = stations.get_station(tx, station_id)
    asked_at = dialects.asked_at(tx, station.station_id, firmware=station.firmware_version)
    return _Loaded(
        station=station,
        evses=tuple(stations.evses_of_station(tx, station.station_id)),
        has_to_be_asked=asked_at is None or now - asked_at > _ASK_AGAIN,
    )


def _differs(wanted_kw: float, in_force_kw: float | None) -> bool:
    return in_force_kw is None or abs(wanted_kw - in_force_kw) > SAME_KW
