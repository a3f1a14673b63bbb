"""The timetable keeps the process's clock, whatever its speed, and survives a job that fails."""

import asyncio
from datetime import UTC, datetime

from csms.clock import Clock
from csms.service.background import Background
from csms.service.jobs import Jobs
from csms.telemetry import Metrics

START = datetime(2024, 10, 3, 6, 7, tzinfo=UTC)


async def test_a_job_runs_before_each_full_slot_of_the_clock() -> None:
    clock = Clock(start=START, speed=1800.0)
    jobs, ran = Jobs(clock=clock, metrics=Metrics()), []
    done = asyncio.Event()

    async def work() -> None:
        ran.append(clock.now())
        if len(ran) == 3:
            done.set()

    jobs.every("slot", work, period_s=900, before_s=20)
    jobs.start()
    async with asyncio.timeout(10):
        await done.wait()
    jobs.stop()
    slots = [round((at.timestamp() + 20) / 900) for at in ran]
    assert slots == [slots[0], slots[0] + 1, slots[0] + 2]


async def test_a_job_that_fails_is_run_again_and_its_success_is_measured() -> None:
    clock, metrics = Clock(start=START, speed=3600.0), Metrics()
    jobs, runs = Jobs(clock=clock, metrics=metrics), []
    done = asyncio.Event()

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("the first run fails")
        done.set()

    jobs.every("fails once", work, period_s=900)
    jobs.start()
    async with asyncio.timeout(10):
        await done.wait()
    jobs.stop()
    await asyncio.sleep(0)
    assert b'tasco_job_last_success_timestamp_seconds{job="fails once"}' in metrics.render()


async def test_a_daily_job_runs_at_its_local_time() -> None:
    clock = Clock(start=datetime(2024, 10, 27, 0, 25, tzinfo=UTC), speed=1200.0)
    jobs, done = Jobs(clock=clock, metrics=Metrics()), asyncio.Event()
    ran: list[datetime] = []

    async def work() -> None:
        ran.append(clock.now())
        done.set()

    jobs.daily("train", work, at="02:30", time_zone="Europe/Berlin")
    jobs.start()
    async with asyncio.timeout(10):
        await done.wait()
    jobs.stop()
    assert (ran[0].hour, ran[0].minute) == (0, 30)


async def test_background_work_runs_once_more_for_all_calls_that_came_meanwhile() -> None:
    background, runs = Background(), []
    go, second = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            await go.wait()
        else:
            second.set()

    for _ in range(5):
        background.start("settle", work)
        await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(5):
        await second.wait()
    await background.stop()
    assert len(runs) == 2
