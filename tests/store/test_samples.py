"""Meter samples are kept once, and folded into quarter hours without losing energy."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csms.core.model import MeterSample, Session
from csms.store import energy, samples, sessions
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import NOON, a_sample, a_session, later

QUARTER = 900


def charge(
    tx: Tx,
    taken: Sequence[MeterSample],
    *,
    session_id: str = "s1",
    ends_after_s: float | None = None,
    meter_start_wh: float | None = 0.0,
    meter_last_wh: float | None = None,
) -> Session:
    """Store a session from noon on with its samples, ended where a length is given."""
    session = sessions.open_session(tx, a_session(session_id, meter_start_wh=meter_start_wh))
    samples.append_samples(tx, session, taken)
    if ends_after_s is None:
        return session
    sessions.close_session(tx, session_id, at=later(ends_after_s), reason="")
    ended = replace(sessions.get(tx, session_id), meter_last_wh=meter_last_wh)
    sessions.save(tx, ended)
    return ended


async def quarters(store: Store, until_s: float = 4 * 3600) -> list[tuple[float, float, int]]:
    """Fold and return (seconds after noon, kWh, cars)."""
    start, until = NOON - timedelta(hours=1), later(until_s)
    await store.write(lambda tx: energy.fold_energy(tx, "depot", start, until))
    found = await store.read(lambda tx: energy.energy_by_quarter(tx, "depot", start, until))
    return [
        ((q.starts_at - NOON).total_seconds(), pytest.approx(q.energy_kwh), q.sessions)
        for q in found
    ]


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 31, 33, 71])
async def test_any_number_of_samples_is_kept_each_as_it_was(store: Store, count: int) -> None:
    taken = [a_sample(n, energy_wh=float(n), current_a=(1.0, n / 2)) for n in range(count)]
    await store.write(lambda tx: charge(tx, taken))
    assert await store.read(lambda tx: samples.samples(tx, "s1")) == taken


async def test_what_a_unit_put_off_is_seen_by_whatever_it_reads(store: Store) -> None:
    def work(tx: Tx) -> list[MeterSample]:
        charge(tx, [a_sample(1), a_sample(2)])
        return samples.samples(tx, "s1")

    assert await store.write(work) == [a_sample(1), a_sample(2)]


async def test_a_sample_that_cannot_be_stored_fails_its_own_unit_only(store: Store) -> None:
    session = await store.write(lambda tx: charge(tx, []))
    nowhere = replace(session, number=None)  # type: ignore[arg-type]

    def keep(of: Session, seconds: float) -> Callable[[Tx], None]:
        return lambda tx: samples.append_samples(tx, of, [a_sample(seconds)])

    results = await asyncio.gather(
        *(store.write(keep(session, n)) for n in range(3)),
        store.write(keep(nowhere, 3)),
        *(store.write(keep(session, n)) for n in range(4, 7)),
        return_exceptions=True,
    )
    assert [isinstance(r, Exception) for r in results] == [False] * 3 + [True] + [False] * 3
    assert "session_number" in str(results[3])
    kept = await store.read(lambda tx: samples.samples(tx, "s1"))
    assert [s.at for s in kept] == [later(n) for n in (0, 1, 2, 4, 5, 6)]


async def test_a_sample_comes_back_as_it_was_and_is_kept_once(store: Store) -> None:
    full = a_sample(
        60,
        context="Trigger",
        energy_wh=1.5,
        power_w=11_000.0,
        current_a=(16.0, 15.9, 16.1),
        voltage_v=230.0,
        soc=0.5,
        power_offered_w=22_000.0,
        current_offered_a=32.0,
        flags=("unit_assumed",),
    )

    def change(tx: Tx) -> None:
        session = sessions.open_session(tx, a_session())
        samples.append_samples(tx, session, [])
        samples.append_samples(tx, session, [full])
        samples.append_samples(tx, session, [full, replace(full, energy_wh=9.0)])
        samples.append_samples(tx, session, [replace(full, context="Other"), a_sample(0)])

    await store.write(change)
    found = await store.read(lambda tx: samples.samples(tx, "s1"))
    assert found == [a_sample(0), replace(full, context="Other"), full]


async def test_samples_are_cut_to_an_interval(store: Store) -> None:
    await store.write(lambda tx: charge(tx, [a_sample(n) for n in range(10)]))
    found = await store.read(
        lambda tx: samples.samples(tx, "s1", since=later(2), until=later(8), limit=4)
    )
    assert [sample.at for sample in found] == [later(n) for n in (2, 3, 4, 5)]
    assert await store.read(lambda tx: samples.samples(tx, "unknown")) == []


async def test_samples_outside_transactions_are_kept_by_evse(store: Store) -> None:
    def change(tx: Tx) -> None:
        samples.append_meter(tx, "CS1", 0, [a_sample(n, power_w=1.0) for n in (0, 60, 60)])
        samples.append_meter(tx, "CS1", 1, [a_sample(0, power_w=2.0)])
        samples.append_meter(tx, "CS1", 1, [])

    await store.write(change)

    async def read(evse_id: int, **interval: object) -> int:
        return len(
            await store.read(lambda tx: samples.meter_readings(tx, "CS1", evse_id, **interval))
        )

    assert (await read(0), await read(1), await read(2)) == (2, 1, 0)
    assert await read(0, since=later(1), until=later(61)) == 1


# --- quarter hours -------------------------------------------------------------------------------


async def test_a_register_is_spread_evenly_between_two_readings(store: Store) -> None:
    await store.write(lambda tx: charge(tx, [a_sample(1800, energy_wh=6000.0)]))
    assert await quarters(store) == [(0, 3.0, 1), (QUARTER, 3.0, 1)]


async def test_cars_of_a_quarter_are_added_up(store: Store) -> None:
    def change(tx: Tx) -> None:
        charge(tx, [a_sample(QUARTER, energy_wh=1000.0)])
        charge(tx, [a_sample(QUARTER, energy_wh=500.0)], session_id="s2")

    await store.write(change)
    assert await quarters(store) == [(0, 1.5, 2)]


async def test_the_final_reading_counts(store: Store) -> None:
    await store.write(
        lambda tx: charge(
            tx, [a_sample(QUARTER, energy_wh=1000.0)], ends_after_s=1800, meter_last_wh=1400.0
        )
    )
    assert await quarters(store) == [(0, 1.0, 1), (QUARTER, 0.4, 1)]


async def test_a_reading_that_falls_or_jumps_is_no_reading(store: Store) -> None:
    taken = [
        a_sample(300, energy_wh=800.0),
        a_sample(400, energy_wh=0.0),
        a_sample(500, energy_wh=9e9, flags=("register_jump",)),
        a_sample(QUARTER, energy_wh=1000.0),
    ]
    await store.write(lambda tx: charge(tx, taken))
    assert await quarters(store) == [(0, 1.0, 1)]


async def test_power_is_integrated_where_there_is_no_register(store: Store) -> None:
    taken = [a_sample(n * 60.0, power_w=6000.0) for n in range(20)]
    await store.write(lambda tx: charge(tx, taken, ends_after_s=1200, meter_start_wh=None))
    assert await quarters(store) == [(0, 1.5, 1), (QUARTER, 0.5, 1)]


async def test_a_power_value_is_held_for_a_quarter_of_an_hour_at_most(store: Store) -> None:
    await store.write(
        lambda tx: charge(tx, [a_sample(0, power_w=4000.0)], ends_after_s=7200, meter_start_wh=None)
    )
    assert await quarters(store) == [(0, 1.0, 1)]


async def test_folding_again_replaces_what_was_folded(store: Store) -> None:
    session = await store.write(lambda tx: charge(tx, [a_sample(QUARTER, energy_wh=900.0)]))
    assert await quarters(store) == [(0, 0.9, 1)]
    late = a_sample(2 * QUARTER, energy_wh=1000.0)
    await store.write(lambda tx: samples.append_samples(tx, session, [late]))
    expected = [(0, 0.9, 1), (QUARTER, 0.1, 1)]
    assert await quarters(store) == expected
    assert await quarters(store) == expected
    of_session = await store.read(lambda tx: energy.energy_of_session(tx, session))
    assert of_session == [(NOON, pytest.approx(0.9)), (later(QUARTER), pytest.approx(0.1))]


async def test_only_the_quarters_that_start_in_the_interval_are_folded(store: Store) -> None:
    await store.write(lambda tx: charge(tx, [a_sample(4 * QUARTER, energy_wh=4000.0)]))
    rows = await store.write(
        lambda tx: energy.fold_energy(tx, "depot", later(1), later(3 * QUARTER))
    )
    assert rows == 2
    found = await store.read(
        lambda tx: energy.energy_by_quarter(tx, "depot", NOON, later(9 * QUARTER))
    )
    assert [q.starts_at for q in found] == [later(QUARTER), later(2 * QUARTER)]
    assert await store.write(lambda tx: energy.fold_energy(tx, "depot", NOON, NOON)) == 0


@given(steps=st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 5000)), min_size=1, max_size=12))
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_quarters_hold_all_the_energy_of_the_register(
    sqlite_url: str, steps: list[tuple[int, float]]
) -> None:
    async def run() -> None:
        store = await Store.open(sqlite_url)
        at, wh, taken = 0, 0.0, []
        for seconds, rise in steps:
            at, wh = at + seconds, wh + rise
            taken.append(a_sample(at, energy_wh=wh))
        name = f"s {steps}"

        def change(tx: Tx) -> float:
            session = charge(tx, taken, session_id=name)
            energy.fold_energy(tx, "depot", NOON, later(at + QUARTER))
            return sum(kwh for _, kwh in energy.energy_of_session(tx, session))

        assert await store.write(change) == pytest.approx(wh / 1000)
        await store.write(
            lambda tx: sessions.close_session(tx, name, at=NOON, reason="next example")
        )
        await store.close()

    asyncio.run(run())


EXAMPLES = itertools.count()
READING = st.tuples(
    st.sampled_from(("register", "power", "both", "jump", "nothing")),
    st.integers(-1800, 3000),
    st.floats(-500, 3000),
)
STEPS = st.lists(
    st.one_of(st.lists(READING, max_size=4), st.sampled_from(("end", "end early", "start"))),
    min_size=1,
    max_size=10,
)


def _readings(step: Sequence[tuple[str, int, float]], at: int, wh: float) -> list[MeterSample]:
    """Return samples, most of them later than `at` and above `wh`."""
    taken = []
    for kind, seconds, rise in step:
        at, wh = at + seconds, wh + rise
        told: dict[str, Any] = {"energy_wh": max(wh, 0.0)} if kind in ("register", "jump") else {}
        told |= {"flags": ("register_jump",)} if kind == "jump" else {}
        told |= {"power_w": abs(rise)} if kind == "power" else {}
        told |= {"power_w": abs(rise), "energy_wh": max(wh, 0.0)} if kind == "both" else {}
        taken.append(a_sample(max(at, 0), **told))
    return taken


@pytest.mark.parametrize("meter_start_wh", [None, 0.0])
@given(steps=STEPS)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_folding_what_is_new_comes_to_the_same_as_folding_all(
    database_url: str, meter_start_wh: float | None, steps: list[Any]
) -> None:
    asyncio.run(_fold_each(database_url, meter_start_wh, steps))


async def _fold_each(url: str, meter_start_wh: float | None, steps: list[Any]) -> None:
    store = await Store.open(url)
    name = f"example {next(EXAMPLES)}"
    plain = a_session(name, site_id=name, meter_start_wh=meter_start_wh)
    session = await store.write(lambda tx: sessions.open_session(tx, plain))
    known: dict[int, energy.Folded] = {}
    at, wh = 0, 0.0

    def work(tx: Tx, now: Session, taken: Sequence[MeterSample]) -> Any:
        sessions.save(tx, now)
        samples.append_samples(tx, now, taken)
        folded = energy.fold_new(tx, name, later(-1), later(10**6), known)
        return folded, energy.energy_of_session(tx, now), energy.quarters_of(tx, now)

    for step in steps:
        taken: list[MeterSample] = []
        if step in ("end", "end early"):
            ended_at = later(at + 60 if step == "end" else at / 2)
            session = replace(session, ended_at=ended_at, meter_last_wh=wh)
        elif step == "start":
            session = replace(session, meter_start_wh=10.0)
        else:
            taken = _readings(step, at, wh)
            at = max([at, *(int((s.at - NOON).total_seconds()) for s in taken)])
            wh = max([wh, *(s.energy_wh or 0.0 for s in taken if not s.flags)])
        known, new, whole = await store.write(partial(work, now=session, taken=taken))
        assert new == [(quarter, pytest.approx(kwh)) for quarter, kwh in whole]
    await store.close()


async def test_only_new_samples_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(*args: Any, **given: Any) -> list[MeterSample]:
        found = samples.samples(*args, **given)
        read.append(len(found))
        return found

    monkeypatch.setattr(energy, "samples", counted)
    taken = [a_sample(60.0 * n, energy_wh=100.0 * n, power_w=6000.0) for n in range(200)]
    session = await store.write(lambda tx: charge(tx, taken))
    known: dict[int, energy.Folded] = {}

    async def fold(*more: MeterSample) -> None:
        nonlocal known

        def work(tx: Tx) -> dict[int, energy.Folded]:
            samples.append_samples(tx, session, more)
            return energy.fold_new(tx, "depot", NOON, later(86_400), known)

        known = await store.write(work)

    await fold()
    await fold()
    assert read == [200], "what did not change was read again"
    await fold(a_sample(60.0 * 200, energy_wh=20_000.0))
    # The quarter hour of the last reading, and the new one.
    assert read[1:] == [200 - 195 + 1]
    await fold(a_sample(90.0, energy_wh=150.0))
    assert read[2:] == [202], "a late reading changes what was folded"
