"""Sessions and transaction messages: stored once, found under their own station only."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from csms.core.errors import Conflict, InvalidInput, UnknownSession
from csms.core.messages import SessionStarted, SessionUpdated
from csms.core.model import (
    Assurance,
    AuthorizationStatus,
    IdToken,
    OcppVersion,
    Session,
    SessionState,
)
from csms.store import sessions, tables
from csms.store.database import Store
from csms.store.sessions import EventStored
from csms.store.statements import Tx
from tests.store.values import (
    EPOCH,
    NOON,
    TRANSACTION,
    a_sample,
    a_session,
    a_start,
    a_start16,
    an_end,
    an_update,
    later,
)


def start16(tx: Tx, session_id: str, report: SessionStarted) -> Session:
    """Open a 1.6 session as the service does: look first."""
    known = sessions.find_start(tx, report)
    if known is not None:
        return known
    session = a_session(
        session_id,
        version=OcppVersion.V16,
        station_id=report.station_id,
        evse_id=report.evse_id,
        transaction_id="",
        started_at=report.at,
        meter_start_wh=report.meter_start_wh,
    )
    return sessions.open_session(tx, session, report=report)


# --- numbers and ids -----------------------------------------------------------------------------


async def test_a_new_session_gets_a_number_and_keeps_everything_else(store: Store) -> None:
    given_session = a_session(
        soc=0.4,
        current_a=(16.0, 15.5),
        flags=("unit_assumed",),
        departs_at=later(3600),
        assurance=Assurance.A2,
        remote_start_id=2**40,
    )
    stored = await store.write(lambda tx: sessions.open_session(tx, given_session))
    assert stored == replace(given_session, number=stored.number)
    assert 0 < stored.number < 2**31
    assert await store.read(lambda tx: sessions.get(tx, "s1")) == stored


async def test_a_number_is_never_used_again_even_when_the_newest_row_is_gone(
    store: Store,
) -> None:
    first = await store.write(lambda tx: sessions.open_session(tx, a_session("s1")))
    await store.write(lambda tx: tx.execute(delete(tables.session)) and tx.memory.clear())
    second = await store.write(lambda tx: sessions.open_session(tx, a_session("s2")))
    assert second.number > first.number


async def test_numbers_rise(store: Store) -> None:
    opened = [
        await store.write(lambda tx, n=n: sessions.open_session(tx, a_session(f"s{n}")))
        for n in range(5)
    ]
    numbers = [session.number for session in opened]
    assert numbers == sorted(set(numbers))


async def test_a_number_beyond_32_bits_is_never_given(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    await store.write(lambda tx: sessions.open_session(tx, a_session("s1")))
    await store.write(lambda tx: tx.execute(tables.session.update().values(number=2**31 - 1)))
    with pytest.raises(Exception, match="ck_session_number"):
        await store.write(lambda tx: sessions.open_session(tx, a_session("s2")))
    await store.close()


async def test_a_1_6_transaction_id_is_the_number(store: Store) -> None:
    session = await store.write(lambda tx: start16(tx, "s1", a_start16()))
    assert session.transaction_id == str(session.number)
    found = await store.read(lambda tx: sessions.by_transaction(tx, "CS1", str(session.number)))
    assert found == session


# --- starts that come twice ----------------------------------------------------------------------


async def test_a_repeated_1_6_start_finds_its_session(store: Store) -> None:
    first = await store.write(lambda tx: start16(tx, "s1", a_start16()))
    again = await store.write(lambda tx: start16(tx, "s2", a_start16(received_at=later(60))))
    assert again == first


@pytest.mark.parametrize(
    "difference",
    [
        {"at": later(1)},
        {"evse_id": 2},
        {"id_token": IdToken(value="04FFFFFF")},
        {"id_token": None},
        {"meter_start_wh": 1000.5},
        {"meter_start_wh": None},
        {"station_id": "CS2"},
    ],
)
async def test_a_1_6_start_that_differs_is_another(
    store: Store, difference: dict[str, object]
) -> None:
    first = await store.write(lambda tx: start16(tx, "s1", a_start16()))
    other = await store.write(lambda tx: start16(tx, "s2", a_start16(**difference)))
    assert other.number != first.number


async def test_starts_of_a_station_without_a_clock_stay_apart_by_their_meter(
    store: Store,
) -> None:
    opened = [
        await store.write(
            lambda tx, wh=wh: start16(tx, f"s{wh}", a_start16(at=EPOCH, meter_start_wh=wh))
        )
        for wh in (0.0, 5200.0, 9100.0)
    ]
    assert len({session.number for session in opened}) == 3


async def test_a_2_0_1_start_is_known_by_station_and_transaction(store: Store) -> None:
    await store.write(lambda tx: sessions.open_session(tx, a_session(transaction_id=TRANSACTION)))

    def find(report: SessionStarted) -> object:
        return store.read(lambda tx: sessions.find_start(tx, report))

    assert await find(a_start()) is not None
    assert await find(a_start(at=later(99), meter_start_wh=7.0)) is not None
    assert await find(a_start(transaction_id="other")) is None
    assert await find(a_start(station_id="CS2")) is None


async def test_one_station_cannot_have_a_transaction_twice(store: Store) -> None:
    await store.write(lambda tx: sessions.open_session(tx, a_session("s1", transaction_id="t")))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(lambda tx: sessions.open_session(tx, a_session("s2", transaction_id="t")))
    await store.write(
        lambda tx: sessions.open_session(tx, a_session("s3", transaction_id="t", station_id="CS2"))
    )


async def test_a_transaction_is_found_under_its_own_station_only(store: Store) -> None:
    await store.write(lambda tx: sessions.open_session(tx, a_session(transaction_id="t")))
    assert await store.read(lambda tx: sessions.by_transaction(tx, "CS2", "t")) is None
    assert await store.write(lambda tx: sessions.by_transaction(tx, "CS2", "t")) is None


# --- transaction messages ------------------------------------------------------------------------


async def test_the_same_message_is_stored_once(store: Store) -> None:
    async def append(report: object) -> EventStored:
        return await store.write(lambda tx: sessions.append_event(tx, report))

    assert await append(an_update(1)) is EventStored.NEW
    assert await append(an_update(1, received_at=later(30))) is EventStored.REPEAT
    events = await store.read(lambda tx: sessions.events_of(tx, "CS1", TRANSACTION))
    assert [event.received_at for event in events] == [later(1)]


async def test_a_number_with_other_content_is_kept_as_a_conflict(store: Store) -> None:
    async def append(payload: str) -> EventStored:
        report = an_update(0, payload=payload)
        return await store.write(lambda tx: sessions.append_event(tx, report))

    assert await append('{"a":1}') is EventStored.NEW
    assert await append('{"a":2}') is EventStored.CONFLICT
    assert await append('{"a":3}') is EventStored.CONFLICT
    assert await append('{"a":2}') is EventStored.REPEAT
    assert await append('{"a":1}') is EventStored.REPEAT
    events = await store.read(lambda tx: sessions.events_of(tx, "CS1", TRANSACTION))
    assert [(e.payload, e.is_conflict) for e in events] == [
        ('{"a":1}', False),
        ('{"a":2}', True),
        ('{"a":3}', True),
    ]


async def test_1_6_messages_are_told_apart_by_content_and_never_conflict(store: Store) -> None:
    async def append(payload: str) -> EventStored:
        report = an_update(None, version=OcppVersion.V16, payload=payload)
        return await store.write(lambda tx: sessions.append_event(tx, report, transaction_id="17"))

    assert [await append(p) for p in ("{}", "[]", "{}")] == [
        EventStored.NEW,
        EventStored.NEW,
        EventStored.REPEAT,
    ]
    events = await store.read(lambda tx: sessions.events_of(tx, "CS1", "17"))
    assert [event.seq_no for event in events] == [None, None]


async def test_what_came_before_a_restart_is_known_after_it(database_url: str) -> None:
    first = await Store.open(database_url)
    for number in range(3):
        await first.write(lambda tx, n=number: sessions.append_event(tx, an_update(n)))
    await first.close()
    second = await Store.open(database_url)

    async def append(number: int, payload: str = "") -> EventStored:
        report = an_update(number, **({"payload": payload} if payload else {}))
        return await second.write(lambda tx: sessions.append_event(tx, report))

    assert await append(1) is EventStored.REPEAT
    assert await append(2, '{"other":2}') is EventStored.CONFLICT
    assert await append(3) is EventStored.NEW
    assert await append(3) is EventStored.REPEAT
    await second.close()


async def test_a_1_6_repeat_is_known_however_late_it_comes(store: Store) -> None:
    def reading(minute: int) -> SessionUpdated:
        return an_update(
            None,
            version=OcppVersion.V16,
            transaction_id="17",
            at=later(60 * minute),
            samples=(a_sample(60 * minute, energy_wh=float(minute)),),
            payload=f'{{"minute":{minute}}}',
        )

    order = (1, 3, 2, 3, 1, 2, 4, 4)
    stored = [
        await store.write(lambda tx, m=m: sessions.append_event(tx, reading(m))) for m in order
    ]
    repeat, new = EventStored.REPEAT, EventStored.NEW
    assert stored == [new, new, new, repeat, repeat, repeat, new, repeat]
    events = await store.read(lambda tx: sessions.events_of(tx, "CS1", "17"))
    assert [event.at for event in events] == [later(60 * m) for m in (1, 3, 2, 4)]


async def test_a_station_whose_clock_stands_still_loses_no_1_6_message(store: Store) -> None:
    def said(number: int) -> SessionUpdated:
        return an_update(
            None,
            version=OcppVersion.V16,
            transaction_id="17",
            at=EPOCH,
            samples=(a_sample(at=EPOCH, energy_wh=float(number)),),
            payload=f'{{"n":{number}}}',
        )

    for number in (1, 2, 1, 3):
        await store.write(lambda tx, n=number: sessions.append_event(tx, said(n)))
    events = await store.read(lambda tx: sessions.events_of(tx, "CS1", "17"))
    assert [event.payload for event in events] == ['{"n":1}', '{"n":2}', '{"n":3}']


async def test_events_keep_what_was_said(store: Store) -> None:
    report = an_end(3, is_offline=True, trigger="EVDeparted", flags=("clock",), payload='{"é":1}')
    await store.write(lambda tx: sessions.append_event(tx, report))
    (event,) = await store.read(lambda tx: sessions.events_of(tx, "CS1", TRANSACTION))
    assert (event.seq_no, event.at, event.received_at) == (3, report.at, report.received_at)
    assert (event.trigger, event.is_offline, event.flags) == ("EVDeparted", True, ("clock",))
    assert event.payload == '{"é":1}'


@pytest.mark.parametrize(
    ("numbers", "missing"), [((), 0), ((0,), 0), ((0, 1, 2), 0), ((1, 2, 5), 2), ((3, 0), 2)]
)
async def test_gaps_between_numbers_are_counted(
    store: Store, numbers: tuple[int, ...], missing: int
) -> None:
    for number in numbers:
        await store.write(lambda tx, n=number: sessions.append_event(tx, an_update(n)))
    assert await store.read(lambda tx: sessions.missing_numbers(tx, "CS1", TRANSACTION)) == missing


@given(order=st.permutations(range(6)), repeats=st.lists(st.integers(0, 5), max_size=6))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_order_with_any_repeats_stores_the_same_events(
    sqlite_url: str, order: list[int], repeats: list[int]
) -> None:
    # Without a loop of its own the function would share one store with the other examples.

    async def run() -> None:
        store = await Store.open(sqlite_url)
        name = f"tx {order} {repeats}"
        for number in (*order, *repeats):
            report = an_update(number, transaction_id=name)
            await store.write(lambda tx, r=report: sessions.append_event(tx, r))
        events = await store.read(lambda tx: sessions.events_of(tx, "CS1", name))
        assert [(e.seq_no, e.is_conflict) for e in events] == [(n, False) for n in range(6)]
        await store.close()

    asyncio.run(run())


async def test_a_stop_for_an_unknown_transaction_is_kept_once_as_an_orphan(
    store: Store,
) -> None:
    report = an_end(None, transaction_id="4711", version=OcppVersion.V16, payload='{"x":1}')
    assert await store.write(lambda tx: sessions.keep_orphan(tx, report))
    assert not await store.write(lambda tx: sessions.keep_orphan(tx, report))
    page = await store.read(lambda tx: sessions.list_orphans(tx, station_id="CS1"))
    assert [(o.transaction_id, o.payload) for o in page.items] == [("4711", '{"x":1}')]
    assert (await store.read(lambda tx: sessions.list_orphans(tx, station_id="X"))).total == 0


# --- changing ------------------------------------------------------------------------------------


async def test_saving_changes_what_a_report_changed(store: Store) -> None:
    opened = await store.write(lambda tx: sessions.open_session(tx, a_session()))
    changed = replace(
        opened,
        state=SessionState.ENDED,
        ended_at=later(7200),
        stop_reason="EVDisconnected",
        meter_last_wh=9000.0,
        energy_wh=8000.0,
        status=AuthorizationStatus.BLOCKED,
        id_token=None,
        holder_did="",
        soc=0.9,
        current_a=(),
        flags=("register_jump",),
        last_seq_no=12,
        site_id="elsewhere",
    )
    await store.write(lambda tx: sessions.save(tx, changed))
    assert await store.read(lambda tx: sessions.get(tx, "s1")) == changed
    assert await store.read(lambda tx: sessions.open_sessions_of_site(tx, "depot")) == []


async def test_of_several_saves_in_one_group_the_last_counts(store: Store) -> None:
    def open_all(tx: Tx) -> list[Session]:
        return [sessions.open_session(tx, a_session(f"s{n}")) for n in range(5)]

    opened = await store.write(open_all)

    def save_all(tx: Tx) -> None:
        for energy_wh in (1.0, 2.0, 3.0):
            for n, session in enumerate(opened):
                sessions.save(tx, replace(session, energy_wh=energy_wh + n))

    await store.write(save_all)
    found = [await store.read(lambda tx, n=n: sessions.get(tx, f"s{n}")) for n in range(5)]
    assert [session.energy_wh for session in found] == [3.0, 4.0, 5.0, 6.0, 7.0]


async def test_a_session_that_was_never_opened_cannot_be_saved(store: Store) -> None:
    with pytest.raises(UnknownSession):
        await store.write(lambda tx: sessions.save(tx, a_session(number=99)))


async def test_a_change_that_failed_is_not_remembered(store: Store) -> None:
    opened = await store.write(lambda tx: sessions.open_session(tx, a_session()))

    def fail(tx: Tx) -> None:
        sessions.save(tx, replace(opened, energy_wh=5.0))
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.write(fail)
    found = await store.write(
        lambda tx: sessions.by_transaction(tx, opened.station_id, opened.transaction_id)
    )
    assert found == opened


async def test_a_change_by_another_process_is_seen(database_url: str) -> None:
    one, other = await Store.open(database_url), await Store.open(database_url)
    opened = await one.write(lambda tx: sessions.open_session(tx, a_session()))
    changed = replace(opened, energy_wh=5.0, holder_did="did:example:other")
    await other.write(lambda tx: sessions.save(tx, changed))
    found = await one.write(
        lambda tx: sessions.by_transaction(tx, opened.station_id, opened.transaction_id)
    )
    assert found == changed
    await one.close()
    await other.close()


async def test_an_operator_can_close_a_session_once(store: Store) -> None:
    await store.write(lambda tx: sessions.open_session(tx, a_session()))
    closed = await store.write(
        lambda tx: sessions.close_session(tx, "s1", at=later(60), reason="operator")
    )
    assert (closed.state, closed.ended_at, closed.stop_reason) == (
        SessionState.ENDED,
        later(60),
        "operator",
    )
    with pytest.raises(Conflict):
        await store.write(
            lambda tx: sessions.close_session(tx, "s1", at=later(61), reason="operator")
        )
    with pytest.raises(UnknownSession):
        await store.write(
            lambda tx: sessions.close_session(tx, "nope", at=later(61), reason="operator")
        )


# --- finding -------------------------------------------------------------------------------------


async def test_open_sessions_are_found_by_site_holder_and_evse(store: Store) -> None:
    def fill(tx: Tx) -> None:
        sessions.open_session(tx, a_session("s1"))
        sessions.open_session(tx, a_session("s2", evse_id=2, holder_did="did:example:b"))
        sessions.open_session(tx, a_session("s3", site_id="other", station_id="CS2"))
        sessions.open_session(tx, a_session("s4", holder_did="", evse_id=3))
        sessions.close_session(tx, "s1", at=later(5), reason="")
        sessions.open_session(tx, a_session("s5"))

    await store.write(fill)

    def names(found: list[Session]) -> list[str]:
        return [session.session_id for session in found]

    of_site = await store.read(lambda tx: sessions.open_sessions_of_site(tx, "depot"))
    assert names(of_site) == ["s2", "s4", "s5"]
    of_holder = await store.read(
        lambda tx: sessions.open_sessions_of_holder(tx, "did:example:driver")
    )
    assert names(of_holder) == ["s3", "s5"]
    assert await store.read(lambda tx: sessions.open_sessions_of_holder(tx, "")) == []
    on_evse = await store.read(lambda tx: sessions.open_session_on_evse(tx, "CS1", 1))
    assert on_evse is not None
    assert on_evse.session_id == "s5"
    assert await store.read(lambda tx: sessions.open_session_on_evse(tx, "CS1", 9)) is None


async def test_finished_sessions_are_those_that_ended_in_the_interval(store: Store) -> None:
    def fill(tx: Tx) -> None:
        for number, minutes in enumerate((10, 20, 30, 40)):
            sessions.open_session(tx, a_session(f"s{number}"))
            sessions.close_session(
                tx, f"s{number}", at=NOON + timedelta(minutes=minutes), reason=""
            )
        sessions.open_session(tx, a_session("open"))

    await store.write(fill)
    found = await store.read(
        lambda tx: sessions.finished_sessions(tx, "depot", later(20 * 60), later(40 * 60))
    )
    assert [session.session_id for session in found] == ["s1", "s2"]


async def test_transactions_are_listed_newest_first_in_pages(store: Store) -> None:
    def fill(tx: Tx) -> None:
        for number in range(7):
            sessions.open_session(tx, a_session(f"s{number}"))
        sessions.open_session(
            tx, a_session("other", station_id="CS2", id_token=IdToken(value="FF"))
        )
        sessions.close_session(tx, "s3", at=later(1), reason="")

    await store.write(fill)
    seen: list[str] = []
    cursor = ""
    while True:
        page = await store.read(
            lambda tx, c=cursor: sessions.list_transactions(tx, station_id="CS1", limit=3, cursor=c)
        )
        assert page.total == 7
        seen += [session.session_id for session in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == [f"s{number}" for number in reversed(range(7))]


async def test_transactions_can_be_filtered(store: Store) -> None:
    def fill(tx: Tx) -> None:
        sessions.open_session(tx, a_session("s1"))
        sessions.open_session(tx, a_session("s2", id_token=IdToken(value="FF")))
        sessions.close_session(tx, "s1", at=later(1), reason="")

    await store.write(fill)

    async def listed(**filters: object) -> list[str]:
        page = await store.read(lambda tx: sessions.list_transactions(tx, **filters))
        assert page.total == len(page.items)
        return [session.session_id for session in page.items]

    assert await listed() == ["s2", "s1"]
    assert await listed(open_=True) == ["s2"]
    assert await listed(open_=False) == ["s1"]
    assert await listed(id_token="FF") == ["s2"]
    assert await listed(station_id="CS9") == []
    page = await store.read(
        lambda tx: sessions.list_sessions(
            tx, site_id="depot", holder_did="did:example:driver", state=SessionState.OPEN
        )
    )
    assert [session.session_id for session in page.items] == ["s2"]


@pytest.mark.parametrize("cursor", ["x", "-1", "1e3", "9" * 30, "²"])
async def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        await store.read(lambda tx: sessions.list_transactions(tx, cursor=cursor))
