"""Offers follow from plans: each new car is looked at once, with the plan's own marginal costs.

A look costs up to two more plans of the whole site for each car, and cars come in crowds: in a rush
hour, and all at once after a restart. Only one look is under way in the whole server; it ends after
LOOK_CPU_S, and then it rests, so that looks take no more than SHARE of a core. Sites take turns;
within a site the car that came first is looked at first, with the newest plan. A car that leaves
before its turn is let go. Cars that offers are on record for were looked at before a restart.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from csms.core.model import Offer
from csms.core.plan import Plan, PlanningCase
from csms.planning import incentives
from csms.service.background import Background
from csms.service.cases import Snapshot
from csms.service.offers import OfferBook

LOOK_CPU_S: Final = 0.5
"""Processor seconds after which a look takes no further car; it always takes one."""
SHARE: Final = 0.2
"""The part of one core that looks may take while cars wait."""

OffersOf = Callable[[PlanningCase, Plan, str, str], Sequence[Offer]]
"""What may be offered under a plan for a session to its holder; CPU work."""

log = structlog.get_logger(__name__)


def offers_of(case: PlanningCase, made: Plan, session_id: str, did: str) -> Sequence[Offer]:
    """Return what flexibility may earn the driver of a session, see csms.planning.incentives."""
    return incentives.offers(case, made, session_id, holder_did=did)


@dataclass(slots=True)
class _Site:
    """A site's cars and, while some of them wait, its newest plan."""

    plan: tuple[PlanningCase, Plan] | None = None
    waiting: dict[str, str] = field(default_factory=dict)
    """Session -> holder; who came first is first."""
    looked_at: set[str] = field(default_factory=set)
    """Of the cars that are there; who left is forgotten."""

    def done(self, cars: Collection[str]) -> None:
        """Let cars wait no longer."""
        self.looked_at.update(cars)
        for session_id in cars:
            self.waiting.pop(session_id, None)
        if not self.waiting:
            self.plan = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a look came to; `cars` are those looked at."""

    cars: Collection[str]
    offers: Sequence[Offer]
    cpu_s: float


class Offering:
    """Makes offers to the drivers of newly planned cars, in the background."""

    def __init__(
        self,
        *,
        book: OfferBook,
        background: Background,
        offers_of: OffersOf = offers_of,
        look_cpu_s: float = LOOK_CPU_S,
        share: float = SHARE,
    ) -> None:
        self.book = book
        self.background = background
        self.offers_of = offers_of
        self.look_cpu_s = look_cpu_s
        self.share = share
        self._sites: dict[str, _Site] = {}
        """Those with cars."""
        self._turn: dict[str, None] = {}
        """Sites with cars that wait, in the order of their turns."""

    @property
    def waiting(self) -> int:
        """How many cars wait to be looked at."""
        return sum(len(site.waiting) for site in self._sites.values())

    def planned(self, known: Snapshot, case: PlanningCase, made: Plan) -> None:
        """Look at the cars of a plan that were not looked at before, by and by."""
        sessions = sorted((car.session for car in known.cars), key=lambda s: s.received_at)
        holders = {s.session_id: s.holder_did for s in sessions if s.holder_did}
        if not holders:
            self._sites.pop(case.site_id, None)
            self._turn.pop(case.site_id, None)
            return
        site = self._sites.setdefault(case.site_id, _Site())
        site.looked_at &= holders.keys()
        site.waiting = {i: did for i, did in holders.items() if i not in site.looked_at}
        site.plan = (case, made) if site.waiting else None
        if site.waiting:
            self._turn.setdefault(case.site_id)
            self.background.start("offers", self._work)

    async def _work(self) -> None:
        """Look at one site after the other until nobody waits."""
        while self._turn:
            site_id = next(iter(self._turn))
            del self._turn[site_id]
            site = self._sites[site_id]
            cpu_s = await self._look_at(site)
            if site.waiting and self._sites.get(site_id) is site:
                self._turn.setdefault(site_id)
            # Time of the machine, not of a demo's day that runs faster.
            await asyncio.sleep(cpu_s * (1.0 / self.share - 1.0))

    async def _look_at(self, site: _Site) -> float:
        """Look at some of the cars that wait at a site, and return the CPU seconds it took."""
        site.done(await self.book.offered(list(site.waiting)))
        if site.plan is None:
            return 0.0
        look = await asyncio.to_thread(self._look, *site.plan, dict(site.waiting))
        # Before they are stored: what cannot be kept must not hold up those behind it.
        site.done(look.cars)
        if look.offers:
            await self.book.make(look.offers)
        return look.cpu_s

    def _look(self, case: PlanningCase, made: Plan, waiting: Mapping[str, str]) -> _Look:
        began_s, spent_s = time.thread_time(), 0.0
        cars: list[str] = []
        offers: list[Offer] = []
        for session_id, did in waiting.items():
            if cars and spent_s >= self.look_cpu_s:
                break
            cars.append(session_id)
            try:
                offers += self.offers_of(case, made, session_id, did)
            except Exception:
                # One car that cannot be looked at must not hold up those behind it.
                log.exception("offers not made", site_id=case.site_id, session_id=session_id)
            spent_s = time.thread_time() - began_s
        return _Look(cars=cars, offers=offers, cpu_s=spent_s)
