"""A site as it is now, for whoever watches: who will not be ready comes first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from csms.core.model import Evse, Holder, LinkState, Session, Site, Station, Vehicle
from csms.core.plan import PlannedSession
from csms.core.session import InForce, allowed_kw
from csms.planning.guard import worst_case_kw
from csms.planning.loads import loads_of
from csms.service.circuit_load import CircuitNow, circuits_now
from csms.service.metering import MeterNow, meters_now
from csms.store import energy, identities, plans, rivals, sessions, stations, wiring
from csms.store.database import Store
from csms.store.plans import StoredPlan
from csms.store.statements import Tx
from csms.telemetry import token_hint

HISTORY = timedelta(hours=6)
_NOTHING_KWH = 0.05
"""Less than this is not worth a warning: a minute of the smallest charge."""

_ORDER = ("will_miss", "refused", "at_risk", "waiting", "on_track", "ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteNow:
    """A site's numbers at an instant; None where nothing is known.

    `planned_kw` is what the latest plan gives the cars now, `measured_kw` what their meters say,
    `peak_kw` the plan's highest load with the building. `worst_case_cut_off_kw` is the load with
    every station cut off and a car at each EVSE.
    """

    site_id: str
    name: str
    time_zone: str
    limit_kw: float
    building_load_kw: float
    measured_kw: float | None
    planned_kw: float | None
    peak_kw: float | None
    worst_case_cut_off_kw: float
    open_sessions: int
    not_ready_sessions: int
    shortfall_kwh: float
    stations: int
    stations_online: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StationNow:
    """A station with its EVSEs."""

    station_id: str
    name: str
    vendor: str
    model: str
    version: str
    link_state: str
    registration: str
    last_seen_at: datetime | None
    automation: bool
    evses: tuple[Evse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNow:
    """An open session. `readiness` is a word of `_ORDER`; `ready_share` the part of the need that
    the plan meets by departure, never 1 before the energy is in the car; `met_share` how likely the
    need is met whole: the share of scenarios in which it is (csms.planning.readiness).
    """

    session_id: str
    station_id: str
    evse_id: int
    holder_did: str
    holder_name: str
    holder_hint: str
    vehicle_id: str
    vehicle_name: str
    started_at: datetime
    departs_at: datetime | None
    need_kwh: float | None
    need_source: str
    energy_kwh: float
    soc: float | None
    measured_kw: float | None
    allowed_kw: float | None
    reason: str
    readiness: str
    ready_share: float | None
    shortfall_kwh: float
    finishes_at: datetime | None
    cost_eur: float | None
    met_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanNow:
    """The latest plan with the series a chart needs; series are (slots,).

    `limit_kw` is the site's limit with the caps that hold for it.
    """

    plan_id: int
    made_at: datetime
    why: str
    status: str
    strategy: str
    edges_at: tuple[datetime, ...]
    limit_kw: tuple[float, ...]
    base_load_kw: tuple[float, ...]
    solar_kw: tuple[float, ...]
    price_eur_per_kwh: tuple[float, ...]
    sessions: tuple[PlannedSession, ...]
    peak_kw: float
    cost_eur: float
    shortfall_kwh: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Mean power of the site's cars in the quarter hour from `starts_at` on."""

    starts_at: datetime
    power_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Everything the first paint of a site's page needs."""

    at: datetime
    site: SiteNow
    stations: tuple[StationNow, ...]
    sessions: tuple[SessionNow, ...]
    plan: PlanNow | None
    measured: tuple[Measured, ...]
    circuits: tuple[CircuitNow, ...] = ()
    meters: tuple[MeterNow, ...] = ()


async def site_now(store: Store, site_id: str, *, now: datetime) -> Live:
    """Return the site at `now`; raise UnknownSite."""
    return await store.read(lambda tx: load(tx, site_id, now=now))


async def all_sites(store: Store, *, now: datetime) -> tuple[SiteNow, ...]:
    """Return every site's numbers, those with cars that will not be ready first."""

    def work(tx: Tx) -> tuple[SiteNow, ...]:
        found = [load(tx, site.site_id, now=now).site for site in stations.list_sites(tx)]
        return tuple(sorted(found, key=lambda s: (-s.not_ready_sessions, s.name, s.site_id)))

    return await store.read(work)


def load(tx: Tx, site_id: str, *, now: datetime) -> Live:
    """Return the site at `now` from one snapshot of the store; raise UnknownSite."""
    site = stations.get_site(tx, site_id)
    known = stations.list_stations(tx, site_id=site_id)
    known.sort(key=lambda s: (s.link_state is LinkState.ONLINE, s.station_id))
    evses = stations.evses_of_site(tx, site_id)
    stored = plans.latest_plan(tx, site_id)
    opened = sessions.open_sessions_of_site(tx, site_id)
    cars = _cars(tx, opened, known, stored, now)
    planned = None if stored is None else (stored.case, stored.plan)
    tree = wiring.tree_of(tx, site_id)
    meters = meters_now(tx, site, tree.setups, now=now)
    return Live(
        at=now,
        site=_site(site, known, evses, cars, stored, now),
        stations=tuple(_station(s, evses) for s in known),
        sessions=cars,
        plan=None if stored is None else _plan(stored),
        measured=tuple(
            Measured(starts_at=q.starts_at, power_kw=q.energy_kwh * 4)
            for q in energy.energy_by_quarter(tx, site_id, now - HISTORY, now)
        ),
        circuits=circuits_now(
            site,
            tree,
            opened,
            planned,
            meters,
            followed=_followed(tx, cars, now),
            now=now,
        ),
        meters=meters,
    )


def _followed(tx: Tx, cars: Sequence[SessionNow], now: datetime) -> dict[str, InForce]:
    """Return what stations have accepted for the cars that were measured above their plan."""
    above = [c.session_id for c in cars if (c.measured_kw or 0.0) > (c.allowed_kw or 0.0)]
    return {
        session_id: InForce(edges_at=last.edges_at, power_kw=last.row_kw, accepted_at=last.sent_at)
        for session_id, (*_, last) in plans.schedules_since(tx, above, now).items()
    }


def _site(
    site: Site,
    known: Sequence[Station],
    evses: Sequence[Evse],
    cars: Sequence[SessionNow],
    stored: StoredPlan | None,
    now: datetime,
) -> SiteNow:
    measured = [c.measured_kw for c in cars if c.measured_kw is not None]
    planned = [c.allowed_kw for c in cars if c.allowed_kw is not None]
    return SiteNow(
        site_id=site.site_id,
        name=site.name or site.site_id,
        time_zone=site.time_zone,
        limit_kw=site.limit_kw,
        building_load_kw=_base_load_kw(site, stored, now),
        measured_kw=sum(measured) if measured or not cars else None,
        planned_kw=sum(planned) if planned or not cars else None,
        peak_kw=None if stored is None else stored.plan.peak_kw,
        worst_case_cut_off_kw=worst_case_kw(site, tuple(evses)),
        open_sessions=len(cars),
        not_ready_sessions=sum(c.readiness in _ORDER[:3] for c in cars),
        shortfall_kwh=sum(c.shortfall_kwh for c in cars),
        stations=len(known),
        stations_online=sum(s.link_state is LinkState.ONLINE for s in known),
    )


def _base_load_kw(site: Site, stored: StoredPlan | None, now: datetime) -> float:
    if stored is None:
        return site.base_load_kw
    case = stored.case
    pairs = zip(case.edges_at, case.edges_at[1:], case.base_load_kw, strict=False)
    return next((kw for start, end, kw in pairs if start <= now < end), site.base_load_kw)


def _station(station: Station, evses: Sequence[Evse]) -> StationNow:
    return StationNow(
        station_id=station.station_id,
        name=station.name,
        vendor=station.vendor,
        model=station.model,
        version=str(station.version or ""),
        link_state=str(station.link_state),
        registration=station.registration,
        last_seen_at=station.last_seen_at,
        automation=station.automation,
        evses=tuple(e for e in evses if e.station_id == station.station_id),
    )


def _cars(
    tx: Tx,
    opened: Sequence[Session],
    known: Sequence[Station],
    stored: StoredPlan | None,
    now: datetime,
) -> tuple[SessionNow, ...]:
    online = {s.station_id: s.link_state is LinkState.ONLINE for s in known}
    holders: dict[str, Holder | None] = {}
    vehicles: dict[str, Vehicle | None] = {}
    likely = rivals.readiness_of(tx, [s.session_id for s in opened])
    cars = []
    for session in opened:
        did, vehicle_id = session.holder_did, session.vehicle_id
        if did and did not in holders:
            holders[did] = identities.holder_of_did(tx, did)
        if vehicle_id and vehicle_id not in vehicles:
            vehicles[vehicle_id] = identities.find_vehicle(tx, vehicle_id)
        car = _car(session, holders, vehicles, online, stored, now)
        looked = likely.get(session.session_id)
        cars.append(car if looked is None else replace(car, met_share=looked.met_share))
    cars.sort(key=lambda c: (_ORDER.index(c.readiness), c.departs_at or now + HISTORY * 8))
    return tuple(cars)


def _car(
    session: Session,
    holders: Mapping[str, Holder | None],
    vehicles: Mapping[str, Vehicle | None],
    online: Mapping[str, bool],
    stored: StoredPlan | None,
    now: datetime,
) -> SessionNow:
    row = None if stored is None else stored.plan.row(session.session_id)
    holder, vehicle = holders.get(session.holder_did), vehicles.get(session.vehicle_id)
    is_online = online.get(session.station_id, False)
    token = session.id_token.value if session.id_token else ""
    return SessionNow(
        session_id=session.session_id,
        station_id=session.station_id,
        evse_id=session.evse_id,
        holder_did=session.holder_did,
        holder_name=holder.name if holder else "",
        holder_hint=token_hint(session.holder_did or token),
        vehicle_id=session.vehicle_id,
        vehicle_name=(vehicle.name or vehicle.vehicle_id) if vehicle else "",
        started_at=session.started_at,
        departs_at=session.departs_at,
        need_kwh=None if session.need_wh is None else session.need_wh / 1000.0,
        need_source=session.need_source,
        energy_kwh=session.energy_kwh,
        soc=session.soc,
        measured_kw=None if session.power_w is None else session.power_w / 1000.0,
        allowed_kw=None if stored is None else allowed_kw(stored.plan, session.session_id, now),
        reason=reason(session, row, is_online=is_online),
        readiness=readiness(session, row, is_online=is_online),
        ready_share=ready_share(session, row),
        shortfall_kwh=row.shortfall_kwh if row else 0.0,
        finishes_at=row.finishes_at if row else None,
        cost_eur=row.cost_eur if row else None,
    )


def is_met(session: Session) -> bool:
    """Return whether the car holds what its trip needs."""
    return session.need_wh is not None and session.energy_wh >= session.need_wh - 1.0


def readiness(session: Session, row: PlannedSession | None, *, is_online: bool) -> str:
    """Return whether a car will be ready, in a word of a closed list."""
    if not session.is_authorized:
        return "refused"
    if is_met(session):
        return "ready"
    if row is None or session.need_wh is None:
        return "waiting"
    if row.shortfall_kwh > _NOTHING_KWH:
        return "will_miss"
    # What is planned may not happen where the station cannot be told.
    return "on_track" if is_online else "at_risk"


def ready_share(session: Session, row: PlannedSession | None) -> float | None:
    """Return the part of the need met by departure, 0..1; below 1 until the energy is there."""
    if not session.is_authorized or session.need_wh is None:
        return None
    if is_met(session):
        return 1.0
    if row is None or session.need_wh <= 0:
        return None
    need_kwh = session.need_wh / 1000.0
    return min(max(1.0 - row.shortfall_kwh / need_kwh, 0.0), 0.99)


def reason(session: Session, row: PlannedSession | None, *, is_online: bool) -> str:
    """Return why the car is in its state, in words."""
    if not session.is_authorized:
        return f"token refused: {session.reason}" if session.reason else "no token accepted"
    words = row.reason if row is not None else "plan pending"
    why_short = row.shortfall_reason if row and row.shortfall_kwh > _NOTHING_KWH else ""
    if why_short and why_short != words:
        words = f"{words}; short because of {why_short}"
    return words if is_online else f"{words}; station offline"


def _plan(stored: StoredPlan) -> PlanNow:
    case, plan = stored.case, stored.plan
    return PlanNow(
        plan_id=stored.head.plan_id,
        made_at=plan.made_at,
        why=stored.head.why,
        status=plan.status,
        strategy=str(plan.strategy),
        edges_at=plan.edges_at,
        limit_kw=loads_of(replace(case, sessions=(), limit_rows=()), [])[0].most,
        base_load_kw=case.base_load_kw,
        solar_kw=case.solar_kw,
        price_eur_per_kwh=case.price_eur_per_kwh,
        sessions=plan.sessions,
        peak_kw=plan.peak_kw,
        cost_eur=plan.cost_eur,
        shortfall_kwh=plan.shortfall_kwh,
        notes=plan.notes,
    )
