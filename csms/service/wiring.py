"""What a planning case needs to know of wires and stations: the tree of fuses, steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from csms.core.circuit import Circuit, Wiring
from csms.core.model import Evse, Station

_COARSE_W = 100.0
"""A tenth of an ampere on each of three phases is less than this: rounding down hardly costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleGuards:
    """What EVSEs without a planned session may draw: `kw` in all, `current_a` per phase (3,).

    Both are by the circuit that the EVSEs hang on themselves, "" being the site's connection.
    """

    kw: Mapping[str, float]
    current_a: Mapping[str, tuple[float, ...]]

    @property
    def of_site_a(self) -> tuple[float, ...]:
        """What all of them may draw in L1, L2 and L3, A."""
        return tuple(sum(phase) for phase in zip(*self.current_a.values(), strict=True))

    def on(self, circuits: Sequence[Circuit]) -> tuple[Circuit, ...]:
        """Return `circuits` with what hangs on each."""
        return tuple(
            replace(
                circuit,
                idle_guard_kw=self.kw.get(circuit.circuit_id, 0.0),
                idle_guard_a=self.current_a.get(circuit.circuit_id, ()),
            )
            for circuit in circuits
        )


def idle_guards(
    wiring: Wiring,
    evses: Sequence[Evse],
    idle_kw: Mapping[tuple[str, int], float],
    *,
    voltage_v: float,
    drawing: frozenset[tuple[str, int]] = frozenset(),
) -> IdleGuards:
    """Return where EVSEs without a planned session may draw.

    `idle_kw` is by (station, EVSE number). An EVSE whose phases nobody knows counts on all three.
    What a car draws that is not planned, at the EVSEs in `drawing`, may all come from one phase, as
    far as the EVSE lets it.
    """
    known = {(e.station_id, e.evse_id): e for e in evses}
    total_kw: dict[str, float] = {}
    per_phase_a: dict[str, list[float]] = {}
    for (station_id, evse_id), kw in idle_kw.items():
        circuit_id = wiring.of(station_id, evse_id).circuit_id
        # One that was never described may draw all of it from a single phase.
        evse = known.get((station_id, evse_id))
        used = evse.phases if evse is not None else 1
        current_a = kw * 1000.0 / (used * voltage_v)
        if evse is not None and (station_id, evse_id) in drawing:
            current_a = min(kw, max(evse.max_kw / used, kw / used)) * 1000.0 / voltage_v
        total_kw[circuit_id] = total_kw.get(circuit_id, 0.0) + kw
        row = per_phase_a.setdefault(circuit_id, [0.0] * 3)
        for phase in wiring.phases(station_id, evse_id, used=used) or (1, 2, 3):
            row[phase - 1] += current_a
    return IdleGuards(kw=total_kw, current_a={k: tuple(row) for k, row in per_phase_a.items()})


def step_a(station: Station, evse: Evse) -> float:
    """Return the steps in which a station counts amperes, 0.0 where they hardly matter.

    A tenth of an ampere is rounded down when a schedule is cut; whole ones have to be planned with.
    """
    limits = station.limits
    in_amperes = evse.current_type != "DC" and "A" in limits.units
    return limits.step_a if in_amperes and limits.step_a >= 1.0 else 0.0


def step_w(station: Station, evse: Evse) -> float:
    """Return the steps in which a station counts watts, 0.0 where they hardly matter."""
    limits = station.limits
    in_watts = "W" in limits.units and (evse.current_type == "DC" or "A" not in limits.units)
    return limits.step_w if in_watts and limits.step_w >= _COARSE_W else 0.0
