"""Circuits of a site: kept as operators change them, and where its EVSEs hang."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from csms.clock import Clock
from csms.core.errors import Conflict, InvalidInput, NotFound
from csms.core.model import Event
from csms.core.wiring import (
    ROTATIONS,
    UNKNOWN,
    CircuitSetup,
    Placed,
    PlaceSetup,
    faults,
    remarks,
)
from csms.store import journal, stations, wiring
from csms.store.database import Store
from csms.store.statements import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTree:
    """A site's tree as an operator sees it; `remarks` are limits that can never bind."""

    circuits: tuple[CircuitSetup, ...]
    places: tuple[Placed, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceChange:
    """What to change of a place; False leaves the circuit as it is, None gives it back."""

    circuit_id: str | bool | None = False
    phase_rotation: str | None = None


class CircuitDesk:
    """Shows and changes the trees of sites; a change makes the site due for a new plan."""

    def __init__(self, *, store: Store, clock: Clock, touch: Callable[[str, str], None]) -> None:
        self.store = store
        self.clock = clock
        self.touch = touch

    async def of_site(self, site_id: str) -> ShownTree:
        """Return a site's tree; raise UnknownSite."""
        return await self.store.read(lambda tx: _shown(tx, site_id))

    async def put(self, site_id: str, setup: CircuitSetup, *, by: str) -> ShownTree:
        """Store a circuit, replacing what was stored under its id.

        Raises UnknownSite, and InvalidInput where the circuits would be no tree.
        """
        now = self.clock.now()

        def work(tx: Tx) -> ShownTree:
            stations.get_site(tx, site_id)
            known = {c.circuit_id: c for c in wiring.circuits_of(tx, site_id)}
            before = known.get(setup.circuit_id)
            wrong = faults(list({**known, setup.circuit_id: setup}.values()))
            if wrong:
                raise InvalidInput("; ".join(wrong))
            wiring.put_circuit(tx, site_id, setup)
            detail: dict[str, object] = {
                "circuit_id": setup.circuit_id,
                "by": by,
                **{
                    name: [None if before is None else getattr(before, name), value]
                    for name, value in asdict(setup).items()
                    if before is None or getattr(before, name) != value
                },
            }
            journal.add_event(
                tx, Event(at=now, kind="circuit changed", site_id=site_id, detail=detail)
            )
            return _shown(tx, site_id)

        found = await self.store.write(work)
        self.touch(site_id, "circuit changed")
        return found

    async def drop(self, site_id: str, circuit_id: str, *, by: str) -> None:
        """Delete a circuit; raise Conflict while something hangs on it, NotFound."""
        now = self.clock.now()

        def work(tx: Tx) -> None:
            stations.get_site(tx, site_id)
            below = [
                f"circuit {c.circuit_id}"
                for c in wiring.circuits_of(tx, site_id)
                if c.parent_id == circuit_id
            ]
            below += [
                f"{p.station_id}/{p.evse_id}" if p.evse_id else f"station {p.station_id}"
                for p in wiring.places_of(tx, site_id)
                if p.circuit_id == circuit_id
            ]
            if below:
                raise Conflict(
                    f"circuit {circuit_id} carries {', '.join(below)}; place them elsewhere first"
                )
            wiring.drop_circuit(tx, site_id, circuit_id)
            journal.add_event(
                tx,
                Event(
                    at=now,
                    kind="circuit removed",
                    site_id=site_id,
                    detail={"circuit_id": circuit_id, "by": by},
                ),
            )

        await self.store.write(work)
        self.touch(site_id, "circuit removed")

    async def place(
        self, station_id: str, evse_id: int, change: PlaceChange, *, by: str
    ) -> tuple[Placed, ...]:
        """Place an EVSE, 0 for all of its station; return the places of the station's EVSEs.

        Raises UnknownStation, NotFound for an EVSE that is not there, InvalidInput for a circuit or
        a rotation that cannot be.
        """
        now = self.clock.now()

        def work(tx: Tx) -> tuple[str, tuple[Placed, ...]]:
            station = stations.get_station(tx, station_id)
            own_id, site_id = station.station_id, station.site_id
            evses = stations.evses_of_station(tx, own_id)
            concerned = [e for e in evses if evse_id in (0, e.evse_id)]
            if evse_id and not concerned:
                raise NotFound(f"station {own_id} has no EVSE {evse_id}")
            known = next(
                (
                    p
                    for p in wiring.places_of(tx, site_id)
                    if (p.station_id, p.evse_id) == (own_id, evse_id)
                ),
                PlaceSetup(station_id=own_id, evse_id=evse_id),
            )
            after = known
            if not isinstance(change.circuit_id, bool):
                _check_circuit(tx, site_id, change.circuit_id)
                after = replace(after, circuit_id=change.circuit_id)
            if change.phase_rotation is not None:
                least = min((e.phases for e in concerned), default=3)
                _check_rotation(change.phase_rotation, phases=least)
                after = replace(after, phase_rotation=change.phase_rotation)
            wiring.put_place(tx, after)
            journal.add_event(
                tx,
                Event(
                    at=now,
                    kind="evse placed",
                    site_id=site_id,
                    station_id=own_id,
                    detail={
                        "evse_id": evse_id,
                        "circuit_id": after.circuit_id,
                        "phase_rotation": after.phase_rotation,
                        "by": by,
                    },
                ),
            )
            tree = wiring.tree_of(tx, site_id)
            return site_id, tuple(p for p in tree.places if p.station_id == own_id)

        site_id, found = await self.store.write(work)
        self.touch(site_id, "evse placed")
        return found


def _shown(tx: Tx, site_id: str) -> ShownTree:
    site, tree = stations.get_site(tx, site_id), wiring.tree_of(tx, site_id)
    return ShownTree(
        circuits=tree.setups,
        places=tree.places,
        remarks=remarks(tree.setups, limit_kw=site.limit_kw),
    )


def _check_circuit(tx: Tx, site_id: str, circuit_id: str | None) -> None:
    known = sorted(c.circuit_id for c in wiring.circuits_of(tx, site_id))
    if circuit_id and circuit_id not in known:
        raise InvalidInput(
            f"circuit_id is {circuit_id!r:.80}, which is no circuit of site {site_id}; permitted: "
            f"{', '.join(known) or 'none is configured'}, or nothing for the site's connection"
        )


def _check_rotation(word: str, *, phases: int) -> None:
    permitted = [w for w in ROTATIONS if len(w) == 3 or phases == 1]
    if word not in ("", UNKNOWN, *permitted):
        raise InvalidInput(
            f"phase_rotation is {word!r:.40}; it must be one of {', '.join(permitted)}, "
            f"{UNKNOWN} where nobody knows, or nothing to go by what the station says"
        )


def tree_lines(setups: tuple[CircuitSetup, ...], *, head: str, limit_kw: float) -> list[str]:
    """Return a tree as indented lines for people, below the line `head`."""
    lines = [head]

    def add(parent_id: str, depth: int) -> None:
        for setup in setups:
            if setup.parent_id == parent_id:
                lines.append("  " * depth + _line(setup))
                add(setup.circuit_id, depth + 1)

    add("", 1)
    return lines + [f"  note: {remark}" for remark in remarks(setups, limit_kw=limit_kw)]


def _line(setup: CircuitSetup) -> str:
    words = [setup.circuit_id]
    if setup.limit_a:
        words.append("/".join(f"{a:g}" for a in setup.limit_a) + " A")
    if setup.limit_kw is not None:
        words.append(f"{setup.limit_kw:g} kW")
    if setup.load_a or setup.load_kw is not None:
        loads = ["/".join(f"{a:g}" for a in setup.load_a) + " A"] if setup.load_a else []
        loads += [f"{setup.load_kw:g} kW"] if setup.load_kw is not None else []
        told = f" at most, by meter {setup.meter}" if setup.meter else ""
        words.append("unmanaged " + ", ".join(loads) + told)
    if setup.evses:
        words.append("<- " + ", ".join(setup.evses))
    return "  ".join(words)
