"""The oracle finds what was injected, and nothing in a store that holds what was said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulators.battery import Vehicle
from simulators.clock import SimClock, parse_iso
from simulators.journal import Journal
from simulators.oracle import Record, check, journal_lines, records
from simulators.simulated import SimulatedStation
from tests.simulators.centre import Centre

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
VERSIONS = pytest.mark.parametrize("version", ["1.6", "2.0.1"])


async def a_run(version: str, path: Path) -> list[Record]:
    clock = SimClock(start=START, speed=600)
    async with (
        Centre() as centre,
        SimulatedStation(
            centre.url, "CP1", version=version, clock=clock, journal=path / "CP1.journal"
        ) as station,
    ):
        await station.boot()
        await station.plug_in(1, Vehicle(), soc=0.2)
        await station.start(1, "T1")
        action = "MeterValues" if version == "1.6" else "TransactionEvent"
        await centre.until(lambda: len(centre.of(action)) >= 4)
        station.cut()
        await station.clock.sleep(300)
        await station.reconnect()
        await station.stop(1)
        await station.drained()
    return records(journal_lines(path))


def store(found: list[Record]) -> list[dict[str, Any]]:
    return [
        {
            "station_id": r.station_id,
            "kind": r.kind,
            "transaction_id": r.transaction_id,
            "seq_no": r.seq_no,
            "evse_id": r.evse_id,
            "at": r.at,
            "register_wh": r.register_wh,
            "digest": r.digest,
        }
        for r in found
    ]


@VERSIONS
async def test_a_store_that_holds_what_was_said_is_clean(version: str, tmp_path: Path) -> None:
    found = await a_run(version, tmp_path)
    assert len(found) >= 6
    assert all(r.is_answered for r in found)
    verdict = check(found, store(found))
    assert verdict.is_clean
    assert verdict.answered == len(found)


@VERSIONS
async def test_what_is_lost_doubled_phantom_or_changed_is_named(
    version: str, tmp_path: Path
) -> None:
    found = await a_run(version, tmp_path)
    rows = store(found)
    for n in range(len(rows)):
        lost = check(found, rows[:n] + rows[n + 1 :])
        assert len(lost.lost) == 1
        assert not lost.doubled
        doubled = check(found, [*rows, rows[n]])
        assert len(doubled.doubled) == 1
        assert not doubled.lost
        if rows[n]["register_wh"] is not None:
            other = rows[n] | {"register_wh": rows[n]["register_wh"] + 50}
            assert len(check(found, [*rows[:n], other, *rows[n + 1 :]]).changed) == 1
        phantom = rows[n] | {"station_id": "CP9"}
        assert len(check(found, [*rows, phantom]).phantom) == 1


@VERSIONS
async def test_a_wrong_energy_and_a_session_left_open_are_named(
    version: str, tmp_path: Path
) -> None:
    found = await a_run(version, tmp_path)
    rows = store(found)
    stop = next(r for r in found if r.kind == "stop")
    start = next(r for r in found if r.kind == "start")
    assert stop.register_wh is not None
    assert start.register_wh is not None
    session: dict[str, Any] = {
        "station_id": "CP1",
        "transaction_id": stop.transaction_id,
        "energy_wh": stop.register_wh - start.register_wh,
        "ended_at": stop.at,
    }
    late = stop.at + timedelta(seconds=301)
    assert check(found, rows, sessions=[session], now=late).is_clean
    wrong = session | {"energy_wh": session["energy_wh"] + 10}
    assert "energy_wh" in check(found, rows, sessions=[wrong]).doubled[0]
    assert check(found, rows, sessions=[session, session]).doubled
    still_open = session | {"ended_at": None}
    assert check(found, rows, sessions=[still_open], now=late).stuck
    assert not check(found, rows, sessions=[still_open], now=stop.at).stuck


def said(journal: Journal, message_id: str, link: int, number: int) -> None:
    payload = {"transactionId": number, "meterStop": 5, "timestamp": "2026-03-01T08:00:00Z"}
    journal.sent([2, message_id, "StopTransaction", payload], link=link)


def test_a_repeat_is_one_record_and_an_unanswered_one_may_be_stored_or_not() -> None:
    journal = Journal(station_id="CP1", version="1.6", now=lambda: START)
    said(journal, "1", 1, 7)
    found = records(journal.lines)
    assert [(r.attempts, r.is_answered) for r in found] == [(1, False)]
    assert check(found, []).is_clean
    assert check(found, store(found)).is_clean
    said(journal, "1", 2, 7)
    journal.got([3, "1", {}], link=2)
    found = records(journal.lines)
    assert [(r.attempts, r.is_answered) for r in found] == [(2, True)]
    assert check(found, []).lost


def test_a_dropped_record_is_told_apart_from_a_lost_one() -> None:
    journal = Journal(station_id="CP1", version="1.6", now=lambda: START)
    payload = {"transactionId": 1, "meterStop": 5, "timestamp": "2026-03-01T08:00:00Z"}
    journal.sent([2, "1", "StopTransaction", payload], link=1)
    journal.dropped("StopTransaction", payload)
    verdict = check(records(journal.lines), [])
    assert verdict.is_clean
    assert len(verdict.dropped) == 1


def test_a_torn_last_line_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "CP1.journal"
    journal = Journal(station_id="CP1", version="1.6", now=lambda: START, path=path)
    said(journal, "1", 1, 7)
    journal.close()
    path.write_text(path.read_text() + '{"n":2,"fra')
    found = records(journal_lines(tmp_path))
    assert [r.at for r in found] == [parse_iso("2026-03-01T08:00:00Z")]
