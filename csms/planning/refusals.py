"""What a refused profile says about its station, and what to change before the next one.

A refusal with a reason names one thing. One without is tried out: one step at a time down a ladder
(fewer periods, whole numbers, the lowest level, clearing first, the other unit), each a smaller
demand on the station than the one before, so that it comes to an end.
"""

from collections.abc import Callable, Mapping, Sequence

from csms.core.commands import CommandResult, Outcome, Schedule
from csms.core.dialect import ASKED, LEARNED, OPERATOR, Lesson
from csms.core.model import StationLimits

TRIED = "tried after "
"""What was only tried starts its reason with this: it is dropped if nothing helped."""

_NOTHING_TO_LEARN = (
    "txnotfound",
    "internalerror",
    "ratelimitexceeded",
    "nocable",
    "missingdevicemodel",
    "securityerror",
)
"""Reasons that say nothing about the profile (2.0.1 part 2, appendix 5)."""

_PURPOSE_WORDS = ("purpose", "txprofile")
Step = Callable[[Schedule, StationLimits, Mapping[str, str]], tuple[str, object] | None]


def lessons(
    schedule: Schedule,
    limits: StationLimits,
    result: CommandResult,
    *,
    sources: Mapping[str, str],
    taken: Sequence[Schedule] = (),
    next_cascade: str = "",
) -> tuple[Lesson, ...]:
    """Return what is learned from a profile that was not accepted; () where it says nothing.

    `sources` maps items to who said them: an operator's word is not overruled. `taken` are
    schedules that the station accepted before: where one was as demanding, a refusal without a
    reason is about something else, such as a transaction that has just ended. `next_cascade` is
    what is left to try of purposes once nothing else is: no profile of this one was ever taken.
    """
    if result.outcome is Outcome.NOT_SUPPORTED:
        if sources.get("supports_profiles") == OPERATOR:
            return ()
        why = f"SetChargingProfile: {result.error_code or result.status}"
        return (Lesson(name="supports_profiles", value=False, why=why),)
    if result.outcome is Outcome.NO_ANSWER:
        # Two periods are few for any station: it is silent for another reason.
        if result.why_not_sent or len(schedule.periods) <= 2 or _is_fixed("max_periods", sources):
            return ()
        told = f"no answer to {len(schedule.periods)} periods"
        return (_lesson(("max_periods", len(schedule.periods) // 2), told, is_of_model=False),)
    if result.outcome not in (Outcome.REJECTED, Outcome.CALL_ERROR):
        return ()
    told = " ".join(
        t for t in (result.reason, result.error_code, result.error_description) if t
    ) or (result.status or str(result.outcome))
    said = told.lower().replace(" ", "")
    if any(word in said for word in _NOTHING_TO_LEARN):
        return ()
    may_change = bool(next_cascade) and not _is_fixed("cascade", sources)
    if may_change and any(word in said for word in _PURPOSE_WORDS):
        return (_lesson(("cascade", next_cascade), told, is_of_model=True),)
    for words, steps in _NAMED:
        if any(word in said for word in words):
            for step in steps:
                found = step(schedule, limits, sources)
                if found is not None:
                    return (_lesson(found, told, is_of_model=True),)
    is_known = any(_is_as_demanding(one, schedule) for one in taken)
    for step in (_clear_first,) if is_known else _LADDER:
        found = step(schedule, limits, sources)
        if found is not None:
            return (_lesson(found, TRIED + told, is_of_model=False),)
    if may_change and all(one.purpose != schedule.purpose for one in taken):
        return (_lesson(("cascade", next_cascade), TRIED + told, is_of_model=False),)
    return ()


def is_unsent_again(schedule: Schedule, refused: Schedule) -> bool:
    """Return whether `schedule` is `refused` once more: nothing but its start has moved."""
    same = (schedule.profile_id, schedule.stack_level, schedule.unit, schedule.purpose)
    if same != (refused.profile_id, refused.stack_level, refused.unit, refused.purpose):
        return False
    if [(p.limit, p.phases) for p in schedule.periods] != [
        (p.limit, p.phases) for p in refused.periods
    ]:
        return False
    return _edges(schedule) == _edges(refused)


def _is_as_demanding(taken: Schedule, schedule: Schedule) -> bool:
    """Return whether a station that took `taken` can spell `schedule` as well."""
    return (
        (taken.unit, taken.purpose) == (schedule.unit, schedule.purpose)
        and taken.stack_level == schedule.stack_level
        and len(taken.periods) >= len(schedule.periods)
        and (_is_whole(schedule) or not _is_whole(taken))
    )


def _is_whole(schedule: Schedule) -> bool:
    return all(float(p.limit).is_integer() for p in schedule.periods)


def _edges(schedule: Schedule) -> list[int]:
    start = int(schedule.starts_at.timestamp())
    return [start + p.start_s for p in schedule.periods[1:]]


def _lesson(found: tuple[str, object], why: str, *, is_of_model: bool) -> Lesson:
    name, value = found
    return Lesson(name=name, value=value, why=why[:200], is_of_model=is_of_model)  # type: ignore[arg-type]


def _is_fixed(name: str, sources: Mapping[str, str]) -> bool:
    return sources.get(name) == OPERATOR


def _fewer_periods(
    schedule: Schedule, limits: StationLimits, sources: Mapping[str, str]
) -> tuple[str, object] | None:
    count = len(schedule.periods)
    if count < 2 or _is_fixed("max_periods", sources):
        return None
    return "max_periods", max(count // 2, 1)


def _whole_numbers(
    schedule: Schedule, limits: StationLimits, sources: Mapping[str, str]
) -> tuple[str, object] | None:
    name, step = ("step_a", limits.step_a) if schedule.unit == "A" else ("step_w", limits.step_w)
    if _is_whole(schedule) or step >= 1.0 or _is_fixed(name, sources):
        return None
    return name, 1.0


def _lower_level(
    schedule: Schedule, limits: StationLimits, sources: Mapping[str, str]
) -> tuple[str, object] | None:
    if schedule.stack_level <= 0 or _is_fixed("max_stack_level", sources):
        return None
    return "max_stack_level", schedule.stack_level - 1


def _clear_first(
    schedule: Schedule, limits: StationLimits, sources: Mapping[str, str]
) -> tuple[str, object] | None:
    if limits.same_id != "replaces" or _is_fixed("same_id", sources):
        return None
    return "same_id", "clear_first"


def _other_unit(
    schedule: Schedule, limits: StationLimits, sources: Mapping[str, str]
) -> tuple[str, object] | None:
    if sources.get("units") in (OPERATOR, LEARNED):
        return None
    return "units", ("W",) if schedule.unit == "A" else ("A",)


def _other_unit_if_unsaid(
    schedule: Schedule, limits: StationLimits, sources: Mapping[str, str]
) -> tuple[str, object] | None:
    if sources.get("units") == ASKED:
        return None
    return _other_unit(schedule, limits, sources)


_NAMED: tuple[tuple[tuple[str, ...], tuple[Step, ...]], ...] = (
    (("rateunit", "chargingrateunit"), (_other_unit,)),
    (
        ("toomanyperiod", "toomanyelement", "maxperiods", "maxitems", "schedulemax"),
        (_fewer_periods,),
    ),
    (("stacklevel", "duplicateprofile"), (_clear_first, _lower_level)),
    (("multipleof", "decimal", "fraction"), (_whole_numbers,)),
)
_LADDER: tuple[Step, ...] = (
    _fewer_periods,
    _whole_numbers,
    _lower_level,
    _clear_first,
    _other_unit_if_unsaid,
)
