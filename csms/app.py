"""Builds every part from Settings and runs them in one TaskGroup on one event loop."""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
import uvicorn
from pydantic import SecretStr

from csms import security
from csms.api.app import create_app
from csms.bus.local import LocalBus
from csms.clock import Clock
from csms.core.errors import ConfigError, StoreUnavailable
from csms.core.messages import Notice
from csms.gateway.server import Gateway
from csms.providers.fetch import Fetcher
from csms.providers.registry import carbon_source, tariff_source
from csms.service.aftercare import Aftercare
from csms.service.authorization import Authorizer, TenantKeys
from csms.service.background import Background
from csms.service.care import Care, care_for
from csms.service.central import Central
from csms.service.charging import Charging, Effect
from csms.service.costs import Costs
from csms.service.devices import Devices
from csms.service.display_messages import DisplayMessages
from csms.service.dynamic import Dynamics
from csms.service.enrolment import Enrolment
from csms.service.forecasting import Forecasting
from csms.service.frames import FrameDesk
from csms.service.housekeeping import Housekeeping
from csms.service.jobs import Jobs
from csms.service.links import LinkDesk
from csms.service.local_lists import LocalLists
from csms.service.locations import LocationPolicy
from csms.service.logs import UploadOptions
from csms.service.market import Market
from csms.service.notices import Notices
from csms.service.offering import Offering
from csms.service.offers import OfferBook
from csms.service.passwords import Passwords
from csms.service.push import Pusher
from csms.service.remote import RemoteStarts
from csms.service.replanner import PlanningOptions, Replanner
from csms.service.reservations import Reservations
from csms.service.terms import TermsDesk
from csms.service.waiting import WaitingRoom
from csms.settings import IdentitySettings, Settings
from csms.store import access, links, stations, wiring
from csms.store.archive import FrameArchive
from csms.store.connections import parsed
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import Metrics

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 10.0


def database_path(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for a server."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) else None


def clock_from(settings: Settings) -> Clock:
    """Return the process's clock; a demo's starts where the configuration says."""
    if not settings.clock.start:
        return Clock()
    try:
        start = datetime.fromisoformat(settings.clock.start)
    except ValueError as error:
        raise ConfigError(f"clock.start is {settings.clock.start!r}; {error}") from error
    if start.tzinfo is None:
        raise ConfigError(f"clock.start is {settings.clock.start!r}; it needs an offset or Z")
    clock = settings.clock
    if clock.zero:
        start += timedelta(seconds=(time.time() - clock.zero) * clock.speed)
    return Clock(start=start, speed=clock.speed)


def frame_archive(settings: Settings) -> FrameArchive | None:
    """Open the archive of frames where the configuration wants one."""
    options = settings.archive
    if not options.enabled:
        return None
    store = database_path(settings.store.url)
    folder = options.folder or (Path("var") if store is None else store.parent) / "frames"
    try:
        return FrameArchive(
            folder,
            max_bytes=options.max_mb * 2**20,
            max_age=timedelta(days=options.max_days),
        )
    except OSError as error:
        raise ConfigError(f"archive.folder {folder} cannot be used: {error.strerror}") from error


def tenant_keys(identity: IdentitySettings, store_url: str) -> TenantKeys:
    """Return the keys of the 20-character names, made on first use beside a SQLite store.

    Raises ConfigError where no key is configured and there is no place to keep one.
    """
    key = _secret(identity.tenant_key, identity.tenant_key_file)
    previous = _secret(identity.previous_tenant_key, identity.previous_tenant_key_file)
    if key is None:
        key = _kept_key(store_url)
    return TenantKeys(key=key, epoch=identity.key_epoch, previous=previous)


def _secret(value: SecretStr | None, file: Path | None) -> bytes | None:
    if value is not None:
        return value.get_secret_value().encode()
    if file is None:
        return None
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"identity: {file} cannot be read: {error.strerror}") from error


def _kept_key(store_url: str) -> bytes:
    path = database_path(store_url)
    if path is None:
        raise ConfigError(
            "identity.tenant_key is not set; several nodes need the same one: set "
            "TASCO_IDENTITY__TENANT_KEY or identity.tenant_key_file"
        )
    file = path.parent / "tenant.key"
    with contextlib.suppress(FileExistsError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(32))
    return file.read_bytes().strip()


async def open_store(settings: Settings) -> Store:
    """Open the configured store, its folder made, its schema and its sites up to date."""
    path = database_path(settings.store.url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    store = await Store.open(settings.store.url, hold_s=settings.store.hold_s)
    sites, circuits = settings.sites(), settings.circuits()

    def keep(tx: Tx) -> None:
        for site_id, site in sites.items():
            stations.configure_site(tx, site)
            wiring.configure_circuits(tx, site_id, circuits[site_id])

    await store.write(keep)
    return store


class ApiServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: those would end the process before the links.

    `ready` is set once it listens.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to `serve`."""
        yield


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise ConfigError(
            f"api: cannot listen on {host}:{port}: {error.strerror}; choose another api.port"
        ) from error


@dataclass(slots=True)
class System:
    """The running parts that others talk to."""

    settings: Settings
    clock: Clock
    store: Store
    bus: LocalBus
    gateway: Gateway
    waiting: WaitingRoom
    reservations: Reservations
    local_lists: LocalLists
    frames: FrameDesk
    remote: RemoteStarts
    central: Central
    care: Care
    replanner: Replanner
    market: Market
    forecasting: Forecasting
    housekeeping: Housekeeping
    background: Background
    jobs: Jobs
    api: ApiServer
    metrics: Metrics
    notices: Notices
    enrolment: Enrolment
    keys: TenantKeys

    @property
    def api_port(self) -> int:
        """The port the API listens on; known once it runs."""
        return int(self.api.servers[0].sockets[0].getsockname()[1])


def build(settings: Settings, store: Store, clock: Clock) -> System:
    """Return every part, wired; nothing runs yet."""
    metrics = Metrics()
    bus = LocalBus()
    notices = Notices(metrics=metrics)
    bus.attach_notices(notices)
    keys = tenant_keys(settings.identity, settings.store.url)
    background = Background()
    devices = Devices(
        store=store,
        bus=bus,
        clock=clock,
        automation=settings.planner.automation,
        wait_s=settings.gateway.command_timeout_s,
    )
    waiting = WaitingRoom(store=store, clock=clock, devices=devices)
    care = _care(settings, store, devices, clock, background)
    reservations = Reservations(store=store, clock=clock, devices=devices)
    passwords = Passwords(bus=bus, devices=devices)
    displays = DisplayMessages()
    devices.watchers += [reservations, displays, passwords]
    lists = LocalLists(
        store=store,
        clock=clock,
        devices=devices,
        policies=settings.access_policies(),
        keys=keys,
        enabled=settings.identity.local_lists,
    )
    forecasting = Forecasting(
        store=store,
        clock=clock,
        options=settings.forecast,
        time_zones={i: s.time_zone for i, s in settings.site.items()},
    )
    book = OfferBook(store=store, clock=clock)
    offering = Offering(book=book, background=background)
    replanner = _replanner(
        settings, store, clock, devices, forecasting, metrics, notices.show, offering
    )
    authorizer = Authorizer(
        store=store,
        policies=settings.access_policies(),
        keys=keys,
        master_organisation=settings.identity.master_organisation,
    )
    costs = Costs(settings.told_tariffs())
    remote = RemoteStarts(store=store, clock=clock)
    devices.watchers.append(remote)
    aftercare = Aftercare(
        store=store,
        clock=clock,
        devices=devices,
        background=background,
        costs=costs,
        master_group=authorizer.master_group,
    )

    def changed(effect: Effect) -> None:
        replanner.changed(effect)
        aftercare.changed(effect)

    charging = Charging(store=store, authorizer=authorizer, costs=costs, changed=changed)
    terms = TermsDesk(store=store, clock=clock, devices=devices, touch=replanner.touch)
    devices.watchers.append(terms)
    dynamics = Dynamics(store=store, clock=clock, devices=devices)
    link_desk = LinkDesk(
        store=store,
        clock=clock,
        allow_profile_0=settings.gateway.allow_profile_0,
        operator=settings.security.operator,
    )
    central = Central(
        store=store,
        links=link_desk,
        authorizer=authorizer,
        charging=charging,
        devices=devices,
        device_desk=care.desk,
        silence=care.silence,
        waiting=waiting,
        reservations=reservations,
        displays=displays,
        terms=terms,
        aftercare=aftercare,
        dynamics=dynamics,
        background=background,
        touch=replanner.touch,
        notify=notices.show,
    )
    bus.attach_centre(central)
    frames = FrameDesk(clock, frame_archive(settings))
    gateway = Gateway(
        security.gateway_options(settings), bus=bus, clock=clock, metrics=metrics, tap=frames.show
    )
    bus.attach_gateway(gateway)
    market = _market(settings, store, clock, metrics, replanner)
    enrolment = Enrolment(
        store=store, keys=keys, clock=clock, empty_sites=settings.identity.empty_sites
    )
    app = create_app(
        store=store,
        clock=clock,
        metrics=metrics,
        devices=devices,
        waiting=waiting,
        reservations=reservations,
        local_lists=lists,
        terms=terms,
        frames=frames,
        dynamics=dynamics,
        care=care,
        replanner=replanner,
        forecasting=forecasting,
        notices=notices,
        passwords=passwords,
        enrolment=enrolment,
        offers=book,
        demo=settings.api.demo,
    )
    api = ApiServer(
        uvicorn.Config(
            app,
            host=settings.api.host,
            port=settings.api.port,
            log_config=None,
            lifespan="off",
            server_header=False,
            access_log=False,
            timeout_graceful_shutdown=3,
        )
    )
    housekeeping = Housekeeping(
        store=store,
        clock=clock,
        touch=replanner.touch,
        offers=book,
        retention=settings.retention,
    )
    jobs = Jobs(clock=clock, metrics=metrics)
    return System(
        settings=settings,
        clock=clock,
        store=store,
        bus=bus,
        gateway=gateway,
        waiting=waiting,
        reservations=reservations,
        local_lists=lists,
        frames=frames,
        remote=remote,
        central=central,
        care=care,
        replanner=replanner,
        market=market,
        forecasting=forecasting,
        housekeeping=housekeeping,
        background=background,
        jobs=jobs,
        api=api,
        metrics=metrics,
        notices=notices,
        enrolment=enrolment,
        keys=keys,
    )


def _care(
    settings: Settings, store: Store, devices: Devices, clock: Clock, background: Background
) -> Care:
    given = settings.transfers
    return care_for(
        store=store,
        devices=devices,
        clock=clock,
        background=background,
        policy=LocationPolicy(
            schemes=given.schemes,
            allowed_urls=given.allowed_urls,
            allow_unresolved=given.allow_unresolved,
        ),
        uploads=UploadOptions(
            folder=given.folder,
            public_url=given.public_url.rstrip("/"),
            max_bytes=given.max_upload_bytes,
            open_for=timedelta(seconds=given.upload_open_s),
        ),
    )


def _replanner(
    settings: Settings,
    store: Store,
    clock: Clock,
    devices: Devices,
    forecasting: Forecasting,
    metrics: Metrics,
    notify: Callable[[Notice], None],
    offering: Offering,
) -> Replanner:
    return Replanner(
        store=store,
        pusher=Pusher(store=store, devices=devices, clock=clock),
        clock=clock,
        options=planning_options(settings),
        metrics=metrics,
        notify=notify,
        reserve=forecasting.reserve,
        planned=offering.planned,
    )


def planning_options(settings: Settings) -> PlanningOptions:
    """Return how the configuration wants sites planned."""
    planner, sites = settings.planner, settings.site
    return PlanningOptions(
        automation=planner.automation,
        slot_s=planner.slot_s,
        horizon_h=planner.horizon_h,
        collect_s=planner.collect_s,
        tolerance_kw=planner.tolerance_kw,
        demand_charge_eur_per_kw={i: s.demand_charge_eur_per_kw for i, s in sites.items()},
        carbon_of={i: s.carbon for i, s in sites.items()},
    )


def check_parts(settings: Settings) -> None:
    """Build what only fails when it is built: clock, store, TLS, providers. Raises ConfigError."""
    clock_from(settings)
    settings.circuits()
    if database_path(settings.store.url) is None:
        # A SQLite store's folder is made when it is opened; a server's URL has to be right.
        parsed(settings.store.url)
    security.gateway_options(settings)
    security.check(settings)
    fetcher = Fetcher()
    for name, options in settings.tariff.items():
        tariff_source(options, name=f"tariff.{name}", fetcher=fetcher)
    for name, options in settings.carbon.items():
        carbon_source(options, name=f"carbon.{name}", fetcher=fetcher)
    for site_id, site in settings.site.items():
        for kind, name, known in (
            ("tariff", site.tariff, settings.tariff),
            ("carbon", site.carbon, settings.carbon),
        ):
            if name not in known:
                raise ConfigError(
                    f"site.{site_id}.{kind} is {name!r}; permitted: {', '.join(sorted(known))}"
                )


def _market(
    settings: Settings, store: Store, clock: Clock, metrics: Metrics, replanner: Replanner
) -> Market:
    fetcher = Fetcher()

    def sites_of(tariff_id: str) -> list[str]:
        return [i for i, site in settings.site.items() if site.tariff == tariff_id]

    return Market(
        store=store,
        clock=clock,
        metrics=metrics,
        tariffs={
            i: tariff_source(options, name=f"tariff.{i}", fetcher=fetcher)
            for i, options in settings.tariff.items()
        },
        carbon={
            i: carbon_source(options, name=f"carbon.{i}", fetcher=fetcher)
            for i, options in settings.carbon.items()
        },
        sites_of_tariff=sites_of,
        touch=replanner.touch,
    )


def _timetable(system: System) -> None:
    """Put every job on the timetable (architecture.md 8)."""
    settings, jobs = system.settings, system.jobs

    async def slot() -> None:
        for site_id in settings.site:
            system.replanner.slot_begins(site_id)

    jobs.every("replan", slot, period_s=settings.planner.slot_s, before_s=20)
    jobs.every("prices", system.market.fetch, period_s=3600, before_s=300)
    jobs.every("fold energy", system.housekeeping.fold, period_s=900)
    jobs.every("follow clock", system.housekeeping.follow_clock, period_s=10)
    jobs.every("quiet sessions", system.housekeeping.close_quiet, period_s=60)
    jobs.every("silent stations", system.central.look_for_silence, period_s=60)
    jobs.every("closed uploads", system.care.logs.purge, period_s=86400)
    jobs.every("waiting commands", system.waiting.expire, period_s=60)
    jobs.every("reservations", system.reservations.expire, period_s=60)
    jobs.every("local lists", system.local_lists.refresh, period_s=60)
    jobs.every("remote starts", system.remote.expire, period_s=60)
    jobs.every("offers", system.housekeeping.expire_offers, period_s=300)
    jobs.every("purge", system.housekeeping.purge, period_s=86400)
    if settings.forecast.enabled:
        jobs.every("forecast", system.forecasting.refresh, period_s=900)
        jobs.daily("train", system.forecasting.train_all, at=settings.forecast.train_at)


@contextlib.asynccontextmanager
async def running(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[System]:
    """Run the whole system; the body runs once both ports are open.

    Leaving the body stops everything in order: no new links, open calls finished, links closed
    1001, the store drained. Raises StoreUnavailable if the store fails for good meanwhile.
    """
    clock = clock or clock_from(settings)
    store = await open_store(settings)
    try:
        system = build(settings, store, clock)
        # A process that was killed left its links open on record; there is only this one.
        started_at = clock.now()
        await store.write(
            lambda tx: links.close_all_links(tx, at=started_at, reason="central system restarted")
        )
        await system.enrolment.keep_names()
        listener = _listener(settings.api.host, settings.api.port)
        await system.gateway.start()
        try:
            async with asyncio.TaskGroup() as group:
                # The API ends by itself once told to, its listener closed: it is not cancelled.
                group.create_task(system.api.serve(sockets=[listener]), name="api")
                tasks = [
                    group.create_task(system.replanner.run(), name="replanner"),
                    group.create_task(_watch_store(store), name="store watch"),
                ]
                await system.api.ready.wait()
                _name_uploads(system)
                await system.care.bulk.resume()
                _timetable(system)
                system.jobs.start()
                system.background.start("prices", system.market.fetch)
                if settings.forecast.enabled:
                    # pandas and scikit-learn take a second to load: after the ports are open.
                    system.background.start("load forecast", system.forecasting.load)
                try:
                    yield system
                finally:
                    await _stop(system)
                    for task in tasks:
                        task.cancel()
        finally:
            listener.close()
            await system.gateway.stop()
            await system.background.stop()
            await asyncio.to_thread(system.frames.close)
    finally:
        await store.close()


def _name_uploads(system: System) -> None:
    """Let stations upload to the API's own address where no other is configured."""
    logs, host = system.care.logs, system.settings.api.host
    if not logs.options.public_url:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{system.api_port}"
        logs.options = replace(logs.options, public_url=url)


async def _stop(system: System) -> None:
    system.jobs.stop()
    system.notices.close()
    system.frames.end_readers()
    system.api.should_exit = True
    async with asyncio.timeout(STOP_WITHIN_S):
        await system.gateway.stop()


async def _watch_store(store: Store) -> None:
    await store.failed.wait()
    raise StoreUnavailable("the store failed for good; restart to recover")


def quieten_collector() -> None:
    """Make the cyclic garbage collector cheap for a server: skip what stays, look less often.

    Everything a message makes is freed by reference counts; the collector only finds the rare
    cycle. With the default of 700 new objects it runs many times per group of messages and walks
    the schema, the validators and the modules each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then stop cleanly within 10 s."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as system:
        quieten_collector()
        log.info(
            "tasco runs",
            stations=f"ws://{settings.gateway.host}:{system.gateway.port}/ocpp/<station id>",
            api=f"http://{settings.api.host}:{system.api_port}/",
            sites=len(settings.site),
        )
        if not await system.store.read(access.list_api_tokens):
            log.warning(
                "nobody can log in yet", make_a_token="tasco api-token add LABEL --role operator"
            )
        await stop.wait()
        log.info("stopping")
