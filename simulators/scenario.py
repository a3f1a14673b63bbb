"""Scenarios: who arrives when at which stations, in TOML.

    [run]             name, seed, start (ISO 8601), speed, sample_interval_s, heartbeat_s, gap_s,
                      call_timeout_s
    [site]            limit_kw (judged, not enforced), voltage_v
    [dialects.NAME]   fields of simulators.profiles.Dialect
    [faults.NAME]     fields of simulators.faults.FaultPlan
    [[circuits]]      id, parent, limit_a (one or three; judged like the site's limit), evses (ids
                      or patterns of stations, "TWIN-1/2")
    [[stations]]      id ("CP{n:02}" with count), count, version ("1.6", "2.0.1", "2.1" or "mixed"),
                      evses, max_kw, phases, rotation ("RST": the site's phases behind its own;
                      or a list, for one station after the other), current_type ("AC", "DC"),
                      dialect, faults, password
    [[vehicles]]      id and fields of simulators.battery.Vehicle
    [[drivers]]       token, kind, vehicle, trips = [{at, distance_km}]
    [[arrivals]]      driver, at, until, soc, energy_kwh, station, evse. Without `until` the stay
                      ends with the driver's next trip; without `energy_kwh` the need is what that
                      trip takes, a fifth more, less what the battery holds
    [random_arrivals] count, first, last, stay_hours = [least, most], energy_kwh = [least, most]
    [real_day]        file (a path from the scenario's folder, or "workplace_us"), date, as_date,
                      shift_h, sites, vehicle = {fields that all vehicles get}

Times are ISO 8601 or "HH:MM" (UTC) on the day of `run.start`. Each scenario needs stations and at
least one kind of arrivals.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

from simulators.battery import Vehicle
from simulators.circuits import JudgedCircuit
from simulators.clock import parse_iso
from simulators.dialect import Dialect
from simulators.faults import FaultPlan, fault_plan
from simulators.realday import PACKAGED, Day, Place, Stay, fit, real_day
from simulators.station import EvseSpec

TRIP_MARGIN = 1.2
VERSIONS = ("1.6", "2.0.1", "2.1", "mixed")


class ScenarioError(ValueError):
    """A scenario that cannot be run: says which key, its value, and what is permitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationSpec:
    """A station of a scenario."""

    station_id: str
    version: str
    evses: tuple[EvseSpec, ...]
    dialect: Dialect = field(default_factory=Dialect)
    faults: FaultPlan = field(default_factory=FaultPlan)
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario as read, with all stays placed."""

    name: str = "scenario"
    seed: int = 0
    start: datetime
    speed: float = 1.0
    sample_interval_s: int = 60
    heartbeat_s: int | None = None
    call_timeout_s: float = 30.0
    limit_kw: float | None = None
    stations: tuple[StationSpec, ...]
    circuits: tuple[JudgedCircuit, ...] = ()
    day: Day


class _Section:
    """A table of the file whose keys are taken one by one; what is left over is an error."""

    def __init__(self, name: str, table: Any, permitted: Sequence[str]) -> None:
        if not isinstance(table, Mapping):
            raise ScenarioError(f"[{name}] is {table!r}; it must be a table")
        for key in table:
            if key not in permitted:
                raise ScenarioError(
                    f"[{name}] {key} is unknown; permitted: {', '.join(sorted(permitted))}"
                )
        self.name, self.table = name, table

    def error(self, key: str, must: str) -> ScenarioError:
        return ScenarioError(f"[{self.name}] {key} is {self.table.get(key)!r}; it must be {must}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "text")
        return value

    def number(self, key: str, default: float | None = None, *, least: float = 0.0) -> float:
        value = self.table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise self.error(key, f"a number of at least {least:g}")
        return float(value)

    def choice(self, key: str, default: str, permitted: Sequence[str]) -> str:
        value = self.table.get(key, default)
        if value not in permitted:
            raise self.error(key, f"one of {', '.join(permitted)}")
        return str(value)

    def span(self, key: str, default: tuple[float, float]) -> tuple[float, float]:
        value = self.table.get(key, default)
        is_pair = isinstance(value, list | tuple) and len(value) == 2
        if not is_pair or not all(isinstance(v, int | float) for v in value):
            raise self.error(key, "two numbers, [least, most]")
        if value[0] > value[1]:
            raise self.error(key, "two numbers, the least first")
        return float(value[0]), float(value[1])

    def instant(self, key: str, day: datetime) -> datetime:
        value = self.table.get(key)
        try:
            if isinstance(value, datetime):
                return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
            text = str(value)
            if len(text) == 5 and text[2] == ":":
                return day.replace(
                    hour=int(text[:2]), minute=int(text[3:]), second=0, microsecond=0
                )
            return parse_iso(text)
        except ValueError:
            raise self.error(key, "an ISO 8601 time or HH:MM") from None

    def built(self, kind: type, table: Mapping[str, Any], **more: Any) -> Any:
        """Build a dataclass from a table of its fields, with errors in our words."""
        permitted = sorted(f.name for f in fields(kind))
        for key in table:
            if key not in permitted:
                raise ScenarioError(
                    f"[{self.name}] {key} is unknown; permitted: {', '.join(permitted)}"
                )
        values = {
            k: tuple(tuple(i) if isinstance(i, list) else i for i in v)
            if isinstance(v, list)
            else v
            for k, v in table.items()
        }
        try:
            return kind(**{**values, **more})
        except (TypeError, ValueError) as exc:
            raise ScenarioError(f"[{self.name}] {exc}") from exc


TOP = (
    "run",
    "site",
    "circuits",
    "dialects",
    "faults",
    "stations",
    "vehicles",
    "drivers",
    "arrivals",
    "random_arrivals",
    "real_day",
)


def load(path: str | Path, *, version: str | None = None, seed: int | None = None) -> Scenario:
    """Read a scenario file, or a packaged one by its name.

    `version` and `seed` replace the file's. Raises ScenarioError.
    """
    if str(path) in packaged():
        text = (resources.files("simulators") / "scenarios" / f"{path}.toml").read_text("utf-8")
        folder = Path()
    else:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            names = ", ".join(packaged())
            raise ScenarioError(f"{path}: {exc}; packaged scenarios: {names}") from exc
        folder = Path(path).parent
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ScenarioError(f"{path}: {exc}") from exc
    try:
        return parse(tables, folder=folder, version=version, seed=seed)
    except ScenarioError as exc:
        raise ScenarioError(f"{path}: {exc}") from exc


def packaged() -> list[str]:
    """Return the names of the scenarios that come with this package."""
    folder = resources.files("simulators") / "scenarios"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if ".toml" in f.name)


def parse(
    tables: Mapping[str, Any],
    *,
    folder: Path = Path(),
    version: str | None = None,
    seed: int | None = None,
) -> Scenario:
    """Return the scenario in TOML `tables`. Raises ScenarioError."""
    _Section("top level", tables, TOP)
    run = _Section(
        "run",
        tables.get("run", {}),
        (
            *("name", "seed", "start", "speed", "gap_s"),
            *("sample_interval_s", "heartbeat_s", "call_timeout_s"),
        ),
    )
    site = _Section("site", tables.get("site", {}), ("limit_kw", "voltage_v"))
    seed = int(run.number("seed", 0)) if seed is None else seed
    start = run.instant("start", datetime(2000, 1, 1, tzinfo=UTC)) if "start" in run.table else None
    stations = _stations(tables, site.number("voltage_v", 230.0, least=1.0), version)
    stays, fixed = _stays(tables, folder=folder, seed=seed, start=start)
    places = [Place(station_id=s.station_id, evse_id=e.evse_id) for s in stations for e in s.evses]
    for place in fixed.values():
        if place not in places:
            raise ScenarioError(
                f"[arrivals] station {place.station_id} has no EVSE {place.evse_id}"
            )
    day = fit(stays, places, gap_s=run.number("gap_s", 120.0), fixed=fixed)
    if not day.assignments:
        raise ScenarioError("no stay has a place; give arrivals and stations for them")
    heartbeat = run.number("heartbeat_s", 0.0)
    return Scenario(
        name=run.text("name", "scenario"),
        seed=seed,
        start=start or day.starts_at - timedelta(minutes=10),
        speed=run.number("speed", 1.0, least=0.001),
        sample_interval_s=int(run.number("sample_interval_s", 60, least=1)),
        heartbeat_s=int(heartbeat) or None,
        call_timeout_s=run.number("call_timeout_s", 30.0, least=0.1),
        limit_kw=site.number("limit_kw") if "limit_kw" in site.table else None,
        stations=tuple(stations),
        circuits=_circuits(tables),
        day=day,
    )


def _named(tables: Mapping[str, Any], key: str, kind: type) -> dict[str, Any]:
    found = {}
    for name, table in tables.get(key, {}).items():
        section = _Section(f"{key}.{name}", table, [f.name for f in fields(kind)])
        try:
            plan = fault_plan(table) if kind is FaultPlan else section.built(kind, table)
        except (TypeError, ValueError) as exc:
            raise ScenarioError(f"[{key}.{name}] {exc}") from exc
        found[name] = plan
    return found


def _listed(tables: Mapping[str, Any], key: str, permitted: Sequence[str]) -> list[_Section]:
    items = tables.get(key, [])
    if not isinstance(items, list):
        raise ScenarioError(f"[[{key}]] must be a list of tables")
    return [_Section(key, item, permitted) for item in items]


def _stations(
    tables: Mapping[str, Any], voltage_v: float, version: str | None
) -> list[StationSpec]:
    dialects = {"": Dialect()} | _named(tables, "dialects", Dialect)
    faults = {"": FaultPlan()} | _named(tables, "faults", FaultPlan)
    permitted = ("id", "count", "version", "evses", "max_kw", "phases", "rotation", "current_type")
    found: list[StationSpec] = []
    for section in _listed(tables, "stations", (*permitted, "dialect", "faults", "password")):
        count = int(section.number("count", 1, least=1))
        pattern = section.text("id")
        if count > 1 and "{" not in pattern:
            raise section.error("id", 'a pattern with {n}, such as "CP{n:02}"')
        wanted = version or section.choice("version", "1.6", VERSIONS)
        rotations = section.table.get("rotation", "RST")
        if not isinstance(rotations, list):
            rotations = [rotations]
        elif not rotations:
            raise section.error("rotation", 'text such as "RST", or a list of such')
        for i in range(count):
            found.append(
                StationSpec(
                    station_id=_numbered(section, pattern, i + 1),
                    version=("1.6", "2.0.1")[i % 2] if wanted == "mixed" else wanted,
                    evses=_evses(section, rotations[i % len(rotations)], voltage_v),
                    dialect=dialects[section.choice("dialect", "", list(dialects))],
                    faults=faults[section.choice("faults", "", list(faults))],
                    password=section.text("password") if "password" in section.table else None,
                )
            )
    ids = [s.station_id for s in found]
    if not ids:
        raise ScenarioError("[[stations]] is missing; at least one is needed")
    for station_id in ids:
        if ids.count(station_id) > 1:
            raise ScenarioError(f"[stations] id is {station_id!r} twice; ids must differ")
    return found


def _evses(section: _Section, rotation: Any, voltage_v: float) -> tuple[EvseSpec, ...]:
    told = {k: section.table[k] for k in ("max_kw", "phases", "current_type") if k in section.table}
    return tuple(
        section.built(EvseSpec, told, evse_id=i + 1, rotation=rotation, voltage_v=voltage_v)
        for i in range(int(section.number("evses", 1, least=1)))
    )


def _circuits(tables: Mapping[str, Any]) -> tuple[JudgedCircuit, ...]:
    found = []
    for section in _listed(tables, "circuits", ("id", "parent", "limit_a", "evses")):
        table = {k: v for k, v in section.table.items() if k in ("parent", "evses")}
        limit_a = section.table.get("limit_a")
        if not isinstance(limit_a, list):
            limit_a = [section.number("limit_a")] * 3
        found.append(
            section.built(
                JudgedCircuit, table, circuit_id=section.text("id"), limit_a=tuple(limit_a)
            )
        )
    return tuple(found)


def _numbered(section: _Section, pattern: str, number: int) -> str:
    try:
        return pattern.format(n=number)
    except (KeyError, IndexError, ValueError):
        raise section.error("id", 'text without braces other than {n}, as in "CP{n:02}"') from None


def _stays(
    tables: Mapping[str, Any], *, folder: Path, seed: int, start: datetime | None
) -> tuple[list[Stay], dict[str, Place]]:
    stays: list[Stay] = []
    fixed: dict[str, Place] = {}
    if "real_day" in tables:
        stays += _real(tables["real_day"], folder=folder, seed=seed)
    day = start or datetime(2026, 1, 1, tzinfo=UTC)
    if start is None and ("arrivals" in tables or "random_arrivals" in tables):
        raise ScenarioError("[run] start is missing; it must be an ISO 8601 time")
    cars = {}
    names = [f.name for f in fields(Vehicle) if f.name != "vehicle_id"]
    for section in _listed(tables, "vehicles", ["id", *names]):
        table = {k: v for k, v in section.table.items() if k != "id"}
        name = section.text("id")
        cars[name] = section.built(Vehicle, table, vehicle_id=name)
    drivers = {
        s.text("token"): s
        for s in _listed(tables, "drivers", ("token", "kind", "vehicle", "trips"))
    }
    permitted = ("driver", "at", "until", "soc", "energy_kwh", "station", "evse")
    for number, section in enumerate(_listed(tables, "arrivals", permitted)):
        stay = _arrival(section, drivers, cars, day, f"a{number + 1}")
        stays.append(stay)
        if "station" in section.table:
            fixed[stay.stay_id] = Place(
                station_id=section.text("station"), evse_id=int(section.number("evse", 1))
            )
    if "random_arrivals" in tables:
        stays += _random(tables["random_arrivals"], cars, day, seed)
    return stays, fixed


def _real(table: Any, *, folder: Path, seed: int) -> list[Stay]:
    section = _Section(
        "real_day", table, ("file", "date", "as_date", "shift_h", "sites", "vehicle")
    )
    file = section.text("file", PACKAGED[0])
    changes = section.table.get("vehicle", {})
    section.built(Vehicle, changes)
    as_date = _date(section, "as_date") if "as_date" in section.table else None
    try:
        return real_day(
            file if file in PACKAGED else folder / file,
            _date(section, "date"),
            sites=section.table.get("sites", ()),
            as_date=as_date,
            shift_h=section.number("shift_h", 0.0, least=-48.0),
            seed=seed,
            changes=changes,
        )
    except (OSError, ValueError) as exc:
        raise ScenarioError(f"[real_day] {exc}") from exc


def _date(section: _Section, key: str) -> date:
    value = section.table.get(key)
    try:
        return value if type(value) is date else date.fromisoformat(str(value))
    except ValueError:
        raise section.error(key, "a date, YYYY-MM-DD") from None


def _arrival(
    section: _Section,
    drivers: Mapping[str, _Section],
    cars: Mapping[str, Vehicle],
    day: datetime,
    stay_id: str,
) -> Stay:
    driver = drivers[section.choice("driver", "", list(drivers))]
    vehicle = cars[driver.choice("vehicle", "", list(cars))]
    arrives_at = section.instant("at", day)
    trips = [
        _Section("drivers.trips", t, ("at", "distance_km")) for t in driver.table.get("trips", [])
    ]
    coming = sorted(
        ((t.instant("at", day), t.number("distance_km")) for t in trips), key=lambda t: t[0]
    )
    following = next((t for t in coming if t[0] > arrives_at), None)
    if "until" in section.table:
        departs_at = section.instant("until", day)
    elif following is not None:
        departs_at = following[0]
    else:
        raise section.error("until", "given where the driver has no later trip")
    if departs_at <= arrives_at:
        raise section.error("until", "after `at`")
    soc = section.number("soc", 0.3)
    if "energy_kwh" in section.table:
        need_kwh = section.number("energy_kwh")
    else:
        km = following[1] if following else 0.0
        trip_kwh = km * vehicle.consumption_wh_per_km / 1000 * TRIP_MARGIN
        missing = min(trip_kwh, vehicle.max_soc * vehicle.battery_kwh) - soc * vehicle.battery_kwh
        need_kwh = max(missing, 0.0) / vehicle.efficiency
    token = driver.text("token")
    return Stay(
        stay_id=stay_id,
        user=token,
        token=token,
        token_kind=driver.text("kind", "ISO14443"),
        arrives_at=arrives_at,
        departs_at=departs_at,
        need_kwh=need_kwh,
        soc=soc,
        vehicle=vehicle,
    )


def _random(table: Any, cars: Mapping[str, Vehicle], day: datetime, seed: int) -> list[Stay]:
    permitted = ("count", "first", "last", "stay_hours", "energy_kwh")
    section = _Section("random_arrivals", table, permitted)
    first, last = section.instant("first", day), section.instant("last", day)
    if last < first:
        raise section.error("last", "not before `first`")
    hours, energies = section.span("stay_hours", (4, 9)), section.span("energy_kwh", (5, 25))
    dice = Random(f"{seed}/random arrivals")
    models = list(cars.values()) or [Vehicle()]
    found = []
    for n in range(int(section.number("count", least=1))):
        vehicle = replace(dice.choice(models), vehicle_id=f"R{n + 1:03}")
        arrives_at = first + (last - first) * dice.random()
        need_kwh = dice.uniform(*energies)
        taken_soc = need_kwh * vehicle.efficiency / vehicle.battery_kwh
        found.append(
            Stay(
                stay_id=f"r{n + 1}",
                user=f"R{n + 1:03}",
                token=f"R{n + 1:03}",
                arrives_at=arrives_at,
                departs_at=arrives_at + timedelta(hours=dice.uniform(*hours)),
                need_kwh=need_kwh,
                soc=max(vehicle.max_soc - taken_soc, 0.0),
                vehicle=vehicle,
            )
        )
    return found
