"""`tasco demo`: a depot of simulated stations on a real day, against the real system.

The stations, their cars and the drivers' habits come from the simulators, which run as a process
of their own and know nothing of the central system but its address. Sessions are real (one US
manufacturer's workplace, 2015, CC0), moved to a day of the same weekday for which real day-ahead
prices and CO2 are recorded (DK1, 2024, Energinet, CC BY 4.0). The eight weeks before that day are
imported as history, so that the forecast has something to learn from.
"""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import typer

from csms.app import running
from csms.assembly import System
from csms.clock import Clock
from csms.core.model import (
    AuthorizationStatus,
    Evse,
    Holder,
    OcppVersion,
    Session,
    SessionState,
    TokenRecord,
    Trip,
    Vehicle,
)
from csms.demo_result import result
from csms.demo_site import (
    AS_DATE,
    BUILDING_KW,
    DATA,
    HEARTBEAT_S,
    LIMIT_KW,
    REAL_DAY,
    SHIFT_H,
    SITE,
    scenario_text,
    settings,
)
from csms.opening import open_store, tenant_keys
from csms.service.enrolment import Enrolment, StationRegistration
from csms.service.ids import new_id
from csms.settings import Settings
from csms.store import sessions
from csms.store.statements import Tx
from csms.telemetry import set_up_logging
from csms.tools import add_api_token
from simulators import realday
from simulators.scenario import Scenario, load

MOVED = timedelta(days=(AS_DATE - REAL_DAY).days, hours=SHIFT_H)
HISTORY = timedelta(weeks=8)
ONCE_SPEED = 300.0
LIVE_SPEED = 60.0
BEFORE_REAL_S = 4.0
"""Machine seconds between the start and the first arrival: the stations connect and boot."""


@dataclass(slots=True)
class Demo:
    """What belongs to one run."""

    folder: Path
    scenario: Scenario
    scenario_path: Path
    settings: Settings
    password: str
    token: str = ""

    @property
    def journals(self) -> Path:
        """Where the stations write their journals."""
        return self.folder / "journals"

    @property
    def stays(self) -> Path:
        """Where the simulators write what each car got."""
        return self.folder / "stays.json"


async def run_demo(
    *,
    once: bool,
    speed: float | None,
    port: int,
    ocpp_port: int,
    limit_kw: float | None,
    folder: Path | None,
    is_quiet: bool,
) -> dict[str, object] | None:
    """Run the demo; return its figures once the day is over, None if it was stopped before."""
    set_up_logging(level="warning", format_="console")
    _end_on_sigterm()
    speed = speed or (ONCE_SPEED if once else LIVE_SPEED)
    if once:
        port, ocpp_port = 0, 0
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tasco-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        demo = _prepared(
            folder, speed=speed, port=port, ocpp_port=ocpp_port, limit_kw=limit_kw or LIMIT_KW
        )
        await _enrol(demo)
        clock = Clock(start=demo.scenario.start, speed=speed)
        zero = time.time()
        async with running(demo.settings, clock=clock) as system:
            if not is_quiet:
                _greet(demo, system)
            return await _live(demo, system, zero=zero, once=once, is_quiet=is_quiet)


def _end_on_sigterm() -> None:
    """Let SIGTERM end the demo as Ctrl-C does: stations, database and all."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _prepared(folder: Path, *, speed: float, port: int, ocpp_port: int, limit_kw: float) -> Demo:
    password = secrets.token_urlsafe(18)
    path = folder / "scenario.toml"
    path.write_text(
        scenario_text(password=password, speed=speed, limit_kw=limit_kw), encoding="utf-8"
    )
    scenario = load(path)
    scenario = replace(
        scenario, start=scenario.day.starts_at - timedelta(seconds=BEFORE_REAL_S * speed)
    )
    return Demo(
        folder=folder,
        scenario=scenario,
        scenario_path=path,
        settings=settings(folder, port=port, ocpp_port=ocpp_port, limit_kw=limit_kw),
        password=password,
    )


# --- who and what is there -----------------------------------------------------------------------


async def _enrol(demo: Demo) -> None:
    """Register stations, drivers and cars, and import the weeks before as history."""
    store = await open_store(demo.settings)
    try:
        enrolment = Enrolment(
            store=store,
            keys=tenant_keys(demo.settings.identity, demo.settings.store.url),
            clock=Clock(start=demo.scenario.start),
        )
        await _enrol_stations(demo, enrolment)
        stays = [a.stay for a in demo.scenario.day.assignments]
        holders = {s.user: _holder(s.user) for s in stays}
        await enrolment.put_holders(list(holders.values()), by="demo")
        await enrolment.put_tokens(
            [
                TokenRecord(value=s.token, kind=s.token_kind, did=_did(s.user))
                for s in {s.user: s for s in stays}.values()
            ],
            by="demo",
        )
        await store.write(lambda tx: _import_history(tx, demo))
        demo.token = await add_api_token(
            store, label="demo", role="operator", at=demo.scenario.start
        )
    finally:
        await store.close()


async def _enrol_stations(demo: Demo, enrolment: Enrolment) -> None:
    for spec in demo.scenario.stations:
        await enrolment.register_station(
            StationRegistration(
                station_id=spec.station_id,
                site_id=SITE,
                password=demo.password,
                evses=tuple(
                    Evse(
                        station_id=spec.station_id,
                        evse_id=e.evse_id,
                        max_kw=e.max_kw,
                        phases=e.phases,
                        current_type=e.current_type,
                    )
                    for e in spec.evses
                ),
            ),
            by="demo",
        )
        await enrolment.change_station(
            spec.station_id, {"heartbeat_interval_s": HEARTBEAT_S}, by="demo"
        )


def _did(user: str) -> str:
    return f"did:denso:driver:{user}"


def _holder(user: str) -> Holder:
    return Holder(
        did=_did(user),
        allowed_sites=(SITE,),
        vehicle_id=f"V{user}",
        # Every third driver asked for green energy, so that the plan has both kinds.
        carbon_conscious=int(user) % 3 == 0,
    )


def _import_history(tx: Tx, demo: Demo) -> None:
    """Store the real sessions of the weeks before as ended sessions, marked as imported."""
    until = demo.scenario.start
    for line in realday.recorded(DATA):
        start_at, end_at = line.start_at + MOVED, line.end_at + MOVED
        if not until - HISTORY <= start_at or end_at >= until:
            continue
        sessions.open_session(
            tx,
            Session(
                session_id=new_id("s", start_at),
                number=0,
                site_id=SITE,
                station_id="IMPORTED",
                evse_id=1,
                version=OcppVersion.V16,
                transaction_id=f"imported-{line.session_id}",
                holder_did=_did(line.user_id),
                status=AuthorizationStatus.ACCEPTED,
                reason="imported",
                state=SessionState.ENDED,
                started_at=start_at,
                received_at=start_at,
                ended_at=end_at,
                stop_reason="Local",
                meter_start_wh=0.0,
                meter_last_wh=line.energy_kwh * 1000,
                energy_wh=line.energy_kwh * 1000,
                sample_at=end_at,
                flags=("imported",),
            ),
        )


async def _drivers(demo: Demo, system: System) -> None:
    """Tell, shortly before each arrival, what the driver's phone would: charge and next trip."""
    for assignment in demo.scenario.day.assignments:
        stay = assignment.stay
        wait_s = (stay.arrives_at - timedelta(seconds=90) - system.clock.now()).total_seconds()
        await system.clock.sleep(wait_s)
        car = stay.vehicle
        vehicle_id = f"V{stay.user}"
        await system.enrolment.put_vehicles(
            [
                Vehicle(
                    vehicle_id=vehicle_id,
                    battery_kwh=car.battery_kwh,
                    max_kw=car.max_ac_kw,
                    max_dc_kw=car.max_dc_kw,
                    phases=car.phases,
                    efficiency=car.efficiency,
                    consumption_wh_per_km=car.consumption_wh_per_km,
                    soc=stay.soc,
                    soc_at=system.clock.now(),
                    soc_source="declared",
                    max_soc=car.max_soc,
                    owner_did=_did(stay.user),
                )
            ],
            by="demo",
        )
        await system.enrolment.put_trips(
            [
                Trip(
                    trip_id=f"t-{stay.stay_id}",
                    holder_did=_did(stay.user),
                    vehicle_id=vehicle_id,
                    departs_at=stay.departs_at,
                    energy_kwh=stay.needed_soc * car.battery_kwh,
                    reserve_share=0.0,
                )
            ],
            by="demo",
        )


# --- the run -------------------------------------------------------------------------------------


def _greet(demo: Demo, system: System) -> None:
    host = demo.settings.api.host
    typer.echo(f"page      http://{host}:{system.api_port}/#token={demo.token}")
    typer.echo(
        f"stations  ws://{demo.settings.gateway.host}:{system.gateway.port}/ocpp/<station id>"
    )
    typer.echo(
        f"day       {demo.scenario.start:%Y-%m-%d %H:%MZ}, {system.clock.speed:g} times as fast, "
        f"{len(demo.scenario.day.assignments)} real sessions, Ctrl-C ends it"
    )


@contextlib.asynccontextmanager
async def _simulators(
    demo: Demo, system: System, *, zero: float, is_quiet: bool
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulators",
        str(demo.scenario_path),
        f"ws://127.0.0.1:{system.gateway.port}/ocpp",
        "--clock-start",
        demo.scenario.start.astimezone(UTC).isoformat(),
        "--clock-zero",
        repr(zero),
        "--journal",
        str(demo.journals),
        "--no-fsync",
        "--stays",
        str(demo.stays),
        *(["--quiet"] if is_quiet else []),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _live(
    demo: Demo, system: System, *, zero: float, once: bool, is_quiet: bool
) -> dict[str, object] | None:
    demo.journals.mkdir(exist_ok=True)
    async with _simulators(demo, system, zero=zero, is_quiet=is_quiet) as process:
        drivers = asyncio.create_task(_drivers(demo, system), name="drivers")
        first = None if is_quiet else asyncio.create_task(_first_plan(system), name="first plan")
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            return None
        finally:
            for task in filter(None, (drivers, first)):
                task.cancel()
    summary: dict[str, Any] = json.loads(output) if output.strip() else {}
    found = await result(
        system,
        demo.scenario,
        summary=summary,
        stays=json.loads(demo.stays.read_text()),
        journals=demo.journals,
        site_id=SITE,
        building_kw=BUILDING_KW,
    )
    if not once:
        for key, value in found.items():
            typer.echo(f"{key:28} {value}")
        typer.echo("the day is over; the page stays until Ctrl-C")
        await asyncio.Event().wait()
    return found


async def _first_plan(system: System) -> None:
    began = time.monotonic()
    async with system.notices.subscribe() as notices:
        async for notice in notices:
            if notice.kind == "plan" and notice.detail.get("accepted"):
                typer.echo(f"first plan in force {time.monotonic() - began:.1f} s after the start")
                return
