"""The process's clock: real, or a day that runs faster."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from csms.clock import Clock
from csms.gateway_setup import clock_from
from csms.settings import load

START = datetime(2024, 10, 3, 6, tzinfo=UTC)


def test_without_arguments_it_is_the_machines_time() -> None:
    assert abs(Clock().now() - datetime.now(UTC)) < timedelta(seconds=1)


async def test_a_fast_clock_sleeps_its_own_seconds() -> None:
    clock = Clock(start=START, speed=3600.0)
    await clock.sleep(600)
    assert timedelta(minutes=10) <= clock.now() - START < timedelta(hours=3)


def test_machine_time_is_when_the_clock_will_show_an_instant() -> None:
    clock = Clock(start=START, speed=60.0)
    due = clock.machine_time(START + timedelta(hours=1))
    assert timedelta(seconds=59) < due - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_clock_that_stands_still_is_refused() -> None:
    with pytest.raises(ValueError, match="speed is 0"):
        Clock(speed=0)


def test_processes_that_share_a_zero_agree_on_the_time() -> None:
    environment = {
        "TASCO_CLOCK__START": "2024-10-03T06:00:00Z",
        "TASCO_CLOCK__SPEED": "60",
        "TASCO_CLOCK__ZERO": str(time.time() - 10),
    }
    clock = clock_from(load(None, environment))
    assert abs(clock.now() - START - timedelta(minutes=10)) < timedelta(seconds=30)
