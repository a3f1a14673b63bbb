"""The timetable keeps the process's clock, whatever its speed, and survives a job that fails."""

import asyncio
from datetime import UTC, datetime

import pytest
import structlog

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


async def test_jobs_that_a_stop_cancels_are_no_failures(caplog: pytest.LogCaptureFixture) -> None:
    jobs, ran = Jobs(clock=Clock(start=START, speed=3600.0), metrics=Metrics()), []

    async def work() -> None:
        ran.append(1)

    jobs.every("due while it stops", work, period_s=900)
    jobs.start()
    while jobs._scheduler.get_jobs()[0].next_run_time >= datetime.now(UTC):
        pass  # the loop stands still, so that nothing runs the job meanwhile
    # A stop takes effect a turn of the loop later: what is found to be due in between never begins.
    jobs.stop()
    jobs._scheduler._process_jobs()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ran == []
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


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


@pytest.mark.parametrize(("speed", "is_told"), [(1.0, True), (900.0, False)])
async def test_a_job_that_overruns_runs_once_at_a_time_and_says_so_in_real_time_only(
    speed: float, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock() if speed == 1.0 else Clock(start=START, speed=speed)
    jobs = Jobs(clock=clock, metrics=Metrics())
    at_work, most, beats = 0, 0, 0
    go_on, enough = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await go_on.wait()
        at_work -= 1

    async def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 4:
            enough.set()

    jobs.every("slow", slow, period_s=0.25 * speed)
    jobs.every("beat", beat, period_s=0.25 * speed)
    with structlog.testing.capture_logs() as told:
        jobs.start()
        async with asyncio.timeout(10):
            await enough.wait()
        go_on.set()
        jobs.stop()
    assert most == 1
    words = {(entry["event"], entry.get("job")) for entry in told}
    assert (("job takes longer than its period", "slow") in words) is is_told
    assert "maximum number of running instances" not in caplog.text
