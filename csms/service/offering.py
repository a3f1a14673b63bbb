"""Offers follow from plans: each new car is looked at once, with the plan's own marginal costs."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from csms.core.model import Offer
from csms.core.plan import Plan, PlanningCase
from csms.planning import incentives
from csms.service.background import Background
from csms.service.cases import Snapshot
from csms.service.offers import OfferBook

_REMEMBERED = 20_000


class Offering:
    """Makes offers to the drivers of newly planned cars, in the background."""

    def __init__(self, *, book: OfferBook, background: Background) -> None:
        self.book = book
        self.background = background
        self._seen: OrderedDict[str, None] = OrderedDict()

    def planned(self, known: Snapshot, case: PlanningCase, made: Plan) -> None:
        """Look at the cars of a plan that were not looked at before."""
        holders = {
            c.session.session_id: c.session.holder_did
            for c in known.cars
            if c.session.holder_did and c.session.session_id not in self._seen
        }
        if not holders:
            return
        for session_id in holders:
            self._seen[session_id] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

        def look() -> Sequence[Offer]:
            return [
                offer
                for session_id, did in holders.items()
                for offer in incentives.offers(case, made, session_id, holder_did=did)
            ]

        async def work() -> None:
            found = await asyncio.to_thread(look)
            if found:
                await self.book.make(found)

        self.background.start(f"offers {case.site_id} {next(iter(holders))}", work)
