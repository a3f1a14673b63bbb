"""Real days: recorded sessions turned into stays of cars at simulated stations.

A recorded session gives arrival, departure and energy; the car is made up so that this energy can
be taken. Each user keeps one vehicle, of the two smallest models that hold the user's largest
session between 10 % and the car's own charge limit and can draw the user's highest mean power. On
arrival its state of charge is the charge limit less the session's energy (times the efficiency): a
car left alone takes what was recorded and no more. Where the recorded stay is too short for that on
the given EVSE there is a shortfall no plan can avoid; see `simulators.fleet.feasible_kwh`.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

from simulators.battery import Vehicle
from simulators.clock import iso, parse_iso

PACKAGED = ("workplace_us",)
CHARGE_LIMIT_SOC = 0.9
LEAST_SOC = 0.1

# Battery kWh, AC kW, phases: from plug-in hybrids to large electric cars.
MODELS: tuple[tuple[float, float, int], ...] = (
    (18.0, 3.7, 1),
    (40.0, 7.4, 1),
    (58.0, 11.0, 3),
    (77.0, 11.0, 3),
    (100.0, 22.0, 3),
    (200.0, 22.0, 3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line of a session file."""

    session_id: str
    site_id: str
    user_id: str
    start_at: datetime
    end_at: datetime
    energy_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A car's stay: who, from plug-in to plug-out, and the energy (at the meter) it came for."""

    stay_id: str
    user: str
    token: str
    token_kind: str = "ISO14443"
    arrives_at: datetime
    departs_at: datetime
    need_kwh: float
    soc: float
    vehicle: Vehicle

    @property
    def needed_soc(self) -> float:
        """The state of charge at departure that meets the need."""
        return self.soc + self.need_kwh * self.vehicle.efficiency / self.vehicle.battery_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An EVSE a stay can be put on."""

    station_id: str
    evse_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A stay on an EVSE."""

    stay: Stay
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """All stays of a run with their places, and those for which none was free."""

    assignments: tuple[Assignment, ...]
    unserved: tuple[Stay, ...] = ()

    @property
    def starts_at(self) -> datetime:
        """The first arrival. Raises ValueError on an empty day."""
        return min(a.stay.arrives_at for a in self.assignments)

    @property
    def ends_at(self) -> datetime:
        """The last departure."""
        return max(a.stay.departs_at for a in self.assignments)

    def to_json(self) -> dict[str, Any]:
        """Return the day for the operator's side: drivers, vehicles, trips and where they stay.

        `trip` is the departure with the energy that has to be in the battery by then, both as
        battery kWh and as the kilometres it is worth.
        """
        return {
            "stays": [_described(a.stay, a.place) for a in self.assignments],
            "unserved": [_described(s, None) for s in self.unserved],
        }

    def save(self, path: Path) -> None:
        """Write the day as JSON."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def _described(stay: Stay, place: Place | None) -> dict[str, Any]:
    battery_kwh = stay.needed_soc * stay.vehicle.battery_kwh
    return {
        "stay_id": stay.stay_id,
        "user": stay.user,
        "token": stay.token,
        "token_kind": stay.token_kind,
        "station_id": place.station_id if place else None,
        "evse_id": place.evse_id if place else None,
        "arrives_at": iso(stay.arrives_at),
        "departs_at": iso(stay.departs_at),
        "need_kwh": round(stay.need_kwh, 3),
        "soc": round(stay.soc, 6),
        "needed_soc": round(stay.needed_soc, 6),
        "vehicle": asdict(stay.vehicle),
        "trip": {
            "departs_at": iso(stay.departs_at),
            "energy_kwh": round(battery_kwh, 3),
            "distance_km": round(battery_kwh * 1000 / stay.vehicle.consumption_wh_per_km, 2),
            "reserve_share": 0.0,
        },
    }


def recorded(file: str | Path) -> Iterator[Recorded]:
    """Yield the sessions of a csv or csv.gz file, or of a packaged set by its name.

    Raises ValueError naming the file and line if a line cannot be read.
    """
    if str(file) in PACKAGED:
        raw = (resources.files("simulators") / "data" / f"{file}.csv.gz").read_bytes()
    else:
        raw = Path(file).read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    for number, row in enumerate(csv.DictReader(io.StringIO(text.decode("utf-8"))), start=2):
        try:
            yield Recorded(
                session_id=row["session_id"],
                site_id=row["site_id"],
                user_id=row["user_id"],
                start_at=parse_iso(row["start_utc"]),
                end_at=parse_iso(row["end_utc"]),
                energy_kwh=float(row["energy_kwh"]),
            )
        except (KeyError, ValueError, TypeError) as exc:
            raise ValueError(f"{file}, line {number}: {type(exc).__name__} {exc}") from exc


def vehicles(
    sessions: Iterable[Recorded], *, seed: int = 0, changes: Mapping[str, Any] | None = None
) -> dict[str, Vehicle]:
    """Return one vehicle per user; `changes` replaces fields of all of them.

    Where more than one model would do, a seeded choice between the two smallest that fit.
    """
    largest: dict[str, float] = {}
    fastest: dict[str, float] = {}
    for s in sessions:
        hours = max((s.end_at - s.start_at) / timedelta(hours=1), 1e-6)
        largest[s.user_id] = max(largest.get(s.user_id, 0.0), s.energy_kwh)
        fastest[s.user_id] = max(fastest.get(s.user_id, 0.0), s.energy_kwh / hours)
    found: dict[str, Vehicle] = {}
    base = Vehicle(max_soc=CHARGE_LIMIT_SOC)
    for user in sorted(largest):
        # Short stops in the record can show more power than any AC car draws; the largest is kept.
        power_kw = min(fastest[user] * 1.1, MODELS[-1][1])
        room = (CHARGE_LIMIT_SOC - LEAST_SOC) / base.efficiency
        fitting = [m for m in MODELS if m[0] * room >= largest[user] and m[1] >= power_kw]
        capacity, kw, phases = Random(f"{seed}/{user}").choice(fitting[:2] or [MODELS[-1]])
        model: dict[str, Any] = {"battery_kwh": capacity, "max_ac_kw": kw, "phases": phases}
        found[user] = replace(base, **(model | dict(changes or {})), vehicle_id=f"V{user}")
    return found


def real_day(
    file: str | Path,
    day: date,
    *,
    sites: Sequence[str] = (),
    as_date: date | None = None,
    shift_h: float = 0.0,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> list[Stay]:
    """Return the stays that begin on `day` (UTC), in order of arrival.

    All sites are merged into one workplace, or those in `sites`. `as_date` moves the day, and
    `shift_h` all times by hours: with the difference of two zones the wall clock is kept elsewhere.
    Raises ValueError if there is none, naming what the file has.
    """
    sessions = list(recorded(file))
    known = {s.site_id for s in sessions}
    for site in sites:
        if site not in known:
            raise ValueError(f"site is {site!r}; permitted: {', '.join(sorted(known))}")
    cars = vehicles(sessions, seed=seed, changes=changes)
    shift = (as_date or day) - day + timedelta(hours=shift_h)
    chosen = [s for s in sessions if s.start_at.date() == day and (not sites or s.site_id in sites)]
    if not chosen:
        days = [s.start_at.date() for s in sessions]
        raise ValueError(f"no session begins on {day}; the file holds {min(days)} to {max(days)}")
    chosen.sort(key=lambda s: (s.start_at, s.session_id))
    return [_stay(s, cars[s.user_id], shift) for s in chosen]


def _stay(session: Recorded, vehicle: Vehicle, shift: timedelta) -> Stay:
    # A file's own numbers are kept where a car was given that is too small for them.
    top = vehicle.max_soc
    taken_soc = session.energy_kwh * vehicle.efficiency / vehicle.battery_kwh
    soc = max(top - taken_soc, 0.0)
    return Stay(
        stay_id=session.session_id,
        user=session.user_id,
        token=f"U{session.user_id}"[:20],
        arrives_at=session.start_at + shift,
        departs_at=session.end_at + shift,
        need_kwh=session.energy_kwh,
        soc=soc,
        vehicle=vehicle,
    )


def fit(
    stays: Iterable[Stay],
    places: Sequence[Place],
    *,
    gap_s: float = 120.0,
    fixed: Mapping[str, Place] | None = None,
) -> Day:
    """Put each stay, in order of arrival, on the place that has been free for longest.

    A place is free `gap_s` after the last departure from it, and a user is in one place at a time.
    Stays that find none are unserved. `fixed` gives places by stay id that must be kept to; they
    are held for those stays alone.
    """
    fixed = fixed or {}
    open_places = [p for p in places if p not in fixed.values()]
    gap = timedelta(seconds=gap_s)
    free_at: dict[Place, datetime] = {}
    away_at: dict[str, datetime] = {}
    assignments, unserved = [], []
    for stay in sorted(stays, key=lambda s: (s.arrives_at, s.stay_id)):
        here = away_at.get(stay.user)
        wanted = [fixed[stay.stay_id]] if stay.stay_id in fixed else open_places
        free = [p for p in wanted if p not in free_at or free_at[p] + gap <= stay.arrives_at]
        if not free or (here is not None and here + gap > stay.arrives_at):
            unserved.append(stay)
            continue
        unused = [p for p in free if p not in free_at]
        place = unused[0] if unused else min(free, key=lambda p: free_at[p])
        free_at[place] = away_at[stay.user] = stay.departs_at
        assignments.append(Assignment(stay=stay, place=place))
    return Day(assignments=tuple(assignments), unserved=tuple(unserved))
