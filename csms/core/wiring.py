"""A site's tree of fuses as somebody configured it, and what it comes to for planning.

Fuses below the site's connection stand still, so a configured circuit holds numbers where a
planning case holds series. EVSEs are placed one by one, or by patterns of their names.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite

from csms.core.circuit import Circuit, Place, Wiring
from csms.core.model import Evse, Station
from csms.core.units import each_phase

ROTATIONS: Mapping[str, tuple[int, ...]] = {
    "RST": (1, 2, 3),
    "RTS": (1, 3, 2),
    "SRT": (2, 1, 3),
    "STR": (2, 3, 1),
    "TRS": (3, 1, 2),
    "TSR": (3, 2, 1),
    "R": (1,),
    "S": (2,),
    "T": (3,),
}
"""OCPP's words for the order of phases (1.6 §9.1.8, 2.0.1 PhaseRotation); R is the site's L1.

One letter is an EVSE with a single phase.
"""
UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitSetup:
    """A circuit as configured; see Circuit. Currents are one number for all phases or three.

    `limit_kw` and `load_kw` are None where nothing is said. `meter` names what measures the load
    here; `load_a` and `load_kw` are then the most it ever is. `evses` are patterns of station ids
    ("CP-1", "HALL-*") or EVSEs ("TWIN-1/2") that hang here.
    """

    circuit_id: str
    name: str = ""
    parent_id: str = ""
    limit_a: tuple[float, ...] = ()
    limit_kw: float | None = None
    load_a: tuple[float, ...] = ()
    load_kw: float | None = None
    voltage_v: float = 230.0
    evses: tuple[str, ...] = ()
    meter: str = ""

    @property
    def most_kw(self) -> float:
        """The most that draws here besides EVSEs and circuits below, as configured, kW."""
        if self.load_kw is not None:
            return self.load_kw
        return sum(each_phase(self.load_a)) * self.voltage_v / 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSetup:
    """Where an operator placed an EVSE, 0 for all of a station.

    `circuit_id` None and `phase_rotation` "" leave it to patterns and to what the station says.
    """

    station_id: str
    evse_id: int = 0
    circuit_id: str | None = None
    phase_rotation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An EVSE's place, and who says so: "operator", "pattern", "station", or "" for nobody."""

    station_id: str
    evse_id: int
    circuit_id: str = ""
    circuit_source: str = ""
    phases: tuple[int, ...] = ()
    phases_source: str = ""


def faults(setups: Sequence[CircuitSetup]) -> tuple[str, ...]:
    """Return what is wrong with a tree, in words; such a tree is not to be taken."""
    found = [
        f"circuit {circuit_id} is there {count} times; ids must differ"
        for circuit_id, count in Counter(s.circuit_id for s in setups).items()
        if count > 1
    ]
    parents = {s.circuit_id: s.parent_id for s in setups}
    for setup in setups:
        found += _wrong(setup)
        if setup.parent_id and setup.parent_id not in parents:
            known = ", ".join(sorted(parents.keys() - {setup.circuit_id})) or "none"
            found.append(
                f"circuit {setup.circuit_id}: parent is {setup.parent_id!r}, which is no circuit "
                f"of this site; permitted: {known}, or nothing for the site's connection"
            )
    found += _cycles(parents)
    patterns = Counter(pattern for s in setups for pattern in s.evses)
    found += [f"{p!r} is on {n} circuits; on one only" for p, n in patterns.items() if n > 1]
    meters = Counter(s.meter for s in setups if s.meter)
    found += [
        f"meter {m} is named by {n} circuits; its load would count {n} times"
        for m, n in meters.items()
        if n > 1
    ]
    return tuple(found)


def _wrong(setup: CircuitSetup) -> list[str]:
    found = []
    if not setup.circuit_id or "/" in setup.circuit_id:
        found.append(f"circuit {setup.circuit_id!r}: an id must have characters, and no /")
    for name, values in (("limit_a", setup.limit_a), ("load_a", setup.load_a)):
        if len(values) not in (0, 1, 3):
            count = len(values)
            found.append(
                f"circuit {setup.circuit_id}: {name} has {count} numbers; it must have 1 or 3"
            )
        found += _no_numbers(setup, name, values)
    for name, value in (("limit_kw", setup.limit_kw), ("load_kw", setup.load_kw)):
        found += _no_numbers(setup, name, () if value is None else (value,))
    if not (isfinite(setup.voltage_v) and 50 <= setup.voltage_v <= 1000):
        found.append(
            f"circuit {setup.circuit_id}: voltage_v is {setup.voltage_v:g}; it must be between "
            "50 and 1000, between a phase and neutral"
        )
    if setup.meter and not setup.most_kw > 0:
        found.append(
            f"circuit {setup.circuit_id}: meter is {setup.meter!r}, and load_a and load_kw say "
            "nothing; say the most that draws here, which counts while the meter is silent"
        )
    return found


def _no_numbers(setup: CircuitSetup, name: str, values: Iterable[float]) -> list[str]:
    return [
        f"circuit {setup.circuit_id}: {name} is {value:g}; it must be a number of at least 0"
        for value in values
        if not (isfinite(value) and value >= 0)
    ]


def _cycles(parents: Mapping[str, str]) -> list[str]:
    found, told = [], set[str]()
    for circuit_id in parents:
        path = [circuit_id]
        while parents.get(path[-1]) and parents[path[-1]] not in path:
            path.append(parents[path[-1]])
        above = parents.get(path[-1], "")
        if above and above == circuit_id and circuit_id not in told:
            told |= set(path)
            around = " on ".join([*path, circuit_id])
            found.append(f"circuit {around}: a circuit cannot hang on itself")
    return found


def path_of(circuit_id: str, setups: Sequence[CircuitSetup]) -> tuple[str, ...]:
    """Return a circuit and all above it, up to below the site's connection."""
    parents = {s.circuit_id: s.parent_id for s in setups}
    path: list[str] = []
    while circuit_id in parents and circuit_id not in path:
        path.append(circuit_id)
        circuit_id = parents[circuit_id]
    return tuple(path)


def remarks(setups: Sequence[CircuitSetup], *, limit_kw: float | None = None) -> tuple[str, ...]:
    """Return what is odd about a sound tree and still permitted: limits that can never bind.

    `limit_kw` is the limit of the site's connection.
    """
    by_id = {s.circuit_id: s for s in setups}
    found = []
    for setup in setups:
        above = [by_id[i] for i in path_of(setup.circuit_id, setups)[1:]]
        for phase in range(3):
            own = _of_phase(setup.limit_a, phase)
            bound = _least(above, phase)
            if own is not None and bound is not None and own > bound[0]:
                found.append(
                    f"circuit {setup.circuit_id} L{phase + 1}: {own:g} A is above the "
                    f"{bound[0]:g} A of {bound[1]}, which holds for it"
                )
        limits = [(a.limit_kw, a.circuit_id) for a in above if a.limit_kw is not None]
        if limit_kw is not None:
            limits.append((limit_kw, "the site"))
        if setup.limit_kw is not None and limits and setup.limit_kw > min(limits)[0]:
            found.append(
                f"circuit {setup.circuit_id}: {setup.limit_kw:g} kW is above the "
                f"{min(limits)[0]:g} kW of {min(limits)[1]}, which holds for it"
            )
        if not setup.limit_a and setup.limit_kw is None:
            found.append(f"circuit {setup.circuit_id} has no limit of its own")
    return tuple(found)


def _of_phase(values: tuple[float, ...], phase: int) -> float | None:
    return None if not values else values[phase if len(values) > 1 else 0]


def _least(above: Iterable[CircuitSetup], phase: int) -> tuple[float, str] | None:
    limits = [(_of_phase(a.limit_a, phase), a.circuit_id) for a in above]
    return min(((a, name) for a, name in limits if a is not None), default=None)


def circuits(setups: Sequence[CircuitSetup]) -> tuple[Circuit, ...]:
    """Return a configured tree as a planning case holds it."""
    return tuple(
        Circuit(
            circuit_id=s.circuit_id,
            parent_id=s.parent_id,
            limit_a=tuple((a,) for a in s.limit_a),
            limit_kw=() if s.limit_kw is None else (s.limit_kw,),
            load_a=tuple((a,) for a in s.load_a),
            load_kw=() if s.load_kw is None else (s.load_kw,),
            voltage_v=s.voltage_v,
        )
        for s in setups
    )


def rotation_of(text: str, evse_id: int) -> tuple[int, ...]:
    """Return the phases that a station says are behind an EVSE's own, () where it does not.

    1.6 lists them by connector ("0.RST,1.STR"), connector 0 being the station; 2.0.1 says one word
    for all. An entry for the EVSE goes before one for the station.
    """
    found: dict[int, str] = {}
    for entry in text.split(","):
        number, dot, word = entry.strip().partition(".")
        if not dot:
            found.setdefault(-1, number)
        elif number.strip().isdigit():
            found[int(number)] = word
    for place in (evse_id, 0, -1):
        phases = ROTATIONS.get(found.get(place, "").strip().upper())
        if phases:
            return phases
    return ()


def placed(
    setups: Sequence[CircuitSetup],
    evses: Sequence[Evse],
    stations: Mapping[str, Station],
    places: Sequence[PlaceSetup],
) -> tuple[Placed, ...]:
    """Return where each of `evses` hangs, in the order given.

    An operator's word for an EVSE goes before that for its station, and either before patterns and
    before what the station says of its phases.
    """
    told = {(p.station_id, p.evse_id): p for p in places}
    found = []
    for evse in evses:
        own = [
            told[key]
            for key in ((evse.station_id, evse.evse_id), (evse.station_id, 0))
            if key in told
        ]
        circuit_id = next((p.circuit_id for p in own if p.circuit_id is not None), None)
        circuit_source = "operator"
        if circuit_id is None:
            circuit_id = _by_pattern(setups, evse)
            circuit_source = "pattern" if circuit_id else ""
        phases, source = _phases(evse, stations.get(evse.station_id), own)
        found.append(
            Placed(
                station_id=evse.station_id,
                evse_id=evse.evse_id,
                circuit_id=circuit_id,
                circuit_source=circuit_source,
                phases=phases,
                phases_source=source,
            )
        )
    return tuple(found)


def _by_pattern(setups: Sequence[CircuitSetup], evse: Evse) -> str:
    """Return the circuit with the closest pattern for an EVSE: its name first, then the longest."""
    names = (f"{evse.station_id}/{evse.evse_id}", evse.station_id)
    hits = [
        (pattern == names[0], pattern == names[1], len(pattern), pattern, setup.circuit_id)
        for setup in setups
        for pattern in setup.evses
        if any(fnmatchcase(name, pattern) for name in names)
    ]
    return max(hits)[-1] if hits else ""


def _phases(
    evse: Evse, station: Station | None, own: Sequence[PlaceSetup]
) -> tuple[tuple[int, ...], str]:
    words = next((p.phase_rotation for p in own if p.phase_rotation), "")
    if words:
        return ROTATIONS.get(words, ())[: evse.phases], "operator"
    if station is None or (station.limits.switches_phases and evse.phases > 1):
        # It chooses the phase by itself, so nobody knows.
        return (), ""
    phases = rotation_of(station.limits.phase_rotation, evse.evse_id)[: evse.phases]
    return phases, "station" if phases else ""


def wiring(setups: Sequence[CircuitSetup], found: Sequence[Placed]) -> Wiring:
    """Return a configured tree and the EVSEs on it as planning takes them."""
    return Wiring(
        circuits=circuits(setups),
        places={
            (p.station_id, p.evse_id): Place(circuit_id=p.circuit_id, phases=p.phases)
            for p in found
        },
    )
