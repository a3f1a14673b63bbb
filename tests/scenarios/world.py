"""A running central system, people to charge there, and stations on real websockets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import select

from csms.api.auth import new_token, token_hash, token_prefix
from csms.app import running
from csms.assembly import System
from csms.clock import Clock
from csms.core.model import Evse, Holder, Session, TokenRecord, Trip, Vehicle
from csms.core.plan import Plan, PlanningCase
from csms.service.enrolment import StationRegistration
from csms.settings import (
    ApiSettings,
    ForecastSettings,
    GatewaySettings,
    IdentitySettings,
    PlannerSettings,
    Settings,
    SiteSettings,
    StoreSettings,
)
from csms.store import access, commands, journal, plans, sessions, stations, tables
from csms.store.commands import CommandRecord
from csms.store.database import Store
from csms.store.journal import StoredEvent
from csms.store.sessions import Orphan
from csms.store.statements import Tx
from simulators.battery import Vehicle as CarOfStation
from simulators.clock import SimClock
from simulators.oracle import Verdict, check, digest, records
from simulators.power import Step, steps
from simulators.simulated import SimulatedStation
from simulators.variables import Settings as StationSettings

START = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)
VERSIONS = ("1.6", "2.0.1", "2.1")
WAIT_S = 30.0
HELD_KWH = 12.0
"""What a driver's car of 60 kWh holds when it arrives at 20 %."""


async def eventually(
    claim: Callable[[], Any | Awaitable[Any]], what: str = "", *, within_s: float = WAIT_S
) -> Any:
    """Return the first true value of `claim`; fail after `within_s` of machine time."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                value = claim()
                if isinstance(value, Awaitable):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what or claim}") from None


def free_port() -> int:
    """Return a port of this machine that nobody listens on, for a process to be told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class StationClock(SimClock):
    """The central system's clock, as stations read it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(start=clock.now(), speed=clock.speed)
        self._clock = clock

    def now(self) -> datetime:
        """Return the present simulated instant, UTC."""
        return self._clock.now()


def settings(url: str, *, limit_kw: float = 100.0, **given: Any) -> Settings:
    """Return a configuration on free ports that plans at once; sections as keywords."""
    sections: dict[str, Any] = {
        "store": StoreSettings(url=url),
        "gateway": GatewaySettings(port=0),
        "api": ApiSettings(port=0),
        "planner": PlannerSettings(collect_s=0.1),
        "forecast": ForecastSettings(enabled=False),
        "identity": IdentitySettings(tenant_key=SecretStr("an example key of the tests")),
        "site": {"main": SiteSettings(limit_kw=limit_kw)},
    }
    return Settings(**{**sections, **given})


def did_of(number: int) -> str:
    """Return the DID of driver `number`."""
    return f"did:denso:driver:d{number}"


def card_of(number: int) -> str:
    """Return the UID of the card of driver `number`."""
    return f"04A1B2C3D4E5{number:02X}"


@dataclass(slots=True)
class World:
    """The running system and what was built around it."""

    system: System
    stations: list[SimulatedStation] = field(default_factory=list)
    past: list[dict[str, Any]] = field(default_factory=list)
    """Journal lines of stations that are gone."""
    node_url: str = ""
    """Where stations connect if gateways are nodes of their own."""

    @property
    def store(self) -> Store:
        """The system's own store."""
        return self.system.store

    @property
    def clock(self) -> Clock:
        """The system's own clock."""
        return self.system.clock

    @property
    def url(self) -> str:
        """Where stations connect."""
        return self.node_url or f"ws://127.0.0.1:{self.system.gateway.port}/ocpp"

    async def register(
        self, station_id: str, *, max_kw: float = 11.0, evses: int = 1, **given: Any
    ) -> None:
        """Register a station with equal EVSEs; `given` goes to its registration."""
        values: dict[str, Any] = {
            "station_id": station_id,
            "site_id": "main",
            "security_profile": 1 if given.get("password") else 0,
            "evses": tuple(
                Evse(station_id=station_id, evse_id=n + 1, max_kw=max_kw) for n in range(evses)
            ),
        }
        await self.system.enrolment.register_station(
            StationRegistration(**{**values, **given}), by="test"
        )

    def station(self, station_id: str, version: str, **given: Any) -> SimulatedStation:
        """Return a simulated station that keeps a journal, not connected yet."""
        values: dict[str, Any] = {
            "clock": StationClock(self.clock),
            "journal": True,
            "call_timeout_s": 10.0,
            "settings": StationSettings(sample_interval_s=60),
        }
        station = SimulatedStation(self.url, station_id, version=version, **{**values, **given})
        self.stations.append(station)
        return station

    async def driver(
        self,
        number: int,
        *,
        departs_in: timedelta | None = None,
        energy_kwh: float | None = None,
        soc: float = 0.2,
        vehicle: Vehicle | None = None,
        **holder: Any,
    ) -> str:
        """Enrol a driver with a car and a card, and a trip where there is one; return the card."""
        enrolment, now = self.system.enrolment, self.clock.now()
        car = replace(
            vehicle or Vehicle(vehicle_id=f"v{number}", battery_kwh=60.0),
            soc=soc,
            soc_at=now,
            soc_source="declared",
        )
        person: dict[str, Any] = {"allowed_sites": ("*",), "vehicle_id": car.vehicle_id}
        await enrolment.put_vehicles([car], by="test")
        await enrolment.put_holders([Holder(did=did_of(number), **{**person, **holder})], by="test")
        if departs_in is not None:
            await self.trip(number, departs_in=departs_in, energy_kwh=energy_kwh or 10.0)
        await enrolment.put_tokens(
            [TokenRecord(value=card_of(number), kind="ISO14443", did=did_of(number))], by="test"
        )
        return card_of(number)

    async def trip(self, number: int, *, departs_in: timedelta, energy_kwh: float) -> None:
        """Declare or replace a driver's trip; the battery misses `energy_kwh` for it."""
        changed = await self.system.enrolment.put_trips(
            [
                Trip(
                    trip_id=f"t{number}",
                    holder_did=did_of(number),
                    vehicle_id=f"v{number}",
                    departs_at=self.clock.now() + departs_in,
                    energy_kwh=energy_kwh + HELD_KWH,
                    reserve_share=0.0,
                )
            ],
            by="test",
        )
        for site_id in changed.site_ids:
            self.system.replanner.touch(site_id, changed.why)

    async def charges_cut_off(
        self, station: SimulatedStation, card: str, car: CarOfStation, *, lasting: timedelta
    ) -> None:
        """Guard a station, cut its link, begin a session without it and let it go on for a time."""
        station.settings.accepts_unknown_offline = True
        await station.power_up()
        await station.ready()
        await self.guarded(station.station_id)
        station.cut()
        await station.plug_in(1, car, soc=0.2)
        assert await station.present(card) == "Accepted"
        begun_at = self.clock.now()
        await eventually(lambda: self.clock.now() - begun_at > lasting)

    # --- what the store holds

    async def sessions(self) -> list[Session]:
        """Return all sessions, oldest first."""
        page = await self.store.read(lambda tx: sessions.list_sessions(tx, limit=500))
        return sorted(page.items, key=lambda s: s.number)

    async def session(self) -> Session:
        """Return the only session."""
        (found,) = await self.sessions()
        return found

    async def orphans(self) -> list[Orphan]:
        """Return the messages about unknown transactions."""
        return list((await self.store.read(lambda tx: sessions.list_orphans(tx))).items)

    async def commands(self, station_id: str = "", kind: str = "") -> list[CommandRecord]:
        """Return commands, oldest first."""
        page = await self.store.read(
            lambda tx: commands.list_commands(tx, station_id=station_id, kind=kind, limit=500)
        )
        return list(reversed(page.items))

    async def events(self, kind: str = "") -> list[StoredEvent]:
        """Return events, oldest first."""
        page = await self.store.read(lambda tx: journal.list_events(tx, limit=500))
        return [e for e in reversed(page.items) if not kind or e.event.kind == kind]

    async def plan(self) -> tuple[PlanningCase, Plan] | None:
        """Return the newest plan with its case, None before the first."""
        head = await self.newest_plan()
        if head is None:
            return None
        stored = await self.store.read(lambda tx: plans.get_plan(tx, head.plan_id))
        return stored.case, stored.plan

    async def newest_plan(self) -> Any:
        """Return the newest plan's row, None before the first."""
        page = await self.store.read(lambda tx: plans.list_plans(tx, site_id="main", limit=1))
        return page.items[0] if page.items else None

    async def guarded(self, *station_ids: str) -> None:
        """Wait until stations have taken their guards and the site is planned with them."""
        for station_id in station_ids:
            await eventually(
                lambda station_id=station_id: self._settled(station_id),  # type: ignore[misc]
                f"{station_id} took no guard",
            )

    async def _settled(self, station_id: str) -> bool:
        given = await self.commands(station_id, "SetGuard")
        station = await self.store.read(lambda tx: stations.get_station(tx, station_id))
        evses = await self.store.read(lambda tx: stations.evses_of_station(tx, station_id))
        # One that was refused is sent again before the next one's turn comes.
        told = {json.loads(c.payload)["evse_id"] for c in given}
        # A station that says that it has no profiles is given none.
        enough = told >= {0, *(e.evse_id for e in evses)} or not station.limits.supports_profiles
        return enough and all(c.finished_at is not None for c in given)

    # --- judging

    async def verdict(self) -> Verdict:
        """Return what the store holds of what the stations said."""
        lines = list(self.past)
        for station in self.stations:
            assert station.journal is not None
            lines += station.journal.lines
        return check(
            records(lines),
            await self.store.read(event_rows),
            sessions=[session_row(s) for s in await self.sessions()],
            now=self.clock.now() + timedelta(hours=1),
        )

    def course(self) -> list[Step]:
        """Return the power of all stations together over time."""
        found = []
        for station in self.stations:
            station.station.advance(station.now())
            for evse in station.station.evses.values():
                found += evse.segments
        return steps(found)

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yield an HTTP client with an operator's token."""
        secret = new_token()
        await self.store.write(
            lambda tx: access.add_api_token(
                tx,
                hash_=token_hash(secret),
                prefix=token_prefix(secret),
                role="operator",
                label="test",
                at=self.clock.now(),
            )
        )
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.system.api_port}",
            headers={"Authorization": f"Bearer {secret}"},
            timeout=2 * WAIT_S,
        ) as client:
            yield client


@contextlib.asynccontextmanager
async def living(
    given: Settings, *, clock: Clock | None = None, speed: float = 1.0
) -> AsyncIterator[World]:
    """Run a central system on `given`; its stations are closed when it ends."""
    if clock is None:
        clock = Clock() if speed == 1.0 else Clock(start=START, speed=speed)
    async with running(given, clock=clock) as system:
        world = World(system=system)
        try:
            yield world
        finally:
            await closed(world.stations)


async def closed(stations: Iterable[SimulatedStation]) -> None:
    """Close stations; what failed inside one is raised."""
    outcomes = await asyncio.gather(*(s.close() for s in stations), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def session_row(session: Session) -> Mapping[str, Any]:
    """Return a session as the oracle reads it."""
    return {
        "station_id": session.station_id,
        "transaction_id": session.transaction_id,
        "energy_wh": session.energy_wh,
        "ended_at": session.ended_at,
    }


_KINDS = {
    "StartTransaction": "start",
    "StopTransaction": "stop",
    "MeterValues": "meter",
    "Started": "start",
    "Updated": "update",
    "Ended": "stop",
}


def event_rows(tx: Tx) -> list[Mapping[str, Any]]:
    """Return every stored transaction message as the oracle reads it, orphans too."""
    event, orphan = tables.session_event, tables.orphan
    found = [dict(r._mapping) for r in tx.execute(select(event))]
    found += [dict(r._mapping) for r in tx.execute(select(orphan))]
    return [_event_row(row) for row in found]


def _event_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = json.loads(row["payload"])
    number = row.get("seq_no", payload.get("seqNo"))
    return {
        "station_id": row["station_id"],
        "kind": _KINDS[payload.get("eventType", row["action"])],
        "transaction_id": row["transaction_id"],
        "seq_no": None if number is None or number < 0 else number,
        "evse_id": payload.get("connectorId") or payload.get("evse", {}).get("id"),
        "at": row["at"],
        "digest": digest(row["action"], payload),
    }
