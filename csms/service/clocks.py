"""How far each station's clock is from ours, measured by the times its live messages carry.

A message may have waited on the station, so one late time proves nothing: an offset counts when it
is smaller than the one in force (nothing waits for less than no time) without lying in the future,
or when two messages in a row agree on it. What a station says is kept as it said it; the offset
gives the corrected time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from csms.store import device_model
from csms.store.statements import Tx

TOLERANCE_S = 60.0
"""A clock that is off by less is taken to be right: answers and boots set it to the second."""

_AGREE_S = 5.0
_WORTH_STORING_S = 2.0
_UNSET_YEAR = 2000


@dataclass(frozen=True, slots=True)
class _Measured:
    link_id: int
    offset_s: float
    last_s: float


def heard(tx: Tx, station_id: str, *, link_id: int, at: datetime, received_at: datetime) -> float:
    """Take the time of a live message; return the offset in force, in seconds.

    A time before 2000 comes from a station that has no clock yet, and measures nothing. What is
    measured is stored with the caller's transaction when it changes.
    """
    offset_s = (received_at - at).total_seconds()
    key = ("clock", station_id)
    known: _Measured | None = tx.memory.get(key)
    if at.year < _UNSET_YEAR or offset_s == 0.0:
        return device_model.clock_offset_s(tx, station_id) if known is None else known.offset_s
    stored_s = device_model.clock_offset_s(tx, station_id) if known is None else known.offset_s
    in_force_s = stored_s
    if known is None or known.link_id != link_id:
        in_force_s = offset_s
    elif -TOLERANCE_S < offset_s < known.offset_s or abs(offset_s - known.last_s) < _AGREE_S:
        in_force_s = offset_s
    if abs(in_force_s - stored_s) > _WORTH_STORING_S:
        device_model.set_clock_offset(tx, station_id, in_force_s, at=received_at)
        if abs(in_force_s - stored_s) > TOLERANCE_S:
            device_model.reset_order(tx, station_id)
    else:
        in_force_s = stored_s
    tx.memory.put(key, _Measured(link_id, in_force_s, offset_s))
    return in_force_s


def corrected(at: datetime, *, offset_s: float, received_at: datetime) -> datetime:
    """Return the instant by our clock that a station with this offset meant by `at`.

    A correction that would lie in the future means that the clock was set meanwhile: then, and for
    a clock that is right, the time stands as it is. Nothing has happened later than we hear of it.
    """
    if abs(offset_s) > TOLERANCE_S:
        try:
            meant = at + timedelta(seconds=offset_s)
        except OverflowError:
            # A clock that stood in the year 9999 and was set since.
            return min(at, received_at)
        if meant <= received_at + timedelta(seconds=TOLERANCE_S):
            at = meant
    return min(at, received_at)
