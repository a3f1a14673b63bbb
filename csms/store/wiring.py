"""A site's wiring as kept: its circuits, where EVSEs hang, caps for a time."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, or_, select, update

from csms.core.circuit import Cap, Wiring
from csms.core.errors import NotFound
from csms.core.model import Evse
from csms.core.wiring import CircuitSetup, Placed, PlaceSetup, placed, wiring
from csms.store import stations
from csms.store import wiring_tables as tables
from csms.store.columns import json_text
from csms.store.purging import purge
from csms.store.statements import Tx
from csms.store.tables import station as _S

_C = tables.circuit
_K = tables.circuit_configuration
_P = tables.evse_place
_G = tables.grid_cap
_CIRCUIT_DEFAULTS = json.loads(json_text(asdict(CircuitSetup(circuit_id=""))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A site's circuits, and where each of its EVSEs hangs."""

    setups: tuple[CircuitSetup, ...]
    places: tuple[Placed, ...]

    @property
    def wiring(self) -> Wiring:
        """What planning takes of it."""
        return wiring(self.setups, self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCap:
    """A cap for a site or one of its circuits, and who gave it."""

    cap_id: int
    site_id: str
    circuit_id: str
    source: str
    starts_at: datetime
    until: datetime
    limit_kw: float | None
    limit_a: float | None
    made_by: str
    made_at: datetime
    withdrawn_at: datetime | None = None

    @property
    def cap(self) -> Cap:
        """What planning takes of it."""
        return Cap(
            source=self.source,
            starts_at=self.starts_at,
            ends_at=self.until,
            circuit_id=self.circuit_id,
            limit_kw=self.limit_kw,
            limit_a=self.limit_a,
        )


# --- circuits ------------------------------------------------------------------------------------


def circuits_of(tx: Tx, site_id: str) -> tuple[CircuitSetup, ...]:
    """Return a site's circuits by id."""
    found = tx.execute(select(_C).where(_C.c.site_id == site_id).order_by(_C.c.circuit_id))
    return tuple(_setup(row) for row in found)


def _setup(row: Any) -> CircuitSetup:
    values = dict(row._mapping)
    del values["site_id"]
    return CircuitSetup(**values)


def put_circuit(tx: Tx, site_id: str, setup: CircuitSetup) -> None:
    """Store a circuit, replacing what was stored under its id."""
    tx.upsert(_C, ["site_id", "circuit_id"], {"site_id": site_id, **asdict(setup)})


def drop_circuit(tx: Tx, site_id: str, circuit_id: str) -> None:
    """Delete a circuit; raise NotFound."""
    gone = tx.execute(delete(_C).where(_C.c.site_id == site_id, _C.c.circuit_id == circuit_id))
    if not gone.rowcount:
        raise NotFound(f"site {site_id} has no circuit {circuit_id}")


def configure_circuits(tx: Tx, site_id: str, setups: Sequence[CircuitSetup]) -> bool:
    """Store a site's tree as configured, unless it was configured just so before.

    What an operator changed since outlives a restart, until the configuration says something new.
    Return whether it was stored.
    """
    configured = json_text([asdict(s) for s in setups])
    known = tx.execute(select(_K.c.configured).where(_K.c.site_id == site_id)).scalar()
    if known is None and not setups:
        return False
    # What a later version may say of a circuit was not said before: it had its default.
    told = [] if known is None else [{**_CIRCUIT_DEFAULTS, **c} for c in json.loads(known)]
    if known is not None and told == json.loads(configured):
        return False
    tx.execute(delete(_C).where(_C.c.site_id == site_id))
    for setup in setups:
        put_circuit(tx, site_id, setup)
    tx.upsert(_K, ["site_id"], {"site_id": site_id, "configured": configured})
    return True


# --- places --------------------------------------------------------------------------------------


def places_of(tx: Tx, site_id: str) -> tuple[PlaceSetup, ...]:
    """Return what operators said of the places of a site's EVSEs."""
    found = tx.execute(
        select(_P)
        .join(_S, _S.c.station_id == _P.c.station_id)
        .where(_S.c.site_id == site_id)
        .order_by(_P.c.station_id, _P.c.evse_id)
    )
    return tuple(PlaceSetup(**row._mapping) for row in found)


def put_place(tx: Tx, place: PlaceSetup) -> None:
    """Store where an operator placed an EVSE; a place that says nothing is dropped."""
    if place.circuit_id is None and not place.phase_rotation:
        tx.execute(
            delete(_P).where(_P.c.station_id == place.station_id, _P.c.evse_id == place.evse_id)
        )
        return
    tx.upsert(_P, ["station_id", "evse_id"], asdict(place))


def tree_of(tx: Tx, site_id: str, *, also: Sequence[Evse] = ()) -> Tree:
    """Return a site's tree with the place of each EVSE, and of those in `also`."""
    evses = {(e.station_id, e.evse_id): e for e in [*also, *stations.evses_of_site(tx, site_id)]}
    setups = circuits_of(tx, site_id)
    return Tree(
        setups=setups,
        places=placed(
            setups,
            list(evses.values()),
            {s.station_id: s for s in stations.list_stations(tx, site_id=site_id)},
            places_of(tx, site_id),
        ),
    )


def wiring_of(tx: Tx, site_id: str, *, also: Sequence[Evse] = ()) -> Wiring:
    """Return a site's tree as planning takes it; empty where the site has none."""
    # Without circuits no place matters, and most sites have none.
    if not circuits_of(tx, site_id):
        return Wiring()
    return tree_of(tx, site_id, also=also).wiring


# --- caps ----------------------------------------------------------------------------------------


def add_cap(tx: Tx, cap: KeptCap) -> int:
    """Store a cap and return its id; `cap_id` is ignored."""
    values = asdict(cap)
    del values["cap_id"]
    return int(tx.execute(_G.insert().values(**values).returning(_G.c.cap_id)).scalar_one())


def caps_of(tx: Tx, site_id: str, since: datetime, until: datetime) -> list[KeptCap]:
    """Return the caps that hold at some time in [since, until), by start."""
    found = tx.execute(
        select(_G)
        .where(
            _G.c.site_id == site_id,
            _G.c.until > since,
            _G.c.starts_at < until,
            or_(_G.c.withdrawn_at.is_(None), _G.c.withdrawn_at > since),
        )
        .order_by(_G.c.starts_at, _G.c.cap_id)
    )
    return [KeptCap(**row._mapping) for row in found]


def list_caps(tx: Tx, site_id: str, *, limit: int) -> list[KeptCap]:
    """Return a site's caps, the newest first, those that are over too."""
    found = tx.execute(
        select(_G).where(_G.c.site_id == site_id).order_by(_G.c.cap_id.desc()).limit(limit)
    )
    return [KeptCap(**row._mapping) for row in found]


def withdraw_cap(tx: Tx, site_id: str, cap_id: int, *, at: datetime) -> KeptCap:
    """End a cap and return it; raise NotFound."""
    row = tx.execute(select(_G).where(_G.c.site_id == site_id, _G.c.cap_id == cap_id)).first()
    if row is None:
        raise NotFound(f"site {site_id} has no cap {cap_id}")
    tx.execute(
        update(_G).where(_G.c.cap_id == cap_id, _G.c.withdrawn_at.is_(None)).values(withdrawn_at=at)
    )
    return KeptCap(**{**row._mapping, "withdrawn_at": row.withdrawn_at or at})


def purge_caps(tx: Tx, *, before: datetime) -> int:
    """Delete a batch of caps that were over before `before`; return how many."""
    return purge(tx, _G, _G.c.until < before)
