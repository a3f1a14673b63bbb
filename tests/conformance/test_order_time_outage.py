"""Order, time and outage: X06 and X09 to X11."""

import asyncio
import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from websockets.exceptions import InvalidStatus

from csms.core.model import Evse, LinkState, OcppVersion, Session, Station
from csms.settings import GatewaySettings, PlannerSettings
from csms.store import links, sessions, stations
from csms.store.statements import Tx
from tests.conformance.conftest import Lab
from tests.conformance.devices import begin, event, lab_with, when
from tests.conformance.fleet import Orders, fleet, permit_files
from tests.conformance.raw import linked
from tests.scenarios.world import World, eventually, living, settings

STATIONS = int(os.environ.get("TASCO_TEST_STATIONS", "300"))
"""How many stations come back after the restart (X09)."""
CHARGING_EACH = 10
"""Every so many-th of them has a session open."""
COME_BACK_S = 10.0 * STATIONS / 10_000
BACK_WITHIN_S = 120.0


# --- X06: clocks that are wrong ------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [3 * 3600.0, -5 * 365 * 86400.0], ids=["ahead", "behind"])
async def test_x06_all_three_times_of_a_station_with_a_wrong_clock_are_kept(
    lab: Lab, off_s: float
) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        transaction_id = await begin(station, await lab.world.driver(1), at=when(off_s))
        await station.call("TransactionEvent", event("Updated", transaction_id, 1, at=when(off_s)))
        (session,) = await lab.world.sessions()
        stored = (await lab.get(f"transactions/{session.session_id}"))["events"]
    now = datetime.now(UTC)
    for kept in stored:
        own, received = (datetime.fromisoformat(kept[name]) for name in ("at", "received_at"))
        assert abs(own - received - timedelta(seconds=off_s)) < timedelta(minutes=1)
        assert now - received < timedelta(minutes=1)
    assert session.sample_at is not None
    for corrected in (session.started_at, session.sample_at):
        assert timedelta(0) <= now - corrected < timedelta(minutes=1)


async def test_x06_a_clock_that_jumps_back_an_hour_changes_no_order(lab: Lab) -> None:
    hour = 3600.0
    async with lab.station("2.0.1", automation=False) as station:
        transaction_id = await begin(station, await lab.world.driver(1), at=when())
        for seq_no, off_s, wh in [(1, 0.0, 1100), (2, -hour, 1200), (4, -hour, 1400)]:
            moved = event("Updated", transaction_id, seq_no, at=when(off_s), wh=wh)
            await station.call("TransactionEvent", moved)
        # By its time the newest of all, by its number not: the number counts.
        late = event("Updated", transaction_id, 3, at=when(), wh=1300)
        await station.call("TransactionEvent", late)
        (session,) = await lab.world.sessions()
        stored = (await lab.get(f"transactions/{session.session_id}"))["events"]
        ended = event("Ended", transaction_id, 5, at=when(-hour), wh=1500)
        await station.call("TransactionEvent", ended)
        (closed,) = await lab.world.sessions()
    assert (session.last_seq_no, session.energy_wh) == (4, 400.0)
    assert [kept["seq_no"] for kept in stored] == [0, 1, 2, 3, 4]
    assert (closed.last_seq_no, closed.energy_wh) == (5, 500.0)
    assert closed.ended_at is not None
    assert closed.ended_at >= closed.started_at
    assert "messages_missing" not in closed.flags


# --- X09: everybody comes back after a restart ---------------------------------------------------


def _populate(tx: Tx, names: list[str]) -> None:
    for name in names:
        stations.register_station(
            tx, Station(station_id=name, site_id="main", version=OcppVersion.V201)
        )
        stations.upsert_evse(tx, Evse(station_id=name, evse_id=1, max_kw=11.0))


async def test_x09_everybody_is_back_soon_after_a_restart_with_every_session(
    sqlite_url: str,
) -> None:
    permitted, needed = permit_files(), STATIONS + 500
    assert permitted == resource.RLIM_INFINITY or needed <= permitted, (
        f"{STATIONS} stations need {needed} open files, permitted are {permitted}: "
        f"make storm STATIONS={permitted - 500}"
    )
    names = [f"CS-{i:05d}" for i in range(STATIONS)]
    charging = names[::CHARGING_EACH]
    # Planned as soon as an operator's is: at once would be without a pause at so large a site.
    given = settings(sqlite_url, limit_kw=5.0 * STATIONS, planner=PlannerSettings())
    async with living(given) as world:
        await world.store.write(lambda tx: _populate(tx, names))
        for name in charging:
            async with linked(world.url, name, "2.0.1") as station:
                await station.boot()
                started = event("Started", f"tx-{name}", 0, wh=1000)
                await station.call("TransactionEvent", started)
        before = {s.transaction_id: s.session_id for s in await _all_sessions(world)}
    assert len(before) == len(charging)

    async with living(given) as world:
        told = {n: event("Updated", f"tx-{n}", 1, wh=2500) for n in charging}
        orders = Orders(url=world.url, names=names, told=told, within_s=COME_BACK_S)
        async with fleet(orders) as everybody:
            began, cpu_began = time.monotonic(), time.process_time()
            try:
                async with asyncio.timeout(BACK_WITHIN_S):
                    await everybody.come_back()
            except TimeoutError:
                pytest.fail(f"not all are back within {BACK_WITHIN_S:g} s: {everybody.tally()}")
            took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
            tally = everybody.tally()
            sys.stdout.write(
                f"{STATIONS} back after {took_s:.1f} s, {tally.told_later} told to come later, "
                f"{tally.no_room} found no room for a handshake; CPU of the server {cpu_s:.1f} s\n"
            )
            online = await world.store.read(lambda tx: stations.list_stations(tx))
            found = await _all_sessions(world)
        assert {s.station_id for s in online if s.link_state is LinkState.ONLINE} == set(names)
        assert tally.most_often <= 1
        assert {s.transaction_id: s.session_id for s in found} == before
        assert {(s.state, s.energy_wh) for s in found} == {("open", 1500.0)}


async def _all_sessions(world: World) -> list[Session]:
    found: list[Session] = []
    cursor = ""
    while True:
        page = await world.store.read(
            lambda tx, cursor=cursor: sessions.list_sessions(tx, limit=500, cursor=cursor)  # type: ignore[misc]
        )
        found += page.items
        cursor = page.cursor
        if not cursor:
            return found


# --- X10: one station that comes and goes --------------------------------------------------------


async def test_x10_a_station_that_comes_and_goes_is_limited_and_shown(
    sqlite_url: str, version: str
) -> None:
    gateway = GatewaySettings(port=0, links_per_minute=5)
    async with (
        lab_with(sqlite_url, gateway=gateway) as lab,
        lab.station(version, "CS-9", automation=False) as other,
    ):
        await lab.world.register("CS-1")
        made, refused = 0, []
        for _ in range(40):
            try:
                async with linked(lab.world.url, "CS-1", version) as station:
                    await station.call("Heartbeat", {})
                    made += 1
            except InvalidStatus as error:
                refused.append(error.response)
        assert made == 5
        assert [r.status_code for r in refused] == [429] * 35
        assert all(int(r.headers["Retry-After"]) >= 5 for r in refused)
        (told,) = await eventually(lambda: lab.world.events("station flapping"))
        assert told.event.station_id == "CS-1"
        (alert,) = (await lab.get("alerts", station_id="CS-1"))["items"]
        assert (alert["subject"], alert["closed_at"]) == ("Link.Flapping", None)

        # What it costs the others: nothing of it reaches the records, and they are answered.
        before = await _traces(lab, "CS-1")
        for _ in range(20):
            with pytest.raises(InvalidStatus):
                async with linked(lab.world.url, "CS-1", version):
                    pass
        assert await _traces(lab, "CS-1") == before
        assert await other.call("Heartbeat", {})


async def _traces(lab: Lab, station_id: str) -> tuple[int, int]:
    """Return how many links and events of a station are on record."""
    opened = await lab.world.store.read(lambda tx: links.list_links(tx, station_id))
    return len(opened), len(
        [e for e in await lab.world.events() if e.event.station_id == station_id]
    )


# --- X11: a long queue beside an empty one -------------------------------------------------------


async def test_x11_three_days_of_queue_do_not_delay_a_station_with_none(
    sqlite_url: str,
) -> None:
    # Without the limit on a link's rate, which would slow the first one anyway.
    gateway = GatewaySettings(port=0, frames_per_s=0)
    async with (
        lab_with(sqlite_url, gateway=gateway) as lab,
        lab.station("2.0.1", "CS-1", automation=False) as full,
        lab.station("2.0.1", "CS-2", automation=False) as empty,
    ):
        three_days = 3 * 24 * 12
        first_at = datetime.now(UTC) - timedelta(days=3)
        queue = [event("Started", "tx-1", 0, at=_text(first_at), wh=1000)]
        for n in range(1, three_days):
            at = _text(first_at + timedelta(minutes=5 * n))
            queue.append(event("Updated", "tx-1", n, at=at, wh=1000 + n) | {"offline": True})
        answered = 0

        async def replay() -> None:
            nonlocal answered
            waiting = []
            for payload in queue:
                waiting.append(asyncio.create_task(full.call("TransactionEvent", payload)))
            for answer in asyncio.as_completed(waiting):
                await answer
                answered += 1

        replaying = asyncio.create_task(replay())
        await eventually(lambda: answered > 10)
        began_with = answered
        for n in range(20):
            await empty.call(
                "TransactionEvent", event("Started" if not n else "Updated", "tx-2", n)
            )
        # Twenty answers, one after the other, while the first one's queue is still being replayed.
        assert not replaying.done()
        assert began_with < answered < len(queue)
        await replaying
        found = {s.station_id: s for s in await lab.world.sessions()}
    assert (found["CS-1"].last_seq_no, found["CS-1"].energy_wh) == (
        three_days - 1,
        three_days - 1.0,
    )
    assert found["CS-2"].last_seq_no == 19


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
