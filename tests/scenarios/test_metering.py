"""A meter's reading from the command line to the car: it gives way, and has the room again."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from csms.cli import app
from csms.core.model import Vehicle as KnownVehicle
from csms.settings_sites import SiteSettings
from simulators.battery import Vehicle
from simulators.station import EvseSpec
from tests.scenarios.world import World, eventually, living, settings

SITE = SiteSettings(limit_kw=30.0, base_load_kw=25.0, meter="building", guard_share=0.5)

RAISED_S = 240.0
"""Around the beginning of a slot a car is raised two minutes later than at other times."""


class Shell:
    """Runs `tasco meter` against the running system, as an operator does."""

    def __init__(self, world: World, token: Path) -> None:
        self.more = [
            *("--url", f"http://127.0.0.1:{world.system.api_port}"),
            *("--token-file", str(token)),
        ]

    async def run(self, *words: str) -> tuple[int, str]:
        """Return exit code and what it printed, or why it could not be done."""
        words = ("meter", *words, *self.more)
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
        return done.exit_code, done.output or str(done.exception)


def told(out: str) -> object:
    """Return the JSON among what was printed: the running system logs to the same place."""
    return json.loads(next(line for line in out.splitlines() if line.startswith("{")))


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_car_gives_way_to_what_a_meter_shows(
    version: str, sqlite_url: str, tmp_path: Path
) -> None:
    async with living(settings(sqlite_url, site={"main": SITE})) as world:
        await world.register("CP", max_kw=22.08)
        known = KnownVehicle(vehicle_id="v1", battery_kwh=60.0, max_kw=22.08)
        card = await world.driver(1, departs_in=timedelta(hours=2), energy_kwh=40.0, vehicle=known)
        spec = EvseSpec(max_kw=22.08)
        station = world.station("CP", version, evses=(spec,), boots=True)
        await station.power_up()
        await station.ready()
        await world.guarded("CP")
        await station.plug_in(1, Vehicle(battery_kwh=60.0, max_ac_kw=22.08), soc=0.2)
        assert await station.present(card) == "Accepted"
        # Nobody has told yet what the building draws: its worst case counts.
        await eventually(
            lambda: 3000 < station.power_w(1) <= 5000,
            "no power under the worst case",
            within_s=RAISED_S,
        )
        async with world.operator() as operator:
            token = tmp_path / "token"
            token.write_text(operator.headers["Authorization"].removeprefix("Bearer "))
        shell = Shell(world, token)
        code, out = await shell.run("report", "main", "building", "--kw", "5")
        assert code == 0, out
        await eventually(
            lambda: station.power_w(1) > 20_000, "the room is not used", within_s=RAISED_S
        )
        file = tmp_path / "readings.csv"
        at = world.clock.now().isoformat()
        file.write_text(f"at,power_kw,current_a\n{at},17,30;25;18.9\n", encoding="utf-8")
        code, out = await shell.run("report", "main", "building", "--file", str(file), "--json")
        assert code == 0, out
        assert told(out) == {"taken": 1, "counts_kw": pytest.approx(18.7), "is_silent": False}
        await eventually(lambda: station.power_w(1) <= 11_300, "the car does not give way")
        code, out = await shell.run("list", "main")
        assert "building" in out
        assert "heard" in out
        file.write_text(f"at,power_kw\n{at},-3\n", encoding="utf-8")
        code, out = await shell.run("report", "main", "building", "--file", str(file))
        assert code != 0
        assert "must not be negative" in out
        file.write_text('[{"starts_at": "x", "watts": 3}]', encoding="utf-8")
        code, out = await shell.run("expect", "main", "load", str(file))
        assert code != 0
        assert "does not know watts" in out
        starts, until = world.clock.now(), world.clock.now() + timedelta(hours=20)
        file.write_text(
            f"starts_at,until,power_kw,high_kw\n{starts.isoformat()},{until.isoformat()},3,\n",
            encoding="utf-8",
        )
        code, out = await shell.run("expect", "main", "load", str(file), "--json")
        assert (code, told(out)) == (0, {"taken": 1})
