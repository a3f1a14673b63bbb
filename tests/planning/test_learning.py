"""What a car is learned to do: its bound, its phases, its sleep, and when nothing is learned."""

from datetime import UTC, datetime, timedelta

from csms.planning.learning import MOST_ATTEMPTS, Given, Observed, Reading, learn

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def sample(
    seen: Observed,
    draws_a: float,
    given_a: float,
    *,
    phases: int = 1,
    left: str = "",
    is_settled: bool = True,
    is_whole: bool = True,
    n: int = 0,
    current_a: tuple[float, ...] | None = None,
) -> str:
    return learn(
        seen,
        Reading(
            at=NOON + timedelta(minutes=n),
            power_kw=draws_a * phases * 0.23,
            current_a=(draws_a,) * phases if current_a is None else current_a,
        ),
        Given(
            power_kw=given_a * phases * 0.23,
            phases=phases,
            voltage_v=230.0,
            is_settled=is_settled,
            left=left,
            is_whole=is_whole,
        ),
    )


def test_a_car_that_draws_10_of_32_is_bounded_at_11_after_two_samples() -> None:
    seen = Observed()
    assert sample(seen, 10, 32, left="below") == ""
    assert sample(seen, 10, 32, left="below") == "a car takes less than it was given"
    assert seen.cap_kw is not None
    assert abs(seen.cap_kw - 11 * 0.23) < 1e-9


def test_a_car_that_comes_up_to_its_bound_is_let_up_within_one_sample() -> None:
    seen = Observed()
    for n in range(2):
        sample(seen, 10, 32, left="below", n=n)
    assert sample(seen, 10.3, 11) == ""
    assert sample(seen, 11, 11) == "a car takes all it was given again"
    assert seen.cap_kw is None


def test_nothing_is_learned_before_a_change_has_settled_or_with_the_pilot_off() -> None:
    seen = Observed()
    for n in range(4):
        assert sample(seen, 0, 32, left="below", is_settled=False, n=n) == ""
        assert sample(seen, 0, 0, n=n) == ""
    assert (seen.cap_kw, seen.phases) == (None, None)


def test_a_car_on_one_phase_of_three_is_seen_after_two_samples() -> None:
    seen = Observed()

    def one_phase() -> str:
        return learn(
            seen,
            Reading(at=NOON, power_kw=3.68, current_a=(16.0, 0.0, 0.0)),
            Given(power_kw=11.04, phases=3, voltage_v=230.0, is_settled=True, left=""),
        )

    assert one_phase() == ""
    assert one_phase() == "a car charges on 1 of its phases"
    assert seen.phases == 1


def test_a_car_that_draws_more_than_it_may_is_found_in_two_samples() -> None:
    seen = Observed()
    assert sample(seen, 32, 10, left="above") == ""
    assert sample(seen, 32, 10, left="above") == "a car draws more than its schedule allows"
    assert seen.is_ignoring
    assert sample(seen, 10, 10) == "a car keeps to its schedule again"


def test_a_reading_that_began_before_the_limit_is_no_sign_of_a_car_that_ignores_it() -> None:
    seen = Observed()
    for n in range(4):
        assert sample(seen, 32, 10, left="above", is_whole=n % 2 == 1, n=n) == ""
    assert not seen.is_ignoring
    for n in range(2):
        sample(seen, 32, 10, left="above", n=n)
    assert seen.is_ignoring
    # One reading within its limit is enough to take it back, whatever was before it.
    assert sample(seen, 10, 10, is_whole=False) == "a car keeps to its schedule again"
    assert not seen.is_ignoring


def test_a_car_that_ignored_a_pause_and_then_draws_nothing_is_controlled_again() -> None:
    seen = Observed()
    for n in range(2):
        sample(seen, 10, 0, left="above", n=n)
    assert seen.is_ignoring
    sample(seen, 0, 16, left="below")
    assert not seen.is_ignoring


def test_a_car_that_stays_asleep_is_woken_a_few_times_and_then_never_paused() -> None:
    seen = Observed()
    sample(seen, 16, 16)
    sample(seen, 0, 0)
    whys = [sample(seen, 0, 16, left="below", n=n) for n in range(MOST_ATTEMPTS + 2)]
    assert whys.count("a car stays asleep after a pause") == MOST_ATTEMPTS
    assert seen.wake_due
    assert sample(seen, 16, 16) == "a car woke up"
    assert seen.never_pause
    assert (seen.cap_kw, seen.wake_due) == (None, False)


def test_a_car_that_needs_more_than_6_a_is_not_taken_for_a_sleeper() -> None:
    seen = Observed()
    sample(seen, 16, 16)
    sample(seen, 0, 0)
    sample(seen, 0, 6)
    assert sample(seen, 10, 10) == "a car woke up"
    assert not seen.never_pause
    assert round(seen.min_current_a or 0.0, 6) == 10
