"""Sites, stations, links, credentials, EVSEs, the inbox, and what was asked and said."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from csms.core.commands import CommandResult, Outcome
from csms.core.errors import Conflict, NotFound, UnknownSite, UnknownStation
from csms.core.messages import RecordReceived, StationBooted, StatusChanged, VendorMessage
from csms.core.model import (
    Event,
    Evse,
    LinkState,
    OcppVersion,
    StationLimits,
    Strategy,
)
from csms.store import commands, journal, links, removal, stations
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import NOON, a_site, a_station, add_station, later

T = TypeVar("T")


async def opened(store: Store, station_id: str = "CS1", seconds: float = 0.0) -> int:
    return await store.write(
        lambda tx: links.open_link(
            tx,
            station_id,
            version=OcppVersion.V16,
            remote_address="192.0.2.1",
            at=later(seconds),
        )
    )


async def station(store: Store, station_id: str = "CS1") -> Any:
    return await store.read(lambda tx: stations.get_station(tx, station_id))


async def both(store: Store, work: Callable[[Tx], T]) -> T:
    """Run a query on a reading and on the writing connection; they have to agree."""
    read = await store.read(work)
    assert await store.write(work) == read
    return read


# --- sites, stations -----------------------------------------------------------------------------


async def test_a_site_is_replaced_and_its_limit_changed(store: Store) -> None:
    site = a_site(strategy=Strategy.EQUAL_SHARE)
    await store.write(lambda tx: stations.upsert_site(tx, site))
    assert await both(store, lambda tx: stations.get_site(tx, "depot")) == site
    await store.write(lambda tx: stations.upsert_site(tx, replace(site, name="North")))
    assert await store.read(stations.list_sites) == [replace(site, name="North")]


async def test_an_operators_limit_outlives_a_restart_until_the_configuration_changes(
    store: Store,
) -> None:
    site = a_site()
    assert await store.write(lambda tx: stations.configure_site(tx, site))
    await store.write(lambda tx: stations.upsert_site(tx, replace(site, limit_kw=7.0)))
    assert not await store.write(lambda tx: stations.configure_site(tx, site))
    assert (await store.read(lambda tx: stations.get_site(tx, "depot"))).limit_kw == 7.0
    larger = replace(site, limit_kw=99.0)
    assert await store.write(lambda tx: stations.configure_site(tx, larger))
    assert (await store.read(lambda tx: stations.get_site(tx, "depot"))).limit_kw == 99.0


async def test_an_unknown_site_is_named(store: Store) -> None:
    with pytest.raises(UnknownSite, match="nowhere"):
        await store.read(lambda tx: stations.get_site(tx, "nowhere"))


async def test_a_registered_station_comes_back_as_it_was(store: Store) -> None:
    given = a_station(
        name="left",
        version=OcppVersion.V201,
        limits=StationLimits(units=("W", "A"), max_periods=24, step_a=1.0, source="read"),
        uid_byte_order_reversed=True,
    )
    await store.write(lambda tx: stations.upsert_site(tx, a_site()))
    await store.write(lambda tx: stations.register_station(tx, given, credential_hash="hash"))
    assert await station(store) == given
    assert await store.read(lambda tx: stations.list_stations(tx, site_id="depot")) == [given]
    assert await store.read(lambda tx: stations.list_stations(tx, site_id="other")) == []


@pytest.mark.parametrize(("stored", "other"), [("CS1", "cs1"), ("Straße", "STRASSE")])
async def test_a_station_id_exists_once_in_any_case(store: Store, stored: str, other: str) -> None:
    await store.write(lambda tx: add_station(tx, stored))
    assert (await station(store, other)).station_id == stored
    with pytest.raises(Conflict, match=stored):
        await store.write(lambda tx: stations.register_station(tx, a_station(other)))


async def test_a_station_needs_a_site_that_exists(store: Store) -> None:
    with pytest.raises(UnknownSite):
        await store.write(lambda tx: stations.register_station(tx, a_station()))


async def test_the_site_of_a_station_is_found(store: Store) -> None:
    await store.write(add_station)
    assert await both(store, lambda tx: stations.site_of_station(tx, "CS1")) == a_site()
    assert await both(store, lambda tx: stations.site_id_of_station(tx, "CS1")) == "depot"
    assert await both(store, lambda tx: stations.site_id_of_station(tx, "CS2")) == ""
    with pytest.raises(UnknownStation):
        await store.read(lambda tx: stations.site_of_station(tx, "CS2"))


async def test_a_boot_is_stored(store: Store) -> None:
    await store.write(add_station)
    report = StationBooted(
        station_id="CS1",
        received_at=NOON,
        version=OcppVersion.V16,
        vendor="Example",
        model="Two",
        serial_number="7",
        firmware_version="1.2",
    )
    booted = await store.write(lambda tx: stations.boot(tx, report))
    assert (booted.vendor, booted.model, booted.serial_number) == ("Example", "Two", "7")
    assert (booted.booted_at, booted.last_seen_at, booted.version) == (NOON, NOON, "1.6")
    with pytest.raises(UnknownStation):
        await store.write(lambda tx: stations.boot(tx, replace(report, station_id="CS2")))


async def test_what_operators_set_is_stored(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx)
        stations.upsert_site(tx, a_site(site_id="other"))
        stations.set_registration(tx, "CS1", "Pending")
        stations.set_automation(tx, "CS1", automation=False)
        stations.set_limits(tx, "CS1", StationLimits(units=("W",), max_periods=2))
        stations.set_details(tx, "CS1", name="gate", site_id="other", security_profile=2)
        stations.seen(tx, "CS1", later(9))
        stations.seen(tx, "unknown", later(9))

    await store.write(change)
    found = await station(store)
    assert (found.registration, found.automation, found.name) == ("Pending", False, "gate")
    assert (found.site_id, found.security_profile) == ("other", 2)
    assert found.limits == StationLimits(units=("W",), max_periods=2)
    assert found.last_seen_at == later(9)
    assert found.heartbeat_interval_s == 300


async def test_removing_a_station_takes_its_evses(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx)
        stations.upsert_evse(tx, Evse(station_id="CS1", evse_id=1, max_kw=11.0))
        removal.remove_station(tx, "CS1")

    await store.write(change)
    assert await store.read(lambda tx: stations.find_station(tx, "CS1")) is None
    assert await store.read(lambda tx: stations.evses_of_site(tx, "depot")) == []
    with pytest.raises(UnknownStation):
        await store.write(lambda tx: removal.remove_station(tx, "CS1"))


# --- links ---------------------------------------------------------------------------------------


async def test_link_ids_rise_over_all_stations(store: Store) -> None:
    await store.write(lambda tx: add_station(tx, "CS1", "CS2"))
    ids = [await opened(store, name) for name in ("CS1", "CS2", "CS1", "CS2")]
    assert ids == sorted(set(ids))
    assert (await station(store)).link_id == ids[2]


async def test_a_link_puts_its_station_online_and_its_end_offline(store: Store) -> None:
    await store.write(add_station)
    link_id = await opened(store)
    assert (await station(store)).link_state is LinkState.ONLINE
    assert await store.write(
        lambda tx: links.close_link(tx, "CS1", link_id, at=later(5), reason="gone")
    )
    found = await station(store)
    assert (found.link_state, found.linked_at) == (LinkState.OFFLINE, NOON)
    (link,) = await store.read(lambda tx: links.list_links(tx, "CS1"))
    assert (link.closed_at, link.close_reason) == (later(5), "gone")


async def test_the_late_end_of_an_old_link_changes_nothing(store: Store) -> None:
    await store.write(add_station)
    old = await opened(store)
    new = await opened(store, seconds=1)
    assert not await store.write(
        lambda tx: links.close_link(tx, "CS1", old, at=later(2), reason="late")
    )
    found = await station(store)
    assert (found.link_state, found.link_id) == (LinkState.ONLINE, new)


async def test_a_station_cannot_close_the_link_of_another(store: Store) -> None:
    await store.write(lambda tx: add_station(tx, "CS1", "CS2"))
    link_id = await opened(store)
    assert not await store.write(
        lambda tx: links.close_link(tx, "CS2", link_id, at=later(2), reason="")
    )
    assert (await station(store)).link_state is LinkState.ONLINE
    (link,) = await store.read(lambda tx: links.list_links(tx, "CS1"))
    assert link.closed_at is None


async def test_an_unregistered_station_gets_no_link(store: Store) -> None:
    with pytest.raises(UnknownStation):
        await opened(store)
    assert await store.read(lambda tx: links.list_links(tx, "CS1")) == []


async def test_a_restart_closes_what_a_crash_left_open(store: Store) -> None:
    await store.write(lambda tx: add_station(tx, "CS1", "CS2"))
    await opened(store, "CS1")
    await opened(store, "CS2")
    closed = await store.write(lambda tx: links.close_all_links(tx, at=later(9), reason="x"))
    assert closed == 2
    assert (await station(store, "CS2")).link_state is LinkState.OFFLINE
    assert await store.write(lambda tx: links.purge_links(tx, before=later(10))) == 2


# --- credentials, inbox --------------------------------------------------------------------------


async def test_a_pending_credential_becomes_the_one_in_force_when_used(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx)
        links.set_credential(tx, "CS1", "old")
        for pending in ("older", "new", "newer"):
            links.add_pending_credential(tx, "CS1", pending)

    await store.write(change)
    both_hashes = await store.read(lambda tx: links.get_credential(tx, "CS1"))
    assert both_hashes.credential_hash == "old"
    assert both_hashes.pending_hashes == ("older", "new", "newer")
    assert not await store.write(lambda tx: links.confirm_credential(tx, "CS1", "stale"))
    assert not await store.write(lambda tx: links.confirm_credential(tx, "CS1", ""))
    assert await store.write(lambda tx: links.confirm_credential(tx, "CS1", "new"))
    now = await store.read(lambda tx: links.get_credential(tx, "CS1"))
    assert (now.credential_hash, now.pending_hashes) == ("new", ("newer",))
    assert await store.write(lambda tx: links.confirm_credential(tx, "CS1", "newer"))
    assert not await store.write(lambda tx: links.confirm_credential(tx, "CS1", "older"))
    now = await store.read(lambda tx: links.get_credential(tx, "CS1"))
    assert (now.credential_hash, now.pending_hashes) == ("newer", ())


async def test_a_refused_pending_credential_is_forgotten(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx)
        links.set_credential(tx, "CS1", "old")
        links.add_pending_credential(tx, "CS1", "new")
        links.drop_pending_credential(tx, "CS1", "new")

    await store.write(change)
    found = await store.read(lambda tx: links.get_credential(tx, "CS1"))
    assert (found.credential_hash, found.pending_hashes) == ("old", ())
    with pytest.raises(UnknownStation):
        await store.write(lambda tx: links.set_credential(tx, "CS2", "x"))
    with pytest.raises(UnknownStation):
        await store.read(lambda tx: links.get_credential(tx, "CS2"))


async def test_unknown_stations_are_counted_and_the_oldest_leave_the_inbox(
    store: Store,
) -> None:
    def knock(tx: Tx, number: int) -> None:
        links.note_unknown_station(
            tx, f"X{number:03}", remote_address="192.0.2.9", at=later(number)
        )

    for number in range(120):
        await store.write(lambda tx, n=number: knock(tx, n))
    await store.write(
        lambda tx: links.note_unknown_station(tx, "X119", remote_address="192.0.2.8", at=later(500))
    )
    inbox = await store.read(links.list_unknown_stations)
    assert [seen.station_id for seen in inbox] == [f"X{n:03}" for n in range(119, 19, -1)]
    newest = inbox[0]
    assert (newest.attempts, newest.remote_address) == (2, "192.0.2.8")
    assert (newest.first_at, newest.last_at) == (later(119), later(500))
    assert await store.write(lambda tx: links.forget_unknown_station(tx, "X119"))
    assert not await store.write(lambda tx: links.forget_unknown_station(tx, "X119"))


# --- EVSEs, configuration ------------------------------------------------------------------------


def status(evse_id: int = 1, word: str = "Charging", seconds: float = 0.0) -> StatusChanged:
    return StatusChanged(
        station_id="CS1",
        received_at=later(seconds),
        at=later(seconds),
        evse_id=evse_id,
        connector_id=1,
        status=word,
    )


async def test_an_evse_is_made_at_its_first_status_and_keeps_its_limits_after(
    store: Store,
) -> None:
    default = Evse(station_id="", evse_id=0, max_kw=22.0, phases=3)
    await store.write(add_station)
    made = await store.write(lambda tx: stations.set_status(tx, status(), default=default))
    assert (made.station_id, made.evse_id, made.max_kw) == ("CS1", 1, 22.0)
    await store.write(lambda tx: stations.set_guard_kw(tx, "CS1", 1, 3.7))
    other = replace(default, max_kw=50.0)
    again = await store.write(
        lambda tx: stations.set_status(tx, status(word="Available", seconds=5), default=other)
    )
    assert (again.status, again.status_at) == ("Available", later(5))
    assert (again.max_kw, again.guard_kw) == (22.0, 3.7)
    assert await both(store, lambda tx: stations.get_evse(tx, "CS1", 1)) == again


async def test_evse_0_is_the_station_and_not_among_its_evses(store: Store) -> None:
    default = Evse(station_id="", evse_id=0, max_kw=22.0)

    def change(tx: Tx) -> None:
        add_station(tx, "CS1", "CS2")
        for evse_id in (2, 0, 1):
            stations.set_status(tx, status(evse_id), default=default)
        stations.upsert_evse(tx, Evse(station_id="CS2", evse_id=1, max_kw=11.0))

    await store.write(change)
    of_station = await store.read(lambda tx: stations.evses_of_station(tx, "CS1"))
    assert [evse.evse_id for evse in of_station] == [1, 2]
    of_site = await store.read(lambda tx: stations.evses_of_site(tx, "depot"))
    assert [(e.station_id, e.evse_id) for e in of_site] == [("CS1", 1), ("CS1", 2), ("CS2", 1)]
    with pytest.raises(NotFound):
        await store.write(lambda tx: stations.set_guard_kw(tx, "CS1", 9, 1.0))


# --- commands, records, vendor data, events ------------------------------------------------------


async def test_a_command_is_stored_before_and_after_it_is_sent(store: Store) -> None:
    command_id = await store.write(
        lambda tx: commands.insert_command(
            tx, "CS1", kind="Reset", payload='{"type":"Hard"}', asked_by="operator", at=NOON
        )
    )
    pending = await store.read(lambda tx: commands.get_command(tx, command_id))
    assert (pending.outcome, pending.finished_at) == (None, None)
    result = CommandResult(
        outcome=Outcome.CALL_ERROR,
        error_code="NotSupported",
        error_description="no",
        answer={"é": [1]},
        status="Rejected",
    )
    await store.write(lambda tx: commands.finish_command(tx, command_id, result, at=later(2)))
    done = await store.read(lambda tx: commands.get_command(tx, command_id))
    assert (done.outcome, done.status, done.error) == (
        Outcome.CALL_ERROR,
        "Rejected",
        "NotSupported no",
    )
    assert (done.answer, done.payload, done.finished_at) == (
        '{"é":[1]}',
        '{"type":"Hard"}',
        later(2),
    )
    with pytest.raises(NotFound):
        await store.write(lambda tx: commands.finish_command(tx, 999, result, at=NOON))


async def test_commands_are_listed_newest_first_by_station_and_kind(store: Store) -> None:
    def change(tx: Tx) -> None:
        for station_id, kind in (("CS1", "Reset"), ("CS2", "Reset"), ("CS1", "Unlock")):
            commands.insert_command(tx, station_id, kind=kind, payload="{}", asked_by="", at=NOON)

    await store.write(change)

    async def kinds(**filters: str) -> list[str]:
        page = await store.read(lambda tx: commands.list_commands(tx, **filters))
        return [command.kind for command in page.items]

    assert await kinds() == ["Unlock", "Reset", "Reset"]
    assert await kinds(station_id="CS1") == ["Unlock", "Reset"]
    assert await kinds(station_id="CS1", kind="Reset") == ["Reset"]


async def test_messages_and_vendor_data_are_kept_as_they_came(store: Store) -> None:
    record = RecordReceived(
        station_id="CS1",
        received_at=NOON,
        version=OcppVersion.V201,
        action="NotifyEvent",
        payload='{"a": 1}',
    )
    vendor = VendorMessage(
        station_id="CS1", received_at=NOON, vendor_id="com.example", message_id="m", data=None
    )

    def change(tx: Tx) -> None:
        journal.add_record(tx, record)
        journal.add_record(tx, replace(record, action="NotifyReport"))
        journal.add_vendor_message(tx, vendor, status="UnknownVendorId")

    await store.write(change)
    page = await store.read(lambda tx: journal.list_records(tx, action="NotifyEvent"))
    assert [(r.payload, r.at, r.version) for r in page.items] == [('{"a": 1}', NOON, "2.0.1")]
    both_records = await store.read(lambda tx: journal.list_records(tx, station_id="CS1"))
    assert both_records.total == 2
    messages = await store.read(
        lambda tx: journal.list_vendor_messages(tx, station_id="CS1", vendor_id="com.example")
    )
    assert [(m.status, m.data) for m in messages.items] == [("UnknownVendorId", None)]


async def test_events_are_found_by_what_they_are_about_and_purged_by_age(
    store: Store,
) -> None:
    def change(tx: Tx) -> None:
        journal.add_event(
            tx,
            Event(at=NOON, kind="conflict", level="warning", site_id="depot", detail={"n": [1]}),
        )
        journal.add_event(tx, Event(at=later(60), kind="boot", station_id="CS1"))

    await store.write(change)
    page = await store.read(
        lambda tx: journal.list_events(tx, site_id="depot", level="warning", kind="conflict")
    )
    assert [found.event.detail for found in page.items] == [{"n": [1]}]
    assert (await store.read(journal.list_events)).total == 2
    purged = await store.write(
        lambda tx: journal.purge_journal(tx, before=NOON + timedelta(seconds=1))
    )
    assert purged == 1
    left = await store.read(journal.list_events)
    assert [found.event.kind for found in left.items] == ["boot"]
