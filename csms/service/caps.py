"""Caps that a grid operator, a market or a person sets on a site or a circuit for a time.

Limits that stations tell of (NotifyChargingLimit) are another matter: csms.service.outside.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.model import Event
from csms.store import journal, stations, wiring
from csms.store.database import Store
from csms.store.statements import Tx
from csms.store.wiring import KeptCap

LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCap:
    """A cap as somebody asks for it."""

    source: str
    starts_at: datetime
    until: datetime
    circuit_id: str = ""
    limit_kw: float | None = None
    limit_a: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCap:
    """A cap and its state: "coming", "in force", "over" or "withdrawn"."""

    cap: KeptCap
    state: str


class CapDesk:
    """Takes, shows and ends caps; the site is planned again at once."""

    def __init__(self, *, store: Store, clock: Clock, touch: Callable[[str, str], None]) -> None:
        self.store = store
        self.clock = clock
        self.touch = touch

    async def of_site(self, site_id: str, *, limit: int) -> list[ShownCap]:
        """Return a site's caps, the newest first; raise UnknownSite."""
        now = self.clock.now()

        def work(tx: Tx) -> list[ShownCap]:
            stations.get_site(tx, site_id)
            return [shown(cap, now) for cap in wiring.list_caps(tx, site_id, limit=limit)]

        return await self.store.read(work)

    async def add(self, site_id: str, new: NewCap, *, by: str) -> ShownCap:
        """Store a cap; raise UnknownSite, and InvalidInput for one that says nothing."""
        now = self.clock.now()
        _check(new, now)
        cap = KeptCap(cap_id=0, site_id=site_id, made_by=by, made_at=now, **asdict(new))

        def work(tx: Tx) -> KeptCap:
            stations.get_site(tx, site_id)
            known = sorted(c.circuit_id for c in wiring.circuits_of(tx, site_id))
            if cap.circuit_id and cap.circuit_id not in known:
                raise InvalidInput(
                    f"circuit_id is {cap.circuit_id!r:.80}, which is no circuit of site {site_id}; "
                    f"permitted: {', '.join(known) or 'none is configured'}, or nothing for the "
                    "whole site"
                )
            kept = replace(cap, cap_id=wiring.add_cap(tx, cap))
            journal.add_event(tx, _event("cap set", kept, now, by))
            return kept

        kept = await self.store.write(work)
        self.touch(site_id, f"cap of {kept.source}")
        return shown(kept, now)

    async def withdraw(self, site_id: str, cap_id: int, *, by: str) -> ShownCap:
        """End a cap before its time; raise UnknownSite, NotFound."""
        now = self.clock.now()

        def work(tx: Tx) -> KeptCap:
            stations.get_site(tx, site_id)
            gone = wiring.withdraw_cap(tx, site_id, cap_id, at=now)
            journal.add_event(tx, _event("cap withdrawn", gone, now, by))
            return gone

        gone = await self.store.write(work)
        self.touch(site_id, f"cap of {gone.source} withdrawn")
        return shown(gone, now)


def shown(cap: KeptCap, now: datetime) -> ShownCap:
    """Return a cap with its state at `now`."""
    state = "coming" if now < cap.starts_at else "in force" if now < cap.until else "over"
    if cap.withdrawn_at is not None and cap.withdrawn_at < cap.until:
        state = "withdrawn"
    return ShownCap(cap=cap, state=state)


def _check(new: NewCap, now: datetime) -> None:
    if not new.source.strip():
        raise InvalidInput("source is empty; it must say whose limit it is")
    if new.limit_kw is None and new.limit_a is None:
        raise InvalidInput("limit_kw and limit_a are both missing; one of them has to be given")
    if not new.starts_at < new.until <= new.starts_at + LONGEST:
        raise InvalidInput(
            f"until is {new.until:%Y-%m-%dT%H:%MZ}; it must be after starts_at, "
            f"{new.starts_at:%Y-%m-%dT%H:%MZ}, by at most {LONGEST.days} days"
        )
    if new.until <= now:
        raise InvalidInput(f"until is {new.until:%Y-%m-%dT%H:%MZ}, which is over")


def _event(kind: str, cap: KeptCap, now: datetime, by: str) -> Event:
    detail: dict[str, object] = {
        "cap_id": cap.cap_id,
        "source": cap.source,
        "circuit_id": cap.circuit_id,
        "starts_at": cap.starts_at.isoformat(),
        "until": cap.until.isoformat(),
        "limit_kw": cap.limit_kw,
        "limit_a": cap.limit_a,
        "by": by,
    }
    return Event(at=now, kind=kind, site_id=cap.site_id, detail=detail)
