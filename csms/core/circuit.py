"""The limits of a site as a tree of fuses, and whatever else bounds currents together.

The site's own limit is the root. Currents are per phase. A series is (slots,), or one number that
holds in every slot; an empty one says nothing. Loads that nobody controls are named where they
draw: a circuit's load counts for it and for every circuit above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Series = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """A fuse, cable or meter with EVSEs and further circuits behind it; line to neutral.

    `parent_id` "" hangs it under the site's connection. `limit_a` holds one series per phase, or a
    single one for all three; `limit_kw` bounds the sum of the phases. `load_a` (same form) and
    `load_kw` are what draws here unmanaged, beside EVSEs and the circuits below. `idle_guard_a` and
    `idle_guard_kw` are the guards of EVSEs on this very circuit without a planned session. `source`
    says whose limit it is ("fuse", "grid operator").
    """

    circuit_id: str
    parent_id: str = ""
    limit_a: tuple[Series, ...] = ()
    limit_kw: Series = ()
    load_a: tuple[Series, ...] = ()
    load_kw: Series = ()
    idle_guard_a: Series = ()
    idle_guard_kw: float = 0.0
    voltage_v: float = 230.0
    source: str = "fuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What a session's current adds to a limit row: `factor` A per A of its own, at `angle_deg`."""

    session_id: str
    factor: float = 1.0
    angle_deg: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """A bound on a current that is a sum of phasors: delta and line-to-line networks, transformers.

    In every slot | sum of factor * current * e^(j angle) | <= `limit_a` - `load_a`, and the same
    for every part of the sum, since any car may stop drawing. `idle_guard_a` is what EVSEs without
    a planned session may add.
    """

    row_id: str
    limit_a: Series
    terms: tuple[Term, ...]
    load_a: Series = ()
    idle_guard_a: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A limit for a time, from outside: a grid operator's order, a market, a person.

    It holds for `circuit_id` ("": the whole site) within [starts_at, ends_at), in any slot that it
    touches, for the sum of the phases (`limit_kw`), for each phase (`limit_a`), or both.
    """

    source: str
    starts_at: datetime
    ends_at: datetime
    circuit_id: str = ""
    limit_kw: float | None = None
    limit_a: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an EVSE hangs: its circuit ("": the site's connection) and on which of L1..L3.

    `phases` names the site's phase behind each of the EVSE's own, first to last, so that a car on
    one phase of an EVSE with three is known to draw from the first. Empty while nobody knows.
    """

    circuit_id: str = ""
    phases: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """A site's tree of fuses, and the place of each EVSE in it by (station, EVSE number).

    An EVSE without a place hangs on the site's connection.
    """

    circuits: tuple[Circuit, ...] = ()
    places: Mapping[tuple[str, int], Place] = field(default_factory=dict)

    def of(self, station_id: str, evse_id: int) -> Place:
        """Return the place of an EVSE."""
        return self.places.get((station_id, evse_id), Place())

    def phases(self, station_id: str, evse_id: int, *, used: int) -> tuple[int, ...]:
        """Return which phases something at an EVSE draws from that charges on `used` of them.

        Empty while that is not known: it then counts on all three.
        """
        wired = self.of(station_id, evse_id).phases
        if used >= 3:
            return (1, 2, 3)
        # A plug with fewer phases than its socket connects the first ones (IEC 62196-2).
        return wired[:used] if len(wired) >= used else ()
