"""The paths of the first concept, with its fields (api.md 3)."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Operator, P, Parts, Viewer
from csms.api.routes_sessions import stay
from csms.api.views import Body, Id, Kwh, everything, plain
from csms.core.errors import NotFound
from csms.core.model import Evse, LinkState, Station
from csms.service import concept, demo_data
from csms.store import identities, rivals, series, sessions, stations
from csms.store.statements import Tx

router = APIRouter(route_class=GuardedRoute, tags=["first concept"])


class Training(Body):
    """Which site's forecast to fit; all of them without one."""

    site_id: Annotated[str, Field(max_length=100)] | None = None


class Completion(Body):
    """What a session that nobody measured has taken, where that is known."""

    energy_kwh: Kwh | None = None


class Generation(Body):
    """How much to make up for a demo."""

    site_id: Id | None = None
    drivers: Annotated[int, Field(ge=1, le=200)] = 12
    days: Annotated[int, Field(ge=1, le=60)] = 14
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1


# --- sessions ------------------------------------------------------------------------------------


@router.post("/sessions/start")
async def start_session(body: dict[str, object], caller: Operator, parts: P) -> object:
    """Plan a session for a driver, a vehicle, a charger and a trip, and start it if it is linked.

    `{"driver" | "driver_did", "vehicle" | "vehicle_did", "charger" | "charger_did",
    "trip": {"distance_km", "departure_time"}}`: each an object of the concept or the DID alone.
    """
    return await parts.concept.start(body, by=caller.name)


@router.get("/sessions/{session_id}")
async def one_session(session_id: str, _: Viewer, parts: P) -> object:
    """Return a session: the stay as TASCO sees it, and the plan it was started with."""
    found = await parts.concept.find(session_id)
    view = shown(found)
    if found.session is not None:
        key = found.session.session_id
        likely = await parts.store.read(lambda tx: rivals.readiness_of(tx, [key]))
        view["met_share"] = likely[key].met_share if key in likely else None
    return view


@router.post("/sessions/{session_id}/complete")
async def complete_session(
    session_id: str, caller: Operator, parts: P, body: Completion | None = None
) -> object:
    """Complete a session; a measured one is asked of its charger."""
    energy_kwh = None if body is None else body.energy_kwh
    found, message = await parts.concept.complete(session_id, energy_kwh=energy_kwh, by=caller.name)
    return {**shown(found), "message": message}


def shown(found: concept.Found) -> dict[str, object]:
    """Return a session with the concept's fields beside those of the stay."""
    session, asked = found.session, found.asked or {}
    view: dict[str, object] = {} if session is None else stay(session)
    if session is not None:
        view |= {
            "authorization": str(session.status),
            "stay_id": session.session_id,
            "completed_at": plain(session.ended_at),
            "driver_did": session.holder_did,
            "vehicle_did": session.vehicle_id,
        }
    if asked:
        view |= {k: asked.get(k) for k in ("driver_did", "vehicle_did", "charger_did", "plan")}
    return {**view, "session_id": found.session_id, "status": found.status}


# --- forecasts -----------------------------------------------------------------------------------


@router.post("/forecasts/train")
async def train(_: Operator, parts: P, body: Training | None = None) -> object:
    """Fit the demand forecast of a site, or of all, and return how it scores."""
    site_id = None if body is None else body.site_id
    if site_id is not None:
        await parts.store.read(lambda tx: stations.get_site(tx, site_id))
    return await parts.forecasting.train(site_id)


@router.get("/forecasts/site/{site_id}")
async def forecast(
    site_id: str, _: Viewer, parts: P, hours: Annotated[float, Query(gt=0, le=168)] = 24.0
) -> object:
    """Return a site's demand forecast, with its scores beside those of a naive one."""
    await parts.store.read(lambda tx: stations.get_site(tx, site_id))
    found = await parts.forecasting.latest(site_id, hours)
    if found is None:
        raise NotFound(f"site {site_id} has no forecast yet; POST /forecasts/train makes one")
    return found


@router.get("/forecasts/site/{site_id}/scores")
async def forecast_scores(
    site_id: str, _: Viewer, parts: P, days: Annotated[float, Query(gt=0, le=1100)] = 90.0
) -> object:
    """List how a site's forecasts scored in the last days, by period and measure, oldest first."""
    since = parts.clock.now() - timedelta(days=days)

    def work(tx: Tx) -> object:
        stations.get_site(tx, site_id)
        return everything(series.list_scores(tx, site_id, since=since))

    return await parts.store.read(work)


# --- chargers ------------------------------------------------------------------------------------


@router.get("/chargers")
async def chargers(
    _: Viewer, parts: P, site_id: Annotated[str, Query(max_length=100)] = ""
) -> object:
    """List chargers as the concept knew them: one per EVSE."""
    now = parts.clock.now()

    def work(tx: Tx) -> list[object]:
        tariffs: dict[str, float | None] = {}
        found: list[object] = []
        for station in stations.list_stations(tx, site_id=site_id):
            site = stations.get_site(tx, station.site_id)
            if site.tariff_id not in tariffs:
                known = series.prices(tx, site.tariff_id, now, now.replace(microsecond=999_999))
                tariffs[site.tariff_id] = known[0].eur_per_kwh if known else None
            for evse in stations.evses_of_station(tx, station.station_id):
                found.append(_charger(tx, station, evse, tariffs[site.tariff_id]))
        return found

    return everything(await parts.store.read(work))


def _charger(tx: Tx, station: Station, evse: Evse, tariff: float | None) -> dict[str, object]:
    taken = sessions.open_session_on_evse(tx, station.station_id, evse.evse_id)
    is_online = station.link_state is LinkState.ONLINE
    return {
        "did": charger_did(station.station_id),
        "charger_id": station.station_id,
        "evse_id": evse.evse_id,
        "site_id": station.site_id,
        "location": station.name,
        "max_power_kw": evse.max_kw,
        "availability": taken is None and (not is_online or evse.status == "Available"),
        "is_linked": is_online,
        "status": evse.status,
        "tariff": {"eur_per_kwh": tariff},
    }


def charger_did(station_id: str) -> str:
    """Return the DID by which the concept names a station."""
    return f"did:denso:charger:{station_id}"


# --- demo ----------------------------------------------------------------------------------------


@router.post("/demo/generate-data")
async def generate_data(_: Operator, parts: P, body: Generation | None = None) -> object:
    """Make up drivers, vehicles, trips and past sessions, marked as generated."""
    _only_in_demo(parts)
    given = body or Generation()
    now = parts.clock.now()

    def work(tx: Tx) -> dict[str, object]:
        site_id = given.site_id or stations.list_sites(tx)[0].site_id
        wanted = demo_data.Wanted(
            site_id=site_id, drivers=given.drivers, days=given.days, seed=given.seed
        )
        made = demo_data.generate(tx, parts.enrolment, wanted, now=now)
        return {"site_id": site_id, "seed": given.seed, "generated": made}

    return await parts.store.write(work)


@router.get("/demo/sample-dids")
async def sample_dids(_: Viewer, parts: P) -> object:
    """List DIDs to try `sessions/start` with."""
    _only_in_demo(parts)

    def work(tx: Tx) -> dict[str, list[str]]:
        holders = identities.list_holders(tx, limit=200)
        return {
            "drivers": [h.did for h in holders if h.did.startswith("did:denso:driver:")],
            "vehicles": [
                v.vehicle_id
                for v in identities.list_vehicles(tx)
                if v.vehicle_id.startswith("did:denso:vehicle:")
            ],
            "chargers": [charger_did(s.station_id) for s in stations.list_stations(tx)],
        }

    return await parts.store.read(work)


def _only_in_demo(parts: Parts) -> None:
    if not parts.demo:
        raise NotFound("the demo is off; [api] demo = true serves this path")
