"""Laws of charging-profile stacking."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.dialect import Dialect
from simulators.profiles import (
    Electrics,
    Installed,
    Period,
    Profile,
    ProfileInvalid,
    Purpose,
    active,
    parsed,
)

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
AC = Electrics()


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    purpose = draw(st.sampled_from([Purpose.STATION_MAX, Purpose.TX_DEFAULT, Purpose.TX]))
    starts = sorted(draw(st.sets(st.integers(1, 20_000), max_size=4)))
    kind = draw(st.sampled_from(["Absolute", "Recurring", "Relative"]))
    return Profile(
        profile_id=draw(st.integers(1, 50)),
        purpose=purpose,
        stack_level=draw(st.integers(0, 3)),
        kind="Absolute" if purpose is Purpose.STATION_MAX else kind,
        recurrency="Daily",
        periods=tuple(Period(start_s=s, limit=draw(st.integers(0, 32))) for s in (0, *starts)),
        start_at=at(draw(st.integers(-30, 3))),
        duration_s=draw(st.one_of(st.none(), st.integers(60, 100_000))),
        valid_from=draw(st.one_of(st.none(), st.just(at(1)))),
        valid_to=draw(st.one_of(st.none(), st.just(at(2)))),
        evse_id=0 if purpose is Purpose.STATION_MAX else 1,
        installed_at=NOON,
    )


def by_hand(installed: Installed, when: datetime) -> float:
    """The least over the purposes, each purpose by its highest active level."""

    def top(purpose: Purpose) -> float | None:
        found = [
            (p.stack_level, period.limit)
            for p in installed.profiles
            if p.purpose is purpose and (period := active(p, when, started_at=NOON)[0]) is not None
        ]
        return max(found)[1] if found else None

    own = top(Purpose.TX)
    if own is None:
        own = top(Purpose.TX_DEFAULT)
    limits = [x for x in (own, top(Purpose.STATION_MAX)) if x is not None]
    return min(limits, default=math.inf)


@settings(max_examples=60, deadline=None)
@given(given_profiles=st.lists(profiles(), max_size=8), offset_s=st.integers(0, 20_000))
def test_the_composite_is_the_least_over_the_purposes_at_every_instant(
    given_profiles: list[Profile], offset_s: int
) -> None:
    installed = Installed(Dialect(max_profiles=100))
    for profile in given_profiles:
        installed.install(profile)
    schedule = installed.composite(
        1, NOON, 20_001, started_at=NOON, electrics=AC, unlimited=math.inf
    )
    assert schedule[0].start_s == 0
    in_force = [p for p in schedule if p.start_s <= offset_s][-1]
    when = NOON + timedelta(seconds=offset_s)
    grant = installed.grant(1, when, started_at=NOON, electrics=AC)
    assert in_force.limit == grant.limit == by_hand(installed, when)
    assert grant.until is None or grant.until > when


def simple(limit: float, **fields: object) -> Profile:
    base: dict[str, object] = {
        "profile_id": 1,
        "purpose": Purpose.TX,
        "periods": (Period(start_s=0, limit=limit),),
        "start_at": NOON,
        "evse_id": 1,
    }
    return Profile(**(base | fields))  # type: ignore[arg-type]


def limit(installed: Installed, hours: float = 0.0, **fields: int) -> float:
    return installed.grant(1, at(hours), started_at=NOON, electrics=AC, **fields).limit


def test_the_same_id_replaces_and_a_schedule_that_ends_gives_way_to_the_default() -> None:
    installed = Installed()
    installed.install(simple(10, purpose=Purpose.TX_DEFAULT, profile_id=9, evse_id=0))
    installed.install(simple(16, duration_s=3600))
    installed.install(simple(20, duration_s=3600))
    assert [limit(installed, h) for h in (0, 0.99, 1, 5)] == [20, 20, 10, 10]
    installed.transaction_ended(1)
    assert limit(installed) == 10


def test_the_default_of_an_evse_goes_before_that_of_all() -> None:
    installed = Installed()
    installed.install(simple(10, purpose=Purpose.TX_DEFAULT, profile_id=8, evse_id=0))
    installed.install(simple(12, purpose=Purpose.TX_DEFAULT, profile_id=9, evse_id=1))
    assert limit(installed) == 12


def test_watts_count_three_phases_unless_told_otherwise() -> None:
    installed = Installed()
    installed.install(simple(6900, unit="W"))
    assert limit(installed) == pytest.approx(10)
    installed.install(simple(0, unit="W", periods=(Period(start_s=0, limit=2300, phases=1),)))
    assert limit(installed) == pytest.approx(10)


def test_whole_amperes_are_rounded_down_and_a_station_maximum_is_shared() -> None:
    installed = Installed(Dialect(whole_amperes=True))
    maximum = simple(31, purpose=Purpose.STATION_MAX, evse_id=0, profile_id=3)
    installed.install(maximum)
    assert limit(installed, sharers=2) == 15


def test_a_second_id_on_a_level_does_what_the_dialect_says() -> None:
    for same_level, result in (("replace", 20), ("keep_old", 10)):
        installed = Installed(Dialect(same_level=same_level))
        installed.install(simple(10))
        installed.install(simple(20, profile_id=2))
        assert limit(installed) == result
    strict = Installed(Dialect(same_level="refuse"))
    strict.install(simple(10))
    reason = strict.refusal(simple(20, profile_id=2), evse_ids=[1], transactions={1: "t"})
    assert reason == "InvalidStackLevel"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("chargingProfilePurpose", "Nonsense"),
        ("chargingSchedule", {}),
        ("stackLevel", None),
        ("chargingProfileKind", "Sometimes"),
    ],
)
def test_a_profile_of_the_wrong_shape_is_refused(member: str, value: object) -> None:
    body = {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": {
            "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}],
        },
    }
    assert parsed(body, evse_id=1, at=NOON).periods[0].limit == 6
    with pytest.raises(ProfileInvalid):
        parsed(body | {member: value}, evse_id=1, at=NOON)
