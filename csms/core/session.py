"""A session after each report, and whether it has left its plan: folds, no I/O.

Registers are trusted as differences only: energy is the sum of what the register rose since the
start, so a meter that is reset in mid-session loses nothing that was seen and never counts twice.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from csms.core.messages import SessionEnded, SessionReport, SessionStarted, SessionUpdated
from csms.core.model import (
    Authorization,
    MeterSample,
    OcppVersion,
    Session,
    SessionState,
    made,
)
from csms.core.plan import Plan

MESSAGES_MISSING = "messages_missing"
"""Flag: the numbers of the transaction's messages leave a gap that later ones may fill."""
MESSAGES_LOST = "messages_lost"
"""Flag: the gap will not be filled; the station has nothing more to send."""
START_MISSING = "start_missing"
"""Flag: the transaction's first message has not come."""
SUPERSEDED = "superseded"
"""Flag: another transaction began on its EVSE before its end came: for people to review."""

UNIT_THOUSANDFOLD = "unit_thousandfold"
"""Flag: the register's unit is wrong by a thousand, as its own power shows; it is counted so."""
_TELLING_S = 5.0

MAX_STEP_W = 1_000_000.0
"""A register that rises faster than this between two samples is flagged, not refused."""


def started(
    report: SessionReport, *, session_id: str, site_id: str, authorization: Authorization | None
) -> Session:
    """Return the session that `report` opens.

    Any transaction message may be the first that arrives: what came before may still sit in the
    station's queue, so a session opened by an update or an end is flagged "start_missing".
    """
    meter_start_wh = report.meter_start_wh if isinstance(report, SessionStarted) else None
    flags = report.flags
    if not isinstance(report, SessionStarted):
        flags = _with(flags, START_MISSING)
    session = Session(
        session_id=session_id,
        number=0,
        site_id=site_id,
        station_id=report.station_id,
        evse_id=report.evse_id,
        connector_id=report.connector_id,
        version=report.version,
        transaction_id=report.transaction_id,
        started_at=report.at,
        received_at=report.received_at,
        is_offline_start=report.is_offline,
        meter_start_wh=meter_start_wh,
        meter_last_wh=meter_start_wh,
        sample_at=report.at if meter_start_wh is not None else None,
        remote_start_id=report.remote_start_id,
        charging_state=report.charging_state,
        last_seq_no=-1 if report.seq_no is None else report.seq_no,
        flags=flags,
    )
    if authorization is not None and report.id_token is not None:
        session = authorized(session, report, authorization)
    return _with_samples(session, report.samples)


def authorized(session: Session, report: SessionReport, authorization: Authorization) -> Session:
    """Return `session` with the decision on the token that `report` brought."""
    return replace(
        session,
        id_token=report.id_token,
        holder_did=authorization.holder_did,
        status=authorization.status,
        reason=authorization.reason,
        assurance=authorization.assurance,
        priority=authorization.priority,
    )


def with_late_start(session: Session, report: SessionStarted) -> Session:
    """Return a session that was opened without its start, now that the start has arrived."""
    first = min(session.started_at, report.at)
    flags = tuple(f for f in session.flags if f != START_MISSING)
    missing_wh = 0.0
    if report.meter_start_wh is not None and session.meter_start_wh is not None:
        missing_wh = max(session.meter_start_wh - report.meter_start_wh, 0.0)
    start_wh = session.meter_start_wh if report.meter_start_wh is None else report.meter_start_wh
    return replace(
        session,
        started_at=first,
        evse_id=report.evse_id or session.evse_id,
        connector_id=report.connector_id or session.connector_id,
        is_offline_start=report.is_offline or session.is_offline_start,
        meter_start_wh=start_wh,
        # Where nothing was read before, the first reading counts from the start.
        meter_last_wh=start_wh if session.meter_last_wh is None else session.meter_last_wh,
        energy_wh=session.energy_wh + missing_wh,
        remote_start_id=report.remote_start_id or session.remote_start_id,
        flags=flags,
    )


def advanced(session: Session, report: SessionUpdated | SessionEnded) -> Session:
    """Return `session` after `report`; an ended session stays ended.

    A report older than what is known (live messages overtake queued ones) adds nothing to the
    present state; its samples are kept by the store all the same. Older is what has the lower
    number, and without numbers what has the earlier time.
    """
    fold = _Fold(session)
    seq_no = session.last_seq_no if report.seq_no is None else report.seq_no
    if seq_no > session.last_seq_no + 1 and session.last_seq_no >= 0:
        fold.flag((MESSAGES_MISSING,))
    charging_state = session.charging_state
    if report.charging_state and seq_no >= session.last_seq_no:
        charging_state = report.charging_state
    if report.flags:
        fold.flag(report.flags)
    if seq_no >= session.last_seq_no:
        samples = report.samples
        if seq_no > session.last_seq_no >= 0 and samples and session.sample_at is not None:
            samples = fold.following(samples)
        fold.add(samples)
    if not isinstance(report, SessionEnded):
        changes = fold.changes()
        changes["charging_state"] = charging_state
        changes["last_seq_no"] = max(seq_no, session.last_seq_no)
        return _changed(session, _with_learned(changes, session, report))
    if report.meter_stop_wh is not None:
        stop = MeterSample(at=report.at, context="Transaction.End", energy_wh=report.meter_stop_wh)
        fold.add((stop,))
    if report.at < session.started_at:
        fold.flag(("ends_before_start",))
    ended: dict[str, Any] = {
        "state": SessionState.ENDED,
        "ended_at": max(report.at, session.started_at),
        "stop_reason": report.stop_reason,
        "charging_state": "Idle",
        "last_seq_no": max(seq_no, session.last_seq_no),
        "power_w": 0.0,
        "current_a": (),
        # What the station says itself is no estimate, however late it says it.
        "is_estimated": False,
    }
    return _changed(session, _with_learned(fold.changes() | ended, session, report))


def _with_learned(found: dict[str, Any], session: Session, report: SessionReport) -> dict[str, Any]:
    """Return the changes `found` with what `report` adds to what was not known yet."""
    if not session.evse_id and report.evse_id:
        found["evse_id"] = report.evse_id
    if not session.connector_id and report.connector_id:
        found["connector_id"] = report.connector_id
    if report.remote_start_id is not None and session.remote_start_id is None:
        found["remote_start_id"] = report.remote_start_id
    return found


def without(session: Session, flag: str) -> Session:
    """Return `session` without `flag`."""
    return replace(session, flags=tuple(f for f in session.flags if f != flag))


def flagged(session: Session, flag: str) -> Session:
    """Return `session` with `flag`."""
    return replace(session, flags=_with(session.flags, flag))


def sampled(session: Session, samples: tuple[MeterSample, ...]) -> Session:
    """Return `session` after meter values that came outside its transaction's own messages."""
    return _with_samples(session, samples)


def is_final(session: Session) -> bool:
    """Return whether the session's totals will not change any more, as far as anybody knows."""
    if session.state is not SessionState.ENDED or session.is_estimated:
        return False
    return MESSAGES_MISSING not in session.flags and START_MISSING not in session.flags


def closed_administratively(session: Session, *, now: datetime, reason: str) -> Session:
    """Return `session` ended by us: the station never said so; its energy is an estimate."""
    if session.state is SessionState.ENDED:
        return session
    return replace(
        session,
        state=SessionState.ENDED,
        ended_at=session.sample_at or now,
        stop_reason=reason,
        is_estimated=True,
        power_w=0.0,
    )


def _with_samples(session: Session, samples: tuple[MeterSample, ...]) -> Session:
    if not samples:
        return session
    fold = _Fold(session)
    fold.add(samples)
    return _changed(session, fold.changes())


def _changed(session: Session, changes: dict[str, Any]) -> Session:
    return made(Session, session.__dict__ | changes)


class _Fold:
    """The measured part of a session while samples are added to it.

    A Session has some forty fields, so that making one costs more than all of this: it is made
    once per report, not once per step.
    """

    __slots__ = (
        "_can_misname_units",
        "_current_a",
        "_energy_wh",
        "_flags",
        "_is_open",
        "_meter_last_wh",
        "_meter_start_wh",
        "_power_w",
        "_sample_at",
        "_soc",
        "_soc_wh",
    )

    def __init__(self, session: Session) -> None:
        self._meter_start_wh = session.meter_start_wh
        self._meter_last_wh = session.meter_last_wh
        self._energy_wh = session.energy_wh
        self._power_w = session.power_w
        self._current_a = session.current_a
        self._soc = session.soc
        self._soc_wh = session.soc_wh
        self._sample_at = session.sample_at
        self._flags = session.flags
        # 1.6 begins and ends with whole Wh by definition.
        self._can_misname_units = session.version is not OcppVersion.V16
        self._is_open = session.state is SessionState.OPEN

    def changes(self) -> dict[str, Any]:
        """Return the fields of a session that samples may change."""
        return {
            "meter_start_wh": self._meter_start_wh,
            "meter_last_wh": self._meter_last_wh,
            "energy_wh": self._energy_wh,
            "power_w": self._power_w,
            "current_a": self._current_a,
            "soc": self._soc,
            "soc_wh": self._soc_wh,
            "sample_at": self._sample_at,
            "flags": self._flags,
        }

    def flag(self, flags: tuple[str, ...]) -> None:
        """Add what is not flagged yet."""
        if flags:
            self._flags = _with(self._flags, *flags)

    def following(self, samples: tuple[MeterSample, ...]) -> tuple[MeterSample, ...]:
        """Return which of `samples` to add, whose report follows all that is known by its number.

        Where all of them seem to be older than the last one, the station's clock was set back: the
        newest count, and the time goes on from there.
        """
        if self._sample_at is None or samples[-1].at >= self._sample_at:
            return samples
        newest_at = max(map(_at, samples))
        if newest_at >= self._sample_at:
            return samples
        self._sample_at = None
        return tuple(s for s in samples if s.at == newest_at)

    def add(self, samples: tuple[MeterSample, ...]) -> None:
        """Add `samples` in the order of their instants."""
        for sample in sorted(samples, key=_at) if len(samples) > 1 else samples:
            self._add(sample)

    def _add(self, sample: MeterSample) -> None:
        if self._sample_at is not None and sample.at <= self._sample_at:
            # Clocks of whole seconds let a late sample share the instant of the end.
            if sample.at < self._sample_at or not self._is_open:
                return
        if sample.energy_wh is not None:
            self._read(sample.energy_wh, sample)
        if self._is_open:
            if sample.power_w is not None:
                self._power_w = sample.power_w
            if sample.current_a:
                self._current_a = sample.current_a
        if sample.soc is not None:
            self._soc = sample.soc
            self._soc_wh = self._energy_wh
        self._sample_at = sample.at
        if sample.flags:
            self.flag(sample.flags)

    def _read(self, reading_wh: float, sample: MeterSample) -> None:
        """Add what the register rose since it was last read."""
        last_wh, self._meter_last_wh = self._meter_last_wh, reading_wh
        if last_wh is not None:
            rise_wh = reading_wh - last_wh
            if rise_wh < 0:
                # A reset or a swapped meter: the new register is the base, what was seen stays.
                self.flag(("register_fell",))
            else:
                if self._sample_at is not None:
                    seconds = max((sample.at - self._sample_at).total_seconds(), 1.0)
                    pace_w = rise_wh * 3600.0 / seconds
                    if pace_w > MAX_STEP_W:
                        thousandfold = self._can_misname_units and _is_thousandfold(
                            pace_w, sample, seconds
                        )
                        self.flag((UNIT_THOUSANDFOLD if thousandfold else "register_jump",))
                if self._flags and UNIT_THOUSANDFOLD in self._flags:
                    rise_wh /= 1000.0
                self._energy_wh += rise_wh
        if self._meter_start_wh is None:
            self._meter_start_wh = reading_wh
            if sample.context != "Transaction.Begin":
                self.flag(("meter_start_assumed",))


def _is_thousandfold(pace_w: float, sample: MeterSample, seconds: float) -> bool:
    """Return whether a register counts Wh and calls them kWh, as the meter's own power tells."""
    if not sample.power_w or sample.power_w <= 0 or seconds < _TELLING_S:
        return False
    return 1 / 3 < pace_w / 1000.0 / sample.power_w < 3


def _at(sample: MeterSample) -> datetime:
    return sample.at


def _with(flags: tuple[str, ...], *more: str) -> tuple[str, ...]:
    new = tuple(flag for flag in more if flag not in flags)
    return flags + new if new else flags


def allowed_kw(plan: Plan, session_id: str, at: datetime) -> float | None:
    """Return the power `plan` gives the session at `at`, None where the plan says nothing."""
    row = plan.row(session_id)
    if row is None:
        return None
    return InForce(edges_at=plan.edges_at, power_kw=row.power_kw, accepted_at=plan.made_at).at(at)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The row a station has accepted for a session: `power_kw` (slots,) between `edges_at`.

    `above_share` is how far above it a car may be measured and still follow it. A row that was
    sent in amperes over `phases` has a `voltage_v`, nominal: where currents are measured they are
    compared, since power follows the mains. `step_kw` is the step in which its station counts.
    """

    edges_at: tuple[datetime, ...]
    power_kw: tuple[float, ...]
    accepted_at: datetime
    above_share: float = 0.01
    phases: int = 3
    voltage_v: float = 0.0
    step_kw: float = 0.0

    def since(self, at: datetime) -> datetime:
        """Return since when the limit at `at` has held: its last change, or the acceptance."""
        k = bisect_right(self.edges_at, at) - 1
        while k > 0 and self.power_kw[k - 1] == self.power_kw[k]:
            k -= 1
        return max(self.edges_at[max(k, 0)], self.accepted_at)

    def at(self, at: datetime) -> float | None:
        """Return the power allowed at `at`, None outside the row."""
        if not self.edges_at or not self.edges_at[0] <= at < self.edges_at[-1]:
            return None
        return self.power_kw[bisect_right(self.edges_at, at) - 1]


def agrees(current_a: tuple[float, ...], power_kw: float, *, voltage_v: float) -> bool:
    """Return whether currents belong to a power: a meter may tell one without the other."""
    if not current_a:
        return False
    told_kw = sum(current_a) * voltage_v / 1000.0
    return abs(told_kw - power_kw) <= 0.15 * power_kw + 0.1


def has_left_plan(session: Session, row: InForce, *, tolerance_kw: float) -> str:
    """Return how the session's last sample differs from its row: "above", "below" or "".

    Above means more than the row's `above_share` + 10 W + a step over what the plan allows, or a
    current more than 1 % + 0.1 A + a step over it (stations were seen to keep to 1 %); below means
    the car takes less than it was given by more than `tolerance_kw`, so that the rest can be handed
    to others.
    """
    if session.power_w is None or session.sample_at is None:
        return ""
    planned_kw = row.at(session.sample_at)
    if planned_kw is None:
        return ""
    power_kw = session.power_w / 1000.0
    if power_kw > planned_kw * (1.0 + row.above_share) + 0.01 + row.step_kw:
        return "above"
    if row.voltage_v and agrees(session.current_a, power_kw, voltage_v=row.voltage_v):
        limit_a = (planned_kw + row.step_kw) * 1000.0 / (row.phases * row.voltage_v)
        if max(session.current_a) > limit_a * 1.01 + 0.1:
            return "above"
    if power_kw < planned_kw - tolerance_kw:
        return "below"
    return ""
