"""What draws at a site beside its cars, from the store to the slots of a planning case.

The load of a site's connection is what its own meter or forecast says of all that is no car. Where
it has neither, what its circuits' meters say takes the place of what was configured for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from csms.core.circuit import Circuit
from csms.core.metering import LOAD, SOLAR
from csms.core.model import Site
from csms.core.units import SLOT_S, each_phase, slot_start
from csms.core.wiring import CircuitSetup
from csms.planning.unmanaged import (
    Place,
    Unmanaged,
    load_of,
    past_days,
    past_ranges,
    solar_of,
)
from csms.store import energy, metering
from csms.store.statements import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """What is known of a site's loads and own generation; `circuits` holds those known of."""

    site: Place
    solar: Place
    circuits: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The same per slot; `circuits` by id, `solar_kw` empty where nothing tells of it."""

    site: Unmanaged
    solar_kw: tuple[float, ...]
    circuits: Mapping[str, Unmanaged]


def flows_of(
    tx: Tx,
    site: Site,
    setups: Sequence[CircuitSetup],
    *,
    now: datetime,
    horizon_h: float,
) -> Flows:
    """Return what is known of the loads of a site now and for `horizon_h` on."""
    span = slot_start(now), now + timedelta(hours=horizon_h)
    expected = metering.expected(tx, site.site_id, span[0], span[1])
    weeks = past_ranges(span, time_zone=site.time_zone)

    def filled(place: Place, ranges: Sequence[tuple[datetime, datetime]]) -> Place:
        if not place.meter:
            return place
        return replace(
            place,
            reading=metering.newest_reading(tx, site.site_id, place.meter),
            quarters={
                q.starts_at: q for q in metering.quarters(tx, site.site_id, place.meter, ranges)
            },
        )

    circuits = {}
    for setup in setups:
        points = expected.get((setup.circuit_id, LOAD), ())
        if setup.meter or points:
            place = replace(place_of(setup), expected=points)
            circuits[setup.circuit_id] = filled(place, weeks)
    return Flows(
        site=filled(replace(_connection(site), expected=expected.get(("", LOAD), ())), weeks),
        solar=filled(
            Place(
                name="the site",
                worst_kw=0.0,
                meter=site.solar_meter,
                expected=expected.get(("", SOLAR), ()),
            ),
            past_days(span, time_zone=site.time_zone),
        ),
        circuits=circuits,
    )


def _connection(site: Site) -> Place:
    return Place(
        name="the building",
        worst_kw=site.base_load_kw,
        meter=site.meter,
        voltage_v=site.voltage_v,
    )


def place_of(setup: CircuitSetup) -> Place:
    """Return a circuit's load as configured."""
    return Place(
        name=f"circuit {setup.circuit_id}",
        worst_kw=setup.most_kw,
        worst_a=each_phase(setup.load_a),
        meter=setup.meter,
        voltage_v=setup.voltage_v,
    )


def counted(
    flows: Flows,
    site: Site,
    edges_at: tuple[datetime, ...],
    *,
    now: datetime,
    notes: list[str],
) -> Counted:
    """Return what draws beside the cars in each slot; every fallback is named in `notes`."""
    stale = timedelta(seconds=site.meter_stale_s)

    def load(place: Place) -> Unmanaged:
        return load_of(
            place,
            edges_at,
            now=now,
            stale=stale,
            quantile=site.load_quantile,
            time_zone=site.time_zone,
            notes=notes,
        )

    circuits = {circuit_id: load(place) for circuit_id, place in flows.circuits.items()}
    own = load(flows.site)
    if not flows.site.is_known:
        configured = sum(p.worst_kw for p in flows.circuits.values())
        rest_kw = max(site.base_load_kw - configured, 0.0)
        rows = [own.power_kw, *(c.power_kw for c in circuits.values())]
        own = Unmanaged(power_kw=tuple(rest_kw + sum(slot[1:]) for slot in zip(*rows, strict=True)))
    return Counted(
        site=own,
        solar_kw=solar_of(
            flows.solar, edges_at, now=now, stale=stale, time_zone=site.time_zone, notes=notes
        ),
        circuits=circuits,
    )


def with_loads(circuits: Sequence[Circuit], loads: Mapping[str, Unmanaged]) -> tuple[Circuit, ...]:
    """Return the circuits of a case with what draws on them, where that is known."""
    return tuple(
        circuit
        if (load := loads.get(circuit.circuit_id)) is None
        else replace(circuit, load_kw=load.power_kw, load_a=load.current_a)
        for circuit in circuits
    )


def billed_peak_kw(tx: Tx, site: Site, setups: Sequence[CircuitSetup], now: datetime) -> float:
    """Return the highest quarter hour of the month so far that came from the grid, kW.

    That is what the sessions' meters and those of the site showed, less own generation. A quarter
    hour that the building's meter left out counts with the mean of the others, and where nothing
    measures the building, with what is configured: its worst case was hardly the case.
    """
    local = now.astimezone(ZoneInfo(site.time_zone))
    month = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    span = ((month, slot_start(now)),)

    def means(meter: str) -> dict[datetime, float]:
        return {q.starts_at: q.mean_kw for q in metering.quarters(tx, site.site_id, meter, span)}

    cars = {
        q.starts_at: q.energy_kwh * 3600.0 / SLOT_S
        for q in energy.energy_by_quarter(tx, site.site_id, *span[0])
    }
    rest_kw, meters = site.base_load_kw, []
    if site.meter:
        rest_kw, meters = 0.0, [(site.meter, site.base_load_kw)]
    else:
        meters = [(s.meter, s.most_kw) for s in setups if s.meter]
        rest_kw = max(rest_kw - sum(most for _, most in meters), 0.0)
    loads = [(means(meter), most) for meter, most in meters]
    sun = means(site.solar_meter) if site.solar_meter else {}
    otherwise = [sum(m.values()) / len(m) if m else most for m, most in loads]
    quarters = cars.keys() | {at for measured, _ in loads for at in measured}
    return max(
        (
            cars.get(at, 0.0)
            + rest_kw
            + sum(m.get(at, mean) for (m, _), mean in zip(loads, otherwise, strict=True))
            - sun.get(at, 0.0)
            for at in quarters
        ),
        default=0.0,
    )
