"""Recorded stays, the site on which they are lived through again, and what that came to."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from csms.core.model import CarbonIntensity, Price, StationLimits, Strategy
from csms.core.units import MIN_CURRENT_A, slot_start, w_from_a

MET_WITHIN_KWH = 0.1
"""A need that lacks no more than this is met: half a kilometre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A recorded stay and its car. `need_kwh` (at the meter) is stated at plug-in.

    `departs_at` is when it left, which nobody knew; `stated_departs_at` is what was said.
    """

    visit_id: str
    arrives_at: datetime
    departs_at: datetime
    stated_departs_at: datetime
    need_kwh: float
    soc: float
    battery_kwh: float
    max_kw: float
    phases: int = 3
    efficiency: float = 0.9
    max_soc: float = 1.0
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The site on which the stays are lived through.

    `chargers` (None: as many as there are cars) stand on the site's connection. `base_load_kw`
    is the building's, by the start of a quarter hour where `base_kw` knows it. The demand charge
    is for the highest quarter hour of the days replayed, the building counted. `until` is their
    end.
    """

    site_id: str = "replayed"
    strategy: Strategy = Strategy.OPTIMAL
    limit_kw: float
    chargers: int | None = None
    charger_kw: float = 22.0
    voltage_v: float = 230.0
    time_zone: str = "UTC"
    prices: tuple[Price, ...] = ()
    carbon: tuple[CarbonIntensity, ...] = ()
    base_load_kw: float = 0.0
    base_kw: dict[datetime, float] = field(default_factory=dict)
    demand_charge_eur_per_kw: float = 0.0
    slot_s: int = 900
    horizon_h: float = 24.0
    limits: StationLimits = field(default_factory=StationLimits)
    until: datetime

    def base_at(self, at: datetime) -> float:
        """Return the building's load at `at`, kW."""
        return max(self.base_kw.get(slot_start(at), self.base_load_kw), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitOutcome:
    """What a car had when it left; one that found no charger had nothing."""

    visit_id: str
    need_kwh: float
    taken_kwh: float
    could_kwh: float
    """What it would have taken at full power from plug-in on: no plan gives more."""
    is_turned_away: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the need was met."""
        return self.need_kwh - self.taken_kwh <= MET_WITHIN_KWH

    @property
    def is_possible(self) -> bool:
        """Whether any plan could have met it, with the charger all to itself."""
        return not self.is_turned_away and self.need_kwh - self.could_kwh <= MET_WITHIN_KWH


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedDay:
    """What the days came to. Energies and money are of the cars alone, the peak with building.

    `violations` counts the stretches in which cars drew, or their schedules allowed, more than the
    limit leaves: it has to be 0.
    """

    strategy: Strategy
    limit_kw: float
    visits: tuple[VisitOutcome, ...]
    energy_kwh: float
    cost_eur: float
    co2_kg: float
    peak_kw: float
    demand_charge_eur: float
    plans: int
    fallbacks: int
    profiles_sent: int
    pauses: int
    violations: int

    @property
    def met(self) -> int:
        """How many needs were met."""
        return sum(v.is_met for v in self.visits)

    @property
    def possible(self) -> int:
        """How many needs full power from plug-in to plug-out would have met."""
        return sum(v.is_possible for v in self.visits)

    @property
    def turned_away(self) -> int:
        """How many found no charger."""
        return sum(v.is_turned_away for v in self.visits)

    @property
    def need_kwh(self) -> float:
        """What was needed in all."""
        return sum(v.need_kwh for v in self.visits)

    @property
    def delivered_share(self) -> float:
        """Which share of the needed energy was delivered; 1.0 where nothing was needed."""
        needed = self.need_kwh
        return sum(min(v.taken_kwh, v.need_kwh) for v in self.visits) / needed if needed else 1.0


def least_kw(visit: Visit, world: World) -> float:
    """Return the least power other than 0 that a car charges with."""
    return w_from_a(MIN_CURRENT_A, phases=visit.phases, voltage_v=world.voltage_v) / 1000.0


def with_stated_departures(
    visits: Sequence[Visit], *, error_min: Sequence[float]
) -> tuple[Visit, ...]:
    """Return visits whose drivers said they would leave `error_min` later than they did.

    One value per visit; nobody says to have left before coming.
    """
    return tuple(
        replace(
            v,
            stated_departs_at=max(
                v.departs_at + timedelta(minutes=e), v.arrives_at + timedelta(minutes=15)
            ),
        )
        for v, e in zip(visits, error_min, strict=True)
    )
