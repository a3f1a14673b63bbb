"""The circuits on a site's page: the tree, what its limits carry, marks where one fails."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from csms.clock import Clock
from csms.settings_sites import CircuitSettings, SiteSettings
from tests.scenarios.world import START, World, eventually, living, settings
from tests.web.browser import CHROMIUM, Tab, opened

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

TREE = {
    "main": CircuitSettings(name="Main", limit_a=63.0, load_a=20.0, meter="main"),
    "hall": CircuitSettings(name="Hall", parent="main", limit_a=32.0, evses=("hall-*",)),
    "row": CircuitSettings(parent="hall"),
}
ROWS = """
[...document.querySelectorAll("#circuits tbody")].flatMap((body) =>
  [...body.rows].slice(1).map((row) => [body.querySelector(".name").firstChild.data,
    ...[...row.cells].map((cell) => cell.innerText)]))
"""
WORDS = "document.querySelector('#cut-off').innerText"


async def page_of(world: World) -> str:
    async with world.operator() as client:
        token = client.headers["authorization"].removeprefix("Bearer ")
        return f"{client.base_url}/#token={token}"


async def rows(tab: Tab) -> dict[str, list[str]]:
    """Return the table's rows by circuit, phase and limit, such as "Hall L1 32.0 A"."""
    return {f"{name} {at} {most}": cells for name, at, most, *cells in await tab.value(ROWS)}


async def shows(tab: Tab, row: str, mark: str) -> list[str]:
    """Wait for a mark in a row of the table, and return the row's cells."""

    async def found() -> Any:
        cells = (await rows(tab)).get(row, [""])
        return cells if mark in cells[0].split("\n") else None

    cells: list[str] = await eventually(found, f"{row} never said {mark}")
    return cells


async def test_the_tree_is_shown_and_marked_live_where_a_limit_is_passed_or_a_cut_off_would_pass_it(
    sqlite_url: str, tmp_path: Path
) -> None:
    site = SiteSettings(limit_kw=100.0, guard_share=0.2, base_load_kw=10.0, circuit=TREE)
    async with living(settings(sqlite_url, site={"main": site}), clock=Clock(start=START)) as world:
        await world.register("hall-1", max_kw=11.04)
        station = world.station("hall-1", "1.6", boots=True)
        await station.power_up()
        await station.ready()
        await world.guarded("hall-1")
        async with opened(await page_of(world), tmp_path / "browser") as tab:
            # 6 A of guard, and what may draw on the circuit above while its meter says nothing.
            hall = await shows(tab, "Hall L1 32.0 A", "✓ kept")
            assert hall[-2:] == ["6.0 A", "26.0 A"]
            main = await shows(tab, "Main L3 63.0 A", "✓ kept")
            assert main[1:3] == ["20.0 A", "20.0 A"]
            assert main[-2:] == ["26.0 A", "37.0 A"]
            assert "every limit is kept" in await tab.value(WORDS)
            names = await tab.value(
                "[...document.querySelectorAll('#circuits th[scope=rowgroup] .name')]"
                ".map((name) => [name.className, name.textContent])"
            )
            assert [kind for kind, _ in names] == ["name d0", "name d1", "name d2", "name d3"]
            assert names[1][1] == "Main, below main ! meter main is silent"
            assert names[2][1] == "Hall, below Main"
            assert names[3][1] == "row, below Hall no limit of its own"

            station.cut()
            async with world.operator() as operator:
                body = {"readings": [{"at": world.clock.now().isoformat(), "current_a": 70.5}]}
                told = await operator.post("/api/v1/sites/main/meters/main/readings", json=body)
                assert told.status_code == 200, told.text
                hall_now = {"parent": "main", "limit_a": 4, "evses": ["hall-*"], "name": "Hall"}
                put = await operator.put("/api/v1/sites/main/circuits/hall", json=hall_now)
                assert put.status_code == 200, put.text
            main = await shows(tab, "Main L3 63.0 A", "✕ passed by 7.5 A")
            assert main[1:3] == ["70.5 A", "70.5 A"]
            hall = await shows(tab, "Hall L1 4.0 A", "! cut off 2.0 A above")
            assert hall[-1] == "-2.0 A"
            assert "limits would be passed" in await tab.value(WORDS)
            assert "passed" in await tab.value("document.querySelector('#tiles').innerText")


async def test_a_cap_below_what_guards_hold_is_shown_as_theirs(
    sqlite_url: str, tmp_path: Path
) -> None:
    site = SiteSettings(limit_kw=44.0, guard_share=0.2, base_load_kw=2.0)
    async with living(settings(sqlite_url, site={"main": site}), clock=Clock(start=START)) as world:
        await world.register("CP1", max_kw=11.04)
        station = world.station("CP1", "1.6", boots=True)
        await station.power_up()
        await station.ready()
        await world.guarded("CP1")
        async with opened(await page_of(world), tmp_path / "browser") as tab:
            await shows(tab, "main all 44.0 kW", "✓ kept")
            async with world.operator() as operator:
                until = (world.clock.now() + timedelta(hours=2)).isoformat()
                body = {"source": "grid operator", "until": until, "limit_kw": 3.0}
                made = await operator.post("/api/v1/sites/main/caps", json=body)
                assert made.status_code == 201, made.text
                await operator.post("/api/v1/sites/main/plan")
            cells = await shows(
                tab, "main all 3.0 kW\nby grid operator", "! with guards 7.3 kW above"
            )
            # Two EVSEs may draw 4.1 kW each beside the building, and no car is planned at all.
            assert cells[1:4] == ["2.0 kW", "2.0 kW", "0.0 kW"]
            tiles = await tab.value("document.querySelector('#tiles').innerText")
            assert "3.0 kWby grid operator, building 2.0 kW" in tiles


async def test_a_site_without_circuits_shows_its_own_limit_and_no_page_is_wider_than_a_phone(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with living(settings(sqlite_url, limit_kw=44.0)) as world:
        await world.register("CP1")
        async with opened(await page_of(world), tmp_path / "browser") as tab:
            await tab.resize(390, 844)
            cells = await shows(tab, "main all 44.0 kW", "✓ kept")
            assert len(await rows(tab)) == 1
            assert cells[-1] == "44.0 kW"
            assert await tab.value("document.documentElement.scrollWidth") <= 390
