"""Builds every part from Settings; nothing runs yet. Which part knows which is said here only."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import uvicorn

from csms import security
from csms.api.app import create_app
from csms.bus.local import LocalBus
from csms.clock import Clock
from csms.core.messages import Notice
from csms.core.plan import Plan, PlanningCase
from csms.gateway.server import Gateway
from csms.gateway_setup import gateway_options
from csms.opening import frame_archive, tenant_keys
from csms.providers.fetch import Fetcher
from csms.providers.registry import carbon_source, tariff_source
from csms.service.aftercare import Aftercare
from csms.service.authorization import Authorizer, TenantKeys
from csms.service.background import Background
from csms.service.care import Care, care_for
from csms.service.cases import SiteTerms, Snapshot
from csms.service.central import Central
from csms.service.certificates import Certificates
from csms.service.challenger import ChallengerOptions, Challengers
from csms.service.charging import Charging, Effect
from csms.service.claims import AllowanceBook
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
from csms.service.metering import MeterDesk
from csms.service.notices import Notices
from csms.service.offering import Offering
from csms.service.offers import OfferBook
from csms.service.passwords import Passwords
from csms.service.priority import USE_PRIORITY, Priority
from csms.service.push import Pusher
from csms.service.read_back import ReadBack
from csms.service.readiness import ReadinessDesk
from csms.service.remote import RemoteStarts
from csms.service.replanner import PlanningOptions, Replanner
from csms.service.reservations import Reservations
from csms.service.terms import TermsDesk
from csms.service.waiting import WaitingRoom
from csms.settings import Settings
from csms.store.database import Store
from csms.telemetry import Metrics

if TYPE_CHECKING:
    # A single process does not load NATS.
    from csms.bus.centre_end import CentreEnd


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


@dataclass(slots=True)
class System:
    """The running parts that others talk to."""

    settings: Settings
    clock: Clock
    store: Store
    bus: "LocalBus | CentreEnd"
    stations: Gateway | None
    """Where stations connect; None where gateways are nodes of their own."""
    waiting: WaitingRoom
    reservations: Reservations
    local_lists: LocalLists
    frames: FrameDesk
    certificates: Certificates
    remote: RemoteStarts
    central: Central
    care: Care
    replanner: Replanner
    market: Market
    meters: MeterDesk
    forecasting: Forecasting
    housekeeping: Housekeeping
    background: Background
    jobs: Jobs
    api: ApiServer
    metrics: Metrics
    notices: Notices
    enrolment: Enrolment
    allowances: AllowanceBook
    keys: TenantKeys

    @property
    def gateway(self) -> Gateway:
        """The gateway of this process, which a centre by itself has not."""
        if self.stations is None:
            raise RuntimeError("stations connect to nodes of their own")
        return self.stations

    @property
    def api_port(self) -> int:
        """The port the API listens on; known once it runs."""
        return int(self.api.servers[0].sockets[0].getsockname()[1])


def build(
    settings: Settings, store: Store, clock: Clock, remote_bus: "CentreEnd | None" = None
) -> System:
    """Return every part, wired; nothing runs yet.

    With `remote_bus` there is no gateway: those are at its other end.
    """
    metrics = Metrics()
    bus: LocalBus | CentreEnd = remote_bus or LocalBus()
    notices = Notices(metrics=metrics)
    bus.attach_notices(notices)
    show = notices.show if remote_bus is None else _shown_by_both(notices, remote_bus)
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
    care = _care(settings, store, devices, clock, waiting, background)
    reservations = Reservations(store=store, clock=clock, devices=devices)
    passwords = Passwords(bus=bus, devices=devices)
    certificates = Certificates(
        store=store,
        bus=bus,
        devices=devices,
        clock=clock,
        background=background,
        authority=security.local_authority(settings),
        renew_before=timedelta(days=settings.security.renew_before_days),
    )
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
        quantiles={i: s.reserve_quantile for i, s in settings.site.items() if s.reserve_quantile},
    )
    book = OfferBook(store=store, clock=clock)
    offering = Offering(book=book, background=background)
    replanner = _replanner(
        settings, store, clock, devices, forecasting, metrics, show, offering, background
    )
    contracts = security.contracts(settings)
    authorizer = Authorizer(
        store=store,
        policies=settings.access_policies(),
        keys=keys,
        master_organisation=settings.identity.master_organisation,
        contracts=contracts,
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
    devices.preparers[USE_PRIORITY] = Priority(
        store=store, devices=devices, touch=replanner.touch, planned=replanner.settled
    )
    dynamics = Dynamics(store=store, clock=clock, devices=devices)
    read_back = ReadBack(
        store=store,
        clock=clock,
        devices=devices,
        background=background,
        touch=replanner.touch,
        lost=replanner.follower.in_doubt,
        after_s=settings.planner.read_back_after_s,
        every_s=settings.planner.read_back_every_s,
    )
    devices.watchers.append(read_back)
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
        read_back=read_back,
        certificates=certificates,
        contracts=contracts,
        background=background,
        touch=replanner.touch,
        notify=show,
    )
    bus.attach_centre(central)
    frames = FrameDesk(clock, frame_archive(settings))
    gateway = None
    if isinstance(bus, LocalBus):
        gateway = Gateway(
            gateway_options(settings), bus=bus, clock=clock, metrics=metrics, tap=frames.show
        )
        bus.attach_gateway(gateway)
    market = _market(settings, store, clock, metrics, replanner)
    meters = MeterDesk(store=store, clock=clock, touch=replanner.touch)
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
        read_back=read_back,
        care=care,
        replanner=replanner,
        forecasting=forecasting,
        notices=notices,
        passwords=passwords,
        certificates=certificates,
        enrolment=enrolment,
        offers=book,
        meters=meters,
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
        stations=gateway,
        waiting=waiting,
        reservations=reservations,
        local_lists=lists,
        frames=frames,
        certificates=certificates,
        remote=remote,
        central=central,
        care=care,
        replanner=replanner,
        market=market,
        meters=meters,
        forecasting=forecasting,
        housekeeping=housekeeping,
        background=background,
        jobs=jobs,
        api=api,
        metrics=metrics,
        notices=notices,
        enrolment=enrolment,
        allowances=AllowanceBook(store=store, clock=clock, policies=settings.access_policies()),
        keys=keys,
    )


def _shown_by_both(notices: Notices, bus: "CentreEnd") -> Callable[[Notice], None]:
    def show(notice: Notice) -> None:
        notices.show(notice)
        bus.show(notice)

    return show


def _care(
    settings: Settings,
    store: Store,
    devices: Devices,
    clock: Clock,
    waiting: WaitingRoom,
    background: Background,
) -> Care:
    given, kept = settings.transfers, settings.retention
    return care_for(
        store=store,
        devices=devices,
        clock=clock,
        waiting=waiting,
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
            # A request on record is what names its file.
            kept=timedelta(days=min(kept.files_days, kept.commands_days)),
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
    background: Background,
) -> Replanner:
    desk = ReadinessDesk(
        store=store, clock=clock, background=background, arrivals=forecasting.arrivals_kw
    )

    def planned(known: Snapshot, case: PlanningCase, made: Plan) -> None:
        offering.planned(known, case, made)
        desk.planned(known, case, made)

    return Replanner(
        store=store,
        pusher=Pusher(store=store, devices=devices, clock=clock),
        clock=clock,
        options=planning_options(settings),
        metrics=metrics,
        notify=notify,
        reserve=forecasting.reserve,
        planned=planned,
        challengers=Challengers(
            store=store, clock=clock, background=background, options=challenger_options(settings)
        ),
    )


def challenger_options(settings: Settings) -> ChallengerOptions:
    """Return who challenges whom, and when one steps in."""
    planner = settings.planner
    return ChallengerOptions(
        challengers={i: s.challenger for i, s in settings.site.items()},
        budget_s=planner.budget_s,
        after_failures=planner.fallback_after,
        window=timedelta(seconds=planner.fallback_window_s),
        good_spell=timedelta(seconds=planner.return_after_s),
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
        terms_of={
            i: SiteTerms(
                demand_charge_eur_per_kw=s.demand_charge_eur_per_kw,
                peak_hint_kw=s.peak_hint_kw,
                guaranteed=timedelta(minutes=s.guaranteed_minutes),
            )
            for i, s in sites.items()
        },
        carbon_of={i: s.carbon for i, s in sites.items()},
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
