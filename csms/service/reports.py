"""What a site's sessions came to: energy, money, peak, and what planning saved.

A session belongs to the range in which it began, with all its energy, so that ranges add up.
Energy is placed in quarter hours as the meter told; what the meter did not place in time is spread
evenly over the stay. "At once" prices the same energy at the session's own most power from
arrival on, quarter hour by quarter hour, so it differs from the cost only in when it was drawn.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.model import Evse, Price, Session, Site, Vehicle
from csms.core.units import slot_start
from csms.store import energy, identities, series, sessions, stations, trips
from csms.store.database import Store
from csms.store.statements import Tx

QUARTER = timedelta(minutes=15)
MAX_RANGE = timedelta(days=400)
_PLACED_KWH = 0.001
_PRICES_BEYOND = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One session with when its energy was drawn; `quarters` maps quarter starts to kWh."""

    session: Session
    max_kw: float
    quarters: Mapping[datetime, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analytics:
    """A site's sessions that began in [starts_at, until).

    `peak_hour` is the hour of the site's day with the most energy; `savings_eur` is what the
    plans saved against charging at once; `offer_acceptance_share` counts decided offers only.
    None stands for a number that nothing was measured for.
    """

    site_id: str
    starts_at: datetime
    until: datetime
    sessions: int
    ended_sessions: int
    energy_kwh: float
    revenue_eur: float
    cost_eur: float | None
    cost_at_once_eur: float | None
    savings_eur: float | None
    savings_share: float | None
    average_duration_hours: float | None
    average_energy_kwh: float | None
    peak_hour: int | None
    peak_demand_kw: float | None
    peak_demand_at: datetime | None
    offers_made: int
    offers_accepted: int
    offers_declined: int
    offer_acceptance_share: float | None


class PriceList:
    """Prices by instant; outside what is known, the nearest known price holds."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices = sorted(prices, key=lambda p: p.starts_at)
        self._starts = [p.starts_at for p in self._prices]

    def __bool__(self) -> bool:
        return bool(self._prices)

    def at(self, instant: datetime) -> float:
        """Return the price at `instant`, EUR/kWh: the one that began last, or the first."""
        place = max(bisect_right(self._starts, instant) - 1, 0)
        return self._prices[place].eur_per_kwh


def cost_eur(quarters: Mapping[datetime, float], prices: PriceList) -> float:
    """Return what energy drawn in `quarters` costs, each at the price its quarter begins with."""
    return sum(kwh * prices.at(start) for start, kwh in quarters.items())


def at_once(session: Session, *, max_kw: float) -> dict[datetime, float]:
    """Return the session's energy by quarter hour had it been drawn at `max_kw` from its start."""
    quarters: dict[datetime, float] = {}
    left_kwh, at = session.energy_kwh, session.started_at
    if max_kw <= 0:
        return quarters
    while left_kwh > 1e-9:
        start = slot_start(at)
        hours = (start + QUARTER - at) / timedelta(hours=1)
        drawn_kwh = min(left_kwh, max_kw * hours)
        quarters[start] = drawn_kwh
        left_kwh -= drawn_kwh
        at = start + QUARTER
    return quarters


def placed(
    session: Session, folded: Sequence[tuple[datetime, float]], *, now: datetime
) -> dict[datetime, float]:
    """Return when the session's energy was drawn, what the meter did not place spread evenly."""
    quarters: defaultdict[datetime, float] = defaultdict(float)
    for start, kwh in folded:
        quarters[start] += kwh
    missing_kwh = session.energy_kwh - sum(quarters.values())
    if missing_kwh > _PLACED_KWH:
        until = session.ended_at or session.sample_at or now
        for start, share in _shares(session.started_at, until):
            quarters[start] += missing_kwh * share
    return dict(quarters)


def _shares(start: datetime, until: datetime) -> Iterator[tuple[datetime, float]]:
    total = until - start
    if total <= timedelta(0):
        yield slot_start(start), 1.0
        return
    at = start
    while at < until:
        end = min(slot_start(at) + QUARTER, until)
        yield slot_start(at), (end - at) / total
        at = end


def max_power_kw(evse: Evse | None, vehicle: Vehicle | None) -> float:
    """Return the most a vehicle takes at an EVSE, kW; a missing one sets no limit of its own."""
    is_dc = evse is not None and evse.current_type == "DC"
    limits = [] if evse is None else [evse.max_kw]
    if vehicle is not None:
        limits.append(vehicle.max_dc_kw if is_dc else vehicle.max_kw)
    return min(limits, default=Vehicle(vehicle_id="").max_kw)


def analyse(
    site: Site,
    stays: Sequence[Stay],
    prices: PriceList,
    offers: Mapping[str, int],
    *,
    starts_at: datetime,
    until: datetime,
) -> Analytics:
    """Return the analytics of `stays`; `offers` counts the offers of the same range by state."""
    energy_kwh = sum(s.session.energy_kwh for s in stays)
    ended = [s.session for s in stays if s.session.ended_at is not None]
    hours = [(s.ended_at - s.started_at) / timedelta(hours=1) for s in ended if s.ended_at]
    load = _load(stays)
    peak_at = max(load, key=lambda start: (load[start], -start.timestamp()), default=None)
    cost = sum(cost_eur(s.quarters, prices) for s in stays) if prices else None
    once = (
        sum(cost_eur(at_once(s.session, max_kw=s.max_kw), prices) for s in stays)
        if prices
        else None
    )
    savings = None if cost is None or once is None else once - cost
    accepted, declined = offers.get("accepted", 0), offers.get("declined", 0)
    return Analytics(
        site_id=site.site_id,
        starts_at=starts_at,
        until=until,
        sessions=len(stays),
        ended_sessions=len(ended),
        energy_kwh=energy_kwh,
        revenue_eur=energy_kwh * site.revenue_per_kwh,
        cost_eur=cost,
        cost_at_once_eur=once,
        savings_eur=savings,
        savings_share=savings / once if savings is not None and once else None,
        average_duration_hours=sum(hours) / len(hours) if hours else None,
        average_energy_kwh=energy_kwh / len(stays) if stays else None,
        peak_hour=_peak_hour(load, site.time_zone),
        peak_demand_kw=None if peak_at is None else load[peak_at] * 4,
        peak_demand_at=peak_at,
        offers_made=sum(offers.values()),
        offers_accepted=accepted,
        offers_declined=declined,
        offer_acceptance_share=accepted / (accepted + declined) if accepted + declined else None,
    )


def _load(stays: Iterable[Stay]) -> dict[datetime, float]:
    load: defaultdict[datetime, float] = defaultdict(float)
    for stay in stays:
        for start, kwh in stay.quarters.items():
            load[start] += kwh
    return dict(load)


def _peak_hour(load: Mapping[datetime, float], time_zone: str) -> int | None:
    zone = ZoneInfo(time_zone)
    by_hour: defaultdict[int, float] = defaultdict(float)
    for start, kwh in load.items():
        by_hour[start.astimezone(zone).hour] += kwh
    return max(by_hour, key=lambda hour: (by_hour[hour], -hour), default=None)


class Reports:
    """Analytics from the store."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    async def analytics(self, site_id: str, *, starts_at: datetime, until: datetime) -> Analytics:
        """Return the analytics of a site for sessions that began in [starts_at, until).

        Raises UnknownSite, and InvalidInput for a range that is empty or longer than 400 days.
        """
        if not starts_at < until <= starts_at + MAX_RANGE:
            raise InvalidInput(
                f"range {starts_at:%Y-%m-%dT%H:%M%z} to {until:%Y-%m-%dT%H:%M%z}: it must end "
                f"after it starts, within {MAX_RANGE.days} days"
            )
        now = self.clock.now()

        def work(tx: Tx) -> Analytics:
            site = stations.get_site(tx, site_id)
            stays = _stays(tx, site_id, starts_at, until, now)
            last = max((s.session.ended_at or now for s in stays), default=until)
            prices = PriceList(
                series.prices(tx, site.tariff_id, starts_at - _PRICES_BEYOND, last + _PRICES_BEYOND)
            )
            offers = trips.offer_counts(tx, site_id, starts_at, until)
            return analyse(site, stays, prices, offers, starts_at=starts_at, until=until)

        return await self.store.read(work)


def _stays(tx: Tx, site_id: str, starts_at: datetime, until: datetime, now: datetime) -> list[Stay]:
    evses = {(e.station_id, e.evse_id): e for e in stations.evses_of_site(tx, site_id)}
    vehicles: dict[str, Vehicle | None] = {}
    stays = []
    for session in sessions.overlapping_sessions(tx, site_id, starts_at, until):
        if not starts_at <= session.started_at < until:
            continue
        if session.vehicle_id and session.vehicle_id not in vehicles:
            vehicles[session.vehicle_id] = identities.find_vehicle(tx, session.vehicle_id)
        stays.append(
            Stay(
                session=session,
                max_kw=max_power_kw(
                    evses.get((session.station_id, session.evse_id)),
                    vehicles.get(session.vehicle_id),
                ),
                quarters=placed(session, energy.energy_of_session(tx, session), now=now),
            )
        )
    return stays
