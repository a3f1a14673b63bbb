"""How likely each car's need is met: looked at once a plan was sent, and kept."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from csms.clock import Clock
from csms.core.plan import Plan, PlanningCase
from csms.planning.readiness import (
    SCENARIOS,
    Uncertainty,
    departure_errors,
    met_shares,
)
from csms.service.background import Background
from csms.service.cars import Car
from csms.service.cases import Snapshot
from csms.store import rivals, sessions
from csms.store.database import Store
from csms.store.rivals import Readiness

Arrivals = Callable[[str, tuple[datetime, ...]], tuple[tuple[float, ...], ...]]
"""P10, P50 and P90 of what cars yet to arrive draw at a site in each slot; empty while unknown."""
HISTORY = timedelta(days=60)
KNOWN_FOR = timedelta(hours=1)
"""How long the site's past departures are taken from memory."""


class ReadinessDesk:
    """Looks at each plan once it is in force; the newest of a site counts."""

    def __init__(
        self, *, store: Store, clock: Clock, background: Background, arrivals: Arrivals
    ) -> None:
        self.store, self.clock, self.background = store, clock, background
        self.arrivals = arrivals
        self._errors: dict[str, tuple[datetime, tuple[float, ...]]] = {}

    def planned(self, known: Snapshot, case: PlanningCase, made: Plan) -> None:
        """Look at a plan in the background."""
        if not case.sessions:
            return

        async def work() -> None:
            await self.look(known.cars, case, made)

        self.background.start(f"readiness {case.site_id}", work)

    async def look(
        self, cars: Sequence[Car], case: PlanningCase, made: Plan
    ) -> tuple[Readiness, ...]:
        """Keep and return the readiness of the cars of a plan."""
        uncertain = Uncertainty(
            errors_min=await self._errors_of(case.site_id, case.now_at),
            arrivals_kw=self.arrivals(case.site_id, case.edges_at),
        )
        departs_at = [
            stated_departure(car) or session.departs_at
            for car, session in zip(cars, case.sessions, strict=True)
        ]
        shares = await asyncio.to_thread(
            met_shares, case, made, departs_at=departs_at, uncertain=uncertain
        )
        found = tuple(
            Readiness(
                session_id=session.session_id,
                at=case.now_at,
                met_share=round(share, 4),
                scenarios=SCENARIOS,
            )
            for session, share in zip(case.sessions, shares, strict=True)
        )
        await self.store.write(lambda tx: rivals.put_readiness(tx, found))
        return found

    async def _errors_of(self, site_id: str, now: datetime) -> tuple[float, ...]:
        """Return how far the site's drivers were off lately, minutes."""
        known = self._errors.get(site_id)
        if known is not None and timedelta(0) <= now - known[0] < KNOWN_FOR:
            return known[1]
        ended = await self.store.read(
            lambda tx: sessions.finished_sessions(tx, site_id, now - HISTORY, now)
        )
        # A departure that we assumed ourselves says nothing about drivers.
        errors = departure_errors(
            [
                (s.departs_at, s.ended_at)
                for s in ended
                if s.departs_at is not None
                and s.ended_at is not None
                and s.need_source not in ("", "assumed")
            ]
        )
        self._errors[site_id] = (now, errors)
        return errors


def stated_departure(car: Car) -> datetime | None:
    """Return when a car is said to leave, None where nobody said."""
    return car.trip.departs_at if car.trip is not None else car.session.departs_at
