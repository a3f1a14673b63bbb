"""Dynamic profiles (OCPP 2.1 K28): one limit that holds until the next is told."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from csms.core.commands import Schedule, SchedulePeriod

SOON_S = 60
"""A change that comes within this time is part of what is told now: plans are made shortly before
their first slot."""


def held(row_kw: Sequence[float]) -> tuple[float, ...]:
    """Return the row that a dynamic profile stands for, (slots,) kW: its first limit, on and on.

    A station that is told nothing more keeps to what it was told last, so the site has to count
    that in every slot to come.
    """
    return (row_kw[0],) * len(row_kw)


def dynamic(schedule: Schedule, *, now: datetime, every_s: int) -> Schedule:
    """Return `schedule` as a dynamic profile: the limit of now, and one that is about to come.

    A lower limit that comes soon holds from now on; a higher one from when it is due, which the
    station learns when it asks again.
    """
    present = limit_at(schedule, now)
    periods = [SchedulePeriod(start_s=0, limit=present.limit, phases=present.phases)]
    until = now + timedelta(seconds=SOON_S)
    for period in schedule.periods:
        at = schedule.starts_at + timedelta(seconds=period.start_s)
        if not now < at <= until:
            continue
        if period.limit <= periods[-1].limit:
            periods = [replace(periods[0], limit=min(periods[0].limit, period.limit))]
        else:
            periods.append(period)
    return replace(schedule, duration_s=None, periods=tuple(periods), update_every_s=every_s)


def limit_at(schedule: Schedule, at: datetime) -> SchedulePeriod:
    """Return the period of `schedule` in force at `at`, the first one before its start."""
    begun = [p for p in schedule.periods if schedule.starts_at + timedelta(seconds=p.start_s) <= at]
    return begun[-1] if begun else schedule.periods[0]
