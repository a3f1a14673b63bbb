"""A running central system, an operator at its API, and stations spelled out frame by frame."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from csms.settings import PlannerSettings
from tests.conformance.raw import Answer, RawStation, linked
from tests.scenarios.world import World, living, settings


@dataclass(slots=True)
class Lab:
    """The system under test with its operator."""

    world: World
    api: httpx.AsyncClient
    _registered: set[str] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def station(
        self,
        version: str,
        station_id: str = "CS-1",
        *,
        evses: int = 1,
        boots: bool = True,
        automation: bool = True,
        password: str = "",
        answers: Mapping[str, Answer] | None = None,
        **options: Any,
    ) -> AsyncIterator[RawStation]:
        """Register a station unless it is, connect it and, unless told otherwise, let it boot."""
        if station_id not in self._registered:
            await self.world.register(station_id, evses=evses, password=password or None)
            self._registered.add(station_id)
        if not automation:
            await self.world.system.enrolment.change_station(
                station_id, {"automation": False}, by="test"
            )
        async with linked(
            self.world.url, station_id, version, password=password, answers=answers, **options
        ) as station:
            if boots:
                assert (await station.boot())["status"] == "Accepted"
            yield station

    async def command(
        self, action: str, payload: Mapping[str, Any], *, station_id: str = "CS-1", **given: Any
    ) -> dict[str, Any]:
        """Send a raw command by the API and return its outcome (K1, K2 of api.md)."""
        body = {"action": action, "payload": payload, "wait_s": 10, **given}
        found = await self.api.post(f"/api/v1/stations/{station_id}/commands", json=body)
        assert found.is_success, found.text
        outcome: dict[str, Any] = found.json()
        return outcome

    async def get(self, path: str, **query: Any) -> Any:
        """Return what the API has at `path` under /api/v1."""
        found = await self.api.get(f"/api/v1/{path}", params=query)
        assert found.is_success, found.text
        return found.json()


@pytest.fixture
async def lab(sqlite_url: str) -> AsyncIterator[Lab]:
    """A system with one site of 100 kW; stations register themselves through `lab.station`."""
    async with living(settings(sqlite_url)) as world, world.operator() as api:
        yield Lab(world, api)


@pytest.fixture
async def reading_lab(sqlite_url: str) -> AsyncIterator[Lab]:
    """A system that asks stations what they hold soon after they came up."""
    planner = PlannerSettings(collect_s=0.1, read_back_after_s=0.5)
    async with living(settings(sqlite_url, planner=planner)) as world, world.operator() as api:
        yield Lab(world, api)


@pytest.fixture(params=("1.6", "2.0.1"))
def version(request: pytest.FixtureRequest) -> str:
    """A version; rows that exist in both run once per version."""
    return str(request.param)
