"""What meters and forecasters outside report of a site: taken, checked, kept, and planned with.

A meter is a name that the site's or a circuit's configuration gives; whoever reads the meter
reports under that name. A reading that leaves what the last plan counted makes the site due again,
and so does a meter that falls silent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.metering import (
    KINDS,
    LOAD,
    SOLAR,
    Expected,
    Reading,
    reading_of,
    wrong_series,
    wrong_with,
)
from csms.core.model import Event, Site
from csms.core.wiring import CircuitSetup
from csms.planning.unmanaged import changes_room, is_silent, with_margin
from csms.service.unmanaged import place_of
from csms.store import journal, metering, stations, wiring
from csms.store.database import Store
from csms.store.statements import Tx

SILENT = "meter silent"
HEARD = "meter heard again"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReading:
    """A reading as reported; `current_a` is one number for each of the phases, or three."""

    at: datetime
    power_kw: float | None = None
    current_a: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterNow:
    """A meter of a site: what it measures, what it told last, and what counts now.

    `circuit_id` is "" for the site's connection. `counts_kw` is the reading with its margin, or the
    worst case of a load whose meter is silent; nothing of own generation then.
    """

    meter: str
    kind: str
    circuit_id: str
    reading: Reading | None
    is_silent: bool
    counts_kw: float
    worst_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """Where a meter's readings count."""

    meter: str
    kind: str
    circuit_id: str
    worst_kw: float
    voltage_v: float


class MeterDesk:
    """Takes readings and forecasts, and looks for meters that fell silent."""

    def __init__(self, *, store: Store, clock: Clock, touch: Callable[[str, str], None]) -> None:
        self.store = store
        self.clock = clock
        self.touch = touch
        self._counted: dict[tuple[str, str], Reading] = {}
        """The reading of each meter that last made its site due."""
        self._silent: set[tuple[str, str]] = set()

    async def of_site(self, site_id: str) -> tuple[MeterNow, ...]:
        """Return the meters of a site as they are now; raise UnknownSite."""
        now = self.clock.now()
        return await self.store.read(
            lambda tx: meters_now(
                tx, stations.get_site(tx, site_id), wiring.circuits_of(tx, site_id), now=now
            )
        )

    async def report(self, site_id: str, meter: str, given: Sequence[NewReading]) -> MeterNow:
        """Keep readings, all or none, and return what the meter comes to.

        The same readings again change nothing; another value for the same instant replaces it.
        Raises UnknownSite, and InvalidInput naming the reading that is wrong, or a meter that
        nothing is measured by.
        """
        now = self.clock.now()
        for n, one in enumerate(given):
            wrong = wrong_with(one.at, one.power_kw, one.current_a, now=now)
            if wrong:
                raise InvalidInput(f"reading {n}: {wrong}; none was taken")
        told: dict[datetime, NewReading] = {}
        for n, one in enumerate(given):
            if told.setdefault(one.at, one) != one:
                raise InvalidInput(
                    f"reading {n}: another one says something else of {one.at:%Y-%m-%dT%H:%M:%SZ}; "
                    "none was taken"
                )

        def work(tx: Tx) -> MeterNow:
            site = stations.get_site(tx, site_id)
            setups = wiring.circuits_of(tx, site_id)
            use = _use(site, setups, meter)
            readings = [
                reading_of(r.at, r.power_kw, r.current_a, voltage_v=use.voltage_v)
                for r in told.values()
            ]
            if readings:
                metering.add_readings(tx, site_id, meter, readings)
            return _now(tx, site, use, now=now)

        found = await self.store.write(work)
        self._heed(site_id, found)
        return found

    def _heed(self, site_id: str, found: MeterNow) -> None:
        """Make a site due where a meter's newest reading has left what was counted."""
        key = site_id, found.meter
        if found.reading is None or found.is_silent:
            return
        if key in self._silent or changes_room(found.reading, self._counted.get(key)):
            self._counted[key] = found.reading
            self.touch(site_id, f"meter {found.meter}")

    async def expect(
        self, site_id: str, kind: str, points: Sequence[Expected], *, circuit_id: str, by: str
    ) -> int:
        """Keep a forecast of load or own generation in place of what was expected before.

        Returns the number of points. Raises UnknownSite, and InvalidInput for a circuit that is not
        there or a point that cannot be.
        """
        now = self.clock.now()
        points = sorted(points, key=lambda p: p.starts_at)
        wrong = wrong_series(points)
        if wrong:
            raise InvalidInput(f"{wrong}; nothing was taken")
        if kind not in KINDS:
            raise InvalidInput(f"kind is {kind!r:.40}; permitted: {', '.join(KINDS)}")
        if kind == SOLAR and circuit_id:
            raise InvalidInput("own generation is expected of a whole site; leave circuit_id out")

        def work(tx: Tx) -> None:
            stations.get_site(tx, site_id)
            known = sorted(c.circuit_id for c in wiring.circuits_of(tx, site_id))
            if circuit_id and circuit_id not in known:
                raise InvalidInput(
                    f"circuit_id is {circuit_id!r:.80}, which is no circuit of site {site_id}; "
                    f"permitted: {', '.join(known) or 'none is configured'}, or nothing"
                )
            metering.put_expected(tx, site_id, circuit_id, kind, points)
            detail: dict[str, object] = {
                "kind": kind,
                "circuit_id": circuit_id,
                "points": len(points),
                "by": by,
            }
            journal.add_event(
                tx, Event(at=now, kind="load expected", site_id=site_id, detail=detail)
            )

        await self.store.write(work)
        self.touch(site_id, f"{kind} expected")
        return len(points)

    async def expected(
        self, site_id: str, since: datetime, until: datetime
    ) -> dict[tuple[str, str], tuple[Expected, ...]]:
        """Return what is expected in a time, by circuit and kind; raise UnknownSite."""

        def work(tx: Tx) -> dict[tuple[str, str], tuple[Expected, ...]]:
            stations.get_site(tx, site_id)
            return metering.expected(tx, site_id, since, until)

        return await self.store.read(work)

    async def look(self) -> None:
        """Note which meters fell silent or were heard again; their sites are planned anew."""
        now = self.clock.now()

        def work(tx: Tx) -> list[tuple[str, MeterNow]]:
            return [
                (site.site_id, found)
                for site in stations.list_sites(tx)
                for found in meters_now(tx, site, wiring.circuits_of(tx, site.site_id), now=now)
            ]

        found = await self.store.read(work)
        events = []
        for site_id, meter in found:
            key = site_id, meter.meter
            if meter.is_silent == (key in self._silent):
                continue
            if meter.is_silent:
                self._silent.add(key)
            else:
                self._silent.discard(key)
            self.touch(site_id, SILENT if meter.is_silent else HEARD)
            events.append(_event(site_id, meter, now))
        self._silent &= {(site_id, meter.meter) for site_id, meter in found}

        def note(tx: Tx) -> None:
            for event in events:
                journal.add_event(tx, event)

        if events:
            await self.store.write(note)


def _event(site_id: str, meter: MeterNow, now: datetime) -> Event:
    last = meter.reading
    return Event(
        at=now,
        kind=SILENT if meter.is_silent else HEARD,
        level="warning" if meter.is_silent else "info",
        site_id=site_id,
        detail={
            "meter": meter.meter,
            "kind": meter.kind,
            "circuit_id": meter.circuit_id,
            "last_at": None if last is None else last.at.isoformat(),
            "counts_kw": round(meter.counts_kw, 3),
        },
    )


def _uses(site: Site, setups: Sequence[CircuitSetup]) -> list[_Use]:
    """Return where meters count at a site: its connection, its own generation, its circuits."""
    told = [
        (site.meter, LOAD, "", site.base_load_kw, site.voltage_v),
        (site.solar_meter, SOLAR, "", 0.0, site.voltage_v),
        *((s.meter, LOAD, s.circuit_id, place_of(s).worst_kw, s.voltage_v) for s in setups),
    ]
    return [
        _Use(meter=meter, kind=kind, circuit_id=circuit, worst_kw=worst_kw, voltage_v=voltage_v)
        for meter, kind, circuit, worst_kw, voltage_v in told
        if meter
    ]


def _use(site: Site, setups: Sequence[CircuitSetup], meter: str) -> _Use:
    uses = {use.meter: use for use in reversed(_uses(site, setups))}
    if meter not in uses:
        known = ", ".join(sorted(uses)) or "none is configured"
        raise InvalidInput(
            f"meter {meter!r:.80} measures nothing at site {site.site_id}; known: {known}"
        )
    return uses[meter]


def _now(tx: Tx, site: Site, use: _Use, *, now: datetime) -> MeterNow:
    reading = metering.newest_reading(tx, site.site_id, use.meter)
    silent = is_silent(reading, now=now, stale=timedelta(seconds=site.meter_stale_s))
    counts_kw = 0.0 if reading is None else with_margin(reading).power_kw
    if use.kind == SOLAR:
        counts_kw = 0.0 if silent or reading is None else reading.power_kw
    elif silent:
        counts_kw = max(use.worst_kw, counts_kw)
    return MeterNow(
        meter=use.meter,
        kind=use.kind,
        circuit_id=use.circuit_id,
        reading=reading,
        is_silent=silent,
        counts_kw=counts_kw,
        worst_kw=use.worst_kw,
    )


def meters_now(
    tx: Tx, site: Site, setups: Sequence[CircuitSetup], *, now: datetime
) -> tuple[MeterNow, ...]:
    """Return the meters of a site with what they told last and what counts now."""
    return tuple(_now(tx, site, use, now=now) for use in _uses(site, setups))
