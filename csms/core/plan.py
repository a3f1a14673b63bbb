"""PlanningCase and Plan: the planner's whole input and result, to and from JSON.

Both are plain tuples, so that the store keeps them, the service compares them without importing
the planner, and the same file gives the same plan bit for bit (JSON floats round-trip exactly).
"""

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from csms.core.errors import InvalidInput
from csms.core.model import Strategy

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningSession:
    """One car in a planning case. Powers and energies are at the meter.

    `required_kwh` is still needed before `departs_at`; `preferred_kwh` (>= required) is wanted if
    it is cheap. `min_kw` is the least power other than 0, `max_kw` the least of EVSE, cable, car
    and what the car was seen to take. `guard_kw` is what the station allows by itself once its
    schedule runs out. `fixed_kw` is (slots,) for a car we cannot control: it draws that whatever
    we wish. `current_kw` is the limit in force now (None: none set), `in_force_kw` the row that the
    station follows if nothing is sent, as far as its schedule reaches (at most slots,).
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
    priority: int = 0
    max_price_per_kwh: float | None = None
    carbon_weight_eur_per_kg: float = 0.0
    current_kw: float | None = None
    fixed_kw: tuple[float, ...] | None = None
    is_assumed: bool = False
    in_force_kw: tuple[float, ...] = ()


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
    solar_kw: tuple[float, ...] = ()
    """The site's own generation, (slots,) or empty. It makes energy cheaper and clean where it
    exceeds the base load; it never raises what the limit leaves, since a cloud may take it."""
    export_eur_per_kwh: tuple[float, ...] = ()
    """What a kWh of surplus would earn if exported, (slots,) or empty (nothing)."""
    sessions: tuple[PlanningSession, ...]
    notes: tuple[str, ...] = ()
    """Marked fallbacks in the input, such as "prices missing from 18:00"."""

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
        return _dump(self)

    @classmethod
    def from_json(cls, text: str) -> "PlanningCase":
        """Return the case in `text`; raise InvalidInput naming the field that is wrong."""
        raw = _load(text)
        raw["sessions"] = tuple(
            _build(PlanningSession, s, f"sessions[{i}]") for i, s in enumerate(raw["sessions"])
        )
        return _build(cls, raw, "case")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSession:
    """One car's row of a plan: `power_kw` is (slots,).

    `shortfall_kwh` is the part of the need that is not met, `shortfall_reason` why: "time" (even
    full power does not suffice), "site limit", "guard", "uncontrolled", "" if there is none.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The planner's result; rows are in the order of the case's sessions.

    `status` is "optimal", "fallback" (the solver failed; limits still hold) or "rule" (a strategy
    without a solver). `binding_slots` are those in which the site's limit held a car back, with
    `limit_value_eur_per_kwh` (slots,) saying what one more kWh there would be worth.
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

    @property
    def shortfall_kwh(self) -> float:
        """Energy that will be missing at departure, over all sessions."""
        return sum(s.shortfall_kwh for s in self.sessions)

    def row(self, session_id: str) -> PlannedSession | None:
        """Return the row of `session_id`, None if the plan does not hold it."""
        return next((s for s in self.sessions if s.session_id == session_id), None)

    def to_json(self) -> str:
        """Return the plan as one JSON object."""
        return _dump(self)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan in `text`; raise InvalidInput naming the field that is wrong."""
        raw = _load(text)
        raw["sessions"] = tuple(
            _build(PlannedSession, s, f"sessions[{i}]") for i, s in enumerate(raw["sessions"])
        )
        return _build(cls, raw, "plan")


def _dump(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, datetime):
            return item.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if dataclasses.is_dataclass(item):
            return {f.name: plain(getattr(item, f.name)) for f in dataclasses.fields(item)}
        if isinstance(item, tuple):
            return [plain(i) for i in item]
        return item

    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def _load(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("sessions"), list):
        raise InvalidInput("not a planning file: it must be an object with a list of sessions")
    return raw


def _build(cls: type[T], raw: Any, where: str) -> T:
    """Build a dataclass from decoded JSON, refusing unknown and missing members by name."""
    if not isinstance(raw, dict):
        raise InvalidInput(f"{where} is {type(raw).__name__}; it must be an object")
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            raise InvalidInput(f"{where}.{name} is not known; permitted: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in raw:
            values[name] = _value(raw[name], str(item.type), f"{where}.{name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise InvalidInput(f"{where}.{name} is missing")
    return cls(**values)


def _value(raw: Any, annotation: str, where: str) -> Any:
    try:
        if raw is None:
            if "None" not in annotation:
                raise ValueError("null is not permitted")
            return None
        if "datetime" in annotation:
            return tuple(_instant(r) for r in raw) if "tuple" in annotation else _instant(raw)
        if "Strategy" in annotation:
            return Strategy(raw)
        if "tuple[float" in annotation:
            return tuple(_number(r) for r in raw)
        if "tuple" in annotation:
            return tuple(raw)
        if "float" in annotation:
            return _number(raw)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{where} is {raw!r:.80}: {error}") from error
    return raw


def _number(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("it must be a number")
    return float(raw)


def _instant(raw: Any) -> datetime:
    at = datetime.fromisoformat(str(raw))
    if at.tzinfo is None:
        raise ValueError("it must be an instant with an offset, such as 2026-01-01T12:00:00Z")
    return at.astimezone(UTC)
