"""Reading back what stations hold, and mending what differs: accepted is not obeyed.

A station is looked at some time after its link is up and then on a slow timer, a few stations at a
time: 2.x reports its profiles, every version tells its composite schedule. What of ours is missing
or different goes out again, what of ours should not be there is cleared, what others set is kept
apart and never touched. What a station says of itself is no proof either: the meter decides
whether a car is controlled (csms.planning.learning), so mending ends after two tries on a link.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from csms.clock import Clock
from csms.core.commands import (
    ClearSchedule,
    Command,
    CommandResult,
    Outcome,
    RawCall,
    integer,
)
from csms.core.errors import UnknownStation
from csms.core.model import Event, LinkState, OcppVersion, Station
from csms.core.smart import ProfilesReported, ReadComposite, ReadProfiles
from csms.service.background import Background
from csms.service.comparing import (
    DIFFERENT,
    STRAY,
    Difference,
    Given,
    composite_finding,
    differences,
    owner,
)
from csms.service.devices import Devices
from csms.service.given import given_to
from csms.store import commands, journal, plans, reported, sessions, stations
from csms.store.database import Store
from csms.store.reported import Composite, ReportedProfile
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

AT_ONCE = 4
"""So many stations are looked at together."""
PACE_S = 0.2
"""Machine seconds between one lot of stations and the next."""
COMPOSITE_S = 3600
MOST_EVSES = 8
"""Composite schedules are read of so many EVSEs at most, those with a session first."""
MOST_STRAYS = 10
MOST_MENDED = 2
"""What a station was found to lack is sent again so often on one link."""
_SETTLES_S = 1.0
"""Some stations call each page of a report its last: the pages that follow are waited for."""
_POLL_S = 5.0
_JUST_ENDED = timedelta(minutes=2)
_REFUSALS = (Outcome.NOT_SUPPORTED, Outcome.CALL_ERROR)


@dataclass(slots=True)
class _Asked:
    request_id: int
    at: datetime


@dataclass(slots=True)
class _Link:
    """What is remembered of a station while it is up."""

    looked_at: datetime | None = None
    asked: _Asked | None = None
    read_at: datetime | None = None
    """When its last whole report was asked for, None before the first."""
    mended: int = 0
    says_no_profiles: bool = False
    says_no_composite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a station should hold, says it holds, and where they differ; see `ReadBack.shown`."""

    read_at: datetime | None
    given: tuple[Given, ...]
    reported: tuple[ReportedProfile, ...]
    composites: tuple[Composite, ...]
    differences: tuple[Difference, ...]


class ReadBack:
    """Asks stations what they hold; belongs to one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        devices: Devices,
        background: Background,
        touch: Callable[[str, str], None],
        lost: Callable[[str], None],
        after_s: float,
        every_s: float,
    ) -> None:
        """`lost` hears of sessions whose schedule is not in force; `touch` makes a site due.

        Stations are looked at `after_s` after they came up, and each `every_s`.
        """
        self.store = store
        self.clock = clock
        self.devices = devices
        self.background = background
        self.touch = touch
        self.lost = lost
        self.after = timedelta(seconds=after_s)
        self.every = timedelta(seconds=every_s)
        self._links: dict[str, _Link] = {}
        self._due: dict[str, datetime] = {}
        self._numbers = itertools.count(int(clock.now().timestamp()) % 1_000_000_000)

    # --- when

    def came_up(self, station_id: str) -> None:
        """Look at a station soon: by then it has its guards and plans again."""
        self._links[station_id] = _Link()
        if self.devices.automation:
            self._later(station_id)

    def gone(self, station_id: str) -> None:
        """Forget a station whose link has ended."""
        self._links.pop(station_id, None)
        self._due.pop(station_id, None)

    async def look_again(self) -> None:
        """Look at the stations that were not looked at for long; called by a timer."""
        now = self.clock.now()
        for station_id, link in self._links.items():
            if link.looked_at is not None and now - link.looked_at >= self.every:
                self._due.setdefault(station_id, now)
        self._go_on()

    def _later(self, station_id: str) -> None:
        self._due[station_id] = self.clock.now() + self.after
        self._go_on()

    def _go_on(self) -> None:
        if self._due:
            self.background.start("read back", self._work_off)

    async def _work_off(self) -> None:
        """Look at stations as they are due, a few at a time."""
        while self._due:
            now = self.clock.now()
            due = sorted(self._due, key=lambda s: self._due[s])[:AT_ONCE]
            due = [station_id for station_id in due if self._due[station_id] <= now]
            if not due:
                wait_s = (min(self._due.values()) - now).total_seconds()
                await self.clock.sleep(min(wait_s, _POLL_S))
                continue
            for station_id in due:
                del self._due[station_id]
            await asyncio.gather(*(self._look_alone(station_id) for station_id in due))
            await asyncio.sleep(PACE_S)

    async def _look_alone(self, station_id: str) -> None:
        try:
            await self.look(station_id, asked_by="tasco")
        except UnknownStation:
            log.info("station removed before it was read back", station_id=station_id)

    # --- asking

    async def look(self, station_id: str, *, asked_by: str) -> None:
        """Ask a station for its profiles and composite schedules; reports come later.

        Nothing is asked unasked where automation is off. Raises UnknownStation.
        """
        station, given = await self.store.read(lambda tx: given_to(tx, station_id))
        station_id = station.station_id
        is_unasked = asked_by == "tasco"
        may_ask = self.devices.automation and station.automation
        if is_unasked and not (may_ask and station.limits.supports_profiles):
            return
        if station.link_state is not LinkState.ONLINE:
            return
        link = self._links.setdefault(station_id, _Link())
        link.looked_at = self.clock.now()
        if station.version is not OcppVersion.V16 and not (link.says_no_profiles and is_unasked):
            await self._ask_profiles(station_id, link, asked_by)
        if not (link.says_no_composite and is_unasked):
            await self._ask_composites(station, given, link, asked_by)

    async def _ask_profiles(self, station_id: str, link: _Link, asked_by: str) -> None:
        asked = link.asked = _Asked(next(self._numbers), self.clock.now())
        command = ReadProfiles(station_id=station_id, number=asked.request_id)
        _, result = await self.devices.run(command, asked_by=asked_by)
        if result.outcome in _REFUSALS:
            link.says_no_profiles = True
        elif result.is_accepted and result.status == "NoProfiles":
            await self._compare(station_id, asked)

    async def _ask_composites(
        self, station: Station, given: Sequence[Given], link: _Link, asked_by: str
    ) -> None:
        charging = {g.evse_id for g in given if g.session_id}
        others = {g.evse_id for g in given if g.evse_id} - charging
        # 2.x tells its profiles themselves: there the schedules of the cars are enough.
        tells = station.version is not OcppVersion.V16 and not link.says_no_profiles
        wanted = sorted(charging) if tells else [*sorted(charging), *sorted(others)]
        differing = []
        for evse_id in wanted[:MOST_EVSES]:
            _, result = await self.devices.run(
                ReadComposite(
                    station_id=station.station_id, evse_id=evse_id, duration_s=COMPOSITE_S
                ),
                asked_by=asked_by,
            )
            if result.outcome in _REFUSALS:
                link.says_no_composite = True
                return
            if result.composite is not None and not tells:
                found = await self._read_wrong(station.station_id, evse_id)
                if found is not None:
                    differing.append(found)
        if differing:
            await self._mend(station, differing, link)

    async def _read_wrong(self, station_id: str, evse_id: int) -> Difference | None:
        return await self.store.read(lambda tx: _found(tx, station_id, evse_id))

    # --- reports

    def page_came(self, report: ProfilesReported) -> None:
        """Take note of a page that is stored; after the last one the whole is compared."""
        link = self._links.get(report.station_id)
        if link is None or link.asked is None or not report.is_last:
            return
        asked, station_id = link.asked, report.station_id
        if report.request_id != asked.request_id:
            return

        async def work() -> None:
            await self.clock.sleep(_SETTLES_S)
            await self._compare(station_id, asked)

        self.background.start(f"compare profiles of {station_id}", work)

    async def _compare(self, station_id: str, asked: _Asked) -> None:
        link = self._links.get(station_id)
        if link is None or link.asked is not asked:
            return
        link.read_at = asked.at

        def work(tx: Tx) -> tuple[Station, list[Difference], bool]:
            before = reported.profiles_of(tx, station_id)
            reported.drop_unreported(tx, station_id, request_id=asked.request_id)
            held = reported.profiles_of(tx, station_id)
            station, given = given_to(tx, station_id)
            busy = _busy(tx, station_id, since=asked.at - _JUST_ENDED)
            lifted = {p.body for p in before if owner(p) == "outside"} - {p.body for p in held}
            found = differences(given, held, asked_at=asked.at)
            # A profile whose session ended while the report was on its way is no stray.
            found = [d for d in found if d.kind != STRAY or d.evse_id not in busy]
            return station, found, bool(lifted)

        station, found, is_lifted = await self.store.write(work)
        if is_lifted:
            self.touch(station.site_id, "others limit a station no more")
        if found:
            await self._mend(station, found, link)
        else:
            link.mended = 0

    # --- mending

    async def _mend(self, station: Station, found: Sequence[Difference], link: _Link) -> None:
        """Send again what is missing or different, clear what is not to stay."""
        link.mended += 1
        gives_up = link.mended > MOST_MENDED
        if not gives_up or link.mended == MOST_MENDED + 1:
            await self._note(station, found, gives_up=gives_up)
        if gives_up or not (self.devices.automation and station.automation):
            return
        for one in [d for d in found if d.kind == STRAY][:MOST_STRAYS]:
            clear = ClearSchedule(
                station_id=station.station_id, profile_id=one.profile_id, evse_id=one.evse_id
            )
            await self.devices.run(clear, asked_by="tasco")
        lost = [d for d in found if d.kind != STRAY]
        plans_lost = [d for d in lost if d.is_plan]
        guards_lost = [d for d in lost if not d.is_plan]
        if plans_lost or guards_lost:
            await self.store.write(lambda tx: _not_in_force(tx, station, plans_lost, guards_lost))
        for one in plans_lost:
            self.lost(one.session_id)
        if guards_lost:
            await self.devices.settle(station.station_id, is_new=True)
        if lost:
            self.touch(station.site_id, "a station lost what it was given")
        self._later(station.station_id)

    async def _note(self, station: Station, found: Sequence[Difference], *, gives_up: bool) -> None:
        at = self.clock.now()
        event = Event(
            at=at,
            kind="profiles differ still" if gives_up else "profiles differ",
            level="warning",
            site_id=station.site_id,
            station_id=station.station_id,
            detail={
                "profiles": [
                    {"evse_id": d.evse_id, "profile_id": d.profile_id, "is": d.kind, "why": d.why}
                    for d in found[:MOST_STRAYS]
                ]
            },
        )
        await self.store.write(lambda tx: journal.add_event(tx, event))
        log.warning(event.kind, station_id=station.station_id, profiles=len(found))

    # --- watching commands (csms.service.devices.CommandWatcher)

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Nothing is kept of a question."""

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Keep a composite schedule; drop our copy of a profile that is gone."""
        if isinstance(command, ReadComposite):
            if result.outcome in (Outcome.ACCEPTED, Outcome.REJECTED):
                _keep_composite(tx, command, result, at=at)
            return
        profile_id = _cleared_id(command)
        if profile_id is not None and _is_gone(result):
            reported.drop_profile(tx, command.station_id, profile_id)

    # --- shown

    async def shown(self, station_id: str) -> Holding:
        """Return what a station should hold beside what it said last; raise UnknownStation."""
        read_at = None
        link = self._links.get(station_id)
        if link is not None:
            read_at = link.read_at

        def work(tx: Tx) -> Holding:
            station, given = given_to(tx, station_id)
            held = reported.profiles_of(tx, station.station_id)
            found = [] if read_at is None else differences(given, held, asked_at=read_at)
            return Holding(
                read_at=read_at,
                given=given,
                reported=tuple(held),
                composites=tuple(reported.composites_of(tx, station.station_id)),
                differences=tuple(found),
            )

        return await self.store.read(work)


def _busy(tx: Tx, station_id: str, *, since: datetime) -> set[int]:
    """Return the EVSEs on which a session is open, or ended after `since`."""
    newest = sessions.list_transactions(tx, station_id=station_id, limit=20).items
    return {s.evse_id for s in newest if s.ended_at is None or s.ended_at >= since}


def _found(tx: Tx, station_id: str, evse_id: int) -> Difference | None:
    """Return what the composite schedule read last shows to be wrong on an EVSE, if anything."""
    read = next(c for c in reported.composites_of(tx, station_id) if c.evse_id == evse_id)
    if not read.finding.startswith("allows more"):
        return None
    _, given = given_to(tx, station_id)
    best = max((g for g in given if g.evse_id == evse_id), key=lambda g: g.profile_id)
    return Difference(
        kind=DIFFERENT,
        evse_id=evse_id,
        profile_id=best.profile_id,
        session_id=best.session_id,
        install_id=best.install_id,
        why=f"composite schedule {read.finding}",
    )


def _not_in_force(
    tx: Tx, station: Station, plans_lost: Sequence[Difference], guards_lost: Sequence[Difference]
) -> None:
    """Keep that schedules and guards are not in force: until they are, the site counts on less."""
    for one in plans_lost:
        plans.ignored(tx, one.install_id)
    for one in guards_lost:
        if one.evse_id:
            stations.set_guard_kw(tx, station.station_id, one.evse_id, None)


def _keep_composite(tx: Tx, command: ReadComposite, result: CommandResult, *, at: datetime) -> None:
    station = stations.find_station(tx, command.station_id)
    if station is None:
        return
    _, given = given_to(tx, station.station_id)
    told = result.composite
    reported.put_composite(
        tx,
        Composite(
            station_id=station.station_id,
            evse_id=command.evse_id,
            outcome=str(result.outcome),
            schedule=told,
            finding=composite_finding(
                given,
                told,
                evse_id=command.evse_id,
                asked_at=commands.get_command(tx, command.command_id).asked_at,
            ),
            read_at=at,
        ),
    )


def _cleared_id(command: Command) -> int | None:
    if isinstance(command, ClearSchedule):
        return command.profile_id
    if isinstance(command, RawCall) and command.action == "ClearChargingProfile":
        payload = command.payload()
        return integer(payload.get("id", payload.get("chargingProfileId")))
    return None


def _is_gone(result: CommandResult) -> bool:
    """Return whether a profile is gone: "Unknown" says that there was none any more."""
    return result.is_accepted or result.status == "Unknown"
