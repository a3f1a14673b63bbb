"""Champion and challenger: every case planned twice, and the champion replaced while it fails.

The champion is the site's strategy, the challenger another one. The challenger's plans are made in
the background, after the champion's have been sent: one case per site at a time, the newest, so
that they never cost a station a second. A champion that fails several times in a window (it
raises, hangs, breaks a law of the case, needs the solver's fallback or too much processor time) is
replaced by the challenger, or by least laxity; meanwhile it plans in the background, and returns
once it has done well for a while. Both changes are events.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import fmean

import structlog

from csms.clock import Clock
from csms.core.model import Event, Strategy
from csms.core.plan import Plan, PlanningCase
from csms.planning.planner import faults_of
from csms.planning.planner import plan as plan_optimally
from csms.service.background import Background
from csms.store import journal, rivals
from csms.store.database import Store
from csms.store.rivals import Comparison
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

Planner = Callable[[PlanningCase], Plan]
SHADOW_S = 60.0
"""Machine seconds after which a plan in the background counts as hanging."""
LONGEST_WHY = 200
RECENT = 500
"""Comparisons that a summary looks at."""
FIGURES = ("cost_eur", "co2_kg", "shortfall_kwh", "peak_kw", "cpu_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengerOptions:
    """By site, who challenges; and when a champion is replaced and returns."""

    challengers: Mapping[str, Strategy | None] = field(default_factory=dict)
    budget_s: float = 5.0
    after_failures: int = 3
    window: timedelta = timedelta(minutes=15)
    good_spell: timedelta = timedelta(minutes=30)


@dataclass(slots=True)
class _Standing:
    """How a site's champion does."""

    failed_at: deque[datetime] = field(default_factory=deque)
    replaced_at: datetime | None = None
    good_since: datetime | None = None
    why: str = ""
    hanging: asyncio.Future[tuple[Plan, float]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    made: Plan | None
    cpu_s: float
    fault: str

    def plain(self) -> dict[str, object]:
        figures: dict[str, object] = {"cpu_s": round(self.cpu_s, 6), "fault": self.fault}
        if self.made is not None:
            for name in FIGURES[:-1]:
                figures[name] = round(float(getattr(self.made, name)), 6)
        return figures


class Challengers:
    """Watches over champions and compares them."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        background: Background,
        options: ChallengerOptions,
        planner: Planner = plan_optimally,
    ) -> None:
        """`planner` is the champion's: the built-in one, or a plug-in."""
        self.store, self.clock, self.background = store, clock, background
        self.options, self.planner = options, planner
        self._standings: dict[str, _Standing] = {}

    # --- in the way of every plan: cheap -------------------------------------------------------

    def in_force(self, case: PlanningCase) -> tuple[PlanningCase, Planner]:
        """Return the case and the planner that count now."""
        standing = self._standings.get(case.site_id)
        if standing is None or standing.replaced_at is None:
            return case, self.planner
        return replace(case, strategy=self._instead(case)), plan_optimally

    def did(self, case: PlanningCase, made: Plan, *, cpu_s: float, fault: str) -> None:
        """Take note of how the planner in force did on the case that the site asked for."""
        standing = self._standings.setdefault(case.site_id, _Standing())
        if standing.replaced_at is not None:
            return
        fault = fault or _fault(made, cpu_s, self.options.budget_s)
        if fault:
            self._failed(case, standing, fault)

    def planned(
        self, case: PlanningCase, made: Plan, *, cpu_s: float, plan_id: int, fault: str
    ) -> None:
        """Let the rival of the plan in force plan `case` too, in the background."""
        standing = self._standings.setdefault(case.site_id, _Standing())
        challenger = self.options.challengers.get(case.site_id)
        if standing.replaced_at is None and (challenger is None or challenger is case.strategy):
            return
        done = _Outcome(made=made, cpu_s=cpu_s, fault=fault)

        async def work() -> None:
            await self._compare(case, done, standing, plan_id)

        self.background.start(f"challenger {case.site_id}", work)

    # --- in the background ---------------------------------------------------------------------

    async def _compare(
        self, case: PlanningCase, done: _Outcome, standing: _Standing, plan_id: int
    ) -> None:
        is_replaced = standing.replaced_at is not None
        if is_replaced:
            champion = await self._shadow(case, self.planner, standing)
            challenger, instead = done, self._instead(case)
            event = self._looked_at(case, champion, standing)
        else:
            instead = self.options.challengers[case.site_id] or Strategy.LEAST_LAXITY
            champion, event = done, None
            rival = replace(case, strategy=instead)
            challenger = await self._shadow(rival, plan_optimally, standing)
        kept = Comparison(
            site_id=case.site_id,
            at=case.now_at,
            plan_id=plan_id,
            in_force=str(instead if is_replaced else case.strategy),
            champion=str(case.strategy),
            challenger=str(instead),
            why=standing.why if is_replaced else "",
            champion_outcome=champion.plain(),
            challenger_outcome=challenger.plain(),
        )

        def keep(tx: Tx) -> None:
            rivals.insert_comparison(tx, kept)
            if event is not None:
                journal.add_event(tx, event)

        await self.store.write(keep)

    async def _shadow(self, case: PlanningCase, planner: Planner, standing: _Standing) -> _Outcome:
        """Return what `planner` makes of `case`; one that hangs is not called before it is back."""
        if standing.hanging is not None and not standing.hanging.done():
            return _Outcome(made=None, cpu_s=0.0, fault="still busy with an earlier case")
        standing.hanging = None

        def timed() -> tuple[Plan, float]:
            began = time.thread_time()
            return planner(case), time.thread_time() - began

        running = asyncio.ensure_future(asyncio.to_thread(timed))
        try:
            async with asyncio.timeout(SHADOW_S):
                made, cpu_s = await asyncio.shield(running)
        except TimeoutError:
            standing.hanging = running
            running.add_done_callback(_taken)
            return _Outcome(made=None, cpu_s=0.0, fault=f"no plan within {SHADOW_S:g} s")
        except Exception as error:
            # A planner may be a plug-in: what it raises is its outcome.
            return _Outcome(made=None, cpu_s=0.0, fault=f"failed: {error!r}"[:LONGEST_WHY])
        fault = faults_of(case, made) or _fault(made, cpu_s, self.options.budget_s)
        return _Outcome(made=made, cpu_s=cpu_s, fault=fault[:LONGEST_WHY])

    # --- who is in force -----------------------------------------------------------------------

    def _instead(self, case: PlanningCase) -> Strategy:
        challenger = self.options.challengers.get(case.site_id)
        if challenger is None or challenger is case.strategy:
            return Strategy.LEAST_LAXITY
        return challenger

    def _failed(self, case: PlanningCase, standing: _Standing, fault: str) -> None:
        now = case.now_at
        standing.failed_at.append(now)
        while standing.failed_at and standing.failed_at[0] <= now - self.options.window:
            standing.failed_at.popleft()
        if len(standing.failed_at) < self.options.after_failures:
            return
        standing.replaced_at, standing.good_since = now, None
        standing.failed_at.clear()
        standing.why = f"since {now:%Y-%m-%dT%H:%M:%SZ}: {fault}"[:LONGEST_WHY]
        instead = self._instead(case)
        log.warning("champion replaced", site_id=case.site_id, by=str(instead), why=fault)
        event = Event(
            at=now,
            kind="champion replaced",
            level="warning",
            site_id=case.site_id,
            detail={"champion": str(case.strategy), "by": str(instead), "why": standing.why},
        )

        async def keep() -> None:
            await self.store.write(lambda tx: journal.add_event(tx, event))

        self.background.start(f"champion replaced {case.site_id}", keep)

    def _looked_at(
        self, case: PlanningCase, champion: _Outcome, standing: _Standing
    ) -> Event | None:
        """Take note of how a replaced champion did; return the event of its return."""
        if champion.fault:
            standing.good_since = None
            return None
        standing.good_since = standing.good_since or case.now_at
        if case.now_at - standing.good_since < self.options.good_spell:
            return None
        standing.replaced_at, standing.why = None, ""
        log.info("champion returned", site_id=case.site_id, champion=str(case.strategy))
        return Event(
            at=case.now_at,
            kind="champion returned",
            site_id=case.site_id,
            detail={"champion": str(case.strategy), "good_since": f"{standing.good_since:%H:%MZ}"},
        )


def summary(site_id: str, found: Sequence[Comparison]) -> dict[str, object]:
    """Return comparisons (newest first) as the API shows them: who is in force, and the means."""
    newest = found[0] if found else None
    alike = [
        c
        for c in found
        if newest and (c.champion, c.challenger) == (newest.champion, newest.challenger)
    ]
    return {
        "site_id": site_id,
        "champion": newest.champion if newest else None,
        "challenger": newest.challenger if newest else None,
        "in_force": newest.in_force if newest else None,
        "why": newest.why if newest else "",
        "plans": len(alike),
        "champion_mean": _means([c.champion_outcome for c in alike]),
        "challenger_mean": _means([c.challenger_outcome for c in alike]),
    }


def _means(outcomes: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the mean of each figure over the plans that were made, and how many had a fault."""
    found: dict[str, object] = {"faults": sum(bool(o.get("fault")) for o in outcomes)}
    for name in FIGURES:
        values = [v for o in outcomes if isinstance(v := o.get(name), int | float)]
        found[name] = round(fmean(values), 6) if values else None
    return found


def _fault(made: Plan, cpu_s: float, budget_s: float) -> str:
    if made.status == "fallback":
        return made.notes[-1] if made.notes else "the solver found nothing"
    return f"took {cpu_s:.2f} s of {budget_s:g} s" if cpu_s > budget_s else ""


def _taken(running: asyncio.Future[tuple[Plan, float]]) -> None:
    """Take the outcome of a planner that nobody waits for any more."""
    if not running.cancelled() and running.exception() is not None:
        log.error("planner failed late", why=repr(running.exception()))
