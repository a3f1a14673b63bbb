"""Every limit of a site as rows of one matrix: how much of it a kW of each car takes.

Row 0 is the site's own limit in kW. A circuit adds a row per phase in amperes and one in kW; a car
counts on the phases it uses, and on all three while they are unknown. A bound on a sum of phasors
becomes the sides of a polygon inside its circle. No factor is negative: a car may stop drawing at
any moment, so what its current would take off another's is never counted on. Rows that are kept
are therefore kept by every part of the cars as well.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, cos, floor, radians
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from csms.core.circuit import Cap, Circuit, LimitRow
from csms.core.errors import InvalidInput
from csms.core.plan import PlanningCase

Floats = NDArray[np.float64]

SIDE_DEG = 6.0
"""Angle of a polygon's side: it is inside the circle by less than 0.14 %, and on it at corners."""
PHASES = ("L1", "L2", "L3")
_TERM = attrgetter("session_id", "factor", "angle_deg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """R limits over N cars and K slots: `use @ power_kw + load <= limit`.

    `use` (R, N) is in the row's unit (kW or A) per kW of the car, `load` (R, K) what nobody
    controls, guards of EVSEs without a session included. `circuit` and `name` say which limit a row
    is, `source` whose; where caps lower it, `caps` (K,) says by whom it is bounded in each slot.
    """

    circuit: tuple[str, ...]
    name: tuple[str, ...]
    source: tuple[str, ...]
    caps: tuple[tuple[str, ...], ...]
    use: Floats
    limit: Floats
    load: Floats

    def source_at(self, row: int, slot: int) -> str:
        """Return whose limit a row is in a slot."""
        return (self.caps[row][slot] if self.caps[row] else "") or self.source[row]

    def capped_by(self, row: int, slots: Iterable[int]) -> str:
        """Return whose cap bounds a row in most of `slots`, "" where none does."""
        found = Counter(self.caps[row][slot] if self.caps[row] else "" for slot in slots)
        return found.most_common(1)[0][0] if found else ""

    def label(self, row: int) -> str:
        """Return a row's name for people, such as "garage L2"."""
        if not row:
            return "site limit"
        place = self.circuit[row] or ("site" if self.name[row] in PHASES else "")
        return f"{place} {self.name[row]}".strip()

    def left(self, power_kw: Floats) -> Floats:
        """Return what is left of each limit under `power_kw` (N, K), (R, K); negative: passed."""
        return np.asarray(self.limit - self.load - self.use @ power_kw, dtype=np.float64)


def limits_of(case: PlanningCase, site_kw: Floats, base_kw: Floats, notes: list[str]) -> Limits:
    """Return the limits of `case`, `site_kw` and `base_kw` (K,) being the site's, repaired.

    A wrong number in a limit counts as 0, and is named in `notes`, as is a circuit that hangs
    nowhere. Raises InvalidInput for a series that does not fit the slots.
    """
    per_a, used = _per_a(case), _phases(case, notes)
    members = _members(case, notes)
    caps = _caps(case, notes)
    rows = _Rows(case, caps, notes)
    rows.add("", "kW", site_kw, base_kw + max(_known(case.idle_guard_kw), 0.0), rows.everyone)
    kinds = {(c.circuit_id, kind) for c in caps for kind in _kinds(c)}
    for circuit in _with_site(case, kinds):
        below = members.get(circuit.circuit_id, np.zeros(len(case.sessions), dtype=np.bool_))
        load_kw, load_a = _loads(case, circuit, rows)
        # The site's own power has its row already.
        if circuit.circuit_id and (circuit.limit_kw or (circuit.circuit_id, "kW") in kinds):
            limit = rows.limit(circuit.limit_kw, f"limit_kw of {circuit.circuit_id}")
            use = below.astype(np.float64)
            rows.add(circuit.circuit_id, "kW", limit, load_kw, use, circuit.source)
        if not circuit.limit_a and (circuit.circuit_id, "A") not in kinds:
            continue
        for p, phase in enumerate(PHASES):
            limit = rows.limit(_phase(circuit.limit_a, p), f"{phase} of {circuit.circuit_id}")
            use = np.where(below & used[:, p], per_a, 0.0)
            rows.add(circuit.circuit_id, phase, limit, load_a[p], use, circuit.source)
    index = {s.session_id: i for i, s in enumerate(case.sessions)} if case.limit_rows else {}
    for row in case.limit_rows:
        _add_phasors(rows, row, index, per_a)
    return rows.built()


class _Rows:
    """Rows as they are added, with caps taken in."""

    def __init__(self, case: PlanningCase, caps: tuple[Cap, ...], notes: list[str]) -> None:
        self.case, self.caps, self.notes = case, caps, notes
        self.everyone = np.ones(len(case.sessions), dtype=np.float64)
        self._named: list[tuple[str, str, str, tuple[str, ...]]] = []
        self._use: list[Floats] = []
        self._limit: list[Floats] = []
        self._load: list[Floats] = []

    def limit(self, series: tuple[float, ...], name: str) -> Floats:
        """Return a limit as (K,): infinite where there is none, 0 where it is no number."""
        if not series:
            return np.full(self.case.slots, np.inf)
        if len(series) == 1 and series[0] >= 0:
            return np.full(self.case.slots, series[0], dtype=np.float64)
        raw = self.series(series, name)
        wrong = np.isnan(raw) | (raw < 0)
        if wrong.any():
            self.notes.append(f"{name} is wrong in {int(wrong.sum())} slots: taken as 0")
        return np.where(wrong, 0.0, raw)

    def load(self, series: tuple[float, ...], name: str) -> Floats:
        """Return a load as (K,); what is unknown may be as high as any that is known."""
        if not series:
            return np.zeros(self.case.slots)
        raw = self.series(series, name)
        known = np.isfinite(raw)
        if not known.all():
            fill = float(raw[known].max()) if known.any() else 0.0
            self.notes.append(f"{name} is missing in {int((~known).sum())} slots: {fill:.4g} used")
            raw = np.where(known, raw, fill)
        if (raw < 0).any():
            # What feeds in may stop any moment, as own generation does behind a cloud.
            self.notes.append(f"{name} is below 0 in {int((raw < 0).sum())} slots: raised")
            raw = np.maximum(raw, 0.0)
        return raw

    def series(self, series: tuple[float, ...], name: str) -> Floats:
        """Return a series as (K,); raise InvalidInput if it has another number of entries."""
        if len(series) not in (1, self.case.slots):
            raise InvalidInput(f"{name} has {len(series)} entries; it must have {self.case.slots}")
        raw = np.array(series, dtype=np.float64)
        return raw if len(raw) > 1 else np.full(self.case.slots, raw[0])

    def add(
        self,
        circuit: str,
        name: str,
        limit: Floats,
        load: Floats,
        use: Floats,
        source: str = "site",
    ) -> None:
        """Add a row, lowered by the caps that hold for it."""
        by = [""] * self.case.slots
        for cap in self.caps:
            value = cap.limit_kw if name == "kW" else cap.limit_a if name in PHASES else None
            if cap.circuit_id != circuit or value is None:
                continue
            if not value >= 0:
                self.notes.append(f"the cap of {cap.source} is {value:g}: taken as 0")
                value = 0.0
            holds = _during(self.case, cap)
            for k in np.flatnonzero(holds & (limit > value)).tolist():
                by[k] = cap.source
            limit = np.where(holds, np.minimum(limit, value), limit)
        self._named.append((circuit, name, source, tuple(by) if any(by) else ()))
        self._limit.append(limit[None])
        self._load.append(load[None])
        self._use.append(use[None])

    def add_sides(self, name: str, limit: Floats, load: Floats, use: Floats) -> None:
        """Add the sides of a polygon, a row each; caps are of circuits and do not hold for them."""
        self._named += [("", name, "limit row", ())] * len(limit)
        self._limit.append(limit)
        self._load.append(load)
        self._use.append(use)

    def built(self) -> Limits:
        """Return all rows."""
        circuits, names, sources, caps = zip(*self._named, strict=True)
        return Limits(
            circuit=circuits,
            name=names,
            source=sources,
            caps=caps,
            use=np.concatenate(self._use),
            limit=np.concatenate(self._limit),
            load=np.concatenate(self._load),
        )


def _known(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


def _at(series: tuple[float, ...], p: int) -> float:
    return 0.0 if not series else series[p if len(series) > p else 0]


def _phase(rows: tuple[tuple[float, ...], ...], p: int) -> tuple[float, ...]:
    return () if not rows else rows[p if len(rows) > p else 0]


def _kinds(cap: Cap) -> Iterable[str]:
    return (k for k, v in (("kW", cap.limit_kw), ("A", cap.limit_a)) if v is not None)


def _during(case: PlanningCase, cap: Cap) -> NDArray[np.bool_]:
    pairs = zip(case.edges_at, case.edges_at[1:], strict=False)
    return np.array([a < cap.ends_at and cap.starts_at < b for a, b in pairs], dtype=np.bool_)


def _caps(case: PlanningCase, notes: list[str]) -> tuple[Cap, ...]:
    """Return the caps; one of a circuit that nobody knows holds for the whole site."""
    known = {"", *(c.circuit_id for c in case.circuits)}
    for cap in case.caps:
        if cap.circuit_id not in known:
            notes.append(f"the cap of {cap.source} is for {cap.circuit_id}, which is not known")
    return tuple(c if c.circuit_id in known else replace(c, circuit_id="") for c in case.caps)


def _with_site(case: PlanningCase, kinds: set[tuple[str, str]]) -> tuple[Circuit, ...]:
    """Return the circuits, and the site as one where a cap bounds its phases."""
    if ("", "A") not in kinds:
        return case.circuits
    volts = Circuit(circuit_id="").voltage_v
    load = case.base_load_a or (tuple(kw * 1000.0 / (3 * volts) for kw in case.base_load_kw),)
    # Of guards whose phases nobody named, all may draw from the same one.
    guards = case.idle_guard_a or (_known(case.idle_guard_kw) * 1000.0 / volts,)
    site = Circuit(circuit_id="", load_a=load, idle_guard_a=guards, source="site")
    return (site, *case.circuits)


def _per_a(case: PlanningCase) -> Floats:
    """Return the current per phase of a kW of each car, A."""
    phases = np.array([min(max(s.phases, 1), 3) for s in case.sessions], dtype=np.float64)
    volts = np.array([s.voltage_v for s in case.sessions], dtype=np.float64)
    return 1000.0 / (np.where((volts > 0) & np.isfinite(volts), volts, 230.0) * phases)


def _phases(case: PlanningCase, notes: list[str]) -> NDArray[np.bool_]:
    """Return which phases each car counts on, (N, 3)."""
    used = np.ones((len(case.sessions), 3), dtype=np.bool_)
    if not any([s.phases_used for s in case.sessions]):
        return used
    for i, session in enumerate(case.sessions):
        if session.phases_used:
            if not set(session.phases_used) <= {1, 2, 3}:
                notes.append(f"phases of {session.session_id} are wrong: counted on all three")
                continue
            used[i] = [p in session.phases_used for p in (1, 2, 3)]
    return used


def _members(case: PlanningCase, notes: list[str]) -> Mapping[str, NDArray[np.bool_]]:
    """Return which cars hang below each circuit, (N,) by circuit id; all hang below the site."""
    above = _parents(case, notes)
    found: dict[str, NDArray[np.bool_]] = {"": np.ones(len(case.sessions), dtype=np.bool_)}
    if not any([s.circuit_id for s in case.sessions]):
        return found
    for i, session in enumerate(case.sessions):
        at = session.circuit_id
        if at and at not in above:
            notes.append(f"{session.session_id} is on circuit {at}, which is not known: site only")
            continue
        for circuit_id in _path(at, above):
            if circuit_id not in found:
                found[circuit_id] = np.zeros(len(case.sessions), dtype=np.bool_)
            found[circuit_id][i] = True
    return found


def _parents(case: PlanningCase, notes: list[str]) -> dict[str, str]:
    above: dict[str, str] = {}
    for circuit in case.circuits:
        if circuit.circuit_id in above or not circuit.circuit_id:
            raise InvalidInput(f"circuit_id {circuit.circuit_id!r} is not unique in the case")
        above[circuit.circuit_id] = circuit.parent_id
    for circuit_id, parent in list(above.items()):
        if parent and parent not in above:
            notes.append(f"circuit {circuit_id} hangs on {parent}, which is not known: on the site")
            above[circuit_id] = ""
        elif circuit_id in _path(parent, above):
            notes.append(f"circuit {circuit_id} hangs on itself: on the site instead")
            above[circuit_id] = ""
    return above


def _path(circuit_id: str, above: Mapping[str, str]) -> list[str]:
    """Return a circuit and all above it, each once."""
    path: list[str] = []
    while circuit_id and circuit_id not in path:
        path.append(circuit_id)
        circuit_id = above.get(circuit_id, "")
    return path


def _loads(case: PlanningCase, circuit: Circuit, rows: _Rows) -> tuple[Floats, list[Floats]]:
    """Return what draws unmanaged at and below a circuit: in all, kW, and per phase, A.

    Guards of EVSEs without a planned session are part of it.
    """
    above = _parents(case, [])
    total, phases = np.zeros(case.slots), [np.zeros(case.slots) for _ in PHASES]
    for other in case.circuits if circuit.circuit_id else (circuit,):
        if circuit.circuit_id and circuit.circuit_id not in _path(other.circuit_id, above):
            continue
        name = f"load of {other.circuit_id or 'the site'}"
        own = [rows.load(_phase(other.load_a, p), name) for p in range(3)]
        own_kw = rows.load(other.load_kw, name)
        if not other.load_kw:
            own_kw = sum(own, np.zeros(case.slots)) * other.voltage_v / 1000.0
        if not other.load_a:
            own = [own_kw * 1000.0 / (3.0 * other.voltage_v)] * 3
        idle_a = [max(_known(_at(other.idle_guard_a, p)), 0.0) for p in range(3)]
        idle_kw = max(_known(other.idle_guard_kw), 0.0)
        total = total + own_kw + max(idle_kw, sum(idle_a) * other.voltage_v / 1000.0)
        phases = [a + b + c for a, b, c in zip(phases, own, idle_a, strict=True)]
    return total, phases


def _add_phasors(rows: _Rows, row: LimitRow, index: Mapping[str, int], per_a: Floats) -> None:
    """Add the sides of a polygon inside the circle that bounds a sum of phasors."""
    terms = [
        (index[name], abs(factor), angle + 180.0 if factor < 0 else angle)
        for name, factor, angle in map(_TERM, row.terms)
        if factor != 0 and name in index
    ]
    if not terms:
        return
    # A current that is subtracted is one that flows at the opposite angle.
    cars, factors, angles = zip(*terms, strict=True)
    place = {angle: at for at, angle in enumerate(dict.fromkeys(angles))}
    limit = rows.limit(row.limit_a, f"limit_a of {row.row_id}")
    load = rows.load(row.load_a, f"load_a of {row.row_id}") + max(_known(row.idle_guard_a), 0.0)
    shares, reach = _polygon(tuple(place))
    along = reach[list(map(place.__getitem__, angles))] * np.array(factors)[:, None]
    use, at = np.zeros((len(per_a), len(shares))), list(cars)
    if len(set(at)) == len(at):
        use[at] = along
    else:
        np.add.at(use, at, along)
    rows.add_sides(row.row_id, shares * limit, shares * load, (use * per_a[:, None]).T)


@lru_cache(maxsize=256)
def _polygon(angles_deg: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return how far each side is, (S, 1), and how much of an ampere at each angle points to it.

    The latter is (angles, S); a network asks for the same few at every plan.
    """
    normals, shares = np.array(_sides(angles_deg)).T
    apart = np.radians(np.array(angles_deg)[:, None] - normals)
    # What points away from a side would relieve it, until that car stops drawing.
    return shares[:, None], np.maximum(np.cos(apart), 0.0)


def _sides(angles_deg: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return the normals of the sides that sums of phasors at these angles can reach.

    With each, its distance as a share of the circle's radius. Corners lie at the first angle and
    every SIDE_DEG from it, so sums in those directions lose nothing.
    """
    first = angles_deg[0]
    apart = [(a - first + 180.0) % 360.0 - 180.0 for a in angles_deg]
    low, high = min(apart), max(apart)
    if high - low < 1e-9:
        return [(first, 1.0)]
    if high - low >= 180.0 - 1e-9:
        low, high = 0.0, 360.0
    from_, until = floor(low / SIDE_DEG + 1e-9), ceil(high / SIDE_DEG - 1e-9)
    inside = cos(radians(SIDE_DEG / 2))
    return [(first + (k + 0.5) * SIDE_DEG, inside) for k in range(from_, until)]
