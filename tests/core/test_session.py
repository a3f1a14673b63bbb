"""A session is the fold of its reports, in whatever order they come."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from csms.core.messages import SessionEnded, SessionStarted, SessionUpdated
from csms.core.model import (
    Authorization,
    AuthorizationStatus,
    IdToken,
    MeterSample,
    OcppVersion,
    Session,
    SessionState,
)
from csms.core.session import (
    InForce,
    advanced,
    closed_administratively,
    has_left_plan,
    started,
    with_late_start,
)

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
YES = Authorization(
    status=AuthorizationStatus.ACCEPTED, reason="ok", holder_did="did:denso:driver:a"
)


def start(meter_wh: float | None = 1000.0, at: datetime = NOON) -> SessionStarted:
    return SessionStarted(
        station_id="c1",
        received_at=at,
        version=OcppVersion.V201,
        action="TransactionEvent",
        at=at,
        transaction_id="t",
        seq_no=0,
        evse_id=1,
        id_token=IdToken(value="A"),
        meter_start_wh=meter_wh,
    )


def update(
    minutes: float, wh: float | None, *, w: float | None = None, seq: int = 1
) -> SessionUpdated:
    at = NOON + timedelta(minutes=minutes)
    return SessionUpdated(
        station_id="c1",
        received_at=at,
        version=OcppVersion.V201,
        action="TransactionEvent",
        at=at,
        transaction_id="t",
        seq_no=seq,
        evse_id=1,
        samples=(MeterSample(at=at, energy_wh=wh, power_w=w),),
    )


def end(minutes: float, wh: float | None = None) -> SessionEnded:
    at = NOON + timedelta(minutes=minutes)
    return SessionEnded(
        station_id="c1",
        received_at=at,
        version=OcppVersion.V201,
        action="TransactionEvent",
        at=at,
        transaction_id="t",
        seq_no=9,
        evse_id=1,
        meter_stop_wh=wh,
        stop_reason="Local",
    )


def opened(meter_wh: float | None = 1000.0) -> Session:
    return started(start(meter_wh), session_id="x", site_id="s", authorization=YES)


@given(rises=st.lists(st.floats(0, 5000), min_size=1, max_size=20))
def test_energy_is_the_difference_of_the_register(rises: list[float]) -> None:
    session, wh = opened(), 1000.0
    for i, rise in enumerate(rises):
        wh += rise
        session = advanced(session, update(i + 1, wh, seq=i + 1))
    session = advanced(session, end(60, wh))
    assert abs(session.energy_wh - (wh - 1000.0)) < 1e-6
    assert session.state is SessionState.ENDED


@given(readings=st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_energy_never_falls_whatever_the_register_does(readings: list[float]) -> None:
    session, before = opened(), 0.0
    for i, wh in enumerate(readings):
        session = advanced(session, update(i + 1, wh))
        assert session.energy_wh >= before
        before = session.energy_wh


def test_a_register_that_falls_is_flagged_and_loses_nothing_seen() -> None:
    session = advanced(advanced(opened(), update(1, 3000.0)), update(2, 0.0))
    session = advanced(session, update(3, 500.0))
    assert session.energy_wh == 2500.0
    assert "register_fell" in session.flags


def test_a_late_sample_changes_nothing_of_the_present_state() -> None:
    now = advanced(opened(), update(10, 3000.0, w=7000.0, seq=3))
    late = advanced(now, update(5, 2000.0, w=1000.0, seq=2))
    assert (late.energy_wh, late.power_w, late.last_seq_no) == (2000.0, 7000.0, 3)


def test_a_session_without_a_first_reading_starts_at_the_first_one_it_gets() -> None:
    session = advanced(opened(None), update(1, 5000.0))
    session = advanced(session, update(2, 5500.0))
    assert session.energy_wh == 500.0
    assert "meter_start_assumed" in session.flags


def test_an_update_before_its_start_opens_the_session_and_the_start_completes_it() -> None:
    session = started(update(5, 2000.0), session_id="x", site_id="s", authorization=None)
    assert "start_missing" in session.flags
    session = with_late_start(session, start(1000.0))
    assert session.started_at == NOON
    assert session.energy_wh == 1000.0
    assert "start_missing" not in session.flags


def test_a_late_start_is_where_the_first_reading_counts_from() -> None:
    silent = replace(update(1, 0.0), samples=())
    session = started(silent, session_id="x", site_id="s", authorization=None)
    session = advanced(with_late_start(session, start(1000.0)), update(5, 3000.0))
    assert session.energy_wh == 2000.0


def test_an_end_by_us_is_marked_as_an_estimate() -> None:
    session = advanced(opened(), update(10, 3000.0))
    closed = closed_administratively(session, now=NOON + timedelta(hours=9), reason="lost")
    assert closed.is_estimated
    assert closed.ended_at == NOON + timedelta(minutes=10)
    assert closed_administratively(closed, now=NOON, reason="again") is closed


def test_leaving_the_plan_is_seen_both_ways() -> None:
    row = InForce(edges_at=(NOON, NOON + timedelta(hours=1)), power_kw=(7.0,), accepted_at=NOON)

    def drawing(w: float) -> str:
        return has_left_plan(advanced(opened(), update(4, None, w=w)), row, tolerance_kw=1)

    assert drawing(7050.0) == ""
    assert drawing(7200.0) == "above"
    assert drawing(6100.0) == ""
    assert drawing(3000.0) == "below"
