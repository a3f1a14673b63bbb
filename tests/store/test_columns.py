"""Stored values come back as they went in."""

import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csms.store.columns import at_from, text_from, tuple_from, us_from

ZONES = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
INSTANTS = st.datetimes(
    datetime(1900, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=ZONES,
)


@given(INSTANTS)
@settings(max_examples=200)
def test_an_instant_survives_to_the_microsecond(at: datetime) -> None:
    assert at_from(us_from(at)) == at
    assert at_from(us_from(at)).tzinfo is UTC


@given(INSTANTS, INSTANTS)
@settings(max_examples=100)
def test_stored_instants_have_the_order_of_time(one: datetime, other: datetime) -> None:
    assert (us_from(one) < us_from(other)) == (one < other)


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        us_from(datetime(2026, 1, 1))  # noqa: DTZ001


VALUES = st.recursive(
    st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=4).map(tuple))
@settings(max_examples=200)
def test_a_tuple_survives_with_the_tuples_in_it(values: tuple[object, ...]) -> None:
    assert tuple_from(text_from(values)) == values


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        text_from((float("nan"),))


def test_sqlite_knows_the_statements_we_use() -> None:
    assert sqlite3.sqlite_version_info >= (3, 35), "ON CONFLICT with RETURNING needs 3.35"
