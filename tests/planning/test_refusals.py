"""A refused profile teaches one thing, comes to an end, and never goes out again as it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from csms.core.commands import CommandResult, Outcome, Schedule, SchedulePeriod
from csms.core.dialect import ASKED, ASSUMED, LEARNED, OPERATOR, DialectItem, limits_of, winners
from csms.core.model import Station, StationLimits
from csms.planning.refusals import TRIED, is_unsent_again, lessons

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
STATION = Station(
    station_id="CS1", site_id="main", vendor="Acme", model="One", firmware_version="1.0"
)


def told(periods: int = 24, *, limit: float = 16.1, unit: str = "A", level: int = 1) -> Schedule:
    return Schedule(
        profile_id=1_000_001,
        stack_level=level,
        unit=unit,
        starts_at=NOW,
        duration_s=86_400,
        periods=tuple(SchedulePeriod(start_s=900 * k, limit=limit) for k in range(periods)),
    )


def rejected(reason: str = "") -> CommandResult:
    return CommandResult(outcome=Outcome.REJECTED, status="Rejected", reason=reason)


@pytest.mark.parametrize(
    ("reason", "name", "value"),
    [
        ("UnsupportedRateUnit", "units", ("W",)),
        ("TooManyPeriods", "max_periods", 12),
        ("TooManyElements", "max_periods", 12),
        ("InvalidStackLevel", "same_id", "clear_first"),
        ("DuplicateProfile", "same_id", "clear_first"),
        ("InvalidProfile", "max_periods", 12),
        ("InvalidSchedule", "max_periods", 12),
        ("InvalidValue", "max_periods", 12),
        ("", "max_periods", 12),
    ],
)
def test_k28_each_reason_changes_what_is_sent_next(reason: str, name: str, value: object) -> None:
    (lesson,) = lessons(told(), StationLimits(), rejected(reason), sources={})
    assert (lesson.name, lesson.value) == (name, value)
    # What a reason names holds for the model; what was only tried does not.
    assert lesson.is_of_model is not lesson.why.startswith(TRIED)


def test_96_periods_without_an_answer_are_halved_until_there_is_one() -> None:
    silence = CommandResult(outcome=Outcome.NO_ANSWER)
    counts, count = [], 96
    while True:
        found = lessons(told(count), StationLimits(), silence, sources={})
        if not found:
            break
        count = int(found[0].value)  # type: ignore[call-overload]
        counts.append(count)
        assert not found[0].is_of_model
    assert counts == [48, 24, 12, 6, 3, 1]


def test_a_link_that_was_lost_teaches_nothing() -> None:
    lost = CommandResult(outcome=Outcome.NO_ANSWER, why_not_sent="link lost")
    assert lessons(told(96), StationLimits(), lost, sources={}) == ()


@pytest.mark.parametrize("reason", ["TxNotFound", "InternalError", "RateLimitExceeded"])
def test_a_reason_that_is_not_about_the_profile_teaches_nothing(reason: str) -> None:
    assert lessons(told(), StationLimits(), rejected(reason), sources={}) == ()


def test_a_decimal_that_a_validator_refuses_is_given_up() -> None:
    error = CommandResult(
        outcome=Outcome.CALL_ERROR,
        error_code="PropertyConstraintViolation",
        error_description="6.1 is not a multipleOf 0.1",
    )
    (lesson,) = lessons(told(limit=6.1), StationLimits(), error, sources={})
    assert (lesson.name, lesson.value) == ("step_a", 1.0)


def test_the_ladder_of_an_unspoken_refusal_ends_and_repeats_nothing() -> None:
    limits, sources = StationLimits(max_periods=24), {"max_periods": ASKED}
    seen = []
    while True:
        schedule = told(
            min(limits.max_periods, 24),
            limit=16.0 if limits.step_a >= 1 else 16.1,
            unit=limits.units[0],
            level=min(1, limits.max_stack_level),
        )
        is_cleared = limits.same_id == "clear_first"
        assert not any(is_unsent_again(schedule, s) and c == is_cleared for s, c in seen)
        found = lessons(schedule, limits, rejected(), sources=sources)
        seen.append((schedule, is_cleared))
        if not found:
            break
        limits = replace(limits, **{found[0].name: found[0].value})
        sources = {**sources, found[0].name: LEARNED}
        assert len(seen) < 12
    assert limits.max_periods == 1
    assert (limits.step_a, limits.max_stack_level, limits.same_id) == (1.0, 0, "clear_first")
    assert limits.units == ("W",)


def test_an_operator_is_not_overruled_by_a_refusal() -> None:
    for reason in ("UnsupportedRateUnit", "TooManyPeriods"):
        fixed = {"units": OPERATOR, "max_periods": OPERATOR, "step_a": OPERATOR}
        found = lessons(told(), StationLimits(), rejected(reason), sources=fixed)
        assert all(lesson.name not in fixed for lesson in found)


def test_a_schedule_that_starts_later_is_still_the_same() -> None:
    first = told(3)
    later = replace(
        first,
        starts_at=NOW + timedelta(minutes=5),
        periods=tuple(replace(p, start_s=max(p.start_s - 300, 0)) for p in first.periods),
    )
    assert is_unsent_again(later, first)
    assert not is_unsent_again(told(3, limit=15.0), first)
    assert not is_unsent_again(replace(first, stack_level=0), first)


def item(source: str, value: int, **given: str) -> DialectItem:
    return DialectItem(name="max_periods", value=value, source=source, at=NOW, **given)


def test_the_last_word_is_the_operators_and_the_smaller_count_wins() -> None:
    asked = item(ASKED, 24, station_id="CS1", firmware="1.0")
    learned = item(LEARNED, 30, vendor="Acme", model="One", firmware="1.0")
    assert winners([asked, learned], STATION)["max_periods"].value == 24
    own = item(LEARNED, 6, station_id="CS1", firmware="1.0")
    assert limits_of(winners([asked, learned, own], STATION)).max_periods == 6
    word = item(OPERATOR, 60, vendor="Acme", model="One")
    assert limits_of(winners([asked, learned, own, word], STATION)).max_periods == 60


def test_what_was_learned_of_another_firmware_or_model_does_not_count() -> None:
    old = item(LEARNED, 6, station_id="CS1", firmware="0.9")
    other = item(LEARNED, 3, vendor="Acme", model="Two", firmware="1.0")
    assert winners([old, other], STATION) == {}
    assert limits_of({}).source == ASSUMED


def test_what_was_taken_before_is_not_what_a_refusal_without_a_reason_is_about() -> None:
    def lesson(schedule: Schedule, *taken: Schedule, reason: str = "") -> tuple[str, ...]:
        found = lessons(schedule, StationLimits(), rejected(reason), sources={}, taken=taken)
        return tuple(one.name for one in found)

    # The transaction had ended, or the id has to be cleared first: nothing else is new.
    assert lesson(told(24), told(24)) == ("same_id",)
    assert lesson(told(12), told(24)) == ("same_id",)
    # More periods, a fraction, another unit or level were never taken.
    assert lesson(told(24), told(12)) == ("max_periods",)
    assert lesson(told(24), told(24, limit=16.0)) == ("max_periods",)
    assert lesson(told(24), told(24, unit="W")) == ("max_periods",)
    # A reason counts whatever was taken before.
    assert lesson(told(24), told(24), reason="TooManyPeriods") == ("max_periods",)


def test_the_purpose_is_the_last_thing_to_be_changed() -> None:
    schedule, limits, tried = told(), StationLimits(units=("A",)), []
    while True:
        found = lessons(
            schedule, limits, rejected(), sources={"units": ASKED}, next_cascade="default_only"
        )
        (lesson,) = found
        tried.append(lesson.name)
        if lesson.name == "cascade":
            break
        limits = replace(limits, **{lesson.name: lesson.value})
        schedule = replace(
            schedule,
            periods=schedule.periods[: limits.max_periods],
            stack_level=min(schedule.stack_level, limits.max_stack_level),
        )
        if limits.step_a == 1.0:
            whole = tuple(replace(p, limit=16.0) for p in schedule.periods)
            schedule = replace(schedule, periods=whole)
    assert (lesson.value, lesson.why.startswith(TRIED)) == ("default_only", True)
    assert tried.count("cascade") == 1
    assert {"max_periods", "step_a", "max_stack_level", "same_id"} < set(tried)


def test_a_purpose_that_was_taken_before_is_not_in_doubt() -> None:
    least = replace(told(1, limit=16.0, level=0), profile_id=7)
    limits = StationLimits(units=("A",), same_id="clear_first")
    for taken, named in (((), ["cascade"]), ((replace(least, periods=()),), [])):
        found = lessons(
            least,
            limits,
            rejected(),
            sources={"units": ASKED},
            taken=taken,
            next_cascade="default_only",
        )
        assert [lesson.name for lesson in found] == named


def test_a_refusal_that_names_the_purpose_teaches_it_at_once() -> None:
    reason = "unsupported chargingProfilePurpose"
    (lesson,) = lessons(
        told(), StationLimits(), rejected(reason), sources={}, next_cascade="max_only"
    )
    assert (lesson.name, lesson.value, lesson.is_of_model) == ("cascade", "max_only", True)
    fixed = {"cascade": OPERATOR}
    found = lessons(
        told(), StationLimits(), rejected(reason), sources=fixed, next_cascade="max_only"
    )
    assert all(lesson.name != "cascade" for lesson in found)
