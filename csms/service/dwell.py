"""Since when a car is allowed to charge, or is paused: what keeps contactors from chattering."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from csms.store.plans import InstalledSchedule

_NOTHING_KW = 1e-6


def since(
    schedules: Sequence[InstalledSchedule], now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return since when a car may charge, and since when it is paused; None where it is not so.

    `schedules` are what its station accepted, in order. A car that was never allowed to charge is
    not paused, and one whose schedules have all run out is neither.
    """
    if not schedules:
        return None, None
    spells = [
        (start, end, kw > _NOTHING_KW) for start, end, kw in _allowed(schedules, now) if start < end
    ]
    if not spells or spells[-1][1] < now:
        return None, None
    is_on = spells[-1][2]
    began_at, has_changed = spells[-1][0], False
    for start, _, was_on in reversed(spells):
        if was_on != is_on:
            has_changed = True
            break
        began_at = start
    if is_on:
        return began_at, None
    return None, began_at if has_changed else None


def _allowed(
    schedules: Sequence[InstalledSchedule], now: datetime
) -> Iterator[tuple[datetime, datetime, float]]:
    """Yield what each schedule allowed while it was the newest, (start, end, kW)."""
    ends = [*(later.sent_at for later in schedules[1:]), now]
    for schedule, until in zip(schedules, ends, strict=True):
        for (start, end), kw in zip(pairwise(schedule.edges_at), schedule.row_kw, strict=True):
            yield max(start, schedule.sent_at), min(end, until), kw
