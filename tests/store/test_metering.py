"""Readings, their quarter hours and forecasts as kept: the same again changes nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from csms.core.metering import LOAD, SOLAR, Expected, Quarter, Reading
from csms.store import metering
from csms.store.database import Store

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def read(minutes: float, kw: float, *a: float) -> Reading:
    return Reading(at=at(minutes), power_kw=kw, current_a=a)


async def quarters(store: Store) -> list[Quarter]:
    span = ((at(-60), at(600)),)
    return await store.read(lambda tx: metering.quarters(tx, "s", "m", span))


async def add(store: Store, *readings: Reading) -> None:
    await store.write(lambda tx: metering.add_readings(tx, "s", "m", readings))


async def test_a_quarter_hour_is_the_mean_of_values_that_hold_until_the_next(
    store: Store,
) -> None:
    await add(store, read(0, 10.0, 1.0, 9.0, 3.0), read(5, 40.0, 2.0, 4.0, 6.0), read(20, 7.0))
    first, second = await quarters(store)
    assert first.mean_kw == pytest.approx(30.0)
    assert (first.most_kw, first.most_a) == (40.0, (2.0, 9.0, 6.0))
    # What was read last before a quarter hour holds at its beginning.
    assert second.mean_kw == pytest.approx((40.0 * 5 + 7.0 * 10) / 15)


async def test_readings_repeated_late_and_corrected_come_to_the_same(store: Store) -> None:
    rows = [read(0, 10.0), read(5, 40.0), read(20, 7.0)]
    await add(store, *rows)
    before = await quarters(store)
    await add(store, *reversed(rows))
    assert await quarters(store) == before
    await add(store, read(10, 0.0))
    first, second = await quarters(store)
    assert first.mean_kw == pytest.approx((10.0 + 40.0) / 3)
    assert second.mean_kw == pytest.approx(7.0 * 2 / 3)
    await add(store, read(10, 40.0))
    assert (await quarters(store))[0].mean_kw == pytest.approx(30.0)
    newest = await store.read(lambda tx: metering.newest_reading(tx, "s", "m"))
    assert newest == read(20, 7.0)


async def test_old_readings_go_and_their_quarter_hours_stay(store: Store) -> None:
    await add(store, read(0, 10.0), read(30, 20.0))
    assert await store.write(lambda tx: metering.purge_readings(tx, before=at(10))) == 1
    assert len(await quarters(store)) == 2
    assert await store.write(lambda tx: metering.purge_quarters(tx, before=at(10))) == 1
    assert [q.starts_at for q in await quarters(store)] == [at(30)]


async def test_a_forecast_replaces_what_was_expected_in_its_time(store: Store) -> None:
    def point(start: float, end: float, kw: float) -> Expected:
        return Expected(starts_at=at(start), until=at(end), power_kw=kw)

    async def put(kind: str, *points: Expected) -> None:
        await store.write(lambda tx: metering.put_expected(tx, "s", "", kind, points))

    await put(LOAD, point(0, 60, 1.0), point(60, 120, 2.0), point(120, 180, 3.0))
    await put(SOLAR, point(0, 180, 9.0))
    await put(LOAD, point(30, 90, 5.0))
    found = await store.read(lambda tx: metering.expected(tx, "s", at(0), at(600)))
    assert found["", SOLAR] == (point(0, 180, 9.0),)
    assert found["", LOAD] == (point(0, 30, 1.0), point(30, 90, 5.0), point(120, 180, 3.0))
    later = await store.read(lambda tx: metering.expected(tx, "s", at(150), at(600)))
    assert later["", LOAD] == (point(120, 180, 3.0),)
