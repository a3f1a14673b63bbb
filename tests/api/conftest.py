"""A whole operator side over a real store, with a station played at the far end of the bus."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from csms.api.app import create_app
from csms.api.auth import new_token, token_hash, token_prefix
from csms.bus.local import LocalBus
from csms.clock import Clock
from csms.core.commands import Command, CommandResult, Outcome
from csms.core.model import Evse, OcppVersion, Site, Station
from csms.service.authorization import TenantKeys
from csms.service.background import Background
from csms.service.care import care_for
from csms.service.certificates import Certificates
from csms.service.devices import Devices
from csms.service.dynamic import Dynamics
from csms.service.enrolment import Enrolment
from csms.service.forecasting import Forecasting
from csms.service.frames import FrameDesk
from csms.service.local_lists import LocalLists
from csms.service.locations import LocationPolicy
from csms.service.logs import UploadOptions
from csms.service.metering import MeterDesk
from csms.service.notices import Notices
from csms.service.offers import OfferBook
from csms.service.passwords import Passwords
from csms.service.push import Pusher
from csms.service.read_back import ReadBack
from csms.service.replanner import PlanningOptions, Replanner
from csms.service.reservations import Reservations
from csms.service.terms import TermsDesk
from csms.service.waiting import WaitingRoom
from csms.settings import ForecastSettings
from csms.store import access, links, stations
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import Metrics

START = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)


@dataclass
class PlayedStation:
    """What the gateway's end of the bus does: notes every command and gives the next answer."""

    seen: list[Command] = field(default_factory=list)
    answers: list[CommandResult] = field(default_factory=list)

    async def execute(self, command: Command) -> CommandResult:
        self.seen.append(command)
        if self.answers:
            return self.answers.pop(0)
        return CommandResult(
            outcome=Outcome.ACCEPTED, status="Accepted", answer={"status": "Accepted"}
        )


@dataclass
class Operator:
    """The operator side under test, and how to call it."""

    app: FastAPI
    store: Store
    clock: Clock
    notices: Notices
    replanner: Replanner
    station: PlayedStation
    client: httpx.AsyncClient
    viewer: httpx.AsyncClient
    anonymous: httpx.AsyncClient


async def add_api_token(store: Store, role: str) -> str:
    secret = new_token()
    await store.write(
        lambda tx: access.add_api_token(
            tx,
            hash_=token_hash(secret),
            prefix=token_prefix(secret),
            role=role,
            label=f"test {role}",
            at=START,
        )
    )
    return secret


def _site(tx: Tx) -> None:
    stations.upsert_site(
        tx, Site(site_id="depot", name="Depot", time_zone="Europe/Berlin", limit_kw=100.0)
    )
    stations.register_station(tx, Station(station_id="CP1", site_id="depot", name="Bay 1"))
    stations.upsert_evse(
        tx, Evse(station_id="CP1", evse_id=1, max_kw=22.0, status="Available", guard_kw=4.2)
    )


def link(tx: Tx, version: OcppVersion = OcppVersion.V16) -> int:
    return links.open_link(tx, "CP1", version=version, remote_address="127.0.0.1", at=START)


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with the schema of now: making it takes longer than most tests."""
    path = tmp_path_factory.mktemp("blank") / "api.sqlite3"

    async def make() -> None:
        store = await Store.open(f"sqlite:///{path}")
        await store.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def operator(tmp_path: Path, blank_database: Path) -> AsyncIterator[Operator]:
    path = tmp_path / "api.sqlite3"
    shutil.copy(blank_database, path)
    store = await Store.open(f"sqlite:///{path}")
    clock = Clock(start=START)
    metrics = Metrics()
    bus = LocalBus()
    station = PlayedStation()
    bus.attach_gateway(station)
    notices = Notices(metrics)
    bus.attach_notices(notices)
    devices = Devices(store=store, bus=bus, clock=clock, automation=True)
    forecasting = Forecasting(
        store=store,
        clock=clock,
        options=ForecastSettings(),
        time_zones={"depot": "Europe/Berlin"},
    )
    replanner = Replanner(
        store=store,
        pusher=Pusher(store=store, devices=devices, clock=clock),
        clock=clock,
        options=PlanningOptions(),
        metrics=metrics,
        notify=notices.show,
        reserve=forecasting.reserve,
        planned=lambda *_: None,
    )
    background = Background()
    waiting = WaitingRoom(store=store, clock=clock, devices=devices)
    app = create_app(
        store=store,
        clock=clock,
        metrics=metrics,
        devices=devices,
        care=care_for(
            store=store,
            devices=devices,
            clock=clock,
            background=background,
            waiting=waiting,
            policy=LocationPolicy(),
            uploads=UploadOptions(folder=tmp_path / "files", public_url="http://127.0.0.1"),
        ),
        waiting=waiting,
        reservations=Reservations(store=store, clock=clock, devices=devices),
        frames=FrameDesk(clock, None),
        local_lists=LocalLists(
            store=store,
            clock=clock,
            devices=devices,
            policies={},
            keys=TenantKeys(key=b"k" * 32),
        ),
        terms=TermsDesk(store=store, clock=clock, devices=devices, touch=replanner.touch),
        dynamics=Dynamics(store=store, clock=clock, devices=devices),
        read_back=ReadBack(
            store=store,
            clock=clock,
            devices=devices,
            background=background,
            touch=replanner.touch,
            lost=replanner.follower.in_doubt,
            after_s=30.0,
            every_s=3600.0,
        ),
        replanner=replanner,
        forecasting=forecasting,
        notices=notices,
        passwords=Passwords(bus=bus, devices=devices),
        certificates=Certificates(
            store=store,
            bus=bus,
            devices=devices,
            clock=clock,
            background=Background(),
            authority=None,
            renew_before=timedelta(days=30),
        ),
        enrolment=Enrolment(store=store, keys=TenantKeys(key=b"k" * 32), clock=clock),
        offers=OfferBook(store=store, clock=clock),
        meters=MeterDesk(store=store, clock=clock, touch=replanner.touch),
        demo=True,
        heartbeat_s=0.05,
    )
    await store.write(_site)
    secret = await add_api_token(store, "operator")
    viewing = await add_api_token(store, "viewer")
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)

    def client(token: str = "") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://tasco", headers=headers)

    async with client(secret) as c, client(viewing) as v, client() as a:
        yield Operator(
            app=app,
            store=store,
            clock=clock,
            notices=notices,
            replanner=replanner,
            station=station,
            client=c,
            viewer=v,
            anonymous=a,
        )
    await store.close()
