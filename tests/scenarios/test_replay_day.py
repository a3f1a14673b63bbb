"""Days replayed from a file and from the store, as `tasco replay-day` does it."""

import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from csms import cli, replay_day
from csms.core.errors import InvalidInput, TascoError
from csms.core.model import (
    AuthorizationStatus,
    Evse,
    OcppVersion,
    Price,
    Session,
    SessionState,
    Site,
    Station,
    Strategy,
    Vehicle,
)
from csms.replay_day import Run, replay
from csms.replay_past import Asked
from csms.settings import load
from csms.store import identities, series, sessions, stations
from csms.store.database import Store
from csms.store.statements import Tx

DAY = datetime(2026, 3, 2, tzinfo=UTC)
WORKPLACE = Asked(
    file="workplace_us",
    starts_on=date(2015, 8, 19),
    as_from=date(2024, 8, 21),
    shift_h=-6.0,
    time_zone="Europe/Copenhagen",
    limits_kw=(20.0, 60.0),
    strategies=(Strategy.OPTIMAL, Strategy.LEAST_LAXITY, Strategy.AT_ONCE),
    tariff="dk1_prices_2024",
    carbon="dk1_co2_2024",
)


def quiet(_: str) -> None:
    """Hear of progress and say nothing."""


async def file_replayed(asked: Asked) -> list[Run]:
    return await replay(None, load(None, {}), asked, tell=quiet)


async def test_a_real_workplace_day_under_two_limits() -> None:
    runs = await file_replayed(WORKPLACE)
    assert len(runs) == 6
    for run in runs:
        assert run.day.violations == 0
        assert run.day.fallbacks == 0
        assert run.day.peak_kw <= run.day.limit_kw + 1e-6
        assert run.day.met <= run.day.possible
        assert run.plain()["plan_cpu_p50_ms"] > 0
    roomy = {r.day.strategy: r.day for r in runs if r.day.limit_kw == 60.0}
    tight = {r.day.strategy: r.day for r in runs if r.day.limit_kw == 20.0}
    # With room for all, each strategy meets what can be met and only the optimum looks at prices.
    assert {d.met for d in roomy.values()} == {roomy[Strategy.AT_ONCE].possible}
    others = [d.cost_eur for s, d in roomy.items() if s is not Strategy.OPTIMAL]
    assert roomy[Strategy.OPTIMAL].cost_eur < min(others)
    for strategy, day in tight.items():
        assert day.energy_kwh <= roomy[strategy].energy_kwh + 1e-6


async def test_more_chargers_turn_fewer_cars_away() -> None:
    asked = replace(
        WORKPLACE, limits_kw=(60.0,), strategies=(Strategy.LEAST_LAXITY,), chargers=(4, 8, 60)
    )
    away = [r.day.turned_away for r in await file_replayed(replace(asked, reserve="none"))]
    assert away[0] > away[1] > away[2] == 0


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"file": "", "site": ""}, "give either --site ID or --sessions FILE"),
        ({"days": 0}, "--days is 0"),
        ({"limits_kw": ()}, "--limit-kw is needed"),
        ({"limits_kw": (float("nan"),)}, "limits must be 0 kW or more"),
        ({"chargers": (0,)}, "at least 1"),
        ({"charger_kw": 0.0}, "--charger-kw is 0.0"),
        ({"charger_kw": float("inf")}, "--charger-kw is inf"),
        ({"demand_charge_eur_per_kw": float("nan")}, "--demand-charge is nan"),
        ({"demand_charge_eur_per_kw": -5.0}, "--demand-charge is -5"),
        ({"base_load_kw": float("inf")}, "--base-load-kw is inf"),
        ({"shift_h": float("nan")}, "--shift-h is nan"),
        ({"reserve": "p95"}, "permitted: p50, p90, none"),
        ({"starts_on": date(2001, 1, 1)}, "holds 2014-11-18 to 2015-10-0"),
        ({"tariff": "nowhere"}, "--tariff is 'nowhere'; it must be a file, or one of"),
        ({"as_from": date(2023, 8, 21)}, "--tariff knows nothing of 2023-08-"),
        ({"time_zone": "Mars/Olympus"}, "--time-zone is 'Mars/Olympus'"),
        ({"file": "no/such.csv"}, "no/such.csv: cannot be read"),
    ],
)
async def test_what_cannot_be_used_is_named(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(TascoError, match=what.replace("(", r"\(")):
        await file_replayed(replace(WORKPLACE, **changes))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("1,s,c,,u,2026-03-02T08:00:00Z,2026-03-02T12:00:00Z,nan,,", "has nan kWh"),
        ("1,s,c,,u,2026-03-02T08:00:00Z,2026-03-02T07:00:00Z,5,,", "ends before it begins"),
        ("1,s,c,,u,yesterday,2026-03-02T12:00:00Z,5,,", "line 2"),
        ("1,s,c,,u,2026-03-02T08:00:00Z,2026-03-02T12:00:00Z,,,", "line 2"),
    ],
)
async def test_a_bad_line_of_a_file_is_named(tmp_path: Path, row: str, what: str) -> None:
    file = tmp_path / "stays.csv"
    file.write_text(
        "session_id,site_id,station_id,connector_id,user_id,start_utc,end_utc,energy_kwh,"
        f"charging_minutes,power_kw\n{row}\n"
    )
    asked = Asked(file=str(file), starts_on=date(2026, 3, 2), limits_kw=(20.0,), reserve="none")
    with pytest.raises(InvalidInput, match=what):
        await file_replayed(asked)


async def test_prices_of_a_csv_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    hours = [datetime(2015, 8, 18, tzinfo=UTC) + timedelta(hours=h) for h in range(120)]
    file.write_text(
        "start_utc,eur_per_kwh\n" + "".join(f"{at:%Y-%m-%dT%H:%M:%SZ},0.25\n" for at in hours)
    )
    asked = replace(
        WORKPLACE,
        as_from=None,
        shift_h=0.0,
        tariff=str(file),
        carbon="",
        limits_kw=(60.0,),
        strategies=(Strategy.AT_ONCE,),
        reserve="none",
    )
    (run,) = await file_replayed(asked)
    assert run.day.cost_eur == pytest.approx(0.25 * run.day.energy_kwh)


def stored(n: int, at: datetime, hours: float, kwh: float, **more: Any) -> Session:
    values: dict[str, Any] = {
        "session_id": f"s-{n}", "number": 0, "site_id": "depot", "station_id": "CP1", "evse_id": 1,
        "version": OcppVersion.V16, "transaction_id": str(n),
        "status": AuthorizationStatus.ACCEPTED, "state": SessionState.ENDED, "started_at": at,
        "received_at": at, "ended_at": at + timedelta(hours=hours), "meter_start_wh": 0.0,
        "energy_wh": kwh * 1000, "vehicle_id": "van",
    }  # fmt: skip
    return Session(**(values | more))


def fill(tx: Tx) -> None:
    stations.upsert_site(tx, Site(site_id="depot", limit_kw=11.0, tariff_id="flat"))
    stations.register_station(tx, Station(station_id="CP1", site_id="depot"))
    stations.upsert_evse(tx, Evse(station_id="CP1", evse_id=1, max_kw=22.0))
    identities.upsert_vehicle(tx, Vehicle(vehicle_id="van", battery_kwh=80.0, max_kw=11.0))
    series.upsert_prices(
        tx,
        "flat",
        [
            Price(
                starts_at=DAY + timedelta(hours=h),
                until=DAY + timedelta(hours=h + 1),
                eur_per_kwh=0.30 if h < 12 else 0.10,
            )
            for h in range(-24, 72)
        ],
    )
    for n, (start_h, hours, kwh) in enumerate([(8, 9, 22.0), (9, 8, 15.0), (10, 3, 6.0)]):
        at = DAY + timedelta(hours=start_h)
        sessions.open_session(tx, stored(n, at, hours, kwh, energy_wh=kwh * 1000))
    running = stored(9, DAY + timedelta(hours=11), 1, 5.0, ended_at=None, state=SessionState.OPEN)
    sessions.open_session(tx, running)


def test_stored_sessions_are_replayed_by_the_command(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    async def prepare() -> None:
        store = await Store.open(sqlite_url)
        await store.write(fill)
        await store.close()

    asyncio.run(prepare())
    config = tmp_path / "config.toml"
    config.write_text(f'[store]\nurl = "{sqlite_url}"\n[telemetry]\nlevel = "error"\n')

    def tasco(*words: str) -> tuple[int, str, str]:
        line = ["tasco", "replay-day", *words, "--config", str(config)]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        code = exit_.value.code
        return (code if isinstance(code, int) else 0, *capsys.readouterr())

    code, out, err = tasco(
        "--site", "depot", "--from", "2026-03-02", "--strategy", "optimal,at_once", "--json"
    )
    assert code == 0, err
    optimal, at_once = json.loads(out)
    assert "optimal at 11 kW" in err or "training" in err
    assert (optimal["sessions"], optimal["needs_met"], at_once["needs_met"]) == (3, 3, 3)
    assert optimal["limit_kw"] == 11.0
    assert optimal["limit_violations"] == at_once["limit_violations"] == 0
    # The day turns cheap at noon: two of three cars can wait, one cannot.
    assert optimal["cost_eur"] < 0.9 * at_once["cost_eur"]
    assert optimal["notes"] == ["1 sessions left out: still open, or without energy"]
    assert all(optimal[k] is not None for k in ("plan_cpu_p50_ms", "plan_cpu_p99_ms", "plans"))
    code, out, _ = tasco("--site", "depot", "--from", "2026-03-02", "--limit-kw", "11,22")
    assert code == 0
    assert "least_laxity" in out
    assert "needed by 3 cars" in out
    code, _, err = tasco("--site", "depot", "--from", "2026-05-02")
    assert (code, "no session at depot" in err) == (2, True)
    code, _, err = tasco("--site", "nowhere", "--from", "2026-03-02")
    assert (code, "nowhere" in err) == (2, True)
    code, _, err = tasco("--site", "depot", "--from", "soon")
    assert (code, "--from is 'soon'" in err) == (2, True)
    code, _, err = tasco("--site", "depot", "--from", "2026-03-02", "--strategy", "lottery")
    assert (code, "permitted: optimal, least_laxity" in err) == (2, True)
    code, _, err = tasco("--site", "depot", "--from", "2026-03-02", "--chargers", "1.5")
    assert (code, "whole numbers" in err) == (2, True)


def test_strategies_are_told_by_name() -> None:
    assert replay_day.strategies_of("all") == tuple(Strategy)
    assert replay_day.strategies_of("at_once, optimal") == (Strategy.AT_ONCE, Strategy.OPTIMAL)
