"""What OCPP 2.1 adds to sessions and stations: terms, limits, tariffs, abilities."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Viewer
from csms.api.routes_stations import answered
from csms.api.views import plain
from csms.core.errors import NotFound
from csms.core.terms import Terms, TransactionLimit
from csms.store import sessions, stations
from csms.store import terms as stored
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["terms"])

IdTokenText = Annotated[str, Path(min_length=1, max_length=255)]


class LimitBody(BaseModel):
    """What ends a transaction by itself; what is left out does not."""

    model_config = ConfigDict(extra="forbid")

    max_cost: float | None = Field(default=None, gt=0)
    max_energy_kwh: float | None = Field(default=None, gt=0)
    max_time_s: int | None = Field(default=None, gt=0)
    max_soc: float | None = Field(default=None, gt=0, le=1)


class TariffBody(BaseModel):
    """Which EVSE the tariff is for; 0 is all of the station."""

    model_config = ConfigDict(extra="forbid")

    evse_id: int = Field(default=0, ge=0)


@router.get("/sessions/{session_id}/terms")
async def session_terms(session_id: str, _: Viewer, parts: P) -> object:
    """Return a session's limits, tariff, priority, operation mode and the costs it was told.

    `limit` is ours, `station_limit` what the station says it keeps to; `costs_verdict` says whether
    our own calculation of the station's costs came to the same (2.1).
    """

    def work(tx: Tx) -> Terms:
        sessions.get(tx, session_id)
        return stored.find(tx, session_id) or Terms(session_id=session_id)

    return plain(await parts.store.read(work))


@router.get("/stations/{station_id}/abilities")
async def abilities(station_id: str, _: Viewer, parts: P) -> object:
    """Return what a 2.1 station said that it can do beyond 2.0.1."""

    def work(tx: Tx) -> object:
        station = stations.get_station(tx, station_id)
        return stored.abilities(tx, station.station_id)

    return plain(await parts.store.read(work))


@router.put("/stations/{station_id}/dynamic")
async def switch_dynamic(
    station_id: str, every_s: Annotated[int, Query(ge=0)], caller: Operator, parts: P
) -> object:
    """Send a 2.1 station limits one by one, asked for every `every_s`; 0 sends whole schedules."""
    station = await parts.dynamics.switch(station_id, every_s=every_s)
    parts.replanner.touch(station.site_id, "dynamic profiles switched")
    return {"station_id": station.station_id, "every_s": station.limits.dynamic_s}


@router.post("/stations/{station_id}/tariff")
async def give_tariff(station_id: str, body: TariffBody, caller: Operator, parts: P) -> object:
    """Give a station its site's prices of the next day as default tariff, simpler if it has to be.

    The answer holds the outcome of the last attempt and the tariff it carried.
    """
    command_id, result, tariff = await parts.terms.give_tariff(
        station_id, evse_id=body.evse_id, by=caller.name
    )
    return {**answered(command_id, result, station_id), "tariff": tariff}


@router.get("/limits/{id_token}")
async def start_limit(id_token: IdTokenText, _: Viewer, parts: P) -> object:
    """Return the limit for transactions begun with an id token."""
    found = await parts.store.read(lambda tx: stored.start_limit(tx, id_token))
    if found is None:
        raise NotFound("no limit for this id token")
    return _shown(found)


@router.put("/limits/{id_token}")
async def set_start_limit(id_token: IdTokenText, body: LimitBody, _: Operator, parts: P) -> object:
    """Limit the next transactions begun with an id token; 2.1 stations are told in their answer."""
    limit = TransactionLimit(
        cost=body.max_cost,
        energy_wh=None if body.max_energy_kwh is None else body.max_energy_kwh * 1000.0,
        time_s=body.max_time_s,
        soc=body.max_soc,
    )
    await parts.terms.set_start_limit(id_token, limit)
    return _shown(limit)


@router.delete("/limits/{id_token}", status_code=204)
async def drop_start_limit(id_token: IdTokenText, _: Operator, parts: P) -> None:
    """Take the limit of an id token away."""
    await parts.terms.set_start_limit(id_token, None)


def _shown(limit: TransactionLimit) -> dict[str, object]:
    return {
        "max_cost": limit.cost,
        "max_energy_kwh": None if limit.energy_wh is None else limit.energy_wh / 1000.0,
        "max_time_s": limit.time_s,
        "max_soc": limit.soc,
    }
