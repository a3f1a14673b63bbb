"""What is kept for a time goes when its time is over, and what is billed never goes."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from csms.core.commands import CommandResult, Outcome
from csms.core.device import Kind
from csms.core.messages import MeterReported
from csms.core.model import AuthorizationStatus, Event, OcppVersion, Price
from csms.service.housekeeping import Housekeeping
from csms.service.offers import OfferBook
from csms.settings import RetentionSettings
from csms.store import (
    access,
    alerts,
    boots,
    bulks,
    certificates,
    commands,
    details,
    journal,
    links,
    plans,
    purging,
    remote_starts,
    requests,
    samples,
    series,
    sessions,
)
from csms.store.access import Decision, KeptResponse
from csms.store.boots import Boot
from csms.store.database import Store
from csms.store.detail_tables import remote_start
from csms.store.statements import Tx
from tests.service.field import NOW, HandClock
from tests.store.test_plans import a_case, a_plan, installed
from tests.store.values import TRANSACTION, a_sample, a_session, add_station, an_update

DEFAULT = RetentionSettings()


def housekeeping(
    store: Store, retention: RetentionSettings = DEFAULT, *, at: datetime = NOW
) -> Housekeeping:
    """Return the jobs at a clock that stands at `at`."""
    clock = HandClock(at)
    return Housekeeping(
        store=store,
        clock=clock,
        touch=lambda site_id, why: None,
        offers=OfferBook(store=store, clock=clock),
        retention=retention,
    )


def decided(tx: Tx, at: datetime) -> None:
    access.add_decision(
        tx,
        Decision(
            at=at,
            station_id="CS1",
            token_hint="~1",
            status=AuthorizationStatus.ACCEPTED,
            reason="",
        ),
    )


def answered(tx: Tx, at: datetime) -> None:
    answer = KeptResponse(request_hash="a", status_code=201, response="{}", at=at)
    access.keep_response(tx, f"key {at}", answer)


def planned(tx: Tx, at: datetime) -> None:
    plans.insert_plan(tx, a_case(), a_plan(made_at=at), why="", cpu_s=0.0)


def scheduled(tx: Tx, at: datetime) -> None:
    plans.insert_installed(tx, installed(sent_at=at))


def happened(tx: Tx, at: datetime) -> None:
    journal.add_event(tx, Event(at=at, kind="boot", station_id="CS1"))


def priced(tx: Tx, at: datetime) -> None:
    price = Price(starts_at=at, until=at + timedelta(hours=1), eur_per_kwh=0.3)
    series.upsert_prices(tx, "default", [price])


def foreseen(tx: Tx, at: datetime) -> None:
    series.insert_forecast(tx, "depot", kind="load", made_at=at, body="{}")


def connected(tx: Tx, at: datetime) -> None:
    link_id = links.open_link(tx, "CS1", version=OcppVersion.V16, remote_address="192.0.2.1", at=at)
    links.close_link(tx, "CS1", link_id, at=at, reason="")


def booted(tx: Tx, at: datetime) -> None:
    boots.add_boot(tx, "CS1", Boot(at=at, reason="", firmware_version="1.0", status="Accepted"))


def alerted(tx: Tx, at: datetime) -> None:
    place = {"station_id": "CS1", "subject": "Connector.Problem"}
    alerts.open_alert(tx, site_id="depot", at=at, **place)
    alerts.close_alert(tx, at=at, **place)


def threatened(tx: Tx, at: datetime) -> None:
    told = {"version": OcppVersion.V16, "kind": "Tampered", "tech_info": ""}
    certificates.add_security_event(tx, "CS1", at=at, received_at=at, **told)


def commanded(tx: Tx, at: datetime, *, kind: str = "Reset", station_id: str = "CS1") -> int:
    number = commands.insert_command(tx, station_id, kind=kind, payload="{}", asked_by="t", at=at)
    commands.finish_command(tx, number, CommandResult(outcome=Outcome.ACCEPTED), at=at)
    return number


def started(tx: Tx, at: datetime) -> None:
    number = int(at.timestamp())
    remote_starts.add(tx, number, "CS1", evse_id=1, id_token="A", remote_start_id=None, at=at)
    mine = remote_start.c.command_id == number
    values = {"state": remote_starts.REFUSED, "settled_at": at}
    tx.execute(update(remote_start).where(mine).values(values))


def reported(tx: Tx, at: datetime) -> None:
    made = requests.add_request(tx, "CS1", Kind.REPORT, detail={}, by="t", at=at)
    requests.change_request(tx, made.request_key, state="done", finished_at=at)


def ordered(tx: Tx, at: datetime) -> None:
    number = bulks.add_bulk(
        tx,
        kind="command",
        action="Reset",
        payload="{}",
        options={},
        at_once=1,
        stop_after_failures=0,
        station_ids=("CS1",),
        by="t",
        at=at,
    )
    bulks.finish_bulk(tx, number, "done", options={}, payload="", at=at)


def metered(tx: Tx, at: datetime) -> None:
    samples.append_meter(tx, "CS1", 0, [replace(a_sample(0, energy_wh=1.0), at=at)])


def metered_message(tx: Tx, at: datetime) -> None:
    payload = json.dumps({"at": str(at)})
    report = MeterReported(station_id="CS1", received_at=at, evse_id=0, samples=(), payload=payload)
    details.keep_meter_message(tx, report)


async def test_an_alert_that_is_open_stays(store: Store) -> None:
    def change(tx: Tx) -> None:
        add_station(tx, "CS1")
        alerts.open_alert(tx, site_id="depot", station_id="CS1", subject="Boot.Loop", at=NOW)

    await store.write(change)
    assert (await housekeeping(store, at=NOW + timedelta(days=10_000)).purge())["alerts"] == 0
    assert len((await store.read(lambda tx: alerts.list_alerts(tx))).items) == 1


@pytest.mark.parametrize(
    ("kind", "days", "keep"),
    [
        ("decisions", 30.0, decided),
        ("answers", DEFAULT.answers_days, answered),
        ("plans", DEFAULT.plans_days, planned),
        ("schedules", DEFAULT.plans_days, scheduled),
        ("journal", DEFAULT.journal_days, happened),
        ("series", DEFAULT.series_days, priced),
        ("forecasts", DEFAULT.forecasts_days, foreseen),
        ("links", DEFAULT.links_days, connected),
        ("boots", DEFAULT.devices_days, booted),
        ("security events", DEFAULT.security_days, threatened),
        ("meter values", DEFAULT.meters_days, metered),
        ("meter messages", DEFAULT.meters_days, metered_message),
        ("commands", DEFAULT.commands_days, commanded),
        ("remote starts", DEFAULT.commands_days, started),
        ("requests", DEFAULT.commands_days, reported),
        ("orders", DEFAULT.commands_days, ordered),
        ("alerts", DEFAULT.devices_days, alerted),
    ],
)
async def test_each_kind_goes_when_its_time_is_over(
    store: Store, kind: str, days: float, keep: Callable[[Tx, datetime], None]
) -> None:
    kept = timedelta(days=days)
    hour = timedelta(hours=1)

    def change(tx: Tx) -> None:
        add_station(tx, "CS1")
        for at in (NOW - kept - hour, NOW - kept + hour, NOW):
            keep(tx, at)

    await store.write(change)
    jobs = housekeeping(store)
    first = await jobs.purge()
    # An order goes with its one part.
    gone = 2 if kind == "orders" else 1
    assert {name: rows for name, rows in first.items() if rows} == {kind: gone}
    assert not any((await jobs.purge()).values())


async def test_sessions_with_messages_and_samples_are_never_purged(store: Store) -> None:
    def change(tx: Tx) -> None:
        session = sessions.open_session(tx, a_session("s1", transaction_id=TRANSACTION))
        sessions.append_event(tx, an_update(0))
        samples.append_samples(tx, session, [a_sample(0, energy_wh=1.0)])

    await store.write(change)
    await housekeeping(store, at=NOW + timedelta(days=10_000)).purge()
    found = await store.read(lambda tx: sessions.get(tx, "s1"))
    assert await store.read(lambda tx: samples.samples(tx, "s1"))
    assert await store.read(
        lambda tx: sessions.events_of(tx, found.station_id, found.transaction_id)
    )


async def test_what_is_open_and_the_guards_of_a_station_stay(store: Store) -> None:
    def change(tx: Tx) -> list[int]:
        add_station(tx, "CS1")
        asked = {"payload": "{}", "asked_by": "t", "at": NOW}
        requests.add_request(tx, "CS1", Kind.REPORT, detail={}, by="t", at=NOW)
        with_file = requests.add_request(tx, "CS1", Kind.LOG, detail={}, by="t", at=NOW)
        requests.change_request(
            tx, with_file.request_key, state="done", finished_at=NOW, file_path="1-log"
        )
        commanded(tx, NOW, kind="SetGuard", station_id="gone")
        return [
            commands.insert_command(tx, "CS1", kind="Reset", **asked),
            commands.insert_command(
                tx, "CS1", kind="Reset", expires_at=NOW + timedelta(days=1), **asked
            ),
            commanded(tx, NOW, kind="SetGuard"),
        ]

    stay = await store.write(change)
    purged = await housekeeping(store, at=NOW + timedelta(days=10_000)).purge()
    assert {name: rows for name, rows in purged.items() if rows} == {"commands": 1}
    page = await store.read(lambda tx: commands.list_commands(tx))
    assert sorted(c.command_id for c in page.items) == stay
    assert len((await store.read(lambda tx: requests.list_requests(tx))).items) == 2


async def test_much_that_is_old_goes_a_batch_at_a_time(store: Store) -> None:
    many = 2 * purging.BATCH + 1

    def change(tx: Tx) -> None:
        for hour in range(many):
            happened(tx, NOW)
            priced(tx, NOW + timedelta(hours=hour))

    await store.write(change)
    late = NOW + timedelta(days=10_000)
    first = await store.write(lambda tx: journal.purge_journal(tx, before=late))
    assert first == purging.BATCH
    purged = await housekeeping(store, at=late).purge()
    assert (purged["journal"], purged["series"]) == (many - first, many)


async def test_the_configuration_says_how_long(store: Store) -> None:
    await store.write(lambda tx: happened(tx, NOW - timedelta(days=8)))
    assert (await housekeeping(store).purge())["journal"] == 0
    week = housekeeping(store, RetentionSettings(journal_days=7.0))
    assert (await week.purge())["journal"] == 1
