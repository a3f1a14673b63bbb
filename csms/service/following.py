"""What the cars really take, learned from their meters sample by sample (planning.learning)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from csms.core.model import Session, SessionState
from csms.core.session import InForce, has_left_plan
from csms.planning.learning import (
    IGNORES,
    KEEPS_AGAIN,
    SAMPLES,
    SETTLING,
    STALE,
    STANDBY_KW,
    STILL_IGNORES,
    Given,
    Observed,
    Reading,
    learn,
)
from csms.planning.profile import RAISE_AFTER_S
from csms.store.reported import CarHabit

NOMINAL_V = 230.0
_LATE = SETTLING + timedelta(seconds=RAISE_AFTER_S)
"""A raise at a boundary comes later than its row says."""
_LESS = 0.95
_MOST_OF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a car could draw when it was read: `power_kw` over `phases` of `voltage_v`.

    `after_pause` says that it was paused before and has to be woken; `needs_more` that it charged
    again only at more than it was offered in vain.
    """

    power_kw: float
    phases: int
    voltage_v: float
    after_pause: bool = False
    needs_more: bool = False


@dataclass(slots=True)
class Sights:
    """Sessions in which a station showed something of its ways, for csms.service.watching.

    `ignored` exceed a schedule that their station accepted, `obeyed` came down to one that they
    had exceeded; `idle` take nothing of what they may, `served` charge again after that;
    `unscheduled` have drawn for some time without a schedule of ours.
    """

    ignored: list[Session] = field(default_factory=list)
    obeyed: list[Session] = field(default_factory=list)
    idle: list[tuple[Session, Allowed]] = field(default_factory=list)
    served: list[tuple[Session, Allowed]] = field(default_factory=list)
    unscheduled: list[Session] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.ignored, self.obeyed, self.idle, self.served, self.unscheduled))


class Follower:
    """Remembers what each open session was given and what it was seen to take."""

    def __init__(self, *, tolerance_kw: float, ignoring: Callable[[Session, float], None]) -> None:
        """`ignoring` is called once for a session that is found to exceed its schedule."""
        self.observed: dict[str, Observed] = {}
        self.learned: dict[str, Session] = {}
        """Sessions whose cars were learned something of that is not kept yet."""
        self._seen = Sights()
        self._idle: dict[str, int] = {}
        self._unscheduled: dict[str, int] = {}
        self._exceeded_kw: dict[str, float] = {}
        self._in_force: dict[str, InForce] = {}
        self._tolerance_kw = tolerance_kw
        self._ignoring = ignoring

    def accepted(self, session_id: str, row: InForce) -> None:
        """Take note that the station accepted a new schedule."""
        self._in_force[session_id] = row
        seen = self.observed.get(session_id)
        if seen is not None:
            seen.wake_due, seen.above = False, 0

    def remembered(self, session_id: str, row: InForce) -> None:
        """Take up a schedule that was accepted before this process began."""
        self._in_force.setdefault(session_id, row)

    def known(self, session_id: str, habit: CarHabit) -> None:
        """Begin with what a car was seen to do in earlier sessions."""
        if session_id not in self.observed:
            self.observed[session_id] = Observed(
                phases=habit.phases,
                min_current_a=habit.min_current_a,
                never_pause=habit.never_pause,
            )

    def forget(self, session_id: str) -> None:
        """Drop what was learned of a session that ended."""
        self.observed.pop(session_id, None)
        self._idle.pop(session_id, None)
        self._unscheduled.pop(session_id, None)
        self._exceeded_kw.pop(session_id, None)
        self._in_force.pop(session_id, None)

    def in_doubt(self, session_id: str) -> None:
        """Take note that nobody knows which schedule is in force: another is on its way, or lost.

        Until its station accepts one nothing is learned of the car.
        """
        self._in_force.pop(session_id, None)

    def wakes(self) -> frozenset[str]:
        """Return the sessions whose schedules have to be sent again, to wake their cars."""
        return frozenset(i for i, seen in self.observed.items() if seen.wake_due)

    def sampled(self, session: Session, *, now: Callable[[], datetime]) -> str:
        """Learn from a session's newest sample; return why to plan again, "" if it follows.

        `now` is the clock: it is read only where a schedule is in force.
        """
        if session.state is SessionState.ENDED:
            self.forget(session.session_id)
            return ""
        row, at = self._in_force.get(session.session_id), session.sample_at
        if row is None:
            self._free(session)
            return ""
        if at is None or session.power_w is None or now() - at > STALE:
            return ""
        planned_kw = row.at(at)
        if planned_kw is None:
            return ""
        seen = self.observed.get(session.session_id)
        if seen is None:
            seen = self.observed[session.session_id] = Observed()
        before = seen.phases, seen.never_pause, seen.min_current_a
        given = Given(
            power_kw=planned_kw,
            phases=row.phases,
            voltage_v=row.voltage_v or NOMINAL_V,
            is_settled=at - row.accepted_at >= SETTLING and planned_kw == row.at(at - _LATE),
            left=has_left_plan(session, row, tolerance_kw=self._tolerance_kw),
            is_whole=seen.seen_at is not None and seen.seen_at >= row.since(at),
        )
        read = Reading(at=at, power_kw=session.power_w / 1000.0, current_a=session.current_a)
        why = learn(seen, read, given)
        if why == IGNORES:
            self._ignoring(session, seen.power_kw)
        if why in (IGNORES, STILL_IGNORES):
            self._seen.ignored.append(session)
            self._exceeded_kw[session.session_id] = read.power_kw
        if why == KEEPS_AGAIN:
            drew_kw = self._exceeded_kw.pop(session.session_id, 0.0)
            # A car that is nearly full, or was given more, says nothing about its station.
            if _MOST_OF * planned_kw <= read.power_kw < _LESS * drew_kw:
                self._seen.obeyed.append(session)
        woke = before[1:] != (seen.never_pause, seen.min_current_a)
        self._served(session, seen, given, read, woke=woke)
        if before != (seen.phases, seen.never_pause, seen.min_current_a):
            self.learned[session.session_id] = session
        return why

    def _served(
        self, session: Session, seen: Observed, given: Given, read: Reading, *, woke: bool
    ) -> None:
        """Note whether a car takes anything of what it may, once that has settled."""
        if given.power_kw <= 0.0 or not given.is_settled:
            return
        allowed = Allowed(
            power_kw=given.power_kw,
            phases=given.phases,
            voltage_v=given.voltage_v,
            after_pause=seen.is_asleep,
            needs_more=woke and seen.min_current_a is not None,
        )
        if read.power_kw > STANDBY_KW:
            if self._idle.pop(session.session_id, 0):
                self._seen.served.append((session, allowed))
            return
        count = self._idle.get(session.session_id, 0) + 1
        self._idle[session.session_id] = count
        if allowed.after_pause or count == SAMPLES:
            self._seen.idle.append((session, allowed))

    def _free(self, session: Session) -> None:
        """Note a car that has drawn for some time without a schedule of ours."""
        at, draws = session.sample_at, (session.power_w or 0.0) / 1000.0 > STANDBY_KW
        if at is None or not draws or at - session.started_at < SETTLING:
            return
        count = self._unscheduled.get(session.session_id, 0) + 1
        self._unscheduled[session.session_id] = count
        if count == SAMPLES:
            self._seen.unscheduled.append(session)

    def excused(self, session_id: str) -> None:
        """Take back what a car was taken to be like: it was its station."""
        seen = self.observed.get(session_id)
        if seen is not None:
            seen.never_pause, seen.min_current_a = False, None
        self.learned.pop(session_id, None)

    def taken_sights(self) -> Sights:
        """Return what was seen of stations since the last call."""
        seen, self._seen = self._seen, Sights()
        return seen

    def taken_habits(self, now: datetime) -> Mapping[str, CarHabit]:
        """Return what was learned since the last call, by car, to be kept."""
        found = {}
        for session_id, session in self.learned.items():
            seen = self.observed.get(session_id)
            if seen is not None:
                found[car_of(session)] = CarHabit(
                    car=car_of(session),
                    phases=seen.phases,
                    min_current_a=seen.min_current_a,
                    max_current_a=seen.max_current_a or None,
                    never_pause=seen.never_pause,
                    wake_attempts=seen.wake_attempts,
                    seen_at=now,
                )
        self.learned.clear()
        return found


def car_of(session: Session) -> str:
    """Return the name under which a car is remembered; one that nobody knows for its stay only."""
    return session.vehicle_id or f"session {session.session_id}"
