"""What stations keep for us: reservations, local lists, messages shown, commands that wait."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from csms.core.commands import CommandResult, Outcome
from csms.core.errors import NotFound
from csms.core.local_list import ListEntry, ListLimits
from csms.core.model import AuthorizationStatus, IdToken
from csms.core.reservation import Reservation, ReservationState
from csms.store import commands, display_messages, local_lists, reservations
from csms.store.database import Store
from csms.store.display_messages import DisplayMessage
from csms.store.local_lists import LocalList

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ASKED = Reservation(
    station_id="A",
    reservation_id=7,
    evse_id=1,
    id_token=IdToken(value="04AA", kind="ISO14443"),
    group="ZG1",
    expires_at=NOW + HOUR,
    asked_at=NOW,
    changed_at=NOW,
)


async def test_a_reservation_is_kept_by_station_and_id(store: Store) -> None:
    other = replace(ASKED, station_id="B", evse_id=None)
    await store.write(lambda tx: [reservations.keep(tx, r) for r in (ASKED, other, ASKED)])
    assert await store.read(lambda tx: reservations.find(tx, "A", 7)) == ASKED
    assert await store.read(lambda tx: reservations.get(tx, 7)) == other, "the newest"
    assert await store.read(reservations.next_id) == 8
    page = await store.read(lambda tx: reservations.list_reservations(tx, limit=1))
    assert (page.total, page.items) == (2, (other,))
    with pytest.raises(NotFound):
        await store.read(lambda tx: reservations.get(tx, 8))


async def test_a_reservation_ends_once(store: Store) -> None:
    await store.write(lambda tx: reservations.keep(tx, ASKED))
    await store.write(
        lambda tx: reservations.change(
            tx, ASKED, ReservationState.USED, at=NOW, reason="", session_id="s1"
        )
    )
    assert await store.write(lambda tx: reservations.expire(tx, now=NOW + 2 * HOUR)) == 0
    found = await store.read(lambda tx: reservations.get(tx, 7, station_id="A"))
    assert (found.state, found.session_id, found.is_open) == (ReservationState.USED, "s1", False)
    assert await store.read(lambda tx: reservations.open_of_station(tx, "A")) == []


async def test_reservations_expire_by_the_clock(store: Store) -> None:
    later = replace(ASKED, reservation_id=8, expires_at=NOW + 3 * HOUR)
    await store.write(lambda tx: [reservations.keep(tx, r) for r in (ASKED, later)])
    assert await store.write(lambda tx: reservations.expire(tx, now=NOW + HOUR)) == 1
    assert await store.read(lambda tx: reservations.open_of_station(tx, "A")) == [later]


async def test_a_local_list_is_replaced_whole_or_changed(store: Store) -> None:
    first = ListEntry(value="04AA", kind="ISO14443", expires_at=NOW + HOUR, group="ZG1")
    second = ListEntry(value="Z1", kind="Central", status=AuthorizationStatus.BLOCKED)
    known = LocalList(
        station_id="A",
        version=3,
        is_ours=True,
        state="in step",
        limits=ListLimits(max_entries=9),
        checked_at=NOW,
    )
    await store.write(lambda tx: local_lists.keep(tx, known))
    await store.write(lambda tx: local_lists.put_entries(tx, "A", [first, second], is_full=True))
    assert await store.read(lambda tx: local_lists.find(tx, "A")) == known
    held = await store.read(lambda tx: local_lists.entries(tx, "A"))
    assert held == {first.key: first, second.key: second}
    changed = replace(first, group="")
    await store.write(lambda tx: local_lists.put_entries(tx, "A", [changed], removed=[second]))
    assert await store.read(lambda tx: local_lists.entries(tx, "A")) == {first.key: changed}
    await store.write(lambda tx: local_lists.put_entries(tx, "A", [second], is_full=True))
    assert await store.read(lambda tx: local_lists.entries(tx, "A")) == {second.key: second}
    assert await store.read(lambda tx: local_lists.entries(tx, "B")) == {}


async def test_messages_shown_are_kept_by_station_and_id(store: Store) -> None:
    message = DisplayMessage(
        station_id="A", message_id=1, payload=json.dumps({"id": 1}), set_at=NOW
    )
    new = replace(message, payload="{}")
    await store.write(lambda tx: [display_messages.keep(tx, m) for m in (message, new)])
    assert await store.read(lambda tx: display_messages.of_station(tx, "A")) == [new]
    await store.write(lambda tx: display_messages.remove(tx, "A", 1))
    assert await store.read(lambda tx: display_messages.of_station(tx, "A")) == []


async def test_a_command_waits_is_taken_once_and_can_be_put_back(store: Store) -> None:
    async def ask(kind: str, hours: int) -> int:
        return await store.write(
            lambda tx: commands.insert_command(
                tx,
                "A",
                kind=kind,
                payload="{}",
                asked_by="op",
                at=NOW,
                expires_at=NOW + hours * HOUR,
            )
        )

    first, second = await ask("ClearCache", 1), await ask("Reset", 2)
    waiting = await store.read(lambda tx: commands.waiting_commands(tx, "A", now=NOW))
    assert [c.command_id for c in waiting] == [first, second]
    assert await store.write(lambda tx: commands.take_waiting(tx, first, now=NOW))
    assert not await store.write(lambda tx: commands.take_waiting(tx, first, now=NOW))
    await store.write(lambda tx: commands.put_back(tx, first))
    late = NOW + timedelta(minutes=90)
    assert not await store.write(lambda tx: commands.take_waiting(tx, first, now=late))
    (over,) = await store.write(lambda tx: commands.expire_waiting(tx, now=late))
    assert over.command_id == first
    assert not await store.write(lambda tx: commands.cancel_waiting(tx, first, at=late))
    assert await store.write(lambda tx: commands.cancel_waiting(tx, second, at=late))
    found = [await store.read(lambda tx, n=n: commands.get_command(tx, n)) for n in (first, second)]  # type: ignore[misc]
    assert [c.outcome for c in found] == [Outcome.EXPIRED, Outcome.CANCELLED]


async def test_that_it_was_sent_never_takes_the_place_of_an_answer(store: Store) -> None:
    command_id = await store.write(
        lambda tx: commands.insert_command(
            tx, "A", kind="Reset", payload="{}", asked_by="op", at=NOW
        )
    )
    for outcome in (Outcome.ACCEPTED, Outcome.SENT):
        result = CommandResult(outcome=outcome)
        await store.write(
            lambda tx, r=result: commands.finish_command(tx, command_id, r, at=NOW)  # type: ignore[misc]
        )
    found = await store.read(lambda tx: commands.get_command(tx, command_id))
    assert found.outcome is Outcome.ACCEPTED
