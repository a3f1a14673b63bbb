"""The circuits of a site, where EVSEs hang, caps for a time, and what holds without us."""

import asyncio
from typing import Annotated

from fastapi import APIRouter
from pydantic import AliasChoices, AwareDatetime, Field

from csms.api.auth import GuardedRoute
from csms.api.parts import Limit, Operator, P, Viewer
from csms.api.views import Body, Id, Kw, Name, everything, plain
from csms.core.wiring import CircuitSetup
from csms.service.caps import NewCap, ShownCap
from csms.service.circuits import PlaceChange, ShownTree
from csms.service.failsafe import fail_safe

router = APIRouter(route_class=GuardedRoute, tags=["circuits"])

CircuitId = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^/]+$")]
Ampere = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Amperes = Ampere | Annotated[tuple[Ampere, ...], Field(min_length=3, max_length=3)]
Pattern = Annotated[str, Field(min_length=1, max_length=60)]


class CircuitBody(Body):
    """A circuit. Currents are one number for all phases or three; the rest as in config.toml."""

    name: Name = ""
    parent: Annotated[str, Field(max_length=60)] = ""
    limit_a: Amperes | None = None
    limit_kw: Kw | None = None
    load_a: Amperes | None = None
    load_kw: Kw | None = None
    voltage_v: Annotated[float, Field(ge=100, le=480)] = 230.0
    meter: Annotated[str, Field(max_length=60)] = ""
    evses: Annotated[tuple[Pattern, ...], Field(max_length=1000)] = ()


class PlaceBody(Body):
    """Where an EVSE hangs; null gives it back to patterns and to what its station says."""

    circuit_id: Annotated[str, Field(max_length=60)] | None = None
    phase_rotation: Annotated[str, Field(max_length=20)] | None = None


class CapBody(Body):
    """A limit for a time from outside; `from` is another word for `starts_at`, now if left out."""

    source: Id
    starts_at: Annotated[
        AwareDatetime | None, Field(validation_alias=AliasChoices("starts_at", "from"))
    ] = None
    until: AwareDatetime
    circuit_id: Annotated[str, Field(max_length=60)] = ""
    limit_kw: Kw | None = None
    limit_a: Ampere | None = None


def _amperes(given: float | tuple[float, ...] | None) -> tuple[float, ...]:
    return () if given is None else given if isinstance(given, tuple) else (given,)


def _tree(tree: ShownTree) -> dict[str, object]:
    return {
        "circuits": [
            {"circuit_id": c.circuit_id, "name": c.name, "parent": c.parent_id}
            | {k: plain(getattr(c, k)) for k in ("limit_a", "limit_kw", "load_a", "load_kw")}
            | {"voltage_v": c.voltage_v, "meter": c.meter, "evses": list(c.evses)}
            for c in tree.circuits
        ],
        "evses": plain(tree.places),
        "remarks": list(tree.remarks),
    }


@router.get("/sites/{site_id}/circuits")
async def site_circuits(site_id: str, _: Viewer, parts: P) -> object:
    """Return a site's tree of circuits, where each EVSE hangs and who says so, and what is odd."""
    return _tree(await parts.circuits.of_site(site_id))


@router.put("/sites/{site_id}/circuits/{circuit_id}")
async def put_circuit(
    site_id: str, circuit_id: CircuitId, body: CircuitBody, caller: Operator, parts: P
) -> object:
    """Add or replace a circuit; 422 names what is wrong where the circuits would be no tree."""
    given = body.model_dump(exclude={"parent", "limit_a", "load_a"})
    setup = CircuitSetup(
        circuit_id=circuit_id,
        parent_id=body.parent,
        limit_a=_amperes(body.limit_a),
        load_a=_amperes(body.load_a),
        **given,
    )
    return _tree(await parts.circuits.put(site_id, setup, by=caller.name))


@router.delete("/sites/{site_id}/circuits/{circuit_id}", status_code=204)
async def drop_circuit(site_id: str, circuit_id: str, caller: Operator, parts: P) -> None:
    """Remove a circuit; 409 while another circuit or an EVSE that was placed hangs on it."""
    await parts.circuits.drop(site_id, circuit_id, by=caller.name)


@router.patch("/stations/{station_id}/evses/{evse_id}")
async def place_evse(
    station_id: str, evse_id: int, body: PlaceBody, caller: Operator, parts: P
) -> object:
    """Place an EVSE on a circuit and say its phase rotation; EVSE 0 is the whole station."""
    given = body.model_dump(exclude_unset=True)
    change = PlaceChange(
        circuit_id=given.get("circuit_id", False),
        phase_rotation=(given["phase_rotation"] or "") if "phase_rotation" in given else None,
    )
    return {"evses": plain(await parts.circuits.place(station_id, evse_id, change, by=caller.name))}


# --- caps ----------------------------------------------------------------------------------------


def _cap(found: ShownCap) -> dict[str, object]:
    shown = plain(found.cap)
    assert isinstance(shown, dict)
    return {**shown, "state": found.state}


@router.get("/sites/{site_id}/caps")
async def list_caps(site_id: str, _: Viewer, parts: P, limit: Limit = 50) -> object:
    """List the limits set on a site from outside, newest first, with their states."""
    return everything([_cap(c) for c in await parts.caps.of_site(site_id, limit=limit)])


@router.post("/sites/{site_id}/caps", status_code=201)
async def add_cap(site_id: str, body: CapBody, caller: Operator, parts: P) -> object:
    """Limit a site or a circuit for a time, as a grid operator orders; it is planned again."""
    given = body.model_dump(exclude={"starts_at"})
    new = NewCap(starts_at=body.starts_at or parts.clock.now(), **given)
    return _cap(await parts.caps.add(site_id, new, by=caller.name))


@router.delete("/sites/{site_id}/caps/{cap_id}")
async def withdraw_cap(site_id: str, cap_id: int, caller: Operator, parts: P) -> object:
    """End a cap before its time."""
    return _cap(await parts.caps.withdraw(site_id, cap_id, by=caller.name))


# --- what holds without us -----------------------------------------------------------------------


@router.get("/sites/{site_id}/fail-safe")
async def show_fail_safe(site_id: str, _: Viewer, parts: P) -> object:
    """Return each limit against its worst case with every station cut off, and the guards."""
    known, case = await parts.replanner.case(site_id)
    # Guards of thousands of EVSEs take a while, and pages ask every few seconds.
    return plain(await asyncio.to_thread(fail_safe, known, case))
