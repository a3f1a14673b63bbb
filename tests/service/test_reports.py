"""Analytics equal what one gets by adding up the records oneself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.clock import Clock
from csms.core.errors import InvalidInput, UnknownSite
from csms.core.model import (
    AuthorizationStatus,
    Evse,
    MeterSample,
    OcppVersion,
    Offer,
    Price,
    Session,
    SessionState,
    Site,
    Station,
    Vehicle,
)
from csms.service.reports import PriceList, Reports, at_once, cost_eur, max_power_kw, placed
from csms.store import energy, identities, samples, series, sessions, stations, trips
from csms.store.database import Store
from csms.store.statements import Tx

DAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)


def session(n: int, start: datetime, hours: float, kwh: float) -> Session:
    return Session(
        session_id=f"s-{n}", number=0, site_id="depot", station_id="CP1", evse_id=1,
        version=OcppVersion.V16, transaction_id=str(n), status=AuthorizationStatus.ACCEPTED,
        state=SessionState.ENDED, started_at=start, received_at=start,
        ended_at=start + timedelta(hours=hours), meter_start_wh=0.0, energy_wh=kwh * 1000,
        vehicle_id="van",
    )  # fmt: skip


PRICES = [
    Price(
        starts_at=DAY + HOUR * h,
        until=DAY + HOUR * (h + 1),
        eur_per_kwh=round(0.30 - 0.01 * (h % 24), 3),
    )
    for h in range(48)
]


def price_at(at: datetime) -> float:
    return next(p.eur_per_kwh for p in PRICES if p.starts_at <= at < p.until)


STAYS = [
    # start, stay in hours, and the energy taken in each quarter hour from the start on
    (DAY + HOUR * 8, 9.0, [0.0, 0.0, 0.0, 0.0, 2.0, 2.5, 2.5, 1.0]),
    (DAY + HOUR * 9, 3.0, [2.75, 2.75, 2.75]),
    (DAY + HOUR * 18, 12.0, [0.0] * 14 + [2.0] * 6),
]


def fill(tx: Tx) -> None:
    stations.upsert_site(
        tx,
        Site(
            site_id="depot", limit_kw=100, tariff_id="t", revenue_per_kwh=0.4,
            time_zone="Europe/Berlin",
        ),
    )  # fmt: skip
    stations.register_station(tx, Station(station_id="CP1", site_id="depot"))
    stations.upsert_evse(tx, Evse(station_id="CP1", evse_id=1, max_kw=22.0))
    identities.upsert_vehicle(tx, Vehicle(vehicle_id="van", max_kw=11.0))
    series.upsert_prices(tx, "t", PRICES)
    for n, (start, hours, quarters) in enumerate(STAYS):
        stored = sessions.open_session(tx, session(n, start, hours, sum(quarters)))
        register = [
            MeterSample(at=start + QUARTER * k, energy_wh=sum(quarters[:k]) * 1000)
            for k in range(len(quarters) + 1)
        ]
        samples.append_samples(tx, stored, register)
    energy.fold_energy(tx, "depot", DAY, DAY + timedelta(days=2))
    for k, state in enumerate(("accepted", "accepted", "declined", "open")):
        trips.insert_offer(
            tx,
            Offer(
                offer_id=str(k), session_id="s-0", holder_did="d", site_id="depot", kind="k",
                starts_at=DAY, until=DAY + HOUR, reason="r", state=state, made_at=DAY + HOUR * 9,
            ),
        )  # fmt: skip


@pytest.fixture
async def reports(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = await Store.open(f"sqlite:///{tmp_path / 'r.sqlite3'}")
    await store.write(fill)
    yield Reports(store=store, clock=Clock(start=DAY + timedelta(days=3)))
    await store.close()


async def test_the_figures_are_the_sums_of_the_records(reports: Reports) -> None:
    found = await reports.analytics("depot", starts_at=DAY, until=DAY + timedelta(days=1))
    total = sum(sum(quarters) for _, _, quarters in STAYS)
    assert found.sessions == found.ended_sessions == 3
    assert found.energy_kwh == pytest.approx(total)
    assert found.revenue_eur == pytest.approx(total * 0.4)
    assert found.average_duration_hours == pytest.approx((9 + 3 + 12) / 3)
    assert found.average_energy_kwh == pytest.approx(total / 3)
    cost = sum(
        kwh * price_at(start + QUARTER * k)
        for start, _, quarters in STAYS
        for k, kwh in enumerate(quarters)
    )
    assert found.cost_eur == pytest.approx(cost)
    # At once: 11 kW are 2.75 kWh a quarter hour from arrival until the same energy is there.
    once = 0.0
    for start, _, quarters in STAYS:
        left, k = sum(quarters), 0
        while left > 1e-12:
            once += min(left, 2.75) * price_at(start + QUARTER * k)
            left, k = left - min(left, 2.75), k + 1
    assert found.cost_at_once_eur == pytest.approx(once)
    assert found.savings_eur == pytest.approx(once - cost)
    assert found.savings_eur is not None
    assert found.savings_eur > 0
    assert found.savings_share == pytest.approx((once - cost) / once)


async def test_peak_and_busiest_hour_are_of_all_cars_together(reports: Reports) -> None:
    found = await reports.analytics("depot", starts_at=DAY, until=DAY + timedelta(days=1))
    load: dict[datetime, float] = {}
    for start, _, quarters in STAYS:
        for k, kwh in enumerate(quarters):
            load[start + QUARTER * k] = load.get(start + QUARTER * k, 0.0) + kwh
    assert found.peak_demand_kw == pytest.approx(max(load.values()) * 4)
    assert found.peak_demand_at is not None
    assert load[found.peak_demand_at] == max(load.values())
    by_hour: dict[int, float] = {}
    for at, kwh in load.items():
        hour = at.astimezone(ZoneInfo("Europe/Berlin")).hour
        by_hour[hour] = by_hour.get(hour, 0.0) + kwh
    assert found.peak_hour == max(by_hour, key=lambda h: by_hour[h])


async def test_only_decided_offers_count_for_the_acceptance_rate(reports: Reports) -> None:
    found = await reports.analytics("depot", starts_at=DAY, until=DAY + timedelta(days=1))
    assert (found.offers_made, found.offers_accepted, found.offers_declined) == (4, 2, 1)
    assert found.offer_acceptance_share == pytest.approx(2 / 3)


async def test_ranges_add_up(reports: Reports) -> None:
    noon = DAY + HOUR * 12
    whole = await reports.analytics("depot", starts_at=DAY, until=DAY + timedelta(days=1))
    first = await reports.analytics("depot", starts_at=DAY, until=noon)
    second = await reports.analytics("depot", starts_at=noon, until=DAY + timedelta(days=1))
    assert first.sessions + second.sessions == whole.sessions
    assert first.energy_kwh + second.energy_kwh == pytest.approx(whole.energy_kwh)
    assert (first.cost_eur or 0) + (second.cost_eur or 0) == pytest.approx(whole.cost_eur)


async def test_an_empty_range_has_no_averages(reports: Reports) -> None:
    found = await reports.analytics("depot", starts_at=DAY - HOUR * 9, until=DAY)
    assert (found.sessions, found.energy_kwh, found.revenue_eur) == (0, 0, 0)
    assert found.average_duration_hours is None
    assert found.peak_hour is None
    assert found.offer_acceptance_share is None
    assert found.savings_share is None


async def test_a_range_that_is_none_and_an_unknown_site_are_refused(reports: Reports) -> None:
    for until in (DAY, DAY - HOUR, DAY + timedelta(days=401)):
        with pytest.raises(InvalidInput):
            await reports.analytics("depot", starts_at=DAY, until=until)
    with pytest.raises(UnknownSite):
        await reports.analytics("none", starts_at=DAY, until=DAY + HOUR)


STARTS = st.integers(0, 86_400).map(lambda s: DAY + timedelta(seconds=s))


@given(start=STARTS, kwh=st.floats(0, 100), max_kw=st.floats(1, 400))
@settings(max_examples=100)
def test_charging_at_once_gives_all_the_energy_and_never_more_than_the_power(
    start: datetime, kwh: float, max_kw: float
) -> None:
    quarters = at_once(session(1, start, 1, kwh), max_kw=max_kw)
    assert sum(quarters.values()) == pytest.approx(kwh, abs=1e-6)
    assert all(0 < q <= max_kw / 4 + 1e-9 for q in quarters.values())
    assert all(q > start - QUARTER for q in quarters)


@given(start=STARTS, hours=st.floats(0, 30), kwh=st.floats(0, 100), known=st.floats(0, 1))
@settings(max_examples=100)
def test_placing_keeps_the_energy_whatever_the_meter_told(
    start: datetime, hours: float, kwh: float, known: float
) -> None:
    folded = [(DAY, kwh * known)]
    quarters = placed(session(1, start, hours, kwh), folded, now=DAY)
    assert sum(quarters.values()) == pytest.approx(kwh, abs=2e-3)


def test_outside_of_what_is_known_the_nearest_price_holds() -> None:
    prices = PriceList(PRICES[10:12])
    assert prices.at(DAY) == PRICES[10].eur_per_kwh
    assert prices.at(DAY + HOUR * 11.5) == PRICES[11].eur_per_kwh
    assert prices.at(DAY + HOUR * 40) == PRICES[11].eur_per_kwh
    assert cost_eur({DAY + HOUR * 10: 2.0}, prices) == pytest.approx(2 * PRICES[10].eur_per_kwh)
    assert not PriceList([])


def test_the_most_power_is_the_least_of_car_and_charger() -> None:
    ac = Evse(station_id="a", evse_id=1, max_kw=22)
    dc = Evse(station_id="a", evse_id=1, max_kw=150, current_type="DC")
    car = Vehicle(vehicle_id="v", max_kw=11, max_dc_kw=120)
    assert max_power_kw(ac, car) == 11
    assert max_power_kw(dc, car) == 120
    assert max_power_kw(dc, None) == 150
    assert max_power_kw(None, car) == 11
