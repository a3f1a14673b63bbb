"""PlanningCase and Plan: the planner's whole input and result, to and from JSON.

Both are plain tuples, so that the store keeps them, the service compares them without importing
the planner, and the same file gives the same plan bit for bit (JSON floats round-trip exactly).
"""

from dataclasses import dataclass
from datetime import datetime

from csms.core import plain_json
from csms.core.circuit import Cap, Circuit, LimitRow
from csms.core.model import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningSession:
    """One car in a planning case. Powers and energies are at the meter.

    It is there from `available_at` on: since then, if that is past, and how long it has been there
    already counts.

    `required_kwh` is still needed before `departs_at`; `preferred_kwh` (>= required) is wanted if
    it is cheap: at most `max_price_per_kwh`. `min_kw` is the least power other than 0, `max_kw` the
    least of EVSE, cable, car and what the car was seen to take. `guard_kw` is what the station
    allows by itself once its schedule runs out. `fixed_kw` is (slots,) for a car we cannot control:
    it draws that whatever we wish. `current_kw` is the limit in force until now (None: none
    set), `in_force_kw` the row that the station follows from now on if nothing is sent, as far as
    its schedule reaches (at most slots,).
    """

    session_id: str
    station_id: str
    evse_id: int
    available_at: datetime
    departs_at: datetime
    required_kwh: float
    preferred_kwh: float
    max_kw: float
    min_kw: float
    guard_kw: float = 0.0
    phases: int = 3
    """How many phases it charges on: with `voltage_v`, its power is current times both."""
    priority: int = 0
    """Class of priority: a need of a higher class comes before any of a lower one."""
    max_price_per_kwh: float | None = None
    carbon_weight_eur_per_kg: float = 0.0
    current_kw: float | None = None
    fixed_kw: tuple[float, ...] | None = None
    is_assumed: bool = False
    in_force_kw: tuple[float, ...] = ()
    circuit_id: str = ""
    """The circuit its EVSE hangs on, "" for the site's connection itself."""
    phases_used: tuple[int, ...] = ()
    """Which of L1..L3 (1, 2, 3) it draws from; empty while unknown: it then counts on all three."""
    voltage_v: float = 230.0
    step_a: float = 0.0
    """Currents it takes are multiples of this above its minimum; 0: any."""
    levels_a: tuple[float, ...] = ()
    """The only currents it takes besides 0, such as 8, 16, 24, 32; empty: any, or by `step_a`."""
    step_w: float = 0.0
    """The same for stations that count in watts; 0: any."""
    delivered_kwh: float = 0.0
    """What it has had of its need: scarce power is shared by the quarters of whole needs."""
    guaranteed_slots: int = 0
    """In so many slots from the first on it gets its minimum whatever the price."""
    since_on_at: datetime | None = None
    """Since when it is allowed to charge without a break, None if it is not."""
    since_off_at: datetime | None = None
    """Since when it is paused, None if it is not or never was."""
    never_pause: bool = False
    """It may not wake up again: once begun it keeps its minimum while it wants energy."""
    max_periods: int = 0
    """How many schedule periods its station takes at most; 0: any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the solver ended, for the next plan of the site to begin there.

    `edges_at` are the starts of the blocks that it looked at. `states` (as many as `names`) have a
    letter for each thing that was decided: "b" where a limit or the rest of a need did, "u" where
    it is at its upper bound, "l" at its lower one, "-" where there is none. A car, named by its
    session, has one per block for its power above a guard and one for that below, then one per
    step of its need and one for the sum; a limit has one per block.
    """

    edges_at: tuple[datetime, ...]
    names: tuple[str, ...]
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningCase:
    """Everything the planner may look at.

    `edges_at` has one entry more than there are slots; slot k is [edges_at[k], edges_at[k+1]).
    The first slot may be shorter than the rest, starting at `now_at`; just before a boundary the
    first slot starts there, and nothing changes until then. Series are (slots,):
    `limit_kw` the site's limit, `base_load_kw` what the building is expected to draw at most,
    `reserved_kw` headroom kept for forecast arrivals (given up before a need is missed),
    `idle_guard_kw` the guards of EVSEs without a session (never given up: they hold without us).
    """

    site_id: str
    now_at: datetime
    strategy: Strategy = Strategy.OPTIMAL
    edges_at: tuple[datetime, ...]
    limit_kw: tuple[float, ...]
    base_load_kw: tuple[float, ...]
    reserved_kw: tuple[float, ...]
    idle_guard_kw: float = 0.0
    price_eur_per_kwh: tuple[float, ...]
    co2_kg_per_kwh: tuple[float, ...]
    demand_charge_eur_per_kw: float = 0.0
    billed_peak_kw: float = 0.0
    base_load_a: tuple[tuple[float, ...], ...] = ()
    """The building's current in L1, L2 and L3, (3, slots), or empty: its power evenly."""
    idle_guard_a: tuple[float, ...] = ()
    """What `idle_guard_kw` is at most in L1, L2 and L3, (3,), or empty: all of it in any of them.

    It counts where a cap bounds the phases of the whole site."""
    solar_kw: tuple[float, ...] = ()
    """The site's own generation, (slots,) or empty. It makes energy cheaper and clean where it
    exceeds the base load, and lowers the peak that is billed; it never raises what the limit
    leaves, since a cloud may take it."""
    export_eur_per_kwh: tuple[float, ...] = ()
    """What a kWh of surplus would earn if exported, (slots,) or empty (nothing)."""
    sessions: tuple[PlanningSession, ...]
    circuits: tuple[Circuit, ...] = ()
    """The tree of fuses below the site's connection, in any order."""
    limit_rows: tuple[LimitRow, ...] = ()
    """Limits that are no plain sums: sums of phasors in line-to-line networks."""
    caps: tuple[Cap, ...] = ()
    """Limits for a time, on top of all others."""
    peak_hint_kw: float = 0.0
    """A peak this billing period reaches anyhow (the last one's best): as free as a billed one."""
    days_left: float = 1.0
    """Days left in the billing period: the fewer, the more a new peak now costs per day."""
    avoids_pauses: bool = True
    """Who charges goes on rather than pause, though another is a little more urgent. Without it a
    scarce site gives some more energy in more pieces."""
    notes: tuple[str, ...] = ()
    """Marked fallbacks in the input, such as "prices missing from 18:00"."""
    start: Start | None = None
    """Where the last plan's solver ended: it saves time, and may choose among equal plans."""

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.edges_at) - 1

    def hours(self) -> tuple[float, ...]:
        """Return the length of each slot in hours, (slots,)."""
        pairs = zip(self.edges_at, self.edges_at[1:], strict=False)
        return tuple((end - start).total_seconds() / 3600 for start, end in pairs)

    def to_json(self) -> str:
        """Return the case as one JSON object."""
        return plain_json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> "PlanningCase":
        """Return the case in `text`; raise InvalidInput naming the field that is wrong."""
        return plain_json.loads(cls, text, where="case")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A limit that held cars back: which, where, and what more of it would be worth.

    `circuit_id` is "" for the site, `limit` is "kW", "L1".."L3" or the id of a limit row. `slots`
    are those in which it bound, `value_eur` (as many) what one more unit of it (a kWh, or an ampere
    for an hour) would have been worth there; empty where no solver said so.
    """

    circuit_id: str
    limit: str
    slots: tuple[int, ...]
    value_eur: tuple[float, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """From slot `first` on, until the next one, a car's power is as it is for this `reason`."""

    first: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSession:
    """One car's row of a plan: `power_kw` is (slots,).

    `shortfall_kwh` is the part of the need that will not be met: what rounding or steadiness takes
    from later slots of the row, plans to come make up. `shortfall_reason` says why: "time" (even
    full power does not suffice), "site limit", "circuit limit", "guard", "load" (what nobody
    controls fills a limit), "uncontrolled", "" if there is none; `shortfall_limit` then names the
    limit that binds ("garage L2", "site limit by grid operator"), and `ways_out` what would help,
    the cheapest first.
    `finishes_at` is when the need is met, None if it is not. `reason` explains the row in a word
    for people: "cheapest hours", "departure near", "shares the site limit", "nothing needed", ...
    """

    session_id: str
    power_kw: tuple[float, ...]
    shortfall_kwh: float = 0.0
    shortfall_reason: str = ""
    finishes_at: datetime | None = None
    energy_kwh: float = 0.0
    cost_eur: float = 0.0
    co2_kg: float = 0.0
    reason: str = ""
    shortfall_limit: str = ""
    ways_out: tuple[str, ...] = ()
    why: tuple[Why, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The planner's result; rows are in the order of the case's sessions.

    `status` is "optimal", "fallback" (the solver failed; limits still hold) or "rule" (a strategy
    without a solver). `binding_slots` are those in which the site's limit held a car back, with
    `limit_value_eur_per_kwh` (slots,) saying what one more kWh there would be worth; `bindings` say
    the same of every limit. `relaxed_objective` is the optimum without whole currents and minimum
    currents, in the solver's own weights, and `rounding_loss_share` what rounding lost against it.
    `start` is where the solver ended, for the next case of the site.
    """

    site_id: str
    made_at: datetime
    strategy: Strategy
    status: str
    edges_at: tuple[datetime, ...]
    sessions: tuple[PlannedSession, ...]
    peak_kw: float = 0.0
    cost_eur: float = 0.0
    co2_kg: float = 0.0
    binding_slots: tuple[int, ...] = ()
    limit_value_eur_per_kwh: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    bindings: tuple[Binding, ...] = ()
    relaxed_objective: float | None = None
    rounding_loss_share: float | None = None
    start: Start | None = None

    @property
    def shortfall_kwh(self) -> float:
        """Energy that will be missing at departure, over all sessions."""
        return sum(s.shortfall_kwh for s in self.sessions)

    def row(self, session_id: str) -> PlannedSession | None:
        """Return the row of `session_id`, None if the plan does not hold it."""
        return next((s for s in self.sessions if s.session_id == session_id), None)

    def to_json(self) -> str:
        """Return the plan as one JSON object."""
        return plain_json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan in `text`; raise InvalidInput naming the field that is wrong."""
        return plain_json.loads(cls, text, where="plan")
