"""CPU per durable transaction event in the store: `python benchmarks/store_write.py [URL]`.

A unit is what a 2.0.1 TransactionEvent(Updated) with four measured values costs the store: find
the session, store the event, store one sample row, save the session. N callers each wait for
their commit before they go on, as N stations do. CPU is of the whole process, threads and event
loop included, between the first and the last commit; the same loop around an empty unit tells
what waking, committing and flushing cost by themselves.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from csms.core.messages import SessionUpdated
from csms.core.model import MeterSample, OcppVersion, Session
from csms.store import samples, sessions
from csms.store.database import Store
from csms.store.statements import Tx

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAYLOAD = '{"eventType":"Updated","meterValue":[' + '"%s"' % ("x" * 900) + "]}"


def new_session(caller: int, round_: int) -> Session:
    """Return a session as it is before the store numbers it."""
    return Session(
        session_id=f"bench-{round_}-{caller}",
        number=0,
        site_id="bench",
        station_id=f"CS{caller:05d}",
        evse_id=1,
        version=OcppVersion.V201,
        transaction_id=f"7c0c1a2e-0000-4000-8000-{round_:04d}{caller:08d}",
        started_at=NOON,
        received_at=NOON,
        meter_start_wh=0.0,
    )


def update(session: Session, seq_no: int) -> SessionUpdated:
    """Return the `seq_no`th update of a session."""
    at = session.started_at + timedelta(seconds=60 * seq_no)
    sample = MeterSample(
        at=at,
        energy_wh=183.0 * seq_no,
        power_w=11_000.0,
        current_a=(16.0, 16.0, 15.9),
        voltage_v=230.1,
    )
    return SessionUpdated(
        station_id=session.station_id,
        received_at=at,
        version=OcppVersion.V201,
        action="TransactionEvent",
        at=at,
        transaction_id=session.transaction_id,
        seq_no=seq_no,
        samples=(sample,),
        trigger="MeterValuePeriodic",
        charging_state="Charging",
        payload=PAYLOAD,
        digest=f"{seq_no:032x}",
    )


def advanced(session: Session, report: SessionUpdated) -> Session:
    """Return the session after an update; made before the clock runs, as it is not the store's."""
    last = report.samples[-1]
    return replace(
        session,
        energy_wh=last.energy_wh or 0.0,
        power_w=last.power_w,
        current_a=last.current_a,
        sample_at=last.at,
        last_seq_no=report.seq_no or 0,
        charging_state=report.charging_state,
    )


def store_event(tx: Tx, report: SessionUpdated, after: Session) -> None:
    """Do to the store what handling one update does."""
    session = sessions.by_transaction(tx, report.station_id, report.transaction_id)
    assert session is not None
    assert sessions.append_event(tx, report) is sessions.EventStored.NEW
    samples.append_samples(tx, session, report.samples)
    sessions.save(tx, after)


def cpu_s() -> float:
    """Return the CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(store: Store, callers: int, events: int, round_: int) -> tuple[float, ...]:
    """Return CPU-us per event, CPU-us per empty unit, group size and events per second."""

    def open_all(tx: Tx) -> list[Session]:
        return [sessions.open_session(tx, new_session(c, round_)) for c in range(callers)]

    started = await store.write(open_all)
    reports = [
        [(r, advanced(s, r)) for r in (update(s, n) for n in range(1, events + 1))] for s in started
    ]

    async def run(units: list[Callable[[Tx], None]]) -> None:
        for unit in units:
            await store.write(unit)

    async def timed(work: list[list[Callable[[Tx], None]]]) -> tuple[float, float, float]:
        commits, cpu, wall = store.commits, cpu_s(), time.perf_counter()
        await asyncio.gather(*(run(units) for units in work))
        total = callers * events
        return (
            (cpu_s() - cpu) / total * 1e6,
            total / (store.commits - commits),
            total / (time.perf_counter() - wall),
        )

    per_event, group, rate = await timed(
        [[(lambda tx, r=r: store_event(tx, *r)) for r in of_one] for of_one in reports]
    )
    per_empty, _, _ = await timed([[(lambda tx: None)] * events] * callers)
    return per_event, per_empty, group, rate


async def main() -> None:
    """Print a table by number of callers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="by default a SQLite file in a new directory")
    parser.add_argument("--dir", help="where that directory is made")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        store = await Store.open(arguments.url or f"sqlite:///{Path(folder) / 'bench.db'}")
        print("callers  group  CPU-us/event  CPU-us/empty unit  events/s")
        base = int(time.time()) % 9000
        for callers, events in ((1, 200), (10, 200), (50, 200), (200, 60), (500, 30)):
            base += arguments.rounds
            cells = [
                await measure(store, callers, events, base + r) for r in range(arguments.rounds)
            ]
            event, empty, group, rate = (statistics.median(c) for c in zip(*cells, strict=True))
            print(f"{callers:7d}  {group:5.0f}  {event:12.1f}  {empty:17.1f}  {rate:8.0f}")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
