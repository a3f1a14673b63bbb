"""`tasco replay-day`: recorded days lived through again under other rules, side by side.

Each combination of strategy, limit and number of chargers is a run of
`csms.planning.replayed_day` over the stays that `csms.replay_past` finds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from itertools import product
from math import isfinite
from statistics import quantiles
from typing import Any

from csms.core.errors import InvalidInput
from csms.core.model import Strategy
from csms.core.plan import Plan, PlanningCase
from csms.core.units import slot_start
from csms.planning.planner import plan
from csms.planning.replayed_day import Reserve, replay_days
from csms.planning.replayed_forecast import PastForecast
from csms.planning.visits import ReplayedDay, World
from csms.replay_past import QUANTILES, Asked, Past, past_of
from csms.settings import Settings
from csms.store.database import Store

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One combination and what it came to; `cpu_s` is each plan's, `notes` what was left out."""

    chargers: int | None
    day: ReplayedDay
    cpu_s: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the run as JSON-ready figures."""
        day = self.day
        return {
            "strategy": str(day.strategy),
            "limit_kw": day.limit_kw,
            "chargers": self.chargers,
            "sessions": len(day.visits),
            "turned_away": day.turned_away,
            "needs_met": day.met,
            "needs_possible": day.possible,
            "need_kwh": round(day.need_kwh, 3),
            "energy_kwh": round(day.energy_kwh, 3),
            "delivered_share": round(day.delivered_share, 6),
            "cost_eur": round(day.cost_eur, 4),
            "eur_per_kwh": round(day.cost_eur / day.energy_kwh, 5) if day.energy_kwh else None,
            "co2_kg": round(day.co2_kg, 3),
            "peak_kw": round(day.peak_kw, 3),
            "demand_charge_eur": round(day.demand_charge_eur, 2),
            "plans": day.plans,
            "fallback_plans": day.fallbacks,
            "profiles_sent": day.profiles_sent,
            "pauses": day.pauses,
            "limit_violations": day.violations,
            "plan_cpu_p50_ms": _percentile_ms(self.cpu_s, 50),
            "plan_cpu_p99_ms": _percentile_ms(self.cpu_s, 99),
            "notes": list(self.notes),
        }


async def replay(store: Store | None, settings: Settings, asked: Asked, *, tell: Tell) -> list[Run]:
    """Return a run for each combination of strategy, limit and number of chargers.

    Raises InvalidInput, ConfigError or NotFound naming what cannot be used. `tell` hears how far
    it is.
    """
    past = await past_of(store, settings, asked)
    reserve = _reserve(past, asked, tell)
    runs = []
    for limit_kw, strategy, chargers in product(
        asked.limits_kw or (past.world.limit_kw,), asked.strategies, asked.chargers or (None,)
    ):
        here = replace(past.world, limit_kw=limit_kw, strategy=strategy, chargers=chargers)
        runs.append(_run(past, here, reserve, tell))
    return runs


def forecast_of(past: Past, *, seed: int) -> PastForecast:
    """Return the forecast that would have been trained just before the first visit."""
    first = min(v.arrives_at for v in past.visits)
    return PastForecast(
        past.history,
        past.visits,
        trained_at=slot_start(first, slot_s=3600),
        time_zone=past.world.time_zone,
        seed=seed,
    )


def _reserve(past: Past, asked: Asked, tell: Tell) -> Reserve:
    if asked.reserve == "none":
        return lambda _: {}
    tell(f"training the forecast on {len(past.history)} stays before")
    forecast = forecast_of(past, seed=asked.seed)
    quantile = QUANTILES[asked.reserve]
    return cache(lambda now: forecast.reserve(now, quantile=quantile))


def _run(past: Past, world: World, reserve: Reserve, tell: Tell) -> Run:
    cpu_s: list[float] = []
    name = f"{world.strategy} at {world.limit_kw:g} kW"

    def timed(case: PlanningCase) -> Plan:
        began = time.thread_time()
        made = plan(case)
        cpu_s.append(time.thread_time() - began)
        return made

    def progress(at: datetime) -> None:
        tell(f"{name}: {at:%Y-%m-%d}, {len(cpu_s)} plans")

    day = replay_days(past.visits, world, planner=timed, reserve=reserve, progress=progress)
    return Run(chargers=world.chargers, day=day, cpu_s=tuple(cpu_s), notes=past.notes)


def _percentile_ms(cpu_s: Sequence[float], percent: int) -> float | None:
    if not cpu_s:
        return None
    if len(cpu_s) == 1:
        return round(cpu_s[0] * 1000, 3)
    return round(quantiles(cpu_s, n=100, method="inclusive")[percent - 1] * 1000, 3)


# --- what was asked for --------------------------------------------------------------------------


def strategies_of(text: str) -> tuple[Strategy, ...]:
    """Return the strategies of a comma-separated list; "all" is every one."""
    if text.strip() == "all":
        return tuple(Strategy)
    try:
        return tuple(Strategy(name.strip()) for name in text.split(","))
    except ValueError:
        permitted = ", ".join(Strategy)
        raise InvalidInput(f"--strategy is {text!r}; permitted: {permitted}, or all") from None


def numbers_of(text: str, *, option: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list, none for an empty one."""
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise InvalidInput(f"{option} is {text!r}; it must be numbers such as 40,60") from None


def whole_numbers_of(text: str, *, option: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma-separated list, none for an empty one."""
    found = numbers_of(text, option=option)
    if any(n != int(n) for n in found if isfinite(n)) or not all(map(isfinite, found)):
        raise InvalidInput(f"{option} is {text!r}; it must be whole numbers")
    return tuple(int(n) for n in found)


def day_of(text: str, *, option: str) -> date:
    """Return a date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{option} is {text!r}; it must be a date such as 2024-09-23") from None


# --- shown ---------------------------------------------------------------------------------------

_COLUMNS = (
    ("limit kW", 8, "limit_kw", "{:g}"),
    ("strategy", 17, "strategy", "{}"),
    ("met", 9, "needs_met", "{}"),
    ("kWh %", 6, "delivered_share", "{:.1f}"),
    ("EUR", 8, "cost_eur", "{:.2f}"),
    ("kg CO2", 7, "co2_kg", "{:.1f}"),
    ("peak kW", 7, "peak_kw", "{:.1f}"),
    ("plans", 5, "plans", "{}"),
    ("sent", 5, "profiles_sent", "{}"),
    ("pauses", 6, "pauses", "{}"),
    ("over", 4, "limit_violations", "{}"),
    ("p50 ms", 6, "plan_cpu_p50_ms", "{:.1f}"),
    ("p99 ms", 6, "plan_cpu_p99_ms", "{:.1f}"),
)


def described(runs: Sequence[Run]) -> str:
    """Return runs as a table for people."""
    lines = ["  ".join(f"{title:>{width}}" for title, width, _, _ in _COLUMNS)]
    for run in runs:
        values = run.plain()
        values["delivered_share"] *= 100
        values["needs_met"] = f"{values['needs_met']}/{values['sessions']}"
        cells = [
            "-" if values[key] is None else form.format(values[key]) for _, _, key, form in _COLUMNS
        ]
        lines.append(
            "  ".join(f"{c:>{w}}" for c, (_, w, _, _) in zip(cells, _COLUMNS, strict=True))
        )
    day = runs[0].day
    lines.append(
        f"{day.need_kwh:.0f} kWh needed by {len(day.visits)} cars; full power from plug-in on, "
        f"with no limit, meets {day.possible} of them"
    )
    return "\n".join([*lines, *runs[0].notes])
