"""What a station holds against what it was given: pure comparison.

Stations round limits down to whole amperes and leave the first second of a composite schedule
open (stations.md 1): less by a step is no difference, and a mark's first two seconds do not count.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from csms.core.commands import Schedule
from csms.core.units import w_from_a
from csms.planning.profile import GUARD_PROFILE_ID, PLAN_PROFILE_ID, is_ours
from csms.service.outside import EXTERNAL, limit_at, schedules_in
from csms.store.reported import ReportedProfile

MISSING = "missing"
DIFFERENT = "different"
STRAY = "not ours to stay"

_SHARE = 1.01
_TOLERANCE_W = 10.0
_OPEN_S = 2
"""So long after its start a schedule may still be without effect."""
_AHEAD = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A profile that a station should hold, and what is needed to compare its limits.

    `schedule` is None for one whose limits move by themselves (2.1 dynamic profiles); `taken_at`
    is when the station accepted it, None while that is open.
    """

    evse_id: int
    profile_id: int
    purpose: str
    schedule: Schedule | None
    phases: int
    voltage_v: float
    taken_at: datetime | None
    session_id: str = ""
    transaction_id: str = ""
    install_id: int = 0

    def is_open(self, asked_at: datetime) -> bool:
        """Return whether an answer to what was asked at `asked_at` may be from before it."""
        return self.taken_at is None or self.taken_at >= asked_at

    @property
    def step_w(self) -> float:
        """What stations that count whole amperes lose by that."""
        return w_from_a(1.0, phases=self.phases, voltage_v=self.voltage_v)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where what a station holds is not what it was given."""

    kind: str
    evse_id: int
    profile_id: int
    session_id: str = ""
    install_id: int = 0
    why: str = ""

    @property
    def is_plan(self) -> bool:
        """Whether it concerns a session's schedule, not a guard."""
        return self.profile_id >= PLAN_PROFILE_ID


def owner(profile: ReportedProfile) -> str:
    """Return whose a profile is: "tasco", "outside" for a constraint, or "other"."""
    if profile.purpose == EXTERNAL or profile.source not in ("CSO", ""):
        return "outside"
    return "tasco" if is_ours(profile.profile_id) else "other"


def differences(
    given: Sequence[Given], told: Sequence[ReportedProfile], *, asked_at: datetime
) -> list[Difference]:
    """Return where a station's whole report, asked for at `asked_at`, differs from what was given.

    What was sent since then may or may not be in the report: it says nothing about that.
    """
    ours = {(p.evse_id, p.profile_id): p for p in told if owner(p) == "tasco"}
    found = []
    for one in given:
        held = ours.pop((one.evse_id, one.profile_id), None)
        if one.is_open(asked_at):
            continue
        kind, why = MISSING, "the station does not report it"
        if held is not None:
            kind, why = DIFFERENT, _why_different(one, held, asked_at=asked_at)
            if not why:
                continue
        found.append(
            Difference(
                kind=kind,
                evse_id=one.evse_id,
                profile_id=one.profile_id,
                session_id=one.session_id,
                install_id=one.install_id,
                why=why,
            )
        )
    found += [
        Difference(kind=STRAY, evse_id=evse_id, profile_id=profile_id, why="nobody charges by it")
        for evse_id, profile_id in ours
        if _may_stray(profile_id)
    ]
    return found


def _may_stray(profile_id: int) -> bool:
    """Return whether a profile of ours is known in full: priority profiles come and go."""
    is_guard = GUARD_PROFILE_ID <= profile_id < GUARD_PROFILE_ID + 50_000
    return is_guard or profile_id >= PLAN_PROFILE_ID


def _why_different(given: Given, held: ReportedProfile, *, asked_at: datetime) -> str:
    if held.purpose != given.purpose:
        return f"purpose {held.purpose} instead of {given.purpose}"
    is_told = bool(given.transaction_id and held.transaction_id)
    if is_told and held.transaction_id != given.transaction_id:
        return f"for transaction {held.transaction_id} instead of {given.transaction_id}"
    if given.schedule is None or _has_no_start(held.body):
        return ""
    told = schedules_in(held.body, otherwise_at=held.reported_at)
    if not told:
        return ""
    whys = [against(given, given.schedule, one, now=asked_at) for one in told]
    return "" if "" in whys else whys[0]


def _has_no_start(body: str) -> bool:
    """Return whether a profile is reported without its start: then only its presence is known."""
    told = json.loads(body).get("chargingSchedule")
    schedules = told if isinstance(told, list) else [told]
    return any(not isinstance(s, dict) or "startSchedule" not in s for s in schedules)


def against(given: Given, wanted: Schedule, told: Schedule, *, now: datetime) -> str:
    """Return how `told` differs from `wanted` from `now` on, "" if it does not.

    Less by a whole ampere is none. Instants that one of them does not cover are left out.
    """
    for at in _marks(wanted, told, now=now):
        wanted_w, told_w = power_w(given, wanted, at), power_w(given, told, at)
        if wanted_w is None or told_w is None:
            continue
        more = told_w > wanted_w * _SHARE + _TOLERANCE_W
        if more or told_w < wanted_w - given.step_w - _TOLERANCE_W:
            word = "more" if more else "less"
            return f"allows {word}: {told_w:.0f} W instead of {wanted_w:.0f} W at {at:%H:%M:%SZ}"
    return ""


def _marks(*schedules: Schedule, now: datetime) -> list[datetime]:
    found = {now + timedelta(seconds=_OPEN_S)}
    for schedule in schedules:
        for period in schedule.periods:
            at = schedule.starts_at + timedelta(seconds=period.start_s + _OPEN_S)
            if now < at < now + _AHEAD:
                found.add(at)
    return sorted(found)


def power_w(given: Given, schedule: Schedule, at: datetime) -> float | None:
    """Return the power a schedule allows at `at`, None where it says nothing."""
    period = limit_at(schedule, at)
    if period is None or period.limit < 0:
        return None
    if schedule.unit == "W":
        return period.limit
    # Amperes that a station tells for one phase are amperes per phase for all the same.
    return w_from_a(period.limit, phases=given.phases, voltage_v=given.voltage_v)


def composite_finding(
    given: Sequence[Given], told: Schedule | None, *, evse_id: int, asked_at: datetime
) -> str:
    """Return what a composite schedule of an EVSE says about what was given: a word for people.

    It is bounded by the transaction's profile where there is one, else by the default; the
    station's maximum bounds both.
    """
    if told is None:
        return "tells nothing"
    own = [g for g in given if g.evse_id == evse_id]
    if not own:
        return "nothing was given"
    # The transaction's profile goes before the default; behind its end the default holds.
    best = max(own, key=lambda g: g.profile_id)
    if best.schedule is None or best.is_open(asked_at):
        return "changed meanwhile"
    why = against(best, best.schedule, told, now=max(asked_at, told.starts_at))
    return why or "agrees"
