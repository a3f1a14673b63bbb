"""From the handshake to the closed session, on the record and on the wire (architecture.md 3)."""

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from csms import cli
from csms.core.commands import Outcome
from csms.core.model import SessionState
from csms.store import plans, sessions, stations
from simulators.battery import Vehicle
from simulators.clock import parse_iso
from simulators.dialect import Dialect
from simulators.link import LinkDown
from simulators.node import Received
from tests.databases import pace
from tests.scenarios.world import VERSIONS, World, eventually, living, settings

PASSWORD = "a station's password"


def tx_profiles(received: list[Received]) -> list[dict[str, object]]:
    """Return the TxProfiles among commands, in one shape for both versions."""
    found = []
    for command in received:
        if command.action != "SetChargingProfile":
            continue
        profile = command.payload.get("csChargingProfiles") or command.payload["chargingProfile"]
        if profile["chargingProfilePurpose"] != "TxProfile":
            continue
        schedule = profile["chargingSchedule"]
        schedule = schedule if isinstance(schedule, dict) else schedule[0]
        found.append(
            {
                "id": profile.get("chargingProfileId", profile.get("id")),
                "transaction_id": str(profile["transactionId"]),
                "unit": schedule["chargingRateUnit"],
                "starts": schedule["startSchedule"],
                "periods": schedule["chargingSchedulePeriod"],
                "duration": schedule["duration"],
                "answer": (command.answer.payload or {}).get("status"),
            }
        )
    return found


@pytest.mark.parametrize(
    ("unit", "database_url"),
    [("A", "sqlite"), ("W", "sqlite"), ("A", "postgresql")],
    indirect=["database_url"],
)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_car_is_charged_as_planned_from_handshake_to_unplug(
    version: str, unit: str, database_url: str, tmp_path: Path
) -> None:
    given = settings(database_url, limit_kw=9.0)
    async with living(given, speed=pace(database_url, 600)) as world:
        await world.register("c1", password=PASSWORD, max_kw=11.0)
        card = await world.driver(1, departs_in=timedelta(hours=2), energy_kwh=20.0)
        station = world.station(
            "c1", version, password=PASSWORD, dialect=Dialect(rate_units=(unit,), max_periods=6)
        )
        async with station:
            assert (await station.boot())["status"] == "Accepted"
            await world.guarded("c1")
            await station.plug_in(1, Vehicle(battery_kwh=60.0), soc=0.2)
            assert await station.present(card) == "Accepted"
            await eventually(lambda: tx_profiles(station.received), "no plan was pushed")
            begun_at = world.clock.now()
            # The limit changes on the way, so that there is an update.
            async with world.operator() as operator:
                answer = await operator.patch("/api/v1/sites/main", json={"limit_kw": 7.0})
                assert answer.status_code == 200
            await eventually(lambda: len(tx_profiles(station.received)) > 1, "no update came")
            await eventually(lambda: world.clock.now() - begun_at > timedelta(minutes=20))
            await _follows_what_it_accepted(world)
            tx = await station.stop(1, token=card)
            await station.unplug(1)
            await station.drained()
        profiles = tx_profiles(station.received)
        session = await world.session()

        assert {p["transaction_id"] for p in profiles} == {tx.transaction_id}
        assert len({p["id"] for p in profiles}) == 1
        for profile in profiles:
            assert profile["answer"] == "Accepted"
            _is_well_formed(profile, unit=unit)
        assert session.transaction_id == tx.transaction_id
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(tx.energy_wh, abs=1.0)
        assert session.energy_wh > 500
        assert session.flags == ()
        verdict = await world.verdict()
        assert verdict.is_clean, verdict
        assert verdict.answered > 10
        await _is_on_record(world)
        await _the_stored_case_gives_the_stored_plan(world, tmp_path)


def _is_well_formed(profile: dict[str, object], *, unit: str) -> None:
    assert profile["unit"] == unit
    starts = profile["starts"]
    assert isinstance(starts, str)
    assert starts.endswith("Z")
    periods = profile["periods"]
    assert isinstance(periods, list)
    assert 0 < len(periods) <= 6
    at = [p["startPeriod"] for p in periods]
    assert at[0] == 0
    assert at == sorted(set(at))
    most = 16.0 if unit == "A" else 11_040.0
    for period in periods:
        assert 0 <= period["limit"] <= most
        assert round(period["limit"], 1) == period["limit"]


async def _follows_what_it_accepted(world: World) -> None:
    """The car draws what the schedule in force allows, and never more than the site has."""
    (station,) = world.stations
    limit_kw = (await world.store.read(lambda tx: stations.get_site(tx, "main"))).limit_kw
    assert limit_kw == 7.0
    drawn_kw = station.power_w(1) / 1000
    assert 0 < drawn_kw <= limit_kw
    known = await world.plan()
    assert known is not None
    (row,) = known[1].sessions
    assert row.power_kw[0] == pytest.approx(drawn_kw, abs=0.1)


async def _is_on_record(world: World) -> None:
    """Commands with outcomes, samples, messages: all in the store."""
    session = await world.session()
    sent = await world.commands("c1", "SetSchedule")
    assert sent
    assert all(c.outcome is Outcome.ACCEPTED and c.finished_at is not None for c in sent)
    kinds = {c.kind for c in await world.commands("c1")}
    assert kinds >= {"ReadLimits", "SetGuard", "SetSchedule"}
    kept = await world.store.read(lambda tx: sessions.events_of(tx, "c1", session.transaction_id))
    assert kept[0].action in ("StartTransaction", "TransactionEvent")
    assert len(kept) > 4


async def _the_stored_case_gives_the_stored_plan(world: World, tmp_path: Path) -> None:
    session = await world.session()
    sent = await world.store.read(lambda tx: plans.list_installed(tx, session.session_id))
    plan_id = sent[0].plan_id
    assert plan_id is not None
    made = await world.store.read(lambda tx: plans.get_plan(tx, plan_id))
    assert [row.session_id for row in made.plan.sessions] == [session.session_id]
    async with world.operator() as operator:
        shown = (await operator.get(f"/api/v1/plans/{plan_id}")).json()
        case = (await operator.get(f"/api/v1/plans/{plan_id}/case")).text
    assert shown["plan_id"] == plan_id
    file = tmp_path / "case.json"
    file.write_text(case, encoding="utf-8")
    printed = CliRunner().invoke(cli.app, ["plan", "--case", str(file), "--json"])
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.strip() == made.plan.to_json()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_without_the_right_password_gets_no_link(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1", password=PASSWORD)
        stranger = world.station("c1", version, password="another password")
        with pytest.raises(LinkDown, match="401"):
            await stranger.link.connect()
        async with world.station("c1", version, password=PASSWORD) as station:
            answer = await station.boot()
        assert answer["status"] == "Accepted"
        assert abs(parse_iso(answer["currentTime"]) - world.clock.now()) < timedelta(seconds=5)
        assert [e.event.station_id for e in await world.events("credential refused")] == ["c1"]
